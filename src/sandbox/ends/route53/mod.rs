//! Route 53's end: a zone with atomic batches that refuse what does not stand, changes that take a while to be everywhere,
//! and health checks that really ask. Requests must be signed by a key that it knows.

mod signature;
mod table;
mod xml;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::task::AbortHandle;

use super::super::error::{Context, Result};
use super::probe::{Prober, Verdict};
use super::server::{Served, serve};
use crate::runtime::lock;
use table::Table;
pub use xml::{AliasTarget, CheckConfig, Record, Value, Values};
use xml::{ChangeRequest, CheckRequest, NAMESPACE, element, text};

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Route53Options {
    /// Id of the zone.
    pub zone_id: String,
    /// Name of the zone.
    pub zone: String,
    /// Secrets of keys by their ids.
    pub keys: BTreeMap<String, String>,
    /// Ids of keys that may read alone.
    pub read_only: Vec<String>,
    /// Whether keys may list all zones, and so see more than they need.
    pub lists_zones: bool,
    /// How long it takes until a change is everywhere.
    pub in_sync: Duration,
    /// How often checkers ask, whatever is set.
    pub interval: Duration,
    /// Whether a batch is refused without the envelope that other errors have: Route 53 does both.
    pub unwrapped: bool,
    /// Records and health checks in one answer at the most.
    pub page: usize,
}

impl Default for Route53Options {
    /// One key `AKIAEXAMPLE` with the secret `example`, and checkers that ask ten times a second.
    fn default() -> Self {
        Self {
            zone_id: "Z0123456789ABC".to_owned(),
            zone: "finflow.example".to_owned(),
            keys: [("AKIAEXAMPLE".to_owned(), "example".to_owned())].into(),
            read_only: Vec::new(),
            lists_zones: false,
            in_sync: Duration::from_millis(50),
            interval: Duration::from_millis(100),
            unwrapped: false,
            page: 100,
        }
    }
}

#[derive(Default)]
struct Zone {
    table: Table,
    changes: Vec<Instant>,
    checks: Vec<Checked>,
}

struct Checked {
    id: String,
    reference: String,
    config: CheckConfig,
    verdict: Verdict,
}

struct Shared {
    options: Route53Options,
    zone: Mutex<Zone>,
}

/// The end, until it is dropped.
pub struct Route53End {
    /// Where it listens, and how it is to misbehave.
    pub served: Served,
    shared: Arc<Shared>,
    checker: AbortHandle,
}

impl Drop for Route53End {
    fn drop(&mut self) {
        self.checker.abort();
    }
}

impl Route53End {
    /// Starts it.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(options: Route53Options) -> Result<Self> {
        let prober = Prober::new(Duration::from_secs(10)).context(|| "making a health checker")?;
        let shared = Arc::new(Shared { options, zone: Mutex::default() });
        let served = serve(Router::new().fallback(answer).with_state(Arc::clone(&shared))).await?;
        let checker = tokio::spawn(check(Arc::clone(&shared), prober)).abort_handle();
        Ok(Self { served, shared, checker })
    }

    /// All records.
    pub fn records(&self) -> Vec<Record> {
        lock::lock(&self.shared.zone).table.all()
    }

    /// How many batches were carried out.
    pub fn changes(&self) -> usize {
        lock::lock(&self.shared.zone).changes.len()
    }

    /// References of all health checks.
    pub fn checks(&self) -> Vec<String> {
        lock::lock(&self.shared.zone).checks.iter().map(|check| check.reference.clone()).collect()
    }

    /// The records among which an answer is drawn by weight now: those that are well and have a weight; if there are none,
    /// those that are well without one; if there are none either, all.
    pub fn resolve(&self, name: &str, kind: &str) -> Vec<Record> {
        let zone = lock::lock(&self.shared.zone);
        let all = zone.table.of(name, kind);
        let well = |record: &&Record| match &record.health_check_id {
            None => true,
            Some(id) => zone.checks.iter().any(|check| check.id == *id && check.is_well()),
        };
        let weighs = |record: &&Record| record.weight.is_none_or(|weight| weight > 0);
        let first: Vec<Record> = all.iter().filter(well).filter(weighs).cloned().collect();
        if !first.is_empty() {
            return first;
        }
        let second: Vec<Record> = all.iter().filter(well).cloned().collect();
        if second.is_empty() { all } else { second }
    }
}

