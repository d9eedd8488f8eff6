//! A gate through which each write of an operator to journals and Authorities goes: the API server asks it before it takes
//! one. So an operator is stopped exactly at its k-th write, and killed before or after that is taken.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use banyan::sandbox::install;
use banyan::sandbox::postgres::agents::{issuer, papers};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use kube::Client;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// How long a write is held at the most; the API server waits some seconds longer.
const HELD: Duration = Duration::from_secs(25);
/// Who an operator is in its own cloud, and in the other one.
const AT_HOME: &str = "system:serviceaccount:banyan-system:banyan";
const AS_PEER: &str = "banyan-peer";

/// A write, before the API server takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The cloud whose API server is asked.
    pub cloud: usize,
    /// `failovers`, `failovers/status` or `authorities`.
    pub what: String,
    /// The object.
    pub name: String,
    /// The version that it replaces; `None` where it is made.
    pub over: Option<String>,
    /// What it would be.
    pub object: Value,
    /// What it was.
    pub before: Value,
}

/// An operator that is stopped at one of its writes.
pub struct Caught {
    /// The write.
    pub write: Write,
    take: Option<oneshot::Sender<bool>>,
}

impl Caught {
    /// Has the API server take the write, if nobody was faster, or refuse it. The operator hears of it once it goes on.
    pub fn answer(&mut self, take: bool) {
        if let Some(answer) = self.take.take() {
            // Whoever asked may be gone.
            let _ = answer.send(take);
        }
    }
}

struct Trap {
    operator: usize,
    pid: u32,
    left: usize,
    is: Box<dyn Fn(&Write) -> bool + Send>,
    caught: oneshot::Sender<Caught>,
}

/// How late a write is answered.
type Late = Box<dyn Fn(&Write) -> Duration + Send>;

#[derive(Default)]
struct Seen {
    traps: Vec<Trap>,
    late: Option<Late>,
    writes: [Vec<Write>; 2],
}

