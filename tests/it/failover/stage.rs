//! Two clouds with a platform on both, a database between them, a witness, and a load balancer before them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use axum::Router;
use banyan::api::failovergroup::Check;
use banyan::api::{Authority, FailoverGroup, FinService};
use banyan::sandbox::ends::cloudflare::{CloudflareEnd, CloudflareOptions, fixed_answer};
use banyan::sandbox::ends::objects::{Maker, Objects};
use banyan::sandbox::ends::server::{self, Served};
use banyan::sandbox::install;
use banyan::sandbox::operators::{Operator, OperatorOptions};
use banyan::sandbox::postgres::{Agents, OPERATOR, PostgresPair, PostgresPairOptions};
use banyan::terminal::progress::Progress;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::peers::{Two, until};

pub const GROUP: &str = "payments";
pub const NAMESPACE: &str = "pay";
/// The host under which users reach it.
pub const HOST: &str = "api.pay.example";
/// The secret half of the key for the witness.
const WITNESS_KEY: &str = "planted-in-the-witness";
/// The token for Cloudflare's end.
const CLOUDFLARE_TOKEN: &str = "planted-at-cloudflare";
pub const AWS: usize = 0;
pub const GCP: usize = 1;

/// Two clouds, a platform on both, a database between them.
pub struct Stage {
    pub two: Two,
    pub postgres: PostgresPair,
    agents: Agents,
    pub witness: Objects,
    pub cloudflare: CloudflareEnd,
    /// Who answers load balancers, in each cloud.
    pub answers: Vec<Operator>,
    /// Somebody outside, whom the group's own check asks.
    pub partner: Served,
    pub names: [String; 2],
    pool: String,
    _fixed: Served,
}

fn operator_args(cloudflare: &CloudflareEnd) -> Vec<String> {
    vec!["--cloudflare-url".to_owned(), cloudflare.base()]
}

