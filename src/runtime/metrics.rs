//! The figures at `/metrics`, in OpenMetrics text.
//!
//! Every label has few values: kinds, verbs, results, field paths without their indices. Nothing is labelled with
//! the name of an object, so ten thousand services cost no more than ten; but for rollouts that are under way
//! ([`super::live`]), and what is stuck ([`super::stuck`]), which is bounded.

use crate::runtime::lock::lock;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::live::LiveNumbers;
use super::process::ProcessCollector;
use super::queue_ages::QueueAges;
use super::request::RequestInfo;
use super::stuck::StuckObjects;

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds in seconds of a reconcile's duration: from one that finds nothing to do (well under a
/// millisecond) to one that waits for a slow API server.
const RECONCILE_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Upper bounds in seconds of the time until an API server answers.
const REQUEST_BUCKETS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// There was nothing to do.
    Unchanged,
    /// Something was written.
    Changed,
    /// It failed and is tried again.
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    resource: &'static str,
    result: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    resource: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    group: String,
    resource: String,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabels {
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProblemLabels {
    kind: &'static str,
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    group: String,
    check: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResidualLabels {
    group: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NotificationLabels {
    destination: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DestinationLabels {
    destination: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    result: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;
/// The sources of the problems of each object that has any, by kind and object.
type Ledger = Mutex<HashMap<(&'static str, String), BTreeSet<String>>>;
/// The names of the checks of each FailoverGroup.
type Checks = Mutex<HashMap<String, BTreeSet<String>>>;

/// All figures of the process. Cloning gives another handle of the same figures.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<ReconcileLabels, Counter>,
    durations: Histograms<ResourceLabels>,
    depth: Family<ResourceLabels, Gauge>,
    objects: Family<ResourceLabels, Gauge>,
    requests: Family<RequestLabels, Counter>,
    request_durations: Histograms<VerbLabels>,
    problems: Family<ProblemLabels, Gauge>,
    ledger: Arc<Ledger>,
    checks: Family<CheckLabels, Gauge>,
    checked: Arc<Checks>,
    residual: Family<ResidualLabels, Counter>,
    events: Family<EventLabels, Counter>,
    notifications: Family<NotificationLabels, Counter>,
    notification_failures: Family<DestinationLabels, Counter>,
    leader: Gauge,
    live: LiveNumbers,
    stuck: StuckObjects,
    queues: QueueAges,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All figures at zero, with the build's version.
    pub fn new() -> Self {
        let mut all = Registry::default();
        // These have names of their own, without the prefix, that every dashboard knows.
        all.register_collector(Box::new(ProcessCollector));
        let live = LiveNumbers::default();
        all.register_collector(Box::new(live.clone()));
        let stuck = StuckObjects::default();
        all.register_collector(Box::new(stuck.clone()));
        let queues = QueueAges::default();
        all.register_collector(Box::new(queues.clone()));
        let registry = all.sub_registry_with_prefix("banyan");
        let reconciles = Family::default();
        let durations: Histograms<_> = Family::new_with_constructor(|| Histogram::new(RECONCILE_BUCKETS));
        let depth = Family::default();
        let objects = Family::default();
        let requests = Family::default();
        let request_durations: Histograms<_> =
            Family::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS));
        let problems = Family::default();
        let (checks, residual) = (Family::default(), Family::default());
        let events = Family::default();
        let (notifications, notification_failures) = (Family::default(), Family::default());
        let leader = Gauge::default();
        registry.register("reconciles", "Reconciles, by resource and result", Family::clone(&reconciles));
        registry.register_with_unit(
            "reconcile_duration",
            "How long reconciles took, by resource",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register(
            "queue_depth",
            "Objects that wait for a worker, by resource",
            Family::clone(&depth),
        );
        registry.register("objects", "Objects in the cache, by resource", Family::clone(&objects));
        registry.register(
            "api_requests",
            "Requests to API servers, by verb, group, resource and status code (or error, timeout)",
            Family::clone(&requests),
        );
        registry.register_with_unit(
            "api_request_duration",
            "Time until the API server answered, by verb; watches are left out",
            Unit::Seconds,
            request_durations.clone(),
        );
        registry.register(
            "problems",
            "Objects with a problem in status, by kind and by the field that it comes from",
            Family::clone(&problems),
        );
        registry.register(
            "failover_check_passed",
            "1 if a check of a FailoverGroup's standing readiness passed, 0 if it did not or nobody knows",
            Family::clone(&checks),
        );
        registry.register(
            "residual_requests",
            "Requests of users that arrived at a site without authority, by FailoverGroup and what became of them",
            Family::clone(&residual),
        );
        registry.register("events", "Kubernetes Events, by what became of them", Family::clone(&events));
        registry.register(
            "notifications",
            "Transitions for a destination of notifications, by what became of them",
            Family::clone(&notifications),
        );
        registry.register(
            "notification_failures",
            "Attempts to send a notification that failed, by destination",
            Family::clone(&notification_failures),
        );
        registry.register("leader", "1 if this replica holds the leader Lease", leader.clone());
        registry.register(
            "build",
            "The version that runs",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        Self {
            registry: Arc::new(all),
            reconciles,
            durations,
            depth,
            objects,
            requests,
            request_durations,
            problems,
            ledger: Arc::default(),
            checks,
            residual,
            checked: Arc::default(),
            events,
            notifications,
            notification_failures,
            leader,
            live,
            stuck,
            queues,
        }
    }

    /// Where numbers of rollouts that are under way are read from.
    pub fn live(&self) -> &LiveNumbers {
        &self.live
    }

    /// Where it is read how long queues have stood.
    pub fn queues(&self) -> &QueueAges {
        &self.queues
    }

    /// What is stuck.
    pub fn stuck(&self) -> &StuckObjects {
        &self.stuck
    }

    /// Everything as OpenMetrics text, of type [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// If formatting fails, which only a metric that breaks its own contract causes.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::with_capacity(16 * 1024);
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Counts one reconcile of a `resource` (plural, as in the API).
    pub fn reconciled(&self, resource: &'static str, result: Outcome, took: Duration) {
        self.reconciles.get_or_create(&ReconcileLabels { resource, result }).inc();
        self.durations.get_or_create(&ResourceLabels { resource }).observe(took.as_secs_f64());
    }

    /// The gauge of how many keys wait in the [`super::queue::Queue`] of a `resource`.
    pub fn queue_depth(&self, resource: &'static str) -> Gauge {
        self.depth.get_or_create_owned(&ResourceLabels { resource })
    }

    /// The gauge of how many objects of a `resource` the cache holds.
    pub fn objects(&self, resource: &'static str) -> Gauge {
        self.objects.get_or_create_owned(&ResourceLabels { resource })
    }

    /// Counts one request; `code` is the status code, or `error` (no connection), or `timeout`. `took` is `None`
    /// for a watch, whose answer says nothing about the server's speed.
    pub fn requested(&self, request: RequestInfo, code: &str, took: Option<Duration>) {
        let RequestInfo { verb, group, resource } = request;
        self.requests.get_or_create(&RequestLabels { verb, group, resource, code: code.into() }).inc();
        if let Some(took) = took {
            self.request_durations.get_or_create(&VerbLabels { verb }).observe(took.as_secs_f64());
        }
    }

    /// How many requests were sent in all, by [`Metrics::requested`], of which `keep` says which to count: its
    /// arguments are verb, group, resource and code. For tests and benchmarks.
    pub fn requests_where(&self, keep: impl Fn(&str, &str, &str, &str) -> bool) -> u64 {
        let Ok(text) = self.encode() else { return 0 };
        let label = |line: &str, name: &str| {
            let start = line.find(&format!("{name}=\""))? + name.len() + 2;
            line[start..].split('"').next().map(str::to_owned)
        };
        text.lines()
            .filter(|line| line.starts_with("banyan_api_requests_total{"))
            .filter_map(|line| {
                let kept = keep(
                    &label(line, "verb")?,
                    &label(line, "group")?,
                    &label(line, "resource")?,
                    &label(line, "code")?,
                );
                kept.then(|| line.rsplit(' ').next()?.parse::<u64>().ok()).flatten()
            })
            .sum()
    }

    /// Says which fields the problems in the status of the object `name` (unique within `kind`) come from. None
    /// if it has no problems, or is gone. Indices are dropped from the paths.
    pub fn set_problems<'a>(
        &self,
        kind: &'static str,
        name: &str,
        sources: impl IntoIterator<Item = &'a str>,
    ) {
        let now: BTreeSet<String> = sources.into_iter().map(without_indices).collect();
        let mut ledger = lock(&self.ledger);
        let key = (kind, name.to_owned());
        let before = if now.is_empty() { ledger.remove(&key) } else { ledger.insert(key, now.clone()) };
        let before = before.unwrap_or_default();
        for source in before.difference(&now) {
            self.problem(kind, source).dec();
        }
        for source in now.difference(&before) {
            self.problem(kind, source).inc();
        }
    }

    /// Says of each check of a FailoverGroup whether it passed. None if the group is gone.
    pub fn set_checks<'a>(&self, group: &str, checks: impl IntoIterator<Item = (&'a str, bool)>) {
        let labels = |check: &str| CheckLabels { group: group.to_owned(), check: check.to_owned() };
        let mut now = BTreeSet::new();
        for (check, passed) in checks {
            self.checks.get_or_create(&labels(check)).set(i64::from(passed));
            now.insert(check.to_owned());
        }
        let mut checked = lock(&self.checked);
        let before = if now.is_empty() {
            checked.remove(group)
        } else {
            checked.insert(group.to_owned(), now.clone())
        };
        for gone in before.unwrap_or_default().difference(&now) {
            self.checks.remove(&labels(gone));
        }
    }

    /// Counts a request that arrived for a FailoverGroup at a site without authority: `forwarded`, `refused` or `failed`.
    pub fn residual(&self, group: &str, result: &'static str) {
        self.residual.get_or_create_owned(&ResidualLabels { group: group.to_owned(), result }).inc();
    }

    fn problem(&self, kind: &'static str, source: &str) -> Gauge {
        self.problems.get_or_create_owned(&ProblemLabels { kind, source: source.into() })
    }

    /// Counts an Event: `published`, `repeated`, `dropped` or `failed`.
    pub fn event(&self, result: &'static str) {
        self.events.get_or_create(&EventLabels { result }).inc();
    }

    /// Counts transitions for a destination of notifications: `sent` or `dropped`.
    pub fn notified(&self, destination: &str, result: &'static str, count: usize) {
        let labels = NotificationLabels { destination: destination.to_owned(), result };
        self.notifications.get_or_create(&labels).inc_by(count as u64);
    }

    /// Counts attempts to send that failed.
    pub fn notification_failures(&self, destination: &str, count: u64) {
        let labels = DestinationLabels { destination: destination.to_owned() };
        self.notification_failures.get_or_create(&labels).inc_by(count);
    }

    /// Whether this replica leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}

/// `spec.env[3].name` as `spec.env[].name`, so that the label has one value for the field.
fn without_indices(path: &str) -> String {
    let mut inside = false;
    path.chars()
        .filter(|&c| {
            let keep = !inside || c == ']';
            inside = (inside && c != ']') || c == '[';
            keep
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(metrics: &Metrics, start: &str) -> Vec<String> {
        let mut found: Vec<String> =
            metrics.encode().unwrap().lines().filter(|l| l.starts_with(start)).map(str::to_owned).collect();
        found.sort();
        found
    }

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::new();
        metrics.reconciled("finservices", Outcome::Changed, Duration::from_millis(3));
        metrics.reconciled("finservices", Outcome::Unchanged, Duration::from_micros(90));
        metrics.queue_depth("finservices").set(7);
        metrics.set_leader(true);
        assert_eq!(
            lines(&metrics, "banyan_reconciles_total"),
            [
                r#"banyan_reconciles_total{resource="finservices",result="Changed"} 1"#,
                r#"banyan_reconciles_total{resource="finservices",result="Unchanged"} 1"#,
            ]
        );
        assert_eq!(
            lines(&metrics, "banyan_reconcile_duration_seconds_bucket{le=\"0.0005\""),
            [r#"banyan_reconcile_duration_seconds_bucket{le="0.0005",resource="finservices"} 1"#]
        );
        assert_eq!(
            lines(&metrics, "banyan_queue_depth{"),
            [r#"banyan_queue_depth{resource="finservices"} 7"#]
        );
        assert_eq!(lines(&metrics, "banyan_leader "), ["banyan_leader 1"]);
        let version = format!("banyan_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        assert_eq!(lines(&metrics, "banyan_build_info{"), [version]);
        assert!(metrics.encode().unwrap().ends_with("# EOF\n"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_shows_its_memory_and_cpu_under_the_usual_names() {
        let metrics = Metrics::new();
        assert_eq!(lines(&metrics, "process_resident_memory_bytes ").len(), 1);
        assert_eq!(lines(&metrics, "process_cpu_seconds_total ").len(), 1);
    }

    #[test]
    fn problems_count_objects_and_go_when_they_are_solved() {
        let metrics = Metrics::new();
        metrics.set_problems("FinService", "pay/a", ["spec.env[0].value", "spec.env[17].value"]);
        metrics.set_problems("FinService", "pay/b", ["spec.env[2].value", "spec.mesh"]);
        let env = r#"banyan_problems{kind="FinService",source="spec.env[].value"}"#;
        let mesh = r#"banyan_problems{kind="FinService",source="spec.mesh"}"#;
        assert_eq!(lines(&metrics, "banyan_problems{"), [format!("{env} 2"), format!("{mesh} 1")]);
        metrics.set_problems("FinService", "pay/b", ["spec.mesh"]);
        metrics.set_problems("FinService", "pay/b", ["spec.mesh"]);
        metrics.set_problems("FinService", "pay/a", []);
        assert_eq!(lines(&metrics, "banyan_problems{"), [format!("{env} 0"), format!("{mesh} 1")]);
        assert_eq!(metrics.ledger.lock().unwrap().len(), 1, "an object without problems costs nothing");
    }

    #[test]
    fn checks_of_a_group_come_and_go_with_it() {
        let metrics = Metrics::new();
        metrics.set_checks("pay", [("lag", true), ("witness", false)]);
        let line = |check: &str, value: u8| {
            format!(r#"banyan_failover_check_passed{{group="pay",check="{check}"}} {value}"#)
        };
        assert_eq!(lines(&metrics, "banyan_failover_check_passed{"), [line("lag", 1), line("witness", 0)]);
        metrics.set_checks("pay", [("witness", true)]);
        assert_eq!(lines(&metrics, "banyan_failover_check_passed{"), [line("witness", 1)]);
        metrics.set_checks("pay", []);
        assert_eq!(lines(&metrics, "banyan_failover_check_passed{"), Vec::<String>::new());
    }

    #[test]
    fn requests_can_be_counted_by_what_they_are() {
        let metrics = Metrics::new();
        let info = |verb, group: &str, resource: &str| RequestInfo {
            verb,
            group: group.into(),
            resource: resource.into(),
        };
        let took = Some(Duration::from_millis(2));
        metrics.requested(info("apply", "apps", "deployments"), "200", took);
        metrics.requested(info("apply", "apps", "deployments"), "200", took);
        metrics.requested(info("apply", "apps", "deployments"), "409", took);
        metrics.requested(info("watch", "", "services"), "200", None);
        assert_eq!(metrics.requests_where(|_, _, _, _| true), 4);
        assert_eq!(
            metrics.requests_where(|verb, group, _, code| (verb, group, code) == ("apply", "apps", "200")),
            2
        );
        assert_eq!(metrics.requests_where(|verb, _, _, _| verb == "watch"), 1);
        assert_eq!(lines(&metrics, "banyan_api_request_duration_seconds_count{verb=\"watch\"").len(), 0);
    }
}
