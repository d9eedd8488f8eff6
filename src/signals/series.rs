//! From the rows that Prometheus answers to what pods and proxies counted. Pure.
//!
//! A reading has the time of its sample and not that of the question, so that one scrape is not taken twice; and what
//! was sampled long ago is no answer, however readily it is given.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::{Proxy, ready_since};
use super::counts::Counts;
use super::gateway::MILLIS;
use super::pods::Told;
use super::promql::{BuiltInQuery, Kind, TERM, Term};
use super::subject::{Pod, Reading, Subject};
use super::vector::Row;
use crate::evidence::pod_id;

/// How old a sample may be, in seconds: four of the ServiceMonitor's default intervals. Prometheus itself gives one
/// for five minutes.
pub const STALE: f64 = 60.0;

/// Job and instance of a scrape.
type Scrape = (String, String);
/// Group, namespace, service, revision, pod.
type PodKey = (usize, String, String, String, String);
/// Namespace and name of a Service.
type ServiceKey = (String, String);
/// Namespace and pod of a proxy, and how it is scraped.
type ProxyKey = (String, String, Scrape);

/// What was scraped of one pod, or of one proxy's view of a Service.
#[derive(Clone, Debug, Default)]
struct Scraped {
    counts: Counts,
    /// When the newest sample was taken.
    seen: Option<f64>,
    /// When the target was last scraped and up.
    up: Option<f64>,
}

impl Scraped {
    /// Adds a row, whose bounds are so many to a second.
    fn add(&mut self, kind: Kind, row: &Row, unit: f64) {
        let newest = |known: Option<f64>| {
            if row.value.is_finite() {
                Some(known.map_or(row.value, |known| known.max(row.value)))
            } else {
                known
            }
        };
        match kind {
            Kind::Seen => self.seen = newest(self.seen),
            Kind::Up => self.up = newest(self.up),
            Kind::Requests => self.counts.add_requests(row.value),
            Kind::Bad => self.counts.add_bad(row.value),
            Kind::Refused => self.counts.add_refused(row.value),
            Kind::Named => self.counts.name(),
            Kind::Bucket | Kind::Calls | Kind::CallsMillis => {
                let bound: f64 = row.label("le").parse().unwrap_or(f64::NAN);
                let unit = if kind == Kind::CallsMillis { MILLIS } else { unit };
                self.counts.add_bucket(bound / unit, row.value);
            }
        }
    }
}

/// The rows of an answer, by whom they speak of.
#[derive(Debug, Default)]
pub struct Series {
    pods: BTreeMap<PodKey, BTreeMap<Scrape, Scraped>>,
    services: BTreeMap<ServiceKey, BTreeMap<ProxyKey, Scraped>>,
    /// Whom more than one row with the same labels speaks of.
    twice_pods: BTreeSet<PodKey>,
    twice_services: BTreeSet<ServiceKey>,
    /// When the question was evaluated.
    now: f64,
}

impl Series {
    /// Sorts the rows of an answer to the built-in question.
    pub fn of(rows: &[Row]) -> Self {
        let mut series = Self::default();
        let mut labels = BTreeSet::new();
        for row in rows {
            let twice = !labels.insert(&row.labels);
            let label = |name: &str| row.label(name).to_owned();
            let scrape = (label("job"), label("instance"));
            series.now = if row.time.is_finite() { series.now.max(row.time) } else { series.now };
            match Term::read(row.label(TERM)) {
                Some(Term::Pods(group, kind)) => {
                    let names =
                        (label("namespace"), label("banyan_dev_service"), label("banyan_dev_revision"));
                    let key = (group, names.0, names.1, names.2, label("pod"));
                    if twice {
                        series.twice_pods.insert(key.clone());
                    }
                    series.pods.entry(key).or_default().entry(scrape).or_default().add(kind, row, 1.0);
                }
                Some(Term::Istio(kind)) => {
                    let to = (label("destination_service_namespace"), label("destination_service_name"));
                    if twice {
                        series.twice_services.insert(to.clone());
                    }
                    let proxy = (label("namespace"), label("pod"), scrape);
                    let scraped = series.services.entry(to).or_default().entry(proxy).or_default();
                    scraped.add(kind, row, MILLIS);
                }
                None => {}
            }
        }
        series
    }

