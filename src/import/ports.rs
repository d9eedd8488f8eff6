//! Ports of containers and of the Service that callers know.

use serde_json::{Map, Value, json};

use super::fields::{Fields, put, take};
use super::{Note, Object, Weight};

/// Annotations of a Service that whoever wrote it last left there.
const LEFT_THERE: [&str; 3] = ["kubectl.kubernetes.io/", "meta.helm.sh/", "cloud.google.com/neg-status"];

/// Writes `ports` and `service`, from what the container declares and what the Service shows of it.
pub fn read(
    service: Option<&Object>,
    declared: &[Value],
    spec: &mut Map<String, Value>,
    notes: &mut Vec<Note>,
) {
    let mut ports: Vec<Value> = Vec::new();
    let shown = service.map(|service| of_service(service, declared, spec, notes)).unwrap_or_default();
    for port in shown {
        let known = ports.iter().any(|known| known["port"] == port["port"]);
        if known {
            let message = format!(
                "port {} leads to {} as well: only the first of both is kept",
                port["servicePort"], port["port"]
            );
            notes.extend(service.map(|service| service.note(Weight::Lost, "spec.ports", message)));
            continue;
        }
        ports.push(port);
    }
    for port in declared.iter().filter(|port| port["protocol"] != "UDP") {
        let number = &port["containerPort"];
        if ports.iter().all(|known| known["port"] != *number) {
            let name = port["name"].as_str().map_or_else(|| format!("port-{number}"), str::to_owned);
            ports.push(json!({"name": unique(name, &ports), "port": number}));
        }
    }
    names(&ports, spec);
    put(spec, "ports", ports);
}

/// Probes may call a port by the name that it had at the container.
fn names(ports: &[Value], spec: &mut Map<String, Value>) {
    let Some(Value::Object(probes)) = spec.get_mut("probes") else { return };
    for probe in probes.values_mut() {
        for handler in ["httpGet", "tcpSocket"] {
            let Some(port) = probe.get_mut(handler).and_then(|asked| asked.get_mut("port")) else { continue };
            let by_name = port.as_str().is_some_and(|name| ports.iter().any(|known| known["name"] == name));
            if port.is_string() && !by_name {
                *port = ports.first().map_or(Value::Null, |first| first["port"].clone());
            }
        }
    }
}

