//! What is asked of a witness. Every call has a deadline, and none is repeated by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};

use super::connect::Way;
use super::decision::{Decision, MOST_BYTES};
use super::wire::asked;
use crate::runtime::lock::lock;
use crate::runtime::remote::{DEADLINE, RemoteError, within};

/// Most decisions of one group. A group that moves every day of three years has so many.
const MOST_DECISIONS: usize = 1000;
/// So many decisions are read at once.
const AT_ONCE: usize = 8;
/// How long reading all of them may take: several calls.
const ALL: Duration = Duration::from_secs(30);
/// How often it is tried whether the witness can be written.
const PROBED: SignedDuration = SignedDuration::from_hours(1);
/// How soon that is tried again after it failed.
const PROBED_AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// What came of creating a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation {
    /// It stands, and is ours.
    Created,
    /// Another one stood there before, and stands.
    Exists(Decision),
}

/// Why a witness cannot be relied on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// What was decided cannot be read.
    #[error("the witness cannot be read: {0}")]
    NotReadable(RemoteError),
    /// Nothing can be decided there.
    #[error("the witness cannot be written: {0}")]
    NotWritable(RemoteError),
    /// A write that must not change what stands changed it, so that two could each believe to be first.
    #[error("the store writes over what stands, although it is told to write only where nothing stands")]
    NoConditions,
}

impl Unfit {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoConditions => {
                "use a store that knows conditional writes (If-None-Match), such as S3, R2, Google Cloud Storage or Azure"
            }
            Self::NotReadable(error) | Self::NotWritable(error) => match error {
                RemoteError::Unauthorized => {
                    "renew the keys in the Secret that spec.witness.objectStore.credentials names; without one, let the identity of the operator's service account (its role, pool or application) trust this cluster's tokens"
                }
                RemoteError::Forbidden => {
                    "let the credentials, or without a Secret the identity of the operator's service account, list, read and write below the prefix of spec.witness.objectStore.url"
                }
                RemoteError::NotFound | RemoteError::Refused { .. } => {
                    "compare url, region and endpoint of spec.witness.objectStore with the bucket"
                }
                RemoteError::Busy { .. } => "wait; if it stays so, raise the limits of the bucket",
                _ => {
                    "see whether the store is up, and whether the operator's pod may reach it (DNS, NetworkPolicy, egress)"
                }
            },
        }
    }
}

/// What lies under `probe/<site>`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Probe {
    site: String,
    at: Timestamp,
}

/// The witness of one group.
pub struct Witness {
    way: Way,
    group: String,
    deadline: Duration,
    /// Decisions that were read, each with the mark of the object that held it: what stands is never changed, so each is
    /// read once.
    known: Mutex<BTreeMap<i64, (Option<String>, Decision)>>,
    /// When writing was last tried, and what came of it.
    probed: Mutex<Option<(Timestamp, Result<Timestamp, Unfit>)>>,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("group", &self.group).finish_non_exhaustive()
    }
}

impl Witness {
    /// The witness of `group`, where [`super::connect`] leads.
    pub fn new(way: Way, group: impl Into<String>) -> Self {
        let (known, probed) = (Mutex::default(), Mutex::default());
        Self { way, group: group.into(), deadline: DEADLINE, known, probed }
    }

    /// With another deadline than [`DEADLINE`] for each call.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// What followed which epoch, in the order of the epochs that were followed.
    ///
    /// # Errors
    /// If not all of it could be read, within half a minute.
    pub async fn list(&self) -> Result<BTreeMap<i64, Decision>, RemoteError> {
        within(ALL, async {
            let names = self.names().await?;
            let read = stream::iter(names).map(|(follows, mark)| async move {
                let kept = lock(&self.known).get(&follows).cloned();
                if let Some((known, decision)) = kept
                    && mark.is_some()
                    && known == mark
                {
                    return Ok::<_, RemoteError>(Some((follows, decision)));
                }
                // One that is gone meanwhile was deleted by hand.
                Ok(self.after(follows).await?.map(|decision| (follows, decision)))
            });
            let read: Vec<Option<(i64, Decision)>> = read.buffer_unordered(AT_ONCE).try_collect().await?;
            Ok(read.into_iter().flatten().collect())
        })
        .await
    }

    /// Which epochs were followed, and the marks of the objects that say so.
    async fn names(&self) -> Result<BTreeMap<i64, Option<String>>, RemoteError> {
        self.is_there().await?;
        let folder = self.path("after");
        let objects = async {
            let objects = self.way.store.list(Some(&folder)).take(MOST_DECISIONS + 1);
            objects.try_collect::<Vec<_>>().await
        };
        let objects = asked(self.deadline, objects).await?;
        if objects.len() > MOST_DECISIONS {
            let words = format!("more than {MOST_DECISIONS} objects lie under after/");
            return Err(RemoteError::Unreadable(words));
        }
        // What else somebody put there is no decision, and none is looked for under such a name.
        let follows = |object: &object_store::ObjectMeta| {
            let mut parts = object.location.prefix_match(&folder)?;
            let (name, rest) = (parts.next()?, parts.next());
            let follows: i64 = name.as_ref().parse().ok()?;
            (rest.is_none() && follows >= 0 && follows.to_string() == name.as_ref()).then_some(follows)
        };
        Ok(objects.iter().filter_map(|object| Some((follows(object)?, object.e_tag.clone()))).collect())
    }

