//! The reference of a resource, from its schema: every field, its type, its bounds and the rules
//! that the API server holds it to. Pure; a test compares it with `docs/reference/`.

use std::fmt::Write;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// The reference of a resource as a page of Markdown.
pub fn page(crd: &CustomResourceDefinition) -> String {
    let kind = &crd.spec.names.kind;
    let mut text = format!(
        "# {kind}\n\nEvery field of `{}/{}`, from its definition. The rules are those that the API server answers with.\n",
        crd.spec.group,
        crd.spec.versions.first().map(|version| version.name.as_str()).unwrap_or_default()
    );
    let schema =
        crd.spec.versions.first().and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    for part in ["spec", "status"] {
        let fields = schema.and_then(|schema| schema.properties.as_ref()?.get(part));
        if let Some(fields) = fields {
            section(part, fields, &mut text);
        }
    }
    text
}

/// A table of the fields of one struct, and then those of the structs in it.
fn section(path: &str, schema: &JSONSchemaProps, text: &mut String) {
    let Some(properties) = schema.properties.as_ref() else { return };
    // Writing to a String cannot fail.
    let _ = write!(text, "\n## {path}\n\n{}\n", line(schema.description.as_deref().unwrap_or_default()));
    let rules = messages(schema);
    if !rules.is_empty() {
        let _ = write!(text, "\n{}", rules.iter().map(|rule| format!("- {rule}\n")).collect::<String>());
    }
    text.push_str("\n| field | type | what it says |\n|---|---|---|\n");
    for (name, field) in properties {
        let required = schema.required.iter().flatten().any(|required| required == name);
        let mut what = line(field.description.as_deref().unwrap_or_default());
        let inner = element(field);
        let mut rules = if has_section(inner) { Vec::new() } else { messages(inner) };
        if !std::ptr::eq(inner, field) {
            rules.extend(messages(field));
        }
        for rule in rules {
            let _ = write!(what, "<br>*{rule}*");
        }
        let mark = if required { " (required)" } else { "" };
        let _ = writeln!(text, "| `{name}`{mark} | {} | {what} |", kind(field));
    }
    for (name, field) in properties {
        let suffix = match field.type_.as_deref() {
            Some("array") => "[]",
            Some("object") if field.properties.is_none() => ".*",
            _ => "",
        };
        section(&format!("{path}.{name}{suffix}"), element(field), text);
    }
}

/// What a list or a map holds; else the schema itself.
fn element(schema: &JSONSchemaProps) -> &JSONSchemaProps {
    match (&schema.items, &schema.additional_properties) {
        (Some(JSONSchemaPropsOrArray::Schema(items)), _) => items,
        (_, Some(JSONSchemaPropsOrBool::Schema(values))) => values,
        _ => schema,
    }
}

fn has_section(schema: &JSONSchemaProps) -> bool {
    schema.properties.is_some()
}

fn messages(schema: &JSONSchemaProps) -> Vec<String> {
    let rules = schema.x_kubernetes_validations.iter().flatten();
    rules.filter_map(|rule| rule.message.as_deref()).map(line).collect()
}

/// The type in a word or two, with its bounds.
fn kind(schema: &JSONSchemaProps) -> String {
    if let Some(values) = &schema.enum_ {
        let values: Vec<String> = values.iter().map(|value| format!("`{}`", value.0)).collect();
        return values.join(", ").replace('"', "");
    }
    if schema.x_kubernetes_int_or_string == Some(true) {
        return "number or string".to_owned();
    }
    let inner = element(schema);
    match schema.type_.as_deref().unwrap_or("any") {
        "array" => {
            format!("list{} of {}", bounds(schema.min_items, schema.max_items, ""), kind(inner))
        }
        "object" if !std::ptr::eq(inner, schema) => {
            format!("map{} to {}", bounds(None, schema.max_properties, ""), kind(inner))
        }
        "string" => format!("string{}", bounds(schema.min_length, schema.max_length, " characters")),
        "integer" => {
            // Bounds of integers are whole; the schema keeps them as floats.
            let whole = |bound: Option<f64>| bound.map(|bound| bound as i64);
            format!("integer{}", bounds(whole(schema.minimum), whole(schema.maximum), ""))
        }
        other => other.to_owned(),
    }
}

fn bounds(least: Option<i64>, most: Option<i64>, of: &str) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!(" ({least} to {most}{of})"),
        (None, Some(most)) => format!(" (at most {most}{of})"),
        (Some(least), None) => format!(" (at least {least}{of})"),
        (None, None) => String::new(),
    }
}

/// Text as it fits into a cell of a table.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn committed_pages_are_what_the_types_say() {
        for crd in crate::api::crds() {
            let name = format!("docs/reference/{}.md", crd.spec.names.singular.clone().unwrap_or_default());
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
            expect_test::expect_file![path].assert_eq(&page(&crd));
        }
    }
}
