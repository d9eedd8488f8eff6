//! Whatever counts requests counts the same: the load generator, Envoy, the pods, Prometheus.

use std::time::Duration;

use banyan::sandbox::process::Signal;
use banyan::sandbox::traffic::metrics::DURATION;
use banyan::sandbox::traffic::{Behaviour, Load};
use banyan::signals::builtin::Limits;
use banyan::signals::grpc::Speaks;
use banyan::signals::{Answer, Arm, BuiltIn, Counted, Endpoint, Pod, Prometheus, Subject, What};

use crate::runner::{Scenario, scenarios};
use crate::world::{Space, World, assert_share, fetch, sum, until};

/// All of this file.
pub fn scenarios() -> Vec<Scenario> {
    let mut scenarios = scenarios![Gateway:
        envoy_pods_and_prometheus_count_what_was_sent,
        calls_of_grpc_are_counted_by_what_became_of_them,
        who_is_not_ready_gets_no_request,
    ];
    // They stop the Prometheus, and fail the requests of all pods.
    scenarios.extend(scenarios![Alone:
        a_real_prometheus_answers_what_rollouts_ask,
        pods_behave_as_they_are_told,
    ]);
    scenarios
}

async fn envoy_pods_and_prometheus_count_what_was_sent(world: &World) {
    let space = world.space("counts").await;
    space.deploy("stable", 2).await;
    space.deploy("canary", 2).await;
    space.route(&[("stable", 80), ("canary", 20)]).await;
    space.hears_of("stable").await;
    space.hears_of("canary").await;
    let names = ["stable", "canary"];
    let envoy = async |name: &str| {
        let cluster = space.cluster(name);
        (world.envoy(&cluster, None).await, world.envoy(&cluster, Some("5")).await)
    };
    // Not from zero: the first requests of all were sent before the gateway knew of any pod.
    let before = [envoy(names[0]).await, envoy(names[1]).await];
    let pods_before: Vec<u64> = names.iter().map(|name| requests(world, &space.pods(name)).0).collect();
    world.pods.behave(&space.release("canary"), Some(Behaviour::failing(20.0)));
    let tally = Load::exactly(space.load().at(1500.0), 3000).await.expect("a load");
    assert_eq!((tally.answered(), tally.broken.len()), (3000, 0), "{tally}");
    let canary = tally.of(&space.release("canary"));
    assert_share(canary.total(), 3000, 0.2);
    assert_share(canary.failed(), canary.total(), 0.2);
    assert_eq!(tally.of(&space.release("stable")).failed(), 0, "{tally}");

    for (index, name) in names.into_iter().enumerate() {
        let sent = tally.of(&space.release(name));
        until(
            &format!("Envoy has counted {} of {name}, {} of them failed", sent.total(), sent.failed()),
            async || {
                let (all, failed) = envoy(name).await;
                let (all, failed) = (all - before[index].0, failed - before[index].1);
                (all == sent.total() && failed == sent.failed()).then_some(())
            },
        )
        .await;
        // What a pod says over HTTP is what it counted.
        let mut said = 0;
        for pod in space.pods(name) {
            let text = fetch(&format!("http://{}:9090/metrics", pod.address)).await;
            said += sum(&text, &format!("{DURATION}_count"), &["http_route=\"/\""]);
        }
        let (counted, failed) = requests(world, &space.pods(name));
        assert_eq!((said, failed), (counted, sent.failed()), "{name}");
        assert_eq!(said - pods_before[index], sent.total(), "{name}");
        prometheus_has(world, &space.namespace, name, said, failed).await;
    }
}

