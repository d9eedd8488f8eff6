//! Goldens of all that is made from each example, at each site: what a reader of an example gets.
//! Updated by `UPDATE_EXPECT=1 cargo test`.

use crate::finservice::testing::sites;
use std::path::Path;

use expect_test::expect_file;
use serde::Deserialize;
use serde_json::Value;

use crate::api::operations::Residency;
use crate::finservice::plan::Op;
use crate::finservice::testing::fake::Fake;

/// The sites of the sandbox.
const SITES: [&str; 2] = ["aws-us-east-1", "gcp-us-central1"];

#[test]
fn what_is_made_from_each_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for folder in ["minimal", "finflow", "canary"] {
        let mut files: Vec<_> = std::fs::read_dir(root.join("examples").join(folder))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
            .collect();
        files.sort();
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a file");
            for document in serde_norway::Deserializer::from_str(&text) {
                let object = Value::deserialize(document).expect("YAML");
                if object["kind"] == "FinService" {
                    count += 1;
                    SITES.iter().for_each(|site| golden(root, folder, site, &object));
                }
            }
        }
    }
    assert!(count >= 9, "{count} FinServices");
}

fn golden(root: &Path, folder: &str, site: &str, object: &Value) {
    let mut object = object.clone();
    if object["metadata"].get("namespace").is_none() {
        object["metadata"]["namespace"] = "default".into();
    }
    let mut fake = Fake::of(serde_json::from_value(object.clone()).expect("a FinService"), site);
    fake.everything_is_there();
    fake.index.set_sites(sites(Some(&[Residency::US]), &[]));
    let plan = fake.step();
    let mut documents: Vec<String> =
        plan.problems.iter().map(|p| format!("# {:?} {}: {}\n", p.severity, p.source, p.message)).collect();
    documents.extend(plan.reasons.iter().map(|reason| format!("# because {reason}\n")));
    for op in plan.ops() {
        match op {
            Op::Apply { child, .. } | Op::Record { child, .. } | Op::CopyConfigMap { child, .. } => {
                documents.push(serde_norway::to_string(&child.body).expect("YAML"));
            }
            other => documents.push(format!("# {}\n", other.words())),
        }
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let path = root.join(format!("tests/goldens/examples/{folder}/{name}.{site}.yaml"));
    expect_file![path].assert_eq(&documents.join("---\n"));
}