pub fn service(name: &str, more: Value) -> Value {
    let mut spec = json!({
        "owner": "team", "image": "registry.example/pay/app:1", "ports": [{"name": "http", "port": 8080}],
        "scale": {"replicas": 2}, "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})
}

impl Stage {
    pub async fn start() -> Option<Self> {
        let options =
            CloudflareOptions { token: CLOUDFLARE_TOKEN.to_owned(), ..CloudflareOptions::default() };
        let cloudflare = CloudflareEnd::start(options).await.expect("Cloudflare's end");
        let fixed = fixed_answer().await.expect("a fixed answer");
        let pool = cloudflare.make_pool("fixed", "127.0.0.1", fixed.address.port()).expect("a pool");
        let two = Two::with(&operator_args(&cloudflare)).await;
        let names = [two.pair.aws.name().to_owned(), two.pair.gcp.name().to_owned()];
        let (postgres, agents) = databases(&two, "postgres", &names).await?;
        let witness = Objects::serve(Maker::Amazon, "witness", "banyan", 100).await.expect("a witness");
        let answers = answers(&two).await;
        let partner = Router::new().route("/", axum::routing::get(async || "well"));
        let partner = server::serve(partner).await.expect("a partner");
        let stage =
            Self { two, postgres, agents, witness, cloudflare, answers, partner, names, pool, _fixed: fixed };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        let secret = |name: &str, data: Value| {
            json!({"apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": name, "namespace": "banyan-system"}, "stringData": data})
        };
        let objects = [
            namespace,
            secret("ledger-db", json!({"username": OPERATOR, "password": stage.postgres.password()})),
            secret("ledger-agent", stage.agents.secret()),
            secret("cloudflare", json!({"token": CLOUDFLARE_TOKEN})),
            secret("witness", json!({"AWS_ACCESS_KEY_ID": "banyan", "AWS_SECRET_ACCESS_KEY": WITNESS_KEY})),
        ];
        let objects = [&objects[..], &stage.services()].concat();
        for place in [AWS, GCP] {
            install::apply(&stage.admin(place), &objects).await.expect("objects are taken");
        }
        for place in [AWS, GCP] {
            until("the platform is Ready", async || {
                let all: Api<FinService> = Api::namespaced(stage.admin(place), NAMESPACE);
                let all = all.list(&ListParams::default()).await.ok()?;
                let ready = |service: &FinService| {
                    let conditions = service.status.iter().flat_map(|status| &status.conditions);
                    conditions
                        .into_iter()
                        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
                };
                (all.items.len() == 2 && all.items.iter().all(ready)).then_some(())
            })
            .await;
        }
        Some(stage)
    }

    /// Starts another operator in the place of one that has ended.
    pub async fn start_again(&mut self, place: usize) {
        self.two.start_again(place, &operator_args(&self.cloudflare)).await;
    }

    pub fn admin(&self, place: usize) -> Client {
        self.two.pair.clouds()[place].client_admin().unwrap()
    }

    /// What nobody may be told.
    pub fn secrets(&self) -> Vec<String> {
        let own = [self.postgres.password(), WITNESS_KEY, CLOUDFLARE_TOKEN].map(str::to_owned);
        self.two.planted.iter().cloned().chain(own).collect()
    }

    /// What runs at both sites: one that is called, and one that fetches its work.
    pub fn services(&self) -> [Value; 2] {
        let percent = |name: &str, percent: i32| json!({"cluster": name, "capacityPercent": percent});
        let placement = json!([percent(&self.names[0], 100), percent(&self.names[1], 50)]);
        let consumer = json!({"placement": placement, "traffic": "Pulled", "ports": []});
        [service("ledger", json!({"placement": placement})), service("consumer", consumer)]
    }

    /// The group, the same at both sites.
    pub fn group(&self, initial: bool) -> Value {
        let store = self.agents.with(&self.postgres, self.postgres.spec(AWS, "ledger-db"), "ledger-agent");
        let mut spec = json!({
            "sites": self.names,
            "services": {"namespaces": [NAMESPACE]},
            "stores": [{"name": "ledger-db", "maxLag": "60s", "postgres": store}],
            "witness": {"objectStore": {"url": "s3://witness/payments", "endpoint": self.witness.end.url(),
                "credentials": {"secretRef": {"name": "witness"}}}},
            "capacity": {"minimumPercent": 50},
            "checks": [{"name": "partner", "every": "30s", "http": {"url": self.partner.url()}}],
            "traffic": {"hosts": [HOST], "cloudflare": {"account": CloudflareOptions::default().account,
                "zone": CloudflareOptions::default().zone, "token": {"secretRef": {"name": "cloudflare"}},
                "fallback": {"pool": self.pool}}},
        });
        if initial {
            spec["initialSite"] = json!(self.names[AWS]);
        }
        json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FailoverGroup",
            "metadata": {"name": GROUP, "namespace": "banyan-system"}, "spec": spec})
    }

    pub async fn apply(&self, initial: bool) {
        for place in [AWS, GCP] {
            install::apply(&self.admin(place), &[self.group(initial)]).await.expect("the group is taken");
        }
    }

    pub async fn status(&self, place: usize) -> Option<FailoverGroup> {
        let api: Api<FailoverGroup> = Api::namespaced(self.admin(place), "banyan-system");
        let group = api.get(GROUP).await.ok()?;
        let newest = group.status.as_ref()?.observed_generation == group.metadata.generation;
        newest.then_some(group)
    }

    /// Waits until the group stands so at a site.
    pub async fn told<T>(&self, place: usize, what: &str, found: impl Fn(&FailoverGroup) -> Option<T>) -> T {
        let last = std::cell::RefCell::new(None);
        let waited = until(what, async || {
            let group = self.status(place).await?;
            let is = found(&group);
            *last.borrow_mut() = group.status;
            is
        });
        let waited = tokio::time::timeout(Duration::from_secs(200), waited).await;
        waited.unwrap_or_else(|_| panic!("{what} at {place}: {:#?}", last.borrow()))
    }

    /// Pods of the platform at a site: their UIDs, by service.
    pub async fn pods(&self, place: usize) -> BTreeMap<String, Vec<String>> {
        let api: Api<Pod> = Api::namespaced(self.admin(place), NAMESPACE);
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in api.list(&ListParams::default()).await.expect("pods").items {
            if pod.metadata.deletion_timestamp.is_none() {
                let service = pod.labels().get("banyan.dev/service").cloned().unwrap_or_default();
                found.entry(service).or_default().push(pod.uid().unwrap_or_default());
            }
        }
        found.values_mut().for_each(|pods| pods.sort());
        found
    }

    pub async fn authority(&self, place: usize) -> Option<Authority> {
        let api: Api<Authority> = Api::namespaced(self.admin(place), "banyan-system");
        api.get_opt(GROUP).await.expect("an answer")
    }
}

