//! A destination at work: gathers, sends, tries again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pending::{Pending, Told};
use super::send::{NotSent, Sender};
use super::settings::DestinationSettings;
use crate::runtime::lock::lock;
use crate::runtime::metrics::Metrics;
use crate::runtime::queue::backoff;

/// How fast it is told.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long is gathered after the first transition: what has one cause comes within seconds.
    pub gather: Duration,
    /// How long from one message to the next: Slack takes one a second for a short time, and people fewer.
    pub apart: Duration,
    /// How old what could not be sent may be: later it is no news any more.
    pub oldest: SignedDuration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            gather: Duration::from_secs(5),
            apart: Duration::from_secs(30),
            oldest: SignedDuration::from_hours(1),
        }
    }
}

/// A destination, and what it is to be told.
pub struct Destination {
    sender: Sender,
    pending: Mutex<Pending>,
    told: Notify,
    metrics: Metrics,
    pace: Pace,
}

impl Destination {
    /// One that nothing was told yet.
    pub fn new(sender: Sender, metrics: Metrics, pace: Pace) -> Self {
        metrics.notified(&sender.settings().name, "sent", 0);
        metrics.notified(&sender.settings().name, "dropped", 0);
        metrics.notification_failures(&sender.settings().name, 0);
        Self { sender, pending: Mutex::default(), told: Notify::new(), metrics, pace }
    }

    /// What it is.
    pub fn settings(&self) -> &DestinationSettings {
        self.sender.settings()
    }

    /// Takes in what it is to be told, and returns at once.
    pub fn tell(&self, told: Told) {
        lock(&self.pending).add(told);
        self.told.notify_one();
    }

    /// Tells what there is, until `finished`; then what is left, once.
    pub async fn run(self: Arc<Self>, finished: CancellationToken) {
        let mut next = Instant::now();
        let mut failures = 0;
        loop {
            while lock(&self.pending).is_empty() {
                tokio::select! {
                    () = self.told.notified() => {}
                    () = finished.cancelled() => return,
                }
            }
            let due = next.max(Instant::now() + self.pace.gather);
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = finished.cancelled() => {}
            }
            let batch = std::mem::take(&mut *lock(&self.pending));
            next = Instant::now() + self.pace.apart;
            match self.sender.tell(&batch).await {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!(destination = self.name(), failures, "notifications are taken again");
                    }
                    failures = 0;
                    self.metrics.notified(self.name(), "sent", batch.count());
                }
                Err(error) => {
                    failures += 1;
                    next = Instant::now() + error.wait().unwrap_or_default().max(backoff(failures));
                    self.failed(batch, &error, failures, finished.is_cancelled());
                }
            }
        }
    }

    /// Keeps what was not taken for the next time, or gives it up.
    fn failed(&self, mut batch: Pending, error: &NotSent, failures: u32, is_last: bool) {
        let destination = self.name();
        self.metrics.notification_failures(destination, 1);
        let age = batch.since().map(|since| Timestamp::now().duration_since(since)).unwrap_or_default();
        if error.is_final() || is_last || age > self.pace.oldest {
            let lost = batch.count();
            self.metrics.notified(destination, "dropped", lost);
            tracing::warn!(destination, %error, lost, "notifications are given up");
            return;
        }
        if failures == 1 {
            tracing::warn!(destination, %error, "notifications are not taken; they are sent again");
        }
        let mut pending = lock(&self.pending);
        batch.then(std::mem::take(&mut *pending));
        *pending = batch;
    }

    fn name(&self) -> &str {
        &self.settings().name
    }
}
