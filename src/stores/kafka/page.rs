//! What MirrorMaker 2 tells of itself, as Strimzi's exporter writes it. Pure.
//!
//! What is no number (NaN), or less than zero, is not known: it is never zero.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::runtime::exposition::{Malformed, Sample, visit};

/// Counters of what was copied, by topic and partition.
const SOURCE: &str = "kafka_connect_mirror_mirrorsourceconnector_";
/// How old copied offsets are, by consumer group.
const CHECKPOINT: &str = "kafka_connect_mirror_mirrorcheckpointconnector_checkpoint_latency_ms";
/// What each task of a connector does.
const STATUS: &str = "kafka_connect_connector_status";
/// How the connector that copies is called, after the names of both clusters.
const SOURCE_CONNECTOR: &str = "MirrorSourceConnector";

/// A partition that is copied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    /// The alias of the cluster that it comes from.
    pub source: String,
    /// The topic.
    pub topic: String,
    /// Its number.
    pub partition: String,
}

/// What is known of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many records were copied since its task began.
    pub records: Option<u64>,
    /// How old the last one was when it was copied. It stands still when nothing is copied.
    pub age: Option<Duration>,
}

/// One reading of the page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// What is copied.
    pub partitions: BTreeMap<Partition, Counts>,
    /// How old the offsets of each consumer group were when they were copied last; `None` where that is no number.
    pub checkpoints: BTreeMap<String, Option<Duration>>,
    /// Tasks that copy and do not run: which, and what they do instead.
    pub not_running: Vec<String>,
}

/// Reads a page.
///
/// # Errors
/// If a line of it that is asked for is no metric, or its end is missing.
pub fn read(text: &str) -> Result<Page, Malformed> {
    let mut page = Page::default();
    visit(text, &[SOURCE, CHECKPOINT, STATUS], |sample| match sample.name {
        CHECKPOINT => {
            let Some(group) = sample.label("group") else { return };
            let latency = milliseconds(sample.value);
            // The slowest of its partitions counts, and one that is not known makes all of it unknown.
            let slowest = match page.checkpoints.get(group.as_ref()) {
                None => latency,
                Some(known) => known.zip(latency).map(|(known, latency)| known.max(latency)),
            };
            page.checkpoints.insert(group.into_owned(), slowest);
        }
        STATUS => page.not_running.extend(not_running(sample)),
        name => {
            let label = |name: &str| sample.label(name).map(std::borrow::Cow::into_owned);
            let (Some(source), Some(topic), Some(partition)) =
                (label("source"), label("topic"), label("partition"))
            else {
                return;
            };
            let kind = name.strip_prefix(SOURCE).unwrap_or_default();
            if !["record_count", "record_age_ms"].contains(&kind) {
                return;
            }
            let counts = page.partitions.entry(Partition { source, topic, partition }).or_default();
            match kind {
                "record_count" => counts.records = count(sample.value),
                _ => counts.age = milliseconds(sample.value),
            }
        }
    })?;
    page.not_running.sort_unstable();
    page.not_running.dedup();
    Ok(page)
}

fn not_running(sample: &Sample<'_, '_>) -> Option<String> {
    let (connector, status) = (sample.label("connector")?, sample.label("status")?);
    let copies = connector.contains(SOURCE_CONNECTOR);
    let runs = status.eq_ignore_ascii_case("running");
    let task = sample.label("task").unwrap_or_default();
    // Exported as 1 for the state that it is in.
    (copies && !runs && sample.value > 0.0).then(|| format!("task {task} of {connector} is {status}"))
}

/// A count; none of these is beyond what a float holds exactly.
fn count(value: f64) -> Option<u64> {
    let whole = value.is_finite() && (0.0..=9e15).contains(&value);
    whole.then_some(value as u64)
}

fn milliseconds(value: f64) -> Option<Duration> {
    count(value).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP kafka_connect_mirror_mirrorsourceconnector_record_count x
kafka_connect_mirror_mirrorsourceconnector_record_count{source="aws",target="gcp",topic="pay.events",partition="0",} 120.0
kafka_connect_mirror_mirrorsourceconnector_record_age_ms{source="aws",target="gcp",topic="pay.events",partition="0",} 340.0
kafka_connect_mirror_mirrorsourceconnector_record_age_ms_max{source="aws",target="gcp",topic="pay.events",partition="0",} 9000.0
kafka_connect_mirror_mirrorsourceconnector_record_count{source="aws",target="gcp",topic="pay.events",partition="1",} NaN
kafka_connect_mirror_mirrorsourceconnector_record_age_ms{source="aws",target="gcp",topic="pay.events",partition="1",} -1.0
kafka_connect_mirror_mirrorcheckpointconnector_checkpoint_latency_ms{source="aws",target="gcp",group="fraud",topic="pay.events",partition="0",} 1500.0
kafka_connect_mirror_mirrorcheckpointconnector_checkpoint_latency_ms{source="aws",target="gcp",group="fraud",topic="pay.events",partition="1",} 900.0
kafka_connect_mirror_mirrorcheckpointconnector_checkpoint_latency_ms{source="aws",target="gcp",group="audit",topic="pay.events",partition="0",} NaN
kafka_connect_connector_status{connector="aws->gcp.MirrorSourceConnector",task="0",status="running",} 1.0
kafka_connect_connector_status{connector="aws->gcp.MirrorSourceConnector",task="1",status="failed",} 1.0
kafka_connect_connector_status{connector="aws->gcp.MirrorCheckpointConnector",task="0",status="failed",} 1.0
"#;

    #[test]
    fn what_is_no_number_is_not_known() {
        let page = read(PAGE).expect("a page");
        let partition = |number: &str| Partition {
            source: "aws".to_owned(),
            topic: "pay.events".to_owned(),
            partition: number.to_owned(),
        };
        let known = Counts { records: Some(120), age: Some(Duration::from_millis(340)) };
        assert_eq!(page.partitions[&partition("0")], known);
        assert_eq!(page.partitions[&partition("1")], Counts::default());
        assert_eq!(page.partitions.len(), 2);
        assert_eq!(page.checkpoints["fraud"], Some(Duration::from_millis(1500)), "the slowest partition");
        assert_eq!(page.checkpoints["audit"], None);
        assert_eq!(page.not_running, ["task 1 of aws->gcp.MirrorSourceConnector is failed"]);
    }

    #[test]
    fn a_page_that_was_cut_off_is_none() {
        assert!(read(&PAGE[..PAGE.len() - 2]).is_err());
        assert_eq!(read(""), Ok(Page::default()));
    }
}
