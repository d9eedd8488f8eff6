use axum::Router;
use axum::routing::{any, get};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::json;

use super::*;

async fn serve(router: Router) -> Config {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Config::new(url.parse().unwrap())
}

fn ours(config: Config) -> (Client, Metrics) {
    let metrics = Metrics::new();
    (client(config, metrics.clone()).unwrap(), metrics)
}

#[tokio::test]
async fn requests_are_counted_and_carry_our_name() {
    let router = Router::new()
        .route(
            "/api/v1/namespaces/pay/configmaps/a",
            any(|headers: http::HeaderMap| async move {
                let agent = headers[header::USER_AGENT].to_str().unwrap().to_owned();
                json!({"metadata": {"name": "a"}, "data": {"agent": agent}}).to_string()
            }),
        )
        .fallback(|| async { http::StatusCode::SERVICE_UNAVAILABLE });
    let (client, metrics) = ours(serve(router).await);
    let api: Api<ConfigMap> = Api::namespaced(client, "pay");
    let found = api.get("a").await.unwrap();
    assert_eq!(found.data.unwrap()["agent"], format!("banyan/{}", env!("CARGO_PKG_VERSION")));
    let apply = Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}));
    api.patch("a", &PatchParams::apply("banyan"), &apply).await.unwrap();

    let start = Instant::now();
    assert!(api.get("b").await.is_err());
    assert!(start.elapsed() < Duration::from_secs(1), "a 503 comes back at once instead of being retried");

    let count = |wanted: (&str, &str)| metrics.requests_where(|verb, _, _, code| (verb, code) == wanted);
    assert_eq!((count(("get", "200")), count(("apply", "200")), count(("get", "503"))), (1, 1, 1));
    assert_eq!(metrics.requests_where(|_, _, _, _| true), 3);
}

#[tokio::test]
async fn connections_are_used_again() {
    let router = Router::new().route(
        "/api/v1/namespaces/pay/configmaps/a",
        get(
            |axum::extract::ConnectInfo(peer): axum::extract::ConnectInfo<std::net::SocketAddr>| async move {
                json!({"metadata": {"name": "a"}, "data": {"port": peer.port().to_string()}}).to_string()
            },
        ),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    let (client, _) = ours(Config::new(url.parse().unwrap()));
    let api: Api<ConfigMap> = Api::namespaced(client, "pay");
    let mut ports = std::collections::BTreeSet::new();
    for _ in 0..20 {
        ports.insert(api.get("a").await.unwrap().data.unwrap()["port"].clone());
    }
    assert_eq!(ports.len(), 1, "{ports:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_never_answered_ends() {
    let router = Router::new().fallback(std::future::pending::<()>);
    let (client, metrics) = ours(serve(router).await);
    let api: Api<ConfigMap> = Api::namespaced(client, "pay");
    let error = api.get("a").await.unwrap_err();
    assert!(error.to_string().contains("no answer of the API server within 35s"), "{error}");
    assert_eq!(metrics.requests_where(|_, _, _, code| code == "timeout"), 1);
    // A watch may be silent for long, but has to begin.
    let error = api.watch(&Default::default(), "0").await.err().unwrap();
    assert!(error.to_string().contains("no answer of the API server within 35s"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_counted_as_an_error() {
    // A port that was just free.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (client, metrics) = ours(Config::new(url.parse().unwrap()));
    let resource = kube::api::ApiResource::erase::<ConfigMap>(&());
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    assert!(api.list(&kube::api::ListParams::default()).await.is_err());
    assert_eq!(metrics.requests_where(|verb, _, _, code| (verb, code) == ("list", "error")), 1);
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_used_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let target = |context: Option<&str>| Target {
        kubeconfig: Some(path.clone()),
        context: context.map(str::to_owned),
    };
    let missing = config(&target(None)).await.unwrap_err().to_string();
    assert!(missing.contains("config") && missing.contains("--kubeconfig"), "{missing}");

    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "pay"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
    });
    std::fs::write(&path, text.to_string()).unwrap();
    assert_eq!(config(&target(None)).await.unwrap().default_namespace, "pay");
    let wrong = config(&target(Some("two"))).await.unwrap_err().to_string();
    assert!(wrong.contains("context two"), "{wrong}");
}
