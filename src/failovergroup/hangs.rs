//! What hangs on authority in this cluster: a ConfigMap for applications, the binding of the policy that refuses Jobs at a
//! site without authority, and the grant by which routes may lead requests to whoever sends them on. Each is written when
//! what it says has changed, and once after a start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::FailoverGroupSpec;
use crate::api::authority::AuthoritySpec;
use crate::api::labels::{GROUP_LABEL, MANAGED_BY_LABEL, MANAGER};
use crate::authority::residual;
use crate::runtime::context::Context;
use crate::runtime::lock::lock;
use crate::runtime::patch::applying;

/// The policy of the chart that bindings name.
const POLICY: &str = "banyan-authority";

/// The group of Gateway API's kinds.
const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// The place under which the grant is noted; no namespace has such a name.
const GRANTS: &str = "grant:";

/// What was written last, by group and place.
#[derive(Debug, Default)]
pub struct Written {
    by_place: BTreeMap<(String, String), (Value, Option<Instant>)>,
    /// Groups that are gone, of which nothing is left.
    gone: BTreeSet<String>,
}

/// How soon it is tried again to write what could not be written: a namespace may come, a stranger's object may go.
const AGAIN: Duration = Duration::from_secs(300);

/// The name of what is made for a group.
pub fn name(group: &str) -> String {
    format!("banyan-authority-{group}")
}

fn metadata(group: &str) -> Value {
    json!({"name": name(group), "labels": {MANAGED_BY_LABEL: MANAGER, GROUP_LABEL: group}})
}

/// What an application is told. Pure.
pub fn config_map(site: &str, group: &str, own: &AuthoritySpec) -> Value {
    let open = own.is_held_by(site) && own.promoted == Some(own.epoch);
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": metadata(group),
        "data": {
            "group": group, "site": site,
            // What an application asks before it begins what only one site may do.
            "authority": if open { "true" } else { "false" },
            "holders": own.holders.join(","),
            "epoch": own.epoch.to_string(),
        },
    })
}

/// The binding that has the API server ask the Authority before it takes a Job. Pure.
pub fn binding(namespace: &str, group: &str, namespaces: &[String]) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": metadata(group),
        "spec": {
            "policyName": POLICY,
            "validationActions": ["Deny"],
            // An Authority that is lost stops nothing.
            "paramRef": {"name": group, "namespace": namespace, "parameterNotFoundAction": "Allow"},
            "matchResources": {"namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces},
            ]}},
        },
    })
}

/// The grant by which HTTPRoutes of the group's namespaces may name the Service that sends requests on. Pure.
pub fn grant(namespace: &str, group: &str, namespaces: &[String]) -> Value {
    let from = |of: &String| json!({"group": GATEWAY_API, "kind": "HTTPRoute", "namespace": of});
    let (mut metadata, kind) = (metadata(group), grants_kind());
    metadata["namespace"] = namespace.into();
    json!({
        "apiVersion": kind.api_version, "kind": kind.kind,
        "metadata": metadata,
        "spec": {
            "from": namespaces.iter().map(from).collect::<Vec<_>>(),
            "to": [{"group": "", "kind": "Service", "name": residual::SERVICE}],
        },
    })
}

/// Writes them where they differ from what was written. Returns whether something was.
///
/// # Errors
/// If the API server does not answer, or refuses. What is somebody else's is left alone.
pub async fn write(
    context: &Context,
    written: &Mutex<Written>,
    group: &str,
    spec: &FailoverGroupSpec,
    own: &AuthoritySpec,
) -> Result<bool, kube::Error> {
    let mut changed = false;
    let wanted = config_map(&context.site, group, own);
    for namespace in &spec.services.namespaces {
        changed |= apply(context, written, group, namespace, &wanted, maps(context, namespace)).await?;
    }
    let wanted = binding(&context.namespace, group, &spec.services.namespaces);
    let api: Api<ValidatingAdmissionPolicyBinding> = Api::all(context.client.clone());
    changed |= apply(context, written, group, "", &wanted, api).await?;
    if spec.traffic.is_some() {
        let wanted = grant(&context.namespace, group, &spec.services.namespaces);
        changed |= apply(context, written, group, GRANTS, &wanted, grants(context)).await?;
    } else if lock(written).by_place.remove(&(group.to_owned(), GRANTS.to_owned())).is_some() {
        changed |= delete(context, group, grants(context)).await?;
    }
    changed |= leave(context, written, group, &spec.services.namespaces).await?;
    Ok(changed)
}

