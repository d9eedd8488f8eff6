//! Requests at a steady rate, whatever becomes of them.
//!
//! The rate does not fall when answers are slow: callers in the world do not wait for each other either. What is
//! bounded is how many are under way; a request that would be one too many is left out and counted as such.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::answer::{EMPTY_MESSAGE, GRPC, GRPC_STATUS, POD_HEADER, RELEASE_HEADER};
use super::namespace::harmless;
use super::tally::Tally;
use crate::sandbox::error::{Context, Error, Result};

/// How often it is looked which requests are due.
const TICK: Duration = Duration::from_millis(2);
/// A connection that was idle for so long is not used again: the gateway may be about to close it.
const STALE: Duration = Duration::from_secs(20);

/// What is sent.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where to.
    pub target: SocketAddr,
    /// The header `host`.
    pub host: String,
    /// The path.
    pub path: String,
    /// More headers.
    pub headers: Vec<(String, String)>,
    /// Requests a second.
    pub rate: f64,
    /// How many may be under way at once.
    pub at_once: usize,
    /// How long one may take before it counts as broken.
    pub timeout: Duration,
    /// Whether calls of gRPC are sent, with an empty message each, all of them over one connection of HTTP/2. The path
    /// is `/<service>/<method>`. A call that fails counts as the HTTP status that gRPC's own mapping gives for it.
    pub grpc: bool,
}

impl LoadOptions {
    /// `GET /` at 200 requests a second, of which 200 may be under way, each for 10 s.
    pub fn to(target: SocketAddr, host: impl Into<String>) -> Self {
        Self {
            target,
            host: host.into(),
            path: "/".into(),
            headers: Vec::new(),
            rate: 200.0,
            at_once: 200,
            timeout: Duration::from_secs(10),
            grpc: false,
        }
    }

    /// The same as calls of a method, `/<service>/<method>`.
    pub fn calling(self, method: impl Into<String>) -> Self {
        Self { grpc: true, path: method.into(), ..self }
    }

    /// The same at another rate.
    pub fn at(self, rate: f64) -> Self {
        Self { rate, ..self }
    }
}

struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

struct Shared {
    options: LoadOptions,
    tally: Mutex<Tally>,
    // The last one back is the first to be used, so that few stay in use when the load is small.
    idle: Mutex<Vec<Idle>>,
    // The one connection of calls.
    calls: tokio::sync::Mutex<Option<http2::SendRequest<Full<Bytes>>>>,
    permits: Arc<Semaphore>,
    stopped: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole after every statement, so a panic elsewhere does no harm.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A load that goes on until it is stopped, or has sent what it was told; dropping it sends nothing more.
pub struct Load {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Load {
    /// Sends until it is stopped.
    ///
    /// # Errors
    /// When the target is neither a loopback address nor, in a network namespace, a pod's; when the rate is none.
    pub fn start(options: LoadOptions) -> Result<Self> {
        Self::begin(options, None)
    }

    /// Sends so many requests, at the rate or as fast as they are answered, and waits for all of them.
    ///
    /// # Errors
    /// As [`Load::start`].
    pub async fn exactly(options: LoadOptions, requests: u64) -> Result<Tally> {
        let mut load = Self::begin(options, Some(requests))?;
        (&mut load.task).await.context(|| "sending requests")?;
        load.stop().await
    }

    /// Sends for so long, and waits for the last answer.
    ///
    /// # Errors
    /// As [`Load::start`].
    pub async fn lasting(options: LoadOptions, time: Duration) -> Result<Tally> {
        let load = Self::start(options)?;
        tokio::time::sleep(time).await;
        load.stop().await
    }

