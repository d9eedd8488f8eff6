//! The percentage of a LaunchDarkly flag, over their REST API (version 20240415).
//!
//! The flag is read first: it says the ids of its variations, and what stands there now. If that is what is wanted,
//! nothing is written. Otherwise one semantic patch changes the default rule, and the flag is read again. So a call
//! may be repeated at any time, also when the answer to the one before was lost. Rules, targets and prerequisites
//! are the flag's owner's, and stay.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, Response, StatusCode, Url, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::canaryrollout::LaunchDarkly;

/// Where LaunchDarkly answers.
pub const LAUNCH_DARKLY: &str = "https://app.launchdarkly.com";

/// The API whose answers are understood here, whatever the token's own default is.
const API_VERSION: &str = "20240415";
/// Weights are in thousandths of a percent.
const WHOLE: i64 = 100_000;
/// How long a request may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// When to try again after a conflict, a failure of the server or silence, where the server names no time.
const AGAIN: Duration = Duration::from_secs(5);
/// When to try again after 429 that names no time: their limits are counted over ten seconds.
const AGAIN_LIMITED: Duration = Duration::from_secs(10);
/// The longest wait that is believed.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Most bytes of an answer: a flag with many environments and rules has some hundred thousand.
const MOST_BYTES: usize = 1 << 20;

/// What came of setting a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Whether something was written; otherwise it was so already.
    pub written: bool,
    /// Thousandths of a percent by index of the variation, as read back; variations without a share are left out.
    pub weights: BTreeMap<usize, i64>,
}

/// Why a flag is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the flag {flag}: {message}; {remedy}")]
pub struct FlagError {
    /// The flag, as project/flag in environment.
    pub flag: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// When it is worth trying again, where time alone may help.
    pub retry_at: Option<Timestamp>,
}

/// The way to LaunchDarkly. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Flags {
    http: reqwest::Client,
    base: Url,
}

/// What of a flag matters here.
#[derive(Debug, Deserialize)]
struct Flag {
    variations: Vec<Variation>,
    #[serde(default)]
    environments: BTreeMap<String, Environment>,
}

#[derive(Debug, Deserialize)]
struct Variation {
    #[serde(rename = "_id")]
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Environment {
    on: bool,
    #[serde(default)]
    off_variation: Option<usize>,
    #[serde(default)]
    fallthrough: Fallthrough,
}

#[derive(Debug, Default, Deserialize)]
struct Fallthrough {
    #[serde(default)]
    variation: Option<usize>,
    #[serde(default)]
    rollout: Option<Rollout>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rollout {
    variations: Vec<Weighted>,
    #[serde(default)]
    bucket_by: Option<String>,
    #[serde(default)]
    context_kind: Option<String>,
    #[serde(default)]
    experiment_allocation: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Weighted {
    variation: usize,
    weight: i64,
}

impl Fallthrough {
    /// Thousandths of a percent by variation, none of them zero.
    fn weights(&self) -> BTreeMap<usize, i64> {
        let mut weights = BTreeMap::new();
        match (&self.rollout, self.variation) {
            (Some(rollout), _) => {
                for share in rollout.variations.iter().filter(|share| share.weight > 0) {
                    *weights.entry(share.variation).or_default() += share.weight;
                }
            }
            (None, Some(variation)) => {
                weights.insert(variation, WHOLE);
            }
            (None, None) => {}
        }
        weights
    }
}

/// The weights that are wanted: the new variation has `percent`, every other one keeps what it has, and the old one
/// has the rest. `None` if the others leave too little.
fn wanted(now: &BTreeMap<usize, i64>, new: usize, old: usize, percent: i32) -> Option<BTreeMap<usize, i64>> {
    let mut weights = now.clone();
    weights.remove(&new);
    weights.remove(&old);
    let share = i64::from(percent) * (WHOLE / 100);
    let rest = WHOLE - share - weights.values().sum::<i64>();
    if rest < 0 {
        return None;
    }
    weights.extend([(new, share), (old, rest)].into_iter().filter(|(_, weight)| *weight > 0));
    Some(weights)
}

impl Flags {
    /// The way to LaunchDarkly at `base`; see [`LAUNCH_DARKLY`].
    ///
    /// # Errors
    /// If `base` is no URL, or the certificates of this machine cannot be used.
    pub fn new(base: &str) -> Result<Self, FlagError> {
        let failed = |message: String| FlagError {
            flag: "at ".to_owned() + base,
            message,
            remedy: "name an address such as https://app.launchdarkly.com".to_owned(),
            retry_at: None,
        };
        let base = Url::parse(base).map_err(|error| failed(error.to_string()))?;
        // The token must not follow to anywhere else.
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(DEADLINE)
            .user_agent(crate::runtime::client::USER_AGENT)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { http, base })
    }

    /// Gives `percent` of the default rule to the flag's new variation, and the rest to the old one.
    ///
    /// # Errors
    /// If it is not so afterwards, as far as anybody can tell.
    pub async fn set(&self, flag: &LaunchDarkly, token: &str, percent: i32) -> Result<Set, FlagError> {
        let call = Call { flags: self, flag, token };
        let before = call.read().await?;
        let (new, old) = (call.index(&before, flag.variation)?, call.index(&before, flag.fallback)?);
        let percent = percent.clamp(0, 100);
        let environment = call.environment(&before)?;
        let now = environment.fallthrough.weights();
        if new == old {
            return Err(call.wrong(
                "variation and fallback are the same",
                "name two variations in featureFlag.launchDarkly",
            ));
        }
        let Some(wanted) = wanted(&now, new, old, percent) else {
            let message = format!("other variations hold so much that {percent} % are not left");
            return Err(
                call.wrong(&message, "give their share in the default rule to the fallback variation")
            );
        };
        let written = now != wanted;
        let after = if written {
            call.write(&before, environment, &wanted).await?;
            call.read().await?
        } else {
            before
        };
        let environment = call.environment(&after)?;
        let weights = environment.fallthrough.weights();
        if weights != wanted {
            return Err(FlagError {
                retry_at: Some(after_wait(AGAIN)),
                ..call.wrong(
                    "its default rule was changed at the same time",
                    "leave the default rule to the rollout while it is under way",
                )
            });
        }
        if !environment.on && (percent > 0 || environment.off_variation == Some(new)) {
            let message = format!("it is off, so the share of {percent} % has no effect");
            return Err(call.wrong(&message, "turn the flag on in that environment"));
        }
        Ok(Set { written, weights })
    }
}

/// The moment after a wait.
fn after_wait(wait: Duration) -> Timestamp {
    Timestamp::now().saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// One call for one flag.
struct Call<'a> {
    flags: &'a Flags,
    flag: &'a LaunchDarkly,
    token: &'a str,
}

impl Call<'_> {
    fn wrong(&self, message: &str, remedy: &str) -> FlagError {
        let LaunchDarkly { project, flag, environment, .. } = self.flag;
        FlagError {
            flag: format!("{project}/{flag} in {environment}"),
            message: message.to_owned(),
            remedy: remedy.to_owned(),
            retry_at: None,
        }
    }

