//! Who else writes a field that a failover writes: whoever it is would write it back. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::DynamicObject;
use serde_json::Value;

use super::object::FAILOVER_MANAGER;
use crate::api::Problem;

/// What brings an object back to what git says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// ArgoCD.
    Argo,
    /// Flux.
    Flux,
    /// Helm.
    Helm,
    /// A person, or a script, with kubectl.
    Kubectl,
    /// Something else.
    Other,
}

impl Tool {
    /// By the name under which it writes.
    fn of(manager: &str) -> Self {
        match manager {
            name if name.starts_with("argocd") || name.starts_with("argo-cd") => Self::Argo,
            "kustomize-controller" | "helm-controller" | "flux" => Self::Flux,
            "helm" | "Helm" => Self::Helm,
            name if name.starts_with("kubectl") => Self::Kubectl,
            _ => Self::Other,
        }
    }
}

/// Who owns a field, other than a failover itself: their names, each once.
///
/// `path` leads from the root of the object, such as `["spec", "replica", "primary"]`. Whoever owns a list or a struct as
/// one thing owns all that is within.
pub fn owners<'a>(managed: &'a [ManagedFieldsEntry], path: &[&str]) -> Vec<&'a str> {
    let owns = |entry: &ManagedFieldsEntry| {
        let mut at = &entry.fields_v1.as_ref()?.0;
        for part in path {
            // Nothing beneath: it is owned as one thing.
            if at.as_object().is_some_and(serde_json::Map::is_empty) {
                return Some(());
            }
            at = at.get(format!("f:{part}"))?;
        }
        Some(())
    };
    let others = managed.iter().filter(|entry| entry.subresource.as_deref().is_none_or(str::is_empty));
    let mut found: Vec<&str> = others
        .filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| !is_empty(&fields.0)))
        .filter(|entry| owns(entry).is_some())
        .filter_map(|entry| entry.manager.as_deref())
        .filter(|manager| *manager != FAILOVER_MANAGER)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn is_empty(fields: &Value) -> bool {
    fields.as_object().is_none_or(serde_json::Map::is_empty)
}

/// A field that a failover writes.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// Its path, part by part.
    pub path: &'a [&'a str],
    /// The same for people, such as `spec.replica.primary`.
    pub shown: &'a str,
    /// The same as jq writes it, for ArgoCD.
    pub jq: &'a str,
}

/// Says so where somebody else owns a field that a failover writes: git would undo the failover. `source` is the path of
/// the store's field.
pub fn would_undo(object: &DynamicObject, written: &[Written<'_>], source: &str) -> Option<Problem> {
    let managed = object.metadata.managed_fields.as_deref().unwrap_or_default();
    let mut fields = Vec::new();
    let mut jq = Vec::new();
    let mut tools: Vec<(Tool, &str)> = Vec::new();
    for field in written {
        let owners = owners(managed, field.path);
        if owners.is_empty() {
            continue;
        }
        fields.push(field.shown);
        jq.push(field.jq);
        tools.extend(owners.into_iter().map(|owner| (Tool::of(owner), owner)));
    }
    tools.sort_unstable();
    tools.dedup();
    let (tool, _) = *tools.first()?;
    let kind = object.types.as_ref().map_or("", |types| types.kind.as_str());
    let group = object
        .types
        .as_ref()
        .and_then(|types| types.api_version.split_once('/'))
        .map_or("", |(group, _)| group);
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let who: Vec<&str> = tools.iter().map(|(_, owner)| *owner).collect();
    let message = format!(
        "git would undo it: {} of the {kind} {name} {} written by {} as well",
        fields.join(", "),
        if fields.len() == 1 { "is" } else { "are" },
        who.join(", ")
    );
    let remedy = match tool {
        Tool::Argo => format!(
            "add to the Application, with syncOptions [RespectIgnoreDifferences=true]: ignoreDifferences: [{{group: {group}, kind: {kind}, name: {name}, jqPathExpressions: [{}]}}]",
            jq.iter().map(|path| format!("'{path}'")).collect::<Vec<_>>().join(", ")
        ),
        Tool::Flux => format!(
            "take {} out of the manifest, or annotate the {kind} with kustomize.toolkit.fluxcd.io/ssa: IfNotPresent",
            fields.join(", ")
        ),
        Tool::Helm => format!(
            "take {} out of the chart's values, so that an upgrade leaves it alone",
            fields.join(", ")
        ),
        Tool::Kubectl => format!(
            "take {} out of the manifest that is applied with kubectl, and apply it once more",
            fields.join(", ")
        ),
        Tool::Other => format!("have {} leave {} alone", who.join(", "), fields.join(", ")),
    };
    Some(Problem::error(source, message, remedy))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PRIMARY: Written<'_> = Written {
        path: &["spec", "replica", "primary"],
        shown: "spec.replica.primary",
        jq: ".spec.replica.primary",
    };

    fn object(managed: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster",
            "metadata": {"name": "ledger", "managedFields": managed},
        }))
        .expect("an object")
    }

    fn entry(manager: &str, fields: Value) -> Value {
        json!({"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    #[test]
    fn whoever_owns_the_field_or_all_around_it_would_undo_it() {
        let field = json!({"f:spec": {"f:replica": {"f:primary": {}}}});
        let around = json!({"f:spec": {"f:replica": {}}});
        let beside = json!({"f:spec": {"f:replica": {"f:source": {}}}});
        let mut status = entry("manager", field.clone());
        status["subresource"] = json!("status");
        let managed = json!([
            entry("argocd-controller", field.clone()),
            entry("kubectl", around),
            entry("helm", beside),
            status,
            entry(FAILOVER_MANAGER, field),
            entry("nobody", json!({})),
        ]);
        let object = object(managed);
        let managed = object.metadata.managed_fields.clone().expect("managed fields");
        assert_eq!(owners(&managed, PRIMARY.path), ["argocd-controller", "kubectl"]);
        let problem = would_undo(&object, &[PRIMARY], "spec.stores[ledger]").expect("a problem");
        assert_eq!(
            problem.message,
            "git would undo it: spec.replica.primary of the Cluster ledger is written by argocd-controller, kubectl as well"
        );
        assert_eq!(
            problem.remedy,
            "add to the Application, with syncOptions [RespectIgnoreDifferences=true]: ignoreDifferences: [{group: \
             postgresql.cnpg.io, kind: Cluster, name: ledger, jqPathExpressions: ['.spec.replica.primary']}]"
        );
    }

    #[test]
    fn each_tool_has_its_remedy_and_nobody_is_no_problem() {
        let field = json!({"f:spec": {"f:replica": {"f:primary": {}}}});
        for (manager, words) in [
            ("kustomize-controller", "kustomize.toolkit.fluxcd.io/ssa"),
            ("helm", "chart's values"),
            ("kubectl-client-side-apply", "applied with kubectl"),
            ("terraform", "have terraform leave spec.replica.primary alone"),
        ] {
            let object = object(json!([entry(manager, field.clone())]));
            let problem = would_undo(&object, &[PRIMARY], "").expect(manager);
            assert!(problem.remedy.contains(words), "{problem:?}");
        }
        assert_eq!(would_undo(&object(json!([])), &[PRIMARY], ""), None);
        assert_eq!(would_undo(&object(json!([entry(FAILOVER_MANAGER, field)])), &[PRIMARY], ""), None);
    }
}
