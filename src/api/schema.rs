//! What a schema needs beyond what is derived from the types.
//!
//! Bounds: every list, map and string has one, since CEL's cost is estimated from them and an
//! unbounded one makes the API server refuse the whole CRD. No field is nullable: the API server
//! then drops a `null` (which is what `env:` with nothing behind it says in YAML) instead of
//! keeping it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};

use super::patterns;

/// Bound of a list that names none itself.
const ITEMS: i64 = 64;
/// Bound of a map that names none itself.
const PROPERTIES: i64 = 64;
/// Bound of a string that names none itself.
const LENGTH: i64 = 1024;

/// Bound of a quantity, or of the name or number of a port.
const SHORT: i64 = 63;

/// Gives a bound to each list, map and string that has none, takes `nullable` from all, and turns
/// patterns into rules that explain themselves.
pub fn bounded(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            bound(schema);
        }
    }
    crd
}

/// Turns a pattern into a rule that says in a sentence what is wanted.
fn explain(schema: &mut JSONSchemaProps) {
    let Some(sentence) = schema.pattern.as_deref().and_then(patterns::sentence) else { return };
    let Some(pattern) = schema.pattern.take() else { return };
    let quote = if pattern.contains('\'') { '"' } else { '\'' };
    schema.x_kubernetes_validations.get_or_insert_default().insert(
        0,
        ValidationRule {
            rule: format!("self.matches(r{quote}{pattern}{quote})"),
            message: Some(sentence.to_owned()),
            ..ValidationRule::default()
        },
    );
}

fn bound(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    // The API server knows int32 and int64 only; the range says the same in a way that it checks.
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    explain(schema);
    match schema.type_.as_deref() {
        Some("string") if schema.enum_.is_none() => {
            schema.max_length.get_or_insert(LENGTH);
        }
        Some("array") => {
            schema.max_items.get_or_insert(ITEMS);
        }
        None if schema.x_kubernetes_int_or_string == Some(true) => {
            schema.max_length.get_or_insert(SHORT);
            // The types' own descriptions are pages of grammar.
            if let Some(description) = schema.description.as_mut().filter(|text| text.len() > 300) {
                *description = "A quantity, such as `500m` or `1Gi`.".to_owned();
            }
        }
        _ => {}
    }
    if let Some(properties) = schema.properties.as_mut() {
        properties.values_mut().for_each(bound);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = schema.items.as_mut() {
        bound(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = schema.additional_properties.as_mut() {
        schema.max_properties.get_or_insert(PROPERTIES);
        bound(values);
    }
}

/// What of the status of a kind is beyond a bound of its schema, so that the API server would refuse it as a whole.
#[cfg(test)]
pub fn beyond_bounds(kind: &str, status: &impl serde::Serialize) -> Vec<String> {
    use std::collections::BTreeMap;
    use std::sync::LazyLock;

    static STATUSES: LazyLock<BTreeMap<String, JSONSchemaProps>> = LazyLock::new(|| {
        let status = |crd: CustomResourceDefinition| {
            let schema = crd.spec.versions[0].schema.clone()?.open_api_v3_schema?;
            Some((crd.spec.names.kind, schema.properties?.remove("status")?))
        };
        super::crds().into_iter().filter_map(status).collect()
    });

    fn walk(path: &str, schema: &JSONSchemaProps, value: &serde_json::Value, faults: &mut Vec<String>) {
        use serde_json::Value;
        let mut fault = |what: &str, size: usize, most: Option<i64>| {
            if most.is_some_and(|most| i64::try_from(size).unwrap_or(i64::MAX) > most) {
                faults.push(format!("{path}: {size} {what}, at most {}", most.unwrap_or_default()));
            }
        };
        match value {
            Value::String(text) => fault("characters", text.chars().count(), schema.max_length),
            Value::Array(items) => {
                fault("items", items.len(), schema.max_items);
                if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                    for (place, item) in items.iter().enumerate() {
                        walk(&format!("{path}[{place}]"), schema, item, faults);
                    }
                }
            }
            Value::Object(fields) => {
                fault("properties", fields.len(), schema.max_properties);
                for (name, inner) in fields {
                    match schema.properties.as_ref().and_then(|properties| properties.get(name)) {
                        Some(schema) => walk(&format!("{path}.{name}"), schema, inner, faults),
                        None => faults.push(format!("{path}.{name} is not in the schema")),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    let mut faults = Vec::new();
    let status = serde_json::to_value(status).expect("a status is JSON");
    walk("status", &STATUSES[kind], &status, &mut faults);
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    /// Calls `visit` with each schema and its path.
    fn walk(path: &str, value: &Value, visit: &mut impl FnMut(&str, &Value)) {
        match value {
            Value::Object(fields) => {
                visit(path, value);
                fields.iter().for_each(|(name, inner)| walk(&format!("{path}.{name}"), inner, visit));
            }
            Value::Array(items) => items.iter().for_each(|inner| walk(path, inner, visit)),
            _ => {}
        }
    }

    #[test]
    fn every_schema_is_bounded_and_explains_itself() {
        let mut faults = Vec::new();
        for crd in crate::api::crds() {
            let schema = serde_json::to_value(&crd.spec.versions[0].schema).expect("a schema is JSON");
            walk("", &schema, &mut |path, schema| {
                let has = |key: &str| schema.get(key).is_some_and(|value| !value.is_object());
                let missing = match schema.get("type").and_then(Value::as_str) {
                    Some("string") => !(has("maxLength") || has("enum") || has("format")),
                    Some("array") => !has("maxItems"),
                    Some("object") => schema.get("additionalProperties").is_some() && !has("maxProperties"),
                    _ => false,
                };
                if missing {
                    faults.push(format!("{path} has no bound"));
                }
                if has("nullable") {
                    faults.push(format!("{path} is nullable"));
                }
                if has("pattern") && !path.contains(".status.") {
                    faults.push(format!("{path} has a pattern without a sentence in patterns.rs"));
                }
                for rule in
                    schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten()
                {
                    if rule.get("message").is_none() {
                        faults.push(format!("{path} has a rule without a message"));
                    }
                }
            });
        }
        assert_eq!(faults, Vec::<String>::new());
    }
}
