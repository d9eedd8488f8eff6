use std::convert::Infallible;

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::super::ask::{Ask, GateReply, SourceKey};
use super::super::sources::Sources;
use super::super::subject::{Answer, Subject};
use super::super::testing::{Reply, Server};
use super::*;
use crate::api::canaryrollout::WebhookGate;

/// An API server with these Services, as (namespace, name, type, address), and a pod of `kube-system` at each of `nodes`.
fn client(services: &[(&str, &str, &str, &str)], nodes: &[&str]) -> Client {
    let services: Vec<(Value, String, String)> = services
        .iter()
        .map(|(namespace, name, kind, address)| {
            let addresses: Vec<&str> =
                Some(*address).filter(|address| !address.is_empty()).into_iter().collect();
            let service = json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"namespace": namespace, "name": name},
                "spec": {"type": kind, "clusterIPs": addresses},
            });
            (service, format!("/api/v1/namespaces/{namespace}/services/{name}"), (*address).to_owned())
        })
        .collect();
    let nodes: Vec<String> = nodes.iter().map(|node| (*node).to_owned()).collect();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (services, nodes) = (services.clone(), nodes.clone());
        async move {
            let path = request.uri().path().to_owned();
            let query = request.uri().query().unwrap_or_default().to_owned();
            let list = |items: Vec<Value>| {
                let kind = "PartialObjectMetadataList";
                (200, json!({"kind": kind, "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": items}))
            };
            let asks_for = |address: &str| {
                query.split(['&', ',']).any(|part| {
                    part.strip_suffix(address)
                        .is_some_and(|rest| rest.ends_with("%3D") || rest.ends_with('='))
                        || part.contains(&format!("%3D{address}%2C"))
                })
            };
            let (code, answer) = match path.as_str() {
                "/api/v1/services" => {
                    let found = services.iter().filter(|(.., address)| asks_for(address));
                    list(found.map(|(service, ..)| json!({"metadata": service["metadata"]})).collect())
                }
                "/api/v1/pods" => {
                    assert!(query.contains("status.phase"), "{query}");
                    let found = nodes.iter().filter(|address| asks_for(address));
                    list(
                        found
                            .map(|_| json!({"metadata": {"namespace": "kube-system", "name": "a"}}))
                            .collect(),
                    )
                }
                path => match services.iter().find(|(_, known, _)| known == path) {
                    Some((service, ..)) => (200, service.clone()),
                    None => (
                        404,
                        json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": ""}),
                    ),
                },
            };
            let body = Body::from(answer.to_string().into_bytes());
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    });
    Client::new(service, "default")
}

fn grants(client: &Client, listed: &[&str]) -> Grants {
    let listed = listed.iter().map(|text| text.parse().unwrap()).collect();
    Grants::new(client.clone(), Reach::new(listed), Some(("10.96.0.1".to_owned(), 443)))
}

async fn found(grants: &Grants, namespace: &str, url: &str) -> Result<Vec<String>, String> {
    let url = reqwest::Url::parse(url).unwrap();
    let wish = Wish::new("analysis.source.prometheus.url", namespace, &url).unwrap();
    let resolver = grants.resolver(wish).await?;
    let found = resolver.addresses().await.map_err(|astray| astray.to_string())?;
    Ok(found.into_iter().map(|address| address.to_string()).collect())
}

