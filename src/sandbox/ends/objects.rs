//! An object store: one bucket, in memory, that speaks what Amazon's S3, Google Cloud Storage or Azure Blob Storage speak:
//! conditional PUT, GET, HEAD, DELETE and lists in pages. It judges who asks by the name in the credentials, not by the
//! signature.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use k8s_openapi::ByteString;
use reqwest::Url;
use serde_json::Value;

use super::super::error::Result;
use super::server::{Served, serve};

/// When every object was last changed, as far as anybody is told.
const CHANGED: [&str; 2] = ["Sat, 28 Nov 2026 02:14:07 GMT", "2026-11-28T02:14:07.000Z"];

/// Whose store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// S3: `If-None-Match: *`, answered with 412.
    Amazon,
    /// Google Cloud Storage: `x-goog-if-generation-match: 0`, answered with 412.
    Google,
    /// Azure Blob Storage: `If-None-Match: *`, answered with 409.
    Azure,
}

/// An object store that runs until it is dropped.
pub struct Objects {
    /// The server.
    pub end: Served,
    store: Arc<Store>,
}

struct Store {
    maker: Maker,
    bucket: String,
    /// Who may ask: an access key id, the mail address of a service account, or a storage account.
    who: String,
    page: usize,
    heeds_conditions: AtomicBool,
    objects: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    /// Contents by key, and which write they came with.
    by_key: BTreeMap<String, (Bytes, u64)>,
    writes: u64,
}

impl Objects {
    /// A store with one empty bucket, which answers to `who`, and lists `page` objects at a time.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn serve(maker: Maker, bucket: &str, who: &str, page: usize) -> Result<Self> {
        let store = Arc::new(Store {
            maker,
            bucket: bucket.to_owned(),
            who: who.to_owned(),
            page,
            heeds_conditions: AtomicBool::new(true),
            objects: Mutex::default(),
        });
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&store));
        Ok(Self { end: serve(routes).await?, store })
    }

    /// What lies under a key.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        lock(&self.store.objects).by_key.get(key).map(|(bytes, _)| bytes.to_vec())
    }

    /// All keys.
    pub fn keys(&self) -> Vec<String> {
        lock(&self.store.objects).by_key.keys().cloned().collect()
    }

    /// Puts something there, or takes it away, past all rules.
    pub fn set(&self, key: &str, bytes: Option<&[u8]>) {
        let mut objects = lock(&self.store.objects);
        objects.writes += 1;
        let writes = objects.writes;
        match bytes {
            Some(bytes) => objects.by_key.insert(key.to_owned(), (Bytes::copy_from_slice(bytes), writes)),
            None => objects.by_key.remove(key),
        };
    }

    /// How many writes were carried out.
    pub fn writes(&self) -> u64 {
        lock(&self.store.objects).writes
    }

    /// Whether conditions are heeded. Some that call themselves compatible heed none.
    pub fn heed_conditions(&self, heed: bool) {
        self.store.heeds_conditions.store(heed, Ordering::SeqCst);
    }
}

async fn answer(State(store): State<Arc<Store>>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, 1 << 20).await else {
        return store.error(StatusCode::BAD_REQUEST, "IncompleteBody");
    };
    if !store.knows(&parts.headers) {
        let code = if store.maker == Maker::Azure { "AuthenticationFailed" } else { "InvalidAccessKeyId" };
        return store.error(StatusCode::FORBIDDEN, code);
    }
    let path = decoded(parts.uri.path());
    let path = path.trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    if bucket != store.bucket {
        let code = if store.maker == Maker::Azure { "ContainerNotFound" } else { "NoSuchBucket" };
        return store.error(StatusCode::NOT_FOUND, code);
    }
    match (parts.method, key) {
        (Method::GET, "") => store.list(parts.uri.query().unwrap_or_default()),
        (Method::PUT, key) if !key.is_empty() => store.put(key, body, &parts.headers),
        (Method::GET | Method::HEAD, key) => store.read(key),
        (Method::DELETE, key) if !key.is_empty() => {
            lock(&store.objects).by_key.remove(key);
            response(StatusCode::NO_CONTENT, String::new())
        }
        _ => store.error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
    }
}

