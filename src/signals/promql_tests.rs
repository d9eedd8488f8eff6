use expect_test::expect;

use super::super::subject::{Arm, Counted};
use super::*;

fn subject(name: &str, metrics: Vec<What>, paths: &[&str]) -> Subject {
    let arm = |hash: &str| Arm {
        namespace: "pay".into(),
        service: format!("{name}-{hash}"),
        port: 80,
        revision: hash.into(),
        pods: Vec::new(),
    };
    Subject {
        namespace: "pay".into(),
        service: name.into(),
        arms: [arm("old"), arm("new")],
        metrics: metrics.into_iter().map(|what| Counted { name: "m".into(), what }).collect(),
        not_counted: paths.iter().map(|path| (*path).to_owned()).collect(),
        ..Subject::default()
    }
}

#[test]
fn one_question_is_for_all_subjects() {
    let subjects = [
        subject("a", vec![What::Errors], &["/metrics", "/healthz"]),
        subject("b", vec![What::Slower(0.2)], &["/healthz", "/metrics"]),
        subject("c", vec![What::Slower(1.0)], &[r#"/x".*"#]),
        subject("d", vec![What::Custom { bad: "b".into(), total: "t".into() }], &[]),
    ];
    let query = built_in(&subjects).unwrap();
    assert_eq!(query.groups, [0, 0, 1, 2]);
    expect![[r#"
        label_replace(max by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance) (timestamp(up{namespace=~"pay",banyan_dev_service=~"a|b",banyan_dev_revision=~"new|old"}) and (up{namespace=~"pay",banyan_dev_service=~"a|b",banyan_dev_revision=~"new|old"} == 1)), "banyan_term", "pods 0 up", "", "")
        or label_replace(max by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance) (timestamp(http_server_request_duration_seconds_count{namespace=~"pay",banyan_dev_service=~"a|b",banyan_dev_revision=~"new|old"})), "banyan_term", "pods 0 seen", "", "")
        or label_replace(sum by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance) (http_server_request_duration_seconds_count{namespace=~"pay",banyan_dev_service=~"a|b",banyan_dev_revision=~"new|old",http_route!~"/healthz|/metrics",url_path!~"/healthz|/metrics"}), "banyan_term", "pods 0 requests", "", "")
        or label_replace(sum by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance) (http_server_request_duration_seconds_count{namespace=~"pay",banyan_dev_service=~"a|b",banyan_dev_revision=~"new|old",http_route!~"/healthz|/metrics",url_path!~"/healthz|/metrics",http_response_status_code=~"5..|"}), "banyan_term", "pods 0 bad", "", "")
        or label_replace(sum by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance, le) (http_server_request_duration_seconds_bucket{namespace=~"pay",banyan_dev_service=~"a|b",banyan_dev_revision=~"new|old",http_route!~"/healthz|/metrics",url_path!~"/healthz|/metrics",le=~"0\\.2|[+]Inf"}), "banyan_term", "pods 0 bucket", "", "")
        or label_replace(max by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance) (timestamp(up{namespace=~"pay",banyan_dev_service=~"c",banyan_dev_revision=~"new|old"}) and (up{namespace=~"pay",banyan_dev_service=~"c",banyan_dev_revision=~"new|old"} == 1)), "banyan_term", "pods 1 up", "", "")
        or label_replace(max by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance) (timestamp(http_server_request_duration_seconds_count{namespace=~"pay",banyan_dev_service=~"c",banyan_dev_revision=~"new|old"})), "banyan_term", "pods 1 seen", "", "")
        or label_replace(sum by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance) (http_server_request_duration_seconds_count{namespace=~"pay",banyan_dev_service=~"c",banyan_dev_revision=~"new|old",http_route!~"/x\"\\.\\*",url_path!~"/x\"\\.\\*"}), "banyan_term", "pods 1 requests", "", "")
        or label_replace(sum by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance, le) (http_server_request_duration_seconds_bucket{namespace=~"pay",banyan_dev_service=~"c",banyan_dev_revision=~"new|old",http_route!~"/x\"\\.\\*",url_path!~"/x\"\\.\\*",le=~"1([.]0)?|[+]Inf"}), "banyan_term", "pods 1 bucket", "", "")
        or label_replace(max by (namespace, pod, job, instance, destination_service_namespace, destination_service_name) (timestamp(istio_requests_total{reporter=~"source|waypoint",destination_service_namespace=~"pay",destination_service_name=~"a-new|a-old|b-new|b-old|c-new|c-old"})), "banyan_term", "istio seen", "", "")
        or label_replace(sum by (namespace, pod, job, instance, destination_service_namespace, destination_service_name) (istio_requests_total{reporter=~"source|waypoint",destination_service_namespace=~"pay",destination_service_name=~"a-new|a-old|b-new|b-old|c-new|c-old"}), "banyan_term", "istio requests", "", "")
        or label_replace(sum by (namespace, pod, job, instance, destination_service_namespace, destination_service_name) (istio_requests_total{reporter=~"source|waypoint",destination_service_namespace=~"pay",destination_service_name=~"a-new|a-old|b-new|b-old|c-new|c-old",response_code=~"5..|0|"} or istio_requests_total{reporter=~"source|waypoint",destination_service_namespace=~"pay",destination_service_name=~"a-new|a-old|b-new|b-old|c-new|c-old",grpc_response_status=~"2|4|12|13|14|15"}), "banyan_term", "istio bad", "", "")
        or label_replace(sum by (namespace, pod, job, instance, destination_service_namespace, destination_service_name, le) (istio_request_duration_milliseconds_bucket{reporter=~"source|waypoint",destination_service_namespace=~"pay",destination_service_name=~"a-new|a-old|b-new|b-old|c-new|c-old",le=~"200([.]0)?|1000([.]0)?|[+]Inf"}), "banyan_term", "istio bucket", "", "")"#]].assert_eq(&query.text);
    assert_eq!(built_in(&subjects[3..]), None);
    assert_eq!(built_in(&[]), None);
}

