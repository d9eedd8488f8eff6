//! What proxies tell of the Services that they send requests to: Envoy's counters by cluster, and Istio's standard
//! metrics. Pure: the text is read elsewhere.
//!
//! Names of clusters, as they stand in Envoy's statistics:
//! - Contour calls a cluster `<namespace>/<service>/<port>/<hash>` and cuts that at 60 characters, but gives each an
//!   `alt_stat_name` of `<namespace>_<service>_<port>`, which is never cut (`AltStatName` in its
//!   `internal/envoy/cluster.go`). Statistics go by that, so there is nothing to be undone.
//! - Istio's are `outbound|<port>|<subset>|<service>.<namespace>.svc.<domain>`, in newer versions with a `;` at the
//!   end, and its bootstrap calls the label `cluster_name`.
//!
//! Of gRPC, whose failures mostly have the HTTP status 200, Istio counts the status of each call beside that of HTTP.
//! Envoy's filter `grpc_stats`, which Contour and Envoy Gateway set, counts them by cluster, as
//! `envoy_cluster_grpc_<status>`, apart from the responses by class. What the proxy answers itself to a call is in both,
//! so that they cannot be added: the larger one counts, which finds all failures of either kind, and at worst half
//! of them where both happen alike.
//!
//! A request that the proxy answers itself (nobody there, refused, timed out) is counted as the 503 or 504 that it
//! answers with, which is what makes these counters better than the pods' own.
//!
//! A request that a caller gives up before there is an answer is bad: a release that hangs shows in nothing else. Istio
//! counts it with the status 0. Envoy has no counter of these, but one of the requests that it has sent. What of them is
//! neither answered nor under way nor sent once more was given up. These counters are read one after the other, so that
//! the difference wavers by what comes and goes meanwhile; who uses it takes only what is more than ever before.

use std::collections::{BTreeMap, HashMap};

use super::counts::Counts;
use super::grpc;
use super::pods::{bound, is_failure, is_refusal};
use super::subject::Subject;
use crate::runtime::exposition::Sample;

/// Envoy's counters by class of the response. Other families that begin so are passed over.
const CLASSES: &str = "envoy_cluster_upstream_rq";
/// Envoy's counter of requests, which stands there at zero as soon as the proxy knows the cluster; the others
/// may come with the first request.
const KNOWN: &str = "envoy_cluster_upstream_rq_total";
/// Envoy's counters of requests that it answered itself without having sent them, which are among its responses, but
/// not among the requests. Those of connections begin otherwise.
const NOT_SENT: [&str; 4] = [
    NONE_READY,
    "envoy_cluster_upstream_rq_pending_overflow",
    "envoy_cluster_upstream_rq_pending_failure_eject",
    "envoy_cluster_upstream_rq_maintenance_mode",
];
/// The one of these for a Service without a Ready pod.
const NONE_READY: &str = "envoy_cluster_upstream_cx_none_healthy";
/// Envoy's counter of requests that it sent once more.
const RETRIED: &str = "envoy_cluster_upstream_rq_retry";
/// How many requests are under way.
const UNDER_WAY: &str = "envoy_cluster_upstream_rq_active";
/// Envoy's histogram of durations, in milliseconds.
const DURATIONS: &str = "envoy_cluster_upstream_rq_time_bucket";
/// How Envoy's counters of gRPC calls by status begin.
const GRPC: &str = "envoy_cluster_grpc_";
/// Istio's counter of requests.
const ISTIO: &str = "istio_requests_total";
/// Istio's histogram of durations, in milliseconds.
const ISTIO_DURATIONS: &str = "istio_request_duration_milliseconds_bucket";
/// So many to a second are the units of both, and of some of gRPC's.
pub(super) const MILLIS: f64 = 1000.0;

/// An arm of a subject, both by their places.
type Place = (usize, usize);

/// What one proxy counted, by subject: of both arms, `None` where it does not know the arm's Service.
pub type Seen = BTreeMap<usize, [Option<Counts>; 2]>;

/// Whose Service is whose arm: made once for a sweep.
#[derive(Debug, Default)]
pub struct Services {
    /// By `<namespace>_<service>_<port>`. No name of Kubernetes' has an underscore.
    ports: HashMap<String, Vec<Place>>,
    /// By `<namespace>_<service>`.
    names: HashMap<String, Vec<Place>>,
}

