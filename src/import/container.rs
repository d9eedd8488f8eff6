//! One container.

use serde_json::{Map, Value, json};

use super::Weight;
use super::fields::{Fields, list, put, take};

/// What was read of a container.
#[derive(Debug, Default)]
pub struct Read {
    /// Fields of a FinService.
    pub fields: Map<String, Value>,
    /// The ports that it declares.
    pub ports: Vec<Value>,
    /// What it mounts.
    pub mounts: Vec<Value>,
    /// Its security context.
    pub security: Value,
    name: Value,
}

/// Reads a container that stands at `path` in its pod.
pub fn read(fields: &mut Fields, mut container: Value, path: &str) -> Read {
    let mut read = Read { name: container["name"].clone(), security: json!({}), ..Read::default() };
    take(&mut container, "/name");
    for key in ["image", "command", "args"] {
        put(&mut read.fields, key, take(&mut container, &format!("/{key}")).unwrap_or_default());
    }
    put(&mut read.fields, "env", env(fields, &mut container, path));
    put(&mut read.fields, "envFrom", list(&mut container, "envFrom"));
    put(&mut read.fields, "resources", resources(fields, &mut container, path));
    put(&mut read.fields, "probes", probes(fields, &mut container, path));
    if let Some(mut lifecycle) = take(&mut container, "/lifecycle") {
        let stop = take(&mut lifecycle, "/preStop/exec").map(|exec| json!({"exec": exec}));
        let sleep = take(&mut lifecycle, "/preStop/sleep/seconds")
            .map(|seconds| json!({"sleep": format!("{seconds}s")}));
        put(&mut read.fields, "preStop", stop.or(sleep).unwrap_or_default());
        fields.leave(&format!("{path}.lifecycle"), lifecycle);
    }
    read.ports = list(&mut container, "ports");
    read.mounts = list(&mut container, "volumeMounts");
    if let Some(context) = take(&mut container, "/securityContext") {
        read.security = context;
    }
    take(&mut container, "/restartPolicy");
    fields.leave(path, container);
    read
}

impl Read {
    /// The same as a container beside the service. It sees what the service's own container sees, so what only it
    /// mounts is mounted there as well.
    pub fn beside(
        mut self,
        fields: &mut Fields,
        path: &str,
        sidecar: bool,
        mounts: &mut Vec<Value>,
    ) -> Value {
        for mount in self.mounts {
            let same = |other: &&mut Value| other["mountPath"] == mount["mountPath"];
            match mounts.iter_mut().find(same) {
                Some(other) if other["name"] == mount["name"] => {}
                Some(_) => fields.leave(&format!("{path}.volumeMounts"), json!([mount])),
                None => mounts.push(mount),
            }
        }
        if let Some(probes) = self.fields.remove("probes").filter(|_| !sidecar) {
            fields.leave(path, probes);
        } else if let Some(stop) = self.fields.remove("preStop") {
            fields.leave(&format!("{path}.lifecycle.preStop"), stop);
        }
        let mut container = Map::new();
        container.insert("name".to_owned(), self.name);
        container.append(&mut self.fields);
        if sidecar {
            container.insert("restartPolicy".to_owned(), "Always".into());
        }
        if let Value::Object(context) = &mut self.security {
            // All containers of a pod are who the service's own is.
            context.retain(|key, value| {
                let idle = [
                    "runAsNonRoot",
                    "allowPrivilegeEscalation",
                    "readOnlyRootFilesystem",
                    "privileged",
                    "seccompProfile",
                ];
                !(idle.contains(&key.as_str()) || key == "capabilities" && value.get("add").is_none())
            });
        }
        fields.leave(&format!("{path}.securityContext"), self.security);
        container.into()
    }
}

/// Joins the security context of the service's container with that of its pod: what the container says holds.
pub fn security(of_container: &mut Value, of_pod: &mut Value) {
    if let (Value::Object(container), Value::Object(pod)) = (of_container, of_pod) {
        pod.retain(|key, _| !container.contains_key(key));
    }
}

fn env(fields: &mut Fields, container: &mut Value, path: &str) -> Vec<Value> {
    let mut variables: Vec<Value> = Vec::new();
    for mut variable in list(container, "env") {
        let name = variable["name"].as_str().unwrap_or_default().to_owned();
        if let Some(source) = variable.get_mut("valueFrom") {
            take(source, "/fieldRef/apiVersion");
            if let Some(mut of) = source.get("resourceFieldRef").cloned() {
                take(&mut of, "/containerName");
                if let Some(divisor) = take(&mut of, "/divisor").filter(|divisor| divisor != "0") {
                    fields.leave(&format!("{path}.env[{name}].valueFrom.resourceFieldRef.divisor"), divisor);
                }
                source["resourceFieldRef"] = of;
            }
        }
        // The last one of a name counts.
        if let Some(known) = variables.iter_mut().find(|known| known["name"] == variable["name"]) {
            let message = format!("{} stands twice: the last one counts", variable["name"]);
            fields.note(Weight::Changed, &format!("spec.template.spec.{path}.env"), message);
            *known = variable;
        } else {
            variables.push(variable);
        }
    }
    variables
}

fn resources(fields: &mut Fields, container: &mut Value, path: &str) -> Map<String, Value> {
    let mut read = Map::new();
    if let Some(mut resources) = take(container, "/resources") {
        for key in ["requests", "limits"] {
            put(&mut read, key, take(&mut resources, &format!("/{key}")).unwrap_or_default());
        }
        fields.leave(&format!("{path}.resources"), resources);
    }
    read
}

fn probes(fields: &mut Fields, container: &mut Value, path: &str) -> Map<String, Value> {
    let mut read = Map::new();
    for (key, name) in
        [("readiness", "readinessProbe"), ("liveness", "livenessProbe"), ("startup", "startupProbe")]
    {
        let Some(mut probe) = take(container, &format!("/{name}")) else { continue };
        let mut kept = Map::new();
        for field in [
            "httpGet",
            "tcpSocket",
            "grpc",
            "exec",
            "initialDelaySeconds",
            "periodSeconds",
            "timeoutSeconds",
            "failureThreshold",
            "successThreshold",
        ] {
            put(&mut kept, field, take(&mut probe, &format!("/{field}")).unwrap_or_default());
        }
        for handler in ["httpGet", "tcpSocket"] {
            let Some(mut asked) = kept.get(handler).cloned() else { continue };
            if let Some(host) = take(&mut asked, "/host") {
                fields.leave(&format!("{path}.{name}.{handler}.host"), host);
            }
            // Kubernetes takes a number that is written as text for the name of a port.
            if let Some(number) = asked["port"].as_str().and_then(|port| port.parse::<u16>().ok()) {
                asked["port"] = number.into();
            }
            kept.insert(handler.to_owned(), asked);
        }
        fields.leave(&format!("{path}.{name}"), probe);
        put(&mut read, key, kept);
    }
    read
}