    /// Whether an answer about a subject is not one: it has the same series more than once.
    ///
    /// # Errors
    /// If so.
    pub fn check(&self, query: &BuiltInQuery, place: usize, subject: &Subject) -> Result<(), String> {
        let pods = |arm: usize| {
            let keys = subject.arms[arm].pods.iter().map(move |pod| key(query, place, subject, arm, pod));
            keys.into_iter().any(|key| self.twice_pods.contains(&key))
        };
        let services = subject
            .arms
            .iter()
            .any(|arm| self.twice_services.contains(&(arm.namespace.clone(), arm.service.clone())));
        if pods(0) || pods(1) || services {
            return Err(
                "Prometheus gives the same series more than once; is it behind a proxy that merges without \
                        deduplication?"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// What a pod of a subject told. Where more than one job scrapes it, one of them is taken.
    ///
    /// # Errors
    /// If it is not scraped, or was long ago.
    pub fn told(
        &self,
        query: &BuiltInQuery,
        place: usize,
        subject: &Subject,
        arm: usize,
        pod: &Pod,
    ) -> Result<Told, String> {
        let scraped = self.pods.get(&key(query, place, subject, arm, pod));
        let mut stale: Option<f64> = None;
        for scraped in scraped.into_iter().flat_map(BTreeMap::values) {
            let Some(time) = scraped.seen.or(scraped.up) else { continue };
            let age = self.now - time;
            if age <= STALE {
                return Ok(Told { time, counts: scraped.seen.map(|_| scraped.counts.clone()) });
            }
            stale = Some(stale.map_or(age, |known| known.min(age)));
        }
        Err(match stale {
            Some(age) => format!("its newest sample is stale: {age:.0} s old"),
            None => "Prometheus has no series of it with the labels namespace, pod, banyan_dev_service and \
                     banyan_dev_revision, as the ServiceMonitor gives them"
                .to_owned(),
        })
    }

    /// What callers' proxies counted of a subject's Services. A proxy that two jobs scrape counts once; one that was
    /// scraped long ago is left out.
    pub fn proxies(&self, subject: &Subject) -> Vec<Proxy> {
        let mut proxies: BTreeMap<&ProxyKey, Proxy> = BTreeMap::new();
        for (place, arm) in subject.arms.iter().enumerate() {
            let of_arm = self.services.get(&(arm.namespace.clone(), arm.service.clone()));
            for (key, scraped) in of_arm.into_iter().flatten() {
                let Some(time) = scraped.seen.filter(|time| self.now - time <= STALE) else { continue };
                let (namespace, pod, (job, instance)) = key;
                let id =
                    if pod.is_empty() { format!("{job} {instance}") } else { format!("{namespace}/{pod}") };
                let proxy = proxies.entry(key).or_insert(Proxy { id, time, arms: [None, None] });
                proxy.time = proxy.time.max(time);
                proxy.arms[place] = Some(scraped.counts.clone());
            }
        }
        let mut proxies: Vec<Proxy> = proxies.into_values().collect();
        // Keys are in order, so that scrapes of one pod stand beside each other, and the first is always the same.
        proxies.dedup_by(|later, first| later.id == first.id);
        proxies
    }
}

fn key(query: &BuiltInQuery, place: usize, subject: &Subject, arm: usize, pod: &Pod) -> PodKey {
    let revision = subject.arms[arm].revision.clone();
    (query.groups[place], subject.namespace.clone(), subject.service.clone(), revision, pod.name.clone())
}

/// Whether a row of a metric of the service's own is about an arm: by the label `revision`, which holds its hash, or
/// by `variant`, which holds that too, or `old` or `new`. A row with neither is about the old backend.
fn is_about(row: &Row, subject: &Subject, arm: usize) -> bool {
    let revision = subject.arms[arm].revision.as_str();
    match (row.label("revision"), row.label("variant")) {
        ("", "") => revision.is_empty(),
        ("", variant) => variant == revision || variant == ["old", "new"][arm],
        (known, _) => known == revision,
    }
}

/// What tells the series of an arm apart: their labels but those that name the arm.
type Labels<'r> = Vec<(&'r str, &'r str)>;

fn labels(row: &Row) -> Labels<'_> {
    let all = row.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    all.filter(|(name, _)| ![TERM, "revision", "variant"].contains(name)).collect()
}

/// The counters of an arm that a query knows.
fn counters<'r>(
    subject: &Subject,
    rows: &Result<&'r [Row], String>,
    arm: usize,
    which: &str,
) -> Result<BTreeMap<Labels<'r>, &'r Row>, String> {
    let rows = rows.as_ref().map_err(|why| format!("the query for {which}: {why}"))?;
    let mut counters = BTreeMap::new();
    for row in rows.iter().filter(|row| is_about(row, subject, arm)) {
        if !(row.value.is_finite() && row.value >= 0.0 && row.time.is_finite()) {
            return Err(format!("the query for {which} gives {}, which is no counter", row.value));
        }
        if counters.insert(labels(row), row).is_some() {
            let revision = &subject.arms[arm].revision;
            return Err(format!(
                "the query for {which} gives the same series for `{revision}` more than once"
            ));
        }
    }
    Ok(counters)
}

/// A counter of everything, by what tells it apart, and that of the bad, if there is one.
type Pair<'r> = (Labels<'r>, &'r Row, Option<&'r Row>);

