//! Says something by an Action, and waits for the answer where that is asked for.

use std::time::Duration;

use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::wait::await_condition;
use tokio::time::Instant;

use crate::actions::hear::is_over;
use crate::api::Action;
use crate::api::action::ActionSpec;

/// How long to try to say something to an API server that cannot take it yet.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait between tries.
const AGAIN: Duration = Duration::from_millis(500);

/// Creates an Action, and tries again where the API server says that it cannot yet: an abort must not fail for that.
/// What it answers in these words it has not carried out, so nothing is said twice.
pub async fn create(actions: &Api<Action>, spec: ActionSpec) -> kube::Result<Action> {
    let name = format!("{}-{}-", spec.target.name, spec.verb.as_str());
    let metadata = ObjectMeta { generate_name: Some(name), ..ObjectMeta::default() };
    let action = Action { metadata, spec, status: None };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match actions.create(&PostParams::default(), &action).await {
            Err(kube::Error::Api(status))
                if matches!(status.reason.as_str(), "ServiceUnavailable" | "TooManyRequests")
                    && Instant::now() < deadline =>
            {
                tokio::time::sleep(AGAIN).await;
            }
            answered => return answered,
        }
    }
}

/// Nobody has answered in time.
pub struct Unanswered;

/// The Action of that name once somebody has answered it; `None` if it was deleted.
///
/// # Errors
/// If nobody does in time.
pub async fn answered(
    actions: &Api<Action>,
    name: &str,
    within: Duration,
) -> Result<Option<Action>, Unanswered> {
    let over = |action: Option<&Action>| action.is_none_or(is_over);
    let waited = tokio::time::timeout(within, await_condition(actions.clone(), name, over)).await;
    waited.map_err(|_| Unanswered)?.map_err(|_| Unanswered)
}
