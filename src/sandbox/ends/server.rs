//! An HTTP server on loopback that notes what it is asked, and misbehaves when it is told to.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tower::ServiceExt;

use super::super::error::{Context as _, Result};

/// What is asked: the method, the path with its query, and the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The body.
    pub body: Bytes,
}

/// How a request is answered instead of well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// With this status and that text, and nothing is done.
    Status(u16, String),
    /// With 429 and a `Retry-After` of so many seconds, and nothing is done.
    RetryAfter(u32),
    /// Never, and nothing is done.
    Silence,
    /// With half of the answer, after which the connection breaks. What was asked is done.
    HalfAnswer,
    /// Not at all: the connection breaks. What was asked is done.
    AnswerLost,
}

impl Fault {
    /// With this status and an empty object.
    pub fn status(code: u16) -> Self {
        Self::Status(code, "{}".to_owned())
    }

    /// One of each kind that a client must cope with.
    pub fn all() -> Vec<Self> {
        let codes = [401, 403, 404, 409, 500].map(Self::status);
        let others = [Self::RetryAfter(1), Self::Silence, Self::HalfAnswer, Self::AnswerLost];
        codes.into_iter().chain(others).collect()
    }
}

type Matches = Box<dyn Fn(&Asked) -> bool + Send>;

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    faults: Vec<(Matches, VecDeque<Fault>, Option<Fault>)>,
}

/// What such a server was asked, and how it is to misbehave. Cheap to clone.
#[derive(Clone, Default)]
pub struct Desk(Arc<Mutex<State>>);

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        // What is guarded is whole after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next requests that match are answered so, one fault each.
    pub fn next(
        &self,
        matches: impl Fn(&Asked) -> bool + Send + 'static,
        faults: impl IntoIterator<Item = Fault>,
    ) {
        self.state().faults.push((Box::new(matches), faults.into_iter().collect(), None));
    }

    /// All requests that match are answered so, until [`Self::behave`].
    pub fn always(&self, matches: impl Fn(&Asked) -> bool + Send + 'static, fault: Fault) {
        self.state().faults.push((Box::new(matches), VecDeque::new(), Some(fault)));
    }

    /// From now on all is answered well.
    pub fn behave(&self) {
        self.state().faults.clear();
    }

    /// What was asked since this was last called.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().asked)
    }

    fn hear(&self, asked: &Asked) -> Option<Fault> {
        let mut state = self.state();
        state.asked.push(asked.clone());
        let found = state.faults.iter_mut().filter(|(matches, ..)| matches(asked));
        found.filter_map(|(_, next, always)| next.pop_front().or_else(|| always.clone())).next()
    }
}

/// A server that runs until it is dropped.
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it was asked, and how it is to misbehave.
    pub desk: Desk,
    task: AbortHandle,
}

impl Served {
    /// Its address as a URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves `routes` at a free port of loopback.
///
/// # Errors
/// If no port can be had.
pub async fn serve(routes: Router) -> Result<Served> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context(|| "binding a port of 127.0.0.1")?;
    let address = listener.local_addr().context(|| "reading the address of a listener")?;
    let desk = Desk::default();
    let task = tokio::spawn(accept(listener, routes, desk.clone())).abort_handle();
    Ok(Served { address, desk, task })
}

async fn accept(listener: TcpListener, routes: Router, desk: Desk) {
    // Connections end with the server, as those of a process do.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (routes, desk) = (routes.clone(), desk.clone());
        connections.spawn(async move {
            let answer = service_fn(move |request| answer(request, routes.clone(), desk.clone()));
            // How a connection ends is the client's affair.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(request: Request<Incoming>, routes: Router, desk: Desk) -> io::Result<Response<Answer>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = parts.uri.path_and_query().map(|path| path.as_str().to_owned()).unwrap_or_default();
    let fault = desk.hear(&Asked { method: parts.method.clone(), path, body: body.clone() });
    let well = async |parts, body| {
        let answer = routes.oneshot(Request::from_parts(parts, Body::from(body))).await;
        answer.unwrap_or_else(|never| match never {})
    };
    let at_once = |code: u16, text: String| {
        let mut response = Response::new(Answer::Whole(Body::from(text)));
        *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let json = header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    };
    match fault {
        None => Ok(well(parts, body).await.map(Answer::Whole)),
        Some(Fault::Status(code, text)) => Ok(at_once(code, text)),
        Some(Fault::RetryAfter(seconds)) => {
            let mut response = at_once(429, "{}".to_owned());
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            Ok(response)
        }
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::AnswerLost) => {
            well(parts, body).await;
            Err(io::Error::other("the answer is lost"))
        }
        Some(Fault::HalfAnswer) => {
            let (parts, body) = well(parts, body).await.into_parts();
            let all = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let half = Answer::Half { sent: Some(all.slice(..all.len() / 2)), said: all.len().max(1) as u64 };
            Ok(Response::from_parts(parts, half))
        }
    }
}

/// The body of an answer.
enum Answer {
    /// All of it.
    Whole(Body),
    /// A part of it, and then an error that breaks the connection.
    Half {
        /// What is still to be sent.
        sent: Option<Bytes>,
        /// The length that was announced.
        said: u64,
    },
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Whole(body) => Pin::new(body).poll_frame(context).map_err(io::Error::other),
            Self::Half { sent, .. } => Poll::Ready(Some(match sent.take() {
                Some(bytes) => Ok(Frame::data(bytes)),
                None => Err(io::Error::other("half an answer")),
            })),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Half { said, .. } => SizeHint::with_exact(*said),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use axum::routing::post;

    use super::*;

    #[tokio::test]
    async fn each_fault_is_what_it_says() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let done = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&done);
        let routes = Router::new().route(
            "/do",
            post(async move || {
                count.fetch_add(1, Ordering::SeqCst);
                "well done"
            }),
        );
        let end = serve(routes).await.expect("a server");
        let client = reqwest::Client::new();
        let ask = async || {
            let answer =
                client.post(format!("{}/do", end.url())).timeout(Duration::from_millis(500)).send().await?;
            Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.text().await?))
        };
        assert_eq!(ask().await.expect("an answer"), (200, "well done".to_owned()));
        let mut expected = 1;
        for fault in Fault::all() {
            end.desk.next(|asked| asked.path == "/do", [fault.clone()]);
            let answer = ask().await;
            match fault {
                Fault::Status(code, _) => assert_eq!(answer.expect("an answer").0, code),
                Fault::RetryAfter(_) => assert_eq!(answer.expect("an answer").0, 429),
                Fault::Silence => assert!(answer.expect_err("silence").is_timeout()),
                Fault::HalfAnswer | Fault::AnswerLost => {
                    expected += 1;
                    assert!(!answer.expect_err("no whole answer").is_timeout());
                }
            }
            assert_eq!(done.load(Ordering::SeqCst), expected, "{fault:?}");
        }
        assert_eq!(end.desk.take().len(), 10);
        end.desk.always(|_| true, Fault::status(503));
        assert_eq!((ask().await.expect("an answer").0, ask().await.expect("an answer").0), (503, 503));
        end.desk.behave();
        assert_eq!(ask().await.expect("an answer").0, 200);
    }
}
