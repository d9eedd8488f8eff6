//! With what AWS is asked for a cluster: an access key or the Pod's own identity, and a role.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sts::config::Region;
use aws_sdk_sts::config::retry::RetryConfig;
use tokio::sync::OnceCell;

use super::CloudError;
use crate::runtime::aws::{self, NoCredentials, of_sdk, timeouts};
use crate::runtime::remote::{DEADLINE, RemoteError, within};

/// What to do where the Pod has no credentials.
const REMEDY: &str =
    "give the operator's ServiceAccount an EKS Pod Identity or a role, or name a Secret in eks.credentials";
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
        let provider = self.pod.get_or_init(async || aws::of_pod(&self.region).await).await;
        aws::credentials(provider).await.map_err(|none| match none {
            NoCredentials::Remote(error) => CloudError::Remote {
                what: "the credentials of this Pod for AWS cannot be had:".to_owned(),
                error,
                remedy: Some(REMEDY),
            },
            none => CloudError::Credentials { message: none.to_string(), remedy: REMEDY.to_owned() },
        })
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
        let given = given.ok_or_else(|| failed(RemoteError::unreadable("it names no credentials")))?;
        let ends = SystemTime::try_from(given.expiration)
            .map_err(|_| failed(RemoteError::unreadable("the credentials end at no time")))?;
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
