//! Cloudflare's end: its API for load balancers, pools and monitors; checkers that really ask; and an edge that really hands
//! requests on by pool, weight and health.

mod forward;
mod store;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::super::error::{Context, Error, Result};
use super::probe::Prober;
use super::server::{Served, serve};
use crate::runtime::lock;
use store::{Complaint, Kind, Store, text};

/// How it behaves.
#[derive(Clone, Debug)]
pub struct CloudflareOptions {
    /// Id of the account.
    pub account: String,
    /// Id of the zone.
    pub zone: String,
    /// The token that may do all that is needed.
    pub token: String,
    /// A token that may only read.
    pub read_only: Option<String>,
    /// How many zones tokens see.
    pub zones: usize,
    /// How often checkers ask, whatever is set.
    pub interval: Duration,
    /// After how many answers in a row a verdict changes.
    pub threshold: u32,
}

impl Default for CloudflareOptions {
    /// The token `example`, one zone, and checkers that ask ten times a second.
    fn default() -> Self {
        Self {
            account: "a".repeat(32),
            zone: "b".repeat(32),
            token: "example".to_owned(),
            read_only: None,
            zones: 1,
            interval: Duration::from_millis(100),
            threshold: 2,
        }
    }
}

struct Shared {
    options: CloudflareOptions,
    store: Mutex<Store>,
    counts: Mutex<BTreeMap<String, u64>>,
}

/// The end, until it is dropped.
pub struct CloudflareEnd {
    /// Where its API listens, and how that is to misbehave. Its requests begin with `/client/v4`.
    pub api: Served,
    /// Where its edge listens: requests are handed on by their `Host`.
    pub edge: Served,
    shared: Arc<Shared>,
    checker: AbortHandle,
}

impl Drop for CloudflareEnd {
    fn drop(&mut self) {
        self.checker.abort();
    }
}

/// Something that answers 503 to everything: what a fallback pool is to lead to.
///
/// # Errors
/// If no port can be had.
pub async fn fixed_answer() -> Result<Served> {
    let sorry = async || {
        (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "30")], "This service is being moved.\n")
    };
    serve(Router::new().fallback(sorry)).await
}

impl CloudflareEnd {
    /// Starts it.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(options: CloudflareOptions) -> Result<Self> {
        let prober = Prober::new(Duration::from_secs(10)).context(|| "making a monitor")?;
        let http = forward::client().context(|| "making the edge of Cloudflare's end")?;
        let shared = Arc::new(Shared { options, store: Mutex::default(), counts: Mutex::default() });
        let api = serve(Router::new().fallback(answer).with_state(Arc::clone(&shared))).await?;
        let edge = Router::new().fallback(forward::hand_on).with_state((Arc::clone(&shared), http));
        let edge = serve(edge).await?;
        let checker = tokio::spawn(check(Arc::clone(&shared), prober)).abort_handle();
        Ok(Self { api, edge, shared, checker })
    }

    /// The base of its API.
    pub fn base(&self) -> String {
        format!("{}/client/v4", self.api.url())
    }

    /// How many requests each pool got, by its name.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        lock::lock(&self.shared.counts).clone()
    }

    /// Keeps a pool beside the API, with one origin, and answers with its id.
    ///
    /// # Errors
    /// If Cloudflare would not take it.
    pub fn make_pool(&self, name: &str, address: &str, port: u16) -> Result<String> {
        let origin = json!({"name": "origin", "address": address, "port": port, "enabled": true});
        self.make(Kind::Pool, json!({"name": name, "origins": [origin]}))
    }

    /// Keeps a load balancer beside the API, and answers with its id.
    ///
    /// # Errors
    /// If Cloudflare would not take it.
    pub fn make_load_balancer(&self, body: Value) -> Result<String> {
        self.make(Kind::Balancer, body)
    }

    fn make(&self, kind: Kind, body: Value) -> Result<String> {
        let made = lock::lock(&self.shared.store).make(kind, body);
        made.map(|made| text(&made["id"])).map_err(|(_, _, message)| Error::new(message))
    }

    /// Keeps a DNS record beside the load balancer.
    pub fn make_record(&self, record: Value) {
        lock::lock(&self.shared.store).records.push(record);
    }

    /// Load balancers, pools and monitors as they are kept, without their ids.
    pub fn kept(&self) -> [Vec<Value>; 3] {
        let store = lock::lock(&self.shared.store);
        [&store.balancers, &store.pools, &store.monitors].map(|kept| kept.values().cloned().collect())
    }

    /// Changes fields of what is kept beside the API, as a person at the dashboard would: of the load balancer, the pool or
    /// the monitor with that id.
    ///
    /// # Errors
    /// If there is no such thing, or Cloudflare would not take it.
    pub fn change(&self, id: &str, fields: Value) -> Result<()> {
        let mut store = lock::lock(&self.shared.store);
        let kinds = [Kind::Balancer, Kind::Pool, Kind::Monitor];
        let kind = kinds.into_iter().find(|kind| store.of(*kind).contains_key(id));
        let kind =
            kind.ok_or_else(|| Error::new(format!("Cloudflare's end keeps nothing with the id {id}")))?;
        let changed = store.change(kind, id, fields, false);
        changed.map(|_| ()).map_err(|(_, _, message)| Error::new(message))
    }
}

