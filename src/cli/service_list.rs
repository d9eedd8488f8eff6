//! `banyan status` without a name: all FinServices of a namespace, a line for each.

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};

use super::objects::ReadError;
use crate::finservice::table::{Line, list};

/// The FinServices of a namespace, or of all, by namespace and name, however they are formed.
///
/// # Errors
/// If the API server refuses, or has no FinServices.
pub(super) async fn read(client: &Client, namespace: Option<&str>) -> Result<Vec<Line>, ReadError> {
    let kind = GroupVersionKind::gvk("banyan.dev", "v1alpha1", "FinService");
    let resource = ApiResource::from_gvk_with_plural(&kind, "finservices");
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let found = api.list(&ListParams::default()).await;
    let found = found.map_err(|source| match namespace {
        Some(namespace) => ReadError::of("FinServices", namespace)(source),
        None => ReadError::everywhere("FinServices")(source),
    })?;
    let mut lines: Vec<Line> = found.iter().map(Line::of).collect();
    lines.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    Ok(lines)
}

/// As people read them, on a terminal of that width; with namespaces where those of all are asked for.
pub(super) fn text(lines: &[Line], namespace: Option<&str>, width: Option<usize>) -> String {
    match (lines.is_empty(), namespace) {
        (true, Some(namespace)) => format!(
            "there is no FinService in namespace {namespace}; choose another with --namespace, or see all with `kubectl banyan status -A`\n"
        ),
        (true, None) => {
            "there is no FinService in any namespace; docs/first-service.md makes one\n".to_owned()
        }
        (false, _) => list(lines, namespace.is_none(), width),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_told_with_what_to_type() {
        assert!(text(&[], Some("pay"), None).contains("in namespace pay; choose another with --namespace"));
        assert!(text(&[], None, None).starts_with("there is no FinService in any namespace"));
        let line = Line { namespace: "pay".to_owned(), name: "app".to_owned(), ..Line::default() };
        let lines = [line];
        assert!(text(&lines, None, None).starts_with("NAMESPACE"));
        assert!(text(&lines, Some("pay"), None).starts_with("NAME "));
    }
}
