//! A site: how it stands, what the Authorities say, and what would become of an order. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{AuthorityLine, Explained, NodesLine, OrderLine, Told};
use crate::api::authority::{AuthoritySpec, AuthorityState, Claim, ClaimState, next_ballot};
use crate::api::failover::{MoveAction, Phase};
use crate::api::failovergroup::{Check, CheckState};
use crate::api::shown::{PeerShown, Shown, StoreShown, WitnessShown};
use crate::api::{Failover, FailoverGroupSpec};
use crate::authority::claims::decided;
use crate::authority::decide::decide;
use crate::authority::known::{Decided, Knowledge, Known, StoreShows};
use crate::failover::decide::decide as next_of;
use crate::failover::index::is_over;
use crate::failover::journal::Journal;
use crate::failover::table::brings_back;
use crate::failover::view::{Held, Next, View};

/// What is known, as the reconciler of the group knew it when it wrote its status.
fn knowledge(told: &Told<'_>, shown: &Shown) -> Knowledge {
    let status = told.group.status.as_ref();
    let checks = status.map(|status| status.checks.as_slice()).unwrap_or_default();
    let unread = |error: &Option<String>| error.clone().unwrap_or_else(|| "it was not read".to_owned());
    let peer = |peer: &PeerShown| {
        let known = match &peer.error {
            Some(_) => Known::NotYet(unread(&peer.error)),
            None => Known::Read(peer.authority.as_ref().map(AuthoritySpec::from)),
        };
        (peer.site.clone(), known)
    };
    let witness = |witness: &WitnessShown| match (&witness.error, witness.epoch) {
        (None, Some(epoch)) if epoch > 0 => Known::Read(vec![Decided {
            after: witness.after.unwrap_or(0),
            epoch,
            holders: witness.holders.clone(),
        }]),
        (None, Some(_)) => Known::Read(Vec::new()),
        _ => Known::NotYet(unread(&witness.error)),
    };
    let own_stores = shown.stores.iter().filter(|store| store.site == shown.site);
    Knowledge {
        own: told.authority.map(|authority| authority.spec.clone()),
        peers: shown.peers.iter().map(peer).collect(),
        witness: shown.witness.as_ref().map(witness),
        stores: own_stores
            .map(|store| {
                (
                    store.name.clone(),
                    shows(store).map_or_else(|| Known::NotYet(unread(&store.error)), Known::Read),
                )
            })
            .collect(),
        record: None,
        remembered: status
            .and_then(|status| status.authority.as_ref())
            .filter(|copy| copy.epoch > 0)
            .map(|copy| (copy.epoch, copy.holders.clone())),
        abandoned: None,
        ordered: false,
        differs: checks
            .iter()
            .find(|check| check.state < CheckState::Warning && check.name.starts_with("group at "))
            .map(|check| check.message.clone()),
    }
}

pub(super) fn shows(store: &StoreShown) -> Option<StoreShows> {
    Some(StoreShows {
        primary: store.primary?,
        open: store.open?,
        opened_at: store.opened_at,
        ballot: store.ballot,
        frozen: store.frozen == Some(true),
        closing: false,
    })
}

/// One site's view of a group; `None` while its operator has not looked at it.
pub fn explain(told: &Told<'_>) -> Option<Explained> {
    let shown = told.group.status.as_ref()?.shown.as_ref()?;
    let (group, spec) = (told.group.name_any(), &told.group.spec);
    let known = knowledge(told, shown);
    let mut decision = decide(&shown.site, spec, &known, told.now);
    if decision.first_claim {
        // It is not made yet, and is decided once more on what is read then.
        (decision.write, decision.state) = (None, AuthorityState::Unclaimed);
        decision.message = "nobody ever had authority; this site takes it in a moment".to_owned();
    }
    let own = decision.write.clone().or_else(|| known.own.clone()).unwrap_or_default();
    let looked = Looked { told, shown, spec, group: &group, known: &known, own: &own, state: decision.state };
    Some(Explained {
        site: shown.site.clone(),
        state: decision.state.as_str(),
        why: looked.why(&decision.message),
        next: looked.next(),
        authorities: looked.authorities(),
        stores: shown.stores.iter().map(|store| looked.store(store)).collect(),
        witness: shown.witness.as_ref().map(witness_words),
        nodes: looked.nodes(),
        orders: looked.orders(),
        group,
    })
}

