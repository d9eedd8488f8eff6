//! From what was counted to an answer: whose counters are believed for which metric. Pure.
//!
//! Proxies come first: pods miss their own crashes and refusals, and what a proxy counts by Service is shared by
//! chance even where some requests are chosen, since those go to a Service of their own.
//!
//! **Proxies are believed as soon as one of them knows the canary's Service.** Nothing but the route of this rollout
//! names that Service, so such a proxy is one that the route goes through. What it does not know of the other arm it
//! has not sent there: its counter is 0 and not missing. So the first requests of a canary that has just got its
//! first weight count from the first one, and a stable that is sent nothing any more (weight 100) is one with no
//! requests, not a source that is away. While proxies know stable alone, they may be ones that the route does not go
//! through (any more): the pods are asked, if they can be; else the proxies are right in that the canary got nothing.
//!
//! That is decided for each metric, since a histogram of the proxies may lack the bound that the pods' has.
//!
//! **Where a proxy that is asked does not tell, what pods count speaks only against a canary.** It is taken in, so that one
//! that fails goes back; but a release that hangs shows in nothing that its pods count, so that the metric is missing too,
//! and nothing is gone on from until the proxies tell again.

use super::counts::{Counts, Untold};
use super::subject::{Answer, Arm, Counted, Reading, Subject, What};
use crate::evidence::pod_id;

/// What one pod counted.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Its arm.
    pub arm: usize,
    /// Its series.
    pub series: u64,
    /// When, in Unix seconds.
    pub time: f64,
    /// Since when it is Ready.
    pub ready_since: Option<f64>,
    /// What it counted.
    pub counts: Counts,
}

/// What one proxy counted of one subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// What it is known by: its address, or its pod.
    pub id: String,
    /// When, in Unix seconds.
    pub time: f64,
    /// Of both arms; `None` where it does not know the arm's Service.
    pub arms: [Option<Counts>; 2],
}

/// The part of an arm's pods that may be younger than the arm is taken to be. Of a large arm some pod is always young,
/// and the arm would say nothing for most of the time; a tenth of the requests bounds what these can add to its rate.
const YOUNG: f64 = 0.1;

/// What is said where pods are asked because a proxy does not tell.
const PODS_ALONE: &str = "pods alone do not show requests that hang";

/// Since when nearly all pods of an arm have been Ready: a proxy cannot tell them apart. What is not known to have pods
/// (the old backend) has always been there.
pub fn ready_since(arm: &Arm) -> Option<f64> {
    if arm.pods.is_empty() && arm.revision.is_empty() {
        return Some(0.0);
    }
    let mut since: Vec<f64> = arm.pods.iter().filter_map(|pod| pod.ready_since).collect();
    since.sort_by(|one, other| other.total_cmp(one));
    since.get((since.len() as f64 * YOUNG) as usize).copied()
}

/// Whether some metric has to be asked from pods, or could be.
pub fn needs_pods(subject: &Subject, proxies: &[Proxy]) -> bool {
    let built_in = |metric: &&Counted| !matches!(metric.what, What::Custom { .. });
    let mut metrics = subject.metrics.iter().filter(built_in);
    subject.endpoint.is_some()
        && (!knows_canary(proxies)
            || metrics.any(|metric| by_proxies(subject, &metric.what, proxies).is_err()))
}

fn knows_canary(proxies: &[Proxy]) -> bool {
    proxies.iter().any(|proxy| proxy.arms[1].is_some())
}

