//! How the outside reaches a service: Ingresses, HTTPRoutes and VirtualServices that lead to it.

use serde_json::{Map, Value, json};

use super::{Manifests, Note, Object, Weight, Wishes};

/// Hosts and paths that lead to a Service.
#[derive(Debug, Default, PartialEq, Eq)]
struct Led {
    hosts: Vec<String>,
    paths: Vec<String>,
    gateway: Option<String>,
}

/// Writes `ingress`, where it is said who carries traffic; else the routes stay, and lead to the same Service as before.
pub fn read(
    name: &str,
    namespace: &str,
    manifests: &Manifests,
    wishes: &Wishes,
    spec: &mut Map<String, Value>,
    notes: &mut Vec<Note>,
) {
    let mut all = Led::default();
    for route in manifests.routes.iter().filter(|route| route.namespace == namespace) {
        let led = led(route, name);
        if led.paths.is_empty() {
            continue;
        }
        let gateway = wishes.gateway.clone().or_else(|| led.gateway.clone());
        if wishes.provider.is_none() || gateway.is_none() || led.hosts.is_empty() {
            notes.push(route.note(
                Weight::Decide,
                "spec",
                format!("stays, and leads to Service {name} as before: let its gateway in by access.inbound (- namespace: NAME), or import with --provider and --gateway, so that rollouts can share its requests"),
            ));
            continue;
        }
        all.hosts.extend(led.hosts);
        all.paths.extend(led.paths);
        all.gateway = gateway;
        notes.push(route.note(
            Weight::Changed,
            "spec",
            format!("becomes spec.ingress of FinService {name}: delete it once the FinService serves, or move the host's address to the new gateway"),
        ));
    }
    let Some(gateway) = all.gateway else { return };
    for list in [&mut all.hosts, &mut all.paths] {
        list.sort();
        list.dedup();
    }
    let mut ingress = json!({"hosts": all.hosts, "gateway": gateway});
    if all.paths != ["/"] {
        ingress["paths"] = json!(all.paths);
    }
    spec.insert("ingress".to_owned(), ingress);
}

fn led(route: &Object, name: &str) -> Led {
    let spec = &route.whole["spec"];
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let is = |host: &Value| {
        let host = host.as_str().unwrap_or_default();
        host == name
            || host
                .split_once('.')
                .is_some_and(|(first, rest)| first == name && rest.starts_with(&route.namespace))
    };
    let mut led = Led::default();
    match route.kind.as_str() {
        "Ingress" => {
            for rule in items(&spec["rules"]) {
                let to_it = |path: &&Value| {
                    is(&path["backend"]["service"]["name"]) || is(&path["backend"]["serviceName"])
                };
                let paths = items(&rule["http"]["paths"]);
                let paths: Vec<String> = paths
                    .iter()
                    .filter(to_it)
                    .map(|path| path["path"].as_str().unwrap_or("/").to_owned())
                    .collect();
                if !paths.is_empty() {
                    led.hosts.extend(rule["host"].as_str().map(str::to_owned));
                }
                led.paths.extend(paths);
            }
            let default = [&spec["defaultBackend"]["service"]["name"], &spec["backend"]["serviceName"]];
            if default.into_iter().any(is) {
                led.paths.push("/".to_owned());
            }
        }
        "HTTPRoute" => {
            for rule in items(&spec["rules"]) {
                if !items(&rule["backendRefs"]).iter().any(|backend| is(&backend["name"])) {
                    continue;
                }
                let matches = items(&rule["matches"]);
                let path = |of: &Value| of["path"]["value"].as_str().unwrap_or("/").to_owned();
                led.paths.extend(matches.iter().map(path));
                if matches.is_empty() {
                    led.paths.push("/".to_owned());
                }
                led.hosts = texts(&spec["hostnames"]);
            }
            let parent = &spec["parentRefs"][0];
            let namespace = parent["namespace"].as_str().unwrap_or(&route.namespace);
            led.gateway = parent["name"].as_str().map(|gateway| format!("{namespace}/{gateway}"));
        }
        _ => {
            for rule in items(&spec["http"]) {
                if !items(&rule["route"]).iter().any(|to| is(&to["destination"]["host"])) {
                    continue;
                }
                let matches = items(&rule["match"]);
                let path = |of: &Value| {
                    let uri = &of["uri"];
                    uri["prefix"].as_str().or(uri["exact"].as_str()).unwrap_or("/").to_owned()
                };
                led.paths.extend(matches.iter().map(path));
                if matches.is_empty() {
                    led.paths.push("/".to_owned());
                }
                led.hosts = texts(&spec["hosts"]);
                led.hosts.retain(|host| host != "*");
            }
            let gateway = texts(&spec["gateways"]).into_iter().find(|gateway| gateway != "mesh");
            led.gateway = gateway.map(|gateway| match gateway.contains('/') {
                true => gateway,
                false => format!("{}/{gateway}", route.namespace),
            });
        }
    }
    led
}
