//! One way to a peer: it is made, kept and tried at its own pace, so that a dead one delays no other.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connect;
use super::health::{Health, Thresholds};
use super::peer_error::PeerError;
use super::secrets::{Kept, Secrets};
use super::view::WayView;
use crate::api::cloudcluster::{Access, WayKind};
use crate::clouds::aws::AccessKey;
use crate::clouds::eks::Eks;
use crate::clouds::gke::Gke;
use crate::clouds::google::Google;
use crate::clouds::tokens::Tokens;
use crate::clouds::{Addresses, CloudError, Cluster, Found, HasNodes};
use crate::runtime::lock::lock;
use crate::runtime::remote::{DEADLINE, RemoteError};

/// How often what is asked. Each of it is a request to a peer or to a cloud, all the time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The way that is used is tried so often.
    pub used: Duration,
    /// Any other way is tried so often.
    pub other: Duration,
    /// A way that has just failed, or just recovered, is tried so often until that is believed.
    pub unsettled: Duration,
    /// A way is tried no more often than this, however often somebody asks for it.
    pub least: Duration,
    /// The Secret of a way that works is read so often, so that another one is used though the old one still works.
    pub secret: Duration,
    /// A cloud is asked so often where a cluster is, and in which version.
    pub found: Duration,
    /// The same where nobody answers: it may have moved.
    pub lost: Duration,
    /// The version of the API server is asked for so often.
    pub version: Duration,
    /// Nodes and pods are counted so often, and less often where counting takes long.
    pub nodes: Duration,
    /// How long something must last before it is believed.
    pub thresholds: Thresholds,
}

impl Default for Pace {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            used: seconds(10),
            other: seconds(30),
            unsettled: seconds(5),
            least: seconds(1),
            secret: seconds(30),
            found: seconds(6 * 3600),
            lost: seconds(60),
            version: seconds(600),
            nodes: seconds(60),
            thresholds: Thresholds::default(),
        }
    }
}

/// The keys of a Secret with credentials of AWS: its own variables' names.
const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION: &str = "AWS_SESSION_TOKEN";

/// What all ways share.
pub struct Ground {
    /// Secrets of this cluster.
    pub secrets: Secrets,
    /// Where the clouds' own APIs are.
    pub addresses: Addresses,
    /// How often what is asked.
    pub pace: Pace,
}

/// A way to a peer.
pub struct Way {
    /// What `spec.access` says of it.
    pub access: Access,
    /// What kind it is.
    pub kind: WayKind,
    cluster: String,
    ground: Arc<Ground>,
    state: Mutex<State>,
    wanted: Notify,
}

struct State {
    health: Health,
    client: Option<Client>,
    version: Option<String>,
}

/// What is kept between two rounds.
#[derive(Default)]
struct Connection {
    kept: Option<Kept>,
    read: Option<Instant>,
    made: Option<Made>,
    version: Option<Instant>,
    error: Option<PeerError>,
}

enum Made {
    Kubeconfig(Client),
    Cloud(InCloud),
}

/// A cluster in a cloud.
struct InCloud {
    cluster: Arc<dyn Cluster>,
    tokens: Tokens,
    found: Option<(Found, Client, Instant)>,
    asked: Option<Instant>,
}

impl Way {
    /// One that has not been tried; `None` where this version does not know the kind.
    pub fn new(cluster: &str, access: Access, ground: Arc<Ground>) -> Option<Self> {
        let kind = access.kind()?;
        let health = Health::new(Instant::now().into_std(), Timestamp::now());
        let state = Mutex::new(State { health, client: None, version: None });
        Some(Self { access, kind, cluster: cluster.to_owned(), ground, state, wanted: Notify::new() })
    }

    /// The client, if the way could be made.
    pub fn client(&self) -> Option<Client> {
        lock(&self.state).client.clone()
    }

    /// What others are told of it.
    pub fn view(&self) -> WayView {
        let state = lock(&self.state);
        let health = &state.health;
        let why = match health.reachable() {
            Some(false) => health.why().clone(),
            _ => PeerError::NotYet,
        };
        WayView { kind: self.kind, reachable: health.reachable(), since: health.since(), why }
    }

    /// For how long it has been answering well; `None` if it did not when it was last tried.
    pub fn well_for(&self) -> Option<Duration> {
        lock(&self.state).health.well_for(Instant::now().into_std())
    }

    /// For how long the API server has not answered by it, each time it was asked; `None` if it never was.
    pub fn silent_for(&self) -> Option<Duration> {
        lock(&self.state).health.silent_for(Instant::now().into_std())
    }

    /// Why it does not work, as heard last; [`PeerError::NotYet`] if it was not tried.
    pub fn last_error(&self) -> PeerError {
        lock(&self.state).health.last_error().cloned().unwrap_or(PeerError::NotYet)
    }

    /// The version of the API server, once it has told it.
    pub fn version(&self) -> Option<String> {
        lock(&self.state).version.clone()
    }

