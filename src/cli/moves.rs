//! The half of `banyan failover` that moves: orders, shows and steers a Failover. It speaks to the API server of the cluster
//! that takes over alone, with the caller's own rights.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};

use super::failover_error::FailoverError;
use super::groups::{all_of, not_here_already, one_of};
use super::live::Live;
use super::say::{answered, create};
use crate::api::action::{ActionSpec, ActionState, FenceEvidence, SkippedStep, Target, TargetKind, Verb};
use crate::api::authority::AuthorityState;
use crate::api::failover::{MoveAction, Phase};
use crate::api::{Action, Failover, FailoverGroup, FailoverSpec};
use crate::failover::table;
use crate::failover::turn::sorted;
use crate::terminal::output::Output;
use crate::terminal::size::Size;

/// How often it is looked whether something is news.
const LOOK: Duration = Duration::from_millis(500);
/// How long an answer to what was said may take.
const ANSWERS: Duration = Duration::from_secs(30);

/// What is ordered.
#[derive(Clone, Debug, Args)]
pub struct Start {
    /// The FailoverGroup that is to move to this cluster
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub group: Option<String>,
    /// Every FailoverGroup over which the site --from has authority, those first that others come after (spec.after)
    #[arg(long, requires = "from")]
    pub all: bool,
    /// With --all: the site that is left
    #[arg(long, value_name = "SITE", requires = "all")]
    pub from: Option<String>,
    /// The source is gone, or cannot be trusted: fence it as far as it goes, and do not wait for it. Without this both
    /// sites must answer, and nothing is lost
    #[arg(long)]
    pub unplanned: bool,
    #[command(flatten)]
    pub why: Why,
}

/// Why something is ordered, and whether it is followed.
#[derive(Clone, Debug, Args)]
pub struct Why {
    /// Why, in a few words; it goes into the record
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// The number of the ticket or incident
    #[arg(long, value_name = "TICKET")]
    pub ticket: Option<String>,
    /// Watch it until it is over
    #[arg(long)]
    pub wait: bool,
}

/// What is rehearsed.
#[derive(Clone, Debug, Args)]
pub struct Rehearse {
    /// The FailoverGroup
    pub group: String,
    /// Why, in a few words; it goes into the record
    #[arg(long, value_name = "TEXT", default_value = "rehearsal")]
    pub reason: String,
    /// Watch it until it is over
    #[arg(long)]
    pub wait: bool,
}

/// What is given back.
#[derive(Clone, Debug, Args)]
pub struct Back {
    /// The FailoverGroup that moves back to this cluster
    pub group: String,
    #[command(flatten)]
    pub why: Why,
}

/// To which Failover something is said.
#[derive(Clone, Debug, Args)]
pub struct Say {
    /// The Failover; not needed where only one is at work
    pub name: Option<String>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub words: Option<String>,
}

/// What is said, beside to whom.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// With `skip`.
    pub step: Option<SkippedStep>,
    /// The store that is skipped.
    pub store: Option<String>,
    /// With `assert-fenced`.
    pub evidence: Option<FenceEvidence>,
    /// With `accept-data-loss`.
    pub position: Option<String>,
}

/// A namespace in a cluster.
pub struct Moves {
    /// Its API server.
    pub client: Client,
    /// The operator's namespace.
    pub namespace: String,
    /// How it is printed.
    pub output: Output,
}

impl Moves {
    fn failovers(&self) -> Api<Failover> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn failed(&self) -> impl Fn(kube::Error) -> FailoverError {
        FailoverError::api("Failovers", &self.namespace)
    }

    /// Orders a move to this cluster, or one of every group.
    pub async fn start(&self, start: Start) -> Result<(), FailoverError> {
        let Start { group, from, unplanned, why, .. } = start;
        let action = if unplanned { MoveAction::Failover } else { MoveAction::Switchover };
        match (group, from) {
            (Some(group), Some(from)) => Err(FailoverError::Usage(format!(
                "--from is for --all: `start {group}` moves that group to this cluster, from whoever has authority. Leave out \
                 --from {from}"
            ))),
            (None, Some(from)) => {
                self.ordered(self.order_all(self.held_by(&from).await?, action, &why).await?, why.wait).await
            }
            (group, _) => self.one(group.unwrap_or_default(), action, why).await,
        }
    }

    /// Orders a Switchover back to this cluster.
    pub async fn failback(&self, back: Back) -> Result<(), FailoverError> {
        self.one(back.group, MoveAction::Switchover, back.why).await
    }

    /// Orders a rehearsal.
    pub async fn rehearse(&self, rehearse: Rehearse) -> Result<(), FailoverError> {
        let Rehearse { group, reason, wait } = rehearse;
        self.one(group, MoveAction::Rehearsal, Why { reason, ticket: None, wait }).await
    }

