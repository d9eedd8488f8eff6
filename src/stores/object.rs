//! Objects of others that a store is steered by: read and patched with a deadline, and written only as they were read.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, header};
use http_body_util::{BodyExt, Limited};
use kube::api::{ApiResource, DynamicObject};
use kube::client::Body;
use kube::core::GroupVersionKind;
use kube::{Client, Resource};
use serde_json::{Value, json};

use super::{Ballot, StoreError};
use crate::runtime::remote::{DEADLINE, RemoteError, within};

/// Under which name a failover writes into objects of others.
pub const FAILOVER_MANAGER: &str = "banyan-failover";
/// Most bytes of an object: etcd takes no more than one and a half million.
const MOST_BYTES: usize = 4 << 20;
/// Annotation: the claim that wrote last into an object that a store is steered by.
pub const BALLOT_ANNOTATION: &str = "banyan.dev/ballot";

/// One object of a store, at one API server.
#[derive(Clone)]
pub struct Object {
    client: Client,
    resource: Arc<ApiResource>,
    namespace: String,
    name: String,
    deadline: Duration,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.resource.kind, self.namespace, self.name)
    }
}

impl Object {
    /// The object of that kind and name, asked for over `client`.
    pub fn new(client: Client, kind: &GroupVersionKind, plural: &str, namespace: &str, name: &str) -> Self {
        let resource = Arc::new(ApiResource::from_gvk_with_plural(kind, plural));
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Self { client, resource, namespace, name, deadline: DEADLINE }
    }

    /// With another deadline for each call.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    fn url(&self) -> String {
        let url = DynamicObject::url_path(&self.resource, Some(&self.namespace));
        format!("{url}/{}", self.name)
    }

    /// The object as it stands.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn read(&self) -> Result<DynamicObject, StoreError> {
        let request = Request::get(self.url()).body(Vec::new()).map_err(no_request)?;
        self.send(request).await
    }

    /// Changes the object by a JSON patch if it still is as it was read, and answers with what it is then.
    ///
    /// # Errors
    /// [`RemoteError::Conflict`] if it was changed since; what else came of it. Where it may have been done all the same,
    /// reading tells.
    pub async fn change(
        &self,
        read: &DynamicObject,
        changes: Vec<Value>,
    ) -> Result<DynamicObject, StoreError> {
        let Some(version) = &read.metadata.resource_version else {
            return Err(RemoteError::Unreadable("the object has no resourceVersion".to_owned()).into());
        };
        // Given in the patch, the API server itself refuses what was made of an older object.
        let mut patch = vec![json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version})];
        patch.extend(changes);
        let body = serde_json::to_vec(&patch).map_err(|error| RemoteError::Unreadable(error.to_string()))?;
        let request = Request::patch(format!("{}?fieldManager={FAILOVER_MANAGER}", self.url()))
            .header(header::CONTENT_TYPE, "application/json-patch+json")
            .body(body)
            .map_err(no_request)?;
        self.send(request).await
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<DynamicObject, StoreError> {
        Ok(within(self.deadline, self.asked(request.map(Body::from))).await?)
    }

    async fn asked(&self, request: Request<Body>) -> Result<DynamicObject, RemoteError> {
        // The status counts, not what the body says of it: the answer may be that of a proxy.
        let answer = self.client.send(request).await.map_err(|error| RemoteError::of_connection(&error))?;
        let (parts, body) = answer.into_parts();
        let ended = |_| RemoteError::Unreadable("it ends too early, or is too long".to_owned());
        let body = Limited::new(body, MOST_BYTES).collect().await.map_err(ended)?.to_bytes();
        if !parts.status.is_success() {
            let status: Option<Value> = serde_json::from_slice(&body).ok();
            let words = status.as_ref().and_then(|status| status["message"].as_str()).unwrap_or_default();
            return Err(RemoteError::of_status(parts.status.as_u16(), &parts.headers, words));
        }
        serde_json::from_slice(&body).map_err(|_| RemoteError::Unreadable("it is no such object".to_owned()))
    }
}

fn no_request(error: http::Error) -> RemoteError {
    RemoteError::Refused { code: 400, words: error.to_string() }
}

/// The claim that wrote last into the object; `None` if none has.
///
/// # Errors
/// If the annotation is no number: somebody else has written it, and nothing is written over it.
pub fn ballot(object: &DynamicObject) -> Result<Option<Ballot>, StoreError> {
    number(object, BALLOT_ANNOTATION)
}

/// A number in an annotation.
///
/// # Errors
/// If it is none.
pub fn number(object: &DynamicObject, annotation: &str) -> Result<Option<i64>, StoreError> {
    let Some(text) = object.metadata.annotations.as_ref().and_then(|all| all.get(annotation)) else {
        return Ok(None);
    };
    let number = text.parse().ok().filter(|number: &i64| *number >= 0);
    number
        .map(Some)
        .ok_or_else(|| RemoteError::Unreadable(format!("its annotation {annotation} is no number")).into())
}

/// The change of a JSON patch that sets an annotation.
pub fn annotated(object: &DynamicObject, set: &[(&str, Option<&str>)]) -> Vec<Value> {
    let now = object.metadata.annotations.clone().unwrap_or_default();
    let mut changes = Vec::new();
    if object.metadata.annotations.is_none() && set.iter().any(|(_, value)| value.is_some()) {
        changes.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    for (name, value) in set {
        let path = format!("/metadata/annotations/{}", name.replace('~', "~0").replace('/', "~1"));
        match value {
            Some(value) => changes.push(json!({"op": "add", "path": path, "value": value})),
            None if now.contains_key(*name) => changes.push(json!({"op": "remove", "path": path})),
            None => {}
        }
    }
    changes
}
