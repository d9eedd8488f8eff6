//! Which replica acts: a leader election on one `coordination.k8s.io/v1` Lease.
//!
//! Nobody's wall clock is trusted. A standby judges a claim expired when *it* has seen no change of the Lease for
//! the claim's duration, on its own monotonic clock; `renewTime` is written for people to read and never read
//! here. The leader counts from the moment *before* it sent its last successful renewal, and stops acting
//! [`Timing::act_for`] after that, well before anybody else may claim. Every write carries the
//! `resourceVersion` that it was decided on, so of two who claim at once the API server refuses one.
//!
//! A standby watches the Lease instead of asking again and again: a claim that is given back (SIGTERM) is taken
//! over at once, one that is not (a kill) after [`Timing::duration`].

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;

use super::lease_store::{Claim, Lease, Store, StoreError};
use tokio_util::sync::CancellationToken;

/// The times of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a claim lasts that is not renewed: what a standby waits after a kill.
    pub duration: Duration,
    /// How often the leader renews. The one request of an idle operator.
    pub renew_every: Duration,
    /// How long after the sending of its last successful renewal the leader may act. What remains up to
    /// `duration` is for requests on their way.
    pub act_for: Duration,
    /// How long one request may take. Longer than an API server under load needs: a renewal that is given up too
    /// early is worse than one that comes late.
    pub request: Duration,
    /// The pause after a request that failed.
    pub retry_every: Duration,
}

impl Default for Timing {
    /// 13 s, renewed every 2.5 s, acting for 10 s: answers may take over two seconds each, or fail to come for six,
    /// and a standby still takes over within 15 s of a kill; at 24 requests a minute.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(13),
            renew_every: Duration::from_millis(2500),
            act_for: Duration::from_secs(10),
            request: Duration::from_millis(2500),
            retry_every: Duration::from_millis(500),
        }
    }
}

/// The longest claim of somebody else that is waited for, whatever the Lease says: a slip in a Lease edited by
/// hand must not keep everybody out for a day.
const LONGEST_CLAIM: Duration = Duration::from_secs(60);

/// What a replica does next. See [`decide`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write our claim.
    Claim,
    /// Somebody else's claim stands; look again at that time, or when the Lease changes.
    Wait(Instant),
}

/// A Lease (or that there is none) and when this process first saw it as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    lease: Option<Lease>,
    since: Instant,
}

impl Observed {
    /// What was read at `now`. If it is what was known before, the earlier time stands: only a change counts.
    pub fn next(before: Option<Self>, lease: Option<Lease>, now: Instant) -> Self {
        match before {
            Some(before) if before.lease == lease => before,
            _ => Self { lease, since: now },
        }
    }
}

/// Whether a standby may claim: at once if the Lease is missing or given back, else when it has not changed under
/// our eyes for the longer of our duration and its own.
pub fn decide(observed: &Observed, timing: &Timing, now: Instant) -> Step {
    let Some(claim) = observed.lease.as_ref().and_then(|lease| lease.claim.as_ref()) else {
        return Step::Claim;
    };
    let expires = observed.since + claim.duration.min(LONGEST_CLAIM).max(timing.duration);
    if now >= expires { Step::Claim } else { Step::Wait(expires) }
}

/// Tells whether this replica leads. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Leadership {
    until: watch::Receiver<Option<Instant>>,
}

