//! Putting objects into a cluster: definitions, the operator's own manifests, examples.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{self, Scope};
use serde::Deserialize;
use serde_json::Value;

use super::error::{Context, Error, Result};

/// Who the API server is told applies this.
pub const FIELD_MANAGER: &str = "banyan-sandbox";
/// How long a definition may take until its resources are served.
const ESTABLISHED: Duration = Duration::from_secs(120);
/// How long an object may wait for what it needs and what was applied a moment ago: its kind, its namespace.
const SETTLE: Duration = Duration::from_secs(20);
/// How often either is asked for.
const POLL: Duration = Duration::from_millis(50);
/// How many objects are applied at once.
const AT_ONCE: usize = 8;

/// An object that was applied.
#[derive(Debug, Clone)]
pub struct Applied {
    resource: ApiResource,
    namespace: Option<String>,
    name: String,
    /// Whether it was not there before.
    pub created: bool,
}

impl Applied {
    /// Its kind.
    pub fn kind(&self) -> &str {
        &self.resource.kind
    }
}

/// Reads the documents of a YAML text; empty ones are left out.
///
/// # Errors
/// When a document is no YAML, or is no Kubernetes object. `source` says where it comes from.
pub fn documents(source: &str, yaml: &str) -> Result<Vec<Value>> {
    let mut documents = Vec::new();
    for (number, document) in serde_norway::Deserializer::from_str(yaml).enumerate() {
        let place = || format!("{source}, document {}", number + 1);
        let value = Value::deserialize(document).context(place)?;
        if value.is_null() {
            continue;
        }
        for field in ["/apiVersion", "/kind", "/metadata/name"] {
            if value.pointer(field).and_then(Value::as_str).is_none() {
                let field = field[1..].replace('/', ".");
                return Err(Error::new(format!("{}: {field} is missing", place())));
            }
        }
        documents.push(value);
    }
    Ok(documents)
}

/// Reads all `.yaml` and `.yml` files of a folder, by name; or one file.
///
/// # Errors
/// When the folder cannot be read or has none, or one of them is no YAML.
pub fn read_folder(path: &Path) -> Result<Vec<Value>> {
    let doing = || format!("reading {}", path.display());
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).context(doing)? {
            let file = entry.context(doing)?.path();
            if file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
                files.push(file);
            }
        }
    } else {
        files.push(path.to_owned());
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::new(format!("{} has no .yaml file", path.display())));
    }
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).context(|| format!("reading {}", file.display()))?;
        all.extend(documents(&file.display().to_string(), &text)?);
    }
    Ok(all)
}

/// Makes the definitions and waits until the API server serves what they define.
/// One that is there already is brought to what is wanted.
///
/// # Errors
/// When the API server refuses one, or one is not served after two minutes.
pub async fn definitions(client: &Client, definitions: &[Value]) -> Result<Vec<Applied>> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let resource = ApiResource::erase::<CustomResourceDefinition>(&());
    let dynamic: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let applied: Vec<Applied> = stream::iter(definitions)
        .map(|definition| {
            let (dynamic, resource) = (&dynamic, &resource);
            async move {
                let name = text(definition, "/metadata/name").to_owned();
                let doing = || format!("applying the definition {name}");
                let object: DynamicObject = serde_json::from_value(definition.clone()).context(doing)?;
                // Creating is much cheaper for the API server than applying: these are large.
                let created = match dynamic.create(&manager(), &object).await {
                    Ok(_) => true,
                    Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                        let params = PatchParams::apply(FIELD_MANAGER).force();
                        dynamic.patch(&name, &params, &Patch::Apply(definition)).await.context(doing)?;
                        false
                    }
                    Err(error) => return Err(error).context(doing),
                };
                Ok(Applied { resource: resource.clone(), namespace: None, name, created })
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    // All at once is quicker: the API server publishes them in batches.
    for definition in &applied {
        served(&api, &definition.name).await?;
    }
    discovered(client, definitions).await?;
    Ok(applied)
}

/// Waits until discovery names what the definitions define: it follows a moment after they are
/// established, and until then a client that asks for a kind is told that there is none.
async fn discovered(client: &Client, definitions: &[Value]) -> Result<()> {
    let deadline = Instant::now() + ESTABLISHED;
    for definition in definitions {
        let (group, plural) = (text(definition, "/spec/group"), text(definition, "/spec/names/plural"));
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        for version in versions.into_iter().flatten().filter(|version| version["served"] == true) {
            let version = format!("{group}/{}", text(version, "/name"));
            loop {
                // An error is a group that is not there yet.
                let found = client.list_api_group_resources(&version).await;
                if found.is_ok_and(|list| list.resources.iter().any(|resource| resource.name == plural)) {
                    break;
                }
                if Instant::now() > deadline {
                    let waited = ESTABLISHED.as_secs();
                    return Err(Error::new(format!(
                        "{version} {plural} is not in discovery after {waited} s"
                    )));
                }
                tokio::time::sleep(POLL).await;
            }
        }
    }
    Ok(())
}

fn manager() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() }
}

