//! Notifications: transitions that are told to people elsewhere, in Slack or at any webhook.
//!
//! They come from where Events come from, and so from the leader alone. Each destination gathers what it is to be told in
//! groups of bounded size and sends it by a task of its own, so that one that is silent holds up neither reconciles nor the
//! others, and many services that fail at once make a few messages. Destinations are the platform's setting: no tenant
//! names one.
//!
//! | module | what it is for |
//! |---|---|
//! | [`settings`] | destinations, and what each one is told; pure |
//! | [`pending`] | what is to be told, in groups; pure |
//! | [`message`] | the bodies: Slack's blocks, and JSON; pure |
//! | [`send`] | one message over HTTP |
//! | [`destination`] | a destination at work |

mod destination;
mod message;
mod pending;
pub mod send;
pub mod settings;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::destination::{Destination, Pace};
use self::pending::Told;
use self::send::NoClient;
use self::settings::Settings;
use crate::runtime::events::Ear;
use crate::runtime::metrics::Metrics;

/// How long the last messages may take, when the process ends.
const LAST: Duration = Duration::from_secs(3);

/// All destinations at work.
pub struct Notifications {
    destinations: Arc<[Arc<Destination>]>,
    tasks: JoinSet<()>,
    finished: CancellationToken,
}

impl Notifications {
    /// Begins to tell destinations of a site, on the runtime of the caller.
    ///
    /// # Errors
    /// If there is no way to speak HTTP.
    pub fn start(settings: &Settings, site: &str, metrics: &Metrics) -> Result<Self, NoClient> {
        Self::at_pace(settings, site, metrics, Pace::default())
    }

    fn at_pace(settings: &Settings, site: &str, metrics: &Metrics, pace: Pace) -> Result<Self, NoClient> {
        let (finished, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let mut destinations = Vec::new();
        for settings in settings.all() {
            let sender = send::Sender::new(settings.clone(), site)?;
            let destination = Arc::new(Destination::new(sender, metrics.clone(), pace));
            tasks.spawn(Arc::clone(&destination).run(finished.clone()));
            destinations.push(destination);
        }
        Ok(Self { destinations: destinations.into(), tasks, finished })
    }

    /// Who is told of each transition. It never waits.
    pub fn ear(&self) -> Ear {
        let destinations = Arc::clone(&self.destinations);
        Arc::new(move |about: &ObjectReference, reason, note: &str| {
            let word = |part: &Option<String>| part.clone().unwrap_or_default();
            for destination in destinations.iter().filter(|one| one.settings().wants(about, reason)) {
                destination.tell(Told {
                    kind: word(&about.kind),
                    namespace: word(&about.namespace),
                    name: word(&about.name),
                    reason,
                    note: note.to_owned(),
                    at: Timestamp::now(),
                });
            }
        })
    }

    /// Sends what is left, for a few seconds at the most.
    pub async fn finish(mut self) {
        self.finished.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST, all).await.is_err() {
            tracing::warn!("the last notifications were not sent within {LAST:?}, and are lost");
        }
    }
}