impl Leadership {
    /// Whether this replica may act now. False as soon as the claim was not renewed in time, even if the election
    /// itself hangs. Ask before each act.
    pub fn is_leader(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Returns when this replica leads; never, if the election has ended without.
    pub async fn acquired(&self) {
        let mut until = self.until.clone();
        if until.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A leadership that is never lost, for commands and tests that run alone.
    pub fn always() -> Self {
        let far = Instant::now() + Duration::from_secs(86_400 * 365 * 30);
        Self { until: watch::channel(Some(far)).1 }
    }

    /// A leadership that never comes, for tests.
    #[cfg(test)]
    pub(crate) fn never() -> Self {
        Self { until: watch::channel(None).1 }
    }
}

/// How an election ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// It was asked to end; a claim of ours was given back.
    #[error("the leader Lease was given back")]
    Released,
    /// It was asked to end, and the claim could not be given back: it expires by itself.
    #[error("the leader Lease could not be given back and expires by itself: {0}")]
    NotReleased(String),
    /// We led, and do not any more.
    #[error("lost the leader Lease: {0}")]
    Lost(String),
}

/// One replica's part in the election.
pub struct Election<S> {
    store: S,
    timing: Timing,
    identity: String,
    until: watch::Sender<Option<Instant>>,
    beat: Arc<watch::Sender<Instant>>,
}

impl<S: Store> Election<S> {
    /// An election in which this replica is called `identity`, which must differ between any two processes that
    /// ever run: see [`unique_identity`].
    pub fn new(store: S, identity: String, timing: Timing) -> (Self, Leadership) {
        let (until, receiver) = watch::channel(None);
        let beat = Arc::new(watch::channel(Instant::now()).0);
        (Self { store, timing, identity, until, beat }, Leadership { until: receiver })
    }

    /// When this election last did something. It does at least every [`Timing::duration`]; one that is silent for
    /// longer hangs.
    pub fn heartbeat(&self) -> watch::Receiver<Instant> {
        self.beat.subscribe()
    }

    /// Takes part until `release` is triggered, then gives the Lease back; or until leadership is lost, which the
    /// process should not survive. Errors of the API server are logged and tried again. No write is left on its
    /// way: what was sent is waited for.
    pub async fn run(self, release: CancellationToken) -> Ended {
        let Some(mut lease) = self.stand_by(&release).await else {
            return Ended::Released;
        };
        tracing::info!(identity = self.identity, "leading");
        let ended = match self.lead(&mut lease, &release).await {
            Some(why) => Ended::Lost(why),
            None => {
                // Whoever triggers the release has ended the work before; from here on nobody may act.
                self.until.send_replace(None);
                self.give_back(lease).await
            }
        };
        self.until.send_replace(None);
        ended
    }

    /// Waits for our turn and claims; returns the Lease as we wrote it, or `None` when released before.
    async fn stand_by(&self, release: &CancellationToken) -> Option<Lease> {
        let mut changes = pin!(self.store.changes().fuse());
        let mut observed: Option<Observed> = None;
        while !release.is_cancelled() {
            let now = Instant::now();
            self.beat.send_replace(now);
            let Some(known) = &observed else {
                observed = self.look(None).await;
                if observed.is_none() {
                    self.pause(release).await;
                }
                continue;
            };
            if let Step::Wait(until) = decide(known, &self.timing, now) {
                // The stream's end or silence is no harm: a claim on what has changed since is refused.
                tokio::select! {
                    Some(lease) = changes.next() => {
                        observed = Some(Observed::next(observed, lease, Instant::now()));
                    }
                    () = tokio::time::sleep_until(until.min(now + self.timing.duration)) => {}
                    () = release.cancelled() => {}
                }
                continue;
            }
            let sent = Instant::now();
            match self.within(self.store.write(known.lease.as_ref(), Some(self.claim()))).await {
                Ok(lease) => {
                    self.until.send_replace(Some(sent + self.timing.act_for));
                    return Some(lease);
                }
                Err(StoreError::Conflict) => observed = self.look(observed).await,
                Err(StoreError::Failed(why)) => {
                    tracing::warn!(why, "cannot claim the leader Lease");
                    self.pause(release).await;
                    observed = self.look(observed).await;
                }
            }
        }
        None
    }

