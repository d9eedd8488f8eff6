//! The environment of containers: the user's variables, and OpenTelemetry's before them.

use serde_json::{Value, json};

use super::Scope;
use super::json::{object, text};
use crate::api::workload::{EnvFrom, EnvVar};
use crate::finservice::plan::revision::{RevisionInput, copy_name};

/// Share of traces kept, in percent, unless the spec says otherwise.
const SAMPLE_PERCENT: i32 = 10;
/// OTLP's port for gRPC, as IANA registered it; 4318 is for HTTP.
const OTLP_GRPC: &str = ":4317";

/// All variables of the service's own container. OpenTelemetry's come first, so that the user's may
/// refer to them, and a variable that the user sets is left to the user.
pub fn of_service(scope: &Scope, input: &RevisionInput, hash: &str) -> Vec<Value> {
    let own = input.env.as_deref().unwrap_or_default();
    let mut env: Vec<Value> = telemetry(scope, input);
    env.retain(|variable| own.iter().all(|own| variable["name"] != own.name.as_str()));
    env.extend(variables(scope, hash, own));
    env
}

/// The user's variables, with ConfigMaps read through the revision's copies.
pub fn variables(scope: &Scope, hash: &str, env: &[EnvVar]) -> Vec<Value> {
    env.iter()
        .map(|variable| {
            object([
                ("name", text(&variable.name)),
                ("value", variable.value.as_deref().and_then(text)),
                ("valueFrom", source(scope, hash, variable)),
            ])
        })
        .collect()
}

fn source(scope: &Scope, hash: &str, variable: &EnvVar) -> Option<Value> {
    let from = variable.value_from.as_ref()?;
    let key = |name: String, key: &str, optional: Option<bool>| {
        object([("name", text(&name)), ("key", text(key)), ("optional", optional.map(Value::from))])
    };
    Some(object([
        (
            "configMapKeyRef",
            from.config_map_key_ref
                .as_ref()
                .map(|r| key(copy_name(scope.name, hash, &r.name), &r.key, r.optional)),
        ),
        ("secretKeyRef", from.secret_key_ref.as_ref().map(|r| key(r.name.clone(), &r.key, r.optional))),
        ("fieldRef", from.field_ref.as_ref().map(|r| json!({"apiVersion": "v1", "fieldPath": r.field_path}))),
        (
            "resourceFieldRef",
            // A divisor of zero is how the API server writes that there is none.
            from.resource_field_ref.as_ref().map(|r| json!({"resource": r.resource, "divisor": "0"})),
        ),
    ]))
}

/// ConfigMaps, through the revision's copies, and Secrets as variables.
pub fn folders(scope: &Scope, hash: &str, env_from: &[EnvFrom]) -> Vec<Value> {
    let reference = |name: String, optional: Option<bool>| {
        object([("name", text(&name)), ("optional", optional.map(Value::from))])
    };
    env_from
        .iter()
        .map(|from| {
            object([
                ("prefix", from.prefix.as_deref().and_then(text)),
                (
                    "configMapRef",
                    from.config_map_ref
                        .as_ref()
                        .map(|r| reference(copy_name(scope.name, hash, &r.name), r.optional)),
                ),
                ("secretRef", from.secret_ref.as_ref().map(|r| reference(r.name.clone(), r.optional))),
            ])
        })
        .collect()
}

/// OpenTelemetry's variables, as its specification of SDK configuration names them.
fn telemetry(scope: &Scope, input: &RevisionInput) -> Vec<Value> {
    let attributes = [
        ("service.namespace", encoded(scope.namespace)),
        ("service.version", encoded(&input.release)),
        ("k8s.cluster.name", encoded(scope.site)),
        ("k8s.namespace.name", encoded(scope.namespace)),
        ("k8s.pod.name", "$(POD_NAME)".to_owned()),
    ];
    let attributes: Vec<String> = attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut env = vec![
        // Before the attributes, which refer to it.
        json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}),
        json!({"name": "OTEL_SERVICE_NAME", "value": scope.name}),
        json!({"name": "OTEL_RESOURCE_ATTRIBUTES", "value": attributes.join(",")}),
    ];
    if let Some(tracing) = &input.tracing {
        let share = f64::from(tracing.sample_percent.unwrap_or(SAMPLE_PERCENT)) / 100.0;
        env.push(json!({"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": tracing.endpoint}));
        if tracing.endpoint.trim_end_matches('/').ends_with(OTLP_GRPC) {
            env.push(json!({"name": "OTEL_EXPORTER_OTLP_PROTOCOL", "value": "grpc"}));
        }
        // The caller's choice is kept, so that a trace is whole or absent in all services.
        env.push(json!({"name": "OTEL_TRACES_SAMPLER", "value": "parentbased_traceidratio"}));
        env.push(json!({"name": "OTEL_TRACES_SAMPLER_ARG", "value": share.to_string()}));
    }
    env
}

/// The value of a resource attribute: what would end it, and what Kubernetes would expand, is
/// percent-encoded.
fn encoded(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' | b':' | b'@' | b'+' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::operations::Tracing;
    use crate::finservice::testing;

    fn value<'a>(env: &'a [Value], name: &str) -> Option<&'a str> {
        env.iter().find(|variable| variable["name"] == name)?["value"].as_str()
    }

    #[test]
    fn a_release_cannot_break_out_of_its_attribute() {
        let spec = testing::minimal();
        let mut input = testing::input(&spec);
        input.release = "1.0,evil=$(TOKEN)".to_owned();
        let env = of_service(&testing::scope(&spec), &input, "bcdfghjklm");
        let attributes = value(&env, "OTEL_RESOURCE_ATTRIBUTES").expect("attributes");
        assert!(attributes.contains("service.version=1.0%2Cevil%3D%24%28TOKEN%29,"), "{attributes}");
    }

    #[test]
    fn what_the_user_sets_is_left_to_the_user() {
        let spec = testing::minimal();
        let mut input = testing::input(&spec);
        input.env = Some(vec![EnvVar {
            name: "OTEL_SERVICE_NAME".to_owned(),
            value: Some("mine".to_owned()),
            value_from: None,
        }]);
        let env = of_service(&testing::scope(&spec), &input, "bcdfghjklm");
        let named: Vec<_> = env.iter().filter(|variable| variable["name"] == "OTEL_SERVICE_NAME").collect();
        assert_eq!(named, [&json!({"name": "OTEL_SERVICE_NAME", "value": "mine"})]);
    }

    #[test]
    fn traces_are_sampled_as_asked() {
        let spec = testing::minimal();
        let mut input = testing::input(&spec);
        input.tracing = Some(Tracing { endpoint: "http://otel:4317/".to_owned(), sample_percent: Some(5) });
        let env = of_service(&testing::scope(&spec), &input, "bcdfghjklm");
        assert_eq!(value(&env, "OTEL_TRACES_SAMPLER_ARG"), Some("0.05"));
        assert_eq!(value(&env, "OTEL_EXPORTER_OTLP_PROTOCOL"), Some("grpc"));
    }
}
