//! Calls a hook of the group, once: who waits for it calls again.

use jiff::Timestamp;
use reqwest::StatusCode;

use super::super::hooks::{Reply, answered, told};
use super::super::outcome::Done;
use super::Means;
use crate::api::hook::Hook;
use crate::api::{FailoverStatus, Problem};
use crate::failovergroup::sources::hooks::{address, token};
use crate::runtime::fetch::{builder, pieces, status_words};
use crate::runtime::remote::DEADLINE;

/// What says that two calls are of one move: whoever has carried one out answers the other at once.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// How many bytes of an answer are read. None is kept; the status is the answer.
const BYTES: usize = 1 << 20;

/// Calls a hook, and takes down what it answers.
pub(super) async fn call(means: &Means<'_>, name: &str, status: &mut FailoverStatus) -> Done {
    let Some(hook) = means.seen.spec.hooks().iter().find(|hook| hook.name == name) else {
        return Done::Again;
    };
    let reply = ask(means, hook, status).await.unwrap_or_else(Reply::Failed);
    let failover = means.failover.metadata.name.as_deref().unwrap_or_default();
    answered(hook, reply, status, failover, Timestamp::now())
}

async fn ask(means: &Means<'_>, hook: &Hook, status: &FailoverStatus) -> Result<Reply, String> {
    let said = |problem: Problem| format!("{}: {}", problem.source, problem.message);
    let url = address(hook).map_err(said)?;
    let uid = means.failover.metadata.uid.as_deref().unwrap_or_default();
    let client = builder().build().map_err(|error| format!("cannot make an HTTP client: {error}"))?;
    let mut request = client.post(url).header(IDEMPOTENCY_KEY, format!("{uid}/{}", hook.name)).json(&told(
        means.failover,
        status,
        hook,
    ));
    if let Some(token) = token(&means.of_group(), hook).await.map_err(said)? {
        request = request.bearer_auth(token);
    }
    let answer = pieces(request, DEADLINE, BYTES, None, |_, _| Ok(())).await;
    let answer = answer.map_err(|why| format!("{} does not answer: {why}", hook.webhook.url))?;
    let words = status_words(answer);
    Ok(match answer {
        StatusCode::ACCEPTED => Reply::AtWork,
        _ if answer.is_success() => Reply::Done(words),
        _ => Reply::Failed(format!("{} answers with {words}", hook.webhook.url)),
    })
}
