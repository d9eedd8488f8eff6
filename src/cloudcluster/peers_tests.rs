//! Peers over real sockets: one small server plays this cluster's API, others play the peers'.

use std::collections::HashMap;

use axum::Router;
use axum::extract::State as With;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::*;
use crate::api::cloudcluster::{Access, KubeconfigSecret, KubeconfigSource};
use crate::cloudcluster::way::Pace;
use crate::clouds::Addresses;
use crate::runtime::remote::DEADLINE;
use kube::{Client, Config};

/// What a server has by path; `None` is silence.
type Answers = HashMap<String, Option<(u16, Value)>>;

#[derive(Default)]
struct Served {
    answers: Answers,
    asked: Vec<String>,
}

#[derive(Clone, Default)]
struct Server(Arc<Mutex<Served>>);

const GROUP: &str = "/apis/banyan.dev/v1alpha1";

impl Server {
    async fn start(&self) -> String {
        let router = Router::new().fallback(answer).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        address
    }

    fn set(&self, path: impl Into<String>, code: u16, body: Value) {
        self.0.lock().unwrap().answers.insert(path.into(), Some((code, body)));
    }

    fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }
}

async fn answer(With(server): With<Server>, method: Method, uri: Uri) -> Response {
    let path = uri.path().to_owned();
    let found = {
        let mut served = server.0.lock().unwrap();
        served.asked.push(format!("{method} {path}"));
        served.answers.get(&path).cloned()
    };
    let not_found = || {
        let name = path.rsplit('/').next().unwrap();
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound",
            "message": "not found", "code": 404, "details": {"name": name}});
        (404, status)
    };
    let (code, body) = match found {
        Some(Some(answer)) => answer,
        Some(None) => std::future::pending().await,
        None => not_found(),
    };
    (StatusCode::from_u16(code).unwrap(), body.to_string()).into_response()
}

/// This cluster.
struct Here {
    server: Server,
    client: Client,
}

async fn here() -> Here {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let server = Server::default();
    let mut config = Config::new(server.start().await.parse().unwrap());
    config.default_retry = false;
    Here { server, client: Client::try_from(config).unwrap() }
}

impl Here {
    /// A kubeconfig in a Secret.
    fn secret(&self, name: &str, kubeconfig: &str) {
        let data = BTreeMap::from([("kubeconfig".to_owned(), ByteString(kubeconfig.as_bytes().to_vec()))]);
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let secret = Secret { metadata, data: Some(data), ..Secret::default() };
        self.server.set(
            format!("/api/v1/namespaces/sys/secrets/{name}"),
            200,
            serde_json::to_value(secret).unwrap(),
        );
    }

    /// The peers with those names, each with a kubeconfig in the Secret of its name, asked as often as it goes.
    fn peers(&self, names: &[&str]) -> Asked {
        let short = Duration::from_millis(20);
        let pace = Pace {
            used: short,
            unsettled: short,
            least: short,
            secret: Duration::ZERO,
            nodes: Duration::from_secs(3600),
            ..Pace::default()
        };
        let links = Links::new(self.client.clone(), "sys", Addresses::default(), pace);
        links.set(names.iter().map(|name| ((*name).to_owned(), vec![way(name)])).collect());
        let peers = Peers::every(links.clone(), short);
        let (news, shutdown) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
        tokio::spawn({
            let (links, shutdown) = (links.clone(), shutdown.clone());
            async move { links.run(shutdown).await }
        });
        tokio::spawn({
            let (peers, news, shutdown) = (peers.clone(), news.clone(), shutdown.clone());
            async move { peers.run(shutdown, |key| news.lock().unwrap().push(key.clone())).await }
        });
        Asked { peers, links, news, _ends: shutdown.drop_guard() }
    }
}

/// Peers that are asked.
struct Asked {
    peers: Peers,
    links: Links,
    news: Arc<Mutex<Vec<Key>>>,
    _ends: tokio_util::sync::DropGuard,
}

/// By a kubeconfig in the Secret of that name.
fn way(name: &str) -> Access {
    let secret_ref = KubeconfigSecret { name: name.to_owned(), key: None };
    Access { kubeconfig: Some(KubeconfigSource { secret_ref }), ..Access::default() }
}

