//! Objects of any kind, read in one pass.
//!
//! kube's `DynamicObject` flattens what is beside metadata, for which serde first keeps every value in a
//! form of its own and then copies it. At a cold start the operator reads each child once, and that
//! copy would be the larger part of the work.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{ApiResource, DynamicObject};
use kube::core::DynamicResourceScope;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// An object of any kind; its own type is left out, as a watch tells of one kind only.
#[derive(Clone, Debug)]
pub struct RawObject(pub DynamicObject);

impl Resource for RawObject {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::kind(resource)
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::group(resource)
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::version(resource)
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::api_version(resource)
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::plural(resource)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = RawObject;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
        let mut metadata = ObjectMeta::default();
        let mut data = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "metadata" => metadata = map.next_value()?,
                "apiVersion" | "kind" => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => {
                    data.insert(key, map.next_value()?);
                }
            }
        }
        Ok(RawObject(DynamicObject { types: None, metadata, data: Value::Object(data) }))
    }
}

/// A part of an object that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The field, such as `spec.scale.min`.
    pub field: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

/// Reads a part of an object, which stands at `root` in it.
///
/// # Errors
/// The field that cannot be read, and why.
pub fn parse<'v, T: Deserialize<'v>>(root: &str, value: &'v Value) -> Result<T, Malformed> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        // The root as a whole is a dot, and so is what has no name.
        let field = match path.trim_end_matches('.') {
            "" => root.to_owned(),
            path if path.starts_with('[') => format!("{root}{path}"),
            path => format!("{root}.{path}"),
        };
        Malformed { field, why: error.into_inner().to_string() }
    })
}

#[cfg(test)]
mod tests {
    use kube::api::WatchEvent;

    use super::*;

    #[test]
    fn it_reads_what_a_dynamic_object_reads() {
        let text = r#"{"type":"ADDED","object":{"kind":"Service","apiVersion":"v1",
            "metadata":{"name":"a","namespace":"b","resourceVersion":"7","labels":{"x":"y"},
                "managedFields":[{"manager":"banyan","operation":"Apply","fieldsV1":{"f:spec":{}}}]},
            "spec":{"ports":[{"port":80,"weight":0.5}],"none":null},"status":{}}}"#;
        let WatchEvent::Added(plain) = serde_json::from_str::<WatchEvent<RawObject>>(text).unwrap() else {
            panic!("not added")
        };
        let WatchEvent::Added(dynamic) = serde_json::from_str::<WatchEvent<DynamicObject>>(text).unwrap()
        else {
            panic!("not added")
        };
        assert_eq!(plain.0.metadata, dynamic.metadata);
        assert_eq!(plain.0.data, dynamic.data);
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        assert!(serde_json::from_str::<RawObject>("[]").is_err());
        assert!(serde_json::from_str::<RawObject>(r#"{"metadata":7}"#).is_err());
    }
}
