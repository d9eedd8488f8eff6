//! A site's cloud is asked through its CloudCluster, over real sockets.

use axum::Router;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::api::cloudcluster::Access;
use crate::cloudcluster::links::Links;
use crate::cloudcluster::peers::Peers;
use crate::cloudcluster::way::Pace;
use crate::clouds::Addresses;
use crate::clouds::nodes::Verdict;
use crate::sandbox::ends::eks::{Aws, EksCluster, Machine};
use crate::sandbox::ends::server::{Fault, Served, serve};

struct Stage {
    sites: SitesHandle,
    links: Links,
    aws: Aws,
    end: Served,
    _here: Served,
}

/// This cluster has the Secret `aws` alone; in AWS stands a cluster `prod`.
async fn stage() -> Stage {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let aws = Aws::new("us-east-1");
    aws.put(EksCluster {
        name: "prod".to_owned(),
        endpoint: "https://127.0.0.1:1".to_owned(),
        ca: String::new(),
        version: "1.36".to_owned(),
        groups: [("blue".to_owned(), [1, 3, 9])].into(),
    });
    let end = aws.serve().await.expect("a server");
    let key = aws.user("banyan").expect("a key");
    let data = [("AWS_ACCESS_KEY_ID", key.id), ("AWS_SECRET_ACCESS_KEY", key.secret)];
    let data = data.map(|(name, value)| (name.to_owned(), ByteString(value.into_bytes())));
    let metadata = ObjectMeta { name: Some("aws".to_owned()), ..ObjectMeta::default() };
    let secret = Secret { metadata, data: Some(data.into()), ..Secret::default() };
    let text = serde_json::to_string(&secret).expect("JSON");
    let path = "/api/v1/namespaces/sys/secrets/aws";
    let here = serve(Router::new().route(path, axum::routing::get(async move || text.clone())));
    let here = here.await.expect("a server");
    let client = Client::try_from(Config::new(here.url().parse().expect("a URL"))).expect("a client");
    let url = Some(end.url());
    let addresses = Addresses { eks: url.clone(), sts: url.clone(), ec2: url, ..Addresses::default() };
    // Nothing but what is asked for here is asked: the links do not run.
    let links = Links::new(client, "sys", addresses, Pace::default());
    let sites = SitesHandle::new(watch::channel(None).1, Peers::new(links.clone()), links.clone());
    Stage { sites, links, aws, end, _here: here }
}

impl Stage {
    fn ways(&self, ways: Value) {
        let ways: Vec<Access> = serde_json::from_value(ways).expect("ways");
        self.links.set([("aws".to_owned(), ways)].into());
    }

    async fn fails(&self) -> Other {
        look(&self.sites, "aws").await.expect_err("nothing is known")
    }
}

fn eks(name: &str) -> Value {
    json!({"eks": {"name": name, "region": "us-east-1", "credentials": {"secretRef": {"name": "aws"}}}})
}

#[tokio::test]
async fn a_cluster_is_asked_and_stopped_through_its_cloud_whatever_way_comes_first() {
    let stage = stage().await;
    stage.ways(json!([{"kubeconfig": {"secretRef": {"name": "no-such"}}}, eks("prod")]));
    let machine = |state| Machine {
        id: "i-1".to_owned(),
        cluster: "prod".to_owned(),
        group: "eks-blue".to_owned(),
        state,
    };
    stage.aws.machines(vec![machine("running")]);
    let found = look(&stage.sites, "aws").await.expect("it tells");
    assert!(matches!(found.verdict(), Verdict::Up(_)), "{found:?}");
    let done = stop(&stage.sites, "aws", &found.pools).await.expect("it is asked");
    assert_eq!(done, [("blue".to_owned(), Ok(()))]);
    assert_eq!(stage.aws.size("prod", "blue"), Some([0, 0, 9]));
    let verdict = async || look(&stage.sites, "aws").await.expect("it tells").verdict();
    assert!(matches!(verdict().await, Verdict::Going(_)), "its machine is still there");
    stage.aws.machines(vec![machine("terminated")]);
    assert!(matches!(verdict().await, Verdict::Gone(_)));
}

#[tokio::test]
async fn who_cannot_be_asked_is_told_with_what_to_do() {
    let stage = stage().await;
    assert!(stage.fails().await.message.contains("there is no CloudCluster aws"));
    stage.ways(json!([{"kubeconfig": {"secretRef": {"name": "aws"}}}]));
    assert!(stage.fails().await.remedy.contains("behind a kubeconfig nobody can be asked"));
    stage.ways(json!([eks("prod"), eks("other")]));
    assert!(stage.fails().await.message.contains("does not say in which cloud"), "two clusters are none");
    stage.ways(json!([{"eks": {"name": "prod", "region": "us-east-1",
        "credentials": {"secretRef": {"name": "no-such"}}}}]));
    assert!(stage.fails().await.message.contains("no-such"));
    stage.ways(json!([eks("prod")]));
    stage.end.desk.next(|asked| asked.path == "/clusters/prod/node-groups", [Fault::status(403)]);
    let refused = stage.fails().await;
    assert!(refused.remedy.contains("eks:ListNodegroups"), "{refused:?}");
    stage.end.desk.next(|asked| asked.path == "/", [Fault::RetryAfter(1)]);
    let busy = stage.fails().await;
    assert!(busy.message.ends_with("it has too much to do (429)"), "{busy:?}");
    let found = look(&stage.sites, "aws").await.expect("it tells");
    stage.end.desk.next(|asked| asked.path.ends_with("/update-config"), [Fault::status(403)]);
    let done = stop(&stage.sites, "aws", &found.pools).await.expect("it is asked");
    assert!(
        done[0].1.as_ref().is_err_and(|why| why.remedy.contains("eks:UpdateNodegroupConfig")),
        "{done:?}"
    );
}
