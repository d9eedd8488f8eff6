//! What nodes have and pods ask for, of the few fields that say it, and how it is rounded for a status. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::view::{Amount, NodesView};
use crate::api::cloudcluster::{Amounts, NodesStatus};
use crate::api::quantity::thousandths;

/// Amounts by resource, as quantities.
pub type Quantities = BTreeMap<String, String>;

/// Of a node's spec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Whether it takes no pods.
    pub unschedulable: bool,
}

/// Of a node's status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// What it has for pods.
    pub allocatable: Quantities,
    /// Its conditions.
    pub conditions: Vec<NodeCondition>,
}

/// Of a condition of a node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct NodeCondition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: String,
}

/// Of a pod's spec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// Where it is placed.
    pub node_name: Option<String>,
    /// Its containers.
    pub containers: Vec<Container>,
    /// Those that run before, or beside them.
    pub init_containers: Vec<Container>,
    /// What it takes beyond its containers.
    pub overhead: Quantities,
}

/// Of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    /// `Always` for an init container that stays.
    pub restart_policy: Option<String>,
    /// What it asks for.
    pub resources: Resources,
}

/// Of the resources of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// What it asks for.
    pub requests: Quantities,
}

/// A sum of cores and memory, both in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    cpu: i128,
    memory: i128,
}

impl Sum {
    fn of(quantities: &Quantities) -> Self {
        // What is no quantity, the API server would not have taken.
        let value = |name: &str| quantities.get(name).and_then(|text| thousandths(text)).unwrap_or(0);
        Self { cpu: value("cpu"), memory: value("memory") }
    }

    /// Adds amounts.
    pub fn add_quantities(&mut self, quantities: &Quantities) {
        self.add(Self::of(quantities));
    }

    /// Adds another sum.
    pub fn add(&mut self, other: Self) {
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.memory = self.memory.saturating_add(other.memory);
    }

    fn most(self, other: Self) -> Self {
        Self { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory) }
    }

    /// The sum in thousandths of cores, and bytes.
    pub fn amount(self) -> Amount {
        let whole = |value: i128| i64::try_from(value).unwrap_or(i64::MAX);
        Amount { cpu: whole(self.cpu), memory: whole(self.memory / 1000) }
    }
}

/// Whether a node takes pods.
pub fn is_ready(spec: &NodeSpec, status: &NodeStatus) -> bool {
    let ready =
        status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True");
    ready && !spec.unschedulable
}

/// Whether a pod takes something of a node.
pub fn counts(spec: &PodSpec) -> bool {
    spec.node_name.as_deref().is_some_and(|name| !name.is_empty())
}

/// What a pod asks for, as the scheduler counts it: its containers and those init containers that stay, or the most that
/// any init container needs while those before it that stay are there.
pub fn requested(spec: &PodSpec) -> Sum {
    let (mut beside, mut first) = (Sum::default(), Sum::default());
    for container in &spec.init_containers {
        let asks = Sum::of(&container.resources.requests);
        let mut needs = beside;
        needs.add(asks);
        if container.restart_policy.as_deref() == Some("Always") {
            beside = needs;
        }
        first = first.most(needs);
    }
    let mut sum = beside;
    spec.containers.iter().for_each(|container| sum.add_quantities(&container.resources.requests));
    let mut sum = sum.most(first);
    sum.add_quantities(&spec.overhead);
    sum
}

/// What the status says of nodes, over what it has said: amounts stay as they are until they have moved by more than a
/// tenth of what was said, and a two-hundredth of what there is, so that the coming and going of pods writes nothing.
pub fn said(view: &NodesView, old: Option<&NodesStatus>) -> NodesStatus {
    let (cpu, memory) = (view.allocatable.cpu / 200, view.allocatable.memory / 200);
    let amounts = |now: &Amount, old: Option<&Amounts>| Amounts {
        cpu: settled(now.cpu, old.map(|old| old.cpu.as_str()), 1, cpu, cores),
        memory: settled(now.memory, old.map(|old| old.memory.as_str()), 1000, memory, bytes),
    };
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let requested = view.requested.as_ref();
    NodesStatus {
        ready: number(view.ready),
        total: number(view.total),
        allocatable: amounts(&view.allocatable, old.map(|old| &old.allocatable)),
        requested: requested.map(|now| amounts(now, old.and_then(|old| old.requested.as_ref()))),
    }
}

