//! A story of sites and faults: what a simulation is given.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::api::action::{FenceEvidence, SkippedStep, Verb};
use crate::api::failover::MoveAction;
use crate::api::failovergroup::{Approval, FenceSpec};
use crate::api::hook::Hook;
use crate::api::units::duration;

/// The longest story: each tenth of a second is looked at.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The most sites of a story.
const MOST_SITES: usize = 4;

/// A story: a group, and what happens to its sites.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Story {
    /// What it is about, in one sentence.
    #[serde(default)]
    pub about: String,
    /// The group.
    pub group: Group,
    /// When the story ends.
    pub lasts: String,
    /// What happens, in the order of time.
    pub events: Vec<Event>,
}

/// A group, as far as a story needs it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Its sites. The first one has authority when the story begins.
    pub sites: Vec<String>,
    /// Its databases: PostgreSQL, whose servers at the other sites follow that of the first. None, if there are none.
    #[serde(default)]
    pub stores: Vec<String>,
    /// Those of them that a move may go on without (`required: false`).
    #[serde(default)]
    pub optional: Vec<String>,
    /// Whether no commit is acknowledged that the other site does not have (`synchronous: Required`).
    #[serde(default)]
    pub synchronous: bool,
    /// How old the newest of a store may be for a Failover that could not close the source (`maxLag`).
    #[serde(default)]
    pub max_lag: Option<String>,
    /// Whether a witness decides.
    #[serde(default)]
    pub witness: bool,
    /// Who has to agree, as in a FailoverGroup.
    #[serde(default)]
    pub approval: Option<Approval>,
    /// What a move calls on its way, as in a FailoverGroup.
    #[serde(default)]
    pub hooks: Vec<Hook>,
    /// What the clouds are asked about nodes, as in a FailoverGroup.
    #[serde(default)]
    pub fence: Option<FenceSpec>,
    /// Whether every site serves (`active: All`); then it has no stores.
    #[serde(default)]
    pub everywhere: bool,
    /// How long a move may take, as in a FailoverGroup.
    #[serde(default)]
    pub deadline: Option<String>,
}

/// Something that happens.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// When, from the beginning.
    pub at: String,
    /// Somebody orders a move at a site.
    #[serde(default)]
    pub order: Option<Order>,
    /// Somebody says something to the order of a site.
    #[serde(default)]
    pub say: Option<Saying>,
    /// The order of a site is deleted.
    #[serde(default)]
    pub delete: Option<String>,
    /// A cloud is gone: its API server, its operator, its pods, its databases.
    #[serde(default)]
    pub gone: Option<String>,
    /// It is back, as it was; its databases as they were left.
    #[serde(default)]
    pub back: Option<String>,
    /// Whether the API server of a site answers from now on.
    #[serde(default)]
    pub api: Option<BTreeMap<String, Health>>,
    /// Whether the operator of a site runs from now on. One that is started anew knows nothing.
    #[serde(default)]
    pub operator: Option<BTreeMap<String, Health>>,
    /// Whether the databases of a site answer from now on.
    #[serde(default)]
    pub databases: Option<BTreeMap<String, Health>>,
    /// Whether the nodes of a site are stopped from now on: its operator, its pods and its databases; its API server goes on.
    #[serde(default)]
    pub nodes_stopped: Option<BTreeMap<String, bool>>,
    /// Whether the application of a site answers from now on.
    #[serde(default)]
    pub application: Option<BTreeMap<String, Health>>,
    /// Whether a store can be promoted and opened, at any site: `{STORE: Up}` or `Down`.
    #[serde(default)]
    pub promotes: Option<BTreeMap<String, Health>>,
    /// Whether a hook answers that it is done: `{HOOK: Up}`, or `Down`.
    #[serde(default)]
    pub hooks: Option<BTreeMap<String, Health>>,
    /// The network between the sites. Users, and the witness, are on neither side of it.
    #[serde(default)]
    pub network: Option<Health>,
    /// The witness.
    #[serde(default)]
    pub witness: Option<Health>,
    /// Whether databases send what is written to those that follow.
    #[serde(default)]
    pub replication: Option<Health>,
    /// What a site lacks of the size that it needs to serve, in a sentence; an empty text ends it.
    #[serde(default)]
    pub capacity: Option<BTreeMap<String, String>>,
    /// What standing readiness finds at a site, in a sentence; an empty text ends it.
    #[serde(default)]
    pub readiness: Option<BTreeMap<String, String>>,
    /// Why a site may not have the data, in a sentence.
    #[serde(default)]
    pub residency: Option<BTreeMap<String, String>>,
    /// The Authority of a site is deleted.
    #[serde(default)]
    pub authority_deleted: Option<String>,
    /// The Authority of a site is kept in a backup.
    #[serde(default)]
    pub backup: Option<String>,
    /// The API server of a site is restored from that backup.
    #[serde(default)]
    pub restore: Option<String>,
    /// The FailoverGroup is changed, everywhere.
    #[serde(default)]
    pub group_changes: bool,
}

