//! Carries the percentage of a feature flag out. It is asked of LaunchDarkly only when it is to change, and once after
//! a start.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::api::Problem;
use crate::api::canaryrollout::LaunchDarkly;
use crate::feature_flags::launch_darkly::Flags;
use crate::runtime::key::{Key, is_name};
use crate::runtime::lock::lock;

/// After how long a flag that could not be set is tried again, unless the server says when.
const AGAIN: SignedDuration = SignedDuration::from_secs(10);
/// How long reading the token may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// The field that problems name.
const FIELD: &str = "spec.featureFlag.launchDarkly";

/// Sets flags.
pub struct FlagSetter {
    client: Client,
    base: String,
    /// What each FinService's flag was last set to.
    set: Mutex<HashMap<Key, (LaunchDarkly, i32)>>,
}

/// Why a flag is not as decided.
#[derive(Clone, Debug)]
pub struct NotSet {
    /// What to tell.
    pub problem: Problem,
    /// When to try again.
    pub again_at: Timestamp,
}

impl FlagSetter {
    /// One that has set nothing yet; `base` is the address of LaunchDarkly.
    pub fn new(client: Client, base: &str) -> Self {
        Self { client, base: base.to_owned(), set: Mutex::default() }
    }

    /// Whether a percentage is less than what stands: such a write waits for nothing. What is not known may be more.
    pub fn falls(&self, key: &Key, percent: i32) -> bool {
        let set = lock(&self.set);
        set.get(key).is_none_or(|(_, before)| percent < *before)
    }

    /// Sets the flag of a FinService, if that is news.
    ///
    /// # Errors
    /// If it is not so afterwards, as far as anybody can tell.
    pub async fn set(
        &self,
        key: &Key,
        flag: &LaunchDarkly,
        percent: i32,
        now: Timestamp,
    ) -> Result<(), NotSet> {
        let is_so = |(known, before): &(LaunchDarkly, i32)| known == flag && *before == percent;
        if lock(&self.set).get(key).is_some_and(is_so) {
            return Ok(());
        }
        let later = now.saturating_add(AGAIN).unwrap_or(Timestamp::MAX);
        let not_set = |message: String, remedy: &str| NotSet {
            problem: Problem::error(FIELD, message, remedy),
            again_at: later,
        };
        let token = self.token(key, flag).await.map_err(|(why, remedy)| not_set(why, remedy))?;
        let flags = Flags::new(&self.base).map_err(|error| not_set(error.message, &error.remedy))?;
        flags.set(flag, &token, percent).await.map_err(|error| NotSet {
            problem: Problem::error(FIELD, format!("{}: {}", error.flag, error.message), error.remedy),
            again_at: error.retry_at.unwrap_or(later),
        })?;
        let mut set = lock(&self.set);
        set.insert(key.clone(), (flag.clone(), percent));
        Ok(())
    }

    /// Forgets what a FinService's flag was set to: its rollout is over, and the flag is the team's again.
    pub fn forget(&self, key: &Key) {
        lock(&self.set).remove(key);
    }

    async fn token(&self, key: &Key, flag: &LaunchDarkly) -> Result<String, (String, &'static str)> {
        let (name, field) = (&flag.token.secret, &flag.token.key);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        if !is_name(name) {
            let remedy = "Name a Secret of the same namespace in featureFlag.launchDarkly.token.secret.";
            return Err((format!("`{name}` is no name of a Secret"), remedy));
        }
        let remedy = "Create it with an access token of LaunchDarkly that may change the flag.";
        let read = tokio::time::timeout(DEADLINE, api.get_opt(name)).await;
        let found = read.map_err(|_| (format!("Secret {name} cannot be read: no answer in 5 s"), remedy))?;
        let found = found.map_err(|error| (format!("Secret {name} cannot be read: {error}"), remedy))?;
        let secret = found
            .ok_or_else(|| (format!("there is no Secret {name} in namespace {}", key.namespace), remedy))?;
        let value = secret.data.and_then(|mut data| data.remove(field));
        let value = value.ok_or_else(|| (format!("Secret {name} has no key {field}"), remedy))?;
        let token = String::from_utf8(value.0);
        token
            .map(|token| token.trim().to_owned())
            .map_err(|_| (format!("key {field} of Secret {name} is no text"), remedy))
    }
}