impl Checked {
    fn is_well(&self) -> bool {
        let well = self.config.disabled == Some(true) || self.verdict.well != Some(false);
        well != (self.config.inverted == Some(true))
    }

    fn xml(&self) -> String {
        format!(
            "<HealthCheck><Id>{}</Id><CallerReference>{}</CallerReference>{}<HealthCheckVersion>1</HealthCheckVersion></HealthCheck>",
            text(&self.id),
            text(&self.reference),
            element("HealthCheckConfig", &self.config)
        )
    }
}

/// Asks what each health check is told to ask.
async fn check(shared: Arc<Shared>, prober: Prober) {
    loop {
        let asked: Vec<(String, CheckConfig)> = {
            let zone = lock::lock(&shared.zone);
            zone.checks.iter().map(|check| (check.id.clone(), check.config.clone())).collect()
        };
        let questions = asked.into_iter().map(async |(id, config)| {
            let name = config.fully_qualified_domain_name.clone();
            let host = config.ip_address.clone().or_else(|| name.clone()).unwrap_or_default();
            let address = format!("{host}:{}", config.port.unwrap_or(80));
            let path = config.resource_path.clone().unwrap_or_default();
            let answer = match prober.ask(&address, &path, name.as_deref()).await {
                Ok(200..400) => Ok(()),
                Ok(code) => Err(format!("HTTP Status Code {code}")),
                Err(reason) => Err(reason),
            };
            (id, config.failure_threshold.unwrap_or(3), answer)
        });
        for (id, threshold, answer) in futures::future::join_all(questions).await {
            let mut zone = lock::lock(&shared.zone);
            if let Some(check) = zone.checks.iter_mut().find(|check| check.id == id) {
                check.verdict.hear(answer, threshold);
            }
        }
        tokio::time::sleep(shared.options.interval).await;
    }
}

fn xml(status: StatusCode, body: String) -> Response {
    let text = format!("<?xml version=\"1.0\"?>\n{body}");
    (status, [(header::CONTENT_TYPE, "text/xml")], text).into_response()
}

fn well(name: &str, inner: &str) -> Response {
    xml(StatusCode::OK, format!("<{name} xmlns=\"{NAMESPACE}\">{inner}</{name}>"))
}

fn refused(status: StatusCode, code: &str, message: &str) -> Response {
    let message = text(message);
    let inner = format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>played</RequestId></ErrorResponse>"
    );
    xml(status, inner)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(Body::new(body), 1 << 20).await else {
        return refused(StatusCode::BAD_REQUEST, "InvalidInput", "the body cannot be read");
    };
    let options = &shared.options;
    let signer = match signature::signer(&parts, &body, &options.keys) {
        Ok(signer) => signer,
        Err(code) => {
            return refused(StatusCode::FORBIDDEN, code, "The security token or signature is wrong.");
        }
    };
    let denied = |action: &str| {
        let message = format!("User {signer} is not authorized to perform: route53:{action}");
        refused(StatusCode::FORBIDDEN, "AccessDenied", &message)
    };
    let path = parts.uri.path().trim_matches('/').to_owned();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let query: BTreeMap<String, String> =
        reqwest::Url::parse(&format!("http://x/?{}", parts.uri.query().unwrap_or_default()))
            .map(|url| url.query_pairs().into_owned().collect())
            .unwrap_or_default();
    if let ["hostedzone", zone, ..] = segments[..]
        && zone != options.zone_id
    {
        return refused(
            StatusCode::NOT_FOUND,
            "NoSuchHostedZone",
            &format!("No hosted zone found with ID: {zone}"),
        );
    }
    if parts.method == Method::POST && options.read_only.contains(&signer) {
        return denied("ChangeResourceRecordSets");
    }
    let body = String::from_utf8_lossy(&body);
    let mut zone = lock::lock(&shared.zone);
    match (&parts.method, &segments[..]) {
        (&Method::GET, ["hostedzone"]) if !options.lists_zones => denied("ListHostedZones"),
        (&Method::GET, ["hostedzone"]) => zones(options),
        (&Method::GET, ["hostedzone", _]) => well(
            "GetHostedZoneResponse",
            &format!(
                "{}<DelegationSet><NameServers><NameServer>ns.example</NameServer></NameServers></DelegationSet>",
                hosted_zone(&options.zone_id, &options.zone)
            ),
        ),
        (&Method::GET, ["hostedzone", _, "rrset"]) => list(&zone.table, &query, options.page),
        (&Method::POST, ["hostedzone", _, "rrset"]) => change(&mut zone, options, &body),
        (&Method::GET, ["change", id]) => status_of(&zone, options, id),
        (&Method::GET, ["healthcheck"]) => checks(&zone, &query, options.page),
        (&Method::POST, ["healthcheck"]) => make_check(&mut zone, &body),
        (&Method::GET, ["healthcheck", id, rest @ ..]) => {
            match zone.checks.iter().find(|check| check.id == *id) {
                None => refused(
                    StatusCode::NOT_FOUND,
                    "NoSuchHealthCheck",
                    &format!("A health check with id {id} does not exist."),
                ),
                Some(check) if rest == ["status"] => health(check),
                Some(check) => well("GetHealthCheckResponse", &check.xml()),
            }
        }
        _ => refused(StatusCode::NOT_FOUND, "UnknownOperation", "There is no such operation here."),
    }
}

