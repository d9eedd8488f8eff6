//! Who calls whom: a Service whose name stands in somebody's environment or arguments, or in a ConfigMap that it reads, is
//! called by it. Without that, a FinService would be let out to nobody.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::fields::put;
use super::{Manifests, Note, Object, Taken, Weight};

/// Writes `access` of all.
pub fn connect(services: &mut [Taken], manifests: &Manifests) {
    let key = |taken: &Taken| {
        let text = |pointer: &str| {
            taken.service.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        (text("/metadata/namespace"), text("/metadata/name"))
    };
    let imported: BTreeSet<(String, String)> = services.iter().map(key).collect();
    let mut callers: BTreeMap<(String, String), BTreeSet<(String, String)>> = BTreeMap::new();
    for taken in services.iter_mut() {
        let own = key(taken);
        let words = words(&taken.service["spec"], &own.0, manifests);
        let (mut called, mut pods, mut hosts) = (Vec::new(), Vec::new(), BTreeSet::new());
        for service in &manifests.services {
            let it = (service.namespace.clone(), service.name.clone());
            if it == own || !words.iter().any(|word| names(word, service, &own.0)) {
                continue;
            }
            if imported.contains(&it) {
                callers.entry(it.clone()).or_default().insert(own.clone());
                let mut reference = json!({"service": it.1});
                if it.0 != own.0 {
                    reference["namespace"] = it.0.clone().into();
                }
                called.push(reference);
            } else {
                pods.push(peer(service, &own.0, manifests));
            }
        }
        for word in &words {
            hosts.extend(outside(word));
        }
        let is_known = |it: &(String, String)| {
            manifests.services.iter().any(|service| (&service.namespace, &service.name) == (&it.0, &it.1))
        };
        let unread: BTreeSet<(String, String)> =
            words.iter().flat_map(|word| in_cluster(word)).filter(|it| !is_known(it)).collect();
        for (namespace, name) in unread {
            taken.notes.push(Note {
                weight: Weight::Decide,
                object: format!("FinService {}/{}", own.0, own.1),
                field: "spec.access.outbound".to_owned(),
                message: format!(
                    "it names Service {name} of namespace {namespace}, which was not read, and may not call it yet: add \
                     {{service: {name}, namespace: {namespace}}} to services, or, if it is no FinService, {{namespace: {namespace}, \
                     labels: …, ports: […]}} to pods"
                ),
            });
        }
        let mut outbound = Map::new();
        put(&mut outbound, "services", called);
        put(&mut outbound, "pods", pods);
        put(&mut outbound, "hosts", hosts.into_iter().collect::<Vec<_>>());
        taken.service["spec"]["access"]["outbound"] = outbound.into();
        taken.notes.push(Note {
            weight: Weight::Decide,
            object: format!("FinService {}/{}", own.0, own.1),
            field: "spec.access".to_owned(),
            message: "whom it calls was read from environment, arguments and ConfigMaps, and who calls it from the others': add what stands nowhere".to_owned(),
        });
    }
    for taken in services.iter_mut() {
        let own = key(taken);
        let from = callers.remove(&own).unwrap_or_default();
        let peers = from.into_iter().map(|(namespace, service)| match namespace == own.0 {
            true => json!({"service": service}),
            false => json!({"service": service, "namespace": namespace}),
        });
        let access = &mut taken.service["spec"]["access"];
        let mut inbound: Vec<Value> = peers.collect();
        inbound.extend(access["inbound"].as_array().into_iter().flatten().cloned());
        if !inbound.is_empty() {
            access["inbound"] = inbound.into();
        }
    }
}

/// All text in which a caller may name whom it calls.
fn words(spec: &Value, namespace: &str, manifests: &Manifests) -> Vec<String> {
    let mut words = Vec::new();
    let strings = |value: &Value, words: &mut Vec<String>| {
        words.extend(value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
    };
    let config_map = |name: &Value, words: &mut Vec<String>| {
        let of = manifests
            .config_maps
            .iter()
            .filter(|one| one.namespace == namespace && *name == one.name.as_str());
        for data in of.filter_map(|one| one.whole["data"].as_object()) {
            words.extend(data.values().filter_map(Value::as_str).map(str::to_owned));
        }
    };
    let containers = std::iter::once(spec).chain(spec["initContainers"].as_array().into_iter().flatten());
    for container in containers {
        strings(&container["command"], &mut words);
        strings(&container["args"], &mut words);
        for variable in container["env"].as_array().into_iter().flatten() {
            words.extend(variable["value"].as_str().map(str::to_owned));
            config_map(&variable["valueFrom"]["configMapKeyRef"]["name"], &mut words);
        }
        for from in container["envFrom"].as_array().into_iter().flatten() {
            config_map(&from["configMapRef"]["name"], &mut words);
        }
    }
    for files in spec["files"].as_array().into_iter().flatten() {
        config_map(&files["configMap"], &mut words);
    }
    words
}

/// Whether a text names a Service as a host: alone, before a port, or in a URL.
fn names(text: &str, service: &Object, from: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.match_indices(&service.name).any(|(at, name)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        let begins = !before.ends_with(|c: char| is_part(c) || c == '.');
        let alone = before.is_empty() && after.is_empty();
        let in_url = before.ends_with("//") || before.ends_with('@');
        let has_port =
            after.strip_prefix(':').is_some_and(|port| port.starts_with(|c: char| c.is_ascii_digit()));
        let qualified = after.strip_prefix('.').is_some_and(|rest| {
            rest.strip_prefix(&service.namespace).is_some_and(|rest| !rest.starts_with(is_part))
        });
        let ends = !after.starts_with(is_part) && (!after.starts_with('.') || qualified);
        begins && ends && (qualified || (service.namespace == from && (alone || in_url || has_port)))
    })
}

/// The pods behind a Service that is no FinService.
fn peer(service: &Object, from: &str, manifests: &Manifests) -> Value {
    let mut peer = json!({"labels": service.whole["spec"]["selector"]});
    if service.namespace != from {
        peer["namespace"] = service.namespace.clone().into();
    }
    let named = |name: &str| {
        let behind = manifests.others.iter().filter(|other| service.selects(other));
        let containers = behind.flat_map(|other| {
            other
                .whole
                .pointer("/spec/template/spec/containers")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        });
        let mut ports =
            containers.flat_map(|container| container["ports"].as_array().cloned().unwrap_or_default());
        ports.find(|port| port["name"] == name).map(|port| port["containerPort"].clone())
    };
    let ports: Option<Vec<Value>> = service.whole["spec"]["ports"].as_array().map(|ports| {
        let target = |port: &Value| match &port["targetPort"] {
            Value::Null => Some(port["port"].clone()),
            Value::String(name) => named(name),
            number => Some(number.clone()),
        };
        ports.iter().filter_map(target).collect()
    });
    if let Some(ports) = ports.filter(|ports| !ports.is_empty()) {
        peer["ports"] = ports.into();
    }
    peer
}

/// Services that a text names in full, as `name.namespace.svc`: their namespaces and names.
fn in_cluster(text: &str) -> Vec<(String, String)> {
    let hosts = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.'));
    let named = hosts.filter_map(|host| match host.split('.').collect::<Vec<_>>()[..] {
        [name, namespace, "svc", ..] if !name.is_empty() && !namespace.is_empty() => {
            Some((namespace.to_owned(), name.to_owned()))
        }
        _ => None,
    });
    named.collect()
}

/// Hosts outside of the cluster, called with TLS.
fn outside(text: &str) -> Vec<String> {
    let hosts = text.split("https://").skip(1).filter_map(|rest| {
        let host = rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.')).next()?;
        let after = rest[host.len()..].chars().next();
        let is_outside = host.contains('.')
            && !host.ends_with(".svc")
            && !host.ends_with(".local")
            && !host.contains(".svc.");
        let is_name =
            host.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_alphabetic()));
        (is_outside && is_name && after != Some(':')).then(|| host.to_lowercase())
    });
    hosts.collect()
}
