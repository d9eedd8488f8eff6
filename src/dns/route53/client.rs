//! Calls to Route 53, each once and with a deadline, and what their failures mean.

use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_route53::config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_route53::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_route53::operation::RequestId;
use aws_sdk_route53::types::{
    AliasTarget, Change, ChangeAction, ChangeBatch, ChangeStatus, HealthCheck, HealthCheckConfig,
    HealthCheckType, ResourceRecord, ResourceRecordSet, RrType,
};
use http::{HeaderMap, header::RETRY_AFTER};

use crate::dns::secret::Hidden;
use crate::dns::stands::{Health, Monitor};
use crate::dns::wanted::Gateway;
use crate::runtime::remote::{RemoteError, within};

use super::REGION;
use super::records::{Alias, Check, Edit, RecordSet};

/// Most pages of a list: a hundred records or health checks each.
const MOST_PAGES: u32 = 20;
/// How an answer begins that refuses a batch, where it has no envelope.
const UNWRAPPED: &[u8] = b"<InvalidChangeBatch";
/// How many of Route 53's checkers must find a site well, in percent: its own rule.
const ENOUGH: usize = 18;

/// The way to Route 53. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Client {
    aws: aws_sdk_route53::Client,
    zone: String,
    deadline: Duration,
    /// What must not be repeated, should an answer hold it.
    hidden: Vec<Hidden>,
}

type Raw = aws_sdk_route53::config::http::HttpResponse;

