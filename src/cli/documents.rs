//! YAML files that are named on the command line, and the objects in them.

use std::io::Read;
use std::path::{Path, PathBuf};

use kube::core::cel::Validator;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{self, FinService};

/// Why files could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}; name a file, a folder, or - for standard input", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no YAML.
    #[error("{}: {source}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_norway::Error,
    },
    /// There is no FinService.
    #[error("there is no FinService in {0}; name a file that has one")]
    Nothing(String),
    /// One cannot be read.
    #[error("FinService {name}: {why}")]
    Refused {
        /// Its name.
        name: String,
        /// What the API server would say.
        why: String,
    },
}

/// All objects in files, and in the YAML files of folders.
///
/// # Errors
/// If one cannot be read.
pub fn objects(paths: &[PathBuf]) -> Result<Vec<Value>, DocumentError> {
    let mut objects = Vec::new();
    for path in paths.iter().map(|path| files(path)).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
        let text = text(&path).map_err(|source| DocumentError::File { path: path.clone(), source })?;
        for document in serde_norway::Deserializer::from_str(&text) {
            let object = Value::deserialize(document)
                .map_err(|source| DocumentError::Yaml { path: path.clone(), source })?;
            if !object.is_null() {
                objects.push(object);
            }
        }
    }
    Ok(objects)
}

fn text(path: &Path) -> std::io::Result<String> {
    if path.as_os_str() != "-" {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, DocumentError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |source| DocumentError::File { path: path.to_owned(), source };
    let entries = std::fs::read_dir(path).map_err(failed)?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(failed)?;
    files.retain(|file| {
        file.extension().is_some_and(|kind| ["yaml", "yml", "json"].iter().any(|of| kind == *of))
    });
    files.sort();
    Ok(files)
}

/// The FinServices among objects.
///
/// # Errors
/// If there is none, or if the API server would refuse one.
pub fn services(paths: &[PathBuf]) -> Result<Vec<FinService>, DocumentError> {
    let objects = objects(paths)?;
    let found: Vec<Value> = objects.into_iter().filter(|object| object["kind"] == "FinService").collect();
    if found.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(DocumentError::Nothing(names.join(", ")));
    }
    found.iter().map(service).collect()
}

/// A FinService, if the API server would take it.
///
/// # Errors
/// What the API server would say.
pub fn service(object: &Value) -> Result<FinService, DocumentError> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let refused = |why: String| DocumentError::Refused { name: name.clone(), why };
    let service: FinService =
        serde_json::from_value(object.clone()).map_err(|error| refused(error.to_string()))?;
    // Before the rules: one that a slip in a name breaks would be told of another field.
    let mut unknown = Vec::new();
    let read = serde_json::to_value(&service).unwrap_or_default();
    lost(&object["spec"], &read["spec"], "spec".to_owned(), &mut unknown);
    if !unknown.is_empty() {
        let (names, are) =
            (unknown.join(", "), if unknown.len() == 1 { "is no field" } else { "are no fields" });
        return Err(refused(format!("{names} {are} of a FinService; see docs/reference/finservice.md")));
    }
    let definition = api::crds().into_iter().find(|definition| definition.spec.names.kind == "FinService");
    let schema = definition.and_then(|definition| {
        serde_json::to_value(definition.spec.versions.into_iter().next()?.schema?.open_api_v3_schema).ok()
    });
    if let Some(schema) = schema
        && let Err(errors) = Validator::new().validate(&schema, object, None)
    {
        let told: Vec<String> = errors
            .as_slice()
            .iter()
            .map(|error| format!("{}: {}", error.field_path, error.message))
            .collect();
        return Err(refused(told.join("; ")));
    }
    Ok(service)
}

/// Fields of an object that are gone from what was read of it.
fn lost(object: &Value, read: &Value, path: String, found: &mut Vec<String>) {
    match (object, read) {
        (Value::Object(object), Value::Object(read)) => {
            for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
                let path = format!("{path}.{key}");
                match read.get(key) {
                    Some(read) => lost(value, read, path, found),
                    None if *value == Value::Array(Vec::new()) => {}
                    None => found.push(path),
                }
            }
        }
        (Value::Array(object), Value::Array(read)) => {
            for (index, (value, read)) in object.iter().zip(read).enumerate() {
                lost(value, read, format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(spec: Value) -> String {
        let object = json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FinService", "metadata": {"name": "app"}, "spec": spec});
        service(&object).map_or_else(|error| error.to_string(), |_| "fine".to_owned())
    }

    #[test]
    fn what_the_api_server_would_refuse_is_refused_without_one() {
        let spec = |more: Value| {
            let mut spec =
                json!({"owner": "team", "image": "app:1", "ports": [{"name": "http", "port": 8080}]});
            spec.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
            said(spec)
        };
        assert_eq!(spec(json!({})), "fine");
        assert!(
            spec(json!({"replicas": 3})).contains("spec.replicas is no field"),
            "{}",
            spec(json!({"replicas": 3}))
        );
        let slip = spec(json!({"scale": {"replica": 3}, "replicas": 3}));
        assert!(slip.contains("spec.replicas, spec.scale.replica are no fields"), "{slip}");
        let rule = spec(json!({"scale": {"replicas": 2, "min": 1, "max": 3}}));
        assert!(rule.contains("set replicas, or min and max"), "{rule}");
        assert!(spec(json!({"ports": "http"})).starts_with("FinService app: "));
    }

    #[test]
    fn faults_5_8_a_slip_in_what_is_retried_is_refused() {
        let retried = |on: &str| {
            said(json!({"owner": "team", "image": "app:1", "ports": [{"name": "http", "port": 8080}],
                "mesh": {"provider": "Istio", "retries": {"attempts": 2, "retryOn": on}}}))
        };
        for fine in ["5xx", "connect-failure,refused-stream,503", "gateway-error,reset,retriable-4xx"] {
            assert_eq!(retried(fine), "fine", "{fine}");
        }
        for slip in ["refused-streams", "connect-failure, 503", "connect-failure;503", "5XX", "700", ""] {
            let words = retried(slip);
            assert!(
                words.contains("spec.mesh.retries.retryOn: must be failures that a proxy knows"),
                "{slip}: {words}"
            );
        }
    }
}
