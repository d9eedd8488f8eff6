//! HTTPS; a client without a certificate of the CA is not heard.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, body::Bytes};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::work::Worker;
use super::{Order, Refusal};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Certificates in PEM.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err("it holds no certificate in PEM".to_owned()),
    }
}

/// A key in PEM. What is wrong with it is not said: it is secret.
pub(super) fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| "it holds no private key in PEM".to_owned())
}

/// Who issues the certificates that are believed.
pub(super) fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// What the server shows, and whom it believes.
///
/// # Errors
/// If one of them is not what it should be.
pub fn tls(certificate: &[u8], key_of_it: &[u8], client_ca: &[u8]) -> Result<rustls::ServerConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_ca)?), Arc::clone(&provider))
            .build()
            .map_err(|error| error.to_string())?;
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(clients)
        .with_single_cert(certificates(certificate)?, key(key_of_it)?)
        .map_err(|error| error.to_string())
}

/// What is asked and answered.
pub(super) fn routes(worker: Worker) -> Router {
    Router::new().route("/v1/status", get(status)).route("/v1/orders", post(order)).with_state(worker)
}

/// Serves until the process ends.
///
/// # Errors
/// If the address cannot be listened at.
pub async fn serve(listen: SocketAddr, tls: rustls::ServerConfig, worker: Worker) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("listening at {listen}: {error}");
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let routes = routes(worker);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor is left, say: that passes.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (acceptor, routes) = (acceptor.clone(), routes.clone());
        tokio::spawn(async move {
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else {
                return;
            };
            let service = TowerToHyperService::new(routes);
            // How a connection ends is the client's affair.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn json(code: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => (code, [("content-type", "application/json")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn status(Shared(worker): Shared<Worker>) -> Response {
    json(StatusCode::OK, &worker.status().await)
}

async fn order(Shared(worker): Shared<Worker>, body: Bytes) -> Response {
    let order: Order = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(error) => {
            let refusal = Refusal::Wrong { why: format!("it is no order: {error}") };
            return json(StatusCode::BAD_REQUEST, &refusal);
        }
    };
    match worker.take(order).await {
        Ok(progress) => json(StatusCode::OK, &progress),
        Err(refusal) => json(StatusCode::CONFLICT, &refusal),
    }
}
