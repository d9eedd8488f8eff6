//! Taking over a Service without a gap: the ports that callers use today stay. Pure.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::api::labels::ADOPTED_FROM_ANNOTATION;
use crate::finservice::children::handed_over::{Before, keep_names};

/// The merge patch that makes an existing Service ready to be applied over: our selector, our ports,
/// and beside them those that it has, led to pods of ours. `None` if ours says nothing of ports.
pub fn service_patch(existing: &Service, ours: &Value) -> Option<Value> {
    let wanted = ours["spec"]["ports"].as_array()?;
    let before = Before::of(existing);
    let mut kept = ours.clone();
    keep_names(&mut kept, &before.had());
    let mut ports = kept["spec"]["ports"].as_array().cloned()?;
    let is = |port: &Value, of: &ServicePort| {
        port["port"] == of.port && port["protocol"].as_str().unwrap_or("TCP") == protocol(of)
    };
    let existing_ports: Vec<&ServicePort> =
        existing.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).collect();
    for port in &mut ports {
        let has = existing_ports.iter().find(|of| is(port, of));
        // What a gateway knows it by stays.
        if let Some(has) = has.filter(|_| port.get("name").is_none()) {
            for (field, value) in [("name", &has.name), ("appProtocol", &has.app_protocol)] {
                if let Some(value) = value {
                    port[field] = value.as_str().into();
                }
            }
        }
        // A load balancer, and whoever calls a node, know the number that was given out.
        if let Some(number) = has.and_then(|has| has.node_port).filter(|_| port.get("nodePort").is_none()) {
            port["nodePort"] = number.into();
        }
    }
    // Those of the new pods, and those that are taken in the Service.
    let names: Vec<&str> = wanted.iter().filter_map(|port| port["name"].as_str()).collect();
    let taken: Vec<String> =
        ports.iter().filter_map(|port| port["name"].as_str().map(str::to_owned)).collect();
    let first = wanted.first()?.get("targetPort").cloned().unwrap_or_else(|| wanted[0]["port"].clone());
    for port in existing_ports {
        if wanted.iter().any(|have| is(have, port)) {
            continue;
        }
        let name = match port.name.as_deref() {
            Some(name) if !taken.iter().any(|taken| taken == name) => name.to_owned(),
            _ => format!("adopted-{}", port.port),
        };
        // A target by name may mean nothing to the new pods.
        let target = match &port.target_port {
            Some(IntOrString::Int(number)) => json!(number),
            Some(IntOrString::String(name)) if names.contains(&name.as_str()) => json!(name),
            _ => first.clone(),
        };
        let mut kept =
            json!({"name": name, "port": port.port, "protocol": protocol(port), "targetPort": target});
        if let Some(number) = port.node_port {
            kept["nodePort"] = number.into();
        }
        ports.push(kept);
    }
    // A merge patch leaves what it does not name: the old keys beside ours would select nobody.
    let mut selector = ours["spec"]["selector"].clone();
    for key in existing.spec.iter().flat_map(|spec| spec.selector.iter().flat_map(|keys| keys.keys())) {
        if selector.get(key).is_none() {
            selector[key] = Value::Null;
        }
    }
    // Kept with the object, so that it can be given back as it was.
    let before = serde_json::to_string(&before).unwrap_or_default();
    Some(json!({
        "metadata": {
            "resourceVersion": existing.metadata.resource_version,
            "annotations": {ADOPTED_FROM_ANNOTATION: before},
        },
        "spec": {"selector": selector, "ports": ports},
    }))
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_6_5_callers_keep_the_port_that_they_know() {
        let existing: Service = serde_json::from_value(json!({
            "metadata": {"name": "x", "resourceVersion": "7"},
            "spec": {
                "selector": {"app": "old"},
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "web", "nodePort": 31500},
                    {"name": "web", "port": 8080, "nodePort": 31501}
                ]
            }
        }))
        .expect("a Service");
        let ours = json!({"spec": {
            "selector": {"banyan.dev/service": "x"},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "targetPort": 8080}]
        }});
        let patch = service_patch(&existing, &ours).expect("a patch");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["spec"]["selector"], json!({"banyan.dev/service": "x", "app": null}));
        assert_eq!(
            patch["spec"]["ports"],
            json!([
                {"name": "web", "port": 8080, "protocol": "TCP", "targetPort": 8080, "nodePort": 31501},
                {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 31500}
            ]),
            "row 6.5: who calls a node or a load balancer knows its number"
        );
        let kept = patch["metadata"]["annotations"][ADOPTED_FROM_ANNOTATION].as_str().expect("what it was");
        let before: Before = serde_json::from_str(kept).expect("what it was");
        assert_eq!(before, Before::of(&existing), "row 6.3: it can be given back");
    }

    #[test]
    fn a_port_keeps_the_name_by_which_gateways_know_its_endpoints() {
        let patched = |name: Option<&str>| {
            let existing: Service = serde_json::from_value(json!({"metadata": {"name": "x"},
                "spec": {"selector": {"app": "old"}, "ports": [{"name": name, "port": 80, "targetPort": 8080}]}}))
            .expect("a Service");
            let mut ours = json!({"spec": {"selector": {"a": "b"}, "ports": [{"name": "http", "port": 80, "protocol": "TCP",
                "targetPort": "http", "appProtocol": "http"}]}});
            let patch = service_patch(&existing, &ours).expect("a patch");
            keep_names(&mut ours, &Before::of(&existing).had());
            assert_eq!(ours["spec"]["ports"], json!([{"port": 80, "protocol": "TCP", "targetPort": "http"}]));
            patch["spec"]["ports"][0].clone()
        };
        assert_eq!(patched(None), json!({"port": 80, "protocol": "TCP", "targetPort": "http"}));
        assert_eq!(
            patched(Some("web")),
            json!({"name": "web", "port": 80, "protocol": "TCP", "targetPort": "http"})
        );
    }
}