/// Pairs of counters: of everything, and of the bad that belongs to it. Where each query gives one series, these belong
/// together; else those with the same labels.
fn pairs<'r>(
    subject: &Subject,
    arm: usize,
    bad: BTreeMap<Labels<'r>, &'r Row>,
    total: BTreeMap<Labels<'r>, &'r Row>,
) -> Result<Vec<Pair<'r>>, String> {
    let mut bad = bad;
    if total.len() == 1 && bad.len() <= 1 {
        let bad = bad.into_values().next();
        return Ok(total.into_iter().map(|(labels, total)| (labels, total, bad)).collect());
    }
    let pairs: Vec<_> = total
        .into_iter()
        .map(|(labels, total)| {
            let bad = bad.remove(&labels);
            (labels, total, bad)
        })
        .collect();
    match bad.keys().next() {
        Some(_) if !pairs.is_empty() => Err(format!(
            "the query for bad gives a series for `{}` with labels for which that for total gives none; write \
             `sum by (revision, pod) (...)` in both",
            subject.arms[arm].revision
        )),
        _ => Ok(pairs),
    }
}

/// Readings of a metric of the service's own: what its queries for the bad and for everything answer. Differences are
/// taken for each series, so that pods may come and go.
///
/// A counter that is not there has counted nothing, as long as the query for everything knows one of the arms. Their
/// time is that of the question: when a sum over series was sampled, Prometheus does not say.
///
/// # Errors
/// If an answer is missing, ambiguous or no number.
pub fn custom(
    subject: &Subject,
    name: &str,
    bad: Result<&[Row], String>,
    total: Result<&[Row], String>,
) -> Result<Vec<Reading>, String> {
    let (mut readings, mut known) = (Vec::new(), None);
    for arm in 0..subject.arms.len() {
        let total = counters(subject, &total, arm, "total")?;
        let bad = counters(subject, &bad, arm, "bad")?;
        known = known.or(total.values().next().map(|row| row.time));
        let of_arm = format!("{name} {arm} {}", subject.arms[arm].revision);
        let reading = |labels: &Labels<'_>, total: Option<&Row>, bad: Option<&Row>| {
            let value = |row: Option<&Row>| row.map_or(0.0, |row| row.value);
            let pod = labels.iter().find(|(name, _)| *name == "pod");
            let pod = pod.and_then(|(_, name)| subject.arms[arm].pods.iter().find(|pod| pod.name == *name));
            let series = match labels.is_empty() {
                true => of_arm.clone(),
                false => format!("{of_arm} {labels:?}"),
            };
            Reading {
                metric: 0,
                arm,
                series: pod_id(&series),
                time: total.map_or(f64::NAN, |row| row.time),
                ready_since: pod.map_or_else(|| ready_since(&subject.arms[arm]), |pod| pod.ready_since),
                requests: value(total),
                bad: value(bad),
                unanswered: 0.0,
            }
        };
        let pairs = pairs(subject, arm, bad, total)?;
        if pairs.is_empty() {
            readings.push(reading(&Vec::new(), None, None));
        }
        readings.extend(pairs.iter().map(|(labels, total, bad)| reading(labels, Some(total), *bad)));
    }
    let Some(time) = known else {
        let [old, new] = &subject.arms;
        return Err(format!(
            "the query for total gives no series with the label revision=\"{}\" or revision=\"{}\" (for a flag, \
             variant=\"old\" or variant=\"new\")",
            old.revision, new.revision
        ));
    };
    for reading in readings.iter_mut().filter(|reading| reading.time.is_nan()) {
        reading.time = time;
    }
    Ok(readings)
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
