//! Volumes and their mounts.

use serde_json::{Map, Value, json};

use super::Weight;
use super::fields::{Fields, list, put, take};

/// Reads what the service's container mounts.
pub fn read(fields: &mut Fields, volumes: &mut [Value], mounts: Vec<Value>, spec: &mut Map<String, Value>) {
    let (mut files, mut kept): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    let mut taken: Vec<String> = Vec::new();
    for mut mount in mounts {
        let name = mount["name"].as_str().unwrap_or_default().to_owned();
        let Some(volume) = volumes.iter().find(|volume| volume["name"] == name.as_str()) else { continue };
        let mut volume = volume.clone();
        let mut read = Map::new();
        let path = mount["mountPath"].as_str().unwrap_or_default().trim_end_matches('/').to_owned();
        read.insert("mountPath".to_owned(), path.into());
        put(&mut read, "subPath", take(&mut mount, "/subPath").unwrap_or_default());
        let read_only = take(&mut mount, "/readOnly") == Some(json!(true));
        for key in ["name", "mountPath"] {
            take(&mut mount, &format!("/{key}"));
        }
        fields.leave(&format!("containers[0].volumeMounts[{name}]"), mount);
        take(&mut volume, "/name");
        if let Some(of) = of_files(&mut volume, &mut read) {
            if !taken.contains(&name) {
                fields.leave(&format!("volumes[{name}]"), of);
            }
            files.push(read.into());
        } else if of_volume(&mut volume, &mut read) {
            // Each volume of a FinService has one place.
            let of = kept
                .iter()
                .filter(|other| other["name"].as_str().is_some_and(|other| other.starts_with(&name)))
                .count();
            let own = if of == 0 { name.clone() } else { format!("{name}-{}", of + 1) };
            if of > 0 && read.contains_key("emptyDir") {
                fields.note(
                    Weight::Lost,
                    &format!("spec.template.spec.volumes[{name}]"),
                    "it is mounted at two places, which are two empty volumes now: mount it once, at a folder above both",
                );
            }
            read.insert("name".to_owned(), own.into());
            put(&mut read, "readOnly", if read_only { Value::Bool(true) } else { Value::Null });
            kept.push(read.into());
        } else if !taken.contains(&name) {
            fields.leave(&format!("volumes[{name}]"), volume);
        }
        taken.push(name);
    }
    put(spec, "files", files);
    put(spec, "volumes", kept);
}

/// A ConfigMap or Secret as files. Returns what is left of its volume.
fn of_files(volume: &mut Value, read: &mut Map<String, Value>) -> Option<Value> {
    // One source that is projected is as good as itself.
    if let Some(sources) = volume.pointer("/projected/sources").and_then(Value::as_array)
        && let [one] = sources.as_slice()
        && (one.get("configMap").is_some() || one.get("secret").is_some())
    {
        let mut one = one.clone();
        if let Some(mode) = volume.pointer("/projected/defaultMode") {
            for of in ["configMap", "secret"] {
                if let Some(of) = one.get_mut(of) {
                    of["defaultMode"] = mode.clone();
                }
            }
        }
        *volume = one;
    }
    let (field, mut of, named) = match (take(volume, "/configMap"), take(volume, "/secret")) {
        (Some(of), _) => ("configMap", of, "/name"),
        (None, Some(of)) => ("secret", of, "/secretName"),
        (None, None) => return None,
    };
    let name = take(&mut of, named).or_else(|| take(&mut of, "/name"));
    put(read, field, name.unwrap_or_default());
    put(read, "items", list(&mut of, "items"));
    let mode = take(&mut of, "/defaultMode").filter(|mode| *mode != json!(420));
    put(read, "mode", mode.unwrap_or_default());
    put(read, "optional", take(&mut of, "/optional").unwrap_or_default());
    Some(of)
}

fn of_volume(volume: &mut Value, read: &mut Map<String, Value>) -> bool {
    if let Some(mut empty) = take(volume, "/emptyDir") {
        let mut of = Map::new();
        put(&mut of, "sizeLimit", take(&mut empty, "/sizeLimit").unwrap_or_default());
        if take(&mut empty, "/medium") == Some(json!("Memory")) {
            of.insert("memory".to_owned(), true.into());
        }
        read.insert("emptyDir".to_owned(), of.into());
        return true;
    }
    if let Some(claim) = volume.pointer("/persistentVolumeClaim/claimName").cloned() {
        read.insert("persistentVolumeClaim".to_owned(), claim);
        return true;
    }
    let token = volume.pointer("/projected/sources").and_then(Value::as_array).and_then(|sources| {
        match sources.as_slice() {
            [one] => one.get("serviceAccountToken").filter(|token| token.get("audience").is_some()),
            _ => None,
        }
    });
    if let Some(token) = token.cloned() {
        read.insert("serviceAccountToken".to_owned(), token);
        return true;
    }
    false
}
