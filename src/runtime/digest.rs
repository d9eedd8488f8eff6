//! Drift without keeping objects: a digest of the fields that we own.
//!
//! With server-side apply the API server records, for each manager, which fields it owns. The
//! digest of a live object is taken over just those of ours, that of a wanted object over all of
//! it; the two are the same if and only if applying would change nothing. So the operator keeps
//! eight bytes of each child instead of the child (see `docs/decisions/0001`).

use crate::api::labels::MANAGER;
use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

/// Digest of what an object says: of its metadata, and of all else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Of annotations, labels and owners.
    pub metadata: u64,
    /// Of all but metadata, type and status.
    pub contents: u64,
}

impl Parts {
    /// Of both.
    pub fn whole(self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.metadata, self.contents).hash(&mut hasher);
        hasher.finish()
    }
}

/// Digest of a wanted object.
pub fn wanted(body: &Value) -> u64 {
    let (mut metadata, mut contents) = (DefaultHasher::new(), DefaultHasher::new());
    if let Value::Object(body) = body {
        let frozen = is_frozen(body);
        if let Some(Value::Object(said)) = body.get("metadata") {
            for key in ["annotations", "labels", "ownerReferences"] {
                if let Some(value) = said.get(key) {
                    member(key, value, &mut metadata);
                }
            }
        }
        for (key, value) in body {
            if !(is_identity(key) || frozen && is_contents(key)) {
                member(key, value, &mut contents);
            }
        }
    }
    Parts { metadata: metadata.finish(), contents: contents.finish() }.whole()
}

/// Digest of the fields of a live object that the manager `banyan` has applied. `None` if it has
/// applied nothing. `data` is the object without its metadata and type.
pub fn owned(metadata: &ObjectMeta, data: &Value) -> Option<Parts> {
    let fields = own_fields(metadata)?;
    let mut hasher = DefaultHasher::new();
    if let Value::Object(data) = data {
        let frozen = is_frozen(data);
        for (key, fields) in fields {
            let Some(key) = key.strip_prefix("f:") else { continue };
            if is_identity(key) || (frozen && is_contents(key)) {
                continue;
            }
            if let Some(live) = data.get(key)
                && !is_nothing(live)
            {
                hasher.write_u8(b'm');
                key.hash(&mut hasher);
                projection(live, fields, &mut hasher);
            }
        }
    }
    Some(Parts { metadata: owned_metadata(metadata)?, contents: hasher.finish() })
}

/// The part of [`owned`] that speaks of metadata.
pub fn owned_metadata(metadata: &ObjectMeta) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    if let Some(Value::Object(fields)) = own_fields(metadata)?.get("f:metadata") {
        let live = own_metadata(metadata);
        for (key, fields) in fields {
            if let Some(key) = key.strip_prefix("f:")
                && let Some(live) = live.get(key)
            {
                hasher.write_u8(b'm');
                key.hash(&mut hasher);
                projection(live, fields, &mut hasher);
            }
        }
    }
    Some(hasher.finish())
}

/// What the manager `banyan` has applied.
fn own_fields(metadata: &ObjectMeta) -> Option<&Map<String, Value>> {
    let fields = metadata.managed_fields.as_ref()?.iter().find(|entry| {
        entry.manager.as_deref() == Some(MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    })?;
    fields.fields_v1.as_ref()?.0.as_object()
}

/// Tells one state of one object from all others of it and of its namesakes: the API server raises the generation
/// with each change of anything but metadata and status, and gives each object a UID of its own.
pub fn seal(uid: &str, generation: i64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (uid, generation).hash(&mut hasher);
    hasher.finish()
}

fn own_metadata(metadata: &ObjectMeta) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |key: &str, value: serde_json::Result<Value>| {
        if let Ok(value) = value
            && !value.is_null()
        {
            map.insert(key.to_owned(), value);
        }
    };
    put("annotations", serde_json::to_value(&metadata.annotations));
    put("labels", serde_json::to_value(&metadata.labels));
    put("ownerReferences", serde_json::to_value(&metadata.owner_references));
    map
}

fn is_identity(key: &str) -> bool {
    matches!(key, "apiVersion" | "kind" | "metadata" | "status")
}

/// Contents of an immutable object: the API server lets nobody change them.
fn is_contents(key: &str) -> bool {
    matches!(key, "data" | "binaryData" | "revision")
}

/// An immutable ConfigMap, or a ControllerRevision (the only kind with `revision` at its top).
fn is_frozen(body: &Map<String, Value>) -> bool {
    body.get("immutable") == Some(&Value::Bool(true)) || body.contains_key("revision")
}

/// What the API server drops, or may drop, on the way.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn member(key: &str, value: &Value, hasher: &mut DefaultHasher) {
    if !is_nothing(value) {
        hasher.write_u8(b'm');
        key.hash(hasher);
        whole(value, hasher);
    }
}

