//! What a Cluster says of itself, and what must be set before it can be failed over. Pure.

use kube::api::DynamicObject;
use kube::core::GroupVersionKind;
use serde_json::Value;

use super::super::object::{ballot, number};
use super::super::owners::{Written, would_undo};
use super::super::{Ballot, StoreError};
use super::token::Token;
use crate::api::Problem;

/// CloudNativePG's annotation: instances whose PostgreSQL is shut down and kept so.
pub const FENCED: &str = "cnpg.io/fencedInstances";
/// Its value for all of them.
pub const ALL: &str = r#"["*"]"#;
/// Our annotation: the token of the demotion that the ballot ordered. CloudNativePG forgets its own when the Cluster is no
/// replica any more, which is what git would make of it.
pub const TOKEN: &str = "banyan.dev/demotion-token";
/// Our annotation, while a claim keeps the Cluster closed: on which timeline it was closed. A token of an earlier timeline
/// is one of an earlier demotion.
pub const CLOSED: &str = "banyan.dev/closed-on-timeline";
/// Our annotation: the epoch for which the Cluster was opened last.
pub const OPENED: &str = "banyan.dev/opened-at";
/// Our annotation: the timeline from which a promotion was ordered. A greater one shows that it is done.
pub const PROMOTED_FROM: &str = "banyan.dev/promoted-from-timeline";

/// Fields that a failover writes, and git must leave alone.
const WRITTEN: [Written<'_>; 3] = [
    Written {
        path: &["spec", "replica", "primary"],
        shown: "spec.replica.primary",
        jq: ".spec.replica.primary",
    },
    Written {
        path: &["spec", "replica", "promotionToken"],
        shown: "spec.replica.promotionToken",
        jq: ".spec.replica.promotionToken",
    },
    Written {
        path: &["metadata", "annotations", FENCED],
        shown: "annotation cnpg.io/fencedInstances",
        jq: r#".metadata.annotations."cnpg.io/fencedInstances""#,
    },
];

/// The kind.
pub fn kind() -> GroupVersionKind {
    GroupVersionKind::gvk("postgresql.cnpg.io", "v1", "Cluster")
}

/// Its plural.
pub const PLURAL: &str = "clusters";

/// What a Cluster says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its name among the Clusters that are replicated.
    pub own: String,
    /// The other one's, from which it replicates when it is no primary.
    pub peer: Option<String>,
    /// Which of them is to be the primary.
    pub primary: Option<String>,
    /// Which cluster of servers it is; `None` until it has said so, and while nobody there answers, unless a token tells.
    pub system: Option<u64>,
    /// The timeline of the last primary here. CloudNativePG does not change it while the Cluster follows another one, and a
    /// Cluster that was never a primary has none.
    pub timeline: Option<u32>,
    /// The timeline that its instances tell, which is that of their last checkpoint: a standby that follows is on this one,
    /// or on a later one. `None` while nobody answers.
    pub told: Option<u32>,
    /// The instance that is primary here, or receives for the others.
    pub current_primary: Option<String>,
    /// The token that a promotion was asked for with.
    pub promotion_token: Option<String>,
    /// The token that the last promotion has checked.
    pub last_promotion_token: Option<String>,
    /// The token that it left when it was demoted.
    pub demotion_token: Option<String>,
    /// The token that we have kept of it.
    pub kept_token: Option<String>,
    /// Whether it is on its way from a primary to a replica. When that ends, CloudNativePG takes the fence away.
    pub switching: bool,
    /// Whether all of its instances are shut down and kept so.
    pub fenced: bool,
    /// How many of its instances are ready.
    pub ready: i64,
    /// The image that it runs.
    pub image: String,
    /// Whether the log is archived, and where.
    pub archive: Option<String>,
    /// The claim that wrote last.
    pub ballot: Option<Ballot>,
    /// While a claim keeps it closed: on which timeline it was closed.
    pub closed: Option<i64>,
    /// The epoch for which it was opened last; zero if it never was.
    pub opened_at: Ballot,
    /// The timeline from which a promotion was ordered.
    pub promoted_from: Option<i64>,
    /// What must be set before it can be failed over.
    pub problems: Vec<Problem>,
}

impl State {
    /// Reads the object. `source` is the path of the store's field, for problems.
    ///
    /// # Errors
    /// If an annotation of ours was overwritten with something else.
    pub fn of(object: &DynamicObject, source: &str) -> Result<Self, StoreError> {
        let (spec, status) = (&object.data["spec"], &object.data["status"]);
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let annotation = |name: &str| {
            let all = object.metadata.annotations.as_ref();
            all.and_then(|all| all.get(name)).filter(|text| !text.is_empty()).cloned()
        };
        let replica = &spec["replica"];
        let name = object.metadata.name.clone().unwrap_or_default();
        let instances = status["instancesReportedState"].as_object().into_iter().flat_map(|all| all.values());
        let fenced = annotation(FENCED).and_then(|text| serde_json::from_str::<Vec<String>>(&text).ok());
        let mut state = Self {
            own: text(&replica["self"]).unwrap_or(name),
            peer: text(&replica["source"]),
            primary: text(&replica["primary"]),
            system: status["systemID"].as_str().and_then(|id| id.parse().ok()),
            timeline: timeline(&status["timelineID"]),
            told: instances.filter_map(|instance| timeline(&instance["timeLineID"])).max(),
            current_primary: text(&status["currentPrimary"]),
            promotion_token: text(&replica["promotionToken"]),
            last_promotion_token: text(&status["lastPromotionToken"]),
            demotion_token: text(&status["demotionToken"]),
            kept_token: annotation(TOKEN),
            switching: status["switchReplicaClusterStatus"]["inProgress"] == Value::Bool(true),
            fenced: fenced.is_some_and(|fenced| fenced.iter().any(|instance| instance == "*")),
            ready: status["readyInstances"].as_i64().unwrap_or_default(),
            image: text(&status["image"]).or_else(|| text(&spec["imageName"])).unwrap_or_default(),
            archive: archive(spec),
            ballot: ballot(object)?,
            closed: number(object, CLOSED)?,
            opened_at: number(object, OPENED)?.unwrap_or_default(),
            promoted_from: number(object, PROMOTED_FROM)?,
            problems: Vec::new(),
        };
        state.system = state.system.or_else(|| state.token().ok().flatten().map(|token| token.system));
        state.problems = state.problems(object, source);
        Ok(state)
    }

