//! Where the leader Lease is kept: the API server, behind a trait that a test can stand in for.

use std::future::Future;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::coordination::v1 as coordination;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};

/// A claim to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who claims.
    pub holder: String,
    /// How long the claim lasts without a renewal.
    pub duration: Duration,
}

/// A Lease as far as it matters here.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The version of the object that a write must still find.
    pub version: String,
    /// Whose it is; `None` when it was given back.
    pub claim: Option<Claim>,
    /// The object, so that a write keeps what others put on it.
    object: Box<coordination::Lease>,
}

impl Lease {
    /// Reads an object.
    pub fn from_object(object: coordination::Lease) -> Self {
        let spec = object.spec.as_ref();
        let duration = spec.and_then(|s| s.lease_duration_seconds).unwrap_or(0).max(0).unsigned_abs();
        let claim = spec
            .and_then(|s| s.holder_identity.clone())
            .filter(|holder| !holder.is_empty())
            .map(|holder| Claim { holder, duration: Duration::from_secs(duration.into()) });
        Self {
            version: object.metadata.resource_version.clone().unwrap_or_default(),
            claim,
            object: Box::new(object),
        }
    }

    /// The object that a write sends: `before` (or a new one) with `claim`, or with no holder.
    fn to_object(
        name: &str,
        before: Option<&Self>,
        claim: Option<Claim>,
        now: Timestamp,
    ) -> coordination::Lease {
        let mut object = before.map_or_else(
            || coordination::Lease {
                metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
                ..coordination::Lease::default()
            },
            |before| (*before.object).clone(),
        );
        object.metadata.managed_fields = None;
        let mut spec = object.spec.take().unwrap_or_default();
        if let Some(claim) = claim {
            let same = spec.holder_identity.as_deref() == Some(claim.holder.as_str());
            if !same {
                spec.acquire_time = Some(MicroTime(now));
                spec.lease_transitions = Some(if before.is_some() {
                    spec.lease_transitions.unwrap_or(0).saturating_add(1)
                } else {
                    0
                });
            }
            spec.holder_identity = Some(claim.holder);
            spec.lease_duration_seconds = i32::try_from(claim.duration.as_secs()).ok();
        } else {
            spec.holder_identity = None;
        }
        spec.renew_time = Some(MicroTime(now));
        object.spec = Some(spec);
        object
    }
}

/// Why a request about the Lease failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The Lease is not any more what the write was decided on.
    #[error("the Lease has changed")]
    Conflict,
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

/// A stream that tells of each version of a Lease; `None` when it is gone.
pub type Changes<'a> = std::pin::Pin<Box<dyn Stream<Item = Option<Lease>> + Send + 'a>>;

/// Where a Lease is kept.
pub trait Store: Send + Sync {
    /// The Lease as it is now; `None` if there is none.
    fn read(&self) -> impl Future<Output = Result<Option<Lease>, StoreError>> + Send;
    /// Writes `claim` (`None` gives the Lease back), only if the Lease is still `before` (`None`: is not there).
    /// Returns it as written.
    fn write(
        &self,
        before: Option<&Lease>,
        claim: Option<Claim>,
    ) -> impl Future<Output = Result<Lease, StoreError>> + Send;
    /// Tells of each change. It may miss some, repeat some, or end.
    fn changes(&self) -> Changes<'_>;
}

/// A Lease in an API server.
pub struct ApiStore {
    api: Api<coordination::Lease>,
    namespace: String,
    name: String,
}

impl ApiStore {
    /// The Lease `name` in `namespace`. Needs `create` on leases there, and `get`, `list`, `watch`, `update` on
    /// this one.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), namespace: namespace.into(), name: name.into() }
    }

    fn error(&self, error: kube::Error) -> StoreError {
        let lease = format!("Lease {}/{}", self.namespace, self.name);
        match error {
            kube::Error::Api(status) if status.code == 409 => StoreError::Conflict,
            kube::Error::Api(status) if status.code == 403 => StoreError::Failed(format!(
                "{lease}: {}; grant it with the Role of the chart (charts/banyan/templates/role.yaml)",
                status.message
            )),
            kube::Error::Api(status) if status.code == 404 => StoreError::Failed(format!(
                "{lease}: {}; create the namespace, or name the right one with --namespace",
                status.message
            )),
            error => StoreError::Failed(format!("{lease}: {error}")),
        }
    }
}

