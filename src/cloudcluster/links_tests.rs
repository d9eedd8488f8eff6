//! Links over real sockets: peers that die, refuse, move and come back, by ways through kubeconfigs and clouds.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State as With;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use k8s_openapi::ByteString;
use kube::Config;
use kube::api::{Api, ObjectMeta};
use serde_json::{Value, json};

use super::*;
use crate::api::cloudcluster::{EksAccess, KubeconfigSecret, KubeconfigSource};
use crate::cloudcluster::health::Thresholds;
use crate::sandbox::ends::eks::{Aws, EksCluster};
use crate::sandbox::ends::server::{Fault, Served, serve};

/// An API server that answers all with one status, or with what a cloud's authenticator says of the token.
#[derive(Clone)]
struct Server {
    status: Arc<AtomicU16>,
    aws: Option<Aws>,
    tokens: Arc<Mutex<std::collections::BTreeSet<String>>>,
}

impl Server {
    async fn start(aws: Option<Aws>) -> (Self, Served) {
        let server = Self { status: Arc::new(AtomicU16::new(200)), aws, tokens: Arc::default() };
        let end = serve(Router::new().fallback(answer).with_state(server.clone())).await.expect("a server");
        (server, end)
    }
}

async fn answer(With(server): With<Server>, headers: HeaderMap, uri: Uri) -> Response {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = token.trim_start_matches("Bearer ");
    server.tokens.lock().unwrap().insert(token.to_owned());
    let mut status = server.status.load(Ordering::SeqCst);
    if server.aws.as_ref().is_some_and(|aws| aws.authenticate("prod", token).is_none()) {
        status = 401;
    }
    let body = match (status, uri.path()) {
        (200, "/version") => json!({"major": "1", "minor": "36", "gitVersion": "v1.36.3"}),
        (200, "/api/v1/nodes") => json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": [
            {"metadata": {"name": "n"}, "spec": {}, "status": {"allocatable": {"cpu": "8", "memory": "32Gi"},
                "conditions": [{"type": "Ready", "status": "True"}]}}]}),
        (200, "/api/v1/pods") => json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [
            {"metadata": {"name": "p"}, "spec": {"nodeName": "n",
                "containers": [{"name": "c", "resources": {"requests": {"cpu": "2", "memory": "4Gi"}}}]}}]}),
        (200, _) => json!("ok"),
        _ => {
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "code": status})
        }
    };
    (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, "application/json")], body.to_string())
        .into_response()
}

/// This cluster: an API server that has these Secrets.
async fn here(secrets: &[(&str, Value)]) -> (Client, Served) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut router = Router::new();
    for (name, data) in secrets {
        let data = data.as_object().unwrap().iter();
        let data =
            data.map(|(key, value)| (key.clone(), ByteString(value.as_str().unwrap().as_bytes().to_vec())));
        let metadata = ObjectMeta { name: Some((*name).to_owned()), ..ObjectMeta::default() };
        let secret =
            k8s_openapi::api::core::v1::Secret { metadata, data: Some(data.collect()), ..Default::default() };
        let text = serde_json::to_string(&secret).unwrap();
        let path = format!("/api/v1/namespaces/sys/secrets/{name}");
        router = router.route(&path, axum::routing::get(async move || text.clone()));
    }
    let end = serve(router).await.expect("a server");
    let mut config = Config::new(end.url().parse().unwrap());
    config.default_retry = false;
    (Client::try_from(config).unwrap(), end)
}

fn kubeconfig(server: &str) -> Value {
    let text = json!({
        "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "planted"}}],
    });
    json!({"kubeconfig": text.to_string()})
}

fn by_kubeconfig(name: &str) -> Access {
    let secret_ref = KubeconfigSecret { name: name.to_owned(), key: None };
    Access { kubeconfig: Some(KubeconfigSource { secret_ref }), ..Access::default() }
}

/// As often as it goes; something is believed after a third of a second.
fn pace() -> Pace {
    let short = Duration::from_millis(20);
    let believed = Duration::from_millis(300);
    Pace {
        used: short,
        other: short,
        unsettled: short,
        least: short,
        lost: short,
        nodes: Duration::from_millis(50),
        thresholds: Thresholds { ill_for: believed, well_for: believed, back_for: believed * 2 },
        ..Pace::default()
    }
}

