//! The operator's end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::server::{certificates, key, roots};
use super::{Order, Progress, Refusal, Status};
use crate::runtime::remote::{DEADLINE, RemoteError, within};
use crate::stores::StoreError;

/// No answer of an agent is longer.
const LONGEST: usize = 64 * 1024;

/// An agent, and by what it knows us.
#[derive(Clone)]
pub struct Agent {
    host: String,
    port: u16,
    tls: Arc<rustls::ClientConfig>,
    deadline: Duration,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Agent {
    /// The agent at that host: our certificate and its key, and the CA by which we know the agent, all in PEM.
    ///
    /// # Errors
    /// If one of them is not what it should be.
    pub fn new(
        host: &str,
        port: u16,
        certificate: &[u8],
        key_of_it: &[u8],
        ca: &[u8],
    ) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots(ca)?)
            .with_client_auth_cert(certificates(certificate)?, key(key_of_it)?)
            .map_err(|error| error.to_string())?;
        Ok(Self { host: host.to_owned(), port, tls: Arc::new(tls), deadline: DEADLINE })
    }

    /// How the server stands.
    ///
    /// # Errors
    /// If the agent cannot be asked.
    pub async fn status(&self) -> Result<Status, StoreError> {
        let (code, body) = self.ask("GET", "/v1/status", Bytes::new()).await?;
        if code != 200 {
            return Err(RemoteError::of_status(code, &http::HeaderMap::new(), "").into());
        }
        read(&body)
    }

    /// Gives an order, or asks how it fares: that is the same.
    ///
    /// # Errors
    /// If it is refused, or the agent cannot be asked.
    pub async fn order(&self, order: &Order) -> Result<Progress, StoreError> {
        let body = serde_json::to_vec(order)
            .map_err(|error| StoreError::from(RemoteError::Unreadable(error.to_string())))?;
        let (code, body) = self.ask("POST", "/v1/orders", body.into()).await?;
        match code {
            200 => read(&body),
            400 | 409 => Err(match read(&body)? {
                Refusal::Greater { known } => StoreError::Refused { asked: order.ballot, known },
                Refusal::Busy { .. } => RemoteError::Busy { after: None }.into(),
                other => RemoteError::Refused { code, words: other.to_string() }.into(),
            }),
            _ => Err(RemoteError::of_status(code, &http::HeaderMap::new(), "").into()),
        }
    }

    async fn ask(&self, method: &str, path: &str, body: Bytes) -> Result<(u16, Bytes), RemoteError> {
        within(self.deadline, async {
            let broken = |error: &(dyn std::error::Error + 'static)| RemoteError::of_connection(error);
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|e| broken(&e))?;
            let name = ServerName::try_from(self.host.clone()).map_err(|e| broken(&e))?;
            let stream = TlsConnector::from(Arc::clone(&self.tls))
                .connect(name, stream)
                .await
                .map_err(|e| broken(&e))?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
            let connection = tokio::spawn(async move { drop(connection.await) });
            let request = http::Request::builder()
                .method(method)
                .uri(path)
                .header("host", self.host.as_str())
                .header("content-type", "application/json")
                .body(Full::new(body))
                .map_err(|e| broken(&e))?;
            let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
            let code = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), LONGEST).collect().await;
            let body = body.map_err(|error| RemoteError::Unreadable(error.to_string()))?.to_bytes();
            connection.abort();
            Ok((code, body))
        })
        .await
    }
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(body).map_err(|error| RemoteError::Unreadable(error.to_string()).into())
}