fn kubeconfig(server: &str) -> String {
    json!({
        "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    })
    .to_string()
}

fn rollout(name: &str, release: &str) -> Value {
    json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "CanaryRollout", "metadata": {"name": name, "namespace": "pay"},
        "spec": {"of": "a later version"}, "status": {"release": release, "phase": "Settled", "message": "fine"}})
}

fn wanted(cluster: &str, name: &str) -> Wanted {
    (cluster.to_owned(), "pay".to_owned(), name.to_owned())
}

/// Waits for what must come; only what hangs ends otherwise.
async fn until(what: &str, is: impl Fn() -> bool) {
    for _ in 0..6000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

fn rollout_path(name: &str) -> String {
    format!("{GROUP}/namespaces/pay/canaryrollouts/{name}")
}

fn release(peers: &Peers, key: &Key) -> Option<String> {
    peers.peers(key).pop()?.1.ok()?.release
}

#[tokio::test]
async fn only_news_is_told_and_no_rollout_is_asked_for_when_nobody_waits() {
    let (here, there) = (here().await, Server::default());
    here.secret("gcp", &kubeconfig(&there.start().await));
    there.set("/readyz", 200, json!("ok"));
    there.set("/version", 200, json!({"major": "1", "minor": "36", "gitVersion": "v1.36.3"}));
    there.set(rollout_path("app"), 200, rollout("app", "app:1"));
    let Asked { peers, news, links, _ends } = here.peers(&["gcp"]);
    let key = Key::new("pay", "app");

    peers.want(&key, vec![wanted("gcp", "app")]);
    assert_eq!(peers.peers(&key), [("gcp".to_owned(), Err("it has not been asked yet".to_owned()))]);
    let asked = || there.asked().iter().filter(|asked| asked.ends_with("/canaryrollouts/app")).count();
    until("five rounds", || asked() >= 5).await;
    assert_eq!(release(&peers, &key).as_deref(), Some("app:1"));
    assert_eq!(*news.lock().unwrap(), std::slice::from_ref(&key), "the same answer is no news");
    let versions = there.asked().iter().filter(|asked| asked.ends_with("/version")).count();
    assert_eq!(versions, 1, "the version is asked for once");
    assert_eq!(links.view("gcp").and_then(|view| view.version).as_deref(), Some("v1.36.3"));

    let mut same = rollout("app", "app:1");
    same["status"]["message"] = "another number".into();
    there.set(rollout_path("app"), 200, same);
    let before = asked();
    until("three more rounds", || asked() >= before + 3).await;
    assert_eq!(news.lock().unwrap().len(), 1, "a number that moves is no news");
    there.set(rollout_path("app"), 200, rollout("app", "app:2"));
    until("news", || news.lock().unwrap().len() == 2).await;
    assert_eq!(release(&peers, &key).as_deref(), Some("app:2"));

    peers.want(&key, Vec::new());
    assert_eq!(peers.peers(&key), []);
    // What was under way may still end; then there is silence.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = asked();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(asked(), before);
}

#[tokio::test]
async fn a_dead_peer_delays_no_other_and_is_told_of() {
    let (here, there, dead) = (here().await, Server::default(), Server::default());
    here.secret("gcp", &kubeconfig(&there.start().await));
    here.secret("aws", &kubeconfig(&dead.start().await));
    for path in ["/readyz".to_owned(), rollout_path("app")] {
        dead.0.lock().unwrap().answers.insert(path, None);
    }
    there.set("/readyz", 200, json!("ok"));
    there.set(rollout_path("app"), 200, rollout("app", "app:1"));
    let Asked { peers, links, .. } = &here.peers(&["aws", "gcp"]);
    let key = Key::new("pay", "app");
    peers.want(&key, vec![wanted("aws", "app"), wanted("gcp", "app")]);
    let began = Instant::now();
    until("the other answers", || release(peers, &key).is_some()).await;
    assert!(began.elapsed() < DEADLINE, "it waited for the dead one");
    until("the dead one is given up", || peers.peers(&key)[0].1 == Err("no answer within 5 s".to_owned()))
        .await;
    assert_eq!(links.view("gcp").and_then(|view| view.reachable), Some(true));
    assert_eq!(links.view("aws").and_then(|view| view.reachable), None, "it is given half a minute");
}

#[tokio::test]
async fn every_way_to_fail_has_its_sentence() {
    let (here, there) = (here().await, Server::default());
    let address = there.start().await;
    there.set("/readyz", 200, json!("ok"));
    let asked = here.peers(&[]);
    let (peers, links) = (&asked.peers, &asked.links);
    let key = Key::new("pay", "app");
    peers.want(&key, vec![wanted("gcp", "app")]);
    let says = async |words: &str| {
        let last = || peers.peers(&key).pop().unwrap().1.err().unwrap_or_default();
        until(&format!("{words:?} and not {:?}", last()), || last().contains(words)).await;
    };
    says("there is no CloudCluster gcp in namespace sys; create it").await;
    links.set([("gcp".to_owned(), Vec::new())].into());
    says("the CloudCluster gcp does not say how to reach it; set spec.access").await;
    links.set([("gcp".to_owned(), vec![way("gcp")])].into());
    says("there is no Secret gcp in namespace sys; put the kubeconfig of gcp there").await;
    let secret = "/api/v1/namespaces/sys/secrets/gcp";
    here.server.set(secret, 200, json!({"metadata": {"name": "gcp"}, "data": {"config": "YQ=="}}));
    says("there is no key kubeconfig in Secret gcp").await;
    here.server.set(
        secret,
        403,
        json!({"kind": "Status", "code": 403, "message": "no right", "reason": "Forbidden"}),
    );
    says("this cluster's own API server: the Secret gcp cannot be read (403): no right").await;
    here.secret("gcp", &kubeconfig(&address).replace("\"token\":\"t\"", "\"exec\":{\"command\":\"aws\"}"));
    says("users[u].user.exec would run a program").await;
    here.secret("gcp", &kubeconfig("http://127.0.0.1:1"));
    says("the connection is refused").await;
    here.secret("gcp", &kubeconfig(&address));
    let refusal = |code: u16| json!({"kind": "Status", "code": code, "message": "no", "reason": "No"});
    for (code, words) in [
        (401, "renew the kubeconfig in the Secret"),
        (403, "bind the ClusterRole banyan-peer"),
        (404, "not installed there"),
        (429, "too much to do"),
        (503, "answers with 503"),
    ] {
        there.set(rollout_path("app"), code, refusal(code));
        says(words).await;
    }
    let mut odd = rollout("app", "app:1");
    odd["status"]["memory"] = json!({"attempt": "many"});
    there.set(rollout_path("app"), 200, odd);
    says("run one version of Banyan in all clusters").await;
    there.set(rollout_path("app"), 200, rollout("app", "app:1"));
    until("it recovers", || release(peers, &key).is_some()).await;
    there.0.lock().unwrap().answers.remove(&rollout_path("app"));
    until("what is not there is empty", || {
        peers.peers(&key).pop().unwrap().1 == Ok(CanaryRolloutStatus::default())
    })
    .await;
}

#[tokio::test]
async fn many_rollouts_are_asked_for_by_one_list() {
    let (here, there) = (here().await, Server::default());
    here.secret("gcp", &kubeconfig(&there.start().await));
    there.set("/readyz", 200, json!("ok"));
    let names: Vec<String> = (0..ONE_BY_ONE + 2).map(|number| format!("app-{number}")).collect();
    let items: Vec<Value> = names.iter().skip(1).map(|name| rollout(name, "app:1")).collect();
    let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items});
    there.set(format!("{GROUP}/canaryrollouts"), 200, list);
    let Asked { peers, news, .. } = &here.peers(&["gcp"]);
    for name in &names {
        peers.want(&Key::new("pay", name), vec![wanted("gcp", name)]);
    }
    let all = || names.iter().skip(1).all(|name| release(peers, &Key::new("pay", name)).is_some());
    until("all are answered", all).await;
    let first = peers.peers(&Key::new("pay", &names[0])).pop().unwrap().1;
    assert_eq!(first, Ok(CanaryRolloutStatus::default()), "it is not there");
    assert!(news.lock().unwrap().len() >= names.len());
}
