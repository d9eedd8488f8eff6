//! Follows the Failovers of this site.

use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::index::{Index, Known};
use crate::api::Failover;
use crate::runtime::context::Context;
use crate::runtime::follow::{Change, follow_kind};
use crate::runtime::key::{Key, key_of};
use crate::runtime::lock::lock;
use crate::runtime::queue::{Lane, Queue};
use crate::runtime::raw_object::RawObject;

/// Follows them for ever; says when all were read once.
pub async fn follow(
    context: Context,
    index: Arc<Mutex<Index>>,
    queue: Queue<Key>,
    first: oneshot::Sender<()>,
) {
    let on = |change| match change {
        Change::Is(RawObject(object)) => {
            let key = key_of(&object.metadata);
            if lock(&index).put(&key.name, Known::read(object)) {
                queue.add(key, Lane::Urgent);
            }
        }
        Change::Gone(object) => {
            let key = key_of(&object.0.metadata);
            lock(&index).gone(&key.name);
            queue.add(key, Lane::Normal);
        }
        Change::Relisted(seen) => lock(&index).only(&seen),
    };
    let namespace = Some(&*context.namespace);
    follow_kind::<Failover>(&context.client, namespace, &context.permits, "failovers", first, on).await;
}