fn witness_words(witness: &WitnessShown) -> String {
    match (&witness.error, witness.epoch) {
        (Some(error), _) => format!("cannot be read: {error}"),
        (None, None) => "has not been read yet".to_owned(),
        (None, Some(0)) => "has decided nothing".to_owned(),
        (None, Some(epoch)) => format!(
            "has decided that epoch {epoch} follows {}: {}",
            witness.after.unwrap_or(0),
            witness.holders.join(", ")
        ),
    }
}

/// All that one explanation is made of.
pub(super) struct Looked<'a> {
    told: &'a Told<'a>,
    pub(super) shown: &'a Shown,
    pub(super) spec: &'a FailoverGroupSpec,
    group: &'a str,
    pub(super) known: &'a Knowledge,
    pub(super) own: &'a AuthoritySpec,
    pub(super) state: AuthorityState,
}

impl Looked<'_> {
    pub(super) fn site(&self) -> &str {
        &self.shown.site
    }

    pub(super) fn place(&self) -> usize {
        self.spec.place(self.site()).unwrap_or_default()
    }

    /// The Failover of this cluster that moves the group. A plan and a rehearsal hold no order up.
    pub(super) fn at_work(&self) -> Option<&Failover> {
        let moves =
            |one: &&Failover| one.spec.group == self.group && one.spec.action.moves() && !is_over(one);
        self.told.failovers.iter().find(moves)
    }

    /// The nodes that an order of this cluster has scaled to zero, unless a later one was done: the other site follows then.
    fn nodes(&self) -> Option<NodesLine> {
        let made = |one: &Failover| one.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let of_group = || self.told.failovers.iter().filter(|one| one.spec.group == self.group);
        let stopped = |one: &Failover| {
            let nodes = one.status.as_ref()?.nodes.clone()?;
            nodes.ordered_at.is_some().then_some(nodes)
        };
        let last = of_group().filter(|one| stopped(one).is_some()).max_by_key(|one| made(one))?;
        let done = |one: &Failover| one.status.as_ref().and_then(|status| status.phase) == Some(Phase::Done);
        if of_group().any(|one| one.spec.action.moves() && done(one) && made(one) > made(last)) {
            return None;
        }
        let nodes = stopped(last)?;
        let message = nodes.message.as_deref().unwrap_or("what came of it is not known yet");
        Some(NodesLine {
            why: format!("{} has scaled the nodes of {} to zero: {message}", last.name_any(), nodes.site),
            back: brings_back(&nodes).map(str::to_owned).collect(),
        })
    }

    fn why(&self, message: &str) -> String {
        let closed = self.own.promoted != Some(self.own.epoch);
        match self.state {
            AuthorityState::Held if closed => format!("{message}, and its stores are not open yet"),
            _ => message.to_owned(),
        }
    }

    pub(super) fn start(&self, unplanned: bool) -> String {
        let how = if unplanned { " --unplanned" } else { "" };
        format!("kubectl banyan failover start {}{how} --reason \"…\"", self.group)
    }

    pub(super) fn describes(&self, site: &str) -> String {
        let namespace = self.told.group.namespace().unwrap_or_default();
        format!("kubectl describe cloudcluster {site} -n {namespace}")
    }

    pub(super) fn next(&self) -> Option<String> {
        if let Some(failover) = self.at_work() {
            return Some(format!("kubectl banyan failover status {}", failover.name_any()));
        }
        match self.state {
            AuthorityState::Unclaimed
                if self.spec.initial_site.is_none() && !self.spec.is_active_everywhere() =>
            {
                Some("set spec.initialSite of the FailoverGroup to the site that serves now".to_owned())
            }
            AuthorityState::Unclaimed => Some(format!("kubectl banyan failover ready {}", self.group)),
            AuthorityState::Lost => Some(match self.shown.peers.iter().find(|peer| peer.error.is_some()) {
                Some(peer) => self.describes(&peer.site),
                None => format!("kubectl banyan failover ready {}", self.group),
            }),
            AuthorityState::Standby => Some(self.start(false)),
            AuthorityState::Held if self.own.promoted != Some(self.own.epoch) => Some(self.start(true)),
            AuthorityState::Held => None,
        }
    }

    /// This site's Authority, had it taken the group over by a claim of now.
    pub(super) fn taken(&self) -> AuthoritySpec {
        let next = next_ballot(self.known.greatest_ballot(), self.place());
        decided(self.own, next, vec![self.site().to_owned()], Time(self.told.now))
    }

    fn checks(&self) -> &[Check] {
        self.told.group.status.as_ref().map(|status| status.checks.as_slice()).unwrap_or_default()
    }

    /// Sites that were not read, or do not answer now.
    fn silent(&self) -> Vec<String> {
        let away = |site: &str| {
            let by = format!("peer {site} by ");
            self.checks().iter().any(|check| check.state == CheckState::Failed && check.name.starts_with(&by))
        };
        let silent =
            |(site, known): &&(String, Known<Option<AuthoritySpec>>)| known.read().is_none() || away(site);
        self.known.peers.iter().filter(silent).map(|(site, _)| site.clone()).collect()
    }

    fn claim_words(&self, claim: &Claim, epoch: i64) -> String {
        let state = match claim.state {
            ClaimState::Open if claim.ballot <= epoch => "over",
            ClaimState::Open => "under way",
            ClaimState::Committing if claim.ballot <= epoch => "over",
            ClaimState::Committing => "being decided at the witness",
            ClaimState::Withdrawn => "given up",
        };
        let fence = if claim.fence == Some(true) && state == "under way" {
            ", closes the holder's stores"
        } else {
            ""
        };
        format!("{} of {}, after {}: {state}{fence}", claim.ballot, claim.site, claim.follows)
    }

    fn authorities(&self) -> Vec<AuthorityLine> {
        let line = |site: &str, of: Option<&AuthoritySpec>, error: Option<String>| AuthorityLine {
            site: site.to_owned(),
            epoch: of.map(|of| of.epoch),
            follows: of.map(|of| of.follows),
            holders: of.map(|of| of.holders.clone()).unwrap_or_default(),
            promoted: of.and_then(|of| of.promoted),
            claims: of
                .map(|of| of.claims.iter().map(|claim| self.claim_words(claim, of.epoch)).collect())
                .unwrap_or_default(),
            error,
        };
        let own_error = self.known.own.is_none().then(|| "there is no such object".to_owned());
        let mut all = vec![line(self.site(), self.known.own.as_ref(), own_error)];
        all.extend(self.known.peers.iter().map(|(site, known)| match known {
            Known::Read(Some(of)) => line(site, Some(of), None),
            Known::Read(None) => line(site, None, Some("there is no such object".to_owned())),
            Known::NotYet(why) => line(site, None, Some(why.clone())),
        }));
        all
    }

    /// What would become of an order at this site now.
    fn orders(&self) -> Vec<OrderLine> {
        [MoveAction::Switchover, MoveAction::Failover].map(|action| self.order(action)).into()
    }

    fn order(&self, action: MoveAction) -> OrderLine {
        let line = |would: String, reason: Option<&str>| OrderLine {
            action: action.as_str(),
            would,
            reason: reason.map(str::to_owned),
        };
        if let Some(other) = self.at_work() {
            return line(format!("be refused: {} moves the group", other.name_any()), None);
        }
        let silent = self.silent();
        let preflight: Vec<Held> = self
            .checks()
            .iter()
            .filter(|check| check.state < CheckState::Warning && check.name != "capacity")
            .map(|check| Held {
                message: check.message.clone(),
                remedy: check.remedy.clone().unwrap_or_default(),
            })
            .collect();
        let view = View {
            silent: &silent,
            preflight: &preflight,
            approval: self.spec.approval.as_ref(),
            ..View::clear(self.site(), self.place(), "NAME", self.known)
        };
        match next_of(&view, &Journal { action, ..Journal::default() }) {
            Next::Do(..) => line("begin at once".to_owned(), None),
            Next::Wait(step, wait) => {
                line(format!("wait at {}: {}", step.as_str(), wait.message), Some(wait.reason))
            }
            Next::End(_, words) => line(format!("be refused: {words}"), None),
        }
    }
}
