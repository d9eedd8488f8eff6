//! From what runs on Kubernetes already (Deployments, Services, autoscalers, routes) to FinServices. Pure.
//!
//! Every field of a manifest is either taken over or told: what reads a field takes it out of the object ([`fields`]),
//! and what is left of it in the end was understood by nobody.

mod calls;
mod container;
mod fields;
mod mounts;
mod pods;
mod ports;
mod routes;
mod scale;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

use fields::Fields;

/// What is to be known beside the manifests.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// The team that answers for the services.
    pub owner: String,
    /// Who carries traffic; nobody where left out.
    pub provider: Option<String>,
    /// The gateway that the hosts of Ingresses are routed from, `namespace/name`.
    pub gateway: Option<String>,
    /// Names of Deployments that stay as they are, such as databases.
    pub except: Vec<String>,
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Weight {
    /// A field that a FinService has no word for: without it the application may not work.
    Lost,
    /// Something that only a person can decide.
    Decide,
    /// Something that is said or done in another way now.
    Changed,
}

/// What could not be taken over as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// How much it matters.
    pub weight: Weight,
    /// The object, as `Deployment shop/frontend`.
    pub object: String,
    /// The field in it.
    pub field: String,
    /// What becomes of it, and what to do.
    pub message: String,
}

/// A FinService that was made, and what could not be taken over.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Taken {
    /// The FinService, whole.
    pub service: Value,
    /// What could not be taken over as it was, the weightiest first.
    pub notes: Vec<Note>,
}

/// All that came of the manifests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Imported {
    /// One for each Deployment.
    pub services: Vec<Taken>,
    /// Objects that stay as they are.
    pub left: Vec<Note>,
}

/// The manifests, by what they are.
#[derive(Debug, Default)]
struct Manifests {
    deployments: Vec<Object>,
    services: Vec<Object>,
    autoscalers: Vec<Object>,
    routes: Vec<Object>,
    accounts: Vec<Object>,
    /// StatefulSets, DaemonSets: what is called, and stays as it is.
    others: Vec<Object>,
    /// Contents of ConfigMaps, in which the names of other services stand.
    config_maps: Vec<Object>,
}

/// An object of a manifest.
#[derive(Clone, Debug)]
struct Object {
    kind: String,
    namespace: String,
    name: String,
    whole: Value,
}

impl Object {
    fn of(whole: Value) -> Option<Self> {
        let text = |pointer: &str| whole.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            kind: text("/kind")?,
            namespace: text("/metadata/namespace").unwrap_or_else(|| "default".to_owned()),
            name: text("/metadata/name")?,
            whole,
        })
    }

    fn title(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }

    fn note(&self, weight: Weight, field: &str, message: impl Into<String>) -> Note {
        Note { weight, object: self.title(), field: field.to_owned(), message: message.into() }
    }

    /// Labels of the pods that it makes.
    fn pod_labels(&self) -> Map<String, Value> {
        let labels = self.whole.pointer("/spec/template/metadata/labels");
        labels.and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// Whether a Service selects the pods that `other` makes.
    fn selects(&self, other: &Self) -> bool {
        let selector = self.whole.pointer("/spec/selector").and_then(Value::as_object);
        let labels = other.pod_labels();
        self.namespace == other.namespace
            && selector.is_some_and(|selector| {
                !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            })
    }
}

/// FinServices from manifests; `kind: List` is taken apart.
pub fn import(objects: Vec<Value>, wishes: &Wishes) -> Imported {
    let mut manifests = Manifests::default();
    let mut imported = Imported::default();
    for object in objects.into_iter().flat_map(apart).filter_map(Object::of) {
        sort(object, wishes, &mut manifests, &mut imported);
    }
    let names = names(&manifests);
    for (deployment, name) in manifests.deployments.iter().zip(&names) {
        imported.services.push(service(deployment, name, &manifests, wishes));
    }
    calls::connect(&mut imported.services, &manifests);
    for taken in &mut imported.services {
        taken.notes.sort_by_key(|note| note.weight);
    }
    imported
}

