//! What a decision about a move is made of, beside the journal, and what it answers: one act, or what is waited for. Pure.

use super::journal::{Journal, StoreJournal};
use crate::api::authority::AuthoritySpec;
use crate::api::failover::Phase;
use crate::api::failovergroup::{Approval, ApprovedStep, NodePools};
use crate::api::hook::Hook;
use crate::api::step::Step;
use crate::authority::known::Knowledge;

/// What a person says who knows that nobody writes at the source; how they know is theirs to choose.
pub(super) const ASSERT: &str = "assert-fenced --evidence NodesStopped";

/// Something to carry out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Claim at this site.
    Claim {
        /// The ballot.
        ballot: i64,
        /// The epoch that it follows.
        follows: i64,
        /// Whether the holder is to close its stores at once.
        fence: bool,
        /// Whether the witness alone decides it.
        by_witness: bool,
    },
    /// Put the claim, as it stands here, into the Authority of that site.
    Tell(String),
    /// Have the holder close its stores.
    Press,
    /// Close these stores at the source, over their own wire.
    Fence(Vec<String>),
    /// Ask the cloud whether all nodes of the source are gone: these stores cannot be closed over their own wire, since that
    /// peer has not taken the claim.
    Confirm {
        /// The peer.
        peer: String,
        /// The stores.
        stores: Vec<String>,
    },
    /// Have the cloud scale the nodes of the source to zero.
    Stop,
    /// Ask whether these stores have here all that the source had.
    CatchUp(Vec<String>),
    /// Take in no more, and read how far these stores are.
    Freeze(Vec<String>),
    /// Call that hook.
    Call(String),
    /// Send requests through this site's own gateway.
    Try,
    /// Leave the decision to the witness.
    Mark,
    /// Have the witness decide.
    Decide,
    /// Commit here.
    Commit,
    /// Promote these stores.
    Promote(Vec<String>),
    /// Verify and open these stores.
    Open(Vec<String>),
    /// Say that all stores are open here.
    Serve,
    /// Give the claim up.
    Withdraw,
    /// Open these stores at the source again, and take in what they send.
    Lift(Vec<String>),
    /// Bring this site to full size, for a rehearsal.
    Grow,
    /// Wait until what was written at the source up to now is in these stores here, for a rehearsal.
    Replay(Vec<String>),
    /// Give back the size that a rehearsal has asked for.
    Shrink,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// One word in CamelCase.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
    /// What a person may type; `None` where it goes on by itself.
    pub next: Option<String>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Carry this out, and decide anew.
    Do(Step, Act),
    /// Wait.
    Wait(Step, Wait),
    /// Nothing more is done.
    End(Phase, String),
}

/// What stands in the way of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// One sentence.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// What is said where a peer has not taken the claim, of stores that an order there could promote.
pub(super) fn untold_words(peer: &str, stores: &[String]) -> String {
    let stores = stores.join(", ");
    format!("{peer} has not taken the claim: until it has, an order there could promote {stores} there")
}

/// The command by which a group moves back to the cluster in which it is typed.
pub(super) fn failback(group: &str) -> String {
    format!("kubectl banyan failover failback {group} --reason \"…\"")
}

/// The command that says so to a Failover, as it is typed.
pub(super) fn command(verb: &str, name: &str) -> String {
    format!("kubectl banyan failover {verb} {name}")
}

/// All that a decision is made of, beside the journal.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// This site.
    pub site: &'a str,
    /// Its place in the group.
    pub place: usize,
    /// The name of the order, for commands.
    pub name: &'a str,
    /// What everybody shows; `own` of it is this site's Authority, and `stores` are those with a single writer.
    pub known: &'a Knowledge,
    /// Sites that do not answer now.
    pub silent: &'a [String],
    /// Whether the group asks for something else than when the move began.
    pub changed: bool,
    /// What standing readiness finds.
    pub preflight: &'a [Held],
    /// What this site has not yet, to serve.
    pub capacity: &'a [Held],
    /// Why the data of the group may not be kept at this site; `None` if they may.
    pub forbidden: Option<&'a Held>,
    /// Why it is not this group's turn, where several move.
    pub turn: Option<&'a Held>,
    /// Who has to agree, where the group says so.
    pub approval: Option<&'a Approval>,
    /// What is called on the way.
    pub hooks: &'a [Hook],
    /// What may be asked of the cloud about the nodes of the source; `None` where the group asks for nothing.
    pub node_pools: Option<NodePools>,
    /// Whether the other site follows, or there is nothing to follow.
    pub protected: bool,
}