    /// Whether it is to follow another one.
    pub fn is_replica(&self) -> bool {
        self.primary.as_ref().is_some_and(|primary| *primary != self.own)
    }

    /// Whether a promotion is asked for that has not been carried out.
    pub fn waits_for_promotion(&self) -> bool {
        let token = self.promotion_token.is_some() && self.promotion_token != self.last_promotion_token;
        !self.is_replica() && (token || self.promoted_from.is_some_and(|from| !self.is_past(from)))
    }

    fn is_past(&self, timeline: i64) -> bool {
        self.timeline.is_some_and(|now| i64::from(now) > timeline)
    }

    /// The timeline of one that is shut down and kept so, where nobody answers: that of the token it left, or of the last
    /// primary here.
    pub fn shut_down_on(&self) -> Option<u32> {
        let token = self.token().ok().flatten().map(|token| token.timeline);
        token.or(self.timeline).filter(|_| self.fenced)
    }

    /// The token of the demotion by which it was closed: the later one of that which we have kept and its own. `None`
    /// while there is none, or only one of an earlier timeline: since then it was a primary once more.
    ///
    /// # Errors
    /// If one of them is no token.
    pub fn token(&self) -> Result<Option<Token>, String> {
        let Some(closed) = self.closed else { return Ok(None) };
        let own = self.demotion_token.as_ref().filter(|_| self.is_replica());
        let mut latest: Option<Token> = None;
        for text in [self.kept_token.as_ref(), own].into_iter().flatten() {
            let token = Token::decode(text)?;
            if latest.as_ref().is_none_or(|latest| latest.timeline < token.timeline) {
                latest = Some(token);
            }
        }
        let earliest = closed.max(self.timeline.unwrap_or_default().into());
        Ok(latest.filter(|token| i64::from(token.timeline) >= earliest))
    }

    fn problems(&self, object: &DynamicObject, source: &str) -> Vec<Problem> {
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let replica = &object.data["spec"]["replica"];
        let mut problems = Vec::new();
        let mut problem =
            |message: String, remedy: &str| problems.push(Problem::error(source, message, remedy));
        if replica.is_null() {
            problem(
                format!("the Cluster {name} is replicated to nobody: it has no spec.replica"),
                "set spec.replica to {self, primary, source}: its own name, that of the Cluster that is primary now, and that of the other site's in spec.externalClusters",
            );
            return problems;
        }
        if !replica["enabled"].is_null() {
            problem(
                format!(
                    "spec.replica.enabled of the Cluster {name} would be stronger than spec.replica.primary"
                ),
                "take spec.replica.enabled out, and set self, primary and source",
            );
        }
        if self.primary.is_none() || self.peer.is_none() {
            problem(
                format!(
                    "spec.replica of the Cluster {name} does not say who is primary, or who the other one is"
                ),
                "set primary to the name of the Cluster that is primary now, and source to that of the other site",
            );
        }
        if self.peer.as_ref() == Some(&self.own) {
            problem(
                format!(
                    "spec.replica.source of the Cluster {name} is its own name: demoted, it would follow itself"
                ),
                "set spec.replica.source to the name of the other site's Cluster in spec.externalClusters, and spec.replica.self to its own, which must differ",
            );
        }
        let externals =
            object.data["spec"]["externalClusters"].as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(peer) = &self.peer
            && !externals.iter().any(|external| external["name"].as_str() == Some(peer))
        {
            problem(
                format!("spec.externalClusters of the Cluster {name} has no {peer}"),
                "add it, with the address of the other site's Cluster: demoted, this one follows it",
            );
        }
        if !replica["minApplyDelay"].is_null() {
            problem(
                format!("spec.replica.minApplyDelay of the Cluster {name} forbids a promotion with a token"),
                "take spec.replica.minApplyDelay out",
            );
        }
        problems.extend(would_undo(object, &WRITTEN, source));
        problems
    }
}

/// Zero stands for none.
fn timeline(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|timeline| u32::try_from(timeline).ok()).filter(|timeline| *timeline != 0)
}

/// Where the log is archived: two sites that share an archive overwrite each other's log after a promotion.
fn archive(spec: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let store = &spec["backup"]["barmanObjectStore"];
    if let Some(path) = text(&store["destinationPath"]) {
        let server = text(&store["serverName"]);
        return Some(
            server.map_or(path.clone(), |server| format!("{}/{server}", path.trim_end_matches('/'))),
        );
    }
    let plugins = spec["plugins"].as_array().map(Vec::as_slice).unwrap_or_default();
    let archiver = plugins.iter().find(|plugin| plugin["isWALArchiver"] == Value::Bool(true))?;
    let parameters = &archiver["parameters"];
    let names = [&parameters["barmanObjectName"], &parameters["serverName"]];
    Some(names.into_iter().filter_map(text).collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(super) mod tests;
