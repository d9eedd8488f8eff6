//! What pods tell of themselves, in OpenTelemetry's names. Pure: the text is read elsewhere.
//!
//! A pod misses its own crashes, the requests that it refuses and those that a proxy answers for it; where a proxy
//! can be asked, it is believed instead ([`super::gateway`]).

use super::answer::View;
use super::counts::Counts;
use super::grpc::{self, FAMILIES, Speaks};
use super::subject::{Pod, Subject};
use crate::evidence::pod_id;
use crate::runtime::exposition::Sample;

/// OpenTelemetry's `http.server.request.duration`, as exporters for Prometheus name it.
pub const FAMILY: &str = "http_server_request_duration_seconds";
/// Labels that hold what was asked for: the route, or the path where there are no routes.
pub const PATHS: [&str; 2] = ["http_route", "url_path"];
/// The label that holds the status of the response.
pub const STATUS: &str = "http_response_status_code";

/// What a pod told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// When, in Unix seconds.
    pub time: f64,
    /// What it counted; `None` if it tells no family of requests at all: they begin with the first request.
    pub counts: Option<Counts>,
}

/// What a pod counted, while its page is read.
#[derive(Debug)]
pub struct Counter<'n> {
    not_counted: &'n [String],
    speaks: Speaks,
    http: Option<Counts>,
    calls: [Option<Counts>; FAMILIES.len()],
}

impl<'n> Counter<'n> {
    /// Nothing as yet. Requests for `not_counted` are left out: probes and scrapes.
    pub fn new(not_counted: &'n [String], speaks: Speaks) -> Self {
        Self { not_counted, speaks, http: None, calls: [const { None }; FAMILIES.len()] }
    }

    fn families(&self) -> &'static [grpc::Family] {
        match self.speaks {
            Speaks::Http => &FAMILIES[..0],
            Speaks::Grpc | Speaks::Both => &FAMILIES,
        }
    }

    /// What the name of a metric begins with that is to be read.
    pub fn prefixes(&self) -> Vec<&'static str> {
        self.families().iter().map(|family| family.name).chain([FAMILY]).collect()
    }

    /// Takes a line in.
    pub fn take(&mut self, sample: &Sample<'_, '_>) {
        let label = |name| sample.label(name).unwrap_or_default();
        let of = |name| sample.name.strip_prefix(name).filter(|kind| matches!(*kind, "_count" | "_bucket"));
        let add = |counts: &mut Option<Counts>, kind, left_out, (failed, refused), to_a_second| {
            let counts = counts.get_or_insert_with(Counts::default);
            match (left_out, kind) {
                (true, _) => {}
                (false, "_count") => {
                    counts.add(sample.value, failed);
                    if refused {
                        counts.add_refused(sample.value);
                    }
                }
                (false, _) => counts.add_bucket(bound(sample) / to_a_second, sample.value),
            }
        };
        if let Some(kind) = of(FAMILY) {
            let paths = PATHS.map(label);
            let left_out = paths.iter().any(|path| self.not_counted.iter().any(|known| known == path));
            let status = label(STATUS);
            add(&mut self.http, kind, left_out, (is_failure(&status), is_refusal(&status)), 1.0);
            if let Some(counts) = self.http.as_mut().filter(|_| paths.iter().any(|path| !path.is_empty())) {
                counts.name();
            }
        }
        for (family, counts) in self.families().iter().zip(&mut self.calls) {
            if let Some(kind) = of(family.name) {
                let status = label(family.status);
                let ended = (grpc::is_failure(&status), grpc::is_refusal(&status));
                add(counts, kind, grpc::is_probe(&label(family.called)), ended, family.to_a_second);
            }
        }
    }

    /// What was counted.
    pub fn counts(self) -> Option<Counts> {
        let calls = self.calls.into_iter().flatten().next();
        match (calls, self.http) {
            (Some(mut calls), Some(http)) if self.speaks == Speaks::Both => {
                calls.merge(&http);
                Some(calls)
            }
            (Some(mut calls), _) => {
                // A call always says what is called.
                calls.name();
                Some(calls)
            }
            (None, http) => http,
        }
    }
}