fn whole(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Null => hasher.write_u8(b'0'),
        Value::Bool(value) => {
            hasher.write_u8(b'b');
            value.hash(hasher);
        }
        Value::Number(number) => match number.as_i64() {
            Some(integer) => {
                hasher.write_u8(b'i');
                integer.hash(hasher);
            }
            None => {
                hasher.write_u8(b'f');
                number.as_f64().unwrap_or_default().to_bits().hash(hasher);
            }
        },
        Value::String(text) => {
            hasher.write_u8(b's');
            text.hash(hasher);
        }
        Value::Array(items) => {
            hasher.write_u8(b'[');
            items.iter().for_each(|item| whole(item, hasher));
            hasher.write_u8(b']');
        }
        Value::Object(map) => {
            hasher.write_u8(b'{');
            map.iter().for_each(|(key, value)| member(key, value, hasher));
            hasher.write_u8(b'}');
        }
    }
}

/// Hashes the part of `live` that `fields` names, in the very form that [`whole`] would give it.
fn projection(live: &Value, fields: &Value, hasher: &mut DefaultHasher) {
    let Value::Object(fields) = fields else { return whole(live, hasher) };
    let inner = fields.keys().any(|key| key != ".");
    if !inner {
        return whole(live, hasher);
    }
    match live {
        Value::Object(map) => {
            hasher.write_u8(b'{');
            for (key, fields) in fields {
                if let Some(key) = key.strip_prefix("f:")
                    && let Some(live) = map.get(key)
                    && !is_nothing(live)
                {
                    hasher.write_u8(b'm');
                    key.hash(hasher);
                    projection(live, fields, hasher);
                }
            }
            hasher.write_u8(b'}');
        }
        Value::Array(items) => {
            hasher.write_u8(b'[');
            let keys: Vec<(Value, &Value)> = fields
                .iter()
                .filter_map(|(key, fields)| {
                    let text = key.strip_prefix("k:").or_else(|| key.strip_prefix("v:"))?;
                    Some((serde_json::from_str(text).ok()?, fields))
                })
                .collect();
            for item in items {
                if let Some((_, fields)) = keys.iter().find(|(key, _)| is_keyed(item, key)) {
                    projection(item, fields, hasher);
                }
            }
            hasher.write_u8(b']');
        }
        _ => whole(live, hasher),
    }
}

fn is_keyed(item: &Value, key: &Value) -> bool {
    match key {
        Value::Object(key) => key.iter().all(|(name, value)| item.get(name) == Some(value)),
        value => item == value,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
    use serde_json::json;

    use super::*;

    fn live(fields: Value, labels: Value, data: Value) -> Option<u64> {
        let metadata = ObjectMeta {
            labels: serde_json::from_value(labels).expect("labels"),
            managed_fields: Some(vec![ManagedFieldsEntry {
                manager: Some(MANAGER.to_owned()),
                operation: Some("Apply".to_owned()),
                fields_v1: Some(FieldsV1(fields)),
                ..Default::default()
            }]),
            ..Default::default()
        };
        owned(&metadata, &data).map(Parts::whole)
    }

    fn fields() -> Value {
        json!({
            "f:metadata": {"f:labels": {"f:a": {}}},
            "f:spec": {
                "f:selector": {},
                "f:ports": {
                    "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:protocol": {}, "f:name": {}}
                }
            }
        })
    }

    fn wanted_service() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "x", "namespace": "y", "labels": {"a": "1"}},
            "spec": {"selector": {"app": "x"}, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
        })
    }

    #[test]
    fn what_others_add_is_no_drift() {
        let data = json!({"spec": {
            "clusterIP": "10.0.0.1", "selector": {"app": "x"},
            "ports": [
                {"name": "other", "port": 81, "protocol": "TCP", "targetPort": 81},
                {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}
            ]
        }});
        assert_eq!(live(fields(), json!({"a": "1", "b": "2"}), data), Some(wanted(&wanted_service())));
    }

    #[test]
    fn a_changed_or_stolen_or_removed_field_is_drift() {
        let port = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
        let good = json!({"spec": {"selector": {"app": "x"}, "ports": port}});
        assert_eq!(live(fields(), json!({"a": "1"}), good.clone()), Some(wanted(&wanted_service())));
        let changed = json!({"spec": {"selector": {"app": "y"}, "ports": port}});
        assert_ne!(live(fields(), json!({"a": "1"}), changed), Some(wanted(&wanted_service())));
        let mut stolen = fields();
        stolen["f:spec"].as_object_mut().expect("map").remove("f:selector");
        assert_ne!(live(stolen, json!({"a": "1"}), good.clone()), Some(wanted(&wanted_service())));
        assert_ne!(live(fields(), json!({}), good), Some(wanted(&wanted_service())));
    }

    /// Digests stand in statuses. If a compiler comes with another hasher, each of them says nothing any more, and
    /// operators read everything once and write 10 000 statuses: then this hasher is to be kept by a library.
    #[test]
    fn digests_are_the_same_with_every_compiler() {
        let parts = Parts { metadata: 1, contents: 2 };
        assert_eq!(
            (wanted(&wanted_service()), parts.whole(), seal("u", 3)),
            (11798612851091597910, 18088007599891946824, 768412754029582762)
        );
    }

    #[test]
    fn what_we_no_longer_want_is_drift() {
        let mut more = fields();
        more["f:spec"]["f:sessionAffinity"] = json!({});
        let data = json!({"spec": {
            "selector": {"app": "x"}, "sessionAffinity": "ClientIP",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]
        }});
        assert_ne!(live(more, json!({"a": "1"}), data), Some(wanted(&wanted_service())));
    }
}