fn apart(object: Value) -> Vec<Value> {
    match object.get("items").and_then(Value::as_array) {
        Some(items) if object["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => items.clone(),
        _ => vec![object],
    }
}

fn sort(object: Object, wishes: &Wishes, manifests: &mut Manifests, imported: &mut Imported) {
    let into = match object.kind.as_str() {
        "Deployment" if wishes.except.contains(&object.name) => {
            imported.left.push(object.note(Weight::Changed, "", "stays as it is, as asked for"));
            &mut manifests.others
        }
        "Deployment" => &mut manifests.deployments,
        "Service" => &mut manifests.services,
        "HorizontalPodAutoscaler" => &mut manifests.autoscalers,
        "Ingress" | "HTTPRoute" | "VirtualService" => &mut manifests.routes,
        "ServiceAccount" => &mut manifests.accounts,
        "ConfigMap" => &mut manifests.config_maps,
        "StatefulSet" | "DaemonSet" => &mut manifests.others,
        "Secret" | "Namespace" | "PersistentVolumeClaim" | "FinService" => return,
        "PodDisruptionBudget" => {
            let message = "Banyan makes one for each revision: delete this one once the FinService serves";
            imported.left.push(object.note(Weight::Changed, "", message));
            return;
        }
        "NetworkPolicy" => {
            let message = "say who may call in spec.access: this one selects the pods of the Deployment, and not those of the FinService";
            imported.left.push(object.note(Weight::Decide, "spec", message));
            return;
        }
        _ => {
            imported.left.push(object.note(Weight::Changed, "", "stays as it is"));
            return;
        }
    };
    if matches!(object.kind.as_str(), "StatefulSet" | "DaemonSet") {
        let message = "stays as it is: a FinService has pods that may be replaced by others";
        imported.left.push(object.note(Weight::Changed, "", message));
    }
    into.push(object);
}

/// The names of the FinServices: each that of the Service by which callers know it, else that of the Deployment. Where one
/// Service leads to several Deployments, it is the name of the one that is called so, else of the first.
fn names(manifests: &Manifests) -> Vec<String> {
    let by_service = |deployment: &Object| {
        let mut selecting = manifests.services.iter().filter(|service| service.selects(deployment));
        let same = selecting.clone().find(|service| service.name == deployment.name);
        same.or(selecting.next()).map(|service| service.name.clone())
    };
    let mut taken: BTreeSet<(String, String)> = BTreeSet::new();
    let mut names: Vec<Option<String>> = Vec::new();
    for own in [true, false] {
        names.resize(manifests.deployments.len(), None);
        for (deployment, name) in manifests.deployments.iter().zip(&mut names) {
            let Some(found) = by_service(deployment).filter(|found| (*found == deployment.name) == own)
            else {
                continue;
            };
            if name.is_none() && taken.insert((deployment.namespace.clone(), found.clone())) {
                *name = Some(found);
            }
        }
    }
    let all = manifests.deployments.iter().zip(names);
    all.map(|(deployment, name)| name.unwrap_or_else(|| deployment.name.clone())).collect()
}

fn service(deployment: &Object, name: &str, manifests: &Manifests, wishes: &Wishes) -> Taken {
    let mut notes = Vec::new();
    let mut spec = Map::new();
    spec.insert("owner".to_owned(), wishes.owner.clone().into());
    let selecting: Vec<&Object> =
        manifests.services.iter().filter(|service| service.selects(deployment)).collect();
    let plain = selecting.iter().find(|service| service.name == name).copied();
    let selectors: Vec<&Map<String, Value>> =
        selecting.iter().filter_map(|service| service.whole.pointer("/spec/selector")?.as_object()).collect();
    let mut fields = Fields::of(deployment);
    let declared = pods::read(&mut fields, (deployment, name), &selectors, manifests, &mut spec);
    if fields.take("/strategy/type").is_some_and(|kind| kind == "Recreate") {
        fields.note(
            Weight::Lost,
            "spec.strategy.type",
            "Recreate: here a new revision starts beside the old one. If two must never run at once, leave it a Deployment",
        );
    }
    scale::read(&mut fields, deployment, manifests, &mut spec, &mut notes);
    notes.append(&mut fields.left());
    ports::read(plain, &declared, &mut spec, &mut notes);
    if plain.is_none() && !selecting.is_empty() {
        notes.push(deployment.note(
            Weight::Decide,
            "metadata.name",
            format!(
                "Service {} leads to pods of several Deployments, and becomes that of another FinService: this one has no callers \
                 but by its own name",
                selecting[0].name
            ),
        ));
    }
    for other in selecting.iter().filter(|service| plain.is_some() && service.name != name) {
        notes.push(other.note(
            Weight::Decide,
            "spec.selector",
            format!("selects the same pods as Service {name}: set its selector to banyan.dev/service: {name} once the FinService serves"),
        ));
    }
    if let Some(provider) = &wishes.provider {
        spec.insert("mesh".to_owned(), json!({"provider": provider}));
    }
    if spec.get("ports").is_none() {
        spec.insert("traffic".to_owned(), "Pulled".into());
        notes.push(deployment.note(
            Weight::Decide,
            "spec.template.spec.containers[].ports",
            "there is no port and no Service, so it is taken for a service that fetches its work (traffic: Pulled). It does not start beside the Deployment, since both would fetch: hand that over, and it ends first",
        ));
    }
    routes::read(name, &deployment.namespace, manifests, wishes, &mut spec, &mut notes);
    let service = json!({
        "apiVersion": "banyan.dev/v1alpha1",
        "kind": "FinService",
        "metadata": {"name": name, "namespace": deployment.namespace},
        "spec": spec,
    });
    Taken { service, notes }
}