impl<'a> View<'a> {
    /// One in which nothing stands in the way: all answer, all is ready, nobody is waited for.
    pub fn clear(site: &'a str, place: usize, name: &'a str, known: &'a Knowledge) -> Self {
        Self {
            site,
            place,
            name,
            known,
            silent: &[],
            changed: false,
            preflight: &[],
            capacity: &[],
            forbidden: None,
            turn: None,
            approval: None,
            hooks: &[],
            node_pools: None,
            protected: true,
        }
    }
}

impl View<'_> {
    pub(super) fn own(&self) -> AuthoritySpec {
        self.known.own.clone().unwrap_or_default()
    }

    /// Whether every peer was read since this process began.
    pub(super) fn all_read(&self) -> bool {
        self.known.all_read()
    }

    pub(super) fn wait(&self, reason: &'static str, message: impl Into<String>, verb: Option<&str>) -> Wait {
        Wait { reason, message: message.into(), next: verb.map(|verb| command(verb, self.name)) }
    }

    /// The names of the stores of which that is so.
    pub(super) fn stores(&self, journal: &Journal, is: impl Fn(&str, StoreJournal) -> bool) -> Vec<String> {
        let names = self.known.stores.iter().map(|(name, _)| name);
        names.filter(|name| is(name, journal.store(name))).cloned().collect()
    }

    /// What a person has stopped.
    pub(super) fn paused(&self, journal: &Journal, step: Step) -> Option<Next> {
        let wait = || self.wait("Paused", "a person has paused it", Some("resume"));
        journal.paused.then(|| Next::Wait(step, wait()))
    }

    /// What no longer is what was ordered.
    pub(super) fn changed(&self, step: Step) -> Option<Next> {
        let message = "the FailoverGroup asks for something else than when this was ordered; order it anew";
        self.changed.then(|| Next::Wait(step, self.wait("GroupChanged", message, Some("abort"))))
    }

    /// What stands in the way of a step, unless that is skipped.
    pub(super) fn held(
        &self,
        journal: &Journal,
        step: Step,
        reason: &'static str,
        held: &[Held],
    ) -> Option<Next> {
        let held = held.first().filter(|_| !journal.skipped.contains(&step))?;
        let message = format!("{}; {}", held.message, held.remedy);
        let skip = format!("skip --step {}", step.as_str());
        Some(Next::Wait(step, self.wait(reason, message, Some(&skip))))
    }

    /// What this site has not yet, to serve.
    pub(super) fn too_small(&self, journal: &Journal) -> Option<Next> {
        self.held(journal, Step::Capacity, "NoCapacity", self.capacity)
    }

    /// Who has not agreed yet to what comes next.
    pub(super) fn unapproved(&self, journal: &Journal, before: ApprovedStep) -> Option<Next> {
        let asked = self.approval.filter(|asked| {
            // Nobody is waited for in the seconds without writes.
            let at =
                if journal.is_planned() { ApprovedStep::Fence } else { asked.before.unwrap_or_default() };
            at == before
        })?;
        let missing = asked.people().checked_sub(journal.approvals).filter(|missing| *missing > 0)?;
        let people = if missing == 1 { "one person".to_owned() } else { format!("{missing} people") };
        let message = format!("it needs the approval of {people}, other than who ordered it");
        Some(Next::Wait(Step::Approval, self.wait("NotApproved", message, Some("approve"))))
    }
}