    fn later(&self, message: &str, remedy: &str, wait: Duration) -> FlagError {
        FlagError { retry_at: Some(after_wait(wait)), ..self.wrong(message, remedy) }
    }

    fn index(&self, flag: &Flag, index: i32) -> Result<usize, FlagError> {
        usize::try_from(index).ok().filter(|index| *index < flag.variations.len()).ok_or_else(|| {
            let message =
                format!("it has no variation {index}: it has {}, counted from 0", flag.variations.len());
            self.wrong(&message, "correct variation and fallback of featureFlag.launchDarkly")
        })
    }

    fn environment<'f>(&self, flag: &'f Flag) -> Result<&'f Environment, FlagError> {
        flag.environments.get(&self.flag.environment).ok_or_else(|| {
            let message = format!("the project has no environment {}", self.flag.environment);
            self.wrong(&message, "correct featureFlag.launchDarkly.environment")
        })
    }

    /// The address of the flag. Keys become parts of the path, whatever they hold.
    fn url(&self) -> Result<Url, FlagError> {
        let mut url = self.flags.base.clone();
        match url.path_segments_mut() {
            Ok(mut path) => {
                path.pop_if_empty().extend(["api", "v2", "flags", &self.flag.project, &self.flag.flag]);
            }
            Err(()) => return Err(self.wrong("its address cannot have a path", "name an http address")),
        }
        url.query_pairs_mut().append_pair("env", &self.flag.environment);
        Ok(url)
    }

    async fn read(&self) -> Result<Flag, FlagError> {
        let answer = self.send(Method::GET, None).await?;
        let bytes = self.body(answer).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let message = format!("the answer is no flag: {error}");
            self.later(&message, "check that the address is LaunchDarkly's", AGAIN)
        })
    }

    async fn write(
        &self,
        flag: &Flag,
        environment: &Environment,
        wanted: &BTreeMap<usize, i64>,
    ) -> Result<(), FlagError> {
        let rollout = environment.fallthrough.rollout.as_ref();
        if rollout
            .and_then(|rollout| rollout.experiment_allocation.as_ref())
            .is_some_and(|value| !value.is_null())
        {
            return Err(self.wrong("an experiment runs on its default rule", "end the experiment first"));
        }
        // Every variation is named: one that is left out would be taken for an error.
        let weights: BTreeMap<&str, i64> = flag
            .variations
            .iter()
            .enumerate()
            .map(|(index, variation)| (variation.id.as_str(), wanted.get(&index).copied().unwrap_or(0)))
            .collect();
        let mut instruction =
            json!({"kind": "updateFallthroughVariationOrRollout", "rolloutWeights": weights});
        // Whom the share falls on must not change with its size.
        if let Some(bucket_by) = rollout.and_then(|rollout| rollout.bucket_by.as_ref()) {
            instruction["rolloutBucketBy"] = json!(bucket_by);
        }
        if let Some(kind) = rollout.and_then(|rollout| rollout.context_kind.as_ref()) {
            instruction["rolloutContextKind"] = json!(kind);
        }
        let patch = json!({
            "environmentKey": self.flag.environment,
            "comment": "by a CanaryRollout of Banyan",
            "instructions": [instruction],
        });
        let answer = self.send(Method::PATCH, Some(&patch)).await?;
        self.body(answer).await.map(|_| ())
    }

    async fn send(&self, method: Method, body: Option<&Value>) -> Result<Response, FlagError> {
        let mut token = header::HeaderValue::from_str(self.token.trim()).map_err(|_| {
            self.wrong("the token holds characters that no token has", "correct the Secret that holds it")
        })?;
        token.set_sensitive(true);
        let mut request = self
            .flags
            .http
            .request(method, self.url()?)
            .header(header::AUTHORIZATION, token)
            .header("LD-API-Version", API_VERSION);
        if let Some(body) = body {
            request = request
                .header(header::CONTENT_TYPE, "application/json; domain-model=launchdarkly.semanticpatch")
                .body(body.to_string());
        }
        let answer = request.send().await.map_err(|error| self.unanswered(&error))?;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            status => Err(self.refused(status, answer.headers())),
        }
    }

    async fn body(&self, mut answer: Response) -> Result<Vec<u8>, FlagError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unanswered(&error))? {
            if bytes.len() + chunk.len() > MOST_BYTES {
                return Err(
                    self.wrong("the answer is longer than 1 MiB", "archive environments of the project")
                );
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn unanswered(&self, error: &reqwest::Error) -> FlagError {
        let remedy = "check the way from the operator to LaunchDarkly; it is tried again";
        let message = match error {
            error if error.is_timeout() => format!("no answer within {} s", DEADLINE.as_secs()),
            error if error.is_connect() => format!("no connection to {}", self.flags.base),
            _ => "the answer broke off".to_owned(),
        };
        self.later(&message, remedy, AGAIN)
    }

    fn refused(&self, status: StatusCode, headers: &header::HeaderMap) -> FlagError {
        match status.as_u16() {
            401 => self.wrong("the token is not accepted (401)", "renew the token in the Secret"),
            403 => self.wrong(
                "the token may not change this flag (403)",
                "give it a role with updateFallthrough for the flag in that environment",
            ),
            404 => self
                .wrong("there is no such flag (404)", "correct project and flag of featureFlag.launchDarkly"),
            405 => self.wrong(
                "a change of this flag needs an approval there (405)",
                "let the token bypass approvals for the flag in that environment",
            ),
            409 => self.later("it was changed at the same time (409)", "nothing: it is tried again", AGAIN),
            429 => {
                let wait = limited_for(headers, Timestamp::now());
                self.later(
                    "too many requests for this token (429)",
                    "give the rollout a token of its own",
                    wait,
                )
            }
            code @ 500.. => {
                let wait = retry_after(headers).unwrap_or(AGAIN);
                self.later(&format!("LaunchDarkly fails ({code})"), "nothing: it is tried again", wait)
            }
            code @ 300..=399 => self.wrong(
                &format!("the address leads elsewhere ({code})"),
                "check that the address is LaunchDarkly's",
            ),
            code => self.wrong(&format!("the change is refused ({code})"), "check the flag's settings there"),
        }
    }
}

/// The wait in `Retry-After`, in seconds.
fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// How long to wait after a 429: `Retry-After`, else `X-Ratelimit-Reset` (milliseconds since 1970).
fn limited_for(headers: &header::HeaderMap, now: Timestamp) -> Duration {
    let reset = || {
        let at: i64 = headers.get("x-ratelimit-reset")?.to_str().ok()?.trim().parse().ok()?;
        let wait = u64::try_from(at.saturating_sub(now.as_millisecond())).unwrap_or(0);
        Some(Duration::from_millis(wait).min(LONGEST_WAIT))
    };
    retry_after(headers).or_else(reset).unwrap_or(AGAIN_LIMITED)
}

#[cfg(test)]
#[path = "launch_darkly_tests.rs"]
mod tests;
