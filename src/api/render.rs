//! The resources as files: the definitions in `crds/` and the reference in `docs/reference/`.
//!
//! Pure: from the types to text. `banyan crds` writes what stands here, and a test compares it with
//! what is committed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

/// First line of each definition.
const HEADER: &str = "# Generated from src/api by `banyan crds`; edit the types, not this file.\n";

/// The definitions of all resources: file name, such as `finservices.banyan.dev.yaml`, and YAML.
///
/// # Errors
/// Where a definition has no form in YAML, which would be a defect of its type.
pub fn files() -> Result<Vec<(String, String)>, serde_norway::Error> {
    super::crds().iter().map(|crd| Ok((file_name(crd), yaml(crd)?))).collect()
}

/// All definitions as one stream of YAML documents, as `kubectl apply -f -` reads it.
///
/// # Errors
/// As [`files`].
pub fn stream() -> Result<String, serde_norway::Error> {
    let documents: Vec<String> = files()?.into_iter().map(|(_, yaml)| yaml).collect();
    Ok(documents.join("---\n"))
}

fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}.{}.yaml", crd.spec.names.plural, crd.spec.group)
}

fn yaml(crd: &CustomResourceDefinition) -> Result<String, serde_norway::Error> {
    Ok(format!("{HEADER}{}", serde_norway::to_string(crd)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn committed_definitions_are_what_the_types_say() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        let files = files().expect("definitions have a form in YAML");
        for (name, yaml) in &files {
            if std::env::var_os("UPDATE_EXPECT").is_some() {
                std::fs::create_dir_all(&folder).expect("crds/ can be made");
                std::fs::write(folder.join(name), yaml).expect("crds/ can be written");
            }
            let committed = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            assert!(
                committed == *yaml,
                "crds/{name} is not what src/api says; run `cargo run -- crds --dir crds` and review the difference"
            );
        }
        let expected: BTreeSet<String> = files.into_iter().map(|(name, _)| name).collect();
        let present: BTreeSet<String> = std::fs::read_dir(&folder)
            .expect("crds/ is there")
            .map(|entry| entry.expect("crds/ can be read").file_name().to_string_lossy().into_owned())
            .collect();
        assert_eq!(present, expected, "crds/ holds exactly the generated files");
    }
}
