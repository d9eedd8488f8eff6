//! How long the oldest key of each queue has waited, for `/metrics`. It is worked out when somebody scrapes, and costs
//! nothing otherwise.

use std::collections::BTreeMap;
use std::fmt::{Debug, Error, Formatter};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::lock::lock;

type Read = Box<dyn Fn() -> Duration + Send>;

/// Where the ages are read from, by resource. Cloning gives another handle of the same.
#[derive(Clone, Default)]
pub struct QueueAges(Arc<Mutex<BTreeMap<&'static str, Read>>>);

impl Debug for QueueAges {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        out.write_str("QueueAges")
    }
}

impl QueueAges {
    /// Reads that of the queue of a resource from there.
    pub fn read_from(&self, resource: &'static str, read: impl Fn() -> Duration + Send + 'static) {
        lock(&self.0).insert(resource, Box::new(read));
    }
}

impl Collector for QueueAges {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let all = lock(&self.0);
        if all.is_empty() {
            return Ok(());
        }
        let help = "How long the oldest object has waited for a worker or been at work, by resource; 0 where none does";
        let mut metric =
            encoder.encode_descriptor("banyan_queue_oldest_seconds", help, None, MetricType::Gauge)?;
        for (resource, read) in all.iter() {
            metric.encode_family(&[("resource", *resource)])?.encode_gauge(&read().as_secs_f64())?;
        }
        Ok(())
    }
}
