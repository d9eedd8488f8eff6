//! The volumes of a pod template, each with its mount.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Scope;
use super::json::{number, object, text};
use crate::api::mounts::Volume;
use crate::api::quantity;
use crate::finservice::plan::revision::{RevisionInput, copy_name};

/// Volumes, each with its mount.
pub fn volumes(scope: &Scope, input: &RevisionInput, hash: &str) -> Vec<(Value, Value)> {
    let own: Vec<&Volume> = input.volumes.iter().flatten().collect();
    let taken: BTreeSet<&str> = own.iter().map(|volume| volume.name.as_str()).collect();
    let free = |base: String| {
        let mut name = base;
        while taken.contains(name.as_str()) {
            name.push_str("-0");
        }
        name
    };
    let mut volumes: Vec<(Value, Value)> = Vec::new();
    for volume in &own {
        let source = match (&volume.persistent_volume_claim, &volume.service_account_token, &volume.empty_dir)
        {
            (Some(claim), ..) => ("persistentVolumeClaim", json!({"claimName": claim})),
            (None, Some(token), _) => {
                let token = object([
                    ("audience", text(&token.audience)),
                    ("path", text(token.path.as_deref().unwrap_or("token"))),
                    // Kubernetes' own default, written out since it stands in an atomic list.
                    ("expirationSeconds", Some(token.expiration_seconds.unwrap_or(3600).into())),
                ]);
                ("projected", json!({"sources": [{"serviceAccountToken": token}]}))
            }
            (None, None, empty_dir) => {
                let empty_dir = empty_dir.clone().unwrap_or_default();
                let limit = empty_dir.size_limit.map(|limit| quantity::canonical(&limit.0).into());
                let medium = empty_dir.memory.unwrap_or(false).then(|| "Memory".into());
                ("emptyDir", object([("medium", medium), ("sizeLimit", limit)]))
            }
        };
        volumes.push((
            object([("name", text(&volume.name)), (source.0, Some(source.1))]),
            object([
                ("name", text(&volume.name)),
                ("mountPath", text(&volume.mount_path)),
                ("subPath", volume.sub_path.as_deref().and_then(text)),
                ("readOnly", volume.read_only.filter(|read_only| *read_only).map(Value::from)),
            ]),
        ));
    }
    for (index, files) in input.files.iter().flatten().enumerate() {
        let name = free(format!("files-{index}"));
        let (source, named, of) = match (&files.config_map, &files.secret) {
            (Some(config_map), _) => ("configMap", "name", copy_name(scope.name, hash, config_map)),
            (None, secret) => ("secret", "secretName", secret.clone().unwrap_or_default()),
        };
        let contents = object([
            (named, text(&of)),
            ("items", files.items.as_ref().map(|items| json!(items))),
            ("defaultMode", number(files.mode)),
            ("optional", files.optional.map(Value::from)),
        ]);
        volumes.push((
            object([("name", text(&name)), (source, Some(contents))]),
            object([
                ("name", text(&name)),
                ("mountPath", text(&files.mount_path)),
                ("subPath", files.sub_path.as_deref().and_then(text)),
                ("readOnly", Some(true.into())),
            ]),
        ));
    }
    // The root file system cannot be written to, and most programs want a place for scratch files.
    if volumes
        .iter()
        .all(|(_, mount)| mount["mountPath"].as_str().map(|path| path.trim_end_matches('/')) != Some("/tmp"))
    {
        let name = free("tmp".to_owned());
        volumes.push((json!({"name": name, "emptyDir": {}}), json!({"name": name, "mountPath": "/tmp"})));
    }
    volumes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finservice::testing::rendered;

    #[test]
    fn a_volume_of_the_user_keeps_its_name_and_place() {
        let spec = rendered(|input| {
            input.volumes = Some(vec![
                Volume { name: "tmp".to_owned(), mount_path: "/data".to_owned(), ..Volume::default() },
                Volume {
                    name: "files-0".to_owned(),
                    mount_path: "/claim".to_owned(),
                    persistent_volume_claim: Some("disk".to_owned()),
                    ..Volume::default()
                },
            ]);
            input.files = Some(vec![crate::api::mounts::Files {
                mount_path: "/etc/app".to_owned(),
                config_map: Some("app".to_owned()),
                ..Default::default()
            }]);
        });
        let names: BTreeSet<&str> =
            spec["volumes"].as_array().into_iter().flatten().filter_map(|v| v["name"].as_str()).collect();
        assert_eq!(names, BTreeSet::from(["tmp", "files-0", "files-0-0", "tmp-0"]));
        assert_eq!(spec["securityContext"]["fsGroup"], 65_532);
        let own = rendered(|input| {
            input.volumes = Some(vec![Volume {
                name: "scratch".to_owned(),
                mount_path: "/tmp/".to_owned(),
                ..Volume::default()
            }]);
        });
        assert_eq!(own["volumes"].as_array().map(Vec::len), Some(1));
        assert_eq!(own["securityContext"].get("fsGroup"), None);
    }

    /// Row 6.4: everyone who needs the public key would get the private one.
    #[test]
    fn faults_6_4_files_are_the_keys_that_were_asked_for() {
        let spec = rendered(|input| {
            input.files = Some(vec![serde_json::from_value(json!({
                "mountPath": "/etc/keys/public.pem", "secret": "keys", "subPath": "public.pem", "optional": true,
                "items": [{"key": "pub", "path": "public.pem", "mode": 292}], "mode": 256,
            })).expect("files")]);
        });
        assert_eq!(
            spec["volumes"][0]["secret"],
            json!({"secretName": "keys", "items": [{"key": "pub", "path": "public.pem", "mode": 292}],
                "defaultMode": 256, "optional": true})
        );
        assert_eq!(
            spec["containers"][0]["volumeMounts"][0],
            json!({"name": "files-0", "mountPath": "/etc/keys/public.pem", "subPath": "public.pem", "readOnly": true})
        );
    }
}
