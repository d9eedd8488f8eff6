//! Puts on record what a move does. A record that cannot be written holds no move up: what is missing stands in the status of
//! the Failover until it can.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::index::is_over;
use super::record::entry::{follow, ordered};
use super::record::line::Of;
use super::record::outbox::{delivered, put};
use super::record::write::{NotWritten, deliver};
use super::worker::Move;
use crate::api::FailoverStatus;
use crate::api::conditions::short;
use crate::api::notice::Reason;

/// For how long a Failover that was deleted is kept for what is not on record yet: a namespace that is being deleted takes
/// nothing new, and must not wait for it for ever.
const KEPT_FOR: SignedDuration = SignedDuration::from_mins(5);

impl Move<'_> {
    /// The status that is about to be written, with the entries that tell of what is new in it.
    pub(super) fn on_record(&self, now: Timestamp) -> FailoverStatus {
        let mut status = self.status.clone();
        let mut events = self.told.clone();
        let old = self.failover.status.clone().unwrap_or_default();
        events.extend(follow(&self.failover, &old, &status));
        if !events.is_empty() {
            let record = status.record.get_or_insert_default();
            if record.made == 0 {
                events.insert(0, ordered(&self.failover));
            }
            put(record, &events, now);
        }
        status
    }

    /// Adds to the record what waits for that in the status that stands. Returns whether nothing waits any more.
    pub(super) async fn deliver(&mut self) -> Result<bool, kube::Error> {
        let stands = self.failover.status.clone().unwrap_or_default();
        let Some(pending) = stands.record.as_ref().map(|record| record.pending.clone()) else {
            return Ok(true);
        };
        if pending.is_empty() {
            return Ok(true);
        }
        let context = &self.worker.context;
        let (name, uid) = (self.failover.name_any(), self.failover.uid().unwrap_or_default());
        let group = self.failover.spec.group.clone();
        let of = Of { group: &group, site: &context.site, failover: &name, uid: &uid };
        let done = deliver(context, &of, &pending).await;
        // What was not written of the status is decided, or heard, anew.
        (self.status, self.told) = (stands, Vec::new());
        let record = self.status.record.get_or_insert_default();
        match done {
            Ok(last) => delivered(record, pending.len(), last.entries, &last.head, Timestamp::now()),
            Err(NotWritten::Again) => return Ok(false),
            Err(error) => {
                tracing::warn!(failover = %self.key, %error, "what it did is not on record yet");
                record.error = Some(short(error.to_string()));
            }
        }
        let rests = record.pending.is_empty();
        let said = record.entries.zip(record.head.clone()).filter(|_| record.error.is_none());
        if !self.write().await? {
            return Ok(false);
        }
        if let Some((entries, head)) = said {
            let note = format!(
                "the record of {group} has {entries} entries, and the hash of the last one is {head}: keep it, and \
                 `banyan audit verify --head {head}` finds whether entries were cut off later"
            );
            self.tell(Reason::Recorded, &note);
        }
        Ok(rests)
    }

    /// Lets a Failover go that was deleted and is over.
    pub(super) async fn let_go(&mut self, recorded: bool) -> Result<(), kube::Error> {
        let Some(deleted) = self.failover.metadata.deletion_timestamp.as_ref().map(|time| time.0) else {
            return Ok(());
        };
        let kept = Timestamp::now().duration_since(deleted) < KEPT_FOR;
        if !is_over(&self.failover) || (!recorded && kept) {
            return Ok(());
        }
        if !recorded {
            tracing::error!(failover = %self.key, "it is gone, and the last that it did is not on record");
        }
        self.finalize(false).await
    }
}