impl Services {
    /// The Services of all arms.
    pub fn of(subjects: &[Subject]) -> Self {
        let mut services = Self::default();
        for (subject, asked) in subjects.iter().enumerate() {
            for (place, arm) in asked.arms.iter().enumerate() {
                let name = format!("{}_{}", arm.namespace, arm.service);
                let port = format!("{name}_{}", arm.port);
                services.ports.entry(port).or_default().push((subject, place));
                services.names.entry(name).or_default().push((subject, place));
            }
        }
        services
    }

    /// Arms that a cluster of Envoy's belongs to.
    fn of_cluster(&self, cluster: &str) -> &[Place] {
        let found = match istio_cluster(cluster) {
            Some((namespace, service, port)) => self.ports.get(&format!("{namespace}_{service}_{port}")),
            None => self.ports.get(cluster),
        };
        found.map_or(&[], Vec::as_slice)
    }
}

/// Namespace, service and port of one of Istio's clusters.
fn istio_cluster(cluster: &str) -> Option<(&str, &str, &str)> {
    let mut parts = cluster.trim_end_matches(';').strip_prefix("outbound|")?.split('|');
    let (port, _subset, host) = (parts.next()?, parts.next()?, parts.next()?);
    let mut host = host.splitn(4, '.');
    let (service, namespace) = (host.next()?, host.next()?);
    (host.next() == Some("svc")).then_some((namespace, service, port))
}

#[derive(Default)]
struct Both {
    envoy: [Option<Counts>; 2],
    sent: [Sent; 2],
    istio: [Option<Counts>; 2],
}

/// What Envoy says of the requests that it has for an arm, answered or not.
#[derive(Clone, Copy, Default)]
struct Sent {
    all: f64,
    answered: f64,
    under_way: Option<f64>,
}

impl Sent {
    /// How many were given up before there was an answer; none where it is not known how many are under way.
    fn given_up(self) -> f64 {
        self.under_way.map_or(0.0, |under_way| (self.all - self.answered - under_way).max(0.0))
    }
}

/// What the name of a metric begins with that is to be read of a proxy's page.
pub const PREFIXES: [&str; 5] = [CLASSES, NONE_READY, GRPC, ISTIO, ISTIO_DURATIONS];

/// What Envoy is asked for, as a regular expression on its own names, in a query: its page has three times as much of each
/// cluster, and a platform has thousands of clusters. Whoever does not know `filter` tells all it has.
pub const FILTER: &str = "filter=upstream_rq_(total%7C.xx%7Ctime%7Cretry%7Cactive%7Cpending_overflow%7Cpending_failure_eject%7C\
                          maintenance_mode)$%7Ccx_none_healthy$%7C%5C.grpc%5C.%7Cistio_request";

/// What a proxy counted for all subjects, while its page is read.
///
/// A proxy of Istio's may tell a request in both families; Istio's own is taken then, which knows the status that the
/// caller was given.
pub struct Counter<'s> {
    services: &'s Services,
    found: BTreeMap<usize, Both>,
    name: String,
    counts: bool,
}

impl<'s> Counter<'s> {
    /// Nothing as yet.
    pub fn new(services: &'s Services) -> Self {
        Self { services, found: BTreeMap::new(), name: String::new(), counts: false }
    }

    /// Whether the proxy counts requests at all, of whatever Service.
    pub fn counts(&self) -> bool {
        self.counts
    }