fn hosted_zone(id: &str, name: &str) -> String {
    format!(
        "<HostedZone><Id>/hostedzone/{id}</Id><Name>{name}.</Name><CallerReference>played</CallerReference><ResourceRecordSetCount>2</ResourceRecordSetCount></HostedZone>"
    )
}

fn zones(options: &Route53Options) -> Response {
    let all = hosted_zone(&options.zone_id, &options.zone) + &hosted_zone("ZOTHER", "other.example");
    let inner =
        format!("<HostedZones>{all}</HostedZones><IsTruncated>false</IsTruncated><MaxItems>2</MaxItems>");
    well("ListHostedZonesResponse", &inner)
}

fn list(table: &Table, query: &BTreeMap<String, String>, page: usize) -> Response {
    let asked = |name: &str| query.get(name).map(String::as_str);
    let start = asked("name").map(|name| (name, asked("type"), asked("identifier")));
    let (records, next) = table.from(start, page);
    let records: String = records.iter().map(|record| element("ResourceRecordSet", record)).collect();
    let next = next.map_or_else(
        || "<IsTruncated>false</IsTruncated>".to_owned(),
        |next| {
            let set = next.set_identifier.map(|set| format!("<NextRecordIdentifier>{}</NextRecordIdentifier>", text(&set)));
            format!(
                "<IsTruncated>true</IsTruncated><NextRecordName>{}</NextRecordName><NextRecordType>{}</NextRecordType>{}",
                text(&next.name),
                next.kind,
                set.unwrap_or_default()
            )
        },
    );
    let inner =
        format!("<ResourceRecordSets>{records}</ResourceRecordSets>{next}<MaxItems>{page}</MaxItems>");
    well("ListResourceRecordSetsResponse", &inner)
}

fn change_info(id: usize, status: &str) -> String {
    format!(
        "<ChangeInfo><Id>/change/C{id}</Id><Status>{status}</Status><SubmittedAt>2026-11-28T02:14:07Z</SubmittedAt></ChangeInfo>"
    )
}