/// Whether a status is the server's failure: 5xx, or none at all.
pub fn is_failure(status: &str) -> bool {
    status.is_empty() || status.starts_with('5')
}

/// Whether a status says that something is wrong with what was asked: 4xx.
pub fn is_refusal(status: &str) -> bool {
    status.starts_with('4')
}

/// The bound of a bucket; NaN, which [`Counts`] refuses, if it has none.
pub fn bound(sample: &Sample<'_, '_>) -> f64 {
    sample.label("le").and_then(|bound| bound.parse().ok()).unwrap_or(f64::NAN)
}

/// The views of all pods that told something. `told` says what a pod of an arm told, or why not.
///
/// Pods that are not Ready are not asked. A pod that does not answer is left out as long as another one of its arm
/// does. A stable without Ready pods is no hindrance: with all the weight on the canary it may have none, and
/// absolute limits judge on.
///
/// # Errors
/// With a sentence, if an arm cannot be heard.
pub fn views(
    subject: &Subject,
    mut told: impl FnMut(usize, &Pod) -> Result<Told, String>,
) -> Result<Vec<View>, String> {
    let mut views = Vec::new();
    let mut tells = false;
    for (place, arm) in subject.arms.iter().enumerate() {
        if arm.revision.is_empty() && arm.pods.is_empty() {
            return Err(format!(
                "{} is the old backend, whose pods are not known: only proxies can count its requests",
                subject.arm_name(place)
            ));
        }
        let (mut asked, mut heard, mut first) = (0, 0, None);
        for pod in arm.pods.iter().filter(|pod| pod.ready_since.is_some()) {
            asked += 1;
            match told(place, pod) {
                Ok(Told { time, counts }) => {
                    heard += 1;
                    tells |= counts.is_some();
                    let (series, ready_since) = (pod_id(&pod.name), pod.ready_since);
                    views.push(View {
                        arm: place,
                        series,
                        time,
                        ready_since,
                        counts: counts.unwrap_or_default(),
                    });
                }
                Err(why) => first = first.or(Some(format!("{}: {why}", pod.name))),
            }
        }
        if heard > 0 {
            continue;
        }
        match first {
            Some(why) => {
                return Err(format!(
                    "none of the {asked} Ready pods of {} tells its counters; {why}",
                    subject.arm_name(place)
                ));
            }
            None if place == 1 => return Err(format!("no pod of {} is Ready", subject.arm_name(place))),
            None => {}
        }
    }
    if !tells {
        let (family, what) = match subject.speaks {
            Speaks::Http => (FAMILY, "HTTP"),
            Speaks::Grpc | Speaks::Both => (FAMILIES[0].name, "RPC"),
        };
        return Err(format!(
            "no pod tells `{family}`: the service was not asked for anything yet, or lacks OpenTelemetry's {what} metrics"
        ));
    }
    if subject.probed && views.iter().any(|view| view.counts.is_nameless()) {
        return Err(format!(
            "no request that the pods count has one of the labels {}, so that probes cannot be left out; have the \
             metrics name their route, or the gateway's counters read",
            PATHS.join(" and ")
        ));
    }
    Ok(views)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::subject::{Arm, What};
    use super::*;
    use crate::runtime::exposition::{Malformed, visit};

    fn read(text: &str, not_counted: &[String], speaks: Speaks) -> Result<Option<Counts>, Malformed> {
        let mut counter = Counter::new(not_counted, speaks);
        visit(text, &counter.prefixes(), |sample| counter.take(sample))?;
        Ok(counter.counts())
    }

    /// As an OpenTelemetry SDK exports it, shortened.
    const SDK: &str = include_str!("../../tests/support/metrics/requests.txt");

    fn probes() -> Vec<String> {
        vec!["/healthz".into(), "/metrics".into()]
    }

    #[test]
    fn requests_are_counted_without_probes_and_scrapes() {
        let counts = read(SDK, &probes(), Speaks::Http).unwrap().unwrap();
        assert_eq!(counts.of(&What::Errors), Ok((112.0, 6.0)));
        assert_eq!(counts.of(&What::Refused).map(|(all, _)| all), Ok(112.0));
        assert_eq!(counts.of(&What::Slower(0.25)), Ok((112.0, 7.0)));
        let counts = read(SDK, &[], Speaks::Http).unwrap().unwrap();
        assert_eq!(counts.of(&What::Errors), Ok((4612.0, 6.0)));
        let error = counts.of(&What::Slower(0.2)).unwrap_err().to_string();
        assert!(error.contains("one of 0.1, 0.25"), "{error}");
    }

    #[test]
    fn a_pod_without_the_family_is_told_apart_from_one_that_only_had_probes() {
        assert_eq!(
            read("up 1\nhttp_server_request_duration_seconds_created 1\n", &[], Speaks::Http).unwrap(),
            None
        );
        let probed = "http_server_request_duration_seconds_count{http_route=\"/healthz\"} 5\n";
        let counts = read(probed, &probes(), Speaks::Http).unwrap().unwrap();
        assert_eq!(counts.of(&What::Errors), Ok((0.0, 0.0)));
    }

    #[test]
    fn a_bucket_without_a_bound_spoils_what_the_pod_says() {
        let text = "http_server_request_duration_seconds_bucket{http_route=\"/\"} 5\n";
        let counts = read(text, &[], Speaks::Http).unwrap().unwrap();
        assert!(counts.of(&What::Errors).is_err());
        assert!(read("http_server_request_duration_seconds_count 5 x\n", &[], Speaks::Http).is_err());
    }

    /// As OpenTelemetry's conventions have it before and since version 1.39, and gRPC's own plugin.
    const CALLS: &str = include_str!("../../tests/support/metrics/calls-before-1.39.txt");
    const NEWER: &str = include_str!("../../tests/support/metrics/calls.txt");
    const PLUGIN: &str = include_str!("../../tests/support/metrics/calls-of-the-plugin.txt");

    #[test]
    fn calls_of_grpc_are_counted_by_their_status_in_each_of_the_families() {
        for (text, all, bad) in [(CALLS, 104.0, 10.0), (NEWER, 35.0, 5.0), (PLUGIN, 36.0, 6.0)] {
            let counts = read(text, &probes(), Speaks::Grpc).unwrap().unwrap();
            assert_eq!(counts.of(&What::Errors), Ok((all, bad)), "{text}");
            assert_eq!(read(text, &probes(), Speaks::Http).unwrap(), None, "they are no requests of HTTP");
        }
        let slower = |text| read(text, &[], Speaks::Grpc).unwrap().unwrap().of(&What::Slower(0.25));
        assert_eq!((slower(CALLS), slower(NEWER)), (Ok((100.0, 5.0)), Ok((30.0, 1.0))));
        let both_families = format!("{CALLS}{NEWER}");
        let counts = read(&both_families, &[], Speaks::Grpc).unwrap().unwrap();
        assert_eq!(counts.of(&What::Errors), Ok((35.0, 5.0)), "they speak of the same calls");
    }

    #[test]
    fn a_service_that_speaks_both_counts_both_and_one_that_speaks_grpc_falls_back_on_http() {
        let text = format!("{SDK}{NEWER}");
        let of = |text: &str, speaks| read(text, &probes(), speaks).unwrap().unwrap().of(&What::Errors);
        assert_eq!(of(&text, Speaks::Both), Ok((147.0, 11.0)));
        assert_eq!(of(&text, Speaks::Grpc), Ok((35.0, 5.0)));
        assert_eq!(of(SDK, Speaks::Grpc), Ok((112.0, 6.0)));
        assert_eq!(of(&text, Speaks::Http), Ok((112.0, 6.0)));
    }

    fn subject(pods: [&[(&str, bool)]; 2]) -> Subject {
        let arm = |hash: &str, pods: &[(&str, bool)]| Arm {
            service: format!("pay-{hash}"),
            revision: hash.into(),
            pods: pods
                .iter()
                .map(|(name, ready)| Pod {
                    name: (*name).into(),
                    address: IpAddr::from([10, 0, 0, 1]),
                    ready_since: ready.then_some(5.0),
                })
                .collect(),
            ..Arm::default()
        };
        Subject { arms: [arm("old", pods[0]), arm("new", pods[1])], ..Subject::default() }
    }

    fn counted(time: f64) -> Result<Told, String> {
        let mut counts = Counts::default();
        counts.add(7.0, false);
        Ok(Told { time, counts: Some(counts) })
    }

    #[test]
    fn pods_that_are_not_ready_are_not_asked_and_silent_ones_are_left_out() {
        let subject = subject([&[("a", true), ("b", false)], &[("c", true), ("d", true)]]);
        let mut asked = Vec::new();
        let views = views(&subject, |arm, pod| {
            asked.push((arm, pod.name.clone()));
            if pod.name == "c" { Err("timed out".into()) } else { counted(9.0) }
        });
        let views = views.unwrap();
        assert_eq!(asked, [(0, "a".to_owned()), (1, "c".to_owned()), (1, "d".to_owned())]);
        let seen: Vec<_> = views.iter().map(|view| (view.arm, view.series, view.ready_since)).collect();
        assert_eq!(seen, [(0, pod_id("a"), Some(5.0)), (1, pod_id("d"), Some(5.0))]);
    }

    #[test]
    fn an_arm_that_cannot_be_heard_is_named_with_the_reason() {
        let both = subject([&[("a", true)], &[("c", true), ("d", true)]]);
        let why = views(&both, |arm, _| if arm == 1 { Err("refused".into()) } else { counted(1.0) });
        assert_eq!(
            why.unwrap_err(),
            "none of the 2 Ready pods of the canary (`pay-new`) tells its counters; c: refused"
        );
        let none = subject([&[("a", true)], &[("c", false)]]);
        let why = views(&none, |_, _| counted(1.0)).unwrap_err();
        assert_eq!(why, "no pod of the canary (`pay-new`) is Ready");
        // With all the weight on the canary stable may have no pods.
        let alone = subject([&[], &[("c", true)]]);
        assert_eq!(views(&alone, |_, _| counted(1.0)).unwrap().len(), 1);
        let mut old = subject([&[], &[("c", true)]]);
        old.arms[0].revision.clear();
        assert!(views(&old, |_, _| counted(1.0)).unwrap_err().contains("only proxies"));
    }

    #[test]
    fn where_probes_cannot_be_told_from_other_requests_nothing_is_counted() {
        let text = |labels: &str| format!("{FAMILY}_count{{{labels}http_response_status_code=\"200\"}} 9\n");
        let probed = Subject { probed: true, ..subject([&[("a", true)], &[("c", true)]]) };
        let told = |subject: &Subject, labels: &str| {
            views(subject, |_, _| {
                Ok(Told { time: 1.0, counts: read(&text(labels), &probes(), subject.speaks).unwrap() })
            })
        };
        let why = told(&probed, "").unwrap_err();
        assert!(why.contains("http_route and url_path") && why.contains("gateway"), "{why}");
        for labels in ["http_route=\"/pay\",", "url_path=\"/healthz\","] {
            assert!(told(&probed, labels).is_ok(), "{labels}");
        }
        let not_probed = Subject { probed: false, ..probed };
        assert!(told(&not_probed, "").is_ok(), "there are none");
    }

    #[test]
    fn a_pod_that_had_no_request_yet_has_counted_zero_if_another_tells_the_family() {
        let subject = subject([&[("a", true)], &[("c", true)]]);
        let nothing = || Ok(Told { time: 1.0, counts: None });
        let heard = views(&subject, |arm, _| if arm == 0 { counted(1.0) } else { nothing() }).unwrap();
        assert_eq!(heard[1].counts.of(&What::Errors), Ok((0.0, 0.0)));
        assert!(views(&subject, |_, _| nothing()).unwrap_err().contains("OpenTelemetry"));
    }
}
