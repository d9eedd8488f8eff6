//! The edge of the Cloudflare end: requests come in here and go on to the pool that the load balancer chooses.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::Shared;
use super::store::{Store, text};
use crate::runtime::lock;

/// What belongs to one connection and not to the request.
const OF_CONNECTION: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Where a request goes on to.
struct Way {
    pool: String,
    address: String,
    host: Option<String>,
}

/// Chooses a pool: among those that are enabled and well, by weight or in order; if there is none, the fallback whatever
/// its checks say.
fn way(store: &mut Store, host: &str) -> Option<Way> {
    let balancer = store
        .balancers
        .values()
        .find(|balancer| balancer["name"] == host && balancer["enabled"] != false)?
        .clone();
    let ids: Vec<String> =
        balancer["default_pools"].as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let able: Vec<String> = ids.into_iter().filter(|id| store.may_get_requests(id)).collect();
    let chosen = if balancer["steering_policy"] == "random" {
        let steering = &balancer["random_steering"];
        let weight = |id: &String| {
            steering["pool_weights"][id.as_str()]
                .as_f64()
                .or(steering["default_weight"].as_f64())
                .unwrap_or(1.0)
        };
        let sum: f64 = able.iter().map(weight).sum();
        // The golden ratio spreads draws evenly, so that few requests already show the shares.
        store.drawn += 1;
        let mut left = (f64::from(store.drawn) * 0.618_033_988_749_895).fract() * sum;
        able.iter()
            .filter(|id| weight(id) > 0.0)
            .find(|id| {
                left -= weight(id);
                left < 0.0
            })
            .or_else(|| able.iter().rfind(|id| weight(id) > 0.0))
            .cloned()
    } else {
        able.first().cloned()
    };
    let id = chosen.or_else(|| balancer["fallback_pool"].as_str().map(str::to_owned))?;
    let pool = store.pools.get(&id)?;
    let origin = pool["origins"].as_array()?.iter().find(|origin| origin["enabled"] != false)?;
    let port = origin["port"].as_u64().filter(|port| *port > 0).unwrap_or(80);
    Some(Way {
        pool: text(&pool["name"]),
        address: format!("{}:{port}", text(&origin["address"])),
        host: origin["header"]["Host"][0].as_str().map(str::to_owned),
    })
}

pub(super) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(30))
        .build()
}

/// Hands a request on, and its answer back.
pub(super) async fn hand_on(
    State((shared, http)): State<(Arc<Shared>, reqwest::Client)>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.split(':').next().unwrap_or_default();
    let way = way(&mut lock::lock(&shared.store), name);
    let Some(way) = way else {
        return (StatusCode::from_u16(530).unwrap_or_default(), "error code: 1001").into_response();
    };
    *lock::lock(&shared.counts).entry(way.pool.clone()).or_default() += 1;
    let Ok(body) = to_bytes(Body::new(body), 16 << 20).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = parts.headers.clone();
    for name in OF_CONNECTION {
        headers.remove(name);
    }
    if let Some(host) = way.host.and_then(|host| host.parse().ok()) {
        headers.insert(header::HOST, host);
    }
    let asked =
        http.request(parts.method, format!("http://{}{path}", way.address)).headers(headers).body(body);
    let Ok(answer) = asked.send().await else {
        return (StatusCode::from_u16(521).unwrap_or_default(), "error code: 521").into_response();
    };
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    for name in OF_CONNECTION {
        headers.remove(name);
    }
    match answer.bytes().await {
        Ok(body) => (status, headers, body).into_response(),
        Err(_) => (StatusCode::from_u16(520).unwrap_or_default(), "error code: 520").into_response(),
    }
}