    /// Takes a line in.
    pub fn take(&mut self, sample: &Sample<'_, '_>) {
        let grpc = sample.name.strip_prefix(GRPC);
        if grpc.is_some_and(|status| !(grpc::is_failure(status) || grpc::is_refusal(status))) {
            return;
        }
        let label = |name| sample.label(name).unwrap_or_default();
        let istio = matches!(sample.name, ISTIO | ISTIO_DURATIONS);
        let places = if istio {
            self.counts = true;
            // In Istio's ambient mode the waypoint shares the requests, and tells of them.
            if !matches!(&*label("reporter"), "source" | "waypoint") {
                return;
            }
            self.name.clear();
            self.name.push_str(&label("destination_service_namespace"));
            self.name.push('_');
            self.name.push_str(&label("destination_service_name"));
            self.services.names.get(&self.name).map_or(&[][..], Vec::as_slice)
        } else {
            self.counts |= matches!(sample.name.strip_prefix(CLASSES), Some("_total" | "_xx" | ""));
            let cluster = sample.label("envoy_cluster_name").or_else(|| sample.label("cluster_name"));
            self.services.of_cluster(&cluster.unwrap_or_default())
        };
        if places.is_empty() {
            return;
        }
        let class = || match sample.name.strip_prefix(CLASSES) {
            Some("_xx") => sample.label("envoy_response_code_class"),
            // Istio's bootstrap takes `_5xx` out of the name as a whole.
            Some("") => sample.label("response_code_class"),
            _ => None,
        };
        let kind = match sample.name {
            ISTIO => {
                let status = label("response_code");
                let grpc = label("grpc_response_status");
                // 0 stands for no response.
                let failed = is_failure(&status) || status == "0" || grpc::is_failure(&grpc);
                Kind::Requests { failed, refused: is_refusal(&status) || grpc::is_refusal(&grpc) }
            }
            _ if grpc.is_some_and(grpc::is_refusal) => Kind::RefusedCalls,
            _ if grpc.is_some() => Kind::FailedCalls,
            ISTIO_DURATIONS | DURATIONS => Kind::Bucket(bound(sample) / MILLIS),
            KNOWN => Kind::Sent,
            RETRIED => Kind::Retried,
            UNDER_WAY => Kind::UnderWay,
            name if NOT_SENT.contains(&name) => Kind::Sent,
            _ => match class() {
                Some(class) => {
                    Kind::Requests { failed: class.starts_with('5'), refused: class.starts_with('4') }
                }
                None => return,
            },
        };
        for (subject, arm) in places {
            let both = self.found.entry(*subject).or_default();
            let arms = if istio { &mut both.istio } else { &mut both.envoy };
            let counts = arms[*arm].get_or_insert_default();
            let sent = &mut both.sent[*arm];
            match kind {
                Kind::Sent => sent.all += sample.value,
                Kind::Retried => sent.answered += sample.value,
                Kind::UnderWay => *sent.under_way.get_or_insert_default() += sample.value,
                Kind::Requests { failed, refused } => {
                    counts.add(sample.value, failed);
                    if refused {
                        counts.add_refused(sample.value);
                    }
                    sent.answered += sample.value;
                }
                Kind::RefusedCalls => counts.add_grpc_refused(sample.value),
                Kind::FailedCalls => counts.add_grpc_bad(sample.value),
                Kind::Bucket(most) => counts.add_bucket(most, sample.value),
            }
        }
    }

    /// What was counted.
    pub fn seen(self) -> Seen {
        let believed = |mut both: Both| {
            if both.istio.iter().any(Option::is_some) {
                return both.istio;
            }
            for (counts, sent) in both.envoy.iter_mut().zip(both.sent) {
                counts.iter_mut().for_each(|counts| counts.add_unanswered(sent.given_up()));
            }
            both.envoy
        };
        self.found.into_iter().map(|(subject, both)| (subject, believed(both))).collect()
    }
}

/// What a line says of a Service.
#[derive(Clone, Copy)]
enum Kind {
    /// Requests that the proxy has for it, as soon as it knows it.
    Sent,
    /// Those that it sent once more.
    Retried,
    /// Those without an answer as yet.
    UnderWay,
    /// Requests, all of which ended so.
    Requests { failed: bool, refused: bool },
    /// Calls of gRPC that failed, which are among its requests.
    FailedCalls,
    /// The same of those that were refused.
    RefusedCalls,
    /// Requests that took at most so many seconds.
    Bucket(f64),
}

#[cfg(test)]
mod tests {
    use super::super::subject::{Arm, What};
    use super::*;
    use crate::runtime::exposition::{Malformed, visit};

    fn read(text: &str, services: &Services) -> Result<Seen, Malformed> {
        let mut counter = Counter::new(services);
        visit(text, &PREFIXES, |sample| counter.take(sample))?;
        Ok(counter.seen())
    }

    /// Behind Contour, as Envoy's admin listener tells it, shortened.
    const ENVOY: &str = r#"# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="payments_transaction-old_8080"} 95
envoy_cluster_upstream_rq{envoy_response_code="503",envoy_cluster_name="payments_transaction-old_8080"} 5
# TYPE envoy_cluster_upstream_rq_total counter
envoy_cluster_upstream_rq_total{envoy_cluster_name="payments_transaction-old_8080"} 103
envoy_cluster_upstream_rq_total{envoy_cluster_name="payments_transaction-new_8080"} 0
envoy_cluster_upstream_rq_total{envoy_cluster_name="payments_other_8080"} 7
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="payments_transaction-old_8080"} 90
envoy_cluster_upstream_rq_xx{envoy_response_code_class="4",envoy_cluster_name="payments_transaction-old_8080"} 5
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="payments_transaction-old_8080"} 5
envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="payments_other_8080"} 7
envoy_cluster_external_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="payments_transaction-old_8080"} 90
envoy_cluster_upstream_rq_timeout{envoy_cluster_name="payments_transaction-old_8080"} 1
# TYPE envoy_cluster_upstream_rq_time histogram
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="payments_transaction-old_8080",le="0.5"} 0
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="payments_transaction-old_8080",le="250"} 92
envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name="payments_transaction-old_8080",le="+Inf"} 100
envoy_cluster_upstream_rq_time_sum{envoy_cluster_name="payments_transaction-old_8080"} 9000
envoy_cluster_upstream_rq_time_count{envoy_cluster_name="payments_transaction-old_8080"} 100
"#;

    /// From a gateway of Istio's, shortened.
    const ISTIO_TEXT: &str = r#"# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{response_code_class="2xx",cluster_name="outbound|8080||transaction-old.payments.svc.cluster.local;"} 900
