//! The examples and the invalid FinServices, judged without a cluster: by the types, and by the
//! rules of the definitions as kube's own CEL engine reads them. `tests/it/crd.rs` asks the API server.

use std::path::{Path, PathBuf};

use banyan::api::{CanaryRollout, CloudCluster, FailoverGroup, FinService};
use kube::core::cel::Validator;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The YAML files of a folder of the repository, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

fn objects(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    serde_norway::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

/// The schema of a kind, as JSON.
fn schema(kind: &str) -> Value {
    let definition = banyan::api::crds().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    let schema = definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref();
    serde_json::to_value(schema).unwrap()
}

/// Reads an object by its type and writes it again: every field must still be there.
fn survives<T: DeserializeOwned + serde::Serialize>(object: &Value) {
    let typed: T = serde_json::from_value(object.clone())
        .unwrap_or_else(|error| panic!("{}: {error}", object["metadata"]["name"]));
    assert_eq!(serde_json::to_value(typed).unwrap()["spec"], object["spec"], "a field is lost or added");
}

#[test]
fn every_example_keeps_the_rules_and_loses_no_field() {
    let (services, sites, rollouts) = (schema("FinService"), schema("CloudCluster"), schema("CanaryRollout"));
    let groups = schema("FailoverGroup");
    let mut seen = 0;
    for path in ["examples/minimal", "examples/finflow", "examples/canary"].into_iter().flat_map(files) {
        for object in objects(&path) {
            let schema = match object["kind"].as_str() {
                Some("FinService") => {
                    survives::<FinService>(&object);
                    &services
                }
                Some("CanaryRollout") => {
                    survives::<CanaryRollout>(&object);
                    &rollouts
                }
                Some("CloudCluster") => {
                    survives::<CloudCluster>(&object);
                    &sites
                }
                Some("FailoverGroup") => {
                    survives::<FailoverGroup>(&object);
                    &groups
                }
                _ => continue,
            };
            seen += 1;
            if let Err(errors) = Validator::new().validate(schema, &object, None) {
                panic!("{}: {errors:?}", path.display());
            }
        }
    }
    assert!(seen >= 16, "only {seen} resources in examples/");
}

#[test]
fn what_the_readme_shows_keeps_the_rules() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let yaml =
        readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let documents = serde_norway::Deserializer::from_str(yaml);
    let objects: Vec<Value> = documents.map(|document| Value::deserialize(document).unwrap()).collect();
    survives::<FinService>(&objects[0]);
    Validator::new().validate(&schema("FinService"), &objects[0], None).expect("it is valid");
    survives::<CanaryRollout>(&objects[1]);
    Validator::new().validate(&schema("CanaryRollout"), &objects[1], None).expect("it is valid");
}

/// Both engines must say the same, or a check before the commit would promise too much.
#[test]
fn invalid_services_break_the_same_rules_without_a_cluster() {
    let schema = schema("FinService");
    let (mut broken, mut differences) = (0, Vec::new());
    for path in files("tests/goldens/invalid") {
        let golden = std::fs::read_to_string(path.with_extension("txt")).unwrap();
        for object in objects(&path) {
            let errors = match Validator::new().validate(&schema, &object, None) {
                Ok(()) => Vec::new(),
                Err(errors) => errors.iter().map(|error| error.message.clone()).collect(),
            };
            broken += errors.len();
            for message in errors {
                // After a wrong type or a missing field the API server asks no rules.
                if !golden.contains(&message) && !golden.contains("some validation rules were not checked") {
                    differences.push(format!("{}: {message}", path.display()));
                }
            }
        }
    }
    assert_eq!(differences, Vec::<String>::new());
    assert!(broken > 60, "only {broken} rules are broken");
}
