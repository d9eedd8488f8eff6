//! Two clouds with several groups, and doors between the clouds that can be shut.

use std::cell::RefCell;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use banyan::api::failover::{MoveAction, Phase};
use banyan::api::{
    Authority, AuthoritySpec, CloudCluster, Failover, FailoverGroup, FailoverSpec, FailoverStatus, FinService,
};
use banyan::sandbox::ends::cloudflare::{CloudflareEnd, CloudflareOptions, fixed_answer};
use banyan::sandbox::ends::objects::{Maker, Objects};
use banyan::sandbox::ends::proxy::Proxy;
use banyan::sandbox::ends::server::{self, Served};
use banyan::sandbox::install;
use banyan::sandbox::operators::Operator;
use banyan::sandbox::postgres::{Agents, Client as Writer, OPERATOR, PostgresPair, Tally};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::super::stage::{AWS, GCP, answers, databases, is_ready, state};
use super::gate::Gate;
use super::keeper::Keeper;
use crate::peers::{self, Two, until};

/// The namespace of operators.
const SYSTEM: &str = "banyan-system";
/// The path of the application, which answers with the name of its site.
pub const APPLICATION: &str = "/pay";
/// What the application does where it writes.
pub const WRITES: &str = "/canary";
/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(240);
/// Prefix of the names under which Secrets are kept.
const TOKEN: &str = "planted-at-cloudflare";

/// What a group is like.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name, which is that of its namespace too.
    pub name: &'static str,
    /// Whether it has a witness, and a load balancer before it.
    pub whole: bool,
    /// How many percent of its pods stand by.
    pub standby: i32,
}

/// A group, whose data lies in a pair of PostgreSQL of its own.
pub struct Group {
    /// What it is like.
    pub kind: Kind,
    /// Its database.
    pub postgres: PostgresPair,
    agents: Agents,
}

/// Two clouds, and what is around them.
pub struct Field {
    /// The clouds and their operators.
    pub two: Two,
    /// Before each API server, for the other cloud.
    pub doors: [Proxy; 2],
    /// The operators.
    pub keeper: Keeper,
    /// Sees what operators write.
    pub gate: Gate,
    /// The witness of those that have one.
    pub witness: Objects,
    /// The load balancer.
    pub cloudflare: CloudflareEnd,
    /// The gateway of each site: `/authority` and the application.
    pub gateways: Vec<Served>,
    /// The groups.
    pub groups: Vec<Group>,
    /// The names of the sites.
    pub names: [String; 2],
    /// A client of each cloud that may do anything.
    pub admins: [Client; 2],
    _answers: Vec<Operator>,
    _fixed: Served,
    pool: String,
}

/// The service of a group of that kind.
pub fn service(kind: Kind, names: &[String; 2]) -> Value {
    let placed = |name: &str, percent: i32| json!({"cluster": name, "capacityPercent": percent});
    json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
        "metadata": {"name": "ledger", "namespace": kind.name},
        "spec": {"owner": "team", "image": "registry.example/pay/app:1",
            "ports": [{"name": "http", "port": 8080}], "scale": {"replicas": 2},
            "placement": [placed(&names[AWS], 100), placed(&names[GCP], kind.standby)],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}})
}

/// The gateway of a site: it hands `/authority` on, and answers for the application.
async fn gateway(site: String, authority: String) -> Served {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let routes = Router::new().fallback(pass).with_state((site, authority, http));
    server::serve(routes).await.expect("a gateway")
}