fn of_service(
    service: &Object,
    declared: &[Value],
    spec: &mut Map<String, Value>,
    notes: &mut Vec<Note>,
) -> Vec<Value> {
    let mut fields = Fields::of(service);
    fields.take("/selector");
    for idle in [
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "ipFamilyPolicy",
        "internalTrafficPolicy",
        "healthCheckNodePort",
        "allocateLoadBalancerNodePorts",
    ] {
        let value = fields.take(&format!("/{idle}"));
        if idle == "clusterIP" && value == Some(json!("None")) {
            fields.note(
                Weight::Decide,
                "spec.clusterIP",
                "it is headless, and cannot become a Service with an address: give the FinService another name, and let callers use that",
            );
        }
    }
    if fields.take("/sessionAffinity").is_some_and(|affinity| affinity != "None") {
        fields.note(
            Weight::Lost,
            "spec.sessionAffinity",
            "a FinService has no word for it: with a CanaryRollout, see traffic.sessionAffinity",
        );
        fields.take("/sessionAffinityConfig");
    }
    let mut settings = Map::new();
    let kind = fields.take("/type").filter(|kind| kind != "ClusterIP");
    let outside = kind.is_some();
    put(&mut settings, "type", kind.unwrap_or_default());
    for key in ["loadBalancerClass", "loadBalancerSourceRanges", "externalTrafficPolicy"] {
        let value = fields.take(&format!("/{key}")).unwrap_or_default();
        if outside && !(key == "externalTrafficPolicy" && value == "Cluster") {
            put(&mut settings, key, value);
        }
    }
    if let Some(annotations) = service.whole["metadata"]["annotations"].as_object() {
        let mut annotations = annotations.clone();
        annotations.retain(|key, _| {
            !LEFT_THERE.iter().any(|left| key.starts_with(left)) && !key.starts_with("banyan.dev/")
        });
        put(&mut settings, "annotations", annotations);
    }
    let (mut ports, mut rest): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for mut port in fields.list("ports") {
        let number = take(&mut port, "/port").unwrap_or_default();
        let target = take(&mut port, "/targetPort").unwrap_or_else(|| number.clone());
        let own_name = take(&mut port, "/name");
        let protocol = take(&mut port, "/protocol").filter(|protocol| protocol != "TCP");
        if let Some(protocol) = protocol {
            fields.note(
                Weight::Lost,
                "spec.ports",
                format!("port {number} is {protocol}, and a FinService has TCP alone"),
            );
            continue;
        }
        let of_container = match &target {
            Value::String(name) => declared.iter().find(|port| port["name"] == name.as_str()),
            number => declared.iter().find(|port| port["containerPort"] == *number),
        };
        let at = match (&target, of_container) {
            (Value::Number(_), _) => target.clone(),
            (_, Some(port)) => port["containerPort"].clone(),
            _ => number.clone(),
        };
        let name = own_name.as_ref().or_else(|| of_container?.get("name")).and_then(Value::as_str);
        let name = name.map_or_else(
            || if ports.is_empty() { "http".to_owned() } else { format!("port-{at}") },
            str::to_owned,
        );
        let mut read = Map::new();
        read.insert("name".to_owned(), unique(name.clone(), &ports).into());
        read.insert("port".to_owned(), at.clone());
        let app = take(&mut port, "/appProtocol");
        put(
            &mut read,
            "protocol",
            protocol_of(&name, app.as_ref().and_then(Value::as_str), &at).unwrap_or_default(),
        );
        if number != at {
            read.insert("servicePort".to_owned(), number);
        }
        let node = take(&mut port, "/nodePort").unwrap_or_default();
        if outside {
            put(&mut read, "nodePort", node);
        }
        rest.push(port);
        ports.push(read.into());
    }
    fields.put_back("ports", rest.into());
    if outside {
        let ranges = settings.get("loadBalancerSourceRanges").and_then(Value::as_array).cloned();
        let inbound: Vec<Value> = ranges
            .unwrap_or_else(|| vec![json!("0.0.0.0/0")])
            .into_iter()
            .map(|cidr| json!({"cidr": cidr}))
            .collect();
        spec.insert("access".to_owned(), json!({"inbound": inbound}));
    }
    put(spec, "service", settings);
    notes.append(&mut fields.left());
    ports
}

/// A name of at most 15 characters that no other port has.
fn unique(name: String, ports: &[Value]) -> String {
    let clean: String =
        name.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(15).collect();
    let clean = clean.trim_matches('-').replace("--", "-");
    let base = if clean.starts_with(|c: char| c.is_ascii_lowercase()) {
        clean
    } else {
        format!("p-{}", clean.chars().take(13).collect::<String>())
    };
    let has = |name: &str| ports.iter().any(|port| port["name"] == name);
    if !has(&base) {
        return base;
    }
    let short: String = base.chars().take(12).collect();
    (2..).map(|n| format!("{short}-{n}")).find(|name| !has(name)).unwrap_or(base)
}

/// What is spoken at a port: what `appProtocol` says, else what its name begins with (as Istio reads it), else what the number
/// is known for.
fn protocol_of(name: &str, app: Option<&str>, port: &Value) -> Option<Value> {
    let said = app.unwrap_or_else(|| name.split('-').next().unwrap_or_default());
    let protocol = match said.rsplit('/').next().unwrap_or_default() {
        "http" | "https" => return None,
        "grpc" => "GRPC",
        "http2" | "h2c" => "HTTP2",
        "tcp" | "tls" | "mysql" | "mongo" | "redis" | "postgres" | "amqp" | "kafka" => "TCP",
        _ if [3306, 5432, 5672, 6379, 9092, 27017].iter().any(|known| port == known) => "TCP",
        _ => return None,
    };
    Some(protocol.into())
}