impl Store {
    /// By the name in the credentials.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(said) = headers.get(header::AUTHORIZATION).and_then(|said| said.to_str().ok()) else {
            return false;
        };
        match self.maker {
            Maker::Amazon => {
                let said = said.strip_prefix("AWS4-HMAC-SHA256 Credential=");
                said.and_then(|said| said.split('/').next()) == Some(&self.who)
            }
            Maker::Azure => {
                said.strip_prefix("SharedKey ").and_then(|said| said.split(':').next()) == Some(&self.who)
            }
            Maker::Google => said.strip_prefix("Bearer ").and_then(issuer).as_deref() == Some(&self.who),
        }
    }

    fn put(&self, key: &str, body: Bytes, headers: &HeaderMap) -> Response<Body> {
        let only_new = match self.maker {
            Maker::Google => headers.get("x-goog-if-generation-match").is_some_and(|value| value == "0"),
            _ => headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == "*"),
        };
        let mut objects = lock(&self.objects);
        if only_new && self.heeds_conditions.load(Ordering::SeqCst) && objects.by_key.contains_key(key) {
            return match self.maker {
                Maker::Azure => self.error(StatusCode::CONFLICT, "BlobAlreadyExists"),
                _ => self.error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
            };
        }
        objects.writes += 1;
        let mark = objects.writes;
        objects.by_key.insert(key.to_owned(), (body, mark));
        let status = if self.maker == Maker::Azure { StatusCode::CREATED } else { StatusCode::OK };
        marked(response(status, String::new()), mark)
    }

    fn read(&self, key: &str) -> Response<Body> {
        match lock(&self.objects).by_key.get(key) {
            Some((bytes, mark)) => marked(response(StatusCode::OK, bytes.clone()), *mark),
            None => {
                let code = if self.maker == Maker::Azure { "BlobNotFound" } else { "NoSuchKey" };
                self.error(StatusCode::NOT_FOUND, code)
            }
        }
    }

    fn list(&self, query: &str) -> Response<Body> {
        let asked = |name: &str| {
            let found = query.split('&').filter_map(|pair| pair.split_once('='));
            found.filter(|(key, _)| *key == name).map(|(_, value)| decoded(value)).next()
        };
        let next = if self.maker == Maker::Azure { "marker" } else { "continuation-token" };
        let (prefix, from) = (asked("prefix").unwrap_or_default(), asked(next));
        let objects = lock(&self.objects);
        let mut listed = objects.by_key.iter().filter(|(key, _)| {
            key.starts_with(&prefix) && from.as_ref().is_none_or(|from| key.as_str() > from.as_str())
        });
        let page: Vec<_> = listed.by_ref().take(self.page).collect();
        let more = listed.next().and(page.last()).map(|(key, _)| key.as_str());
        let entries: String =
            page.iter().map(|(key, (bytes, mark))| self.entry(key, bytes.len(), *mark)).collect();
        let text = match self.maker {
            Maker::Azure => format!(
                "<EnumerationResults><Prefix>{prefix}</Prefix><Blobs>{entries}</Blobs><NextMarker>{}</NextMarker></EnumerationResults>",
                more.unwrap_or_default()
            ),
            _ => {
                let token = more.map(|key| format!("<NextContinuationToken>{key}</NextContinuationToken>"));
                format!(
                    "<ListBucketResult><Name>{}</Name><Prefix>{prefix}</Prefix><IsTruncated>{}</IsTruncated>{entries}{}</ListBucketResult>",
                    self.bucket,
                    more.is_some(),
                    token.unwrap_or_default()
                )
            }
        };
        response(StatusCode::OK, format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{text}"))
    }

    fn entry(&self, key: &str, size: usize, mark: u64) -> String {
        let [mail, iso] = CHANGED;
        match self.maker {
            Maker::Azure => format!(
                "<Blob><Name>{key}</Name><Properties><Last-Modified>{mail}</Last-Modified><Etag>&quot;{mark}&quot;</Etag><Content-Length>{size}</Content-Length><Content-Type>application/json</Content-Type></Properties></Blob>"
            ),
            _ => format!(
                "<Contents><Key>{key}</Key><LastModified>{iso}</LastModified><ETag>&quot;{mark}&quot;</ETag><Size>{size}</Size></Contents>"
            ),
        }
    }

    fn error(&self, status: StatusCode, code: &str) -> Response<Body> {
        response(
            status,
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>Played.</Message></Error>"
            ),
        )
    }
}

fn response(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}

/// With the headers of an object.
fn marked(mut response: Response<Body>, mark: u64) -> Response<Body> {
    let headers = response.headers_mut();
    if let Ok(mark) = format!("\"{mark}\"").parse() {
        headers.insert(header::ETAG, mark);
    }
    headers.insert("x-goog-generation", mark.into());
    headers.insert(header::LAST_MODIFIED, header::HeaderValue::from_static(CHANGED[0]));
    response
}

/// Who signed a token, as far as it says so.
fn issuer(token: &str) -> Option<String> {
    let claims = token.split('.').nth(1)?.replace('-', "+").replace('_', "/");
    let padding = "=".repeat((4 - claims.len() % 4) % 4);
    let ByteString(claims) = serde_json::from_value(format!("{claims}{padding}").into()).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

/// What `%XX` stands for in a path or a query.
fn decoded(text: &str) -> String {
    let plain = text.replace('+', "%2B").replace('&', "%26").replace('#', "%23");
    let url = Url::parse(&format!("http://objects/?of={plain}"));
    let value = url.ok().and_then(|url| url.query_pairs().next().map(|(_, value)| value.into_owned()));
    value.unwrap_or_default()
}

/// What is guarded is whole after every statement.
fn lock(contents: &Mutex<Contents>) -> MutexGuard<'_, Contents> {
    contents.lock().unwrap_or_else(PoisonError::into_inner)
}