impl Store for ApiStore {
    async fn read(&self) -> Result<Option<Lease>, StoreError> {
        let found = self.api.get_opt(&self.name).await.map_err(|error| self.error(error))?;
        Ok(found.map(Lease::from_object))
    }

    async fn write(&self, before: Option<&Lease>, claim: Option<Claim>) -> Result<Lease, StoreError> {
        let object = Lease::to_object(&self.name, before, claim, Timestamp::now());
        let written = match before {
            Some(_) => self.api.replace(&self.name, &PostParams::default(), &object).await,
            None => self.api.create(&PostParams::default(), &object).await,
        };
        match written {
            Ok(object) => Ok(Lease::from_object(object)),
            // Deleted since it was read: as much a change as any other.
            Err(kube::Error::Api(status)) if status.code == 404 && before.is_some() => {
                Err(StoreError::Conflict)
            }
            Err(error) => Err(self.error(error)),
        }
    }

    fn changes(&self) -> Changes<'_> {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        watcher(self.api.clone(), config)
            .default_backoff()
            .filter_map(|event| async move {
                match event {
                    Ok(watcher::Event::Apply(lease) | watcher::Event::InitApply(lease)) => {
                        Some(Some(Lease::from_object(lease)))
                    }
                    Ok(watcher::Event::Delete(_)) => Some(None),
                    Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
                    Err(error) => {
                        tracing::warn!(%error, "the watch of the leader Lease was interrupted");
                        None
                    }
                }
            })
            .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(holder: &str) -> Option<Claim> {
        Some(Claim { holder: holder.into(), duration: Duration::from_secs(10) })
    }

    #[test]
    fn a_claim_keeps_what_others_wrote_and_counts_transitions() {
        let now = Timestamp::from_second(1_000).unwrap();
        let later = Timestamp::from_second(2_000).unwrap();
        let mut first = Lease::to_object("banyan", None, claim("a"), now);
        assert_eq!(first.spec.as_ref().unwrap().lease_transitions, Some(0));
        first.metadata.resource_version = Some("7".into());
        first.metadata.labels = Some([("team".to_string(), "platform".to_string())].into());

        let renewed = Lease::to_object("banyan", Some(&Lease::from_object(first.clone())), claim("a"), later);
        let spec = renewed.spec.clone().unwrap();
        assert_eq!(spec.lease_transitions, Some(0));
        assert_eq!(spec.acquire_time, Some(MicroTime(now)), "a renewal is not an acquisition");
        assert_eq!(spec.renew_time, Some(MicroTime(later)));
        assert_eq!(renewed.metadata.resource_version.as_deref(), Some("7"), "the write is conditional");
        assert_eq!(renewed.metadata.labels, first.metadata.labels);

        let taken = Lease::to_object("banyan", Some(&Lease::from_object(first)), claim("b"), later);
        let spec = taken.spec.unwrap();
        assert_eq!((spec.lease_transitions, spec.acquire_time), (Some(1), Some(MicroTime(later))));
    }

    #[test]
    fn one_that_is_given_back_has_no_claim() {
        let now = Timestamp::from_second(1_000).unwrap();
        let held = Lease::from_object(Lease::to_object("banyan", None, claim("a"), now));
        assert_eq!(held.claim, claim("a"));
        let back = Lease::to_object("banyan", Some(&held), None, now);
        assert_eq!(Lease::from_object(back.clone()).claim, None);
        // client-go writes an empty holder instead of none.
        let mut empty = back;
        empty.spec.as_mut().unwrap().holder_identity = Some(String::new());
        assert_eq!(Lease::from_object(empty).claim, None);
    }

    #[test]
    fn odd_leases_are_read_without_harm() {
        assert_eq!(Lease::from_object(coordination::Lease::default()).claim, None);
        let mut object = Lease::to_object("banyan", None, claim("a"), Timestamp::from_second(0).unwrap());
        object.spec.as_mut().unwrap().lease_duration_seconds = Some(-5);
        assert_eq!(Lease::from_object(object).claim.unwrap().duration, Duration::ZERO);
    }
}
