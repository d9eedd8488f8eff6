//! A FinService under a CanaryRollout, whose requests a played Prometheus counts: what tests of rollouts begin with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use banyan::actions::hear;
use banyan::api::{Action, CanaryRollout, CanaryRolloutStatus, FinService};
use banyan::sandbox::Cloud;
use futures::StreamExt;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::played_prometheus::{Flow, Played};
use crate::world::{World, aws, small, until};

/// Requests a second of each revision: enough for a verdict in a few looks.
pub const MANY: f64 = 20_000.0;

/// The shares in a route: by Service, in percent.
pub type Shares = BTreeMap<String, i64>;

/// A FinService `app` and its CanaryRollout `app`.
pub struct Stage {
    pub world: World,
    pub played: Arc<Played>,
    /// Hash of the revision that serves at the beginning.
    pub first: String,
    shares: Arc<Mutex<Vec<Shares>>>,
    recorder: tokio::task::JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.recorder.abort();
    }
}

/// Two pods of version 1, with that provider.
pub fn service(provider: &str) -> Value {
    let mut spec = small();
    spec["version"] = json!("1");
    spec["mesh"] = json!({"provider": provider});
    spec
}

/// 10, 50 and 100 %, as fast as it can be.
pub fn policy(played: &Played) -> Value {
    json!({
        "service": "app",
        "strategy": {"canary": {
            "steps": [{"weight": 10}, {"weight": 50}, {"weight": 100}], "minHold": "1s", "maxHold": "30m",
        }},
        "rollbackWindow": {"for": "2s"},
        "analysis": {"source": {"prometheus": {"url": played.url()}}, "warmup": "0s", "interval": "1s"},
    })
}

/// The same, but it stays at 10 % until somebody says otherwise.
pub fn staying(played: &Played) -> Value {
    let mut policy = policy(played);
    policy["strategy"]["canary"]["steps"][0]["minHold"] = json!("20m");
    policy
}

impl Stage {
    /// Version 1 serves in the shared cloud, with that policy.
    pub async fn new(name: &str, policy: impl Fn(&Played) -> Value) -> Self {
        Self::with(name, service("Istio"), policy).await
    }

    /// The same with another FinService.
    pub async fn with(name: &str, spec: Value, policy: impl Fn(&Played) -> Value) -> Self {
        Self::on(aws().await, name, spec, policy).await
    }

    /// The same in that cloud.
    pub async fn on(cloud: &Cloud, name: &str, spec: Value, policy: impl Fn(&Played) -> Value) -> Self {
        Self::of(World::on(cloud, name).await, Arc::new(Played::start().await), spec, policy).await
    }

    /// The same, but its first revision takes over from an old backend: nothing is settled at the beginning.
    pub async fn fresh(name: &str, spec: Value, policy: impl Fn(&Played) -> Value) -> Self {
        let world = World::new(name).await;
        Self::begin(world, Arc::new(Played::start().await), spec, policy).await
    }

    /// The same in a namespace that is there, judged by a Prometheus that is there.
    pub async fn of(
        world: World,
        played: Arc<Played>,
        spec: Value,
        policy: impl Fn(&Played) -> Value,
    ) -> Self {
        let stage = Self::begin(world, played, spec, policy).await;
        stage.phase("Settled").await;
        stage
    }

    async fn begin(
        world: World,
        played: Arc<Played>,
        spec: Value,
        policy: impl Fn(&Played) -> Value,
    ) -> Self {
        world.apply("app", spec).await.expect("a FinService");
        let ready = world.ready("app").await;
        let first = ready.status.and_then(|s| s.revisions?.stable).expect("a revision that serves");
        played.flow(&world.namespace, "app", &first, Flow::of(MANY, 0.1));
        let shares = Arc::new(Mutex::new(Vec::new()));
        let route = world.dynamic(ISTIO.0, ISTIO.1);
        let recorder = tokio::spawn(record(route, Arc::clone(&shares), Arc::clone(&played)));
        let stage = Self { world, played, first, shares, recorder };
        stage.put_policy("app", policy(&stage.played)).await;
        stage
    }

