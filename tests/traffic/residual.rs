//! Requests that still arrive at a site that has lost authority: they are answered by the one that has it.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use banyan::api::{Authority, FailoverGroup};
use banyan::sandbox::ends::server;
use banyan::sandbox::install;
use banyan::sandbox::operators::{Operator, OperatorOptions};
use banyan::sandbox::traffic::Load;
use futures::StreamExt;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::runner::{Scenario, scenarios};
use crate::world::{Space, World, until};

/// Where operators are at home.
const SYSTEM: &str = "banyan-system";
/// An address of the namespace that no pod has.
const AUTHORITY: &str = "10.250.255.250";
/// The other site.
const ELSEWHERE: &str = "elsewhere";

/// All of this file.
pub fn scenarios() -> Vec<Scenario> {
    scenarios![Gateway: what_still_arrives_without_authority_is_answered_by_who_has_it]
}

/// The gateway of the other site: it says what it was asked, and how many bytes came with it.
async fn there(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let said = [header("host"), header("x-banyan-answer"), header("x-of-user"), header("connection")];
    let said = format!("{} {} {}", parts.method, parts.uri, said.join(" "));
    let bytes =
        body.into_data_stream().fold(0, async |sum, chunk| sum + chunk.map_or(0, |chunk| chunk.len())).await;
    ([("x-of-answer", "kept")], Body::from(format!("{said}|{bytes}"))).into_response()
}

/// `banyan authority`, reached through its Service as the chart has it.
async fn authority(world: &World) -> Operator {
    let options = OperatorOptions {
        binary: env!("CARGO_BIN_EXE_banyan").into(),
        site: world.cloud.name().to_owned(),
        kubeconfig: world.cloud.kubeconfig_operator().expect("a kubeconfig"),
        dir: world.cloud.dir().join("operators"),
        replica: 0,
        args: vec!["--forward".to_owned(), format!("{AUTHORITY}:8081")],
        env: Vec::new(),
    };
    let listen = format!("{AUTHORITY}:8080");
    let authority = Operator::start_authority(&options, &listen, world.cloud.supervisor().clone());
    let authority = authority.expect("it starts");
    let chart = include_str!("../goldens/chart/rendered.yaml");
    let chart = install::documents("chart", chart).expect("YAML");
    let mut service = chart
        .into_iter()
        .find(|object| object["kind"] == "Service" && object["metadata"]["name"] == "banyan-authority")
        .expect("its Service");
    // Its pods are this process.
    service["spec"].as_object_mut().expect("a spec").remove("selector");
    let ports: Vec<Value> = ["http-forward", "http2-forward"]
        .iter()
        .map(|name| json!({"name": name, "port": 8081, "protocol": "TCP"}))
        .collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "banyan-authority", "namespace": SYSTEM,
            "labels": {"kubernetes.io/service-name": "banyan-authority"}},
        "endpoints": [{"addresses": [AUTHORITY], "conditions": {"ready": true}}], "ports": ports,
    });
    install::apply(&world.client, &[service, slice]).await.expect("a Service");
    authority
}

impl Space<'_> {
    /// What a user is answered: the status, `Retry-After`, and the text.
    async fn asks(
        &self,
        request: impl FnOnce(&reqwest::Client, String) -> reqwest::RequestBuilder,
    ) -> Option<(u16, String, String)> {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let url = format!("http://{}/pay?x=1", self.world.gateway.address());
        let answer = request(&http, url).header("host", self.host()).send().await.ok()?;
        let of = |name: &str| {
            answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let (status, more) =
            (answer.status().as_u16(), format!("{}{}", of("retry-after"), of("x-of-answer")));
        Some((status, more, answer.text().await.ok()?))
    }

    async fn gets(&self) -> (u16, String, String) {
        self.asks(|http, url| http.get(url)).await.unwrap_or_default()
    }

    /// Who has authority from now on, as the operator would write it.
    async fn is_held_by(&self, site: &str, epoch: i64, follows: i64) {
        let client = self.world.cloud.client_operator().expect("a client");
        let api: Api<Authority> = Api::namespaced(client, SYSTEM);
        let spec = json!({"epoch": epoch, "follows": follows, "holders": [site], "promoted": epoch});
        let patch = Patch::Merge(json!({"spec": spec}));
        until("its Authority is there", async || {
            api.patch(&self.namespace, &PatchParams::default(), &patch).await.ok()
        })
        .await;
    }
}

