//! What a FinService begins with where its site takes over: more pods, before all else that its plan has. Pure.

use super::{Op, Over, Plan};
use crate::finservice::children::Kind;
use crate::finservice::index::Observed;
use crate::finservice::index::child::ChildState;

/// The writes of a plan that bring pods which a site needs that takes over, as far as they wait for nothing else in it;
/// none where the site does not.
pub fn growth(seen: &Observed, plan: &Plan) -> Vec<Op> {
    let takes_over = seen.authority.as_ref().is_some_and(|standing| standing.claimed && !standing.is_held());
    // An autoscaler that is to go would scale back.
    let autoscaler_goes =
        || plan.ops().any(|op| matches!(op, Op::Delete { kind: Kind::HorizontalPodAutoscaler, .. }));
    if !takes_over || autoscaler_goes() {
        return Vec::new();
    }
    let grows = |op: &&Op| match op {
        Op::Scale { name, replicas } => {
            let have =
                seen.children.iter().find(|child| child.kind == Kind::Deployment && *child.name == **name);
            have.and_then(ChildState::deployment).is_some_and(|facts| facts.replicas < *replicas)
        }
        Op::Apply { child, over: Over::Ours, .. } => {
            matches!(child.kind, Kind::HorizontalPodAutoscaler)
        }
        _ => false,
    };
    plan.stages.iter().flatten().filter(grows).cloned().collect()
}