/// Asks each origin that a monitor watches.
async fn check(shared: Arc<Shared>, prober: Prober) {
    loop {
        let asked: Vec<(String, Value, Value)> = {
            let mut store = lock::lock(&shared.store);
            let watched = |id: &String, pool: &Value| {
                let monitor = store.monitors.get(&text(&pool["monitor"]))?;
                // Pools that are disabled are not checked.
                (pool["enabled"] != false).then(|| (id.clone(), pool.clone(), monitor.clone()))
            };
            let asked: Vec<_> = store.pools.iter().filter_map(|(id, pool)| watched(id, pool)).collect();
            store.verdicts.retain(|id, _| asked.iter().any(|(asked, ..)| asked == id));
            asked
        };
        let questions = asked.into_iter().map(async |(id, pool, monitor)| {
            let origin = &pool["origins"][0];
            let port = origin["port"].as_u64().filter(|port| *port > 0).or(monitor["port"].as_u64());
            let address = format!("{}:{}", text(&origin["address"]), port.unwrap_or(80));
            let answer = match prober
                .ask(&address, &text(&monitor["path"]), monitor["header"]["Host"][0].as_str())
                .await
            {
                Ok(code) if text(&monitor["expected_codes"]) == code.to_string() => Ok(()),
                Ok(code) if monitor["expected_codes"] == "2xx" && (200..300).contains(&code) => Ok(()),
                Ok(_) => Err("Response code mismatch error".to_owned()),
                Err(reason) => Err(reason),
            };
            (id, answer)
        });
        for (id, answer) in futures::future::join_all(questions).await {
            let mut store = lock::lock(&shared.store);
            store.verdicts.entry(id).or_default().hear(answer, shared.options.threshold);
        }
        tokio::time::sleep(shared.options.interval).await;
    }
}

