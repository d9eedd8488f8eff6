//! What a spec says that is dangerous or cannot be had, in plain words. Pure.

use super::index::Observed;
use super::index::rollouts::ObservedRollout;
use super::plan::Plan;
use crate::api::canaryrollout::From;
use crate::api::finservice::{OnSecretChange, Traffic};
use crate::api::network::MeshProvider;
use crate::api::{FinServiceSpec, Problem};

/// Paths and names that take writes, by the words that teams use; a retry there may do a thing
/// twice.
const WRITING_WORDS: [&str; 8] =
    ["pay", "transfer", "transaction", "order", "charge", "refund", "withdraw", "booking"];

/// Gathers the problems that a spec has by itself or with others.
pub fn of_spec(spec: &FinServiceSpec, seen: &Observed, plan: &mut Plan) {
    let problems = &mut plan.problems;
    if let Some(cycle) = &seen.cycle {
        problems.push(Problem::warning(
            "spec.access",
            format!("calls go round in a ring: {cycle}; one slow member stalls them all"),
            "Break the ring: let one member send a message instead of a call, or take the call out of access.",
        ));
    }
    for (claim, holder) in &seen.lost_claims {
        problems.push(Problem::error(
            "spec.ingress",
            format!(
                "{}{} at gateway {} is claimed by FinService {holder}, which is older; it is not routed here",
                claim.host, claim.path, claim.gateway
            ),
            "Choose another host or path, or remove it from the other FinService.",
        ));
    }
    retries(spec, seen.service.metadata.name.as_deref().unwrap_or_default(), problems);
    let moves = |rollout: &ObservedRollout| rollout.object.spec.from == Some(From::Legacy);
    if spec.legacy.is_some() && !seen.rollout.as_ref().is_some_and(moves) {
        problems.push(Problem::info(
            "spec.legacy",
            "the old backend serves its paths in full",
            "Nothing to do while that is wanted. A CanaryRollout with from: Legacy moves them step by step; removing spec.legacy gives its paths to the FinService all at once.",
        ));
    }
    if spec.provider() == MeshProvider::GatewayAPI
        && spec.traffic() == Traffic::Requests
        && spec.ingress.is_none()
    {
        problems.push(Problem::info(
            "spec.mesh.provider",
            "there is no ingress, so no HTTPRoute: callers use the plain Service, which selects one revision at a time",
            "Nothing to do, unless the outside is to reach the service: then set spec.ingress.",
        ));
    }
    if seen.secrets_hidden && spec.on_secret_change != Some(OnSecretChange::Ignore) {
        problems.push(Problem::warning(
            "spec.onSecretChange",
            "a changed Secret is not noticed: this operator may not read Secrets",
            "Set onSecretChange to Ignore, or install the chart with rbac.readSecrets=true.",
        ));
    }
}

fn retries(spec: &FinServiceSpec, name: &str, problems: &mut Vec<Problem>) {
    let Some(retries) = spec.mesh.as_ref().and_then(|mesh| mesh.retries.as_ref()) else { return };
    let before_sending = retries.on.as_deref().is_none_or(|on| {
        on.split(',').all(|word| matches!(word.trim(), "connect-failure" | "refused-stream" | ""))
    });
    if retries.attempts == 0 || retries.idempotent == Some(true) || before_sending {
        return;
    }
    let paths = spec.ingress.iter().flat_map(|ingress| ingress.paths.iter().flatten());
    let found =
        paths.map(String::as_str).chain([name]).find(|text| WRITING_WORDS.iter().any(|w| text.contains(w)));
    if let Some(found) = found {
        problems.push(Problem::warning(
            "spec.mesh.retries",
            format!(
                "{found} seems to take writes, and up to {} retries on {} may do one of them twice: a retried payment is a double payment",
                retries.attempts,
                retries.on.as_deref().unwrap_or_default()
            ),
            "Set attempts to 0, or retry only on connect-failure,refused-stream, or say idempotent: true if requests may be repeated.",
        ));
    }
}
