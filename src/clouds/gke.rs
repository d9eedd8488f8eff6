//! Google Kubernetes Engine: where a cluster is, and tokens for it.

use futures::future::BoxFuture;
use google_cloud_auth::credentials::{CacheableResource, Credentials, CredentialsProvider, EntityTag};
use google_cloud_auth::errors::CredentialsError;
use google_cloud_container_v1::client::ClusterManager;
use google_cloud_gax::error::Error;
use google_cloud_gax::options::RequestOptionsBuilder;
use google_cloud_gax::retry_policy::NeverRetry;
use http::{Extensions, HeaderMap, HeaderValue, header};

use super::eks::pem;
use super::google::Google;
use super::{Addresses, CloudError, Cluster, Found, Token};
use crate::api::cloudcluster::GkeAccess;
use crate::runtime::remote::{DEADLINE, RemoteError, within};

/// What is corrected where there is no such cluster.
pub(super) const NAME: &str = "correct gke.project, gke.location or gke.name";

/// A cluster of GKE.
pub struct Gke {
    pub(super) name: String,
    address: Option<String>,
    pub(super) compute: Option<String>,
    pub(super) google: Google,
}

/// A token as Google's client wants it.
#[derive(Debug)]
struct Shown(HeaderMap);

impl CredentialsProvider for Shown {
    async fn headers(&self, _: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        Ok(CacheableResource::New { entity_tag: EntityTag::new(), data: self.0.clone() })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

impl Gke {
    /// One that is entered with those tokens.
    pub fn new(access: &GkeAccess, google: Google, addresses: &Addresses) -> Self {
        let name =
            format!("projects/{}/locations/{}/clusters/{}", access.project, access.location, access.name);
        Self { name, address: addresses.gke.clone(), compute: addresses.compute.clone(), google }
    }

    fn failed(&self, error: RemoteError) -> CloudError {
        let right = "grant the account roles/container.clusterViewer in the project";
        CloudError::says(format!("GKE, asked for {}, says:", self.name), error, right, Some(NAME))
    }

    async fn client(&self) -> Result<ClusterManager, CloudError> {
        self.client_with(&self.google.token().await?).await
    }

    pub(super) async fn client_with(&self, token: &Token) -> Result<ClusterManager, CloudError> {
        let unusable = |message: String| CloudError::Credentials {
            message,
            remedy: "put other credentials into the Secret".to_owned(),
        };
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.value))
            .map_err(|_| unusable("Google's token is no header".to_owned()))?;
        value.set_sensitive(true);
        let shown = Shown(HeaderMap::from_iter([(header::AUTHORIZATION, value)]));
        let mut builder = ClusterManager::builder()
            .with_credentials(Credentials::from(shown))
            .with_retry_policy(NeverRetry);
        if let Some(address) = &self.address {
            builder = builder.with_endpoint(address);
        }
        builder.build().await.map_err(|_| unusable("Google's client cannot be made".to_owned()))
    }

    async fn get(&self) -> Result<Found, CloudError> {
        let client = self.client().await?;
        let call = client.get_cluster().set_name(&self.name).with_attempt_timeout(DEADLINE);
        let answer = within(DEADLINE, async { call.send().await.map_err(|error| of_google(&error)) });
        let cluster = answer.await.map_err(|error| self.failed(error))?;
        let unreadable = |words: &str| self.failed(RemoteError::unreadable(words));
        let version = cluster.current_master_version;
        if !cluster.endpoint.is_empty() {
            let data = cluster.master_auth.map(|auth| auth.cluster_ca_certificate).unwrap_or_default();
            let ca = pem(&data).filter(|ca| !ca.is_empty());
            let ca = ca.ok_or_else(|| unreadable("its certificate is no text in base64"))?;
            return Ok(Found { server: server(&cluster.endpoint), ca: Some(ca), version });
        }
        // A cluster that is reached by a name alone has a certificate of a public authority.
        let named = cluster.control_plane_endpoints_config.and_then(|config| config.dns_endpoint_config);
        match named.map(|named| named.endpoint).filter(|name| !name.is_empty()) {
            Some(name) => Ok(Found { server: server(&name), ca: None, version }),
            None => Err(unreadable("the cluster has no address yet")),
        }
    }
}

/// The address as a URL: GKE tells a host.
fn server(endpoint: &str) -> String {
    match endpoint.contains("://") {
        true => endpoint.to_owned(),
        false => format!("https://{endpoint}"),
    }
}

/// What an answer of Google's means.
pub(super) fn of_google(error: &Error) -> RemoteError {
    if error.is_timeout() || error.is_exhausted() {
        return RemoteError::NoAnswer(DEADLINE);
    }
    if let Some(code) = error.http_status_code() {
        if (200..300).contains(&code) {
            return RemoteError::unreadable("it broke off, or is of another form");
        }
        let headers = error.http_headers().cloned().unwrap_or_default();
        let words = error.status().map(|status| status.message.as_str()).unwrap_or_default();
        return RemoteError::of_status(code, &headers, words);
    }
    if error.is_deserialization() {
        return RemoteError::unreadable("it broke off, or is of another form");
    }
    RemoteError::of_connection(error)
}

impl Cluster for Gke {
    fn find(&self) -> BoxFuture<'_, Result<Found, CloudError>> {
        Box::pin(self.get())
    }

    fn token(&self) -> BoxFuture<'_, Result<Token, CloudError>> {
        Box::pin(self.google.token())
    }
}

#[cfg(test)]
#[path = "gke_tests.rs"]
mod tests;
