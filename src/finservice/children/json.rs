//! Small helpers to write objects that hold no nulls, no empty lists and no zero values.

use serde_json::{Map, Value};

/// An object of those entries that have a value.
pub fn object<const N: usize>(entries: [(&str, Option<Value>); N]) -> Value {
    Value::Object(
        entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect::<Map<_, _>>(),
    )
}

/// A list, or nothing: the API server drops empty ones.
pub fn list(items: Vec<Value>) -> Option<Value> {
    (!items.is_empty()).then_some(Value::Array(items))
}

/// A list of strings, or nothing.
pub fn strings(items: Option<&Vec<String>>) -> Option<Value> {
    list(items?.iter().map(|item| item.clone().into()).collect())
}

/// A string, or nothing: the API server drops empty ones.
pub fn text(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| text.into())
}

/// A number, or nothing: the API server drops zeros of fields that are no pointers.
pub fn number(number: Option<i32>) -> Option<Value> {
    number.filter(|number| *number != 0).map(Value::from)
}

/// An object, or nothing where it has no entries.
pub fn filled(value: Value) -> Option<Value> {
    value.as_object().is_some_and(|object| !object.is_empty()).then_some(value)
}
