//! Topics that MirrorMaker 2 copies. A mirror has no primary to fence and nothing to promote: it is a gate (how far is it
//! behind?), and an intake that can be stopped and let on. Where the other site takes over, the mirror there is stopped
//! and the one here is let on.
//!
//! | file | what it holds |
//! |---|---|
//! | [`page`] | what MirrorMaker tells of itself; pure |
//! | [`lag`] | how far it is behind, from look to look; pure |
//! | [`strimzi`] | the KafkaMirrorMaker2 of Strimzi; pure |

pub mod lag;
pub mod page;
pub mod strimzi;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;

pub use lag::{Flow, Seen};
pub use strimzi::{Copying, Mirroring};

use self::lag::Track;
use super::object::{BALLOT_ANNOTATION, Object, annotated, ballot};
use super::{Ballot, StoreError};
use crate::api::store::{KafkaMirror as Spec, MirrorPolicy};
use crate::runtime::fetch::whole;
use crate::runtime::lock::lock;
use crate::runtime::remote::{DEADLINE, RemoteError, within};

/// Most bytes of a page: a mirror of some ten thousand partitions tells that much.
const MOST_BYTES: usize = 32 << 20;

/// All that one look at a mirror finds.
#[derive(Clone, Debug, PartialEq)]
pub struct MirrorReading {
    /// When it was looked at, by our own clock.
    pub measured_at: Timestamp,
    /// How far it is behind.
    pub flow: Flow,
    /// Of the groups that are wanted: how old the offsets were when they were copied last; `None` where it is not known.
    /// Such an age stands still as that of records does, so it counts only while the mirror is seen to copy.
    pub offsets: BTreeMap<String, Option<Duration>>,
    /// What its KafkaMirrorMaker2 says.
    pub mirroring: Mirroring,
}

/// The mirror of one site: it copies from the other site to this one.
#[derive(Debug)]
pub struct Mirror {
    object: Object,
    http: reqwest::Client,
    url: String,
    groups: Vec<String>,
    policy: MirrorPolicy,
    source: String,
    deadline: Duration,
    track: Mutex<Track>,
}

impl Mirror {
    /// The mirror of the site whose API server `client` leads to. `source` is the path of the store's field, such as
    /// `spec.stores[events].kafkaMirror`. It remembers what it has seen: keep it from look to look.
    pub fn new(spec: &Spec, client: Client, source: &str) -> Self {
        let (namespace, name) = spec.connect();
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        Self {
            object: Object::new(client, &strimzi::kind(), strimzi::PLURAL, namespace, name),
            http: http.build().unwrap_or_default(),
            url: spec.metrics.url.clone(),
            groups: spec.groups.clone().unwrap_or_default(),
            policy: spec.policy.unwrap_or_default(),
            source: source.to_owned(),
            deadline: DEADLINE,
            track: Mutex::default(),
        }
    }

    /// With another deadline for each call.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { object: self.object.with_deadline(deadline), deadline, ..self }
    }

    /// All that can be known without changing anything. Two looks at least are needed to see it copy.
    ///
    /// # Errors
    /// If the object cannot be read. A page that cannot be read is a flow that is not known.
    pub async fn read(&self, now: Timestamp) -> Result<MirrorReading, StoreError> {
        let (object, page) = tokio::join!(self.object.read(), self.page());
        let mirroring = Mirroring::of(&object?, self.policy, &self.groups, &self.source);
        let flow = match &page {
            Ok(page) => lock(&self.track).look(page, mirroring.source.as_deref(), now),
            Err(error) => Flow::Unknown(format!("{} cannot be read: {error}", self.url)),
        };
        let page = page.unwrap_or_default();
        let offsets = self.groups.iter().map(|group| {
            let latency = page.checkpoints.get(group).copied().flatten();
            (group.clone(), latency.filter(|_| matches!(flow, Flow::Moves(_))))
        });
        let offsets = offsets.collect();
        Ok(MirrorReading { measured_at: now, flow, offsets, mirroring })
    }

    async fn page(&self) -> Result<page::Page, RemoteError> {
        let read = async {
            let text = whole(self.http.get(&self.url), MOST_BYTES).await?.good()?;
            let text =
                String::from_utf8(text).map_err(|_| RemoteError::Unreadable("it is no text".to_owned()))?;
            page::read(&text).map_err(|error| RemoteError::Unreadable(error.to_string()))
        };
        within(self.deadline, read).await
    }

    /// Lets the copying to this site on, or stops it, and tells what the object says then. It has stopped once
    /// [`Mirroring::is_frozen`]: Strimzi has the connector do so, and tells it, when it looks at the object again.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if a greater ballot has written; if the object cannot be read or written, or has not one mirror.
    pub async fn steer(&self, asked: Ballot, copies: bool) -> Result<Mirroring, StoreError> {
        let mut object = self.object.read().await?;
        let known = ballot(&object)?;
        if let Some(known) = known.filter(|known| *known > asked) {
            return Err(StoreError::Refused { asked, known });
        }
        let mut changes = strimzi::steered(&object, copies).map_err(|mut problem| {
            problem.source.clone_from(&self.source);
            StoreError::from(problem)
        })?;
        if known != Some(asked) {
            changes.extend(annotated(&object, &[(BALLOT_ANNOTATION, Some(&asked.to_string()))]));
        }
        if !changes.is_empty() {
            object = self.object.change(&object, changes).await?;
        }
        Ok(Mirroring::of(&object, self.policy, &self.groups, &self.source))
    }
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