    /// Orders it of one group, and says so or follows it.
    async fn one(&self, group: String, action: MoveAction, why: Why) -> Result<(), FailoverError> {
        let found = one_of(&self.client, &self.namespace, &group).await?;
        if action.moves() {
            not_here_already(&found)?;
        }
        let made = self.order(group, action, &why).await?;
        if why.wait {
            return self.watch(Some(&made.name_any())).await;
        }
        match self.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&made)?),
            Output::Table => print!("{}", said(&made)),
        }
        Ok(())
    }

    async fn order_all(
        &self,
        groups: Vec<String>,
        action: MoveAction,
        why: &Why,
    ) -> Result<Vec<Failover>, FailoverError> {
        let mut made = Vec::new();
        for group in groups {
            match self.order(group, action, why).await {
                Ok(one) => made.push(one),
                Err(error) => {
                    let names: Vec<String> = made.iter().map(ResourceExt::name_any).collect();
                    if !names.is_empty() {
                        eprintln!("ordered before that failed, and on their way: {}", names.join(", "));
                    }
                    return Err(error);
                }
            }
        }
        Ok(made)
    }

    /// The groups over which a site has authority, in the order in which they are to be ordered.
    async fn held_by(&self, from: &str) -> Result<Vec<String>, FailoverError> {
        let all = all_of(&self.client, &self.namespace).await?;
        let of = |group: &&FailoverGroup| {
            let authority = group.status.as_ref().and_then(|status| status.authority.as_ref());
            authority.is_some_and(|authority| {
                authority.state == AuthorityState::Standby.as_str()
                    && authority.holders.iter().any(|holder| holder == from)
            })
        };
        let groups: BTreeSet<String> = all.iter().filter(of).map(ResourceExt::name_any).collect();
        if groups.is_empty() {
            let known: BTreeSet<&str> =
                all.iter().flat_map(|group| &group.spec.sites).map(String::as_str).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(FailoverError::Usage(format!(
                "{from} has authority over no FailoverGroup that could move to this cluster (sites: {known}); see `kubectl \
                 banyan failover ready`"
            )));
        }
        let after = |name: &str| {
            let group = all.iter().find(|group| group.name_any() == name);
            group.and_then(|group| group.spec.after.clone()).unwrap_or_default()
        };
        Ok(sorted(&groups, after))
    }

    async fn order(&self, group: String, action: MoveAction, why: &Why) -> Result<Failover, FailoverError> {
        let metadata = ObjectMeta {
            generate_name: Some(format!("{group}-{}-", action.as_str().to_lowercase())),
            namespace: Some(self.namespace.clone()),
            ..ObjectMeta::default()
        };
        let spec = FailoverSpec { group, action, reason: why.reason.clone(), ticket: why.ticket.clone() };
        let order = Failover { metadata, spec, status: None };
        self.failovers().create(&PostParams::default(), &order).await.map_err(self.failed())
    }

    /// Says what was ordered, or follows all of it.
    async fn ordered(&self, made: Vec<Failover>, wait: bool) -> Result<(), FailoverError> {
        if wait {
            let names: Vec<String> = made.iter().map(ResourceExt::name_any).collect();
            return self.watch_all(&names).await;
        }
        match self.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&made)?),
            Output::Table => print!("{}", made.iter().map(said).collect::<String>()),
        }
        Ok(())
    }

    /// A line for each thing that happens to any of them, until all are over.
    async fn watch_all(&self, names: &[String]) -> Result<(), FailoverError> {
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        let mut bad = Vec::new();
        let mut left: BTreeSet<&String> = names.iter().collect();
        while !left.is_empty() {
            // The operator's own cluster may be busy with just this: it is asked again.
            let found = self.failovers().list(&ListParams::default()).await.map(|list| list.items);
            for name in found.is_ok().then(|| left.clone()).into_iter().flatten() {
                let Some(failover) = found.iter().flatten().find(|one| one.name_any() == *name) else {
                    left.remove(name);
                    bad.push(format!("{name} (deleted)"));
                    continue;
                };
                if let Some(said) = news(failover, last.entry(name.clone()).or_default()) {
                    match self.output {
                        Output::Table => println!("{}: {said}", failover.spec.group),
                        Output::Json => println!("{}", serde_json::to_string(failover)?),
                    }
                }
                let phase = failover.status.as_ref().and_then(|status| status.phase);
                if let Some(phase) = phase.filter(|phase| phase.is_over()) {
                    left.remove(name);
                    bad.extend((phase != Phase::Done).then(|| format!("{name} ({})", phase.as_str())));
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        match bad.is_empty() {
            true => Ok(()),
            false => Err(FailoverError::NotAllMoved(bad.join(", "))),
        }
    }

    /// All Failovers, or one.
    pub async fn status(&self, name: Option<&str>) -> Result<(), FailoverError> {
        let mut found = match name {
            Some(_) => vec![self.find(name).await?],
            None => self.failovers().list(&ListParams::default()).await.map_err(self.failed())?.items,
        };
        found.iter_mut().for_each(|one| one.metadata.managed_fields = None);
        match (self.output, &*found, name) {
            (Output::Json, [only], Some(_)) => println!("{}", serde_json::to_string_pretty(only)?),
            (Output::Json, all, _) => println!("{}", serde_json::to_string_pretty(all)?),
            (Output::Table, [only], Some(_)) => print!("{}", table::one(only)),
            (Output::Table, [], _) => println!("There is no Failover in namespace {}.", self.namespace),
            (Output::Table, all, _) => print!("{}", table::list(all)),
        }
        Ok(())
    }

    /// The move as it goes, until it is over: drawn anew on a terminal, else a line for each thing that happens.
    pub async fn watch(&self, name: Option<&str>) -> Result<(), FailoverError> {
        let name = self.find(name).await?.name_any();
        let mut last = String::new();
        let mut live = Live::new(self.client.clone(), &self.namespace);
        loop {
            let found = self.failovers().get_opt(&name).await;
            // The operator's own cluster may be busy with just this: it is asked again.
            if let Ok(found) = found {
                let Some(failover) = found else { return Err(self.absent(&name)) };
                let is_over = crate::failover::index::is_over(&failover);
                match (self.output, Size::of_stdout(), news(&failover, &mut last)) {
                    (Output::Table, Some(_), _) if is_over => {
                        live.wipe();
                        print!("{}", table::one(&failover));
                    }
                    (Output::Table, Some(size), _) => live.draw(&failover, size).await,
                    (Output::Table, None, Some(said)) => println!("{said}"),
                    (Output::Json, _, Some(_)) => println!("{}", serde_json::to_string(&failover.status)?),
                    (_, _, None) => {}
                }
                match failover.status.as_ref().and_then(|status| status.phase) {
                    Some(Phase::Done) => return Ok(()),
                    Some(phase) if phase.is_over() => {
                        return Err(FailoverError::NotMoved { name, phase: phase.as_str() });
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn absent(&self, name: &str) -> FailoverError {
        FailoverError::absent("Failover", name, &self.namespace)
    }

    /// The Failover of that name; else the only one that is at work, or the last one.
    async fn find(&self, name: Option<&str>) -> Result<Failover, FailoverError> {
        if let Some(name) = name {
            let found = self.failovers().get_opt(name).await.map_err(self.failed())?;
            return found.ok_or_else(|| self.absent(name));
        }
        let all = self.failovers().list(&ListParams::default()).await.map_err(self.failed())?.items;
        let (mut at_work, mut over): (Vec<Failover>, Vec<Failover>) =
            all.into_iter().partition(|one| !crate::failover::index::is_over(one));
        over.sort_by_key(|one| one.metadata.creation_timestamp.as_ref().map(|time| time.0));
        match (at_work.pop(), at_work.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                at_work.push(last);
                let names: Vec<String> = at_work.iter().map(ResourceExt::name_any).collect();
                Err(FailoverError::Usage(format!("name the Failover that is meant: {}", names.join(", "))))
            }
            (None, _) => over.pop().ok_or_else(|| {
                FailoverError::Usage(format!("there is no Failover in namespace {}", self.namespace))
            }),
        }
    }

    /// Says something to a Failover, and waits for the answer.
    pub async fn say(&self, verb: Verb, say: Say, said: Said) -> Result<(), FailoverError> {
        let failover = self.find(say.name.as_deref()).await?;
        let name = failover.name_any();
        let unsaid = match verb {
            Verb::AssertFenced => Some("said on the command line"),
            Verb::AcceptDataLoss => Some("accepted on the command line"),
            _ => None,
        };
        let words = say.words.or(unsaid.map(str::to_owned));
        let spec = ActionSpec {
            target: Target { kind: TargetKind::Failover, name: name.clone(), uid: failover.uid() },
            release: None,
            verb,
            gate: None,
            step: said.step,
            store: said.store,
            evidence: said.evidence,
            position: said.position,
            words,
        };
        let actions: Api<Action> = Api::namespaced(self.client.clone(), &self.namespace);
        let made = create(&actions, spec).await.map_err(self.failed())?.name_any();
        let Ok(Some(answered)) = answered(&actions, &made, ANSWERS).await else {
            return Err(FailoverError::Unanswered { action: made, seconds: ANSWERS.as_secs() });
        };
        let status = answered.status.clone().unwrap_or_default();
        let words = status.message.unwrap_or_default();
        if status.state == Some(ActionState::Refused) {
            return Err(FailoverError::Refused { verb: verb.as_str(), name, why: words });
        }
        match self.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&answered)?),
            Output::Table => println!("{}: {words}", verb.as_str()),
        }
        Ok(())
    }
}

/// What was ordered, and how to watch it.
fn said(made: &Failover) -> String {
    let (name, action, group) = (made.name_any(), made.spec.action.as_str(), &made.spec.group);
    format!(
        "ordered {action} of {group} to this cluster as Failover {name}; watch it with `kubectl banyan failover watch {name}`\n"
    )
}

/// The line that a Failover gives now, if it says something else than the one before, which is remembered without its time.
fn news(failover: &Failover, last: &mut String) -> Option<String> {
    let said = table::line(failover, Timestamp::now());
    let news = said.split_once(" s  ").map_or(&*said, |(_, news)| news);
    if *last == news {
        return None;
    }
    news.clone_into(last);
    Some(said)
}
