//! What clouds put beside an API server: it is asked who shows a token (a webhook of `TokenReview`), and asks the cloud.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as With;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::{Value, json};

use super::eks::Aws;
use super::gke::Google;
use super::server::{Served, serve};
use crate::sandbox::credentials::PEER_USER;
use crate::sandbox::error::{Context, Result};

/// Whose tokens an API server accepts.
#[derive(Clone, Debug)]
pub enum Issuer {
    /// Those of AWS, for the cluster of that name.
    Eks(Aws, String),
    /// Google's.
    Gke(Google),
}

impl Issuer {
    /// Whose token it is; `None` if it is not to be let in.
    fn who(&self, token: &str) -> Option<String> {
        match self {
            Self::Eks(aws, cluster) => aws.authenticate(cluster, token),
            Self::Gke(google) => google.accepts(token).then(|| "a service account".to_owned()),
        }
    }
}

/// Serves the webhook for one API server.
///
/// # Errors
/// If no port can be had.
pub async fn review(issuer: Issuer) -> Result<Served> {
    serve(Router::new().route("/", post(answer)).with_state(Arc::new(issuer))).await
}

async fn answer(With(issuer): With<Arc<Issuer>>, body: Bytes) -> impl IntoResponse {
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let token = asked["spec"]["token"].as_str().unwrap_or_default();
    let status = match issuer.who(token) {
        Some(who) => json!({"authenticated": true, "user": {"username": PEER_USER, "extra": {"who": [who]}}}),
        None => json!({"authenticated": false, "error": "the token is not accepted, or has ended"}),
    };
    let answer = json!({"apiVersion": asked["apiVersion"], "kind": "TokenReview", "status": status});
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string())
}

/// The file by which an API server finds the webhook.
///
/// # Errors
/// When it cannot be written as YAML, which would be a defect.
pub fn config(url: &str) -> Result<String> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "cloud",
        "clusters": [{"name": "cloud", "cluster": {"server": format!("{url}/")}}],
        "users": [{"name": "cloud", "user": {}}],
        "contexts": [{"name": "cloud", "context": {"cluster": "cloud", "user": "cloud"}}],
    });
    serde_norway::to_string(&config).context(|| "writing the configuration of a webhook")
}

/// What an API server is told about the webhook. Nothing is kept, so that a token is refused once it has ended.
pub fn flags(path: &std::path::Path) -> [String; 3] {
    [
        format!("--authentication-token-webhook-config-file={}", path.display()),
        "--authentication-token-webhook-version=v1".to_owned(),
        "--authentication-token-webhook-cache-ttl=0s".to_owned(),
    ]
}