impl Client {
    pub(super) fn new(
        zone: &str,
        credentials: SharedCredentialsProvider,
        hidden: Vec<Hidden>,
        endpoint: Option<&str>,
        deadline: Duration,
    ) -> Self {
        let timeouts = TimeoutConfig::builder().operation_timeout(deadline).connect_timeout(deadline).build();
        let mut config = aws_sdk_route53::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static(REGION))
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .credentials_provider(credentials);
        config.set_endpoint_url(endpoint.map(str::to_owned));
        let aws = aws_sdk_route53::Client::from_conf(config.build());
        Self { aws, zone: zone.to_owned(), deadline, hidden }
    }

    async fn call<T, E>(
        &self,
        call: impl Future<Output = Result<T, SdkError<E, Raw>>>,
    ) -> Result<T, RemoteError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        T: Send,
    {
        within(self.deadline, async { call.await.map_err(|error| self.meaning(error)) }).await
    }

    fn meaning<E>(&self, error: SdkError<E, Raw>) -> RemoteError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match &error {
            SdkError::TimeoutError(_) => RemoteError::NoAnswer(self.deadline),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                RemoteError::NoAnswer(self.deadline)
            }
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                // Without credentials nothing is sent.
                Some(cause) if !cause.is_io() && cause.to_string().contains("credential") => {
                    RemoteError::Unauthorized
                }
                Some(cause) => RemoteError::of_connection(cause),
                None => RemoteError::Unreachable("the request was not sent".to_owned()),
            },
            SdkError::ConstructionFailure(_) => RemoteError::Unauthorized,
            SdkError::ServiceError(service) => {
                self.said(service.raw(), service.err().code(), service.err().message())
            }
            SdkError::ResponseError(response) => self.said(response.raw(), None, None),
            _ => RemoteError::Unreadable("an error of another kind".to_owned()),
        }
    }

    fn said(&self, raw: &Raw, code: Option<&str>, message: Option<&str>) -> RemoteError {
        let status = raw.status().as_u16();
        let mut words = message.unwrap_or_default().to_owned();
        for hidden in &self.hidden {
            words = hidden.taken_out_of(&words);
        }
        // Route 53 documents this answer without the envelope that its other errors have, and sends it in both ways.
        let unwrapped = raw
            .body()
            .bytes()
            .is_some_and(|body| body.windows(UNWRAPPED.len()).any(|part| part == UNWRAPPED));
        let code = code.or(unwrapped.then_some("InvalidChangeBatch"));
        match code.unwrap_or_default() {
            "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "MissingAuthenticationToken"
            | "IncompleteSignature" => RemoteError::Unauthorized,
            "AccessDenied" | "AccessDeniedException" => RemoteError::Forbidden,
            "Throttling" | "ThrottlingException" | "PriorRequestNotComplete" => {
                RemoteError::Busy { after: None }
            }
            "NoSuchHostedZone" | "NoSuchHealthCheck" | "NoSuchChange" => RemoteError::NotFound,
            "InvalidChangeBatch" | "HealthCheckAlreadyExists" => RemoteError::Conflict(status),
            _ if raw.status().is_success() => {
                RemoteError::Unreadable("it is not what Route 53 answers".to_owned())
            }
            _ => {
                let after = raw.headers().get("retry-after").and_then(|after| after.parse().ok());
                let headers: HeaderMap = after.map(|after| (RETRY_AFTER, after)).into_iter().collect();
                RemoteError::of_status(status, &headers, &words)
            }
        }
    }

    /// Name of the zone, without a dot at the end.
    pub(super) async fn zone_name(&self) -> Result<String, RemoteError> {
        let answer = self.call(self.aws.get_hosted_zone().id(&self.zone).send()).await?;
        answer
            .hosted_zone()
            .map(|zone| zone.name().trim_end_matches('.').to_owned())
            .ok_or_else(|| RemoteError::Unreadable("no zone in it".to_owned()))
    }

    /// All records of one name.
    pub(super) async fn records(&self, name: &str) -> Result<Vec<RecordSet>, RemoteError> {
        let mut all = Vec::new();
        let (mut start, mut kind, mut set) = (name.to_owned(), None, None);
        for _ in 0..MOST_PAGES {
            let call = self
                .aws
                .list_resource_record_sets()
                .hosted_zone_id(&self.zone)
                .start_record_name(&start)
                .set_start_record_type(kind.take())
                .set_start_record_identifier(set.take());
            let answer = self.call(call.send()).await?;
            let found = answer.resource_record_sets().iter().map(record_of);
            let before = all.len();
            let read = answer.resource_record_sets().len();
            all.extend(found.take_while(|record| record.name == name));
            let more = all.len() - before == read && answer.is_truncated();
            match answer.next_record_name() {
                Some(next) if more => start = next.to_owned(),
                _ => return Ok(all),
            }
            kind = answer.next_record_type().cloned();
            set = answer.next_record_identifier().map(str::to_owned);
        }
        Err(RemoteError::Unreadable(format!("more than {MOST_PAGES} pages of records of one name")))
    }

    /// Carries out a batch as a whole, or not at all. Answers with the id of the change.
    pub(super) async fn change(&self, edits: &[Edit], comment: &str) -> Result<String, RemoteError> {
        let refused =
            |error: &dyn std::fmt::Display| RemoteError::Refused { code: 400, words: error.to_string() };
        let mut batch = ChangeBatch::builder().comment(comment);
        for edit in edits {
            let (action, set) = match edit {
                Edit::Delete(set) => (ChangeAction::Delete, set),
                Edit::Create(set) => (ChangeAction::Create, set),
            };
            let set = record_to(set).map_err(|error| refused(&error))?;
            let change = Change::builder().action(action).resource_record_set(set).build();
            batch = batch.changes(change.map_err(|error| refused(&error))?);
        }
        let batch = batch.build().map_err(|error| refused(&error))?;
        let call = self.aws.change_resource_record_sets().hosted_zone_id(&self.zone).change_batch(batch);
        let answer = self.call(call.send()).await?;
        tracing::debug!(request = answer.request_id(), "a batch of records was accepted");
        let info =
            answer.change_info().ok_or_else(|| RemoteError::Unreadable("no change in it".to_owned()))?;
        Ok(info.id().trim_start_matches("/change/").to_owned())
    }

    /// Whether all servers have a change.
    pub(super) async fn in_sync(&self, change: &str) -> Result<bool, RemoteError> {
        let answer = self.call(self.aws.get_change().id(change).send()).await?;
        Ok(answer.change_info().is_some_and(|info| *info.status() == ChangeStatus::Insync))
    }

    /// One health check.
    pub(super) async fn check(&self, id: &str) -> Result<Option<Check>, RemoteError> {
        match self.call(self.aws.get_health_check().health_check_id(id).send()).await {
            Ok(answer) => Ok(answer.health_check().map(check_of)),
            Err(RemoteError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All health checks of the account.
    pub(super) async fn checks(&self) -> Result<Vec<Check>, RemoteError> {
        let mut all = Vec::new();
        let mut marker = None;
        for _ in 0..MOST_PAGES {
            let answer = self.call(self.aws.list_health_checks().set_marker(marker.take()).send()).await?;
            all.extend(answer.health_checks().iter().map(check_of));
            match answer.next_marker() {
                Some(next) if answer.is_truncated() => marker = Some(next.to_owned()),
                _ => return Ok(all),
            }
        }
        Err(RemoteError::Unreadable(format!("more than {MOST_PAGES} pages of health checks")))
    }

    /// What the checkers say.
    pub(super) async fn health(&self, id: &str) -> Result<Health, RemoteError> {
        let answer = self.call(self.aws.get_health_check_status().health_check_id(id).send()).await?;
        let reports: Vec<&str> = answer
            .health_check_observations()
            .iter()
            .filter_map(|seen| seen.status_report()?.status())
            .collect();
        let well = reports.iter().filter(|report| report.starts_with("Success")).count();
        if reports.is_empty() {
            return Ok(Health::Unknown);
        }
        if well * 100 > reports.len() * ENOUGH {
            return Ok(Health::Healthy);
        }
        let reason = reports.iter().find(|report| !report.starts_with("Success"));
        Ok(Health::Unhealthy(reason.map(|reason| (*reason).to_owned()).unwrap_or_default()))
    }

    /// Makes a health check. The same reference with the same settings never makes a second one.
    pub(super) async fn make_check(
        &self,
        reference: &str,
        gateway: &Gateway,
        host: &str,
        path: &str,
    ) -> Result<Check, RemoteError> {
        let kind = if gateway.tls { HealthCheckType::Https } else { HealthCheckType::Http };
        let mut config = HealthCheckConfig::builder()
            .r#type(kind)
            .port(gateway.port.into())
            .resource_path(path)
            .request_interval(10)
            .failure_threshold(2);
        if gateway.tls {
            config = config.enable_sni(true);
        }
        // An address is asked with the host that users ask for; a name is asked by itself.
        config = match gateway.host.parse::<std::net::IpAddr>() {
            Ok(address) => config.ip_address(address.to_string()).fully_qualified_domain_name(host),
            Err(_) => config.fully_qualified_domain_name(&gateway.host),
        };
        let config =
            config.build().map_err(|error| RemoteError::Refused { code: 400, words: error.to_string() })?;
        let call = self.aws.create_health_check().caller_reference(reference).health_check_config(config);
        let answer = self.call(call.send()).await?;
        answer
            .health_check()
            .map(check_of)
            .ok_or_else(|| RemoteError::Unreadable("no check in it".to_owned()))
    }

    /// How many zones can be listed, up to two; none where they may not be.
    pub(super) async fn zones(&self) -> Result<usize, RemoteError> {
        match self.call(self.aws.list_hosted_zones().max_items(2).send()).await {
            Ok(answer) => Ok(answer.hosted_zones().len()),
            Err(RemoteError::Forbidden) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

fn check_of(check: &HealthCheck) -> Check {
    let monitor = check.health_check_config().map(|config| Monitor {
        path: config.resource_path().unwrap_or("/").to_owned(),
        every: config.request_interval().unwrap_or(30).unsigned_abs(),
        strict: config.inverted() != Some(true)
            && config.disabled() != Some(true)
            && config.r#type().as_str().starts_with("HTTP"),
    });
    Check { id: check.id().to_owned(), reference: check.caller_reference().to_owned(), monitor }
}

fn record_of(set: &ResourceRecordSet) -> RecordSet {
    let other = set.region().is_some()
        || set.geo_location().is_some()
        || set.failover().is_some()
        || set.multi_value_answer().is_some()
        || set.traffic_policy_instance_id().is_some()
        || set.cidr_routing_config().is_some()
        || set.geo_proximity_location().is_some();
    RecordSet {
        name: set.name().trim_end_matches('.').to_ascii_lowercase(),
        kind: set.r#type().as_str().to_owned(),
        set: set.set_identifier().map(str::to_owned),
        weight: set.weight(),
        ttl: set.ttl(),
        values: set.resource_records().iter().map(|record| record.value().to_owned()).collect(),
        alias: set.alias_target().map(|alias| Alias {
            zone: alias.hosted_zone_id().to_owned(),
            name: alias.dns_name().to_owned(),
            evaluate: alias.evaluate_target_health(),
        }),
        health_check: set.health_check_id().map(str::to_owned),
        other,
    }
}

fn record_to(set: &RecordSet) -> Result<ResourceRecordSet, aws_sdk_route53::error::BuildError> {
    let values: Result<Vec<_>, _> =
        set.values.iter().map(|value| ResourceRecord::builder().value(value).build()).collect();
    let alias = set.alias.as_ref().map(|alias| {
        let built = AliasTarget::builder().hosted_zone_id(&alias.zone).dns_name(&alias.name);
        built.evaluate_target_health(alias.evaluate).build()
    });
    ResourceRecordSet::builder()
        .name(&set.name)
        .r#type(RrType::from(set.kind.as_str()))
        .set_set_identifier(set.set.clone())
        .set_weight(set.weight)
        .set_ttl(set.ttl)
        .set_resource_records(Some(values?).filter(|values| !values.is_empty()))
        .set_alias_target(alias.transpose()?)
        .set_health_check_id(set.health_check.clone())
        .build()
}
