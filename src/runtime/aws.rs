//! What calls to AWS have in common: the identity that a Pod is given, and what an error means.

use std::error::Error;
use std::io;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_sts::config::Region;
use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::remote::{DEADLINE, RemoteError, within};

/// What to do where a Pod has no credentials. The field that names a Secret is to be said after it.
pub const REMEDY: &str =
    "give the operator's ServiceAccount an EKS Pod Identity or a role, or name a Secret in";

/// Why a Pod has no credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCredentials {
    /// It is given none.
    #[error("this Pod has no credentials for AWS")]
    NotGiven,
    /// The file that holds its token cannot be read.
    #[error("the token of this Pod for AWS cannot be read: {0}")]
    Unread(io::ErrorKind),
    /// Who would lend them refuses, or does not answer.
    #[error("the credentials of this Pod for AWS cannot be had: {0}")]
    Remote(RemoteError),
}

/// What lends a Pod its credentials: variables, a web identity, an EKS Pod Identity, or its machine. Nothing is asked yet.
pub async fn of_pod(region: &str) -> SharedCredentialsProvider {
    let config = ProviderConfig::without_region()
        .with_retry_config(RetryConfig::disabled())
        .with_timeout_config(timeouts());
    // Programs that a profile names are not run: the feature that would is not built in.
    let chain = DefaultCredentialsChain::builder().configure(config).region(Region::new(region.to_owned()));
    SharedCredentialsProvider::new(chain.build().await)
}

/// Credentials that are good now. Each call asks whoever lends them, and reads the token's file anew.
///
/// # Errors
/// Why there are none.
pub async fn credentials(of: &SharedCredentialsProvider) -> Result<Credentials, NoCredentials> {
    match within(DEADLINE, async { Ok(of.provide_credentials().await) }).await {
        Ok(Ok(credentials)) => Ok(credentials),
        Ok(Err(error)) => Err(why(&error)),
        Err(error) => Err(NoCredentials::Remote(error)),
    }
}

fn why(error: &CredentialsError) -> NoCredentials {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => return NoCredentials::NotGiven,
        CredentialsError::ProviderTimedOut(_) => {
            return NoCredentials::Remote(RemoteError::NoAnswer(DEADLINE));
        }
        _ => {}
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(at) = cause {
        if let Some(sts) = at.downcast_ref::<SdkError<AssumeRoleWithWebIdentityError, HttpResponse>>() {
            return NoCredentials::Remote(of_sdk(sts));
        }
        if let Some(file) = at.downcast_ref::<io::Error>()
            && matches!(file.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
        {
            return NoCredentials::Unread(file.kind());
        }
        // The agent's status is told in words alone.
        let status = at.to_string();
        let status = status.split_once("HTTP credential provider: StatusCode(").map(|(_, rest)| rest);
        if let Some(code) = status.and_then(|rest| rest.split_once(')')?.0.parse().ok()) {
            return NoCredentials::Remote(RemoteError::of_status(code, &HeaderMap::new(), ""));
        }
        cause = at.source();
    }
    NoCredentials::Remote(RemoteError::of_connection(error))
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
    const CODES: [&str; 10] = [
        "ExpiredToken",
        "ExpiredTokenException",
        "IDPRejectedClaim",
        "InvalidClientTokenId",
        "InvalidIdentityToken",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    ];
    CODES.contains(&code)
}