/// Somebody orders a move.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    /// To which site: where it is applied.
    pub to: String,
    /// What. `Switchover` or `Failover`.
    pub action: MoveAction,
    /// Who. Defaults to mia.
    #[serde(default = "mia")]
    pub by: String,
}

fn mia() -> String {
    "mia".to_owned()
}

/// Somebody says something to an order.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Saying {
    /// To the order of which site.
    pub to: String,
    /// What.
    pub verb: Verb,
    /// Who. Defaults to anna.
    #[serde(default = "anna")]
    pub by: String,
    /// The step that is skipped.
    #[serde(default)]
    pub step: Option<SkippedStep>,
    /// The store that is skipped.
    #[serde(default)]
    pub store: Option<String>,
    /// How it is known that the source is fenced.
    #[serde(default)]
    pub evidence: Option<FenceEvidence>,
    /// The position behind which all is thrown away. Defaults to the one that is asked for.
    #[serde(default)]
    pub position: Option<String>,
}

fn anna() -> String {
    "anna".to_owned()
}

/// Whether something answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Health {
    /// It does.
    #[default]
    Up,
    /// It does not.
    Down,
}

impl Health {
    pub(super) fn is_up(self) -> bool {
        self == Self::Up
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What is wrong with a story.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// It is no story.
    #[error("{0}; see docs/failover.md for what a story looks like")]
    Form(#[from] serde_norway::Error),
    /// A value cannot be.
    #[error("{field}: {what}")]
    Value {
        /// Where.
        field: String,
        /// What is wrong, and what to write instead.
        what: String,
    },
}

fn wrong(field: impl Into<String>, what: impl Into<String>) -> StoryError {
    StoryError::Value { field: field.into(), what: what.into() }
}

impl Story {
    /// Reads a story.
    ///
    /// # Errors
    /// If it is none, or something in it cannot be.
    pub fn parse(text: &str) -> Result<Self, StoryError> {
        let mut story: Self = serde_norway::from_str(text)?;
        let group = &story.group;
        let mut sites = group.sites.clone();
        sites.sort_unstable();
        sites.dedup();
        if group.sites.len() != sites.len() || !(2..=MOST_SITES).contains(&sites.len()) {
            return Err(wrong("group.sites", format!("name two to {MOST_SITES} sites, each once")));
        }
        if let Some(unknown) = group.optional.iter().find(|name| !group.stores.contains(name)) {
            return Err(wrong("group.optional", format!("{unknown} is none of group.stores")));
        }
        if group.everywhere && !group.stores.is_empty() {
            return Err(wrong("group.stores", "leave them out: where every site serves there are none"));
        }
        let times = [("group.maxLag", &group.max_lag), ("group.deadline", &group.deadline)];
        for (field, text) in times.into_iter().filter_map(|(field, text)| Some((field, text.as_ref()?))) {
            time(field, text)?;
        }
        if time("lasts", &story.lasts)? > LONGEST {
            return Err(wrong("lasts", "a story may last a day at the most"));
        }
        for (index, event) in story.events.iter().enumerate() {
            let field = |name: &str| format!("events[{index}].{name}");
            time(&field("at"), &event.at)?;
            for (name, site) in event.sites() {
                if !sites.contains(site) {
                    return Err(wrong(
                        field(name),
                        format!("{site} is none of group.sites: {}", story.group.sites.join(", ")),
                    ));
                }
            }
            let stores = event.promotes.iter().flat_map(BTreeMap::keys);
            if let Some(unknown) = stores.into_iter().find(|name| !group.stores.contains(name)) {
                return Err(wrong(field("promotes"), format!("{unknown} is none of group.stores")));
            }
            let hooks = event.hooks.iter().flat_map(BTreeMap::keys);
            if let Some(unknown) =
                hooks.into_iter().find(|name| !group.hooks.iter().any(|hook| hook.name == **name))
            {
                return Err(wrong(field("hooks"), format!("{unknown} is none of group.hooks")));
            }
            if event.order.as_ref().is_some_and(|order| !order.action.moves()) {
                return Err(wrong(field("order.action"), "only a Switchover or a Failover can be simulated"));
            }
            if event.witness.is_some() && !group.witness {
                return Err(wrong(field("witness"), "the group has none: set group.witness: true"));
            }
            let skips = event.say.as_ref().filter(|said| said.verb == Verb::Skip);
            if skips.is_some_and(|said| said.step.is_some() == said.store.is_some()) {
                return Err(wrong(
                    field("say.step"),
                    "skip needs either the step or the store that is skipped",
                ));
            }
        }
        story.events.sort_by_key(|event| duration(&event.at));
        Ok(story)
    }
}

impl Event {
    /// The sites that it names, and where.
    fn sites(&self) -> Vec<(&'static str, &String)> {
        let mut named: Vec<(&'static str, &String)> = Vec::new();
        named.extend(self.order.iter().map(|order| ("order.to", &order.to)));
        named.extend(self.say.iter().map(|said| ("say.to", &said.to)));
        let one = [
            ("delete", &self.delete),
            ("gone", &self.gone),
            ("back", &self.back),
            ("authorityDeleted", &self.authority_deleted),
            ("backup", &self.backup),
            ("restore", &self.restore),
        ];
        named.extend(one.into_iter().filter_map(|(field, site)| Some((field, site.as_ref()?))));
        let healths = [
            ("api", &self.api),
            ("operator", &self.operator),
            ("databases", &self.databases),
            ("application", &self.application),
        ];
        for (field, sites) in healths {
            named.extend(sites.iter().flat_map(BTreeMap::keys).map(|site| (field, site)));
        }
        named.extend(self.nodes_stopped.iter().flat_map(BTreeMap::keys).map(|site| ("nodesStopped", site)));
        let words =
            [("capacity", &self.capacity), ("readiness", &self.readiness), ("residency", &self.residency)];
        for (field, sites) in words {
            named.extend(sites.iter().flat_map(BTreeMap::keys).map(|site| (field, site)));
        }
        named
    }
}

fn time(field: &str, text: &str) -> Result<Duration, StoryError> {
    duration(text).ok_or_else(|| wrong(field, format!("{text:?} is no duration such as 30s or 5m")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Story::parse(text).expect_err("it is no story").to_string()
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        let story = |group: &str, event: &str| format!("group: {group}\nlasts: 1m\nevents: [{event}]\n");
        let good = "{sites: [a, b], stores: [db]}";
        assert!(Story::parse(&story(good, "{at: 1s, gone: a}")).is_ok());
        assert!(error(&story("{sites: [a]}", "")).starts_with("group.sites: name two to 4"));
        assert!(error(&story(good, "{at: soon, gone: a}")).contains("events[0].at: \"soon\""));
        assert!(
            error(&story(good, "{at: 1s, gone: c}")).contains("events[0].gone: c is none of group.sites")
        );
        assert!(error(&story(good, "{at: 1s, api: {c: Down}}")).contains("events[0].api"));
        assert!(
            error(&story(good, "{at: 1s, hooks: {c: Down}}"))
                .contains("events[0].hooks: c is none of group.hooks")
        );
        assert!(error(&story(good, "{at: 1s, order: {to: b, action: Plan}}")).contains("order.action"));
        assert!(error(&story(good, "{at: 1s, witness: Down}")).contains("group.witness: true"));
        assert!(error(&story(good, "{at: 1s, say: {to: b, verb: skip}}")).contains("say.step"));
        assert!(
            error(&story("{sites: [a, b], stores: [db], everywhere: true}", "")).contains("group.stores")
        );
        assert!(error(&story(good, "{at: 1s, gones: a}")).contains("docs/failover.md"));
        assert!(error("group: {sites: [a, b]}\nlasts: 400d\nevents: []").contains("a day"));
    }
}