#[tokio::test]
async fn faults_4_2_a_service_of_the_own_namespace_is_found_and_nothing_that_hides_behind_one() {
    let client = client(
        &[
            ("pay", "prometheus", "ClusterIP", "10.96.0.7"),
            ("pay", "elsewhere", "ExternalName", ""),
            ("pay", "stolen", "ClusterIP", "10.0.0.9"),
            ("pay", "node", "ClusterIP", "10.0.0.5"),
            ("ledger", "ledger", "ClusterIP", "10.0.0.9"),
            ("default", "kubernetes", "ClusterIP", "10.96.0.1"),
        ],
        &["10.0.0.5"],
    );
    let grants = grants(&client, &["10.0.0.0/24:81"]);
    let own = found(&grants, "pay", "http://prometheus:9090").await;
    assert_eq!(own, Ok(vec!["10.96.0.7:9090".to_owned()]));
    assert_eq!(found(&grants, "pay", "http://prometheus.pay.svc:9090").await, own);
    for (namespace, url, what) in [
        ("pay", "http://missing", "there is no Service missing"),
        ("pay", "http://elsewhere", "Service elsewhere leads elsewhere"),
        ("pay", "http://stolen", "stolen leads to 10.0.0.9, which is another namespace's"),
        ("pay", "http://node:10250", "node leads to 10.0.0.5, which is another namespace's"),
        ("pay", "http://ledger.ledger", "ledger.ledger is no Service of the own namespace"),
        ("default", "https://kubernetes", "kubernetes leads to the API server"),
        ("pay", "http://10.96.0.7", "10.96.0.7 is an address that is not listed"),
    ] {
        let why = found(&grants, namespace, url).await.unwrap_err();
        assert!(why.starts_with("analysis.source.prometheus.url: ") && why.contains(what), "{url}: {why}");
        assert!(why.contains("evidence.allow"), "{why}");
    }
    // The installer says so.
    assert_eq!(found(&grants, "pay", "http://stolen:81").await, Ok(vec!["10.0.0.9:81".to_owned()]));
    assert_eq!(found(&grants, "pay", "http://10.0.0.5:81").await, Ok(vec!["10.0.0.5:81".to_owned()]));
}

/// A name that is listed may lead elsewhere at the next question: what counts is where the connection goes.
#[tokio::test]
async fn faults_4_2_who_may_not_be_asked_is_sent_nothing() {
    let server = Server::start([Reply::Status(200, "a secret".into())]).await;
    let client = client(&[], &[]);
    let port = server.address.port();
    let url = format!("http://localhost:{port}/-/quit");
    let sources = |listed: &[&str]| Sources::new(client.clone(), &[], grants(&client, listed)).unwrap();
    let strict = sources(&["localhost"]);
    let GateReply::Nobody(why) =
        strict.webhook("pay", &WebhookGate { url: url.clone(), auth: None }, &json!({})).await
    else {
        panic!()
    };
    assert!(why.contains("localhost leads to ") && why.contains("own machine"), "{why}");
    let spec = json!({"url": format!("http://localhost:{port}")}).to_string();
    let source = SourceKey::Prometheus { namespace: "pay".into(), spec };
    let gate = strict.queries(&source, &["up".to_owned()]).await;
    assert!(matches!(&gate[..], [GateReply::Nobody(why)] if why.contains("own machine")), "{gate:?}");
    let mut answers = Vec::new();
    let subjects = [Subject { namespace: "pay".into(), service: "tx".into(), ..Subject::default() }];
    let spec = json!({"url": format!("http://127.0.0.1:{port}")}).to_string();
    let source = SourceKey::Prometheus { namespace: "pay".into(), spec };
    strict.counters(&source, &subjects, 1.0, |told| answers.extend(told)).await;
    let [(0, Answer::Nothing(why))] = &answers[..] else { panic!("{answers:?}") };
    assert!(why.contains("127.0.0.1 is an address that is not listed"), "{why}");
    assert!(server.asked().is_empty());

    let listed = sources(&["localhost", "127.0.0.0/8", "::1"]);
    assert_eq!(
        listed.webhook("pay", &WebhookGate { url: url.clone(), auth: None }, &json!({})).await,
        GateReply::Yes
    );
    assert_eq!(server.asked().len(), 1);
    assert!(matches!(
        listed.webhook("pay", &WebhookGate { url: "nonsense".into(), auth: None }, &json!({})).await,
        GateReply::Nobody(_)
    ));
}
