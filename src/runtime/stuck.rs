//! What is stuck, by name, for `/metrics`: of each object that is not well or does not move on, since when, and why.
//!
//! It is told when a status is made, and read when somebody scrapes. While all is well it costs nothing. However much is
//! stuck, at most [`MOST`] series are told, always the same ones; of all of them the number is.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::{Arc, Mutex};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::key::Key;
use super::lock::lock;
use crate::api::stuck::Stuck;

/// How many series name an object, at the most.
pub const MOST: usize = 500;

/// Kinds in the order in which they are told: those of which there are few, and on which much hangs, come first.
const KINDS: [&str; 5] = ["Failover", "FailoverGroup", "CloudCluster", "CanaryRollout", "FinService"];

/// An object: the place of its kind in [`KINDS`], and its key.
type Object = (usize, Key);

/// What is stuck. Cloning gives another handle of the same.
#[derive(Clone, Debug, Default)]
pub struct StuckObjects(Arc<Mutex<BTreeMap<Object, BTreeMap<String, i64>>>>);

impl StuckObjects {
    /// Says what an object is stuck for: nothing where it is well, or gone. Kinds that are not told of are passed over.
    pub fn set(&self, kind: &str, key: &Key, stuck: Vec<Stuck>) {
        let Some(place) = KINDS.iter().position(|known| *known == kind) else { return };
        let object = (place, key.clone());
        let mut all = lock(&self.0);
        if stuck.is_empty() {
            all.remove(&object);
        } else {
            let reasons = stuck.into_iter().map(|stuck| (stuck.reason, stuck.since.as_second()));
            all.insert(object, reasons.collect());
        }
    }

    /// After a list: forgets objects of that kind that were not in it.
    pub fn retain(&self, kind: &str, seen: impl Fn(&Key) -> bool) {
        lock(&self.0).retain(|(place, key), _| KINDS[*place] != kind || seen(key));
    }
}

impl Collector for StuckObjects {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let all = lock(&self.0);
        if all.is_empty() {
            return Ok(());
        }
        let series = || {
            all.iter().flat_map(|((place, key), reasons)| {
                reasons.iter().map(move |(reason, since)| (KINDS[*place], key, &**reason, *since))
            })
        };
        let help = "Since when an object has not been well, or has not moved on, as Unix time";
        let mut metric =
            encoder.encode_descriptor("banyan_stuck_since_seconds", help, None, MetricType::Gauge)?;
        for (kind, key, reason, since) in series().take(MOST) {
            let labels =
                [("kind", kind), ("namespace", &*key.namespace), ("name", &*key.name), ("reason", reason)];
            metric.encode_family(&labels)?.encode_gauge(&since)?;
        }
        let mut counts: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for (kind, _, reason, _) in series() {
            *counts.entry((kind, reason)).or_default() += 1;
        }
        let help = "Objects that are not well or do not move on, by kind and reason: all of them";
        let mut metric = encoder.encode_descriptor("banyan_stuck_objects", help, None, MetricType::Gauge)?;
        for ((kind, reason), count) in &counts {
            metric.encode_family(&[("kind", *kind), ("reason", *reason)])?.encode_gauge(count)?;
        }
        let left_out = counts.values().sum::<i64>().saturating_sub(MOST as i64).max(0);
        let help = "Series of banyan_stuck_since_seconds that are left out, since there are too many";
        encoder
            .encode_descriptor("banyan_stuck_left_out", help, None, MetricType::Gauge)?
            .encode_gauge(&left_out)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;

    use super::*;
    use crate::runtime::metrics::Metrics;

    fn stuck(reason: &str, since: i64) -> Vec<Stuck> {
        vec![Stuck::new(reason, Timestamp::from_second(since).expect("in range"))]
    }

    fn told(metrics: &Metrics) -> Vec<String> {
        let text = metrics.encode().expect("text");
        text.lines().filter(|line| line.starts_with("banyan_stuck_")).map(str::to_owned).collect()
    }

    #[test]
    fn faults_6_16_what_is_stuck_is_named_until_it_is_well_or_gone() {
        let metrics = Metrics::new();
        assert_eq!(told(&metrics), [""; 0], "while all is well nothing is told");
        let (ledger, cards) = (Key::new("pay", "ledger"), Key::new("pay", "cards"));
        metrics.stuck().set("FinService", &ledger, stuck("Degraded", 50));
        metrics.stuck().set("FinService", &cards, stuck("Problem", 60));
        metrics.stuck().set("Failover", &Key::new("banyan-system", "move"), stuck("NotFenced", 70));
        metrics.stuck().set("Action", &cards, stuck("Refused", 80));
        let named = |kind: &str, namespace: &str, name: &str, reason: &str, since: i64| {
            format!(
                r#"banyan_stuck_since_seconds{{kind="{kind}",namespace="{namespace}",name="{name}",reason="{reason}"}} {since}"#
            )
        };
        let counted = |kind: &str, reason: &str| {
            format!(r#"banyan_stuck_objects{{kind="{kind}",reason="{reason}"}} 1"#)
        };
        assert_eq!(
            told(&metrics),
            [
                named("Failover", "banyan-system", "move", "NotFenced", 70),
                named("FinService", "pay", "cards", "Problem", 60),
                named("FinService", "pay", "ledger", "Degraded", 50),
                counted("Failover", "NotFenced"),
                counted("FinService", "Degraded"),
                counted("FinService", "Problem"),
                "banyan_stuck_left_out 0".to_owned(),
            ]
        );
        // Another reason takes the place of the first; what is well or gone is told no more.
        metrics.stuck().set("FinService", &ledger, stuck("Starting", 55));
        metrics.stuck().set("Failover", &Key::new("banyan-system", "move"), Vec::new());
        metrics.stuck().retain("FinService", |key| *key != cards);
        let left = [named("FinService", "pay", "ledger", "Starting", 55), counted("FinService", "Starting")];
        assert_eq!(told(&metrics)[..2], left);
        metrics.stuck().set("FinService", &ledger, Vec::new());
        assert_eq!(told(&metrics), [""; 0]);
    }

    #[test]
    fn however_much_is_stuck_what_is_told_is_bounded_and_what_matters_is_in_it() {
        let metrics = Metrics::new();
        for n in 0..3 * MOST {
            metrics.stuck().set("FinService", &Key::new("pay", &n.to_string()), stuck("Degraded", 1));
        }
        metrics.stuck().set("Failover", &Key::new("zzz", "zzz"), stuck("NotFenced", 1));
        let lines = told(&metrics);
        let named: BTreeSet<&String> =
            lines.iter().filter(|line| line.starts_with("banyan_stuck_since_seconds")).collect();
        assert_eq!(named.len(), MOST);
        assert!(named.iter().any(|line| line.contains("Failover")), "{:?}", named.first());
        let all = format!(r#"banyan_stuck_objects{{kind="FinService",reason="Degraded"}} {}"#, 3 * MOST);
        assert!(lines.contains(&all), "{:?}", &lines[MOST..]);
        assert_eq!(lines.last().map(String::as_str), Some("banyan_stuck_left_out 1001"));
    }
}