async fn apply<K>(
    context: &Context,
    written: &Mutex<Written>,
    group: &str,
    place: &str,
    wanted: &Value,
    api: Api<K>,
) -> Result<bool, kube::Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let key = (group.to_owned(), place.to_owned());
    let known = lock(written).by_place.get(&key).cloned();
    if let Some((value, failed)) = known
        && value == *wanted
        && failed.is_none_or(|at| at.elapsed() < AGAIN)
    {
        return Ok(false);
    }
    let Some(_permit) = context.may_write(true).await else { return Ok(false) };
    let failed = match api.patch(&name(group), &applying(false), &Patch::Apply(wanted)).await {
        Ok(_) => None,
        // Where there is no Gateway API there are no routes that would need it.
        Err(kube::Error::Api(status)) if place == GRANTS && status.code == 404 => Some(Instant::now()),
        // The namespace is not there, or somebody else has an object of that name: it stays theirs. And an operator that is newer
        // than its rights goes on without the grant.
        Err(kube::Error::Api(status))
            if matches!(status.code, 404 | 409) || (place == GRANTS && status.code == 403) =>
        {
            tracing::warn!(group, place, reason = status.message, "what hangs on authority is not written");
            Some(Instant::now())
        }
        Err(error) => return Err(error),
    };
    let mut written = lock(written);
    written.gone.remove(group);
    written.by_place.insert(key, (wanted.clone(), failed));
    Ok(failed.is_none())
}

/// Takes the ConfigMap away from namespaces that the group has no more.
async fn leave(
    context: &Context,
    written: &Mutex<Written>,
    group: &str,
    stays: &[String],
) -> Result<bool, kube::Error> {
    let known: BTreeSet<String> =
        lock(written).by_place.keys().filter(|(of, _)| of == group).map(|(_, place)| place.clone()).collect();
    let is_namespace = |place: &String| !place.is_empty() && place != GRANTS;
    let gone = known.into_iter().filter(|place| is_namespace(place) && !stays.contains(place));
    let mut changed = false;
    for namespace in gone {
        changed |= delete(context, group, maps(context, &namespace)).await?;
        lock(written).by_place.remove(&(group.to_owned(), namespace));
    }
    Ok(changed)
}

/// Deletes what was made for a group at one place. Returns whether something was there.
async fn delete<K>(context: &Context, group: &str, api: Api<K>) -> Result<bool, kube::Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let Some(_permit) = context.may_write(true).await else { return Ok(false) };
    match api.delete(&name(group), &DeleteParams::default()).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

/// ReferenceGrants, in the version that every release of Gateway API serves.
fn grants_kind() -> ApiResource {
    let kind = GroupVersionKind::gvk(GATEWAY_API, "v1beta1", "ReferenceGrant");
    ApiResource::from_gvk_with_plural(&kind, "referencegrants")
}

fn grants(context: &Context) -> Api<DynamicObject> {
    Api::namespaced_with(context.client.clone(), &context.namespace, &grants_kind())
}

fn maps(context: &Context, namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(context.client.clone(), namespace)
}

/// Removes all that was made for a group that is gone, also by another process. Once.
///
/// # Errors
/// If the API server does not answer, or refuses.
pub async fn remove(context: &Context, written: &Mutex<Written>, group: &str) -> Result<bool, kube::Error> {
    if lock(written).gone.contains(group) {
        return Ok(false);
    }
    let selector = format!("{MANAGED_BY_LABEL}={MANAGER},{GROUP_LABEL}={group}");
    let all: Api<ConfigMap> = Api::all(context.client.clone());
    let found = all.list_metadata(&ListParams::default().labels(&selector)).await?;
    let mut changed = false;
    for map in found.items {
        let namespace = map.metadata.namespace.as_deref().unwrap_or_default();
        changed |= delete(context, group, maps(context, namespace)).await?;
    }
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(context.client.clone());
    changed |= delete(context, group, bindings).await?;
    match delete(context, group, grants(context)).await {
        Err(kube::Error::Api(status)) if status.code == 403 => {}
        deleted => changed |= deleted?,
    }
    if !context.leadership.is_leader() {
        return Ok(changed);
    }
    let mut written = lock(written);
    written.by_place.retain(|(of, _), _| of != group);
    written.gone.insert(group.to_owned());
    Ok(changed)
}
