//! What a FinService becomes once its first revision serves, without a cluster: everything that it refers to, and every optional
//! API, is taken to be there. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::operations::Residency;
use crate::api::{FinService, FinServiceSpec, Problem};
use crate::cloudcluster::sites::Sites;
use crate::finservice::children::{self, Child, Kind, Routing, Scope, Weights};
use crate::finservice::index::stranger::Stranger;
use crate::finservice::index::{Index, Parsed, legacy};
use crate::finservice::plan::decide::decide;
use crate::finservice::plan::revision::references;
use crate::finservice::plan::revisions::{is_autoscaled, replicas_of_next};
use crate::finservice::plan::{Op, placement};
use crate::runtime::key::Key;

/// What a FinService becomes.
#[derive(Clone, Debug, Default)]
pub struct Rendered {
    /// Hash of the revision, if one can begin.
    pub revision: Option<String>,
    /// How many pods it has, where no autoscaler says so.
    pub pods: Option<i32>,
    /// The objects, in the order in which they are made.
    pub objects: Vec<Child>,
    /// What is wrong with it by itself, worst first.
    pub problems: Vec<Problem>,
    /// Why there is nothing, or less than might be expected.
    pub reasons: Vec<String>,
}

/// What a FinService becomes at a site. The digests of ConfigMaps are part of a revision's hash, and are not known here: it is
/// another in a cluster.
pub fn rendered(mut service: FinService, site: &str) -> Rendered {
    let namespace = service.metadata.namespace.get_or_insert_with(|| "default".to_owned()).clone();
    let name = service.metadata.name.clone().unwrap_or_default();
    service.metadata.uid.get_or_insert_with(|| "uid".to_owned());
    let spec = service.spec.clone();
    let key = Key::new(&namespace, &name);
    let mut index = Index::new(site);
    for kind in Kind::ALL {
        index.kind(kind, true);
    }
    everything_is_there(&mut index, &namespace, &spec);
    index.service(&key, 1, Some(Parsed::Good(Arc::new(service))));
    index.refresh_cycles();
    let Some(seen) = index.observe(&key) else { return Rendered::default() };
    let plan = decide(&seen, Timestamp::UNIX_EPOCH);
    let mut objects: Vec<Child> = plan.ops().filter_map(made).cloned().collect();
    let mut pods = None;
    let revision = plan.next.clone().or_else(|| plan.stable.clone());
    if let Some(hash) = revision.as_deref().filter(|_| !objects.is_empty()) {
        let spec = placement::effective(&spec, site, None);
        pods = (!is_autoscaled(&spec)).then(|| replicas_of_next(&spec, None));
        let uid = seen.service.metadata.uid.as_deref().unwrap_or_default();
        let (settings, known_hosts, topics) = (&*seen.settings, &seen.known_hosts, &seen.told_topics.may);
        let scope = Scope {
            namespace: &namespace,
            name: &name,
            uid,
            site,
            spec: &spec,
            settings,
            known_hosts,
            topics,
        };
        let legacy = if spec.legacy.is_some() { 100 } else { 0 };
        let weights = Weights::of_revisions(&[(hash, 100)], legacy);
        let (plain, routes) = children::ways(&scope, &Routing::new(Some(hash), &weights));
        for child in std::iter::once(plain).chain(routes) {
            match objects.iter_mut().find(|object| (object.kind, &object.name) == (child.kind, &child.name)) {
                Some(object) => *object = child,
                None => objects.push(child),
            }
        }
    }
    Rendered { revision, pods, objects, problems: plan.problems, reasons: plan.reasons }
}

/// Tells an index that all is there that a FinService refers to, its old backend is given, and any data may be kept here.
pub(super) fn everything_is_there(index: &mut Index, namespace: &str, spec: &FinServiceSpec) {
    let residency: Option<Arc<[Residency]>> = Some(Arc::new([Residency::US, Residency::EU]));
    index.set_sites(Sites { residency, ..Sites::default() });
    index.alone = true;
    let (config_maps, secrets) = references(spec);
    for of in config_maps {
        index.config_map(&Key::new(namespace, &of), Some("contents".into()));
    }
    for of in secrets {
        let of = Key::new(namespace, &of);
        index.secret(&of, Some("1".into()));
        index.secret_read(&of, "1", "aaaaaa");
    }
    if let Some(backend) = legacy::named(namespace, spec) {
        let given = Stranger { legacy_for: Some(namespace.into()), ..Stranger::default() };
        index.stranger(Kind::Service, &backend, Some(given));
    }
}

fn made(op: &Op) -> Option<&Child> {
    match op {
        Op::Apply { child, .. } | Op::Record { child, .. } | Op::CopyConfigMap { child, .. } => Some(child),
        _ => None,
    }
}

