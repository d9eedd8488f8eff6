//! An object out of which fields are taken; what is left was understood by nobody.

use serde_json::{Map, Value};

use super::{Note, Object, Weight};

/// The spec of an object, out of which fields are taken.
#[derive(Debug)]
pub struct Fields {
    object: Object,
    rest: Value,
    beside: Vec<(String, Value)>,
    notes: Vec<Note>,
}

/// Fields that say what Kubernetes does anyhow, or what it wrote itself: nothing is lost with them.
const IDLE: &[(&str, &[&str])] = &[
    ("dnsPolicy", &["\"ClusterFirst\""]),
    ("restartPolicy", &["\"Always\""]),
    ("schedulerName", &["\"default-scheduler\""]),
    ("terminationMessagePath", &["\"/dev/termination-log\""]),
    ("terminationMessagePolicy", &["\"File\"", "\"FallbackToLogsOnError\""]),
    ("imagePullPolicy", &["\"IfNotPresent\"", "\"Always\""]),
    ("automountServiceAccountToken", &["false"]),
    ("enableServiceLinks", &["true", "false"]),
    ("progressDeadlineSeconds", &["600"]),
    ("revisionHistoryLimit", &[]),
    ("minReadySeconds", &[]),
    ("strategy", &[]),
    ("creationTimestamp", &[]),
    ("hostNetwork", &["false"]),
    ("hostPID", &["false"]),
    ("hostIPC", &["false"]),
    ("protocol", &["\"TCP\""]),
    ("apiVersion", &["\"v1\""]),
    ("divisor", &["\"0\""]),
    ("stdin", &["false"]),
    ("tty", &["false"]),
];

impl Fields {
    /// The fields of an object's spec.
    pub fn of(object: &Object) -> Self {
        Self {
            object: object.clone(),
            rest: object.whole["spec"].clone(),
            beside: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Takes a field out, by its path (as a JSON pointer).
    pub fn take(&mut self, pointer: &str) -> Option<Value> {
        take(&mut self.rest, pointer)
    }

    /// Takes a list out, by the name of its field.
    pub fn list(&mut self, key: &str) -> Vec<Value> {
        list(&mut self.rest, key)
    }

    /// Puts what is left of a part back.
    pub fn put_back(&mut self, key: &str, value: Value) {
        self.rest[key] = value;
    }

    /// Leaves what is left of a part of the pod.
    pub fn leave(&mut self, path: &str, value: Value) {
        self.beside.push((format!("spec.template.spec.{path}"), value));
    }

    /// Tells of something beside what is left.
    pub fn note(&mut self, weight: Weight, field: &str, message: impl Into<String>) {
        self.notes.push(self.object.note(weight, field, message));
    }

    /// A note for each field that nobody has taken, beside those that were made.
    pub fn left(self) -> Vec<Note> {
        let Self { object, rest, beside, mut notes } = self;
        let mut left = Vec::new();
        walk(&rest, "spec".to_owned(), &mut left);
        beside.iter().for_each(|(path, value)| walk(value, path.clone(), &mut left));
        notes.extend(left.into_iter().map(|(field, value)| {
            object.note(Weight::Lost, &field, format!("a FinService has no word for it: {value}"))
        }));
        notes
    }
}

/// Takes what stands at a pointer out of a value.
pub fn take(value: &mut Value, pointer: &str) -> Option<Value> {
    let (parent, key) = pointer.rsplit_once('/')?;
    let parent = value.pointer_mut(parent)?;
    match parent {
        Value::Object(map) => map.remove(key).filter(|value| !value.is_null()),
        _ => None,
    }
}

/// Takes a list out of a map.
pub fn list(map: &mut Value, key: &str) -> Vec<Value> {
    match map.as_object_mut().and_then(|map| map.remove(key)) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// Puts a value under a key, unless it says nothing.
pub fn put(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    let value = value.into();
    let empty = match &value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    if !empty {
        map.insert(key.to_owned(), value);
    }
}

fn walk(value: &Value, path: String, left: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let idle = IDLE.iter().find(|(name, _)| name == key);
                if idle.is_some_and(|(_, values)| {
                    values.is_empty() || values.contains(&value.to_string().as_str())
                }) {
                    continue;
                }
                walk(value, format!("{path}.{key}"), left);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                walk(value, format!("{path}[{index}]"), left);
            }
        }
        Value::Null => {}
        other => left.push((path, other.to_string())),
    }
}
