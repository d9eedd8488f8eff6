//! The example for teams that install no chart: the keys of `argocd-cm`, as the chart renders them.

use std::fmt::Write;

use expect_test::expect_file;

use crate::lua::{folder, script};
use serde_json::Value;

const HEADER: &str = "# How ArgoCD judges what Banyan makes, and what can be said there: see docs/argocd.md. Without this it counts every custom
# resource as healthy at once, and a sync wave would not wait for it.
#
# Written by `UPDATE_EXPECT=1 cargo test --test argocd` from charts/banyan/files/argocd; the chart renders the same with
# `argocd.enabled`. Merge these keys into the ConfigMap that is there.
apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
  namespace: argocd
  labels:
    app.kubernetes.io/name: argocd-cm
    app.kubernetes.io/part-of: argocd
data:
";

fn folders(path: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder().join(path)).unwrap().map(Result::unwrap);
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn indented(path: &str, by: usize) -> String {
    script(path)
        .lines()
        .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{:by$}{line}\n", "") })
        .collect()
}

/// The ConfigMap, from the scripts.
fn example() -> String {
    let mut text = HEADER.to_owned();
    for kind in folders("") {
        let script = indented(&format!("{kind}/health.lua"), 4);
        let _ = write!(text, "  resource.customizations.health.banyan.dev_{kind}: |\n{script}");
    }
    for kind in folders("").into_iter().filter(|kind| folder().join(kind).join("actions").is_dir()) {
        let discovery = indented(&format!("{kind}/actions/discovery.lua"), 6);
        let _ = write!(
            text,
            "  resource.customizations.actions.banyan.dev_{kind}: |\n    discovery.lua: |\n{discovery}"
        );
        text.push_str("    definitions:\n");
        for action in folders(&format!("{kind}/actions")) {
            let script = indented(&format!("{kind}/actions/{action}/action.lua"), 8);
            let _ = write!(text, "    - name: {action}\n      action.lua: |\n{script}");
        }
    }
    text
}

#[test]
fn the_example_is_what_the_chart_has() {
    expect_file![format!("{}/examples/argocd/argocd-cm.yaml", env!("CARGO_MANIFEST_DIR"))]
        .assert_eq(&example());
}

#[test]
fn the_example_is_read_as_the_scripts_that_were_written() {
    let example: Value = serde_norway::from_str(&example()).unwrap();
    let mut keys = 0;
    for kind in folders("") {
        let health = &example["data"][format!("resource.customizations.health.banyan.dev_{kind}")];
        assert_eq!(*health, script(&format!("{kind}/health.lua")), "{kind}");
        keys += 1;
        let Some(actions) =
            example["data"][format!("resource.customizations.actions.banyan.dev_{kind}")].as_str()
        else {
            continue;
        };
        keys += 1;
        let actions: Value = serde_norway::from_str(actions).unwrap();
        assert_eq!(actions["discovery.lua"], script(&format!("{kind}/actions/discovery.lua")));
        let definitions = actions["definitions"].as_array().unwrap();
        let names: Vec<&str> = definitions.iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, folders(&format!("{kind}/actions")));
        for one in definitions {
            let name = one["name"].as_str().unwrap();
            assert_eq!(one["action.lua"], script(&format!("{kind}/actions/{name}/action.lua")));
        }
    }
    assert_eq!(example["data"].as_object().unwrap().len(), keys, "and nothing else");
}
