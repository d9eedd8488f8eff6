use super::super::promql::built_in;
use super::super::subject::{Arm, Counted, What};
use super::*;

fn slice(rows: &Result<Vec<Row>, String>) -> Result<&[Row], String> {
    rows.as_deref().map_err(Clone::clone)
}

fn row(term: &str, labels: &[(&str, &str)], value: f64) -> Row {
    let mut all: BTreeMap<String, String> =
        labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    all.insert(TERM.to_owned(), term.to_owned());
    Row { labels: all, time: 1000.0, value }
}

fn subject(metrics: Vec<What>) -> Subject {
    let arm = |hash: &str| Arm {
        namespace: "pay".into(),
        service: format!("tx-{hash}"),
        port: 80,
        revision: hash.into(),
        pods: vec![pod(&format!("{hash}-1"))],
    };
    Subject {
        namespace: "pay".into(),
        service: "tx".into(),
        arms: [arm("old"), arm("new")],
        metrics: metrics.into_iter().map(|what| Counted { name: "m".into(), what }).collect(),
        ..Subject::default()
    }
}

fn pod(name: &str) -> Pod {
    Pod { name: name.into(), address: [10, 0, 0, 1].into(), ready_since: Some(1.0) }
}

/// What a pod of `new` says of itself, as one of the jobs that scrape it has it.
fn of_pod(kind: &str, job: &str, value: f64) -> Row {
    let labels = [
        ("namespace", "pay"),
        ("banyan_dev_service", "tx"),
        ("banyan_dev_revision", "new"),
        ("pod", "new-1"),
        ("job", job),
        ("instance", "10.0.0.1:9090"),
    ];
    row(&format!("pods 0 {kind}"), &labels, value)
}

/// What a proxy says of the Service of a revision.
fn of_proxy(kind: &str, pod: &str, job: &str, to: &str, value: f64) -> Row {
    let labels = [
        ("namespace", "istio-system"),
        ("pod", pod),
        ("job", job),
        ("instance", "10.0.0.9:15090"),
        ("destination_service_namespace", "pay"),
        ("destination_service_name", to),
    ];
    row(&format!("istio {kind}"), &labels, value)
}

fn told(rows: &[Row]) -> Result<Told, String> {
    let subject = subject(vec![What::Errors]);
    let query = built_in(std::slice::from_ref(&subject)).unwrap();
    Series::of(rows).told(&query, 0, &subject, 1, &pod("new-1"))
}

#[test]
fn istio_counts_durations_in_milliseconds_and_pods_in_seconds() {
    let bucket = |le: &str, value| {
        let mut row = of_proxy("bucket", "gateway-0", "envoy", "tx-new", value);
        row.labels.insert("le".to_owned(), le.to_owned());
        row
    };
    let slower = What::Slower(0.25);
    let rows =
        [of_proxy("seen", "gateway-0", "envoy", "tx-new", 999.0), bucket("250", 70.0), bucket("+Inf", 100.0)];
    let proxies = Series::of(&rows).proxies(&subject(vec![slower.clone()]));
    assert_eq!(proxies[0].arms[1].as_ref().unwrap().of(&slower), Ok((100.0, 30.0)));

    let bucket = |le: &str, value| {
        let mut row = of_pod("bucket", "tx", value);
        row.labels.insert("le".to_owned(), le.to_owned());
        row
    };
    let told = told(&[of_pod("seen", "tx", 999.0), bucket("0.25", 40.0), bucket("+Inf", 50.0)]).unwrap();
    assert_eq!(told.counts.unwrap().of(&slower), Ok((50.0, 10.0)));
}

#[test]
fn a_pod_that_two_jobs_scrape_counts_once_and_what_is_stale_is_no_answer() {
    let once = |job, value| [of_pod("seen", job, 990.0), of_pod("requests", job, value)];
    let both: Vec<Row> = once("a", 5.0).into_iter().chain(once("b", 6.0)).collect();
    let said = told(&both).unwrap();
    assert_eq!((said.time, said.counts.unwrap().of(&What::Errors)), (990.0, Ok((5.0, 0.0))));

    // One job that is long gone leaves the other to tell.
    let stale = [of_pod("seen", "a", 900.0), of_pod("requests", "a", 1.0)];
    let mut mixed = stale.to_vec();
    mixed.extend(once("b", 6.0));
    assert_eq!(told(&mixed).unwrap().counts.unwrap().of(&What::Errors), Ok((6.0, 0.0)));
    let why = told(&stale).unwrap_err();
    assert_eq!(why, "its newest sample is stale: 100 s old");
    let why = told(&[]).unwrap_err();
    assert!(why.contains("no series of it") && why.contains("ServiceMonitor"), "{why}");
}

#[test]
fn a_pod_that_is_up_and_has_counted_nothing_is_not_one_that_is_away() {
    let said = told(&[of_pod("up", "tx", 995.0)]).unwrap();
    assert_eq!((said.time, said.counts), (995.0, None));
    assert!(told(&[of_pod("up", "tx", f64::NAN)]).is_err(), "a time that is none");
}