    /// Renews `lease` until that was not possible in time, or somebody else has it, and returns why; or until
    /// released, and returns `None`.
    async fn lead(&self, lease: &mut Lease, release: &CancellationToken) -> Option<String> {
        let mut pause = self.timing.renew_every;
        loop {
            self.beat.send_replace(Instant::now());
            let until = (*self.until.borrow()).unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = release.cancelled() => return None,
                () = tokio::time::sleep_until(until) => {
                    return Some(format!("it could not be renewed for {:?}", self.timing.act_for));
                }
                () = tokio::time::sleep(pause) => {}
            }
            let sent = Instant::now();
            match self.within(self.store.write(Some(lease), Some(self.claim()))).await {
                Ok(written) => {
                    *lease = written;
                    self.until.send_replace(Some(sent + self.timing.act_for));
                    pause = self.timing.renew_every;
                    continue;
                }
                Err(StoreError::Conflict) => {}
                Err(StoreError::Failed(why)) => {
                    // Not read first: what is too busy for one request has no time for two. If the answer alone was
                    // lost, the next renewal is refused, and says so.
                    tracing::warn!(why, "cannot renew the leader Lease");
                    pause = self.timing.retry_every;
                    continue;
                }
            }
            // A renewal whose answer was lost, or an edit by hand, leaves the Lease ours under a newer version.
            pause = match self.still_ours(lease).await {
                Ok(true) => Duration::ZERO,
                Ok(false) => self.timing.retry_every,
                Err(why) => return Some(why),
            };
        }
    }

    /// Reads the Lease into `lease` if its claim is ours under another version: whether it was. An error says
    /// who else has it.
    async fn still_ours(&self, lease: &mut Lease) -> Result<bool, String> {
        match self.within(self.store.read()).await {
            Ok(Some(found)) => match &found.claim {
                Some(claim) if claim.holder == self.identity => {
                    let newer = found.version != lease.version;
                    *lease = found;
                    Ok(newer)
                }
                Some(claim) => Err(format!("{} has it now", claim.holder)),
                None => Err("somebody gave it back in our name".into()),
            },
            Ok(None) => Err("somebody deleted it".into()),
            Err(error) => {
                tracing::warn!(%error, "cannot read the leader Lease");
                Ok(false)
            }
        }
    }

    async fn give_back(&self, mut lease: Lease) -> Ended {
        match self.within(self.store.write(Some(&lease), None)).await {
            Ok(_) => return Ended::Released,
            Err(StoreError::Failed(why)) => return Ended::NotReleased(why),
            Err(StoreError::Conflict) => {}
        }
        match self.still_ours(&mut lease).await {
            Ok(_) => match self.within(self.store.write(Some(&lease), None)).await {
                Ok(_) => Ended::Released,
                Err(error) => Ended::NotReleased(error.to_string()),
            },
            Err(why) => Ended::NotReleased(why),
        }
    }

    async fn pause(&self, release: &CancellationToken) {
        tokio::select! {
            () = tokio::time::sleep(self.timing.retry_every) => {}
            () = release.cancelled() => {}
        }
    }

    async fn look(&self, before: Option<Observed>) -> Option<Observed> {
        match self.within(self.store.read()).await {
            Ok(lease) => Some(Observed::next(before, lease, Instant::now())),
            Err(error) => {
                tracing::warn!(%error, "cannot read the leader Lease");
                before
            }
        }
    }

    fn claim(&self) -> Claim {
        Claim { holder: self.identity.clone(), duration: self.timing.duration }
    }

    async fn within<T>(&self, request: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        tokio::time::timeout(self.timing.request, request).await.unwrap_or_else(|_| {
            Err(StoreError::Failed(format!("no answer of the API server within {:?}", self.timing.request)))
        })
    }
}

/// `name` with a suffix of this process alone. A container that is restarted in place keeps its pod's name, and
/// must wait for the claim of its former self like anybody else: it cannot know that nothing of that is left.
pub fn unique_identity(name: &str) -> String {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    format!("{name}_{:016x}", hasher.finish())
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