    /// Asks for a round soon.
    pub fn poke(&self) {
        self.wanted.notify_one();
    }

    /// Tries it for ever. `is_used` says whether it is the one that is used; `told` is called after each round.
    pub async fn run(&self, is_used: impl Fn() -> bool, told: impl Fn()) {
        let pace = &self.ground.pace;
        let mut connection = Connection::default();
        loop {
            let heard = self.round(&mut connection).await;
            let ended = Instant::now();
            connection.error = heard.as_ref().err().cloned();
            let mut pause = {
                let mut state = lock(&self.state);
                state.health.hear(heard, ended.into_std(), Timestamp::now(), &pace.thresholds);
                state.client = connection.client().cloned();
                if state.health.is_settled() { pace.used } else { pace.unsettled }
            };
            told();
            if pause == pace.used && !is_used() {
                pause = pace.other;
            }
            if let Some(PeerError::Cloud(error)) = &connection.error {
                pause = error.after().unwrap_or(pause).max(pause);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wanted.notified() => tokio::time::sleep_until(ended + pace.least).await,
            }
        }
    }

    async fn round(&self, connection: &mut Connection) -> Result<(), PeerError> {
        self.make(connection).await?;
        let pace = &self.ground.pace;
        let client = match &mut connection.made {
            None => return Err(PeerError::NotYet),
            Some(Made::Kubeconfig(client)) => client.clone(),
            Some(Made::Cloud(cloud)) => {
                let is_lost = connection.error.as_ref().is_some_and(PeerError::is_silence);
                let client = self.find(cloud, if is_lost { pace.lost } else { pace.found }).await?;
                cloud
                    .tokens
                    .ready(DEADLINE)
                    .await
                    .map_err(|error| error.map_or(PeerError::NotYet, PeerError::Cloud))?;
                client
            }
        };
        self.probe(&client).await?;
        if connection.version.is_none_or(|read| read.elapsed() >= pace.version) {
            match self.ask(client.apiserver_version()).await {
                Ok(version) => lock(&self.state).version = Some(version.git_version),
                // Somebody may keep that from us; whether the peer answers shows in what matters.
                Err(error) if error.is_answer() => {}
                Err(error) => return Err(error),
            }
            connection.version = Some(Instant::now());
        }
        Ok(())
    }

    /// A call to the peer by this way, for at most five seconds.
    ///
    /// # Errors
    /// Why there is no answer, in words for this way.
    pub async fn ask<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, PeerError> {
        match tokio::time::timeout(DEADLINE, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(PeerError::of(&error, self.kind)),
            Err(_) => Err(PeerError::timeout(DEADLINE)),
        }
    }