pub fn state(group: &FailoverGroup) -> Option<&str> {
    group.status.as_ref()?.authority.as_ref().map(|authority| authority.state.as_str())
}

pub fn check<'a>(group: &'a FailoverGroup, name: &str) -> Option<&'a Check> {
    group.status.as_ref()?.checks.iter().find(|check| check.name == name)
}

pub fn is_ready(group: &FailoverGroup) -> Option<()> {
    let conditions = group.status.iter().flat_map(|status| &status.conditions);
    let ready =
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready.then_some(())
}

/// A pair of servers, with their agents, in that folder of the clouds; `None` where none are to be had, which CI must have.
pub async fn databases(two: &Two, folder: &str, sites: &[String; 2]) -> Option<(PostgresPair, Agents)> {
    let options = PostgresPairOptions { dir: two.pair.dir().join(folder), sites: sites.clone() };
    let postgres = PostgresPair::start(options, two.pair.supervisor().clone(), &Progress::silent()).await;
    let postgres = match postgres {
        Ok(postgres) => postgres,
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_banyan"));
    let agents = Agents::start(&postgres, &binary).expect("agents beside the servers");
    Some((postgres, agents))
}

/// A command that on-call types, in that cloud.
pub fn typed(stage: &Stage, place: usize, args: &[&str]) -> Command {
    let kubeconfig = stage.two.pair.dir().join(format!("kubeconfig-oncall-{place}"));
    std::fs::write(&kubeconfig, stage.two.pair.clouds()[place].kubeconfig().unwrap()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_banyan"));
    command.args(args).arg("--kubeconfig").arg(kubeconfig);
    command
}

/// The same: its exit code, and what it prints.
pub fn command(stage: &Stage, place: usize, args: &[&str]) -> (Option<i32>, String) {
    let output = typed(stage, place, args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// `banyan authority` in each cloud, at the address that is said to be its gateway.
pub async fn answers(two: &Two) -> Vec<Operator> {
    let mut answers = Vec::new();
    for cloud in two.pair.clouds() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("127.0.0.1:{port}");
        let options = OperatorOptions {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_banyan")),
            site: cloud.name().to_owned(),
            kubeconfig: cloud.kubeconfig_operator().unwrap(),
            dir: two.pair.dir().join("operators"),
            replica: 0,
            args: Vec::new(),
            env: vec![("BANYAN_LOG".to_owned(), "debug".to_owned())],
        };
        let answer = Operator::start_authority(&options, &listen, two.pair.supervisor().clone());
        answers.push(answer.expect("it is started"));
        for other in two.pair.clouds() {
            let sites: Api<banyan::api::CloudCluster> =
                Api::namespaced(other.client_admin().unwrap(), "banyan-system");
            let gateway = json!({"spec": {"gateway": {"address": format!("http://{listen}")}}});
            let patched = sites.patch(cloud.name(), &PatchParams::default(), &Patch::Merge(&gateway)).await;
            patched.expect("a site");
        }
    }
    answers
}
