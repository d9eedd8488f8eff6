//! Calls a hook of the group, once: who waits for it calls again.

use jiff::Timestamp;
use reqwest::{StatusCode, Url};

use super::super::hooks::{Reply, answered, told};
use super::super::outcome::Done;
use super::Means;
use crate::api::FailoverStatus;
use crate::api::hook::Hook;
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
    let field = format!("hooks[{}].webhook", hook.name);
    let url = Url::parse(&hook.webhook.url)
        .map_err(|error| format!("{field}.url: `{}` is no address: {error}", hook.webhook.url))?;
    let uid = means.failover.metadata.uid.as_deref().unwrap_or_default();
    let client = builder().build().map_err(|error| format!("cannot make an HTTP client: {error}"))?;
    let mut request = client.post(url).header(IDEMPOTENCY_KEY, format!("{uid}/{}", hook.name)).json(&told(
        means.failover,
        status,
        hook,
    ));
    if let Some(auth) = &hook.webhook.auth {
        request = request.bearer_auth(token(means, &field, &auth.bearer.secret, &auth.bearer.key).await?);
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

/// The token that is presented.
async fn token(means: &Means<'_>, field: &str, secret: &str, key: &str) -> Result<String, String> {
    let field = format!("{field}.auth.bearer");
    let data = means.of_group().secret(&field, secret).await;
    let mut data = data.map_err(|problem| format!("{field}: {}", problem.message))?;
    let value = data.remove(key).ok_or_else(|| format!("{field}: Secret {secret} has no key {key}"))?;
    let token = String::from_utf8(value.0).map_err(|_| format!("{field}: the key {key} is no text"))?;
    Ok(token.trim_end().to_owned())
}