    /// Whether the API server is there: as it says itself, which takes its store into account.
    async fn probe(&self, client: &Client) -> Result<(), PeerError> {
        for path in ["/readyz", "/version"] {
            let request = http::Request::get(path)
                .body(Vec::new())
                .map_err(|error| PeerError::Own(error.to_string()))?;
            match self.ask(client.request_text(request)).await {
                Ok(_) => return Ok(()),
                // Somebody may keep that from us.
                Err(PeerError::Answer { error: RemoteError::Forbidden | RemoteError::NotFound, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads the Secret, where it is time, and makes the connection anew where that says something else.
    async fn make(&self, connection: &mut Connection) -> Result<(), PeerError> {
        let pace = &self.ground.pace;
        let is_due =
            connection.error.is_some() || connection.read.is_none_or(|read| read.elapsed() >= pace.secret);
        if connection.made.is_some() && !is_due {
            return Ok(());
        }
        let kept = match self.kept().await {
            Ok(kept) => kept,
            // What is there works on while this cluster's own API server is away.
            Err(PeerError::Own(_)) if connection.made.is_some() => return Ok(()),
            Err(error) => {
                (connection.made, connection.kept) = (None, None);
                return Err(error);
            }
        };
        connection.read = Some(Instant::now());
        if connection.made.is_some() && connection.kept.as_ref() == Some(&kept) {
            return Ok(());
        }
        *connection = Connection { read: connection.read, ..Connection::default() };
        connection.made = Some(self.made(&kept).await?);
        connection.kept = Some(kept);
        Ok(())
    }
}

impl Connection {
    fn client(&self) -> Option<&Client> {
        match self.made.as_ref()? {
            Made::Kubeconfig(client) => Some(client),
            Made::Cloud(cloud) => cloud.found.as_ref().map(|(_, client, _)| client),
        }
    }
}

/// What depends on the kind of way.
impl Way {
    /// What its Secret holds; empty where it has none.
    async fn kept(&self) -> Result<Kept, PeerError> {
        let Access { kubeconfig, .. } = &self.access;
        if let Some(source) = kubeconfig {
            let key = source.secret_ref.key();
            let what = format!("the kubeconfig of {}", self.cluster);
            return self.ground.secrets.read(&source.secret_ref.name, &[key], &what).await;
        }
        if let Some(credentials) = self.access.eks.as_ref().and_then(|eks| eks.credentials.as_ref()) {
            let what = format!("credentials of AWS for {}", self.cluster);
            return self.ground.secrets.read(&credentials.secret_ref.name, &[KEY_ID, KEY], &what).await;
        }
        if let Some(credentials) = self.access.gke.as_ref().and_then(|gke| gke.credentials.as_ref()) {
            let what = format!("credentials of Google for {}", self.cluster);
            let key = credentials.secret_ref.key();
            return self.ground.secrets.read(&credentials.secret_ref.name, &[key], &what).await;
        }
        Ok(Kept::default())
    }

    async fn made(&self, kept: &Kept) -> Result<Made, PeerError> {
        if let Some(source) = &self.access.kubeconfig {
            let text = kept.bytes(source.secret_ref.key()).unwrap_or_default();
            return Ok(Made::Kubeconfig(connect::by_kubeconfig(text).await?));
        }
        let cluster: Arc<dyn Cluster> = self.in_cloud(kept)?;
        let tokens = Tokens::keep(Arc::clone(&cluster));
        Ok(Made::Cloud(InCloud { cluster, tokens, found: None, asked: None }))
    }

    fn in_cloud(&self, kept: &Kept) -> Result<Arc<dyn HasNodes>, PeerError> {
        let addresses = &self.ground.addresses;
        if let Some(eks) = &self.access.eks {
            let key = access_key(kept, eks.credentials.is_some())?;
            return Ok(Arc::new(Eks::new(eks, key, addresses)));
        }
        let Some(gke) = &self.access.gke else { return Err(PeerError::NoWay(self.cluster.clone())) };
        let google = match &gke.credentials {
            Some(credentials) => {
                Google::of_json(kept.bytes(credentials.secret_ref.key()).unwrap_or_default())?
            }
            None => Google::of_pod()?,
        };
        Ok(Arc::new(Gke::new(gke, google, addresses)))
    }

    /// The cluster in its cloud, to be asked for its nodes, with what its Secret holds at this moment.
    ///
    /// # Errors
    /// If its credentials cannot be read or used, or the way leads through no cloud.
    pub async fn nodes(&self) -> Result<Arc<dyn HasNodes>, PeerError> {
        self.in_cloud(&self.kept().await?)
    }

    /// Which cluster in which cloud it leads to; `None` if it leads through none.
    pub fn names(&self) -> Option<[&str; 4]> {
        let Access { eks, gke, .. } = &self.access;
        let eks = eks.as_ref().map(|eks| ["eks", "", eks.region.as_str(), eks.name.as_str()]);
        eks.or_else(|| gke.as_ref().map(|gke| ["gke", &*gke.project, &*gke.location, &*gke.name]))
    }

    /// The client of a cluster in a cloud, which is asked where it is if that was longer ago than `after`.
    async fn find(&self, cloud: &mut InCloud, after: Duration) -> Result<Client, PeerError> {
        let known = cloud.found.as_ref().map(|(_, client, at)| (client.clone(), at.elapsed() < after));
        let recently = cloud.asked.is_some_and(|asked| asked.elapsed() < self.ground.pace.lost);
        match known {
            Some((client, is_new)) if is_new || recently => return Ok(client),
            _ => {}
        }
        cloud.asked = Some(Instant::now());
        let found = match (cloud.cluster.find().await, known) {
            (Ok(found), _) => found,
            // Where it was last is the best guess.
            (Err(_), Some((client, _))) => return Ok(client),
            (Err(error), None) => return Err(error.into()),
        };
        if let Some((_, client, at)) = cloud.found.as_mut().filter(|(before, ..)| *before == found) {
            *at = Instant::now();
            return Ok(client.clone());
        }
        let server = self.access.endpoint_override.as_deref().unwrap_or(&found.server);
        let ca = self.access.ca_bundle.as_deref().or(found.ca.as_deref());
        let client = connect::by_token(server, ca, cloud.tokens.bearer()).map_err(|message| {
            let remedy = "set endpointOverride and caBundle beside it in spec.access".to_owned();
            PeerError::Kubeconfig {
                message: format!("the cluster cannot be connected to: {message}"),
                remedy,
            }
        })?;
        cloud.found = Some((found, client.clone(), Instant::now()));
        Ok(client)
    }
}

/// The access key in a Secret; `None` where there is no Secret.
fn access_key(kept: &Kept, is_there: bool) -> Result<Option<AccessKey>, PeerError> {
    if !is_there {
        return Ok(None);
    }
    let text = |key: &str| kept.text(key).map(str::to_owned);
    match (text(KEY_ID), text(KEY)) {
        (Some(id), Some(secret)) => Ok(Some(AccessKey { id, secret, session: text(SESSION) })),
        _ => Err(PeerError::Cloud(CloudError::Credentials {
            message: format!("{KEY_ID} or {KEY} in the Secret is empty, or no text"),
            remedy: "put an access key of AWS there".to_owned(),
        })),
    }
}
