//! The operator's end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
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
        let answer = self.ask("GET", "/v1/status", Bytes::new()).await?;
        if answer.status() != http::StatusCode::OK {
            return Err(bad(&answer).into());
        }
        read(answer.body())
    }

    /// Gives an order, or asks how it fares: that is the same. It is given once; whoever gets no answer gives it again.
    ///
    /// # Errors
    /// If it is refused, or the agent cannot be asked.
    pub async fn order(&self, order: &Order) -> Result<Progress, StoreError> {
        let body = serde_json::to_vec(order)
            .map_err(|error| StoreError::from(RemoteError::Unreadable(error.to_string())))?;
        let answer = self.ask("POST", "/v1/orders", body.into()).await?;
        let code = answer.status().as_u16();
        // What is no refusal of an agent comes from somebody in between.
        let refusal = || serde_json::from_slice(answer.body()).ok();
        let refused = match code {
            200 => return read(answer.body()),
            400 | 409 => refusal(),
            _ => None,
        };
        Err(match refused {
            Some(Refusal::Greater { known }) => StoreError::Refused { asked: order.ballot, known },
            Some(Refusal::Busy { .. }) => RemoteError::Busy { after: None }.into(),
            Some(other) => RemoteError::Refused { code, words: other.to_string() }.into(),
            None => bad(&answer).into(),
        })
    }

    async fn ask(&self, method: &str, path: &str, body: Bytes) -> Result<Response<Bytes>, RemoteError> {
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
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, LONGEST).collect().await;
            let body = body.map_err(|error| RemoteError::Unreadable(error.to_string()))?.to_bytes();
            connection.abort();
            Ok(Response::from_parts(parts, body))
        })
        .await
    }
}

/// What an answer means that is none of what an agent answers.
fn bad(answer: &Response<Bytes>) -> RemoteError {
    RemoteError::of_status(answer.status().as_u16(), answer.headers(), "")
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(body).map_err(|error| RemoteError::Unreadable(error.to_string()).into())
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