/// Waits for a definition's condition `Established`.
async fn served(api: &Api<CustomResourceDefinition>, name: &str) -> Result<()> {
    let deadline = Instant::now() + ESTABLISHED;
    loop {
        let definition = api.get(name).await.context(|| format!("reading the definition {name}"))?;
        let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
        let condition = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
        if condition("Established").is_some_and(|condition| condition.status == "True") {
            return Ok(());
        }
        if Instant::now() > deadline {
            let why = condition("NamesAccepted")
                .and_then(|condition| condition.message.clone())
                .unwrap_or_default();
            return Err(Error::new(format!(
                "the definition {name} is not established after {} s: {why}",
                ESTABLISHED.as_secs()
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Applies objects with force: definitions and namespaces first, then all else.
///
/// # Errors
/// When the API server refuses one, or does not know its kind after 20 s.
pub async fn apply(client: &Client, objects: &[Value]) -> Result<Vec<Applied>> {
    let kind = |object: &&Value| text(object, "/kind").to_owned();
    let crds: Vec<Value> =
        objects.iter().filter(|object| kind(object) == "CustomResourceDefinition").cloned().collect();
    let mut applied = definitions(client, &crds).await?;
    let (namespaces, rest): (Vec<&Value>, Vec<&Value>) = objects
        .iter()
        .filter(|object| kind(object) != "CustomResourceDefinition")
        .partition(|object| kind(object) == "Namespace");
    let kinds = kinds(client, objects).await?;
    for group in [namespaces, rest] {
        let done: Vec<Applied> = stream::iter(group)
            .map(|object| apply_one(client, &kinds, object))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        applied.extend(done);
    }
    Ok(applied)
}

type Kinds = HashMap<GroupVersionKind, (ApiResource, Scope)>;

/// Asks once for each kind what its resource is called, and whether it has namespaces.
async fn kinds(client: &Client, objects: &[Value]) -> Result<Kinds> {
    let mut kinds = Kinds::new();
    for object in objects {
        let gvk = gvk(object)?;
        if kinds.contains_key(&gvk) {
            continue;
        }
        let deadline = Instant::now() + SETTLE;
        let found = loop {
            match discovery::pinned_kind(client, &gvk).await {
                Ok((resource, capabilities)) => break (resource, capabilities.scope),
                Err(error) if Instant::now() > deadline => {
                    return Err(error)
                        .context(|| format!("looking for {}, which {} needs", gvk.kind, describe(object)));
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        };
        kinds.insert(gvk, found);
    }
    Ok(kinds)
}

async fn apply_one(client: &Client, kinds: &Kinds, object: &Value) -> Result<Applied> {
    let doing = || format!("applying {}", describe(object));
    let (resource, scope) =
        kinds.get(&gvk(object)?).ok_or_else(|| Error::new(format!("{}: its kind is not known", doing())))?;
    let namespace = match scope {
        Scope::Namespaced => {
            Some(object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("default"))
        }
        Scope::Cluster => None,
    };
    let api = api(client, resource, namespace);
    let name = text(object, "/metadata/name");
    let created = api.get_metadata_opt(name).await.context(doing)?.is_none();
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let deadline = Instant::now() + SETTLE;
    loop {
        match api.patch(name, &params, &Patch::Apply(object)).await {
            Ok(_) => break,
            // What it needs may have been applied a moment ago.
            // After a change of definitions, admission policies answer with 503 for some seconds.
            Err(kube::Error::Api(status))
                if matches!(status.code, 404 | 503) && Instant::now() < deadline =>
            {
                tokio::time::sleep(POLL).await;
            }
            Err(error) => return Err(error).context(doing),
        }
    }
    Ok(Applied {
        resource: resource.clone(),
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
        created,
    })
}

/// Deletes what [`apply`] made and was not there before, the last first. What is gone already is well.
///
/// # Errors
/// When the API server refuses a deletion.
pub async fn remove(client: &Client, applied: &[Applied]) -> Result<()> {
    for object in applied.iter().rev().filter(|object| object.created) {
        let api = api(client, &object.resource, object.namespace.as_deref());
        match api.delete(&object.name, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => {
                return Err(error).context(|| format!("deleting {} {}", object.resource.kind, object.name));
            }
        }
    }
    Ok(())
}

/// Whether any of these is still there.
///
/// # Errors
/// When the API server does not answer.
pub async fn any_left(client: &Client, applied: &[Applied]) -> Result<bool> {
    for object in applied.iter().filter(|object| object.created) {
        let api = api(client, &object.resource, object.namespace.as_deref());
        let left = api.get_metadata_opt(&object.name).await;
        if left.context(|| format!("looking for {} {}", object.kind(), object.name))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn api(client: &Client, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

fn gvk(object: &Value) -> Result<GroupVersionKind> {
    let version = text(object, "/apiVersion");
    let kind = text(object, "/kind");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    if version.is_empty() || kind.is_empty() {
        return Err(Error::new(format!("{}: apiVersion or kind is missing", describe(object))));
    }
    Ok(GroupVersionKind::gvk(group, version, kind))
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// An object as people name it: `Deployment payments/transaction`.
pub fn describe(object: &Value) -> String {
    let namespace = text(object, "/metadata/namespace");
    let slash = if namespace.is_empty() { "" } else { "/" };
    format!("{} {namespace}{slash}{}", text(object, "/kind"), text(object, "/metadata/name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_and_empty_ones_left_out() {
        let yaml = "---\n# nothing\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n";
        let documents = documents("x.yaml", yaml).unwrap();
        assert_eq!(documents.len(), 1);
        assert_eq!(describe(&documents[0]), "Namespace a");
    }

    #[test]
    fn what_is_no_object_is_named_with_its_place() {
        let error = documents("x.yaml", "kind: A\nmetadata: {name: a}\n").unwrap_err();
        assert_eq!(error.to_string(), "x.yaml, document 1: apiVersion is missing");
        let error = documents("x.yaml", "a: [\n").unwrap_err().to_string();
        assert!(error.starts_with("x.yaml, document 1: "), "{error}");
    }

    #[test]
    fn a_folder_without_yaml_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = read_folder(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("has no .yaml file"), "{error}");
        std::fs::write(dir.path().join("b.yml"), "{apiVersion: v1, kind: B, metadata: {name: b}}").unwrap();
        std::fs::write(dir.path().join("a.yaml"), "{apiVersion: v1, kind: A, metadata: {name: a}}").unwrap();
        let kinds: Vec<String> = read_folder(dir.path()).unwrap().iter().map(describe).collect();
        assert_eq!(kinds, ["A a", "B b"]);
    }

    #[test]
    fn strimzi_definitions_are_two() {
        let documents = documents("strimzi", crate::sandbox::tools::STRIMZI_CRDS).unwrap();
        assert_eq!(documents.len(), 2);
    }
}
