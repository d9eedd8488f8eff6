//! The hooks of a group: whether what is presented to them is there, and whether their servers take a connection from here.
//! None is called: that is for a move alone.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Url;

use super::group::OfGroup;
use crate::api::Problem;
use crate::api::hook::Hook;
use crate::runtime::remote::{DEADLINE, RemoteError, connects, within};

/// How often.
const EVERY: Duration = Duration::from_mins(5);
/// How soon one is looked at again that a move could not call.
const AGAIN: Duration = Duration::from_mins(1);

/// Looks for ever; ends where the group has none. Who has authority calls none.
pub async fn run(of: OfGroup) {
    if of.spec.hooks().is_empty() {
        return;
    }
    for round in 0u32.. {
        let mut rests = EVERY;
        if !of.holds() {
            let looks = of.spec.hooks().iter().map(async |hook| (hook.name.clone(), look(&of, hook).await));
            let looked = join_all(looks).await;
            if looked.iter().any(|(_, found)| found.is_err()) {
                rests = AGAIN;
            }
            of.found(|asked| asked.hooks = looked.into_iter().collect());
        }
        of.all.rest(rests, round).await;
    }
}

async fn look(of: &OfGroup, hook: &Hook) -> Result<(), Problem> {
    token(of, hook).await?;
    let url = address(hook)?;
    connect(&url).await.map_err(|error| {
        Problem::error(
            format!("hooks[{}].webhook.url", hook.name),
            format!("{} takes no connection from this site: {error}", hook.webhook.url),
            "see whether its server runs, and whether its firewall and the NetworkPolicies of the operator's namespace let \
             this site connect",
        )
    })
}

async fn connect(url: &Url) -> Result<(), RemoteError> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or_default();
    within(DEADLINE, connects(host, port)).await
}

/// The address that a hook has called.
///
/// # Errors
/// With a sentence that says why that is none.
pub(crate) fn address(hook: &Hook) -> Result<Url, Problem> {
    Url::parse(&hook.webhook.url).map_err(|error| {
        Problem::error(
            format!("hooks[{}].webhook.url", hook.name),
            format!("`{}` is no address: {error}", hook.webhook.url),
            "correct it in the FailoverGroup",
        )
    })
}

/// The token that is presented to a hook; `None` where the group presents none.
///
/// # Errors
/// With a sentence that says what is missing.
pub(crate) async fn token(of: &OfGroup, hook: &Hook) -> Result<Option<String>, Problem> {
    let Some(auth) = &hook.webhook.auth else { return Ok(None) };
    let (secret, key) = (&auth.bearer.secret, &auth.bearer.key);
    let field = format!("hooks[{}].webhook.auth.bearer", hook.name);
    let mut data = of.secret(&field, secret).await.map_err(|problem| {
        // Here it is a name and a key, and no reference to a whole Secret.
        Problem { source: field.clone(), ..problem }
    })?;
    let wrong = |words: String| {
        let namespace = &of.all.context.namespace;
        let remedy = format!("correct it: kubectl edit secret {secret} -n {namespace}");
        Problem::error(field.clone(), words, remedy)
    };
    let value = data.remove(key).ok_or_else(|| wrong(format!("Secret {secret} has no key {key}")))?;
    let token = String::from_utf8(value.0)
        .map_err(|_| wrong(format!("the key {key} of Secret {secret} is no text")))?;
    Ok(Some(token.trim_end().to_owned()))
}