async fn pass(
    State((site, authority, http)): State<(String, String, reqwest::Client)>,
    request: Request,
) -> Response {
    let path = request.uri().path().to_owned();
    if !path.starts_with("/authority") {
        return site.into_response();
    }
    match http.get(format!("{authority}{path}")).send().await {
        Ok(answer) => {
            let status = answer.status();
            (status, answer.text().await.unwrap_or_default()).into_response()
        }
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

impl Field {
    /// Starts it, with groups of these kinds, each of which is held by the first site; `None` where there is no PostgreSQL.
    pub async fn start(kinds: &[Kind]) -> Option<Self> {
        let options = CloudflareOptions { token: TOKEN.to_owned(), ..CloudflareOptions::default() };
        let cloudflare = CloudflareEnd::start(options).await.expect("Cloudflare's end");
        let fixed = fixed_answer().await.expect("a fixed answer");
        let pool = cloudflare.make_pool("fixed", "127.0.0.1", fixed.address.port()).expect("a pool");
        let args = ["--cloudflare-url".to_owned(), cloudflare.base()];
        let (mut two, doors) = Two::apart(&args).await;
        let started = std::mem::take(&mut two.operators).into_iter().zip(two.pair.clouds());
        let started = started.map(|(operator, cloud)| (peers::options(&two.pair, cloud, &args, 0), operator));
        let started: Vec<_> = started.collect();
        let keeper = Keeper::of(started.try_into().expect("two"), two.pair.supervisor());
        let names = [AWS, GCP].map(|place| two.pair.clouds()[place].name().to_owned());
        let admins = [AWS, GCP].map(|place| two.pair.clouds()[place].client_admin().expect("a client"));
        let mut groups = Vec::new();
        for kind in kinds {
            let folder = format!("postgres-{}", kind.name);
            let (postgres, agents) = databases(&two, &folder, &names).await?;
            groups.push(Group { kind: *kind, postgres, agents });
        }
        let witness = Objects::serve(Maker::Amazon, "witness", "banyan", 100).await.expect("a witness");
        let answers = answers(&two).await;
        let mut gateways = Vec::new();
        for (place, name) in names.iter().enumerate() {
            let gateway = gateway(name.clone(), answers[place].url().to_owned()).await;
            for admin in &admins {
                let sites: Api<CloudCluster> = Api::namespaced(admin.clone(), SYSTEM);
                let patch = json!({"spec": {"gateway": {"address": gateway.url()}}});
                sites.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a site");
            }
            gateways.push(gateway);
        }
        let gate = Gate::before(&admins).await;
        let field = Self {
            two,
            doors,
            keeper,
            gate,
            witness,
            cloudflare,
            gateways,
            groups,
            names,
            admins,
            _answers: answers,
            _fixed: fixed,
            pool,
        };
        field.begin().await;
        Some(field)
    }

    /// Applies all, and waits until each group could be moved.
    async fn begin(&self) {
        let secret = |name: &str, data: Value| {
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": SYSTEM},
                "stringData": data})
        };
        let mut objects = vec![
            secret("cloudflare", json!({"token": TOKEN})),
            secret("witness", json!({"AWS_ACCESS_KEY_ID": "banyan", "AWS_SECRET_ACCESS_KEY": "planted"})),
        ];
        for group in &self.groups {
            let name = group.kind.name;
            let password = group.postgres.password();
            objects.extend([
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
                secret(&format!("{name}-db"), json!({"username": OPERATOR, "password": password})),
                secret(&format!("{name}-agent"), group.agents.secret()),
            ]);
        }
        for place in [AWS, GCP] {
            install::apply(&self.admins[place], &objects).await.expect("objects are taken");
            let all: Vec<Value> = self.groups.iter().map(|group| service(group.kind, &self.names)).collect();
            install::apply(&self.admins[place], &all).await.expect("services are taken");
        }
        for place in [AWS, GCP] {
            until("the platform is Ready", async || {
                let all: Api<FinService> = Api::all(self.admins[place].clone());
                let all = all.list(&ListParams::default()).await.ok()?;
                let ready = |service: &FinService| {
                    let mut conditions = service.status.iter().flat_map(|status| &status.conditions);
                    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
                };
                (all.items.len() == self.groups.len() && all.items.iter().all(ready)).then_some(())
            })
            .await;
        }
        for place in [AWS, GCP] {
            let all: Vec<Value> = self.groups.iter().map(|group| self.object(group)).collect();
            install::apply(&self.admins[place], &all).await.expect("groups are taken");
        }
        for group in &self.groups {
            self.could_move(group, GCP).await;
        }
    }

    /// What git has of a group: the same at both sites.
    pub fn object(&self, group: &Group) -> Value {
        let Kind { name, whole, .. } = group.kind;
        // Both sites reach each server by its door.
        let mut store = group.postgres.spec(AWS, &format!("{name}-db"));
        let first = store.sites.get_mut(&self.names[AWS]).expect("a server");
        first.port = Some(i32::from(group.postgres.doors[AWS].port()));
        let store = group.agents.with(&group.postgres, store, &format!("{name}-agent"));
        let mut spec = json!({
            "sites": self.names,
            "initialSite": self.names[AWS],
            "services": {"namespaces": [name]},
            "stores": [{"name": "db", "maxLag": "60s", "postgres": store}],
            "capacity": {"minimumPercent": 50},
        });
        if whole {
            let more = json!({
                "witness": {"objectStore": {"url": format!("s3://witness/{name}"), "endpoint": self.witness.end.url(),
                    "credentials": {"secretRef": {"name": "witness"}}}},
                "traffic": {"hosts": [host(group)], "probe": {"path": APPLICATION, "write": {"path": WRITES}},
                    "cloudflare": {"account": CloudflareOptions::default().account,
                        "zone": CloudflareOptions::default().zone, "token": {"secretRef": {"name": "cloudflare"}},
                        "fallback": {"pool": self.pool}}},
            });
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        }
        json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FailoverGroup",
            "metadata": {"name": name, "namespace": SYSTEM}, "spec": spec})
    }

    /// All that git has of a group.
    pub fn in_git(&self, group: &Group) -> Vec<Value> {
        vec![self.object(group), service(group.kind, &self.names)]
    }

    pub fn group(&self, name: &str) -> &Group {
        self.groups.iter().find(|group| group.kind.name == name).expect("a group")
    }

    pub async fn status(&self, group: &Group, place: usize) -> Option<FailoverGroup> {
        self.group_named(group.kind.name, place).await
    }

    pub async fn group_named(&self, name: &str, place: usize) -> Option<FailoverGroup> {
        let api: Api<FailoverGroup> = Api::namespaced(self.admins[place].clone(), SYSTEM);
        api.get(name).await.ok()
    }

    pub async fn authority(&self, group: &Group, place: usize) -> Authority {
        let api: Api<Authority> = Api::namespaced(self.admins[place].clone(), SYSTEM);
        api.get(group.kind.name).await.expect("an Authority")
    }

    pub async fn authority_spec(&self, group: &Group, place: usize) -> AuthoritySpec {
        self.authority(group, place).await.spec
    }

    /// Waits until both operators agree on who has authority and that all is open there: the place, and the epoch.
    pub async fn agreed(&self, group: &Group) -> (usize, i64) {
        until("both sites agree", async || {
            let here = self.authority(group, AWS).await.spec;
            let there = self.authority(group, GCP).await.spec;
            let same = here.epoch == there.epoch && here.holders == there.holders && here.holders.len() == 1;
            let place = self.names.iter().position(|name| here.holders.first() == Some(name))?;
            let held = [&here, &there][place];
            (same && held.promoted == Some(held.epoch)).then_some((place, here.epoch))
        })
        .await
    }

    /// Waits until a Switchover to that site could be ordered.
    pub async fn could_move(&self, group: &Group, place: usize) {
        self.could_move_named(group.kind.name, place).await;
    }

    /// The same for the group of that name.
    pub async fn could_move_named(&self, group: &str, place: usize) {
        let last = RefCell::new(None);
        let waited = until("a move could be ordered", async || {
            let object = self.group_named(group, place).await?;
            let newest = object.status.as_ref()?.observed_generation == object.metadata.generation;
            let is = newest && state(&object) == Some("Standby") && is_ready(&object).is_some();
            *last.borrow_mut() = object.status;
            is.then_some(())
        });
        let waited = tokio::time::timeout(PATIENCE, waited).await;
        waited.unwrap_or_else(|_| {
            let checks = last.borrow().iter().flat_map(|status| status.checks.clone()).collect::<Vec<_>>();
            panic!("{group} cannot move to {place}: {checks:#?}")
        });
    }

    fn failovers(&self, place: usize) -> Api<Failover> {
        Api::namespaced(self.admins[place].clone(), SYSTEM)
    }

    /// Orders that the cloud at that place takes the group over.
    pub async fn order(&self, group: &Group, place: usize, action: MoveAction, name: &str) {
        self.order_for(group.kind.name, place, action, name).await;
    }

    /// The same for the group of that name.
    pub async fn order_for(&self, group: &str, place: usize, action: MoveAction, name: &str) {
        let spec =
            FailoverSpec { group: group.to_owned(), action, reason: "a drill".to_owned(), ticket: None };
        let order = Failover::new(name, spec);
        self.failovers(place).create(&PostParams::default(), &order).await.expect("the order is taken");
    }

    /// Deletes the group of that name in both clouds.
    pub async fn delete_group(&self, name: &str) {
        for admin in &self.admins {
            let groups: Api<FailoverGroup> = Api::namespaced(admin.clone(), SYSTEM);
            groups.delete(name, &DeleteParams::default()).await.expect("it is deleted");
        }
    }

    pub async fn delete_order(&self, place: usize, name: &str) {
        self.failovers(place).delete(name, &DeleteParams::default()).await.expect("it may be deleted");
    }

    pub async fn read(&self, place: usize, name: &str) -> Option<FailoverStatus> {
        let found = self.failovers(place).get_opt(name).await.expect("an answer")?;
        Some(found.status.unwrap_or_default())
    }

    /// Waits until an order is as it is to be.
    pub async fn comes_to<T>(
        &self,
        place: usize,
        name: &str,
        what: &str,
        found: impl Fn(&FailoverStatus) -> Option<T>,
    ) -> T {
        let last = RefCell::new(None);
        let waited = until(what, async || {
            let status = self.read(place, name).await?;
            let is = found(&status);
            *last.borrow_mut() = Some(status);
            is
        });
        let waited = tokio::time::timeout(PATIENCE, waited).await;
        waited.unwrap_or_else(|_| panic!("{name}: {what}: {:#?}", last.borrow()))
    }

    /// Waits until an order is done.
    pub async fn done(&self, place: usize, name: &str) -> FailoverStatus {
        self.comes_to(place, name, "it is done", |status| {
            assert!(
                !matches!(status.phase, Some(Phase::Refused | Phase::Aborted | Phase::Superseded)),
                "{name}: {status:#?}"
            );
            (status.phase == Some(Phase::Done)).then(|| status.clone())
        })
        .await
    }

    /// What on-call types, in that cloud.
    pub async fn types(&self, place: usize, words: &[&str]) {
        let kubeconfig = self.two.pair.dir().join(format!("kubeconfig-oncall-{place}"));
        std::fs::write(&kubeconfig, self.two.pair.clouds()[place].kubeconfig().unwrap()).unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_banyan"));
        let output = command.args(words).arg("--kubeconfig").arg(kubeconfig).output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", String::from_utf8_lossy(&text));
    }

    /// Types the command that an order says comes next.
    pub async fn types_next(&self, place: usize, next: &str) {
        self.types(place, &next.split(' ').skip(2).collect::<Vec<_>>()).await;
    }

    /// Starts another operator in the place of one that was killed. Its Lease would end by itself after 13 s; that it is
    /// gone spares nothing else than that time.
    pub async fn start_again(&self, place: usize) {
        let leases: Api<Lease> = Api::namespaced(self.admins[place].clone(), SYSTEM);
        let all = until("Leases are read", async || leases.list(&ListParams::default()).await.ok()).await;
        for lease in all.items {
            let name = lease.metadata.name.unwrap_or_default();
            leases.delete(&name, &DeleteParams::default()).await.expect("it may be deleted");
        }
        self.keeper.start(place);
    }
}