    /// An object of ours as it would lie in git.
    pub fn manifest(&self, kind: &str, spec: Value) -> Value {
        json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": kind,
            "metadata": {"name": "app", "namespace": self.world.namespace}, "spec": spec,
        })
    }

    /// Applies a CanaryRollout.
    pub async fn put_policy(&self, name: &str, spec: Value) {
        let mut object = self.manifest("CanaryRollout", spec);
        object["metadata"]["name"] = json!(name);
        let parameters = PatchParams::apply("team").force();
        let api = self.world.api::<CanaryRollout>();
        until(&format!("CanaryRollout {name} is taken"), async || {
            match api.patch(name, &parameters, &Patch::Apply(&object)).await {
                Err(kube::Error::Api(status)) if status.code == 503 => None,
                answered => Some(answered.expect("a CanaryRollout that is valid")),
            }
        })
        .await;
    }

    /// Changes the FinService, as a team would.
    pub async fn change(&self, change: Value) {
        let api = self.world.api::<FinService>();
        until("the FinService is changed", async || {
            match api.patch("app", &PatchParams::default(), &Patch::Merge(&json!({"spec": change}))).await {
                Err(kube::Error::Api(status)) if status.code == 503 => None,
                answered => Some(answered.expect("a change that is valid")),
            }
        })
        .await;
    }

    /// Deploys a version whose requests fail at that rate, in percent. Returns its revision's hash.
    pub async fn deploy(&self, version: &str, failing: f64) -> String {
        let image = format!("registry.example/app:{version}");
        self.change(json!({"version": version, "image": image})).await;
        self.begins(version, failing).await
    }

    /// Waits until a version that was deployed begins to roll out. Its requests fail at that rate, in percent.
    pub async fn begins(&self, version: &str, failing: f64) -> String {
        let status = self
            .status(&format!("{version} begins"), |status| {
                status.release.as_deref() == Some(version) && status.canary.is_some()
            })
            .await;
        let hash = status.canary.expect("it was looked for");
        self.flow(&hash, failing);
        hash
    }

    /// From here on requests of a revision fail at that rate, in percent.
    pub fn flow(&self, hash: &str, failing: f64) {
        self.played.flow(&self.world.namespace, "app", hash, Flow::of(MANY, failing));
    }

    /// The status of the CanaryRollout now.
    pub async fn now(&self) -> CanaryRolloutStatus {
        self.world.api::<CanaryRollout>().get("app").await.ok().and_then(|r| r.status).unwrap_or_default()
    }

    /// Waits until the status of the CanaryRollout is as wanted.
    pub async fn status(&self, what: &str, is: impl Fn(&CanaryRolloutStatus) -> bool) -> CanaryRolloutStatus {
        self.status_of("app", what, is).await
    }

    /// The same of another one.
    pub async fn status_of(
        &self,
        name: &str,
        what: &str,
        is: impl Fn(&CanaryRolloutStatus) -> bool,
    ) -> CanaryRolloutStatus {
        let api = self.world.api::<CanaryRollout>();
        let last = Mutex::new(None);
        let title = format!("CanaryRollout {name}: {what}");
        let wait = until(&title, async || {
            let rollout = api.get(name).await.ok()?;
            let status = rollout.status.filter(|s| s.observed_generation == rollout.metadata.generation)?;
            *last.lock().expect("no panic") = Some(status.clone());
            is(&status).then_some(status)
        });
        match tokio::time::timeout(Duration::from_secs(58), wait).await {
            Ok(status) => status,
            Err(_) => {
                let last = last.into_inner().expect("no panic");
                panic!("waited in vain: {what}; {}; events {:#?}", told(last.as_ref()), self.events().await)
            }
        }
    }

    /// Waits for a phase.
    pub async fn phase(&self, phase: &str) -> CanaryRolloutStatus {
        self.status(&format!("it is {phase}"), |status| status.phase.as_deref() == Some(phase)).await
    }

    /// Waits until the canary has a weight, as the route has it.
    pub async fn at(&self, weight: i32) -> CanaryRolloutStatus {
        self.status(&format!("it is at {weight} %"), |status| {
            status.weight.as_ref().is_some_and(|w| w.asked == weight && w.observed == Some(weight))
        })
        .await
    }

    /// A person says something. Returns what became of it.
    pub async fn say(&self, verb: &str, release: &str, words: &str) -> (String, String) {
        self.say_as(self.world.client.clone(), verb, release, words).await
    }

    /// The same by somebody else.
    pub async fn say_as(&self, who: Client, verb: &str, release: &str, words: &str) -> (String, String) {
        let target = json!({"kind": "CanaryRollout", "name": "app"});
        let action: Action = serde_json::from_value(json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "Action", "metadata": {"generateName": "said-"},
            "spec": {"target": target, "verb": verb, "release": release, "words": words},
        }))
        .expect("an Action");
        let api: Api<Action> = Api::namespaced(who, &self.world.namespace);
        let made =
            until("the Action is taken", async || match api.create(&PostParams::default(), &action).await {
                Err(kube::Error::Api(status)) if status.code == 503 => None,
                answered => Some(answered.expect("an Action that is valid")),
            })
            .await;
        let name = made.metadata.name.clone().expect("a name");
        until(&format!("{verb} is answered"), async || {
            let status = api.get(&name).await.ok()?.status?;
            Some((format!("{:?}", status.state?), status.message.unwrap_or_default()))
        })
        .await
    }

    /// Who says what is said here.
    pub async fn who(&self) -> String {
        let all = self.world.api::<Action>().list(&ListParams::default()).await.expect("Actions");
        all.items.iter().find_map(hear::said_by).expect("a name").to_owned()
    }

    /// The Events of the CanaryRollout so far, in order.
    pub async fn events(&self) -> Vec<(String, String)> {
        let all = self.world.api::<Event>().list(&ListParams::default()).await.expect("Events");
        let mut events: Vec<Event> = all
            .items
            .into_iter()
            .filter(|event| {
                event.regarding.as_ref().and_then(|about| about.kind.as_deref()) == Some("CanaryRollout")
            })
            .collect();
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        let words = |event: Event| (event.reason.unwrap_or_default(), event.note.unwrap_or_default());
        events.into_iter().map(words).collect()
    }

    /// Waits until the Events are these, with hashes and who said it by short names.
    pub async fn events_are(&self, names: &[(&str, &str)], wanted: &[(&str, &str)]) {
        let wanted: Vec<(String, String)> =
            wanted.iter().map(|(reason, note)| ((*reason).to_owned(), (*note).to_owned())).collect();
        let last = Mutex::new(Vec::new());
        let wait = until("the Events are as wanted", async || {
            let mut events = self.events().await;
            for (name, short) in names {
                events.iter_mut().for_each(|(_, note)| *note = note.replace(name, short));
            }
            let same = events == wanted;
            *last.lock().expect("no panic") = events;
            same.then_some(())
        });
        // Events come a moment after what they tell of.
        if tokio::time::timeout(Duration::from_secs(15), wait).await.is_err() {
            assert_eq!(last.into_inner().expect("no panic"), wanted);
        }
    }

    /// All shares that the route on the plain name ever had, in order, with short names for Services.
    pub fn shares(&self, names: &[(&str, &str)]) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for shares in self.shares.lock().expect("no panic").iter() {
            let mut words: Vec<String> = shares
                .iter()
                .map(|(service, share)| {
                    let hash = service.strip_prefix("app-").unwrap_or(service);
                    let short = names.iter().find(|(name, _)| *name == hash).map_or(hash, |(_, s)| s);
                    format!("{short} {share}")
                })
                .collect();
            words.sort();
            let words = words.join(", ");
            if all.last() != Some(&words) {
                all.push(words);
            }
        }
        all
    }

    /// All weights that a revision ever had, in order.
    pub fn weights(&self, hash: &str) -> Vec<i64> {
        let service = format!("app-{hash}");
        let mut weights: Vec<i64> = Vec::new();
        for shares in self.shares.lock().expect("no panic").iter() {
            weights.push(shares.get(&service).copied().unwrap_or(0));
        }
        weights.dedup();
        weights
    }

    /// The route on the plain name, now.
    pub async fn route(&self) -> Value {
        let api = self.world.dynamic(ISTIO.0, ISTIO.1);
        api.get("app").await.map(|route| route.data).unwrap_or_default()
    }

    /// Which revision the plain Service selects; nothing if all of the FinService's.
    pub async fn selected(&self) -> Option<String> {
        let api = self.world.api::<k8s_openapi::api::core::v1::Service>();
        let service = api.get("app").await.expect("a Service");
        service.spec.and_then(|spec| spec.selector?.get("banyan.dev/revision").cloned())
    }

    /// Pods that a revision's Deployment asks for, if it is there.
    pub async fn pods(&self, hash: &str) -> Option<i32> {
        let api = self.world.api::<k8s_openapi::api::apps::v1::Deployment>();
        api.get_opt(&format!("app-{hash}")).await.ok()??.spec?.replicas
    }
}

