//! Google Kubernetes Engine and Google's token services, as far as a cluster is found and entered through them. Access
//! tokens live as long as they are told to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as With;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use rustls::SignatureScheme;
use serde_json::{Value, json};

use super::server::{Served, serve};
use super::signature::{decoded, pairs};
use crate::runtime::lock::lock;
use crate::sandbox::credentials::token;
use crate::sandbox::error::{Context, Result};

/// The zone of all machines.
const ZONE: &str = "us-central1-a";
/// How long a token that has ended is told apart from one that was never given out.
const REMEMBERED: Duration = Duration::from_secs(300);

/// A cluster.
#[derive(Clone, Debug)]
pub struct GkeCluster {
    /// Its project.
    pub project: String,
    /// Its region or zone.
    pub location: String,
    /// Its name.
    pub name: String,
    /// The host, and port, of its API server.
    pub endpoint: String,
    /// The certificate that vouches for it, in PEM.
    pub ca: String,
    /// The version of Kubernetes.
    pub version: String,
    /// Its node pools, and how many nodes each has.
    pub pools: BTreeMap<String, u32>,
}

impl GkeCluster {
    fn path(&self) -> String {
        format!("projects/{}/locations/{}/clusters/{}", self.project, self.location, self.name)
    }
}

/// What a cluster has beside the sizes of its node pools.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// Whether it is an Autopilot cluster.
    pub autopilot: bool,
    /// Whether node auto-provisioning makes new pools.
    pub provisions: bool,
    /// The least and the most of pools that are scaled by themselves.
    pub scales: BTreeMap<String, [u32; 2]>,
    /// Machines of pools that are still being deleted.
    pub deleting: BTreeMap<String, u32>,
    /// What its pools say of themselves; `RUNNING` where left out.
    pub status: Option<&'static str>,
    /// Whether pools name no instance groups.
    pub unnamed: bool,
    /// Fields of instance groups that are not told.
    pub untold: Vec<&'static str>,
}

/// A service account.
struct Account {
    email: String,
    /// Its public key, as the text of a signature is checked with it.
    public: Vec<u8>,
}

struct State {
    life: Duration,
    /// Until when each token lives.
    given: BTreeMap<String, Instant>,
    accounts: Vec<Account>,
    clusters: BTreeMap<String, GkeCluster>,
    /// What else each cluster has, by its path.
    beside: BTreeMap<String, Beside>,
    operations: Vec<(String, String)>,
}

/// Google's cloud. Cheap to clone.
#[derive(Clone)]
pub struct Google(Arc<Mutex<State>>);

impl fmt::Debug for Google {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Google").finish_non_exhaustive()
    }
}

impl Default for Google {
    /// One without clusters, whose tokens live for an hour.
    fn default() -> Self {
        let (life, given, accounts) = (Duration::from_secs(3600), BTreeMap::new(), Vec::new());
        let (clusters, beside, operations) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Self(Arc::new(Mutex::new(State { life, given, accounts, clusters, beside, operations })))
    }
}

/// A refusal: the status, the word and the sentence.
type Refusal = (u16, &'static str, String);
type Answered = std::result::Result<Value, Refusal>;

impl Google {
    /// Adds a cluster, or changes it.
    pub fn put(&self, cluster: GkeCluster) {
        lock(&self.0).clusters.insert(cluster.path(), cluster);
    }

    /// What a cluster has beside the sizes of its pools from now on.
    pub fn beside(&self, project: &str, location: &str, name: &str, beside: Beside) {
        let path = format!("projects/{project}/locations/{location}/clusters/{name}");
        lock(&self.0).beside.insert(path, beside);
    }

    /// How many nodes a pool is to have.
    pub fn size(&self, project: &str, location: &str, name: &str, pool: &str) -> Option<u32> {
        let path = format!("projects/{project}/locations/{location}/clusters/{name}");
        lock(&self.0).clusters.get(&path)?.pools.get(pool).copied()
    }

    /// How long access tokens live from now on.
    pub fn let_live(&self, life: Duration) {
        lock(&self.0).life = life;
    }

    /// Takes back all tokens that were given out.
    pub fn forget_all(&self) {
        lock(&self.0).given.clear();
    }

    /// A new service account, as the JSON that Google's console gives. `address` is where this is served.
    ///
    /// # Errors
    /// If the machine has no source of randomness.
    pub fn account(&self, name: &str, address: &str) -> Result<Value> {
        let key =
            KeyPair::generate_for(&PKCS_RSA_SHA256).context(|| "making the key of a service account")?;
        let email = format!("{name}@finflow-prod.iam.gserviceaccount.com");
        lock(&self.0).accounts.push(Account { email: email.clone(), public: key.public_key_raw().to_vec() });
        Ok(json!({
            "type": "service_account", "project_id": "finflow-prod", "private_key_id": "1",
            "private_key": key.serialize_pem(), "client_email": email, "token_uri": format!("{address}/token"),
        }))
    }

    /// Serves GKE and the token services at one address.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn serve(&self) -> Result<Served> {
        serve(Router::new().fallback(answer).with_state(self.clone())).await
    }

    /// Whether that access token lives. So it is done by the authenticator that GKE puts beside an API server.
    pub fn accepts(&self, token: &str) -> bool {
        lock(&self.0).given.get(token).is_some_and(|ends| *ends > Instant::now())
    }

    fn give(&self) -> std::result::Result<(String, Duration), Refusal> {
        let made = token().map_err(|error| (500, "INTERNAL", error.to_string()))?;
        let (value, mut state) = (format!("ya29.{made}"), lock(&self.0));
        let (life, now) = (state.life, Instant::now());
        state.given.retain(|_, ends| *ends + REMEMBERED > now);
        state.given.insert(value.clone(), now + life);
        Ok((value, life))
    }

    /// Whether an assertion was made with the key of an account, for us, and has not ended.
    fn is_asserted(&self, assertion: &str) -> Option<()> {
        let (signed, signature) = assertion.rsplit_once('.')?;
        let claims: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?).ok()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let lives = claims["exp"].as_u64()? > now && claims["iat"].as_u64()? <= now + 60;
        let scoped = claims["scope"].as_str()?.contains("cloud-platform")
            && claims["aud"].as_str()?.ends_with("/token");
        let state = lock(&self.0);
        let account = state.accounts.iter().find(|account| claims["iss"] == *account.email)?;
        let known = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let (_, checks) =
            known.mapping.iter().find(|(scheme, _)| *scheme == SignatureScheme::RSA_PKCS1_SHA256)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let is_good = checks
            .iter()
            .any(|check| check.verify_signature(&account.public, signed.as_bytes(), &signature).is_ok());
        (lives && scoped && is_good).then_some(())
    }
}