    fn begin(options: LoadOptions, limit: Option<u64>) -> Result<Self> {
        if !harmless(options.target.ip()) {
            return Err(Error::new(format!(
                "no load is sent to {}: it is neither a loopback address nor, inside a network namespace, a pod's",
                options.target
            )));
        }
        if !(options.rate.is_finite() && options.rate > 0.0) || options.at_once == 0 {
            return Err(Error::new("a load needs a rate over zero, and at least one request under way"));
        }
        // Built once here, so that a header that is none is an error and not a load of broken requests.
        request(&options)?;
        let shared = Arc::new(Shared {
            permits: Arc::new(Semaphore::new(options.at_once)),
            options,
            tally: Mutex::default(),
            idle: Mutex::default(),
            calls: tokio::sync::Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let task = tokio::spawn(shared.clone().send(limit));
        Ok(Self { shared, task })
    }

    /// What has become of the requests so far. Those that are under way are sent and not yet answered.
    pub fn tally(&self) -> Tally {
        lock(&self.shared.tally).clone()
    }

    /// Sends no more, waits for what is under way, and says what became of all.
    ///
    /// # Errors
    /// When an answer takes longer than the time that each has, which would be a defect.
    pub async fn stop(self) -> Result<Tally> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let all = u32::try_from(self.shared.options.at_once).context(|| "counting requests")?;
        let limit = self.shared.options.timeout * 2 + Duration::from_secs(10);
        let permits = tokio::time::timeout(limit, self.shared.permits.acquire_many(all)).await;
        drop(permits.context(|| "waiting for the last answers")?.context(|| "waiting for the last answers")?);
        Ok(self.tally())
    }
}

impl Shared {
    async fn send(self: Arc<Self>, limit: Option<u64>) {
        let began = Instant::now();
        let mut done = 0u64;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let due = (began.elapsed().as_secs_f64() * self.options.rate) as u64;
            while done < due.min(limit.unwrap_or(u64::MAX)) {
                if self.stopped.load(Ordering::Relaxed) {
                    return;
                }
                done += 1;
                let permit = match limit {
                    // So many were asked for, so it waits until there is room.
                    Some(_) => self.permits.clone().acquire_owned().await,
                    None => match self.permits.clone().try_acquire_owned() {
                        Ok(permit) => Ok(permit),
                        Err(_) => {
                            lock(&self.tally).left_out += 1;
                            continue;
                        }
                    },
                };
                // The semaphore is closed by nobody.
                let Ok(permit) = permit else { return };
                lock(&self.tally).sent += 1;
                tokio::spawn(self.clone().one(permit));
            }
            if limit.is_some_and(|limit| done >= limit) || self.stopped.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    async fn one(self: Arc<Self>, permit: OwnedSemaphorePermit) {
        let began = Instant::now();
        let exchange = async { if self.options.grpc { self.call().await } else { self.exchange().await } };
        let outcome = tokio::time::timeout(self.options.timeout, exchange).await;
        let mut tally = lock(&self.tally);
        match outcome {
            Ok(Ok(head)) => {
                let header = |name| head.headers().get(name).and_then(|value| value.to_str().ok());
                let (release, pod) = (header(RELEASE_HEADER), header(POD_HEADER));
                let (release, pod) = (release.unwrap_or_default(), pod.unwrap_or_default());
                tally.answer(release, pod, head.status().as_u16(), began.elapsed());
            }
            Ok(Err(error)) => *tally.broken.entry(error.to_string()).or_default() += 1,
            Err(_) => *tally.broken.entry("no answer in time".into()).or_default() += 1,
        }
        drop(tally);
        // Only now, so that who holds all permits knows that all is counted.
        drop(permit);
    }

    /// Sends one request and reads its answer to the end.
    async fn exchange(&self) -> Result<Response<()>> {
        let mut request = request(&self.options)?;
        loop {
            let (mut sender, fresh) = match self.used() {
                Some(sender) => (sender, false),
                None => (self.connect().await?, true),
            };
            let answer = match sender.ready().await {
                Ok(()) => sender.try_send_request(request).await,
                // The gateway closed it while it was idle, and nothing was sent.
                Err(_) if !fresh => continue,
                Err(error) => return Err(error).context(|| "a new connection"),
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(mut error) => match error.take_message() {
                    // It was not sent, so it is no failure of the gateway's.
                    Some(unsent) if !fresh => {
                        request = unsent;
                        continue;
                    }
                    _ => return Err(error.into_error()).context(|| "sending"),
                },
            };
            let (head, body) = answer.into_parts();
            read(body).await?;
            lock(&self.idle).push(Idle { sender, since: Instant::now() });
            return Ok(Response::from_parts(head, ()));
        }
    }

    /// Sends one call and reads its answer to the end. The answer's HTTP status is what became of the call.
    async fn call(&self) -> Result<Response<()>> {
        let mut sender = {
            let mut calls = self.calls.lock().await;
            match calls.as_ref().filter(|sender| !sender.is_closed()) {
                Some(sender) => sender.clone(),
                None => {
                    let io = TokioIo::new(self.dial().await?);
                    let (sender, connection) =
                        http2::handshake(TokioExecutor::new(), io).await.context(|| "connecting")?;
                    tokio::spawn(connection);
                    calls.insert(sender).clone()
                }
            }
        };
        let answer = sender.send_request(request(&self.options)?).await.context(|| "sending")?;
        let (mut head, body) = answer.into_parts();
        let trailers = body.collect().await.context(|| "reading the answer")?.trailers().cloned();
        if head.status == StatusCode::OK {
            // A call that fails at once has no trailers: what became of it is in the header.
            let status = [trailers.as_ref(), Some(&head.headers)].into_iter().flatten().find_map(grpc_status);
            head.status = of_call(status);
        }
        Ok(Response::from_parts(head, ()))
    }

    /// A connection that was used before and is open still.
    fn used(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = lock(&self.idle);
        while let Some(last) = idle.pop() {
            if !last.sender.is_closed() && last.since.elapsed() < STALE {
                return Some(last.sender);
            }
        }
        None
    }

    async fn dial(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.options.target).await.context(|| "connecting")?;
        stream.set_nodelay(true).context(|| "connecting")?;
        Ok(stream)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = self.dial().await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.context(|| "connecting")?;
        // How it ends is seen by the request that is on it.
        tokio::spawn(connection);
        Ok(sender)
    }
}

async fn read(body: Incoming) -> Result<()> {
    body.collect().await.map(drop).context(|| "reading the answer")
}

fn request(options: &LoadOptions) -> Result<Request<Full<Bytes>>> {
    let mut request = if options.grpc {
        let uri = format!("http://{}{}", options.host, options.path);
        Request::post(uri).header("content-type", GRPC).header("te", "trailers")
    } else {
        Request::get(&options.path).header("host", &options.host)
    };
    for (name, value) in &options.headers {
        request = request.header(name, value);
    }
    let body = if options.grpc { Full::new(EMPTY_MESSAGE) } else { Full::default() };
    request.body(body).context(|| "building a request")
}

fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// The HTTP status for what became of a call: as `google.rpc.Code` says, as far as a server is at fault.
fn of_call(status: Option<u8>) -> StatusCode {
    match status {
        Some(0) => StatusCode::OK,
        Some(4) => StatusCode::GATEWAY_TIMEOUT,
        Some(12) => StatusCode::NOT_IMPLEMENTED,
        Some(14) => StatusCode::SERVICE_UNAVAILABLE,
        Some(2 | 13 | 15) | None => StatusCode::INTERNAL_SERVER_ERROR,
        Some(_) => StatusCode::BAD_REQUEST,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers 200 as release `a`.
    async fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    loop {
                        let mut seen = Vec::new();
                        while !seen.ends_with(b"\r\n\r\n") {
                            match stream.read_u8().await {
                                Ok(byte) => seen.push(byte),
                                Err(_) => return,
                            }
                        }
                        let answer =
                            "HTTP/1.1 200 OK\r\nx-release: a\r\nx-pod: p\r\ncontent-length: 2\r\n\r\nok";
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn so_many_are_sent_and_all_are_counted() {
        let options = LoadOptions::to(server().await, "a.example").at(5000.0);
        let tally = Load::exactly(options, 500).await.unwrap();
        assert_eq!((tally.sent, tally.failed(), tally.left_out), (500, 0, 0));
        assert_eq!((tally.of("a").total(), tally.pods["p"]), (500, 500));
    }

    #[tokio::test]
    async fn a_running_load_tells_and_stops() {
        let load = Load::start(LoadOptions::to(server().await, "a.example")).unwrap();
        while load.tally().answered() < 20 {
            tokio::time::sleep(TICK).await;
        }
        let tally = load.stop().await.unwrap();
        assert_eq!((tally.sent, tally.failed()), (tally.answered(), 0));
    }

    #[tokio::test]
    async fn who_is_refused_or_waits_in_vain_is_counted_as_broken() {
        // Bound and dropped: nobody listens there.
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let tally = Load::exactly(LoadOptions::to(nobody, "a.example"), 3).await.unwrap();
        assert_eq!((tally.answered(), tally.failed()), (0, 3));
        assert!(tally.broken.keys().all(|why| why.starts_with("connecting: ")), "{:?}", tally.broken);
        // It takes the connection, and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = LoadOptions {
            timeout: Duration::from_millis(20),
            ..LoadOptions::to(silent.local_addr().unwrap(), "a.example")
        };
        let tally = Load::exactly(options, 3).await.unwrap();
        assert_eq!(tally.broken["no answer in time"], 3);
    }

    #[tokio::test]
    async fn what_has_no_room_is_left_out() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = LoadOptions {
            at_once: 1,
            timeout: Duration::from_secs(60),
            ..LoadOptions::to(silent.local_addr().unwrap(), "a.example")
        };
        let load = Load::start(options).unwrap();
        while load.tally().left_out < 5 {
            tokio::time::sleep(TICK).await;
        }
        assert_eq!(load.tally().sent, 1);
    }

    #[tokio::test]
    async fn nothing_is_sent_to_others_or_at_no_rate() {
        let error = Load::start(LoadOptions::to("192.0.2.1:80".parse().unwrap(), "a.example")).err().unwrap();
        assert!(error.to_string().contains("no load is sent to 192.0.2.1:80"), "{error}");
        let options = LoadOptions::to("127.0.0.1:1".parse().unwrap(), "a.example");
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Load::start(options.clone().at(rate)).is_err(), "{rate}");
        }
        assert!(Load::start(LoadOptions { host: "a\nb".into(), ..options }).is_err());
    }
}
