//! The stories of `tests/goldens/`, told once for all tests: what differs in what ArgoCD looks at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;

use banyan::api::{AuthorityStatus, CanaryRolloutSpec, CanaryRolloutStatus, Failover};
use banyan::canary::simulate::{self as rollouts, statuses};
use banyan::failover::simulate as moves;
use serde_json::{Value, json};

use crate::stories::stories;

/// A story of a rollout.
pub struct Rollout {
    /// What it is called.
    pub name: String,
    /// Its policy, with the gates of all that it is changed to.
    pub policy: CanaryRolloutSpec,
    /// What was said of it.
    pub statuses: Vec<CanaryRolloutStatus>,
}

/// The stories of moves.
#[derive(Default)]
pub struct Moves {
    /// What was said of orders.
    pub orders: Vec<Failover>,
    /// What was said of Authorities, one for each state.
    pub authorities: BTreeMap<&'static str, AuthorityStatus>,
}

/// What the scripts look at, without words and numbers.
fn looked_at(status: &CanaryRolloutStatus) -> String {
    let memory = json!(status.memory);
    let rollout = &memory["rollout"];
    let conditions: Vec<(&str, &str)> =
        status.conditions.iter().map(|condition| (&*condition.status, &*condition.reason)).collect();
    let of_rollout = ["weight", "paused", "release", "gates", "approvals"].map(|field| &rollout[field]);
    json!([status.phase, conditions, of_rollout, memory["warm"]["release"]]).to_string()
}

/// Every rollout.
pub fn rollouts() -> &'static [Rollout] {
    static TOLD: OnceLock<Vec<Rollout>> = OnceLock::new();
    TOLD.get_or_init(|| {
        let tell = |(name, _, text): (String, PathBuf, String)| {
            let story = rollouts::Story::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut policy = story.rollout.clone();
            let later = story.events.iter().filter_map(|event| event.policy.as_ref());
            let later: Vec<_> = later.filter_map(|policy| policy.gates.clone()).flatten().collect();
            if !later.is_empty() {
                policy.gates.get_or_insert_default().extend(later);
            }
            let mut seen = BTreeSet::new();
            let mut statuses = statuses(story);
            statuses.retain(|status| seen.insert(looked_at(status)));
            Rollout { name, policy, statuses }
        };
        stories("canary").into_iter().map(tell).collect()
    })
}

/// Every move.
pub fn moves() -> &'static Moves {
    static TOLD: OnceLock<Moves> = OnceLock::new();
    TOLD.get_or_init(|| {
        let mut told = Moves::default();
        for (name, _, text) in stories("failover") {
            let story = moves::Story::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut seen = BTreeSet::new();
            let order = |order: &Failover| {
                let Some(status) = &order.status else { return };
                let key = (
                    status.phase.map(|phase| phase.as_str()),
                    status.reason.clone(),
                    status.next.clone(),
                    [status.paused, status.aborted, status.committed_at.as_ref().map(|_| true)],
                );
                if seen.insert(key) {
                    told.orders.push(order.clone());
                }
            };
            let authority = |status: &AuthorityStatus| {
                let state = status.state.expect("a state").as_str();
                told.authorities.entry(state).or_insert_with(|| status.clone());
            };
            moves::run_with(story, order, authority);
        }
        told
    })
}

/// A spec as the API server holds it.
pub fn spec(of: &impl serde::Serialize) -> Value {
    serde_json::to_value(of).expect("JSON")
}