async fn what_still_arrives_without_authority_is_answered_by_who_has_it(world: &World) {
    let space = world.space("residual").await;
    let (here, host) = (world.cloud.name(), space.host());
    let other = server::serve(Router::new().fallback(there)).await.expect("a gateway");
    let _authority = authority(world).await;
    space.finservice("app:1", 2).await;
    space.hears_of("app:1").await;
    let site = |name: &str, gateway: String| {
        json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "CloudCluster",
            "metadata": {"name": name, "namespace": SYSTEM},
            "spec": {"residency": ["US"], "gateway": {"address": gateway}}})
    };
    let sites = [site(here, format!("http://{}", world.gateway.address())), site(ELSEWHERE, other.url())];
    install::apply(&world.client, &sites).await.expect("sites");
    let group = |residual: &str| {
        json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FailoverGroup",
            "metadata": {"name": space.namespace, "namespace": SYSTEM},
            "spec": {"sites": [here, ELSEWHERE], "services": {"namespaces": [space.namespace]},
                "traffic": {"hosts": [host], "external": {}, "residual": residual}}})
    };
    install::apply(&world.client, &[group("Forward")]).await.expect("a group");
    space.is_held_by(here, 16, 0).await;
    let load = Load::start(space.load().at(200.0)).expect("a load");
    until("it answers", async || (load.tally().answered() > 100).then_some(())).await;

    // Another site has it: whatever arrives is answered there, as it was asked.
    space.is_held_by(ELSEWHERE, 33, 16).await;
    let asked = format!("GET /pay?x=1 {host} here  |0");
    until("requests are led away", async || {
        (space.gets().await == (200, "kept".to_owned(), asked.clone())).then_some(())
    })
    .await;
    let megabyte = vec![7_u8; 1 << 20];
    let posted = space
        .asks(|http, url| http.post(url).header("x-of-user", "mia").body(megabyte))
        .await
        .expect("an answer");
    assert_eq!(posted.2, format!("POST /pay?x=1 {host} here mia |{}", 1 << 20));
    let tried =
        space.asks(|http, url| http.get(url).header("x-banyan-answer", "here")).await.expect("an answer");
    assert!(tried.0 == 200 && !tried.2.contains("GET"), "a site is tried through its own gateway: {tried:?}");
    let away = load.tally();
    println!("while requests were led away: {away}");

    // What is asked of this site itself is nobody else's to answer.
    let answers = reqwest::get(format!("http://{AUTHORITY}:8081/authority/{}", space.namespace))
        .await
        .expect("an answer");
    assert_eq!(answers.status().as_u16(), 503);

    // It has it again.
    space.is_held_by(here, 48, 33).await;
    until("requests are answered here", async || {
        let tally = Load::exactly(space.load().at(2000.0), 100).await.expect("a load");
        (tally.of(&space.release("app:1")).total() == 100).then_some(())
    })
    .await;
    let tally = load.stop().await.expect("answers");
    println!("there and back: {tally}");
    assert_eq!(tally.failed(), 0, "{tally}");

    // Nobody answers there, or the group wants none to be sent on: whoever asks is told to come again.
    space.is_held_by(ELSEWHERE, 65, 48).await;
    until("requests are led away", async || {
        (space.gets().await.0 == 200 && space.gets().await.2 == asked).then_some(())
    })
    .await;
    drop(other);
    let (status, again, why) = space.gets().await;
    assert_eq!((status, again.as_str()), (503, "2"), "{why}");
    assert!(why.contains("does not answer"), "{why}");
    install::apply(&world.client, &[group("Refuse")]).await.expect("a group");
    until("they are refused", async || space.gets().await.2.contains("come again").then_some(())).await;

    let arrived: Value = reqwest::get(format!("http://{AUTHORITY}:8080/residual"))
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let arrived = arrived
        .as_array()
        .and_then(|all| all.iter().find(|one| one["group"] == *space.namespace))
        .expect("it arrived");
    let of = |name: &str| arrived[name].as_u64().unwrap_or_default();
    assert!(
        of("forwarded") > 2 && of("failed") > 0 && of("refused") > 0 && of("lastMinute") > 2,
        "{arrived}"
    );
    let metrics = reqwest::get(format!("http://{AUTHORITY}:8080/metrics"))
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    assert!(
        metrics.contains(&format!(
            "banyan_residual_requests_total{{group=\"{}\",result=\"failed\"}}",
            space.namespace
        )),
        "{metrics}"
    );
    let groups: Api<FailoverGroup> = Api::namespaced(world.client.clone(), SYSTEM);
    groups.delete(&space.namespace, &Default::default()).await.expect("it is deleted");
}