#[test]
fn calls_of_grpc_are_asked_for_where_it_is_spoken() {
    let of = |speaks| {
        let metrics = vec![What::Errors, What::Slower(0.25)];
        let subject = Subject { speaks, probed: true, ..subject("a", metrics, &["/healthz"]) };
        let query = built_in(&[subject]).unwrap();
        let pods: Vec<_> = query.text.lines().filter(|line| line.contains("\"pods ")).collect();
        pods.join("\n")
            .replace(POD, "POD")
            .replace(r#"namespace=~"pay",banyan_dev_service=~"a",banyan_dev_revision=~"new|old""#, "OWN")
    };
    expect![[r#"
        label_replace(max by (POD) (timestamp(up{OWN}) and (up{OWN} == 1)), "banyan_term", "pods 0 up", "", "")
        or label_replace(max by (POD) (timestamp(rpc_server_call_duration_seconds_count{OWN}) or timestamp(grpc_server_call_duration_seconds_count{OWN}) or timestamp(rpc_server_duration_milliseconds_count{OWN}) or timestamp(http_server_request_duration_seconds_count{OWN})), "banyan_term", "pods 0 seen", "", "")
        or label_replace(sum by (POD) (rpc_server_call_duration_seconds_count{OWN,rpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (grpc_server_call_duration_seconds_count{OWN,grpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (rpc_server_duration_milliseconds_count{OWN,rpc_service!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or (sum by (POD) (http_server_request_duration_seconds_count{OWN,http_route!~"/healthz",url_path!~"/healthz"}) unless (sum by (POD) (rpc_server_call_duration_seconds_count{OWN,rpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (grpc_server_call_duration_seconds_count{OWN,grpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (rpc_server_duration_milliseconds_count{OWN,rpc_service!~"grpc[.]health[.]v1[.]Health(/.*)?"}))), "banyan_term", "pods 0 requests", "", "")
        or label_replace(sum by (POD) (rpc_server_call_duration_seconds_count{OWN,rpc_response_status_code=~"2|UNKNOWN|4|DEADLINE_EXCEEDED|12|UNIMPLEMENTED|13|INTERNAL|14|UNAVAILABLE|15|DATA_LOSS",rpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (grpc_server_call_duration_seconds_count{OWN,grpc_status=~"2|UNKNOWN|4|DEADLINE_EXCEEDED|12|UNIMPLEMENTED|13|INTERNAL|14|UNAVAILABLE|15|DATA_LOSS",grpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (rpc_server_duration_milliseconds_count{OWN,rpc_grpc_status_code=~"2|UNKNOWN|4|DEADLINE_EXCEEDED|12|UNIMPLEMENTED|13|INTERNAL|14|UNAVAILABLE|15|DATA_LOSS",rpc_service!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or (sum by (POD) (http_server_request_duration_seconds_count{OWN,http_route!~"/healthz",url_path!~"/healthz",http_response_status_code=~"5..|"}) unless (sum by (POD) (rpc_server_call_duration_seconds_count{OWN,rpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (grpc_server_call_duration_seconds_count{OWN,grpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (rpc_server_duration_milliseconds_count{OWN,rpc_service!~"grpc[.]health[.]v1[.]Health(/.*)?"}))), "banyan_term", "pods 0 bad", "", "")
        or label_replace(sum by (POD, le) (rpc_server_call_duration_seconds_bucket{OWN,le=~"0\\.25|[+]Inf",rpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD, le) (grpc_server_call_duration_seconds_bucket{OWN,le=~"0\\.25|[+]Inf",grpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}), "banyan_term", "pods 0 calls", "", "")
        or label_replace(sum by (POD, le) (rpc_server_duration_milliseconds_bucket{OWN,le=~"250([.]0)?|[+]Inf",rpc_service!~"grpc[.]health[.]v1[.]Health(/.*)?"}) unless on (POD) (rpc_server_call_duration_seconds_count{OWN,rpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"} or grpc_server_call_duration_seconds_count{OWN,grpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}), "banyan_term", "pods 0 callsmillis", "", "")
        or label_replace(sum by (POD, le) (http_server_request_duration_seconds_bucket{OWN,http_route!~"/healthz",url_path!~"/healthz",le=~"0\\.25|[+]Inf"}) unless on (POD) (sum by (POD) (rpc_server_call_duration_seconds_count{OWN,rpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (grpc_server_call_duration_seconds_count{OWN,grpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (rpc_server_duration_milliseconds_count{OWN,rpc_service!~"grpc[.]health[.]v1[.]Health(/.*)?"})), "banyan_term", "pods 0 bucket", "", "")
        or label_replace(sum by (POD) (rpc_server_call_duration_seconds_count{OWN,rpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (grpc_server_call_duration_seconds_count{OWN,grpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (rpc_server_duration_milliseconds_count{OWN,rpc_service!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (http_server_request_duration_seconds_count{OWN,http_route!=""} or http_server_request_duration_seconds_count{OWN,url_path!=""}), "banyan_term", "pods 0 named", "", "")"#]].assert_eq(&of(Speaks::Grpc));
    expect![[r#"
        label_replace(max by (POD) (timestamp(up{OWN}) and (up{OWN} == 1)), "banyan_term", "pods 0 up", "", "")
        or label_replace(max by (POD) (timestamp(rpc_server_call_duration_seconds_count{OWN}) or timestamp(grpc_server_call_duration_seconds_count{OWN}) or timestamp(rpc_server_duration_milliseconds_count{OWN}) or timestamp(http_server_request_duration_seconds_count{OWN})), "banyan_term", "pods 0 seen", "", "")
        or label_replace(sum by (POD) (sum by (POD) (rpc_server_call_duration_seconds_count{OWN,rpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (grpc_server_call_duration_seconds_count{OWN,grpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (rpc_server_duration_milliseconds_count{OWN,rpc_service!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or http_server_request_duration_seconds_count{OWN,http_route!~"/healthz",url_path!~"/healthz"}), "banyan_term", "pods 0 requests", "", "")
        or label_replace(sum by (POD) (sum by (POD) (rpc_server_call_duration_seconds_count{OWN,rpc_response_status_code=~"2|UNKNOWN|4|DEADLINE_EXCEEDED|12|UNIMPLEMENTED|13|INTERNAL|14|UNAVAILABLE|15|DATA_LOSS",rpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (grpc_server_call_duration_seconds_count{OWN,grpc_status=~"2|UNKNOWN|4|DEADLINE_EXCEEDED|12|UNIMPLEMENTED|13|INTERNAL|14|UNAVAILABLE|15|DATA_LOSS",grpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (rpc_server_duration_milliseconds_count{OWN,rpc_grpc_status_code=~"2|UNKNOWN|4|DEADLINE_EXCEEDED|12|UNIMPLEMENTED|13|INTERNAL|14|UNAVAILABLE|15|DATA_LOSS",rpc_service!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or http_server_request_duration_seconds_count{OWN,http_route!~"/healthz",url_path!~"/healthz",http_response_status_code=~"5..|"}), "banyan_term", "pods 0 bad", "", "")
        or label_replace(sum by (POD, le) (rpc_server_call_duration_seconds_bucket{OWN,le=~"0\\.25|[+]Inf",rpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD, le) (grpc_server_call_duration_seconds_bucket{OWN,le=~"0\\.25|[+]Inf",grpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}), "banyan_term", "pods 0 calls", "", "")
        or label_replace(sum by (POD, le) (rpc_server_duration_milliseconds_bucket{OWN,le=~"250([.]0)?|[+]Inf",rpc_service!~"grpc[.]health[.]v1[.]Health(/.*)?"}) unless on (POD) (rpc_server_call_duration_seconds_count{OWN,rpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"} or grpc_server_call_duration_seconds_count{OWN,grpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}), "banyan_term", "pods 0 callsmillis", "", "")
        or label_replace(sum by (POD, le) (http_server_request_duration_seconds_bucket{OWN,http_route!~"/healthz",url_path!~"/healthz",le=~"0\\.25|[+]Inf"}), "banyan_term", "pods 0 bucket", "", "")
        or label_replace(sum by (POD) (http_server_request_duration_seconds_count{OWN,http_route!=""} or http_server_request_duration_seconds_count{OWN,url_path!=""}) or ((sum by (POD) (rpc_server_call_duration_seconds_count{OWN,rpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (grpc_server_call_duration_seconds_count{OWN,grpc_method!~"grpc[.]health[.]v1[.]Health(/.*)?"}) or sum by (POD) (rpc_server_duration_milliseconds_count{OWN,rpc_service!~"grpc[.]health[.]v1[.]Health(/.*)?"})) unless sum by (POD) (http_server_request_duration_seconds_count{OWN})), "banyan_term", "pods 0 named", "", "")"#]].assert_eq(&of(Speaks::Both));
}

#[test]
fn terms_are_read_as_they_are_written() {
    for (kind, _) in Kind::ALL {
        for term in [Term::Pods(12, kind), Term::Istio(kind)] {
            assert_eq!(Term::read(&term.label()), Some(term));
        }
    }
    for label in ["", "pods", "pods x up", "pods 1 down", "istio", "other up"] {
        assert_eq!(Term::read(label), None, "{label}");
    }
}

#[test]
fn bounds_are_found_as_clients_write_them() {
    for (value, pattern) in
        [(0.2, r"0\.2"), (1.0, "1([.]0)?"), (0.57 * 1000.0, "570([.]0)?"), (0.0005 * 1000.0, r"0\.5")]
    {
        assert_eq!(bound(value), pattern, "{value}");
    }
}

#[test]
fn a_query_is_taken_into_a_union_only_if_it_ends_within_itself() {
    for query in [
        "a",
        "sum by (revision) (a{b=\"c\"}[5m])",
        "a # (",
        "a{b=~\"[(\\\"]\"}",
        "a{b='`'} + a{b=`\\`}",
        "# first\na",
    ] {
        assert!(self_contained(query), "{query}");
    }
    for query in [
        "",
        " \n",
        "# nothing",
        "a)",
        "a) or (b",
        "(a",
        "(a]",
        "a{b=\"c}",
        "a{b=\"c\\\"}",
        "a{b='c\n'}",
        "a{b=`c}",
        "a\n), \"x\", \"1\", \"\", \"\") or label_replace((b",
    ] {
        assert!(!self_contained(query), "{query}");
    }
    assert_eq!(
        union(&["a # b", "c"]),
        "label_replace((\na # b\n), \"banyan_term\", \"0\", \"\", \"\")\nor\n\
         label_replace((\nc\n), \"banyan_term\", \"1\", \"\", \"\")"
    );
}
