use super::*;

#[test]
fn a_site_is_a_dns_label() {
    for right in ["a", "aws-us-east-1", "9", &"a".repeat(63)] {
        assert_eq!(site(right), Ok(right.to_owned()));
    }
    for wrong in ["", "-a", "a-", "A", "a.b", "a b", "a_b", "é", &"a".repeat(64)] {
        assert!(site(wrong).is_err(), "{wrong:?}");
    }
}

/// A context whose API server is never there, and the tasks that must go on.
struct Bench {
    context: Context,
    leading: tokio::sync::watch::Sender<bool>,
    election: JoinHandle<Ended>,
    http: JoinHandle<std::io::Result<()>>,
    always: JoinHandle<Failure>,
    metrics: Metrics,
}

fn bench() -> Bench {
    let service = tower::service_fn(|_: ::http::Request<kube::client::Body>| async {
        Err::<::http::Response<kube::client::Body>, _>("no API server in this test")
    });
    let client = kube::Client::new(service, "default");
    let (metrics, shutdown) = (Metrics::new(), CancellationToken::new());
    let (_, heartbeat) = tokio::sync::watch::channel(tokio::time::Instant::now());
    let leadership = Leadership::always();
    let (events, _) = Events::new(
        client.clone(),
        "test",
        leadership.clone(),
        metrics.clone(),
        std::sync::Arc::new(|_, _, _| {}),
    );
    let permits = std::sync::Arc::new(Permits::new(1));
    let context = Context {
        api_server: None,
        statuses: StatusWriter::new(client.clone(), permits.clone(), leadership.clone(), metrics.clone()),
        permits,
        client,
        site: "aws-us-east-1".into(),
        namespace: "banyan-system".into(),
        concurrency: 1,
        health: Health::new(heartbeat, leadership.clone(), shutdown.clone()),
        leadership,
        events,
        metrics: metrics.clone(),
        shutdown,
    };
    Bench {
        context,
        leading: tokio::sync::watch::channel(false).0,
        election: tokio::spawn(std::future::pending()),
        http: tokio::spawn(std::future::pending()),
        always: tokio::spawn(std::future::pending()),
        metrics,
    }
}

/// Leads with work that takes `takes` to end once told to, or ends by itself with `fails`.
async fn work(bench: &mut Bench, takes: Duration, fails: Option<&'static str>) -> Result<(), RunError> {
    let (leadership, leading) = (bench.context.leadership.clone(), bench.leading.clone());
    let tasks = Tasks { election: &mut bench.election, http: &mut bench.http, always: &mut bench.always };
    let controllers = |context: Context| async move {
        leading.send_replace(true);
        if let Some(why) = fails {
            return Err(why.into());
        }
        context.shutdown.cancelled().await;
        tokio::time::sleep(takes).await;
        leading.send_replace(false);
        Ok(())
    };
    let shutdown = bench.context.shutdown.clone();
    lead(tasks, &shutdown, controllers(bench.context.clone()), &leadership, &bench.metrics).await
}

fn trigger_after(shutdown: CancellationToken, after: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        shutdown.cancel();
    });
}

#[tokio::test(start_paused = true)]
async fn work_that_is_going_on_is_finished() {
    let mut bench = bench();
    let start = tokio::time::Instant::now();
    trigger_after(bench.context.shutdown.clone(), Duration::from_secs(60));
    work(&mut bench, Duration::from_secs(3), None).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(63));
    assert!(!*bench.leading.borrow(), "it came to its own end");
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_end_is_cut_off() {
    let mut bench = bench();
    let start = tokio::time::Instant::now();
    trigger_after(bench.context.shutdown.clone(), Duration::from_secs(1));
    work(&mut bench, Duration::from_secs(3600), None).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(1) + DRAIN);
    assert!(*bench.leading.borrow(), "it never came to its own end");
}

#[tokio::test(start_paused = true)]
async fn controllers_that_end_by_themselves_end_the_process() {
    let mut bench = bench();
    let error =
        work(&mut bench, Duration::ZERO, Some("the FinService definition is missing")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the controllers ended: the FinService definition is missing; the process ends and is restarted"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_controller_ends_the_process() {
    let mut bench = bench();
    let leadership = bench.context.leadership.clone();
    let tasks = Tasks { election: &mut bench.election, http: &mut bench.http, always: &mut bench.always };
    let broken = async { panic!("on purpose, to see that it is noticed") };
    let shutdown = bench.context.shutdown.clone();
    let error = lead(tasks, &shutdown, broken, &leadership, &bench.metrics).await.unwrap_err();
    assert!(matches!(error, RunError::Task { task: "controllers", .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn losing_leadership_cuts_the_work_off_at_once() {
    let mut bench = bench();
    bench.election = tokio::spawn(async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ended::Lost("b has it now".into())
    });
    let start = tokio::time::Instant::now();
    let error = work(&mut bench, Duration::from_secs(3600), None).await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert!(
        error.to_string().starts_with("lost the leader Lease: b has it now; the process ends"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_election_that_panics_ends_the_process() {
    let mut bench = bench();
    bench.election = tokio::spawn(async { panic!("on purpose, to see that it is noticed") });
    let error = work(&mut bench, Duration::ZERO, None).await.unwrap_err();
    assert!(matches!(error, RunError::Task { task: "leader election", .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_every_replica_does_must_not_end_either() {
    let mut bench = bench();
    bench.context.leadership = Leadership::never();
    bench.always = tokio::spawn(async { "the watch of CloudClusters ended".into() });
    let error = work(&mut bench, Duration::ZERO, None).await.unwrap_err();
    assert!(matches!(error, RunError::Task { task: "caches", .. }), "{error}");
    assert!(!*bench.leading.borrow(), "it has not led");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_told_to_stop_before_it_leads_starts_nothing() {
    let mut bench = bench();
    bench.context.leadership = Leadership::never();
    bench.context.shutdown.cancel();
    work(&mut bench, Duration::ZERO, None).await.unwrap();
    assert!(!*bench.leading.borrow());
}