/// The gate, until it is dropped.
pub struct Gate {
    seen: Arc<Mutex<Seen>>,
    task: AbortHandle,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Gate {
    /// Puts it before the API servers of both clouds.
    pub async fn before(admins: &[Client; 2]) -> Self {
        let issuer = issuer().expect("an issuer");
        let (certificate, key) = papers(&issuer).expect("papers");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let routes = Router::new().route("/{cloud}", post(asked)).with_state(Arc::clone(&seen));
        let task = tokio::spawn(serve(listener, tls(&certificate, &key), routes)).abort_handle();
        for (cloud, admin) in admins.iter().enumerate() {
            let asks = json!({"apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "gate"},
                "webhooks": [{"name": "gate.banyan.example", "admissionReviewVersions": ["v1"],
                    "sideEffects": "None", "failurePolicy": "Ignore", "timeoutSeconds": 30,
                    "clientConfig": {"url": format!("https://{address}/{cloud}"),
                        "caBundle": STANDARD.encode(issuer.pem())},
                    "rules": [{"apiGroups": ["banyan.dev"], "apiVersions": ["*"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["failovers", "failovers/status", "authorities"]}]}]});
            install::apply(admin, &[asks]).await.expect("it is taken");
        }
        Self { seen, task }
    }

    /// Stops the operator of a cloud, which has that process, at the `count`-th write from now that is such a one.
    pub fn trap(
        &self,
        operator: usize,
        pid: u32,
        count: usize,
        is: impl Fn(&Write) -> bool + Send + 'static,
    ) -> oneshot::Receiver<Caught> {
        let (caught, told) = oneshot::channel();
        let mut seen = lock(&self.seen);
        seen.traps.retain(|trap| trap.operator != operator);
        seen.traps.push(Trap { operator, pid, left: count, is: Box::new(is), caught });
        told
    }

    /// From now on writes are taken so late, as by an API server that is slow.
    pub fn slow(&self, late: impl Fn(&Write) -> Duration + Send + 'static) {
        lock(&self.seen).late = Some(Box::new(late));
    }

    /// Nobody is stopped any more, and nothing is late.
    pub fn open(&self) {
        let mut seen = lock(&self.seen);
        seen.traps.clear();
        seen.late = None;
    }

    /// What the operator of a cloud has written since this was last called.
    pub fn take(&self, operator: usize) -> Vec<Write> {
        std::mem::take(&mut lock(&self.seen).writes[operator])
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("nobody panics while it is held")
}

fn tls(certificate: &str, key: &str) -> rustls::ServerConfig {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let made = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let made = made.expect("versions").with_no_client_auth();
    made.with_single_cert(chain.expect("a certificate"), key).expect("a certificate with its key")
}

async fn serve(listener: TcpListener, tls: rustls::ServerConfig, routes: Router) {
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (tls, routes) = (tls.clone(), routes.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = TowerToHyperService::new(routes);
            // How a connection ends is the API server's affair.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Which cloud's operator writes: at home by its own name, in the other cloud as a peer.
fn operator(cloud: usize, user: &str) -> Option<usize> {
    match user {
        AT_HOME => Some(cloud),
        AS_PEER => Some(1 - cloud),
        _ => None,
    }
}

fn read(cloud: usize, request: &Value) -> Write {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut what = text(&request["resource"]["resource"]);
    if let Some(part) = request["subResource"].as_str().filter(|part| !part.is_empty()) {
        what.push_str(&format!("/{part}"));
    }
    let over = request["oldObject"]["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    let (object, before) = (request["object"].clone(), request["oldObject"].clone());
    Write { cloud, what, name: text(&request["name"]), over, object, before }
}

async fn asked(
    State(seen): State<Arc<Mutex<Seen>>>,
    Path(cloud): Path<usize>,
    Json(review): Json<Value>,
) -> Json<Value> {
    let request = &review["request"];
    let user = request["userInfo"]["username"].as_str().unwrap_or_default();
    let mut take = true;
    if let Some(operator) = operator(cloud, user) {
        let write = read(cloud, request);
        let late = lock(&seen).late.as_ref().map(|late| late(&write));
        tokio::time::sleep(late.unwrap_or_default()).await;
        let trap = count(&mut lock(&seen), operator, &write);
        if let Some(trap) = trap {
            stop(trap.pid).await;
            let (answer, told) = oneshot::channel();
            let caught = Caught { write, take: Some(answer) };
            if trap.caught.send(caught).is_ok() {
                take = matches!(tokio::time::timeout(HELD, told).await, Ok(Ok(true)));
            }
        }
    }
    let status = json!({"code": 409, "message": "the gate is shut"});
    let mut response = json!({"uid": request["uid"], "allowed": take});
    if !take {
        response["status"] = status;
    }
    Json(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

/// Counts a write; the trap, if that was the one.
fn count(seen: &mut Seen, operator: usize, write: &Write) -> Option<Trap> {
    seen.writes[operator].push(write.clone());
    let place = seen.traps.iter().position(|trap| trap.operator == operator && (trap.is)(write))?;
    seen.traps[place].left -= 1;
    (seen.traps[place].left == 0).then(|| seen.traps.remove(place))
}

/// Stops a process, and waits until it stands still.
async fn stop(pid: u32) {
    signal(pid, "STOP");
    let stands = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
        state.is_none_or(|state| state == "T" || state == "Z")
    };
    for _ in 0..500 {
        if stands() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("process {pid} does not stop");
}

/// Whether the Authority of a group is being committed in that cloud.
pub fn commits(group: &'static str, place: usize) -> impl Fn(&Write) -> bool {
    let epoch = |object: &Value| object["spec"]["epoch"].as_i64();
    move |write| {
        (write.what.as_str(), write.name.as_str(), write.cloud) == ("authorities", group, place)
            && epoch(&write.object) > epoch(&write.before)
    }
}

/// Whether the claim of that cloud is being left to the witness.
pub fn asks_the_witness(group: &'static str, place: usize) -> impl Fn(&Write) -> bool {
    let committing = |object: &Value| {
        let claims = object["spec"]["claims"].as_array().cloned().unwrap_or_default();
        claims.iter().any(|claim| claim["state"] == "Committing" && claim["failover"].is_string())
    };
    move |write| {
        (write.what.as_str(), write.name.as_str(), write.cloud) == ("authorities", group, place)
            && committing(&write.object)
            && !committing(&write.before)
    }
}

/// Sends a process a signal.
pub fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {pid}");
}
