//! The way to an object store: TLS except to this machine, no retries of its own, no machine's identity.

use std::pin::Pin;
use std::sync::Arc;

use google_cloud_auth::credentials::{AccessTokenCredentials, external_account};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::HttpConnector;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, CredentialProvider, ObjectStore, RetryConfig};

use super::credentials::Credentials;
use super::ground::{Ground, Protocol, SOURCE};
use super::wire::Connector;
use crate::api::Problem;
use crate::runtime::remote::DEADLINE;

/// What may be read and written in Google's storage.
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
/// The region of stores that are not Amazon's, where none is named: they take any.
const ANY_REGION: &str = "us-east-1";

/// A store, and what the names of a group's objects begin with there.
#[derive(Clone, Debug)]
pub struct Way {
    /// The store.
    pub(super) store: Arc<dyn ObjectStore>,
    /// What names begin with.
    pub(super) prefix: Path,
    /// For a folder, where it lies: a folder that is gone says nothing about what was decided.
    pub(super) folder: Option<std::path::PathBuf>,
}

/// Makes the way to a store. Nothing is asked yet.
///
/// # Errors
/// If it cannot be made of what is there: the field and the remedy.
pub fn connect(ground: &Ground, credentials: &Credentials) -> Result<Way, Problem> {
    connect_by(ground, credentials, Connector::default())
}

/// The same by what makes the connections, those for credentials too.
fn connect_by(
    ground: &Ground,
    credentials: &Credentials,
    connector: impl HttpConnector,
) -> Result<Way, Problem> {
    let store: Arc<dyn ObjectStore> = match ground.protocol {
        Protocol::S3 => Arc::new(s3(ground, credentials, connector)?),
        Protocol::Google => Arc::new(google(ground, credentials, connector)?),
        Protocol::Azure => Arc::new(azure(ground, credentials, connector)?),
        Protocol::File => Arc::new(folder(ground)?),
    };
    let is_folder = ground.protocol == Protocol::File;
    let prefix = if is_folder { "" } else { ground.prefix.as_str() };
    let prefix = Path::parse(prefix).map_err(|_| {
        let remedy = "use letters, digits, dashes, dots and underscores in the prefix";
        Problem::error(format!("{SOURCE}.url"), "the prefix cannot be the beginning of a name", remedy)
    })?;
    let folder = is_folder.then(|| ground.prefix.clone().into());
    Ok(Way { store, prefix, folder })
}

/// Nothing is asked twice by itself, and nothing waits longer than a call may take.
fn client(ground: &Ground) -> (RetryConfig, ClientOptions) {
    let retry = RetryConfig { max_retries: 0, retry_timeout: DEADLINE, ..RetryConfig::default() };
    let options = ClientOptions::new()
        .with_allow_http(ground.is_plain())
        .with_connect_timeout(DEADLINE)
        .with_timeout(DEADLINE);
    (retry, options)
}

/// What a builder refuses. Its own words may quote a key.
fn refused(credentials: &Credentials) -> Problem {
    Problem::error(
        format!("{SOURCE}.credentials"),
        format!("{credentials:?} cannot be used for this witness"),
        "compare the Secret with what the field's description asks for",
    )
}

fn s3<C: HttpConnector>(
    ground: &Ground,
    credentials: &Credentials,
    connector: C,
) -> Result<impl ObjectStore + use<C>, Problem> {
    let (retry, options) = client(ground);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&ground.bucket)
        .with_region(ground.region.as_deref().unwrap_or(ANY_REGION))
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry)
        .with_client_options(options)
        .with_http_connector(connector);
    if let Some(endpoint) = &ground.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    builder = match credentials {
        Credentials::AwsKeys { id, secret, session } => {
            let builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            match session {
                Some(session) => builder.with_token(session),
                None => builder,
            }
        }
        Credentials::AwsWebIdentity { file, role, sts } => {
            let builder = builder
                .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, file)
                .with_config(AmazonS3ConfigKey::RoleArn, role)
                .with_config(AmazonS3ConfigKey::RoleSessionName, "banyan-witness");
            match sts {
                Some(sts) => builder.with_config(AmazonS3ConfigKey::StsEndpoint, sts),
                None => builder,
            }
        }
        Credentials::AwsPodIdentity { url, file } => builder
            .with_config(AmazonS3ConfigKey::ContainerCredentialsFullUri, url)
            .with_config(AmazonS3ConfigKey::ContainerAuthorizationTokenFile, file),
        // Without any, the library would ask the machine for its identity.
        _ => return Err(refused(credentials)),
    };
    builder.build().map_err(|_| refused(credentials))
}