fn envelope(status: u16, success: bool, errors: Value, result: Value, count: Option<usize>) -> Response {
    let mut body = json!({"success": success, "errors": errors, "messages": [], "result": result});
    if let Some(count) = count {
        let shown = result_len(&body["result"]);
        body["result_info"] =
            json!({"page": 1, "per_page": 100, "count": shown, "total_count": count, "total_pages": 1});
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn result_len(result: &Value) -> usize {
    result.as_array().map_or(1, Vec::len)
}

fn one(result: std::result::Result<Value, Complaint>) -> Response {
    match result {
        Ok(result) => envelope(200, true, json!([]), result, None),
        Err((status, code, message)) => {
            envelope(status, false, json!([{"code": code, "message": message}]), Value::Null, None)
        }
    }
}

fn many(result: Vec<Value>, total: usize) -> Response {
    envelope(200, true, json!([]), Value::Array(result), Some(total))
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let options = &shared.options;
    let path = parts.uri.path().trim_matches('/').to_owned();
    let segments: Vec<&str> = path.split('/').skip(2).collect();
    let reads = parts.method == Method::GET;
    let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer "));
    let known =
        bearer == Some(&options.token) || (bearer.is_some() && bearer == options.read_only.as_deref());
    if segments[..] == ["user", "tokens", "verify"] {
        let active = json!({"id": "1".repeat(32), "status": "active"});
        return one(if known { Ok(active) } else { Err((401, 1000, "Invalid API Token".to_owned())) });
    }
    if !known {
        return one(Err((403, 9109, "Invalid access token".to_owned())));
    }
    if !reads && bearer != Some(&options.token) {
        return one(Err((403, 10000, "Authentication error".to_owned())));
    }
    let Ok(body) = to_bytes(Body::new(body), 1 << 20).await else {
        return one(Err((400, 1000, "the body cannot be read".to_owned())));
    };
    let body: Value = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(_) if reads => Value::Null,
        Err(error) => return one(Err((400, 1000, format!("the body is no JSON: {error}")))),
    };
    let (kind, rest) = match &segments[..] {
        ["zones"] => return zones(options),
        ["zones", zone, "dns_records"] if *zone == options.zone => {
            return records(&shared, parts.uri.query());
        }
        ["zones", zone, "load_balancers", rest @ ..] if *zone == options.zone => (Kind::Balancer, rest),
        ["accounts", account, "load_balancers", "pools", rest @ ..] if *account == options.account => {
            (Kind::Pool, rest)
        }
        ["accounts", account, "load_balancers", "monitors", rest @ ..] if *account == options.account => {
            (Kind::Monitor, rest)
        }
        _ => {
            return one(Err((
                404,
                7003,
                "Could not route to this, perhaps your object identifier is invalid?".to_owned(),
            )));
        }
    };
    let mut store = lock::lock(&shared.store);
    let missing = || (404, 1001, "object not found".to_owned());
    match (&parts.method, rest) {
        (&Method::GET, []) => {
            let all: Vec<Value> = store.of(kind).values().cloned().collect();
            let total = all.len();
            many(all, total)
        }
        (&Method::POST, []) => one(store.make(kind, body)),
        (&Method::GET, [id]) => one(store.of(kind).get(*id).cloned().ok_or_else(missing)),
        (&Method::GET, [id, "health"]) if kind == Kind::Pool => one(store.health(id).ok_or_else(missing)),
        (&Method::PATCH, [id]) => one(store.change(kind, id, body, false)),
        (&Method::PUT, [id]) => one(store.change(kind, id, body, true)),
        _ => one(Err((405, 7001, "Method not allowed".to_owned()))),
    }
}

fn zones(options: &CloudflareOptions) -> Response {
    let others = (1..options.zones).map(|number| format!("{number:032x}"));
    let all: Vec<Value> =
        std::iter::once(options.zone.clone()).chain(others).map(|id| json!({"id": id})).take(5).collect();
    many(all, options.zones)
}

fn records(shared: &Shared, query: Option<&str>) -> Response {
    let query = reqwest::Url::parse(&format!("http://x/?{}", query.unwrap_or_default()));
    let query: BTreeMap<String, String> =
        query.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default();
    let fits = |record: &&Value| {
        query.get("name").is_none_or(|name| record["name"] == *name)
            && query.get("type").is_none_or(|kind| record["type"] == *kind)
            && query
                .get("content.contains")
                .is_none_or(|part| text(&record["content"]).contains(part.as_str()))
    };
    let found: Vec<Value> = lock::lock(&shared.store).records.iter().filter(fits).cloned().collect();
    let total = found.len();
    many(found, total)
}
