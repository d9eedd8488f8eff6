//! `banyan crds`: the definitions of the custom resources, made from the types that the operator itself reads.
//!
//! They are kept in `charts/banyan/files/crds/`, because a chart can only read what lies inside it; `crds/` at the
//! root is a link to that folder. A test holds that the files are what this command writes.

use std::path::{Path, PathBuf};

use clap::Args;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

/// Where the definitions go.
#[derive(Clone, Debug, Args)]
pub struct CrdsOptions {
    /// Write one file for each definition into this folder, and remove the files of others, instead of printing
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Why the definitions could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CrdsError {
    /// A definition has no YAML form.
    #[error("cannot write the definition {name} as YAML: {source}")]
    Yaml {
        /// The definition.
        name: String,
        /// What is wrong.
        source: serde_norway::Error,
    },
    /// A file could not be written or removed.
    #[error("cannot write {}: {source}; name a writable folder with --out", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
}

/// Prints or writes all definitions.
///
/// # Errors
/// If the folder is not writable.
pub fn main(options: &CrdsOptions) -> Result<(), CrdsError> {
    let files = files()?;
    let Some(folder) = &options.out else {
        for (_, text) in files {
            print!("---\n{text}");
        }
        return Ok(());
    };
    write(folder, &files)
}

/// File name and text of each definition.
///
/// # Errors
/// If one has no YAML form.
pub fn files() -> Result<Vec<(String, String)>, CrdsError> {
    crate::api::crds().iter().map(file).collect()
}

fn file(crd: &CustomResourceDefinition) -> Result<(String, String), CrdsError> {
    let name = crd.metadata.name.clone().unwrap_or_default();
    match serde_norway::to_string(crd) {
        Ok(yaml) => Ok((format!("{name}.yaml"), format!("# Written by `banyan crds`. Do not edit.\n{yaml}"))),
        Err(source) => Err(CrdsError::Yaml { name, source }),
    }
}

fn write(folder: &Path, files: &[(String, String)]) -> Result<(), CrdsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CrdsError::File { path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
        let path = entry.map_err(failed(folder))?.path();
        let stale = path.extension().is_some_and(|extension| extension == "yaml")
            && !files.iter().any(|(name, _)| path.file_name().is_some_and(|found| found == name.as_str()));
        if stale {
            std::fs::remove_file(&path).map_err(failed(&path))?;
        }
    }
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(failed(&path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the definitions are kept.
    const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/banyan/files/crds");

    #[test]
    fn the_files_in_the_chart_are_what_the_types_say() {
        let expected = files().unwrap();
        assert!(expected.iter().any(|(name, _)| name == "finservices.banyan.dev.yaml"), "{expected:?}");
        let remedy = "run `cargo run -- crds --out charts/banyan/files/crds`";
        let mut names: Vec<String> = std::fs::read_dir(KEPT)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut wanted: Vec<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        wanted.sort_unstable();
        assert_eq!(names, wanted, "{remedy}");
        for (name, text) in &expected {
            let kept = std::fs::read_to_string(Path::new(KEPT).join(name)).unwrap();
            assert!(&kept == text, "{name} is out of date: {remedy}");
        }
        let link = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        assert_eq!(link.canonicalize().unwrap(), Path::new(KEPT).canonicalize().unwrap());
    }

    /// kubectl, Helm and ArgoCD read YAML 1.1, in which these words are no strings. A field or value of such a
    /// name is lost in the definition, and in every manifest that does not quote it.
    #[test]
    fn no_name_is_something_else_in_yaml() {
        fn check(value: &serde_json::Value, path: &str) {
            let safe = |word: &str| {
                let other = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"];
                assert!(
                    !other.contains(&word.to_lowercase().as_str()),
                    "{path}: {word} must be called otherwise"
                );
            };
            match value {
                serde_json::Value::Object(fields) => {
                    for (name, value) in fields {
                        safe(name);
                        check(value, &format!("{path}.{name}"));
                    }
                }
                serde_json::Value::Array(values) => {
                    for (index, value) in values.iter().enumerate() {
                        value.as_str().into_iter().for_each(safe);
                        check(value, &format!("{path}[{index}]"));
                    }
                }
                _ => {}
            }
        }
        for crd in crate::api::crds() {
            let value = serde_json::to_value(&crd.spec).unwrap();
            check(&value, crd.metadata.name.as_deref().unwrap());
        }
    }

    #[test]
    fn a_folder_holds_what_is_defined_and_nothing_older() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gone.banyan.dev.yaml"), "old").unwrap();
        std::fs::write(folder.path().join("README.md"), "kept").unwrap();
        main(&CrdsOptions { out: Some(folder.path().to_owned()) }).unwrap();
        assert!(!folder.path().join("gone.banyan.dev.yaml").exists());
        assert!(folder.path().join("README.md").exists());
        let text = std::fs::read_to_string(folder.path().join("finservices.banyan.dev.yaml")).unwrap();
        let read: CustomResourceDefinition = serde_norway::from_str(&text).unwrap();
        assert_eq!(read.spec.names.kind, "FinService");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = main(&CrdsOptions { out: Some(file) }).unwrap_err().to_string();
        assert!(error.contains("file") && error.contains("--out"), "{error}");
    }
}