fn google<C: HttpConnector>(
    ground: &Ground,
    credentials: &Credentials,
    connector: C,
) -> Result<impl ObjectStore + use<C>, Problem> {
    let (retry, options) = client(ground);
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&ground.bucket)
        .with_retry(retry)
        .with_client_options(options)
        .with_http_connector(connector);
    if let Some(endpoint) = &ground.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    builder = match credentials {
        Credentials::GoogleKey(key) => builder.with_service_account_key(key),
        Credentials::GoogleExternal(file) => {
            let tokens = external_account::Builder::new(file.clone())
                .with_scopes([GOOGLE_SCOPE])
                .build_access_token_credentials()
                .map_err(|_| refused(credentials))?;
            builder.with_credentials(Arc::new(GoogleTokens(tokens)))
        }
        // Without any, the library would look for a file at home, and ask the machine.
        _ => return Err(refused(credentials)),
    };
    builder.build().map_err(|_| refused(credentials))
}

fn azure<C: HttpConnector>(
    ground: &Ground,
    credentials: &Credentials,
    connector: C,
) -> Result<impl ObjectStore + use<C>, Problem> {
    let (retry, options) = client(ground);
    let mut builder = MicrosoftAzureBuilder::new()
        .with_container_name(&ground.bucket)
        .with_retry(retry)
        .with_client_options(options)
        .with_http_connector(connector);
    if let Some(endpoint) = &ground.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    builder = match credentials {
        Credentials::AzureKey { account, key } => builder.with_account(account).with_access_key(key),
        Credentials::AzureSas { account, sas } => {
            builder.with_account(account).with_config(AzureConfigKey::SasKey, sas)
        }
        Credentials::AzureWorkloadIdentity { account, client, tenant, file } => builder
            .with_account(account)
            .with_client_id(client)
            .with_tenant_id(tenant)
            .with_federated_token_file(file),
        // Without any, the library would ask the machine for its identity.
        _ => return Err(refused(credentials)),
    };
    let kind = match credentials {
        Credentials::AzureKey { .. } => "access_key",
        Credentials::AzureSas { .. } => "sas_token",
        _ => "workload_identity",
    };
    builder.with_credential_type(kind).build().map_err(|_| refused(credentials))
}

/// A folder is not made: one that is missing is a volume that is not mounted.
fn folder(ground: &Ground) -> Result<LocalFileSystem, Problem> {
    LocalFileSystem::new_with_prefix(&ground.prefix).map(|folder| folder.with_fsync(true)).map_err(|_| {
        Problem::error(
            format!("{SOURCE}.url"),
            format!("the folder {} is not there", ground.prefix),
            "mount the volume that both sites share into the operator's pod at that path",
        )
    })
}

/// Tokens of an external account. The library beneath keeps them until shortly before they end.
#[derive(Debug)]
struct GoogleTokens(AccessTokenCredentials);

impl GoogleTokens {
    async fn token(&self) -> object_store::Result<Arc<GcpCredential>> {
        match self.0.access_token().await {
            Ok(token) => Ok(Arc::new(GcpCredential { bearer: token.token })),
            // Its words may quote the token that was refused.
            Err(_) => Err(object_store::Error::Unauthenticated {
                path: String::new(),
                source: "the external account got no token".into(),
            }),
        }
    }
}

impl CredentialProvider for GoogleTokens {
    type Credential = GcpCredential;

    fn get_credential<'life0, 'async_trait>(
        &'life0 self,
    ) -> Pin<Box<dyn Future<Output = object_store::Result<Arc<GcpCredential>>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.token())
    }
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
