//! What calls to AWS have in common: credentials, and what an error means.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_eks::config::http::HttpResponse;
use aws_sdk_eks::config::retry::RetryConfig;
use aws_sdk_eks::config::timeout::TimeoutConfig;
use aws_sdk_eks::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::config::Region;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::OnceCell;

use super::CloudError;
use crate::runtime::remote::{DEADLINE, RemoteError, within};

/// The name of a session in AWS' own records, beside the role.
const SESSION: &str = "banyan";
/// Credentials that live shorter than this are not worth a call.
const LEAST: Duration = Duration::from_secs(1);

/// An access key from a Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its ID, which is no secret.
    pub id: String,
    /// The secret part.
    pub secret: String,
    /// The token of a session, for one that ends.
    pub session: Option<String>,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AccessKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Where credentials come from: the Pod or a Secret, and a role that is assumed with them.
pub struct Source {
    region: String,
    key: Option<AccessKey>,
    role: Option<String>,
    sts: Option<String>,
    pod: OnceCell<SharedCredentialsProvider>,
}

impl Source {
    /// One for that region. `sts` is where STS is, if not in its usual place there.
    pub fn new(region: &str, key: Option<AccessKey>, role: Option<String>, sts: Option<String>) -> Self {
        Self { region: region.to_owned(), key, role, sts, pod: OnceCell::new() }
    }

    /// Credentials that are good now. Each call may ask AWS: it is called once for each token.
    ///
    /// # Errors
    /// If there are none, or the role may not be assumed.
    pub async fn credentials(&self) -> Result<Credentials, CloudError> {
        let own = match &self.key {
            Some(key) => Credentials::new(&key.id, &key.secret, key.session.clone(), None, "Secret"),
            None => self.of_pod().await?,
        };
        match &self.role {
            None => Ok(own),
            Some(role) => self.assume(role, own).await,
        }
    }

    async fn of_pod(&self) -> Result<Credentials, CloudError> {
        let region = Region::new(self.region.clone());
        let chain = async || {
            let config = ProviderConfig::without_region()
                .with_region(Some(region))
                .with_retry_config(RetryConfig::disabled())
                .with_timeout_config(timeouts());
            // Programs that a profile names are not run: the feature that would is not built in.
            let chain = DefaultCredentialsChain::builder().configure(config).build().await;
            SharedCredentialsProvider::new(chain)
        };
        let call = async {
            let provider = self.pod.get_or_init(chain).await;
            Ok(provider.provide_credentials().await)
        };
        let failed = |error| CloudError::Remote {
            what: "the credentials of this Pod for AWS cannot be had:".to_owned(),
            error,
            remedy: Some(
                "give the operator's ServiceAccount an EKS Pod Identity or a role, or name a Secret in eks.credentials",
            ),
        };
        match within(DEADLINE, call).await {
            Ok(Ok(credentials)) => Ok(credentials),
            Ok(Err(CredentialsError::CredentialsNotLoaded(_))) => Err(CloudError::Credentials {
                message: "this Pod has no credentials for AWS".to_owned(),
                remedy:
                    "give the operator's ServiceAccount an EKS Pod Identity or a role, or name a Secret in \
                         eks.credentials"
                        .to_owned(),
            }),
            Ok(Err(error)) => Err(failed(of_provider(&error))),
            Err(error) => Err(failed(error)),
        }
    }

    async fn assume(&self, role: &str, own: Credentials) -> Result<Credentials, CloudError> {
        let failed = |error| CloudError::Remote {
            what: format!("AWS STS, asked for the role {role}, says:"),
            remedy: matches!(error, RemoteError::Forbidden | RemoteError::Unauthorized).then_some(
                "let the trust policy of the role name this identity, and its own policy sts:AssumeRole",
            ),
            error,
        };
        let mut config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .credentials_provider(own)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts());
        config.set_endpoint_url(self.sts.clone());
        let client = aws_sdk_sts::Client::from_conf(config.build());
        let call = client.assume_role().role_arn(role).role_session_name(SESSION);
        let answer = within(DEADLINE, async { call.send().await.map_err(|error| of_sdk(&error)) });
        let given = answer.await.map_err(failed)?.credentials;
        let given =
            given.ok_or_else(|| failed(RemoteError::Unreadable("it names no credentials".to_owned())))?;
        let ends = SystemTime::try_from(given.expiration)
            .map_err(|_| failed(RemoteError::Unreadable("the credentials end at no time".to_owned())))?;
        Ok(Credentials::new(
            given.access_key_id,
            given.secret_access_key,
            Some(given.session_token),
            Some(ends),
            "AssumeRole",
        ))
    }
}

/// How long credentials still live; `None` where they do not end.
///
/// # Errors
/// If they have ended.
pub fn life(credentials: &Credentials, now: SystemTime) -> Result<Option<Duration>, CloudError> {
    let Some(ends) = credentials.expiry() else { return Ok(None) };
    match ends.duration_since(now) {
        Ok(life) if life >= LEAST => Ok(Some(life)),
        _ => Err(CloudError::Credentials {
            message: "the credentials for AWS have ended".to_owned(),
            remedy: "renew them in the Secret, or set the clock of this cluster's nodes".to_owned(),
        }),
    }
}

/// How long AWS' clients wait. They are cut off from outside as well.
pub fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(DEADLINE).operation_timeout(DEADLINE).build()
}

/// What an answer of AWS means.
pub fn of_sdk<E>(error: &SdkError<E, HttpResponse>) -> RemoteError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::TimeoutError(_) => RemoteError::NoAnswer(DEADLINE),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => RemoteError::NoAnswer(DEADLINE),
        SdkError::ServiceError(service) => {
            let raw = service.raw();
            let headers = raw.headers().iter().filter_map(|(name, value)| {
                Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
            });
            let headers: HeaderMap = headers.collect();
            let (code, words) = (service.err().code().unwrap_or_default(), service.err().message());
            match (code, raw.status().as_u16()) {
                // It answered well and cannot be understood.
                (_, 200..300) => RemoteError::Unreadable("it broke off, or is of another form".to_owned()),
                (code, _) if is_about_credentials(code) => RemoteError::Unauthorized,
                (code, _) if code.starts_with("Throttl") || code == "TooManyRequestsException" => {
                    RemoteError::of_status(429, &headers, "")
                }
                (_, status) => RemoteError::of_status(status, &headers, words.unwrap_or(code)),
            }
        }
        SdkError::ResponseError(_) => {
            RemoteError::Unreadable("it broke off, or is of another form".to_owned())
        }
        other => RemoteError::of_connection(other),
    }
}

/// Whether a code of AWS, which mostly comes with 403 or 400, says that the credentials themselves are no good.
fn is_about_credentials(code: &str) -> bool {
    const CODES: [&str; 8] = [
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    ];
    CODES.contains(&code)
}

/// Why a provider of credentials gave none.
fn of_provider(error: &CredentialsError) -> RemoteError {
    match error {
        CredentialsError::ProviderTimedOut(_) => RemoteError::NoAnswer(DEADLINE),
        error => RemoteError::of_connection(error),
    }
}
