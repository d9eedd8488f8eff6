//! The client of a peer's API server: from a kubeconfig, or with a token that is read anew for each request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, StatusCode, header};
use kube::client::{Body, ClientBuilder};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use tower::{BoxError, Layer, Service};

use super::kubeconfig;
use super::peer_error::{NoAnswer, NoToken, PeerError};
use crate::clouds::tokens::Bearer;
use crate::runtime::client::USER_AGENT;
use crate::runtime::remote::DEADLINE;

/// A client by a kubeconfig that came from a Secret.
///
/// # Errors
/// If it cannot be used, or asks for what is refused.
pub async fn by_kubeconfig(text: &[u8]) -> Result<Client, PeerError> {
    let checked = kubeconfig::check(text)?;
    let wrong = |what: String| PeerError::Kubeconfig {
        message: format!("the kubeconfig cannot be used: {what}"),
        remedy: "correct its certificates and credentials".to_owned(),
    };
    let config = Config::from_custom_kubeconfig(checked, &KubeConfigOptions::default())
        .await
        .map_err(|error| wrong(error.to_string()))?;
    client(config, None).map_err(|error| wrong(error.to_string()))
}

/// A client that shows a token.
///
/// # Errors
/// If the address is no URL, or the certificates are none.
pub fn by_token(server: &str, ca: Option<&str>, bearer: Bearer) -> Result<Client, String> {
    let mut config = Config::new(server.parse().map_err(|_| format!("its address {server:?} is no URL"))?);
    if let Some(ca) = ca {
        let certificates = certificates(ca).ok_or("its certificates are none in PEM")?;
        config.root_cert = Some(certificates);
    }
    client(config, Some(bearer)).map_err(|error| error.to_string())
}

/// The certificates in a text, in DER; `None` if there are none, or one is broken.
fn certificates(pem: &str) -> Option<Vec<Vec<u8>>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let read = CertificateDer::pem_slice_iter(pem.as_bytes()).map(|der| Some(der.ok()?.to_vec()));
    read.collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())
}

fn client(mut config: Config, bearer: Option<Bearer>) -> Result<Client, kube::Error> {
    // The next round is the retry.
    config.default_retry = false;
    config.connect_timeout = Some(DEADLINE);
    // Variables of our own process are not the peer's.
    config.proxy_url = None;
    Ok(ClientBuilder::try_from(config)?.with_layer(&Guarded { bearer }).build())
}

/// Sets the deadline of each request for the beginning of its answer, and shows the token, where there is one.
#[derive(Clone)]
struct Guarded {
    bearer: Option<Bearer>,
}

impl<S> Layer<S> for Guarded {
    type Service = GuardedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GuardedService { inner, bearer: self.bearer.clone() }
    }
}

#[derive(Clone)]
struct GuardedService<S> {
    inner: S,
    bearer: Option<Bearer>,
}

impl<S, B> Service<Request<Body>> for GuardedService<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if let Some(bearer) = &self.bearer {
            let Some(header) = bearer.header() else { return Box::pin(async { Err(NoToken.into()) }) };
            request.headers_mut().insert(header::AUTHORIZATION, header);
        }
        let (answer, bearer) = (self.inner.call(request), self.bearer.clone());
        Box::pin(async move {
            let answer =
                tokio::time::timeout(DEADLINE, answer).await.map_err(|_| NoAnswer)?.map_err(Into::into)?;
            if let Some(bearer) = bearer.filter(|_| answer.status() == StatusCode::UNAUTHORIZED) {
                bearer.refused();
            }
            Ok(answer)
        })
    }
}