/// What differs between two FinServices' objects, by fields. Names and labels that hold the hash of a revision are taken for the
/// same.
pub fn differences(old: &Rendered, new: &Rendered) -> Vec<String> {
    let plain = |rendered: &Rendered| -> Vec<(String, serde_json::Value)> {
        let hash = rendered.revision.clone().unwrap_or_default();
        let objects = rendered.objects.iter().filter(|child| child.kind != Kind::ControllerRevision);
        let of = |child: &Child| {
            let text = child.body.to_string().replace(&hash, "REVISION");
            let body = serde_json::from_str(&text).unwrap_or_default();
            (format!("{} {}", child.kind.name(), child.name.replace(&hash, "REVISION")), body)
        };
        objects.map(of).collect()
    };
    let mut found = Vec::new();
    // No Deployment of a revision has a number in what is applied: its pods are scaled.
    if let (Some(before), Some(after)) = (old.pods, new.pods)
        && before != after
    {
        found.push(format!("~ pods: {before} -> {after}"));
    }
    let (old, new) = (plain(old), plain(new));
    let names: BTreeSet<&String> = old.iter().chain(&new).map(|(name, _)| name).collect();
    let find = |of: &[(String, serde_json::Value)], name: &str| {
        of.iter().find(|(other, _)| other == name).map(|(_, body)| body.clone())
    };
    for name in names {
        match (find(&old, name), find(&new, name)) {
            (Some(_), None) => found.push(format!("- {name}")),
            (None, Some(_)) => found.push(format!("+ {name}")),
            (Some(old), Some(new)) => compare(&old, &new, String::new(), &mut |path, old, new| {
                found.push(format!("~ {name}: {path}: {old} -> {new}"));
            }),
            (None, None) => {}
        }
    }
    found
}

fn compare(
    old: &serde_json::Value,
    new: &serde_json::Value,
    path: String,
    tell: &mut impl FnMut(&str, String, String),
) {
    use serde_json::Value;
    let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let nothing = &Value::Null;
                compare(one.get(key).unwrap_or(nothing), other.get(key).unwrap_or(nothing), at(key), tell);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            // Most lists are told apart by name.
            let label = |item: &Value, index: usize| {
                item.get("name").and_then(Value::as_str).map_or_else(|| index.to_string(), str::to_owned)
            };
            let labels = |items: &[Value]| -> Vec<String> {
                items.iter().enumerate().map(|(index, item)| label(item, index)).collect()
            };
            let (ones, others) = (labels(one), labels(other));
            let all: BTreeSet<&String> = ones.iter().chain(&others).collect();
            for name in all {
                let of = |labels: &[String], items: &[Value]| {
                    labels
                        .iter()
                        .position(|label| label == name)
                        .map_or(Value::Null, |index| items[index].clone())
                };
                compare(&of(&ones, one), &of(&others, other), format!("{path}[{name}]"), tell);
            }
        }
        (old, new) => {
            let said = |value: &Value| if value.is_null() { "nothing".to_owned() } else { value.to_string() };
            tell(&path, said(old), said(new));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::workload::Scale;
    use crate::finservice::testing;

    fn service(change: impl FnOnce(&mut crate::api::FinServiceSpec)) -> FinService {
        let mut spec = testing::rich();
        change(&mut spec);
        let mut service = FinService::new(testing::NAME, spec);
        service.metadata.namespace = Some(testing::NAMESPACE.to_owned());
        service
    }

    #[test]
    fn all_that_serves_is_shown() {
        let shown = rendered(service(|_| {}), testing::SITE);
        let has = |kind: Kind| shown.objects.iter().any(|child| child.kind == kind);
        assert!(
            [Kind::Deployment, Kind::Service, Kind::VirtualService, Kind::NetworkPolicy].into_iter().all(has),
            "{:?}",
            shown.reasons
        );
        let plain =
            shown.objects.iter().find(|child| child.name == testing::NAME && child.kind == Kind::Service);
        let selector = plain.expect("a Service").body["spec"]["selector"]["banyan.dev/revision"].clone();
        assert_eq!(selector.as_str(), shown.revision.as_deref());
    }

    #[test]
    fn what_another_image_changes_is_one_field() {
        let old = rendered(service(|_| {}), testing::SITE);
        let new = rendered(
            service(|spec| spec.image = "registry.example/bank/transaction:2".to_owned()),
            testing::SITE,
        );
        assert_ne!(old.revision, new.revision);
        let image = |line: &&String| line.contains("image: ");
        let differences = differences(&old, &new);
        assert_eq!(differences.len(), 1, "{differences:?}");
        assert!(differences.iter().all(|line| image(&line)), "{differences:?}");
        let scaled =
            rendered(service(|spec| spec.scale.as_mut().expect("a scale").max = Some(40)), testing::SITE);
        assert_eq!(old.revision, scaled.revision, "a number of pods is no new revision");
        let fixed = |replicas| {
            let scale = Scale { replicas: Some(replicas), ..Scale::default() };
            rendered(service(|spec| spec.scale = Some(scale)), testing::SITE)
        };
        assert_eq!(super::differences(&fixed(3), &fixed(4)), ["~ pods: 3 -> 4"]);
    }
}