    /// What followed an epoch; `None` if nothing has followed it here.
    ///
    /// # Errors
    /// If that is not known.
    pub async fn after(&self, follows: i64) -> Result<Option<Decision>, RemoteError> {
        let path = self.path("after").join(follows.to_string());
        let Some((mark, text)) = self.read(&path).await? else { return Ok(None) };
        let decision = Decision::decode(&self.group, follows, &text).map_err(RemoteError::Unreadable)?;
        lock(&self.known).insert(follows, (mark, decision.clone()));
        Ok(Some(decision))
    }

    /// Makes `decision` what follows an epoch, if nothing has followed it yet. It may be asked for again at any time:
    /// whoever made a decision and asks for the same one has made it.
    ///
    /// # Errors
    /// If it is not known what stands there now. It may then stand later all the same: ask again before anything else
    /// is done.
    pub async fn create(&self, follows: i64, decision: &Decision) -> Result<Creation, RemoteError> {
        debug_assert!(decision.epoch > follows, "a successor is greater");
        let path = self.path("after").join(follows.to_string());
        let text = decision.encode(&self.group, follows);
        let asked = self.write(&path, text, PutMode::Create).await;
        let error = match asked {
            Ok(()) => return Ok(Creation::Created),
            Err(error) if error.may_be_done() || matches!(error, RemoteError::Conflict(_)) => error,
            Err(error) => return Err(error),
        };
        // Either something stood there, or the answer was lost: what stands now says which.
        match self.after(follows).await {
            Ok(Some(stands)) if stands == *decision => Ok(Creation::Created),
            Ok(Some(stands)) => Ok(Creation::Exists(stands)),
            // Why it could not be made, unless reading says more: what stands is not ours to understand.
            Err(unreadable @ RemoteError::Unreadable(_)) => Err(unreadable),
            Ok(None) | Err(_) => Err(error),
        }
    }

    /// Whether the witness can be read and written, and refuses to write over what stands. It is read each time; it is
    /// written once an hour, over `probe/<site>`, and a minute after that failed. Answers when it was last written.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn health(&self, site: &str, now: Timestamp) -> Result<Timestamp, Unfit> {
        self.names().await.map_err(Unfit::NotReadable)?;
        let recent = |at: Timestamp, every: SignedDuration| {
            let age = now.duration_since(at);
            !age.is_negative() && age < every
        };
        let last = lock(&self.probed).clone();
        match last {
            Some((_, Ok(at))) if recent(at, PROBED) => return Ok(at),
            Some((at, Err(unfit))) if recent(at, PROBED_AGAIN) => return Err(unfit),
            // A process that has just begun asks what the one before it has found.
            None => {
                let stands = self.read(&self.probe(site)).await.map_err(Unfit::NotReadable)?;
                let stands = stands.and_then(|(_, text)| serde_json::from_slice::<Probe>(&text).ok());
                if let Some(probe) = stands.filter(|probe| probe.site == site && recent(probe.at, PROBED)) {
                    *lock(&self.probed) = Some((now, Ok(probe.at)));
                    return Ok(probe.at);
                }
            }
            Some(_) => {}
        }
        let tried = self.try_to_write(site, now).await.map(|()| now);
        *lock(&self.probed) = Some((now, tried.clone()));
        tried
    }

    async fn try_to_write(&self, site: &str, now: Timestamp) -> Result<(), Unfit> {
        let path = self.probe(site);
        let probe = Probe { site: site.to_owned(), at: now };
        let text = serde_json::to_vec(&probe).expect("a name and a time are JSON");
        if let Err(error) = self.write(&path, text.clone(), PutMode::Overwrite).await {
            let stands = match error.may_be_done() {
                true => self.read(&path).await.ok().flatten().is_some_and(|(_, stands)| stands == text),
                false => false,
            };
            if !stands {
                return Err(Unfit::NotWritable(error));
            }
        }
        match self.write(&path, text, PutMode::Create).await {
            Ok(()) => Err(Unfit::NoConditions),
            Err(RemoteError::Conflict(_)) => Ok(()),
            Err(error) => Err(Unfit::NotWritable(error)),
        }
    }

    fn probe(&self, site: &str) -> Path {
        self.path("probe").join(site)
    }

    fn path(&self, folder: &str) -> Path {
        self.way.prefix.clone().join(folder)
    }

    /// A folder that is not mounted says nothing about what was decided.
    async fn is_there(&self) -> Result<(), RemoteError> {
        let Some(folder) = &self.way.folder else { return Ok(()) };
        let there = async { Ok(tokio::fs::metadata(folder).await.is_ok_and(|found| found.is_dir())) };
        match within(self.deadline, there).await? {
            true => Ok(()),
            false => Err(RemoteError::Unreachable("the folder is not there: mount its volume".to_owned())),
        }
    }

    /// An object and its mark, if it is there.
    async fn read(&self, path: &Path) -> Result<Option<(Option<String>, Vec<u8>)>, RemoteError> {
        self.is_there().await?;
        let get = async {
            let found = self.way.store.get(path).await?;
            let mark = found.meta.e_tag.clone();
            match found.meta.size > MOST_BYTES {
                true => Ok(None),
                false => Ok(Some((mark, found.bytes().await?.to_vec()))),
            }
        };
        match asked(self.deadline, get).await {
            Ok(Some(found)) => Ok(Some(found)),
            Ok(None) => Err(RemoteError::Unreadable(format!("{path} is longer than {MOST_BYTES} bytes"))),
            Err(RemoteError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, path: &Path, text: Vec<u8>, mode: PutMode) -> Result<(), RemoteError> {
        self.is_there().await?;
        let put = self.way.store.put_opts(path, text.into(), PutOptions { mode, ..PutOptions::default() });
        asked(self.deadline, put).await.map(|_| ())
    }
}

#[cfg(test)]
#[path = "moto_tests.rs"]
mod moto_tests;
#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
