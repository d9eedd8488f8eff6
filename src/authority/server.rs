//! `banyan authority`: answers `/authority/GROUP` for load balancers and their health checks.
//!
//! It is a Deployment of its own, without a leader: an operator that is away, crashes or is upgraded moves no traffic. It
//! answers from what it knew last, also while its API server is away. Before it knows anything it is not Ready.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::future::join_all;
use http::{StatusCode, header};
use kube::Client;
use kube::api::DynamicObject;
use tokio::net::TcpListener;
use tokio::sync::{Mutex as Turn, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::book::{Application, Book};
use super::forward::Forwarder;
use super::residual::Arrived;
use crate::api::{Authority, CloudCluster, FailoverGroup};
use crate::runtime::fetch::{is_well, whole};
use crate::runtime::follow::{Change, follow_kind};
use crate::runtime::http as web;
use crate::runtime::key::{Key, key_of};
use crate::runtime::lock::lock;
use crate::runtime::metrics::Metrics;
use crate::runtime::permits::Permits;
use crate::runtime::raw_object::RawObject;
use crate::runtime::remote::{RemoteError, within};

/// How often other sites are asked, by a site that would say that traffic is to come there. Health checks take some ten
/// seconds to believe an answer; asking more often would make none of them sooner.
const PEERS_EVERY: Duration = Duration::from_secs(10);
/// How long another site, and the application, may take. Cloudflare's and Route 53's checks wait 5 s and 4 s by default.
const DEADLINE: Duration = Duration::from_secs(2);
/// For how long an answer of the application stands: health checks come from many places at once.
const APPLICATION_STANDS: Duration = Duration::from_secs(2);
/// How long it goes on answering after the word to end, so that nobody is sent here meanwhile.
const LINGER: Duration = Duration::from_secs(3);
/// Up to so many bytes of another site's answer are read.
const LONGEST: usize = 256 * 1024;

/// What is said before it knows.
const NOT_READY: &str = "Authorities have not been read yet, or the other sites have not been asked\n";

type Checked = Arc<Turn<Option<(Instant, Result<(), String>)>>>;

/// What it answers from. Cheap to clone.
#[derive(Clone)]
struct Desk {
    book: Arc<Mutex<Book>>,
    http: reqwest::Client,
    forwarder: Forwarder,
    applications: Arc<Mutex<BTreeMap<String, Checked>>>,
    ready: watch::Receiver<bool>,
    shutdown: CancellationToken,
}

/// Where it is asked.
#[derive(Debug)]
pub struct Listeners {
    /// For health checks, other sites, and whoever scrapes it.
    pub answers: TcpListener,
    /// For requests of users that are to be sent on.
    pub forward: TcpListener,
}

/// Answers until `shutdown`. Authorities, groups and sites are those in `namespace`.
///
/// # Errors
/// If a listener fails.
pub async fn run(
    client: Client,
    site: &str,
    namespace: &str,
    listeners: Listeners,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let book = Arc::new(Mutex::new(Book::new(site)));
    let forwarder = Forwarder::new(Arc::clone(&book), metrics.clone())?;
    let http = reqwest::Client::builder()
        .timeout(DEADLINE)
        // An answer is about the site that was asked, and not about one that it names.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(crate::runtime::client::USER_AGENT)
        .build()
        .map_err(std::io::Error::other)?;
    let (knows, known) = watch::channel(false);
    let (asked, ready) = watch::channel(false);
    let desk =
        Desk { book, http, forwarder, applications: Arc::default(), ready, shutdown: shutdown.clone() };
    let ended = CancellationToken::new();
    let watched = tokio::spawn(read(client, namespace.to_owned(), Arc::clone(&desk.book), knows));
    let asking = tokio::spawn(ask_peers(desk.clone(), known, asked));
    let served = async {
        let answers = web::serve(listeners.answers, routes(desk.clone(), metrics), ended.clone());
        let forward = web::serve(listeners.forward, to_be_sent_on(desk), ended.clone());
        tokio::try_join!(answers, forward).map(drop)
    };
    let mut served = std::pin::pin!(served);
    let result = tokio::select! {
        result = &mut served => result,
        () = async { shutdown.cancelled().await; tokio::time::sleep(LINGER).await } => {
            ended.cancel();
            served.await
        }
    };
    watched.abort();
    asking.abort();
    result
}

/// Follows all that it needs to know, for ever. `knows` is told once all has been read.
async fn read(client: Client, namespace: String, book: Arc<Mutex<Book>>, knows: watch::Sender<bool>) {
    let authority = |book: &mut Book, name: &str, object: &DynamicObject| {
        if !book.authority(name, object) {
            tracing::warn!(group = name, "its Authority cannot be read; the last answer stands");
        }
    };
    let authorities = keep(&book, authority, Book::authority_gone, Book::only_authorities);
    let groups = keep(&book, Book::group, Book::group_gone, Book::only_groups);
    let sites = keep(&book, Book::site, Book::site_gone, Book::only_sites);
    let (client, namespace, permits) = (&client, Some(namespace.as_str()), &Permits::new(1));
    let [(one, read_one), (two, read_two), (three, read_three)] = [(); 3].map(|()| oneshot::channel());
    let all_read = async {
        if let (Ok(()), Ok(()), Ok(())) = tokio::join!(read_one, read_two, read_three) {
            knows.send_replace(true);
        }
    };
    tokio::join!(
        follow_kind::<Authority>(client, namespace, permits, "authorities", one, authorities),
        follow_kind::<FailoverGroup>(client, namespace, permits, "failovergroups", two, groups),
        follow_kind::<CloudCluster>(client, namespace, permits, "cloudclusters", three, sites),
        all_read,
    );
}

/// Passes changes on to the book.
fn keep(
    book: &Arc<Mutex<Book>>,
    is: impl Fn(&mut Book, &str, &DynamicObject) + Send + 'static,
    gone: impl Fn(&mut Book, &str) + Send + 'static,
    only: impl Fn(&mut Book, &HashSet<Key>) + Send + 'static,
) -> impl FnMut(Change<RawObject>) + Send + 'static {
    let book = Arc::clone(book);
    move |change| {
        let mut book = lock(&book);
        match change {
            Change::Is(RawObject(object)) => is(&mut book, &key_of(&object.metadata).name, &object),
            Change::Gone(object) => gone(&mut book, &key_of(&object.0.metadata).name),
            Change::Relisted(seen) => only(&mut book, &seen),
        }
    }
}

