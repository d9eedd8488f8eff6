//! What a Service was before it was handed over, and what of it stays. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A port that it had: its number, and whether it had a name.
pub type Had = (u16, bool);

/// What a Service was before it was taken over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Before {
    /// Which pods it selected.
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    #[serde(default)]
    pub ports: Vec<ServicePort>,
}

impl Before {
    /// What a Service is now.
    pub fn of(existing: &Service) -> Self {
        let spec = existing.spec.clone().unwrap_or_default();
        Self { selector: spec.selector.unwrap_or_default(), ports: spec.ports.unwrap_or_default() }
    }

    /// Its ports that could be ours: we have none but TCP.
    pub fn had(&self) -> Box<[Had]> {
        let tcp = self.ports.iter().filter(|port| port.protocol.as_deref().is_none_or(|of| of == "TCP"));
        tcp.filter_map(|port| Some((port.port.try_into().ok()?, port.name.is_some()))).collect()
    }
}

/// Leaves what a Service was handed over with as it is: the names and the protocols of the ports that it had.
///
/// A gateway knows endpoints by them. A port that is called something else is another one to it, and has no endpoints for a
/// moment: requests were lost for no more than a word.
pub fn keep_names(service: &mut Value, had: &[Had]) {
    let Some(ports) = service["spec"]["ports"].as_array_mut() else { return };
    // Several must have names, and one that had none gets one then.
    let alone = ports.len() == 1 && had.len() == 1;
    for port in ports.iter_mut().filter_map(Value::as_object_mut) {
        let number = port.get("port").and_then(Value::as_u64);
        let known = had.iter().find(|(had, _)| Some(u64::from(*had)) == number);
        if known.is_some_and(|(_, named)| *named || alone) {
            port.remove("name");
            port.remove("appProtocol");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_port_of_udp_is_another_one_than_ours_of_the_same_number() {
        let before: Before =
            serde_json::from_value(json!({"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}))
                .expect("what it was");
        let ours = json!({"spec": {"ports": [{"name": "dns-tcp", "port": 53, "appProtocol": "tcp"}]}});
        let mut kept = ours.clone();
        keep_names(&mut kept, &before.had());
        assert_eq!(kept, ours);
    }
}