/// The answer about a subject: from what proxies counted, why another one that was asked could not be read, what pods counted
/// (or why not, in words), and, for metrics of the service's own, from `custom`, which is asked by the place of the metric.
pub fn answer(
    subject: &Subject,
    (proxies, unread): (&[Proxy], Option<&str>),
    pods: &Result<Vec<View>, String>,
    mut custom: impl FnMut(usize) -> Result<Vec<Reading>, String>,
) -> Answer {
    let (mut readings, mut comparable, mut missing) = (Vec::new(), true, Vec::new());
    let (mut exact, mut uncounted) = (true, 0);
    let unread = unread.filter(|_| !knows_canary(proxies));
    for (place, metric) in subject.metrics.iter().enumerate() {
        let found = match &metric.what {
            // The queries themselves tell the arms apart.
            What::Custom { .. } => custom(place).map(|readings| (readings, true)),
            what => built_in(subject, what, proxies, pods).map(|found| {
                exact &= found.by_proxies;
                if let Some(why) = unread.filter(|_| !found.by_proxies) {
                    missing.push((place, format!("{}: {why}; {PODS_ALONE}", metric.name)));
                }
                (found.readings, found.comparable)
            }),
        };
        match found {
            Ok((found, by_chance)) => {
                comparable &= by_chance;
                readings.extend(found.into_iter().map(|reading| Reading { metric: place, ..reading }));
            }
            Err(why) => {
                uncounted += 1;
                missing.push((place, format!("{}: {why}", metric.name)));
            }
        }
    }
    match missing.first() {
        Some((_, why)) if uncounted == subject.metrics.len() => Answer::Nothing(why.clone()),
        _ => Answer::Readings { readings, comparable, exact, missing },
    }
}

/// Readings of one metric.
struct Found {
    readings: Vec<Reading>,
    /// Whether they are shared by chance alone.
    comparable: bool,
    /// Whether the proxies that share the requests counted them.
    by_proxies: bool,
}

fn built_in(
    subject: &Subject,
    what: &What,
    proxies: &[Proxy],
    pods: &Result<Vec<View>, String>,
) -> Result<Found, String> {
    let mut whys = Vec::new();
    let proxied = |readings| Found { readings, comparable: true, by_proxies: true };
    if knows_canary(proxies) {
        match by_proxies(subject, what, proxies) {
            Ok(readings) => return Ok(proxied(readings)),
            Err(why) => whys.push(format!("as proxies count, {why}")),
        }
    }
    match pods {
        Ok(pods) => match by_pods(subject, what, pods) {
            Ok(readings) => {
                let comparable = !subject.chosen && !subject.inside;
                return Ok(Found { readings, comparable, by_proxies: false });
            }
            Err(why) => whys.push(why),
        },
        Err(_) if !proxies.is_empty() && !knows_canary(proxies) => match by_proxies(subject, what, proxies) {
            Ok(readings) => return Ok(proxied(readings)),
            Err(why) => whys.push(format!("as proxies count, {why}")),
        },
        Err(why) => whys.push(why.clone()),
    }
    Err(whys.join("; "))
}

fn by_proxies(subject: &Subject, what: &What, proxies: &[Proxy]) -> Result<Vec<Reading>, Untold> {
    let mut readings = Vec::new();
    // A proxy that knows neither arm says nothing.
    for proxy in proxies.iter().filter(|proxy| proxy.arms.iter().any(Option::is_some)) {
        for (place, arm) in subject.arms.iter().enumerate() {
            let counts = proxy.arms[place].as_ref();
            let (requests, bad) = counts.map_or(Ok((0.0, 0.0)), |counts| counts.of(what))?;
            let unanswered = counts.map_or(0.0, |counts| counts.unanswered(what));
            let series = pod_id(&format!("{} {}/{}:{}", proxy.id, arm.namespace, arm.service, arm.port));
            let ready_since = ready_since(arm);
            readings.push(Reading {
                metric: 0,
                arm: place,
                series,
                time: proxy.time,
                ready_since,
                requests,
                bad,
                unanswered,
            });
        }
    }
    Ok(readings)
}

