//! Says something by an Action, and waits for the answer where that is asked for.

use std::time::Duration;

use kube::Api;
use kube::api::PostParams;
use tokio::time::Instant;

use crate::api::Action;

/// How long to try to say something to an API server that cannot take it yet.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait between tries.
const AGAIN: Duration = Duration::from_millis(500);

/// Creates an Action, and tries again where the API server says that it cannot yet: an abort must not fail for that.
/// What it answers in these words it has not carried out, so nothing is said twice.
pub async fn create(actions: &Api<Action>, action: &Action) -> kube::Result<Action> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match actions.create(&PostParams::default(), action).await {
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
