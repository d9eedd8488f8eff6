//! Tenants whose sources answer as much as they can, beside one whose canary fails.

use std::net::IpAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Question;
use super::hub::{Follow, Hub, Wake};
use crate::api::canaryrollout::WebhookGate;
use crate::runtime::shares::{Measure, Shares};
use crate::signals::{Counted, Endpoint, Grants, Pod, Reach, SourceKey, Sources, What};

/// Tells the test that it is the process which is measured.
const ALONE: &str = "BANYAN_TEST_ALONE";
/// Tenants whose sources answer as much as they can.
const GREEDY: usize = 20;
/// The memory that the chart gives the operator, in MiB. Here it is the servers' as well.
const LIMIT: u64 = 512;
/// How much longer than without them it may take until somebody else's canary is found to fail.
const LONGER: Duration = Duration::from_secs(2);
/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a server says.
#[derive(Clone)]
enum Says {
    Text(Arc<[u8]>),
    Made(Arc<dyn Fn(IpAddr) -> String + Send + Sync>),
    Endless,
    Nothing,
}

/// A server at all addresses of this machine; returns its port.
async fn server(says: Says) -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, says.clone()));
        }
    });
    port
}

async fn answer(mut stream: TcpStream, says: Says) -> std::io::Result<()> {
    let mut asked = vec![0; 64 << 10];
    // All requests here arrive in one piece.
    while stream.read(&mut asked).await? > 0 {
        let head = |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        match &says {
            Says::Text(text) => {
                stream.write_all(head(text.len()).as_bytes()).await?;
                stream.write_all(text).await?;
            }
            Says::Made(make) => {
                let text = make(stream.local_addr()?.ip());
                stream.write_all((head(text.len()) + &text).as_bytes()).await?;
            }
            Says::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await?;
                loop {
                    stream.write_all(&[b'x'; 16 << 10]).await?;
                }
            }
            Says::Nothing => std::future::pending().await,
        }
    }
    Ok(())
}

