//! Bounds: every list, map and string of a CRD has one, since CEL's cost is estimated from them
//! and an unbounded one makes the API server refuse the whole CRD.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// Bound of a list that names none itself.
const ITEMS: i64 = 64;
/// Bound of a map that names none itself.
const PROPERTIES: i64 = 64;
/// Bound of a string that names none itself.
const LENGTH: i64 = 1024;

/// Gives a bound to each list, map and string that has none.
pub fn bounded(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            bound(schema);
        }
    }
    crd
}

fn bound(schema: &mut JSONSchemaProps) {
    match schema.type_.as_deref() {
        Some("string") if schema.enum_.is_none() => {
            schema.max_length.get_or_insert(LENGTH);
        }
        Some("array") => {
            schema.max_items.get_or_insert(ITEMS);
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