fn change(zone: &mut Zone, options: &Route53Options, body: &str) -> Response {
    let request: ChangeRequest = match quick_xml::de::from_str(body) {
        Ok(request) => request,
        Err(error) => return refused(StatusCode::BAD_REQUEST, "InvalidInput", &error.to_string()),
    };
    let changes = request.change_batch.changes.change;
    let unknown = changes.iter().filter(|change| change.action != "DELETE").find_map(|change| {
        let id = change.resource_record_set.health_check_id.as_ref()?;
        (!zone.checks.iter().any(|check| check.id == *id)).then(|| id.clone())
    });
    if let Some(id) = unknown {
        let message = format!("A health check with id {id} does not exist.");
        return refused(StatusCode::NOT_FOUND, "NoSuchHealthCheck", &message);
    }
    if let Err(faults) = zone.table.change(&options.zone, changes) {
        if !options.unwrapped {
            let message = format!("[{}]", faults.join(", "));
            return refused(StatusCode::BAD_REQUEST, "InvalidChangeBatch", &message);
        }
        let messages: String =
            faults.iter().map(|fault| format!("<Message>{}</Message>", text(fault))).collect();
        let inner = format!(
            "<InvalidChangeBatch xmlns=\"{NAMESPACE}\"><Messages>{messages}</Messages><RequestId>played</RequestId></InvalidChangeBatch>"
        );
        return xml(StatusCode::BAD_REQUEST, inner);
    }
    zone.changes.push(Instant::now());
    well("ChangeResourceRecordSetsResponse", &change_info(zone.changes.len(), "PENDING"))
}

fn status_of(zone: &Zone, options: &Route53Options, id: &str) -> Response {
    let number: usize = id.trim_start_matches('C').parse().unwrap_or_default();
    let Some(since) = number.checked_sub(1).and_then(|place| zone.changes.get(place)) else {
        return refused(StatusCode::NOT_FOUND, "NoSuchChange", "There is no such change.");
    };
    let status = if since.elapsed() >= options.in_sync { "INSYNC" } else { "PENDING" };
    well("GetChangeResponse", &change_info(number, status))
}

fn checks(zone: &Zone, query: &BTreeMap<String, String>, page: usize) -> Response {
    let start: usize = query.get("marker").and_then(|marker| marker.parse().ok()).unwrap_or_default();
    let found: String = zone.checks.iter().skip(start).take(page).map(Checked::xml).collect();
    let end = start + page;
    let next = if end < zone.checks.len() {
        format!("<IsTruncated>true</IsTruncated><NextMarker>{end}</NextMarker>")
    } else {
        "<IsTruncated>false</IsTruncated>".to_owned()
    };
    let inner = format!(
        "<HealthChecks>{found}</HealthChecks><Marker>{start}</Marker>{next}<MaxItems>{page}</MaxItems>"
    );
    well("ListHealthChecksResponse", &inner)
}

fn make_check(zone: &mut Zone, body: &str) -> Response {
    let request: CheckRequest = match quick_xml::de::from_str(body) {
        Ok(request) => request,
        Err(error) => return refused(StatusCode::BAD_REQUEST, "InvalidInput", &error.to_string()),
    };
    let reference = request.caller_reference;
    match zone.checks.iter().find(|check| check.reference == reference) {
        Some(check) if check.config == request.health_check_config => {
            well("CreateHealthCheckResponse", &check.xml())
        }
        Some(_) => {
            let message = "A health check with this caller reference and other settings exists.";
            refused(StatusCode::CONFLICT, "HealthCheckAlreadyExists", message)
        }
        None => {
            let id = format!("00000000-0000-0000-0000-{:012}", zone.checks.len() + 1);
            let (config, verdict) = (request.health_check_config, Verdict::default());
            let check = Checked { id, reference, config, verdict };
            let mut made = well("CreateHealthCheckResponse", &check.xml());
            *made.status_mut() = StatusCode::CREATED;
            zone.checks.push(check);
            made
        }
    }
}

fn health(check: &Checked) -> Response {
    let status = match check.verdict.well {
        None => return well("GetHealthCheckStatusResponse", "<HealthCheckObservations/>"),
        Some(true) => "Success: HTTP Status Code 200, OK".to_owned(),
        Some(false) => format!("Failure: {}", check.verdict.reason),
    };
    let one = |place: &str| {
        format!(
            "<HealthCheckObservation><Region>{place}</Region><IPAddress>192.0.2.1</IPAddress><StatusReport><Status>{}</Status><CheckedTime>2026-11-28T02:14:07Z</CheckedTime></StatusReport></HealthCheckObservation>",
            text(&status)
        )
    };
    let all: String = ["us-east-1", "eu-west-1", "ap-southeast-1"].map(one).concat();
    let inner = format!("<HealthCheckObservations>{all}</HealthCheckObservations>");
    well("GetHealthCheckStatusResponse", &inner)
}
