//! Taking over a Service without a gap: the ports that callers use today stay. Pure.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

/// The merge patch that makes an existing Service ready to be applied over: our selector, our ports,
/// and beside them those that it has, led to pods of ours. `None` if ours says nothing of ports.
pub fn service_patch(existing: &Service, ours: &Value) -> Option<Value> {
    let wanted = ours["spec"]["ports"].as_array()?;
    let mut ports = wanted.clone();
    let names: Vec<&str> = wanted.iter().filter_map(|port| port["name"].as_str()).collect();
    let first = wanted.first()?.get("targetPort").cloned().unwrap_or_else(|| wanted[0]["port"].clone());
    for port in existing.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let stands = wanted
            .iter()
            .any(|have| have["port"] == port.port && have["protocol"].as_str().unwrap_or("TCP") == protocol);
        if stands {
            continue;
        }
        let name = match port.name.as_deref() {
            Some(name) if !names.contains(&name) => name.to_owned(),
            _ => format!("adopted-{}", port.port),
        };
        // A target by name may mean nothing to the new pods.
        let target = match &port.target_port {
            Some(IntOrString::Int(number)) => json!(number),
            Some(IntOrString::String(name)) if names.contains(&name.as_str()) => json!(name),
            _ => first.clone(),
        };
        ports.push(json!({"name": name, "port": port.port, "protocol": protocol, "targetPort": target}));
    }
    // A merge patch leaves what it does not name: the old keys beside ours would select nobody.
    let mut selector = ours["spec"]["selector"].clone();
    for key in existing.spec.iter().flat_map(|spec| spec.selector.iter().flat_map(|keys| keys.keys())) {
        if selector.get(key).is_none() {
            selector[key] = Value::Null;
        }
    }
    Some(json!({
        "metadata": {"resourceVersion": existing.metadata.resource_version},
        "spec": {"selector": selector, "ports": ports},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_keep_the_port_that_they_know() {
        let existing: Service = serde_json::from_value(json!({
            "metadata": {"name": "x", "resourceVersion": "7"},
            "spec": {
                "selector": {"app": "old"},
                "ports": [{"name": "http", "port": 80, "targetPort": "web"}, {"name": "web", "port": 8080}]
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
                {"name": "http", "port": 8080, "protocol": "TCP", "targetPort": 8080},
                {"name": "adopted-80", "port": 80, "protocol": "TCP", "targetPort": 8080}
            ])
        );
    }
}
