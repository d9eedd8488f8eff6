//! Objects of any kind in a namespace, as commands read them.

use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;

use super::api_error::words;

/// Objects of a kind cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {kind} in {place}: {}", words(.source))]
pub struct ReadError {
    /// What.
    kind: String,
    /// Where.
    place: String,
    /// Why.
    source: Box<kube::Error>,
}

impl ReadError {
    /// That reading this kind there has failed.
    pub fn of(kind: &str, namespace: &str) -> impl FnOnce(kube::Error) -> Self {
        let (kind, place) = (kind.to_owned(), format!("namespace {namespace}"));
        move |source| Self { kind, place, source: Box::new(source) }
    }

    /// That reading this kind in all namespaces has failed.
    pub fn everywhere(kind: &str) -> impl FnOnce(kube::Error) -> Self {
        let (kind, place) = (kind.to_owned(), "all namespaces".to_owned());
        move |source| Self { kind, place, source: Box::new(source) }
    }
}

/// All objects of a kind that a label selector chooses (an empty one chooses all); none where its API is not installed.
/// Each says what kind it is, which a list leaves out.
///
/// # Errors
/// If the API server refuses.
pub async fn list(
    client: &Client,
    namespace: &str,
    (group, version, kind): (&str, &str, &str),
    labels: &str,
) -> Result<Vec<DynamicObject>, ReadError> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    match api.list(&ListParams::default().labels(labels)).await {
        Ok(mut found) => {
            for object in &mut found.items {
                object.types = Some(kube::api::TypeMeta {
                    api_version: resource.api_version.clone(),
                    kind: kind.to_owned(),
                });
            }
            Ok(found.items)
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(source) => Err(ReadError::of(kind, namespace)(source)),
    }
}