async fn answer(With(google): With<Google>, parts: Parts, body: Bytes) -> Response {
    let path = parts.uri.path();
    let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer "));
    let answered = match path {
        "/token" => google.exchange(&String::from_utf8_lossy(&body)),
        _ if path.starts_with("/computeMetadata/") => {
            let asked = parts.headers.get("metadata-flavor").is_some_and(|value| value == "Google");
            match asked {
                true => google.give().map(|(value, life)| token_of(&value, life)),
                false => Err((403, "PERMISSION_DENIED", "Missing Metadata-Flavor:Google header.".to_owned())),
            }
        }
        _ => match bearer.filter(|bearer| google.accepts(bearer)) {
            None => {
                Err((401, "UNAUTHENTICATED", "Request had invalid authentication credentials.".to_owned()))
            }
            Some(_) if path.ends_with(":generateAccessToken") => google.impersonate(),
            Some(_) if path.starts_with("/compute/") => google.instances(path),
            Some(_) => google.container(parts.method.as_str(), path, &body),
        },
    };
    let (status, body) = match answered {
        Ok(body) => (200, body),
        Err((status, word, words)) if path == "/token" => {
            (status, json!({"error": word, "error_description": words}))
        }
        Err((status, word, words)) => {
            (status, json!({"error": {"code": status, "status": word, "message": words}}))
        }
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn token_of(value: &str, life: Duration) -> Value {
    json!({"access_token": value, "expires_in": life.as_secs().max(1), "token_type": "Bearer"})
}

/// Tokens.
impl Google {
    fn exchange(&self, form: &str) -> Answered {
        let form: BTreeMap<String, String> =
            pairs(form).map(|(name, value)| (name, decoded(&value))).collect();
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let refused = |words: &str| Err((400, "invalid_grant", words.to_owned()));
        match field("grant_type") {
            "urn:ietf:params:oauth:grant-type:jwt-bearer"
                if self.is_asserted(field("assertion")).is_none() =>
            {
                return refused("Invalid JWT Signature.");
            }
            "urn:ietf:params:oauth:grant-type:token-exchange"
                if field("audience").is_empty() || !field("subject_token").starts_with("subject-") =>
            {
                return refused("The subject token is not accepted.");
            }
            "urn:ietf:params:oauth:grant-type:jwt-bearer"
            | "urn:ietf:params:oauth:grant-type:token-exchange" => {}
            _ => return Err((400, "unsupported_grant_type", "Invalid grant_type".to_owned())),
        }
        let (value, life) = self.give()?;
        Ok(token_of(&value, life))
    }

    fn impersonate(&self) -> Answered {
        let (value, life) = self.give()?;
        let ends = jiff::Timestamp::try_from(SystemTime::now() + life).unwrap_or_default();
        Ok(json!({"accessToken": value, "expireTime": ends.to_string()}))
    }
}

/// Compute Engine, as far as it tells of the machines of node pools.
impl Google {
    fn instances(&self, path: &str) -> Answered {
        let absent = || (404, "NOT_FOUND", format!("The resource '{path}' was not found"));
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let ["compute", "v1", "projects", project, "zones", ZONE, "instanceGroupManagers", group] = parts[..]
        else {
            return Err(absent());
        };
        let name =
            group.strip_prefix("gke-").and_then(|name| name.strip_suffix("-grp")).ok_or_else(absent)?;
        let state = lock(&self.0);
        let found =
            state.clusters.iter().find(|(_, one)| one.project == project && one.pools.contains_key(name));
        let (path, cluster) = found.ok_or_else(absent)?;
        let beside = state.beside.get(path).cloned().unwrap_or_default();
        let nodes = cluster.pools.get(name).copied().unwrap_or_default();
        let deleting = beside.deleting.get(name).copied().unwrap_or_default();
        let mut told = json!({"name": group, "targetSize": nodes,
            "currentActions": {"none": nodes, "deleting": deleting, "creating": 0}});
        if let Some(fields) = told.as_object_mut() {
            fields.retain(|field, _| !beside.untold.contains(&field.as_str()));
        }
        Ok(told)
    }
}

/// GKE.
impl Google {
    fn container(&self, method: &str, path: &str, body: &[u8]) -> Answered {
        let absent = |what: &str| (404, "NOT_FOUND", format!("Not found: {what}."));
        let path = path.strip_prefix("/v1/").ok_or_else(|| absent(path))?;
        let mut state = lock(&self.0);
        if let Some((_, operation)) = path.split_once("/operations/") {
            let known = state.operations.iter().find(|(name, _)| name == operation);
            return known.map(|(name, target)| operation_of(name, target)).ok_or_else(|| absent(path));
        }
        let (cluster, rest) = match path.split_once("/nodePools") {
            Some((cluster, rest)) => (cluster, Some(rest)),
            None => (path, None),
        };
        let number = state.operations.len() + 1;
        let mut beside = state.beside.get(cluster).cloned().unwrap_or_default();
        let found = state.clusters.get_mut(cluster).ok_or_else(|| absent(path))?;
        let project = found.project.clone();
        let shown = beside.clone();
        let pool = |name: &str, nodes: u32| {
            let group = format!(
                "https://www.googleapis.com/compute/v1/projects/{project}/zones/{ZONE}/instanceGroupManagers/gke-{name}-grp"
            );
            let scales = shown
                .scales
                .get(name)
                .map(|[least, most]| json!({"enabled": true, "minNodeCount": least, "maxNodeCount": most}));
            json!({"name": name, "initialNodeCount": nodes, "status": shown.status.unwrap_or("RUNNING"),
                "instanceGroupUrls": if shown.unnamed { json!([]) } else { json!([group]) },
                "autoscaling": scales.unwrap_or(json!({}))})
        };
        match (method, rest) {
            ("GET", None) => Ok(json!({
                "name": found.name, "location": found.location, "endpoint": found.endpoint, "status": "RUNNING",
                "currentMasterVersion": found.version,
                "masterAuth": {"clusterCaCertificate": STANDARD.encode(&found.ca)},
                "autopilot": {"enabled": beside.autopilot},
                "autoscaling": {"enableNodeAutoprovisioning": beside.provisions},
                "nodePools": found.pools.iter().map(|(name, nodes)| pool(name, *nodes)).collect::<Vec<_>>(),
            })),
            ("GET", Some("")) => Ok(
                json!({"nodePools": found.pools.iter().map(|(name, nodes)| pool(name, *nodes)).collect::<Vec<_>>()}),
            ),
            ("GET", Some(name)) => {
                let name = name.trim_start_matches('/');
                found.pools.get(name).map(|nodes| pool(name, *nodes)).ok_or_else(|| absent(path))
            }
            ("POST", Some(name)) if name.ends_with(":setAutoscaling") => {
                let name = name.trim_start_matches('/').trim_end_matches(":setAutoscaling");
                found.pools.get(name).ok_or_else(|| absent(path))?;
                let asked: Value = serde_json::from_slice(body).unwrap_or_default();
                if asked["autoscaling"]["enabled"] != true {
                    beside.scales.remove(name);
                    state.beside.insert(cluster.to_owned(), beside);
                }
                let (operation, target) = (format!("operation-{number}"), path.to_owned());
                state.operations.push((operation.clone(), target.clone()));
                Ok(operation_of(&operation, &target))
            }
            ("POST", Some(name)) if name.ends_with(":setSize") => {
                let name = name.trim_start_matches('/').trim_end_matches(":setSize");
                let nodes = found.pools.get_mut(name).ok_or_else(|| absent(path))?;
                let asked: Value = serde_json::from_slice(body).unwrap_or_default();
                // As in all that Google takes, a number that is left out is zero.
                let wanted = asked["nodeCount"].as_u64().unwrap_or_default();
                *nodes =
                    u32::try_from(wanted).map_err(|_| (400, "INVALID_ARGUMENT", "node_count".to_owned()))?;
                let (operation, target) = (format!("operation-{number}"), path.to_owned());
                state.operations.push((operation.clone(), target.clone()));
                Ok(operation_of(&operation, &target))
            }
            _ => Err(absent(path)),
        }
    }
}

fn operation_of(name: &str, target: &str) -> Value {
    json!({"name": name, "operationType": "SET_NODE_POOL_SIZE", "status": "DONE", "targetLink": target})
}