/// What a status says, for people who read why a test fails.
fn told(status: Option<&CanaryRolloutStatus>) -> String {
    let Some(status) = status else { return "there was no status for the newest spec".to_owned() };
    format!(
        "it is {:?} at {:?} with {:?}: {:?}; {:?}; {:?}",
        status.phase, status.weight, status.verdict, status.message, status.metrics, status.problems
    )
}

/// Group, version and kind of what shares requests.
const ISTIO: (&str, &str) = ("networking.istio.io/v1", "VirtualService");

/// Keeps the shares of every version of the route, by which requests flow from then on.
async fn record(
    api: kube::Api<kube::api::DynamicObject>,
    shares: Arc<Mutex<Vec<Shares>>>,
    played: Arc<Played>,
) {
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    let mut routes: BTreeMap<String, Value> = BTreeMap::new();
    while let Some(event) = events.next().await {
        let Ok(watcher::Event::Apply(route) | watcher::Event::InitApply(route)) = event else { continue };
        let name = route.name_any();
        if name == "app" {
            shares.lock().expect("no panic").push(read(&route.data));
        }
        routes.insert(name, route.data);
        // An old backend has rules of its own, for its own paths: what they share is what is judged. Elsewhere all
        // requests have one destination, though what is retired may still be named at zero.
        let rules = routes.values().filter_map(|route| route.pointer("/spec/http")?.as_array()).flatten();
        let (whole, shared): (Vec<&Value>, Vec<&Value>) = rules
            .partition(|rule| destinations(rule).iter().filter(|(.., percent)| *percent > 0).count() < 2);
        for (namespace, service, percent) in whole.into_iter().chain(shared).flat_map(destinations) {
            played.share(&namespace, &service, percent as f64 / 100.0);
        }
    }
}

/// The shares of the rule that is for everybody: the last one.
fn read(route: &Value) -> Shares {
    let rules = route.pointer("/spec/http").and_then(Value::as_array);
    let last = rules.and_then(|rules| rules.last()).map(destinations).unwrap_or_default();
    last.into_iter().map(|(_, service, percent)| (service, percent)).collect()
}

/// Namespace, Service and share of each destination of a rule.
fn destinations(rule: &Value) -> Vec<(String, String, i64)> {
    let shares = rule["route"].as_array().into_iter().flatten().map(|to| {
        let host = to.pointer("/destination/host").and_then(Value::as_str).unwrap_or_default();
        let mut parts = host.split('.').map(str::to_owned);
        let (service, namespace) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        (namespace, service, to["weight"].as_i64().unwrap_or(100))
    });
    shares.collect()
}
