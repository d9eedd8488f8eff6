//! What lies in Secrets of the operator's own namespace, for the ways to peers.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::peer_error::PeerError;
use crate::runtime::remote::{DEADLINE, RemoteError, within};

/// What lies in a Secret, by key. It has no `Debug`, so that nothing shows it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Kept(BTreeMap<String, Vec<u8>>);

impl Kept {
    /// Some of it as text, without white space around it; `None` if there is none, or it is no text.
    pub fn text(&self, key: &str) -> Option<&str> {
        let text = std::str::from_utf8(self.0.get(key)?).ok()?.trim();
        Some(text).filter(|text| !text.is_empty())
    }

    /// Some of it as it is.
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.0.get(key).map(Vec::as_slice)
    }
}

/// Reads Secrets. Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    /// The API server of this cluster.
    pub client: Client,
    /// The operator's own namespace.
    pub namespace: Arc<str>,
}

impl Secrets {
    /// Reads a Secret that must have those keys; `what` is what is kept there.
    ///
    /// # Errors
    /// If it or a key is missing, or this cluster's own API server gives no answer.
    pub async fn read(&self, name: &str, keys: &[&str], what: &str) -> Result<Kept, PeerError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let asked = async { Ok(api.get_opt(name).await) };
        let words = match within(DEADLINE, asked).await {
            Ok(Ok(found)) => return self.take(found, name, keys, what),
            Ok(Err(kube::Error::Api(status))) => {
                format!("the Secret {name} cannot be read ({}): {}", status.code, status.message)
            }
            Ok(Err(_)) => format!("the Secret {name} cannot be read"),
            Err(error @ RemoteError::NoAnswer(_)) => format!("the Secret {name}: {error}"),
            Err(_) => format!("the Secret {name} cannot be read"),
        };
        Err(PeerError::Own(words))
    }

    fn take(&self, found: Option<Secret>, name: &str, keys: &[&str], what: &str) -> Result<Kept, PeerError> {
        let namespace = &self.namespace;
        let absent = |missing: String| PeerError::NoSecret { missing, what: what.to_owned() };
        let secret = found.ok_or_else(|| absent(format!("Secret {name} in namespace {namespace}")))?;
        let data = secret.data.unwrap_or_default();
        if let Some(key) = keys.iter().find(|key| !data.contains_key(**key)) {
            return Err(absent(format!("key {key} in Secret {name} in namespace {namespace}")));
        }
        Ok(Kept(data.into_iter().map(|(key, value)| (key, value.0)).collect()))
    }
}