/// A pod whose counters are no numbers is left out as one that does not answer is.
fn by_pods(subject: &Subject, what: &What, pods: &[View]) -> Result<Vec<Reading>, String> {
    let mut readings = Vec::new();
    let mut spoilt = None;
    for view in pods {
        match view.counts.of(what) {
            Ok((requests, bad)) => readings.push(Reading {
                metric: 0,
                arm: view.arm,
                series: view.series,
                time: view.time,
                ready_since: view.ready_since,
                requests,
                bad,
                unanswered: view.counts.unanswered(what),
            }),
            Err(why @ Untold::NotANumber) => spoilt = Some((view.arm, why)),
            Err(why) => return Err(format!("as pods of {} count, {why}", subject.arm_name(view.arm))),
        }
    }
    match spoilt {
        Some((arm, why)) if !readings.iter().any(|reading| reading.arm == arm) => {
            Err(format!("no pod of {} can be used: {why}", subject.arm_name(arm)))
        }
        _ => Ok(readings),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::subject::{Endpoint, Pod};
    use super::*;

    fn counts(requests: f64, bad: f64) -> Counts {
        let mut counts = Counts::default();
        counts.add_requests(requests);
        counts.add_bad(bad);
        counts
    }

    fn timed(requests: f64, bound: f64, fast: f64) -> Counts {
        let mut counts = counts(requests, 0.0);
        counts.add_bucket(bound, fast);
        counts.add_bucket(f64::INFINITY, requests);
        counts
    }

    fn subject(metrics: Vec<What>) -> Subject {
        let arm = |hash: &str, since: [f64; 2]| Arm {
            namespace: "pay".into(),
            service: format!("tx-{hash}"),
            port: 80,
            revision: hash.into(),
            pods: since
                .into_iter()
                .map(|since| Pod {
                    name: format!("{hash}-{since}"),
                    address: IpAddr::from([10, 0, 0, 1]),
                    ready_since: Some(since),
                })
                .collect(),
        };
        Subject {
            arms: [arm("old", [5.0, 7.0]), arm("new", [100.0, 90.0])],
            metrics: metrics.into_iter().map(|what| Counted { name: "m".into(), what }).collect(),
            endpoint: Some(Endpoint { port: 9, path: "/metrics".into() }),
            chosen: true,
            ..Subject::default()
        }
    }

    fn proxy(id: &str, arms: [Option<Counts>; 2]) -> Proxy {
        Proxy { id: id.into(), time: 50.0, arms }
    }

    fn pods(old: Counts, new: Counts) -> Result<Vec<View>, String> {
        let view = |arm, counts| View { arm, series: arm as u64, time: 51.0, ready_since: Some(1.0), counts };
        Ok(vec![view(0, old), view(1, new)])
    }

    fn no_custom(_: usize) -> Result<Vec<Reading>, String> {
        Err("not asked".into())
    }

    /// Arm, requests and bad ones of each reading, and whether they are comparable.
    fn seen(answer: &Answer) -> (Vec<(usize, f64, f64)>, bool) {
        match answer {
            Answer::Readings { readings, comparable, .. } => {
                (readings.iter().map(|r| (r.arm, r.requests, r.bad)).collect(), *comparable)
            }
            Answer::Nothing(why) => panic!("{why}"),
        }
    }

    #[test]
    fn what_pods_count_while_a_proxy_does_not_tell_is_taken_in_and_is_not_enough() {
        let subject = subject(vec![What::Errors, What::Slower(0.2)]);
        let pods = pods(timed(88.0, 0.2, 80.0), timed(9.0, 0.2, 8.0));
        let why = Some("the proxy 10.0.0.9 tells nothing: no answer within 1s");
        let Answer::Readings { readings, missing, exact, .. } =
            answer(&subject, (&[], why), &pods, no_custom)
        else {
            panic!()
        };
        assert_eq!((readings.len(), missing.len(), exact), (4, 2, false), "it may fail, and does not pass");
        assert!(
            missing[0].1.ends_with("within 1s; pods alone do not show requests that hang"),
            "{missing:?}"
        );
        // Another one tells of the canary.
        let known = [proxy("a", [None, Some(timed(9.0, 0.2, 8.0))])];
        let Answer::Readings { missing, .. } = answer(&subject, (&known, why), &pods, no_custom) else {
            panic!()
        };
        assert_eq!(missing, []);
        let nobody = Err("nobody answers".to_owned());
        assert!(matches!(answer(&subject, (&[], why), &nobody, no_custom), Answer::Nothing(_)));
    }

    #[test]
    fn proxies_that_know_the_canary_are_believed_and_what_they_do_not_know_is_zero() {
        let subject = subject(vec![What::Errors]);
        let known = [
            proxy("a", [Some(counts(90.0, 9.0)), Some(counts(10.0, 1.0))]),
            proxy("b", [Some(counts(3.0, 0.0)), None]),
            proxy("c", [None, None]),
        ];
        let pods = pods(counts(1.0, 1.0), counts(1.0, 1.0));
        let answered = answer(&subject, (&known, None), &pods, no_custom);
        let both = vec![(0, 90.0, 9.0), (1, 10.0, 1.0), (0, 3.0, 0.0), (1, 0.0, 0.0)];
        assert_eq!(seen(&answered), (both, true), "requests that were chosen go to another Service");
        let Answer::Readings { readings, .. } = answered else { panic!() };
        assert_eq!(readings[0].ready_since, Some(7.0), "the youngest pod's");
        assert_eq!(readings[1].ready_since, Some(100.0));
        let mut series: Vec<u64> = readings.iter().map(|reading| reading.series).collect();
        series.sort_unstable();
        series.dedup();
        assert_eq!(series.len(), 4);
        let alone = [proxy("a", [None, Some(counts(10.0, 1.0))])];
        assert_eq!(
            seen(&answer(&subject, (&alone, None), &pods, no_custom)).0,
            [(0, 0.0, 0.0), (1, 10.0, 1.0)]
        );
    }

    #[test]
    fn proxies_that_know_stable_alone_are_asked_only_if_pods_cannot_be() {
        let subject = subject(vec![What::Errors]);
        let stable = [proxy("a", [Some(counts(90.0, 9.0)), None])];
        assert!(needs_pods(&subject, &stable));
        let pods = pods(counts(8.0, 1.0), counts(2.0, 0.0));
        let answered = answer(&subject, (&stable, None), &pods, no_custom);
        assert_eq!(
            seen(&answered),
            (vec![(0, 8.0, 1.0), (1, 2.0, 0.0)], false),
            "pods cannot tell the chosen"
        );
        let answered = answer(&subject, (&stable, None), &Err("nobody".into()), no_custom);
        assert_eq!(seen(&answered), (vec![(0, 90.0, 9.0), (1, 0.0, 0.0)], true));
        assert_eq!(
            answer(&subject, (&[], None), &Err("nobody answers".into()), no_custom),
            Answer::Nothing("m: nobody answers".into())
        );
    }

    #[test]
    fn a_threshold_that_proxies_have_no_bound_for_is_asked_from_pods() {
        let subject = subject(vec![What::Errors, What::Slower(0.2)]);
        let known = [proxy("a", [Some(timed(90.0, 0.25, 80.0)), Some(timed(10.0, 0.25, 9.0))])];
        assert!(needs_pods(&subject, &known));
        let answered =
            answer(&subject, (&known, None), &pods(timed(88.0, 0.2, 80.0), timed(9.0, 0.2, 8.0)), no_custom);
        let Answer::Readings { readings, comparable, .. } = &answered else { panic!() };
        let metrics: Vec<_> = readings.iter().map(|r| (r.metric, r.arm, r.requests, r.bad)).collect();
        assert_eq!(metrics, [(0, 0, 90.0, 0.0), (0, 1, 10.0, 0.0), (1, 0, 88.0, 8.0), (1, 1, 9.0, 1.0)]);
        assert!(!comparable, "one of the metrics holds chosen requests");
        let pods = pods(timed(88.0, 0.1, 80.0), timed(9.0, 0.1, 8.0));
        let Answer::Readings { missing, .. } = answer(&subject, (&known, None), &pods, no_custom) else {
            panic!()
        };
        let [(1, why)] = &missing[..] else { panic!("{missing:?}") };
        for words in ["as proxies count, 0.2 s is no bound", "one of 0.25", "as pods of stable", "one of 0.1"]
        {
            assert!(why.contains(words), "{why}");
        }
        let mut enough = subject.clone();
        enough.metrics[1].what = What::Slower(0.25);
        assert!(!needs_pods(&enough, &known));
        enough.endpoint = None;
        assert!(!needs_pods(&enough, &[]));
    }

    #[test]
    fn a_pod_that_counts_no_numbers_is_left_out_unless_it_is_the_last() {
        let subject = subject(vec![What::Errors]);
        let mut pods = pods(counts(8.0, 1.0), counts(f64::NAN, 0.0)).unwrap();
        let Answer::Nothing(why) = answer(&subject, (&[], None), &Ok(pods.clone()), no_custom) else {
            panic!()
        };
        assert!(why.contains("no pod of the canary (`tx-new`)") && why.contains("NaN"), "{why}");
        pods.push(View { arm: 1, series: 7, counts: counts(3.0, 0.0), ..pods[0].clone() });
        let answered = answer(&subject, (&[], None), &Ok(pods), no_custom);
        assert_eq!(seen(&answered).0, [(0, 8.0, 1.0), (1, 3.0, 0.0)]);
    }

    #[test]
    fn metrics_of_the_services_own_are_asked_for_by_their_place() {
        let own = What::Custom { bad: "b".into(), total: "t".into() };
        let subject = subject(vec![What::Errors, own]);
        let reading = Reading {
            metric: 9,
            arm: 1,
            series: 3,
            time: 1.0,
            ready_since: None,
            requests: 5.0,
            bad: 2.0,
            unanswered: 0.0,
        };
        let pods = pods(counts(8.0, 1.0), counts(2.0, 0.0));
        let answered = answer(&subject, (&[], None), &pods, |place| {
            assert_eq!(place, 1);
            Ok(vec![reading])
        });
        let Answer::Readings { readings, .. } = answered else { panic!() };
        assert_eq!(readings[2], Reading { metric: 1, ..reading });
        let Answer::Readings { missing, .. } = answer(&subject, (&[], None), &pods, no_custom) else {
            panic!()
        };
        assert_eq!(missing, [(1, "m: not asked".to_owned())]);
    }

    #[test]
    fn where_callers_inside_pass_no_gateway_only_the_gateways_counters_compare() {
        let subject = Subject { chosen: false, inside: true, ..subject(vec![What::Errors]) };
        let pods = pods(counts(8.0, 1.0), counts(2.0, 0.0));
        assert!(!seen(&answer(&subject, (&[], None), &pods, no_custom)).1);
        let known = [proxy("a", [Some(counts(90.0, 9.0)), Some(counts(10.0, 1.0))])];
        assert!(seen(&answer(&subject, (&known, None), &pods, no_custom)).1);
    }

    #[test]
    fn an_arm_is_as_old_as_nearly_all_of_its_pods() {
        let arm = |pods: u32, young: u32| {
            let since = |place| Some(if place < young { 900.0 } else { 1.0 });
            let pod =
                |place| Pod { name: String::new(), address: [10, 0, 0, 1].into(), ready_since: since(place) };
            Arm { revision: "a".into(), pods: (0..pods).map(pod).collect(), ..Arm::default() }
        };
        for (pods, young, since) in
            [(1, 1, 900.0), (9, 1, 900.0), (10, 1, 1.0), (10, 2, 900.0), (50, 5, 1.0), (50, 6, 900.0)]
        {
            assert_eq!(ready_since(&arm(pods, young)), Some(since), "{young} of {pods}");
        }
    }

    #[test]
    fn an_old_backend_without_pods_has_always_been_there() {
        let mut subject = subject(vec![]);
        subject.arms[0].pods.clear();
        assert_eq!(ready_since(&subject.arms[0]), None, "it is a revision without pods");
        subject.arms[0].revision.clear();
        assert_eq!(ready_since(&subject.arms[0]), Some(0.0));
    }

    #[test]
    fn a_metric_that_cannot_be_counted_hides_nothing_of_the_others() {
        let subject = subject(vec![What::Errors, What::Slower(0.3)]);
        let view = |arm: usize| View {
            arm,
            series: arm as u64,
            time: 1.0,
            ready_since: Some(0.0),
            counts: timed(100.0, 0.2, 90.0),
        };
        let never = |_| -> Result<Vec<Reading>, String> { unreachable!("no metric of its own") };
        let answered = answer(&subject, (&[], None), &Ok(vec![view(0), view(1)]), never);
        let Answer::Readings { readings, missing, .. } = answered else { panic!("{answered:?}") };
        assert!(readings.len() == 2 && readings.iter().all(|reading| reading.metric == 0), "{readings:?}");
        assert!(
            matches!(&missing[..], [(1, why)] if why.contains("0.2")),
            "the bounds are named: {missing:?}"
        );
    }
}