/// Waits until the Prometheus of the machine has the numbers of one revision.
async fn prometheus_has(world: &World, namespace: &str, revision: &str, all: u64, failed: u64) {
    let Some(prometheus) = world.prometheus_or_skip() else { return };
    let own =
        format!("namespace=\"{namespace}\",banyan_dev_service=\"app\",banyan_dev_revision=\"{revision}\"");
    for (labels, wanted) in [("", all), (",http_response_status_code=\"500\"", failed)] {
        let query = format!("sum({DURATION}_count{{{own}{labels}}}) or vector(0)");
        until(&format!("{query} is {wanted}"), async || {
            let answer = prometheus.query(&query).await.expect("an answer");
            (answer.first().map(|(_, value)| *value) == Some(wanted as f64)).then_some(())
        })
        .await;
    }
}

/// The questions of rollouts, to a Prometheus that is one: what it answers is what was sent, and while it is stopped
/// there is no answer.
async fn a_real_prometheus_answers_what_rollouts_ask(world: &World) {
    let Some(real) = world.prometheus_or_skip() else { return };
    let space = world.space("asks").await;
    let names = ["stable", "canary"];
    for name in names {
        space.deploy(name, 2).await;
    }
    space.route(&[("stable", 80), ("canary", 20)]).await;
    for name in names {
        space.hears_of(name).await;
    }
    world.pods.behave(&space.release("canary"), Some(Behaviour::failing(20.0)));
    let tally = Load::exactly(space.load().at(1500.0), 3000).await.expect("a load");
    assert_eq!(tally.answered(), 3000, "{tally}");
    let own = |labels: &str| {
        let own = format!("namespace=\"{}\"{labels}", space.namespace);
        format!(
            "label_replace(sum by (banyan_dev_revision) ({DURATION}_count{{{own}}}), \"revision\", \"$1\", \"banyan_dev_revision\", \"(.*)\")"
        )
    };
    let custom = What::Custom { bad: own(",http_response_status_code=\"500\""), total: own("") };
    let metrics = [What::Errors, custom].into_iter();
    let subject = Subject { metrics: metrics.map(counted).collect(), ..subject(&space, names) };
    let asker = Prometheus::new(real.url(), None, None).expect("an address");
    let ask = async || asker.ask(std::slice::from_ref(&subject)).await.remove(0);
    let sent = names.map(|name| requests(world, &space.pods(name)));
    let answers_all = async || {
        let answer = ask().await;
        let right = |metric| (0..2).all(|arm| told(&answer, metric, arm) == Some(sent[arm]));
        (right(0) && right(1)).then_some(answer)
    };
    let answer = until(&format!("it answers {sent:?}"), answers_all).await;
    let Answer::Readings { readings, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(readings.iter().filter(|reading| reading.metric == 0).count(), 4, "one of each pod");
    assert!(sent[1].1 > 0, "some of the canary's failed");

    real.signal(Signal::Stop).expect("a signal");
    let silent = asker_answers_nothing(real.url(), &subject).await;
    real.signal(Signal::Cont).expect("a signal");
    assert!(silent.contains("no answer within"), "{silent}");
    until("it answers again", answers_all).await;
}

/// A rollout from one workload to the other.
fn subject(space: &Space<'_>, names: [&str; 2]) -> Subject {
    let arm = |name: &str| {
        let pods = space.pods(name).into_iter();
        Arm {
            namespace: space.namespace.clone(),
            service: name.to_owned(),
            port: 8080,
            revision: name.to_owned(),
            pods: pods
                .map(|pod| Pod { name: pod.name, address: pod.address.into(), ready_since: Some(1.0) })
                .collect(),
        }
    };
    Subject {
        namespace: space.namespace.clone(),
        service: "app".to_owned(),
        arms: names.map(arm),
        metrics: vec![counted(What::Errors)],
        endpoint: Some(Endpoint { port: 9090, path: "/metrics".to_owned() }),
        not_counted: vec!["/metrics".to_owned()],
        ..Subject::default()
    }
}

/// A metric of that kind.
pub fn counted(what: What) -> Counted {
    Counted { name: "errors".to_owned(), what }
}

/// All requests and the bad ones that an answer has of an arm.
fn told(answer: &Answer, metric: usize, arm: usize) -> Option<(u64, u64)> {
    let Answer::Readings { readings, .. } = answer else { return None };
    let of_arm = readings.iter().filter(|reading| (reading.metric, reading.arm) == (metric, arm));
    Some(of_arm.fold((0, 0), |sum, one| (sum.0 + one.requests as u64, sum.1 + one.bad as u64)))
}

/// A call that fails has the HTTP status 200. It is counted as failed all the same: by Envoy, by the pods, and by a
/// Prometheus that scrapes them.
async fn calls_of_grpc_are_counted_by_what_became_of_them(world: &World) {
    let space = world.space("calls").await;
    let names = ["stable", "canary"];
    for name in names {
        space.deploy_speaking(name, 2, "kubernetes.io/h2c").await;
    }
    space.route(&[("stable", 80), ("canary", 20)]).await;
    let load = || space.load_speaking("GRPC");
    for name in names {
        until(&format!("calls go to {name}"), async || {
            let tally = Load::exactly(load().at(2000.0), 20).await.expect("a load");
            (tally.of(&space.release(name)).total() > 0 && tally.failed() == 0).then_some(())
        })
        .await;
    }
    let metrics = vec![counted(What::Errors), counted(What::Slower(0.25))];
    let subject = Subject { speaks: Speaks::Grpc, probed: true, metrics, ..subject(&space, names) };
    let limits = || Limits::within(Duration::from_secs(8));
    let proxies = BuiltIn::new(&[world.gateway.stats_url()], limits()).expect("a source");
    let failed_by_proxies = async || {
        let answer = proxies.ask(std::slice::from_ref(&subject), 1.0).await.remove(0);
        told(&answer, 0, 1).unwrap_or_else(|| panic!("{answer:?}")).1
    };
    let cluster = space.cluster("canary");
    // Not from zero: the first calls of all were sent before the gateway knew of any pod.
    let before = (world.envoy_calls(&cluster, 14).await, failed_by_proxies().await);
    let of_http = world.envoy(&cluster, Some("5")).await;
    world.pods.behave(&space.release("canary"), Some(Behaviour::failing(20.0)));
    let tally = Load::exactly(load().at(1000.0), 2000).await.expect("a load");
    let canary = tally.of(&space.release("canary"));
    assert_eq!((tally.answered(), tally.broken.len()), (2000, 0), "{tally}");
    assert_share(canary.failed(), canary.total(), 0.2);
    assert_eq!(tally.failed(), canary.failed(), "{tally}");

    let sent = names.map(|name| requests(world, &space.pods(name)));
    assert_eq!((sent[0].1, sent[1].1), (0, canary.failed()));
    until("Envoy has counted the calls that failed", async || {
        (world.envoy_calls(&cluster, 14).await == before.0 + canary.failed()).then_some(())
    })
    .await;
    assert_eq!(world.envoy(&cluster, Some("5")).await, of_http, "HTTP knows nothing of it");
    assert_eq!(failed_by_proxies().await, before.1 + canary.failed());

    let all = |answer: &Answer| {
        let right = |arm: usize| {
            told(answer, 0, arm) == Some(sent[arm]) && told(answer, 1, arm) == Some((sent[arm].0, 0))
        };
        right(0) && right(1)
    };
    let pods = BuiltIn::new(&[], limits()).expect("a source");
    let answer = pods.ask(std::slice::from_ref(&subject), 1.0).await.remove(0);
    assert!(all(&answer), "{answer:?}");
    let Some(real) = world.prometheus_or_skip() else { return };
    let asker = Prometheus::new(real.url(), None, None).expect("an address");
    for speaks in [Speaks::Grpc, Speaks::Both] {
        let subject = Subject { speaks, ..subject.clone() };
        until(&format!("Prometheus answers {sent:?} as {speaks:?}"), async || {
            let answer = asker.ask(std::slice::from_ref(&subject)).await.remove(0);
            all(&answer).then_some(())
        })
        .await;
    }
}

/// What is said of a Prometheus that does not answer.
async fn asker_answers_nothing(url: &str, subject: &Subject) -> String {
    let asker = Prometheus::new(url, None, None).expect("an address").with_deadline(Duration::from_secs(1));
    match asker.ask(std::slice::from_ref(subject)).await.remove(0) {
        Answer::Nothing(why) => why,
        answer => panic!("{answer:?}"),
    }
}

/// What pods have counted: all requests, and those that failed.
fn requests(world: &World, pods: &[banyan::sandbox::traffic::ServedPod]) -> (u64, u64) {
    let counted =
        pods.iter().map(|pod| world.pods.metrics(&pod.key()).expect("a pod that is there").requests());
    counted.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

async fn pods_behave_as_they_are_told(world: &World) {
    let space = world.space("behaves").await;
    space.deploy("app", 2).await;
    space.route(&[("app", 1)]).await;
    space.hears_of("app").await;
    let release = space.release("app");
    let send = async || Load::exactly(space.load().at(1000.0), 1000).await.expect("a load");
    assert_eq!(send().await.failed(), 0);

    world.pods.behave(&release, Some(Behaviour::failing(50.0)));
    assert_share(send().await.failed(), 1000, 0.5);
    world.pods.behave(&release, None);

    // A blip is of one pod: what fails is what that one answers.
    let pods = space.pods("app");
    world.pods.blip(&pods[0].key(), Some(Behaviour::failing(100.0)));
    let tally = send().await;
    assert_eq!(tally.failed(), tally.pods[&pods[0].name], "{tally}");
    assert!(tally.failed() < 1000, "{tally}");
    world.pods.blip(&pods[0].key(), None);

    world.pods.outage(Some(Behaviour::failing(100.0)));
    assert_eq!(send().await.failed(), 1000);
    world.pods.outage(None);

    // Slow is slow, and nothing else.
    let slow = Duration::from_millis(300);
    world.pods.behave(&release, Some(Behaviour { latency: slow, ..Behaviour::default() }));
    let tally = Load::exactly(space.load(), 20).await.expect("a load");
    assert_eq!(tally.failed(), 0, "{tally}");
    let fastest = tally.of(&release).latencies.quantile(0.0).expect("answers");
    assert!(fastest >= slow, "{fastest:?}");
    world.pods.behave(&release, None);
}

async fn who_is_not_ready_gets_no_request(world: &World) {
    let space = world.space("unready").await;
    space.deploy("app", 2).await;
    space.route(&[("app", 1)]).await;
    space.hears_of("app").await;
    let pod = space.pods("app").remove(0);
    world.pods.set_ready(&pod.key(), false).await.expect("a pod that is not Ready");
    until("the other one gets all", async || (world.known(&space.cluster("app")).await == 1).then_some(()))
        .await;
    let tally = Load::exactly(space.load().at(1000.0), 300).await.expect("a load");
    assert_eq!((tally.failed(), tally.pods.get(&pod.name)), (0, None), "{tally}");

    world.pods.restarted(&pod.key(), 3).await.expect("a pod that crashed");
    let read = space.api("v1", "Pod").get(&pod.name).await.expect("a pod");
    assert_eq!(read.data["status"]["containerStatuses"][0]["restartCount"], 3);
    assert_eq!(read.data["status"]["containerStatuses"][0]["ready"], false);
    world.pods.set_ready(&pod.key(), true).await.expect("a pod that is Ready");
    until("both take part", async || (world.known(&space.cluster("app")).await == 2).then_some(())).await;
    let tally = Load::exactly(space.load().at(1000.0), 300).await.expect("a load");
    assert_eq!((tally.failed(), tally.pods.len()), (0, 2), "{tally}");
}
