//! A gateway with TLS, as the other site has it.

use std::convert::Infallible;

use axum::body::Bytes;
use futures::stream;
use http::HeaderMap;
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::server::conn::auto::Builder;
use kube::api::DynamicObject;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Says in headers how it was asked, and ends its answer as gRPC does.
async fn answer(request: http::Request<Incoming>) -> Result<http::Response<Body>, Infallible> {
    let header =
        |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-");
    let authority = request.uri().authority().map_or("-", http::uri::Authority::as_str);
    let asked =
        format!("{:?} {} {} te={}", request.version(), authority, header(header::HOST), header(header::TE));
    let kept = header(HeaderName::from_static("x-of-user")).to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames: [Result<Frame<Bytes>, Infallible>; 2] =
        [Ok(Frame::data(body)), Ok(Frame::trailers(trailers))];
    let response = http::Response::builder()
        .header("x-asked", asked)
        .header("x-kept", kept)
        .header("connection", "close");
    Ok(response.body(Body::new(StreamBody::new(stream::iter(frames)))).unwrap_or_default())
}

/// A gateway that is known by that certificate, and a client that trusts whoever issued it.
async fn gateway(versions: &[&[u8]]) -> (u16, rustls::ClientConfig) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an issuer");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &ca).expect("a certificate").pem();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("a key");
    let mut tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("TLS");
    tls.alpn_protocols = versions.iter().map(|version| version.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                // How a connection ends is the client's affair.
                let _ = Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await;
            });
        }
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).expect("a certificate")).expect("a root");
    (port, rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// A book by which `elsewhere` has authority, and its gateway is there.
fn book(gateway: &str) -> Arc<Mutex<Book>> {
    let object = |value| serde_json::from_value::<DynamicObject>(value).expect("an object");
    let mut book = Book::new("here");
    let spec = json!({"sites": ["here", "elsewhere"], "traffic": {"hosts": ["api.example"]}});
    book.group("pay", &object(json!({"metadata": {}, "spec": spec})));
    book.site("elsewhere", &object(json!({"metadata": {}, "spec": {"gateway": {"address": gateway}}})));
    let spec = json!({"epoch": 33, "follows": 16, "holders": ["elsewhere"], "promoted": 33});
    assert!(book.authority("pay", &object(json!({"metadata": {"name": "pay"}, "spec": spec}))));
    Arc::new(Mutex::new(book))
}

fn call(version: Version) -> Request {
    let request = http::Request::post("/pay.v1.Ledger/Post?x=1").version(version).header("te", "trailers");
    let request = match version {
        Version::HTTP_2 => request.uri("http://api.example/pay.v1.Ledger/Post?x=1"),
        _ => request.header("host", "api.example").header("connection", "x-hop").header("x-hop", "1"),
    };
    request.header("x-of-user", "mia").body(Body::from("ping")).expect("a request")
}

#[tokio::test]
async fn a_call_is_sent_on_whole_in_the_version_that_the_other_gateway_speaks() {
    for (versions, asked) in [
        (&[b"h2".as_slice(), b"http/1.1"][..], "HTTP/2.0 api.example - te=trailers"),
        (&[b"http/1.1".as_slice()][..], "HTTP/1.1 - api.example te=trailers"),
    ] {
        let (port, tls) = gateway(versions).await;
        let forwarder = Forwarder::over(tls, book(&format!("https://localhost:{port}")), Metrics::new());
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let response = forwarder.clone().answer(call(version)).await;
            let of = |name: &str| {
                response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
            };
            assert_eq!((of("x-asked").as_deref(), of("x-kept").as_deref()), (Some(asked), Some("mia")));
            assert_eq!(of("connection"), None, "that is of the connection there");
            let body = response.into_body().collect().await.expect("a body");
            let ended = body.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
            assert_eq!(body.to_bytes(), "ping");
            if versions.len() > 1 {
                assert_eq!(ended, Some(HeaderValue::from_static("0")));
            }
        }
        assert_eq!(forwarder.arrived()[0].forwarded, 2);
    }
}

#[tokio::test]
async fn what_cannot_be_sent_on_is_answered_with_when_to_come_again() {
    let (port, tls) = gateway(&[b"h2"]).await;
    let gateway = format!("https://localhost:{port}");
    let forwarder = Forwarder::over(tls.clone(), book(&gateway), Metrics::new());
    let said = async |forwarder: &Forwarder, request: Request| {
        let response = forwarder.clone().answer(request).await;
        let again = response.headers().get(header::RETRY_AFTER).cloned();
        let status = response.status().as_u16();
        let text = response.into_body().collect().await.expect("a body").to_bytes();
        (status, again.is_some(), String::from_utf8_lossy(&text).into_owned())
    };
    let with = |name: &'static str, value: &'static str| {
        let mut request = call(Version::HTTP_11);
        request.headers_mut().insert(name, HeaderValue::from_static(value));
        request
    };
    for (request, why) in [
        (with("x-banyan-answer", "here"), "sent on once already"),
        (with("upgrade", "websocket"), "connect anew"),
    ] {
        let (status, again, text) = said(&forwarder, request).await;
        assert_eq!((status, again), (503, true), "{text}");
        assert!(text.contains(why), "{text}");
    }
    let (status, _, text) = said(&forwarder, with("host", "other.example")).await;
    assert_eq!((status, text.contains("traffic.hosts")), (404, true), "{text}");
    // One whose certificate is for another name.
    let other = Forwarder::over(tls, book(&format!("https://127.0.0.1:{port}")), Metrics::new());
    let (status, again, text) = said(&other, call(Version::HTTP_11)).await;
    assert_eq!((status, again), (503, true), "{text}");
    assert!(text.contains("its certificate is not for that name"), "{text}");
    assert_eq!((forwarder.arrived()[0].failed, other.arrived()[0].failed), (2, 1));
}