#[test]
fn the_same_series_twice_spoils_the_answer_about_those_whom_it_concerns_alone() {
    let subjects = [subject(vec![What::Errors]), {
        let mut other = subject(vec![What::Errors]);
        other.service = "other".into();
        other.arms.iter_mut().for_each(|arm| arm.service = format!("other-{}", arm.revision));
        other
    }];
    let query = built_in(&subjects).unwrap();
    let check = |rows: &[Row]| {
        let series = Series::of(rows);
        [0, 1].map(|place| series.check(&query, place, &subjects[place]).is_ok())
    };
    let pod = of_pod("requests", "tx", 1.0);
    assert_eq!(check(std::slice::from_ref(&pod)), [true, true]);
    assert_eq!(check(&[pod.clone(), pod]), [false, true]);
    let proxy = of_proxy("requests", "gateway-0", "envoy", "other-new", 1.0);
    assert_eq!(check(&[proxy.clone(), proxy]), [true, false]);
}

#[test]
fn a_proxy_that_two_jobs_scrape_counts_once_and_one_that_is_gone_not_at_all() {
    let of = |pod: &str, job: &str, to: &str, seen: f64, value: f64| {
        [of_proxy("seen", pod, job, to, seen), of_proxy("requests", pod, job, to, value)]
    };
    let rows: Vec<Row> = [
        of("gateway-0", "a", "tx-old", 990.0, 90.0),
        of("gateway-0", "a", "tx-new", 995.0, 10.0),
        of("gateway-0", "b", "tx-old", 991.0, 91.0),
        of("gateway-1", "a", "tx-old", 990.0, 7.0),
        of("gateway-2", "a", "tx-old", 900.0, 999.0),
        of("gateway-3", "a", "elsewhere", 990.0, 999.0),
    ]
    .concat();
    let proxies = Series::of(&rows).proxies(&subject(vec![What::Errors]));
    let seen: Vec<_> = proxies
        .iter()
        .map(|proxy| {
            let of_arm =
                |arm: usize| proxy.arms[arm].as_ref().map(|counts| counts.of(&What::Errors).unwrap().0);
            (proxy.id.as_str(), proxy.time, of_arm(0), of_arm(1))
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("istio-system/gateway-0", 995.0, Some(90.0), Some(10.0)),
            ("istio-system/gateway-1", 990.0, Some(7.0), None),
        ]
    );
}

#[test]
fn own_metrics_are_told_apart_by_revision_or_variant_and_need_one_series_for_each() {
    let subject = subject(vec![]);
    let rows = |of: &[(&str, &str, f64)]| -> Result<Vec<Row>, String> {
        Ok(of.iter().map(|(name, value, count)| row("0", &[(*name, *value)], *count)).collect())
    };
    let ask = |bad: &[(&str, &str, f64)], total: &[(&str, &str, f64)]| {
        let readings = custom(&subject, "own", slice(&rows(bad)), slice(&rows(total)));
        readings.map(|readings| readings.iter().map(|r| (r.arm, r.requests, r.bad)).collect::<Vec<_>>())
    };
    let both = vec![(0, 40.0, 0.0), (1, 10.0, 2.0)];
    assert_eq!(
        ask(&[("revision", "new", 2.0)], &[("revision", "old", 40.0), ("revision", "new", 10.0)]),
        Ok(both.clone())
    );
    assert_eq!(
        ask(&[("variant", "new", 2.0)], &[("variant", "old", 40.0), ("variant", "new", 10.0)]),
        Ok(both)
    );
    assert_eq!(ask(&[], &[("revision", "old", 40.0)]), Ok(vec![(0, 40.0, 0.0), (1, 0.0, 0.0)]));
    let why = ask(&[], &[("revision", "another", 1.0)]).unwrap_err();
    assert!(why.contains("revision=\"old\" or revision=\"new\""), "{why}");
    let why = ask(&[], &[("revision", "new", 1.0), ("revision", "new", 2.0)]).unwrap_err();
    assert!(why.contains("the same series for `new` more than once"), "{why}");
    let why = ask(&[("revision", "new", f64::NAN)], &[("revision", "new", 1.0)]).unwrap_err();
    assert_eq!(why, "the query for bad gives NaN, which is no counter");
    let why = custom(&subject, "own", Err("no answer".into()), slice(&rows(&[("revision", "new", 1.0)])))
        .unwrap_err();
    assert_eq!(why, "the query for bad: no answer");
}

#[test]
fn own_metrics_of_each_pod_are_series_of_their_own() {
    let subject = subject(vec![]);
    let rows = |of: &[(&str, f64)]| -> Result<Vec<Row>, String> {
        Ok(of.iter().map(|(pod, count)| row("0", &[("revision", "new"), ("pod", pod)], *count)).collect())
    };
    let readings = custom(
        &subject,
        "own",
        slice(&rows(&[("new-1", 2.0)])),
        slice(&rows(&[("new-1", 9.0), ("new-2", 7.0)])),
    )
    .unwrap();
    let of_new: Vec<_> = readings.iter().filter(|reading| reading.arm == 1).collect();
    assert_eq!(of_new.iter().map(|r| (r.requests, r.bad)).collect::<Vec<_>>(), [(9.0, 2.0), (7.0, 0.0)]);
    assert_ne!(of_new[0].series, of_new[1].series);
    let why = custom(
        &subject,
        "own",
        slice(&rows(&[("new-3", 2.0)])),
        slice(&rows(&[("new-1", 9.0), ("new-2", 7.0)])),
    )
    .unwrap_err();
    assert!(!why.contains("new-3") && why.contains("sum by (revision, pod)"), "faults 4.2: {why}");
}