/// The largest answer of Prometheus' that is read: series with as many labels as fit.
fn rows() -> Arc<[u8]> {
    let row = |number: usize| {
        let labels: Vec<String> = (0..30).map(|label| format!(r#""l{label}":"v{number}""#)).collect();
        format!(r#"{{"metric":{{{}}},"value":[1,"1"]}}"#, labels.join(","))
    };
    let rows: Vec<String> = (0..3000).map(row).collect();
    let text =
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#, rows.join(","));
    assert!((1 << 20..2 << 20).contains(&text.len()), "{}", text.len());
    text.into_bytes().into()
}

/// The largest page of a pod's that is read: histograms with as many bounds as fit.
fn page() -> Arc<[u8]> {
    let line = |bound: usize| {
        format!("http_server_request_duration_seconds_bucket{{http_route=\"/\",le=\"{bound}\"}} 1\n")
    };
    let mut text: String = (0..24_000).map(line).collect();
    text.push_str("http_server_request_duration_seconds_count 1\n");
    assert!((1 << 20..2 << 20).contains(&text.len()), "{}", text.len());
    text.into_bytes().into()
}

/// A rollout of a namespace whose pods are at these addresses.
fn rollout(namespace: &str, port: u16, stable: &[IpAddr], canary: &[IpAddr]) -> Follow {
    let mut follow = super::hub::tests::follow("app", 1, 10);
    follow.standard.interval = jiff::SignedDuration::from_millis(250);
    follow.subject.namespace = namespace.to_owned();
    follow.subject.endpoint = Some(Endpoint { port, path: "/metrics".into() });
    for (arm, (name, addresses)) in follow.subject.arms.iter_mut().zip([("old", stable), ("new", canary)]) {
        let pod = |(number, address): (usize, &IpAddr)| Pod {
            name: format!("{name}-{number}"),
            address: *address,
            ready_since: Some(0.0),
        };
        arm.pods = addresses.iter().enumerate().map(pod).collect();
    }
    follow
}

fn prometheus(namespace: &str, port: u16) -> SourceKey {
    let spec = format!(r#"{{"url":"http://127.0.0.1:{port}"}}"#);
    SourceKey::Prometheus { namespace: namespace.to_owned(), spec }
}

/// The most memory that this process ever had, in KiB.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Memory is that of a process, so the test runs in one of its own.
#[test]
fn faults_4_1_twenty_tenants_that_answer_as_much_as_they_can_take_neither_memory_nor_time_of_others() {
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.unwrap().block_on(greedy_tenants());
    }
    let name = std::thread::current().name().unwrap().to_owned();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(ALONE, "yes")
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

async fn greedy_tenants() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = kube::Client::new(
        tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
        }),
        "pay",
    );
    let hub: Arc<Hub<String>> = Arc::default();
    let woken: Arc<Mutex<Vec<Wake<String>>>> = Arc::default();
    let reach = Reach::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let grants = Grants::new(client.clone(), reach, None);
    // A build that is not optimised reads a quarter of what one reads that is.
    let defaults = Measure::default();
    let shares = Shares::new(Measure { rate: defaults.rate / 4, ..defaults });
    let sources = Arc::new(Sources::new(client, &[], grants).unwrap().with_shares(shares));
    let log = Arc::clone(&woken);
    tokio::spawn(Arc::clone(&hub).run(sources, |_, _, _| {}, move |wake| log.lock().unwrap().push(wake)));

    // What it takes on this machine at this time without them.
    let alone = until_woken(&hub, &woken, "before").await;
    let [many_rows, many_lines] = [server(Says::Text(rows())).await, server(Says::Text(page())).await];
    let [endless, silent] = [server(Says::Endless).await, server(Says::Nothing).await];
    for tenant in 0..GREEDY {
        let namespace = format!("greedy-{tenant}");
        let pods: Vec<IpAddr> = (1..=40).map(|pod| [127, 1, tenant as u8, pod].into()).collect();
        let own = |name: String| Counted {
            what: What::Custom { bad: format!("{name}_bad"), total: format!("{name}_total") },
            name,
        };
        for (number, port) in [many_rows, many_rows, endless, silent].into_iter().enumerate() {
            let mut by_queries = rollout(&namespace, port, &[], &[]);
            by_queries.source = prometheus(&namespace, port);
            by_queries.subject.metrics.extend((0..15).map(|metric| own(format!("m{number}_{metric}"))));
            let server = format!("http://127.0.0.1:{port}/");
            by_queries.gates = vec![
                (0, Question::Query("up".into())),
                (1, Question::Webhook(WebhookGate { url: server, auth: None })),
            ];
            hub.follow(&format!("{namespace}/queries-{number}"), Some(by_queries));
        }
        for (number, port) in [many_lines, endless, silent].into_iter().enumerate() {
            let by_pods = rollout(&namespace, port, &pods[..20], &pods[20..]);
            hub.follow(&format!("{namespace}/pods-{number}"), Some(by_pods));
        }
    }
    // All of them answer for a while; then somebody else's canary comes, and fails.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let took = until_woken(&hub, &woken, "pay").await;
    let memory = most_memory() >> 10;
    println!("woken after {took:?}, {alone:?} without them; {memory} MiB at most");
    assert!(took < 4 * alone + LONGER, "woken after {took:?}, {alone:?} without them");
    assert!(memory < LIMIT, "{memory} MiB");
}

/// How long it takes until a canary of that namespace is found to fail, from its first request on.
async fn until_woken(hub: &Hub<String>, woken: &Mutex<Vec<Wake<String>>>, namespace: &str) -> Duration {
    let began = Instant::now();
    let counters = move |address: IpAddr| {
        let requests = (began.elapsed().as_secs_f64() * 2000.0).floor();
        let bad = if address == IpAddr::from([127, 0, 0, 2]) { (requests * 0.3).floor() } else { 0.0 };
        let name = "http_server_request_duration_seconds_count{http_route=\"/pay\",http_response_status_code";
        format!("{name}=\"200\"}} {}\n{name}=\"500\"}} {bad}\n", requests - bad)
    };
    let port = server(Says::Made(Arc::new(counters))).await;
    let key = format!("{namespace}/app");
    let follow = rollout(namespace, port, &[[127, 0, 0, 1].into()], &[[127, 0, 0, 2].into()]);
    hub.follow(&key, Some(follow));
    let fails = || woken.lock().unwrap().iter().any(|wake| wake.key == key && wake.urgent);
    while !fails() {
        assert!(began.elapsed() < PATIENCE, "the canary of {namespace} fails, and nobody was woken");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    hub.follow(&key, None);
    began.elapsed()
}
