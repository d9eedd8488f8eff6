//! What `banyan sandbox` applies: part of the program, so that it needs no checkout.

use serde_json::{Value, json};

use super::error::{Context, Result};
use super::install::documents;
use super::operators::NAMESPACE;

/// The chart as Helm renders it, its definitions aside; a test holds that it does. So the sandbox runs under the
/// chart's own rights.
const CHART: &str = include_str!("../../tests/goldens/chart/rendered.yaml");

macro_rules! finflow {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../examples/finflow/", $name)))),*]
    };
}

/// The example platform, file by file; a test holds that none is missing.
const FINFLOW: [(&str, &str); 12] = finflow![
    "00-namespaces.yaml",
    "01-sites.yaml",
    "02-failover-groups.yaml",
    "accounts.yaml",
    "api-gateway.yaml",
    "auth.yaml",
    "fraud.yaml",
    "ledger.yaml",
    "monolith.yaml",
    "notification.yaml",
    "transaction-eu.yaml",
    "transaction.yaml",
];

/// The service and the policy of the tour.
const TOUR: &str = include_str!("../../examples/canary/checkout.yaml");

/// What the command applies.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    /// Banyan's namespace, definitions, RBAC and priority classes.
    pub manifests: Vec<Value>,
    /// One CloudCluster for each site.
    pub sites: Vec<Value>,
    /// The example platform.
    pub examples: Vec<Value>,
    /// What the tour shows: a FinService and its CanaryRollout.
    pub tour: Vec<Value>,
}

impl Payload {
    /// What is part of the program.
    ///
    /// # Errors
    /// Never, unless one of the files was broken when the program was built.
    pub fn embedded() -> Result<Self> {
        let mut manifests = vec![json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": NAMESPACE,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        })];
        for definition in crate::api::crds() {
            manifests.push(serde_json::to_value(definition).context(|| "writing Banyan's definitions")?);
        }
        manifests.extend(documents("the chart", CHART)?);
        let mut all = Vec::new();
        for (name, text) in FINFLOW {
            all.extend(documents(name, text)?);
        }
        // The sites are Banyan's own objects, and needed by other examples too.
        let (sites, examples) = all.into_iter().partition(|object| object["kind"] == "CloudCluster");
        Ok(Self { manifests, sites, examples, tour: documents("the tour", TOUR)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_of_the_platform_is_missing() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/finflow");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".yaml"))
            .collect();
        files.sort();
        assert_eq!(files, FINFLOW.map(|(name, _)| name));
    }

    #[test]
    fn both_sites_and_the_operators_rights_are_part_of_it() {
        let payload = Payload::embedded().unwrap();
        let kinds = |kind: &str| payload.manifests.iter().filter(|object| object["kind"] == kind).count();
        assert_eq!(payload.sites.len(), 4, "both, and two in the Union that are not played here");
        assert!(payload.examples.iter().filter(|object| object["kind"] == "FinService").count() >= 6);
        assert_eq!(kinds("CustomResourceDefinition"), 7);
        assert!(kinds("ClusterRoleBinding") >= 1 && kinds("PriorityClass") == 3);
    }
}