/// The old words, if what is now is no further from them than that; `unit` is how many thousandths `now` counts in.
fn settled(now: i64, old: Option<&str>, unit: i64, least: i64, words: fn(i64) -> String) -> String {
    let new = words(now);
    let said = old.and_then(thousandths).and_then(|value| i64::try_from(value / i128::from(unit)).ok());
    match (old, said) {
        // Something is never called nothing, nor the other way round.
        (Some(old), Some(said))
            if (old == "0") == (new == "0") && (said - now).abs() <= least.max(said / 10) =>
        {
            old.to_owned()
        }
        _ => new,
    }
}

/// Cores: in tenths below ten of them.
fn cores(thousandths: i64) -> String {
    match thousandths {
        10_000.. => ((thousandths + 500) / 1000).to_string(),
        _ => match (thousandths + 50) / 100 {
            0 => "0".to_owned(),
            tenths if tenths % 10 == 0 => (tenths / 10).to_string(),
            tenths => format!("{}m", tenths * 100),
        },
    }
}

/// Memory: in mebibytes below ten gibibytes.
fn bytes(bytes: i64) -> String {
    const MEBI: i64 = 1 << 20;
    match (bytes + MEBI / 2) / MEBI {
        0 => "0".to_owned(),
        mebi if mebi >= 10 * 1024 || mebi % 1024 == 0 => format!("{}Gi", (mebi + 512) / 1024),
        mebi => format!("{mebi}Mi"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> PodSpec {
        serde_json::from_value(spec).expect("a pod")
    }

    #[test]
    fn a_pod_asks_for_what_the_scheduler_counts() {
        let asks =
            |cpu: &str, memory: &str| json!({"resources": {"requests": {"cpu": cpu, "memory": memory}}});
        let mut stays = asks("100m", "64Mi");
        stays["restartPolicy"] = "Always".into();
        let spec = pod(json!({
            "nodeName": "n", "containers": [asks("250m", "256Mi"), asks("250m", "256Mi"), {}],
            "initContainers": [stays, asks("1", "16Mi")], "overhead": {"cpu": "10m"},
        }));
        assert!(counts(&spec));
        let amount = requested(&spec).amount();
        // The last init container beside the one that stays needs the most cores; the containers the most memory.
        assert_eq!(amount, Amount { cpu: 1110, memory: (64 + 512) << 20 });
        assert!(!counts(&pod(json!({"containers": []}))), "it is placed nowhere");
    }

    #[test]
    fn a_node_that_is_cordoned_takes_no_pods() {
        let status: NodeStatus =
            serde_json::from_value(json!({"conditions": [{"type": "Ready", "status": "True"}]})).unwrap();
        assert!(is_ready(&NodeSpec::default(), &status));
        assert!(!is_ready(&NodeSpec { unschedulable: true }, &status));
        assert!(!is_ready(&NodeSpec::default(), &NodeStatus::default()));
    }

    fn view(cpu: i64, memory: i64) -> NodesView {
        NodesView {
            ready: 6,
            total: 6,
            allocatable: Amount { cpu: 96_000, memory: 384 << 30 },
            requested: Some(Amount { cpu, memory }),
            at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_moves_by_little_is_not_said_anew() {
        let first = said(&view(40_130, 100 << 30), None);
        let requested = |status: &NodesStatus| status.requested.clone().unwrap();
        assert_eq!(first.allocatable, Amounts { cpu: "96".into(), memory: "384Gi".into() });
        assert_eq!(requested(&first), Amounts { cpu: "40".into(), memory: "100Gi".into() });
        for cpu in [36_000, 44_000, 40_000] {
            assert_eq!(said(&view(cpu, 101 << 30), Some(&first)), first, "{cpu}");
        }
        let more = said(&view(46_000, 100 << 30), Some(&first));
        assert_eq!(requested(&more), Amounts { cpu: "46".into(), memory: "100Gi".into() });
        assert_eq!(
            requested(&said(&view(200, 0), Some(&said(&view(0, 0), None)))).cpu,
            "200m",
            "it is not nothing"
        );
        let blind = NodesView { requested: None, ..view(0, 0) };
        assert_eq!(said(&blind, Some(&first)).requested, None);
    }

    #[test]
    fn amounts_are_written_as_people_do() {
        let cpu = [0, 20, 130, 1_000, 9_960, 12_400].map(cores);
        assert_eq!(cpu, ["0", "0", "100m", "1", "10", "12"]);
        let memory = [0, 700_000, 5 << 20, 2 << 30, 11_000 << 20].map(bytes);
        assert_eq!(memory, ["0", "1Mi", "5Mi", "2Gi", "11Gi"]);
        assert!(memory.iter().chain(&cpu).all(|text| thousandths(text).is_some()));
    }
}