envoy_cluster_upstream_rq{response_code_class="5xx",cluster_name="outbound|8080||transaction-old.payments.svc.cluster.local;"} 100
envoy_cluster_upstream_rq{response_code="200",cluster_name="outbound|8080||transaction-old.payments.svc.cluster.local;"} 900
envoy_cluster_upstream_rq{response_code_class="2xx",cluster_name="outbound|9090||transaction-new.payments.svc.cluster.local"} 1
# TYPE istio_requests_total counter
istio_requests_total{reporter="source",source_workload="gw",destination_service="transaction-new.payments.svc.cluster.local",destination_service_name="transaction-new",destination_service_namespace="payments",request_protocol="http",response_code="200",response_flags="-"} 40
istio_requests_total{reporter="source",source_workload="gw",destination_service_name="transaction-new",destination_service_namespace="payments",response_code="503",response_flags="UF"} 2
istio_requests_total{reporter="source",source_workload="gw",destination_service_name="transaction-new",destination_service_namespace="payments",response_code="0",response_flags="DC"} 1
istio_requests_total{reporter="destination",source_workload="gw",destination_service_name="transaction-new",destination_service_namespace="payments",response_code="200"} 4000
istio_requests_total{reporter="source",source_workload="gw",destination_service_name="transaction-new",destination_service_namespace="elsewhere",response_code="200"} 4000
istio_request_duration_milliseconds_bucket{reporter="source",destination_service_name="transaction-new",destination_service_namespace="payments",response_code="200",le="100"} 30
istio_request_duration_milliseconds_bucket{reporter="source",destination_service_name="transaction-new",destination_service_namespace="payments",response_code="200",le="+Inf"} 43
"#;

    fn subject() -> Subject {
        let arm = |hash: &str| Arm {
            namespace: "payments".into(),
            service: format!("transaction-{hash}"),
            port: 8080,
            revision: hash.into(),
            pods: Vec::new(),
        };
        Subject { namespace: "payments".into(), arms: [arm("old"), arm("new")], ..Subject::default() }
    }

    #[test]
    fn envoys_counters_go_to_the_arm_of_their_cluster() {
        let seen = read(ENVOY, &Services::of(&[subject()])).unwrap();
        let [old, new] = &seen[&0];
        let old = old.as_ref().unwrap();
        assert_eq!(old.of(&What::Errors), Ok((100.0, 5.0)));
        assert_eq!(old.of(&What::Refused), Ok((100.0, 5.0)));
        assert_eq!(old.of(&What::Slower(0.25)), Ok((100.0, 8.0)));
        assert!(old.of(&What::Slower(0.2)).unwrap_err().to_string().contains("0.0005, 0.25"));
        assert_eq!(new, &Some(Counts::default()), "it is known, and was sent nothing yet");
    }

    #[test]
    fn istios_own_counters_are_taken_where_there_are_both() {
        let seen = read(ISTIO_TEXT, &Services::of(&[subject()])).unwrap();
        let [old, new] = &seen[&0];
        assert_eq!(old, &None);
        let new = new.as_ref().unwrap();
        assert_eq!(new.of(&What::Errors), Ok((43.0, 3.0)));
        assert_eq!(new.of(&What::Slower(0.1)), Ok((43.0, 13.0)));
    }

    #[test]
    fn calls_of_grpc_that_failed_are_found_behind_the_status_200() {
        let cluster = "envoy_cluster_name=\"payments_transaction-new_8080\"";
        let envoy = format!(
            "envoy_cluster_upstream_rq_xx{{envoy_response_code_class=\"2\",{cluster}}} 96\n\
             envoy_cluster_upstream_rq_xx{{envoy_response_code_class=\"5\",{cluster}}} 4\n\
             envoy_cluster_grpc_0{{{cluster}}} 60\n\
             envoy_cluster_grpc_5{{{cluster}}} 10\n\
             envoy_cluster_grpc_13{{{cluster}}} 20\n\
             envoy_cluster_grpc_14{{{cluster}}} 10\n\
             envoy_cluster_grpc_failure{{{cluster}}} 40\n\
             envoy_cluster_grpc_total{{{cluster}}} 100\n"
        );
        let seen = read(&envoy, &Services::of(&[subject()])).unwrap();
        assert_eq!(seen[&0][1].as_ref().unwrap().of(&What::Errors), Ok((100.0, 30.0)));
        assert_eq!(seen[&0][1].as_ref().unwrap().of(&What::Refused), Ok((100.0, 10.0)));
        let to = "reporter=\"source\",destination_service_name=\"transaction-new\",destination_service_namespace=\"payments\"";
        let istio = format!(
            "istio_requests_total{{{to},response_code=\"200\",grpc_response_status=\"0\"}} 90\n\
             istio_requests_total{{{to},response_code=\"200\",grpc_response_status=\"5\"}} 3\n\
             istio_requests_total{{{to},response_code=\"200\",grpc_response_status=\"14\"}} 5\n\
             istio_requests_total{{{to},response_code=\"503\",grpc_response_status=\"14\"}} 2\n"
        );
        let seen = read(&istio, &Services::of(&[subject()])).unwrap();
        assert_eq!(seen[&0][1].as_ref().unwrap().of(&What::Errors), Ok((100.0, 7.0)));
        assert_eq!(seen[&0][1].as_ref().unwrap().of(&What::Refused), Ok((100.0, 3.0)));
    }

    #[test]
    fn what_envoy_sent_and_had_no_answer_to_was_given_up() {
        let cluster = "envoy_cluster_name=\"payments_transaction-new_8080\"";
        let envoy = |under_way: &str| {
            let lines = [
                "upstream_cx_none_healthy 60",
                "upstream_rq_pending_failure_eject 7",
                "upstream_rq_retry 5",
                "upstream_rq_total 1000",
                "upstream_rq_xx 800",
                under_way,
            ];
            let lines = lines.into_iter().filter_map(|line| line.split_once(' '));
            lines
                .map(|(name, value)| {
                    format!("envoy_cluster_{name}{{envoy_response_code_class=\"2\",{cluster}}} {value}\n")
                })
                .collect::<String>()
        };
        let of = |text: &str| {
            let seen = read(text, &Services::of(&[subject()])).unwrap();
            let new = seen[&0][1].clone().unwrap();
            (new.of(&What::Errors), new.unanswered(&What::Errors), new.unanswered(&What::Slower(0.25)))
        };
        // Of 1067, 60 and 7 of which Envoy did not send, 800 were answered, 5 sent once more, and 20 are under way.
        assert_eq!(of(&envoy("upstream_rq_active 20")), (Ok((800.0, 0.0)), 242.0, 0.0));
        assert_eq!(of(&envoy("upstream_rq_active 900")).1, 0.0, "streams are answered and under way");
        assert_eq!(of(&envoy("")).1, 0.0, "it is not known how many are under way");
    }

    #[test]
    fn istios_clusters_are_known_by_service_namespace_and_port() {
        let clusters: String =
            ISTIO_TEXT.lines().filter(|line| line.starts_with("envoy")).map(|l| format!("{l}\n")).collect();
        let seen = read(&clusters, &Services::of(&[subject()])).unwrap();
        let [old, new] = &seen[&0];
        assert_eq!(old.as_ref().unwrap().of(&What::Errors), Ok((1000.0, 100.0)));
        assert_eq!(new, &None, "it is another port");
        for (cluster, parts) in [
            ("outbound|80||a.b.svc.cluster.local", Some(("b", "a", "80"))),
            ("outbound|80|v1|a.b.svc.example.com;", Some(("b", "a", "80"))),
            ("outbound|443||www.example.com", None),
            ("inbound|80||", None),
            ("outbound|80", None),
        ] {
            assert_eq!(istio_cluster(cluster), parts, "{cluster}");
        }
    }

    #[test]
    fn a_service_of_two_rollouts_counts_for_both_and_a_stranger_for_none() {
        let mut other = subject();
        other.arms[0].service = "unknown".into();
        let seen = read(ENVOY, &Services::of(&[other.clone(), subject()])).unwrap();
        assert_eq!(seen[&0], [None, Some(Counts::default())]);
        assert!(seen[&1][0].is_some());
        other.arms[1].port = 1;
        assert_eq!(read(ENVOY, &Services::of(&[other])).unwrap(), Seen::new());
        assert!(read("istio_requests_total{ 5\n", &Services::default()).is_err());
    }
}
