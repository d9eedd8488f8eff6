//! A FinService under a CanaryRollout: what scenarios about rollouts begin with.

use std::time::{Duration, Instant};

use banyan::api::{Action, CanaryRollout, CanaryRolloutStatus};
use banyan::sandbox::install;
use banyan::sandbox::traffic::{Load, Tally};
use kube::Api;
use serde_json::{Value, json};

use crate::world::{Space, World, until};

/// Where a scenario's evidence comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The built-in source: what the gateway counts or what pods count, as its group says.
    BuiltIn,
    /// A Prometheus that scrapes both.
    Prometheus,
}

/// A space with a FinService under a CanaryRollout.
pub struct Stage<'a> {
    /// Its namespace.
    pub space: Space<'a>,
    protocol: &'static str,
}

impl<'a> Stage<'a> {
    /// Version 1 serves with four pods. `policy` is laid over one that is fast.
    pub async fn start(world: &'a World, name: &str, source: Source, policy: Value) -> Self {
        Self::speaking("HTTP", world, name, source, policy).await
    }

    /// The same with another protocol.
    pub async fn speaking(
        protocol: &'static str,
        world: &'a World,
        name: &str,
        source: Source,
        policy: Value,
    ) -> Self {
        let space = world.space(name).await;
        let mut spec = json!({
            "service": "app",
            "strategy": {"canary": {
                "steps": [{"weight": 10}, {"weight": 50}, {"weight": 100}], "minHold": "3s", "maxHold": "5m",
            }},
            "rollbackWindow": {"for": "5s"},
            "analysis": {"interval": "1s", "warmup": "1s", "errorRate": {"maxIncrease": "2"}},
        });
        if source == Source::Prometheus {
            let url = world.prometheus.as_ref().expect("a Prometheus").url();
            spec["analysis"]["source"] = json!({"prometheus": {"url": url}});
        }
        merge(&mut spec, policy);
        let rollout = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": "app", "namespace": space.namespace}, "spec": spec,
        });
        install::apply(&world.client, &[rollout]).await.expect("a CanaryRollout");
        let stage = Self { space, protocol };
        stage.release("app:1").await;
        stage.space.hears_of("app:1").await;
        stage.phase("it is settled", &["Settled"]).await;
        stage
    }

    /// Applies the FinService with a release and four pods.
    pub async fn release(&self, release: &str) {
        self.space.finservice_speaking(release, 4, self.protocol).await;
    }

    fn rollouts(&self) -> Api<CanaryRollout> {
        Api::namespaced(self.space.world.client.clone(), &self.space.namespace)
    }

    pub async fn rollout(&self) -> CanaryRollout {
        self.rollouts().get("app").await.expect("a CanaryRollout")
    }

    /// Waits until the rollout of a release is in one of these phases.
    pub async fn phase_of(&self, release: &str, what: &str, phases: &[&str]) -> CanaryRollout {
        let named = format!("{}/{release}", self.space.namespace);
        let began = Instant::now();
        loop {
            let rollout = self.rollout().await;
            let status = rollout.status.clone().unwrap_or_default();
            let phase = status.phase.clone().unwrap_or_default();
            let of_release = release.is_empty() || status.release.as_deref() == Some(named.as_str());
            if of_release && phases.contains(&phase.as_str()) {
                return rollout;
            }
            assert!(began.elapsed() < Duration::from_secs(150), "waited in vain until {what}: {status:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn phase(&self, what: &str, phases: &[&str]) -> CanaryRollout {
        self.phase_of("", what, phases).await
    }

    /// Waits until a release has a weight.
    pub async fn weight(&self, release: &str, weight: i32) {
        until(&format!("{release} has {weight} %"), async || {
            let status = self.rollout().await.status?;
            let named = format!("{}/{release}", self.space.namespace);
            let of_release = status.release.as_deref() == Some(named.as_str());
            (of_release && status.weight?.observed == Some(weight)).then_some(())
        })
        .await;
    }

    /// Waits until the rollout is stalled for a reason.
    pub async fn stalled(&self, reason: &str) -> CanaryRolloutStatus {
        until(&format!("it is stalled with {reason}"), async || {
            let status = self.rollout().await.status?;
            let stalled = status.conditions.iter().find(|condition| condition.type_ == "Stalled")?;
            (stalled.status == "True" && stalled.reason == reason).then_some(status.clone())
        })
        .await
    }

    /// Says something about a release.
    pub async fn say(&self, verb: &str, release: &str) {
        let action = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "Action",
            "metadata": {"name": format!("{verb}-{}", release.replace(':', "-")), "namespace": self.space.namespace},
            "spec": {
                "target": {"kind": "CanaryRollout", "name": "app"}, "verb": verb,
                "release": format!("{}/{release}", self.space.namespace),
            },
        });
        let action: Action = serde_json::from_value(action).expect("an Action");
        let api: Api<Action> = Api::namespaced(self.space.world.client.clone(), &self.space.namespace);
        api.create(&Default::default(), &action).await.expect("an Action");
    }

    /// Waits until requests go to this release alone.
    pub async fn alone(&self, release: &str) {
        until(&format!("all requests go to {release}"), async || {
            let tally = Load::exactly(self.space.load().at(2000.0), 200).await.expect("a load");
            (tally.of(&self.space.release(release)).total() == 200).then_some(())
        })
        .await;
    }
}

fn merge(into: &mut Value, over: Value) {
    match (into, over) {
        (Value::Object(into), Value::Object(over)) => {
            for (key, value) in over {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, over) => *into = over,
    }
}

/// Requests that neither a pod of one of these releases failed nor anybody answered.
pub fn lost(tally: &Tally, space: &Space<'_>, bad: &[&str]) -> u64 {
    let of_bad: u64 = bad.iter().map(|release| tally.of(&space.release(release)).failed()).sum();
    tally.failed() - of_bad
}

/// What a rollout says of itself: why it is stalled, or else its message.
pub fn words(status: &CanaryRolloutStatus) -> String {
    let stalled = status.conditions.iter().find(|condition| condition.type_ == "Stalled");
    let stalled = stalled.filter(|condition| condition.status == "True");
    stalled.map(|stalled| stalled.message.clone()).or_else(|| status.message.clone()).unwrap_or_default()
}