/// Links that run until the guard goes.
fn running(client: Client, addresses: Addresses, ways: Vec<Access>) -> (Links, tokio_util::sync::DropGuard) {
    let links = Links::new(client, "sys", addresses, pace());
    links.set([("gcp".to_owned(), ways)].into());
    let shutdown = CancellationToken::new();
    tokio::spawn({
        let (links, shutdown) = (links.clone(), shutdown.clone());
        async move { links.run(shutdown).await }
    });
    (links, shutdown.drop_guard())
}

/// Waits for what must come; only what hangs ends otherwise.
async fn until(links: &Links, what: &str, is: impl Fn(&PeerView) -> bool) -> PeerView {
    for _ in 0..6000 {
        if let Some(view) = links.view("gcp").filter(|view| is(view)) {
            return view;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}; {:?}", links.view("gcp"));
}

async fn asks(links: &Links) -> Result<String, PeerError> {
    links.ask("gcp", async |client| Ok(client.apiserver_version().await?.git_version)).await
}

#[tokio::test]
async fn the_next_way_is_taken_when_one_fails_and_the_first_one_again_when_it_has_been_well() {
    let ((first, one), (second, other)) = (Server::start(None).await, Server::start(None).await);
    let secrets = [("one", kubeconfig(&one.url())), ("other", kubeconfig(&other.url()))];
    let (client, _here) = here(&secrets).await;
    let (links, _ends) =
        running(client, Addresses::default(), vec![by_kubeconfig("one"), by_kubeconfig("other")]);
    let both = |view: &PeerView| view.ways.iter().all(|way| way.reachable == Some(true));
    let view = until(&links, "both ways work", both).await;
    assert_eq!((view.chosen, view.reachable, view.version.as_deref()), (0, Some(true), Some("v1.36.3")));
    assert_eq!(asks(&links).await.as_deref(), Ok("v1.36.3"));
    let since = view.since;

    first.status.store(503, Ordering::SeqCst);
    let view = until(&links, "the second way is used", |view| view.chosen == 1).await;
    assert_eq!((view.reachable, view.since), (Some(true), since), "the peer was reachable all the time");
    assert_eq!(asks(&links).await.as_deref(), Ok("v1.36.3"));
    let view =
        until(&links, "the first way is told to be broken", |view| view.ways[0].reachable == Some(false))
            .await;
    assert_eq!(view.ways[0].why.reason(), "Failing");

    first.status.store(200, Ordering::SeqCst);
    let view = until(&links, "the first way is used again", |view| view.chosen == 0).await;
    assert_eq!(view.ways[0].reachable, Some(true), "it had been told to be well before");

    // Both refuse us: nobody is dead. Both are silent: somebody is.
    first.status.store(401, Ordering::SeqCst);
    second.status.store(401, Ordering::SeqCst);
    let view = until(&links, "no way works", |view| view.reachable == Some(false)).await;
    assert!(!view.silent && view.ways[0].why.is_stalled(), "{view:?}");
    assert!(asks(&links).await.unwrap_err().to_string().contains("renew the kubeconfig in the Secret"));
    first.status.store(500, Ordering::SeqCst);
    second.status.store(500, Ordering::SeqCst);
    until(&links, "it is silent", |view| view.silent).await;
    first.status.store(200, Ordering::SeqCst);
    let view = until(&links, "it is back", |view| view.reachable == Some(true)).await;
    assert!(!view.silent && view.since > since);
}

#[tokio::test]
async fn nodes_are_counted_and_stay_as_they_were_while_nobody_answers() {
    let (server, end) = Server::start(None).await;
    let (client, _here) = here(&[("one", kubeconfig(&end.url()))]).await;
    let (links, _ends) = running(client, Addresses::default(), vec![by_kubeconfig("one")]);
    let view = until(&links, "nodes are counted", |view| view.nodes.is_some()).await;
    let nodes = view.nodes.unwrap();
    assert_eq!((nodes.ready, nodes.total, nodes.allocatable.cpu), (1, 1, 8000));
    assert_eq!(nodes.requested.map(|asked| (asked.cpu, asked.memory)), Some((2000, 4 << 30)));
    server.status.store(503, Ordering::SeqCst);
    until(&links, "it is away", |view| view.reachable == Some(false)).await;
    // A count that was under way may still end.
    tokio::time::sleep(Duration::from_millis(300)).await;
    end.desk.take();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let asked = end.desk.take();
    assert!(asked.iter().all(|asked| asked.path == "/readyz"), "of a dead peer no more is asked: {asked:?}");
    assert!(links.view("gcp").unwrap().nodes.is_some());
}

#[tokio::test]
async fn a_cluster_that_moved_is_found_anew_and_its_tokens_are_renewed() {
    let aws = Aws::new("us-east-1");
    let (first, one) = Server::start(Some(aws.clone())).await;
    let end = aws.serve().await.unwrap();
    let put = |endpoint: String| {
        let (name, version) = ("prod".to_owned(), "1.36".to_owned());
        aws.put(EksCluster { name, endpoint, ca: String::new(), version, groups: BTreeMap::new() });
    };
    put(one.url());
    let key = aws.user("banyan").unwrap();
    let secret = json!({"AWS_ACCESS_KEY_ID": key.id, "AWS_SECRET_ACCESS_KEY": key.secret});
    let (client, _here) = here(&[("aws", secret)]).await;
    let access: EksAccess = serde_json::from_value(json!({
        "name": "prod", "region": "us-east-1", "roleArn": "arn:aws:iam::123456789012:role/banyan-peer",
        "credentials": {"secretRef": {"name": "aws"}},
    }))
    .unwrap();
    let url = Some(end.url());
    let addresses = Addresses { eks: url.clone(), sts: url, ..Addresses::default() };
    aws.let_live(Duration::from_secs(4));
    let (links, _ends) = running(client, addresses, vec![Access { eks: Some(access), ..Access::default() }]);
    until(&links, "it is found", |view| view.reachable == Some(true)).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(links.view("gcp").unwrap().reachable, Some(true), "its tokens are renewed");
    assert!(first.tokens.lock().unwrap().len() >= 2, "more than one was shown");
    let found = || end.desk.take().iter().filter(|asked| asked.path.starts_with("/clusters")).count();
    assert_eq!(found(), 1, "where it is, is asked once");

    // It moves: the old address is dead.
    let (_second, other) = Server::start(Some(aws.clone())).await;
    put(other.url());
    drop(one);
    until(&links, "it is found where it is now", |_| !other.desk.take().is_empty()).await;

    // AWS is away: what is there is used as long as it lives, and the peer is not called dead for it.
    end.desk.always(|_| true, Fault::status(500));
    let view = until(&links, "there is no token", |view| view.reachable == Some(false)).await;
    assert!(!view.silent, "{view:?}");
    assert!(view.ways[0].why.to_string().starts_with("AWS STS"), "{view:?}");
    let error = asks(&links).await.unwrap_err();
    assert!(!error.is_silence(), "{error:?}");
    end.desk.behave();
    until(&links, "it works again", |view| view.reachable == Some(true)).await;
    assert!(!format!("{:?}", links.view("gcp")).contains(&key.secret));
}

#[tokio::test]
async fn what_is_not_described_has_its_sentence_and_what_stays_is_not_disturbed() {
    let (_server, end) = Server::start(None).await;
    let (client, _here) = here(&[("one", kubeconfig(&end.url()))]).await;
    let (links, _ends) = running(client, Addresses::default(), vec![by_kubeconfig("one")]);
    let view = until(&links, "it works", |view| view.reachable == Some(true)).await;
    let ways = || vec![by_kubeconfig("one")];
    links.set([("gcp".to_owned(), ways()), ("aws".to_owned(), Vec::new())].into());
    assert_eq!(links.view("gcp").unwrap().since, view.since);
    assert_eq!(links.client("aws").await.err(), Some(PeerError::NoWay("aws".to_owned())));
    assert_eq!(links.view("aws"), None);
    assert!(links.client("azure").await.is_err_and(|error| error.reason() == "NoCloudCluster"));
    links.set([("gcp".to_owned(), [ways(), ways()].concat())].into());
    assert_eq!(links.view("gcp").unwrap().ways[0].since, view.ways[0].since, "the way is the same");
    links.set(BTreeMap::new());
    assert_eq!(links.view("gcp"), None);
    let api: Api<k8s_openapi::api::core::v1::Node> = match links.client("gcp").await {
        Ok(client) => Api::all(client),
        Err(error) => return assert_eq!(error.reason(), "NoCloudCluster"),
    };
    panic!("a client of nobody: {:?}", api.resource_url());
}

#[test]
fn a_missing_token_is_no_silence() {
    let error = kube::Error::Service(Box::new(super::super::peer_error::NoToken));
    assert_eq!(super::super::peer_error::remote(&error), RemoteError::Unauthorized);
}