fn routes(desk: Desk, metrics: Metrics) -> Router {
    authority()
        .route("/residual", get(arrived))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(desk)
        .route("/metrics", web::metrics(metrics))
}

/// What is asked of this site is never sent on: another one would answer for it.
fn to_be_sent_on(desk: Desk) -> Router {
    let forwarder = desk.forwarder.clone();
    authority().with_state(desk).fallback(|request: Request| forwarder.answer(request))
}

fn authority() -> Router<Desk> {
    Router::new().route("/authority", get(all)).route("/authority/{group}", get(one))
}

async fn arrived(State(desk): State<Desk>) -> Json<Vec<Arrived>> {
    Json(desk.forwarder.arrived())
}

async fn ready(State(desk): State<Desk>) -> (StatusCode, &'static str) {
    if desk.shutdown.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
    } else if *desk.ready.borrow() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, NOT_READY)
    }
}

async fn all(State(desk): State<Desk>) -> Json<Vec<Answer>> {
    let all = lock(&desk.book).all();
    Json(all)
}

async fn one(State(desk): State<Desk>, Path(group): Path<String>) -> Response {
    let is_ready = *desk.ready.borrow();
    let known = lock(&desk.book).answer(&group, None).filter(|_| is_ready);
    let Some(known) = known else {
        return if is_ready {
            let words =
                format!("there is no Authority {group} at this site; create the FailoverGroup {group}\n");
            (StatusCode::NOT_FOUND, words).into_response()
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, NOT_READY).into_response()
        };
    };
    let application = lock(&desk.book).application(&group).filter(|_| known.active);
    let said = match application {
        None => known,
        Some(application) => {
            let checked = desk.check(&group, &application).await;
            // What is known may have changed meanwhile.
            lock(&desk.book).answer(&group, Some(&checked)).unwrap_or(known)
        }
    };
    let status = if said.active { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // Whoever is told to go elsewhere is not to keep its connection here.
    let connection = if said.active { "keep-alive" } else { "close" };
    let headers = [(header::CACHE_CONTROL, "no-store"), (header::CONNECTION, connection)];
    (status, headers, Json(said)).into_response()
}

impl Desk {
    /// Asks the application of a group, one request at a time; an answer stands for two seconds.
    async fn check(&self, group: &str, application: &Application) -> Result<(), String> {
        let turn = Arc::clone(lock(&self.applications).entry(group.to_owned()).or_default());
        let mut last = turn.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < APPLICATION_STANDS
        {
            return answer.clone();
        }
        let asked = within(DEADLINE, is_well(application.request(&self.http, reqwest::Method::GET)));
        let answer = asked.await.map_err(|error| error.to_string());
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

/// Asks the other sites, as long as this one would say that traffic is to come here.
///
/// The first time that is before anything is said: a site that returns may have lost authority while it was away, and its own
/// Authority says the old. `asked` is told then.
async fn ask_peers(desk: Desk, mut known: watch::Receiver<bool>, asked: watch::Sender<bool>) {
    if known.wait_for(|known| *known).await.is_err() {
        return;
    }
    loop {
        let whom = lock(&desk.book).whom_to_ask();
        let answers = join_all(whom.iter().map(|(_, gateway)| ask(&desk.http, gateway))).await;
        for ((site, _), answer) in whom.into_iter().zip(answers) {
            match answer {
                Ok(answers) => lock(&desk.book).peer(&site, answers),
                Err(error) => tracing::debug!(site, %error, "its /authority does not answer"),
            }
        }
        asked.send_replace(true);
        tokio::time::sleep(PEERS_EVERY).await;
    }
}

async fn ask(http: &reqwest::Client, gateway: &str) -> Result<Vec<Answer>, RemoteError> {
    within(DEADLINE, async {
        let text = whole(http.get(format!("{gateway}/authority")), LONGEST).await?.good()?;
        serde_json::from_slice(&text).map_err(|error| RemoteError::Unreadable(error.to_string()))
    })
    .await
}