impl Field {
    /// Ends all of it.
    pub async fn stop(self) {
        drop(self.keeper);
        self.two.pair.stop().await.expect("it ends");
    }
}

/// The host under which users reach a group.
pub fn host(group: &Group) -> String {
    format!("{}.pay.example", group.kind.name)
}

/// Something that a person is asked.
pub fn asks(words: &'static str) -> impl Fn(&FailoverStatus) -> Option<String> {
    move |status| status.next.clone().filter(|next| next.contains(words))
}

/// Waits until a client has written some more.
pub async fn writes(writer: &Writer, more: usize) {
    let before = writer.tally().acknowledged.len();
    until("the client writes", async || (writer.tally().acknowledged.len() >= before + more).then_some(()))
        .await;
}

/// Nothing was closed since then: a fence ends the session of whoever writes.
pub fn undisturbed(writer: &Writer, before: &Tally) {
    let now = writer.tally();
    assert_eq!(now.unanswered, before.unanswered, "{:?} without writes", now.longest_gap);
}

/// How many of the acknowledged writes are not there.
pub async fn lost(group: &Group, place: usize, writer: &Writer) -> usize {
    writer.stop();
    let kept = writer.kept(&group.postgres.servers[place]).await.expect("what is kept");
    assert_eq!(writer.tally().wrong_reads, 0, "{}", group.kind.name);
    kept.lost
}

/// The timeline of an open primary: each promotion begins another one.
pub async fn timeline(group: &Group, place: usize) -> u64 {
    let query = "select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
    let rows = group.postgres.servers[place].sql(query).await.expect("a primary");
    u64::from_str_radix(&rows[0][0], 16).expect("a timeline")
}
