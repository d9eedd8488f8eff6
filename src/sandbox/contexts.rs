//! Clusters that exist already, in the place of clouds of our own: `--context A --context B`.

use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::Api;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig, NamedAuthInfo};
use kube::{Client, Config};

use super::error::{Context, Error, Result};
use super::install::{self, Applied};
use super::operators::NAMESPACE;

/// The operator's service account, as the chart names it.
const ACCOUNT: &str = "banyan";
/// How long the operator's token is good, in seconds: a working day.
const TOKEN_SECONDS: i64 = 12 * 3600;
/// How long FinServices that were deleted may take to go.
const GONE: Duration = Duration::from_secs(60);
/// How often it is looked whether they went.
const LOOK: Duration = Duration::from_millis(500);

/// One context of the user's kubeconfig, alone, as YAML.
///
/// # Errors
/// When there is no kubeconfig, no such context, or what the context names is missing.
pub(super) fn kubeconfig(context: &str) -> Result<String> {
    let mut config = Kubeconfig::read().context(|| "reading your kubeconfig")?;
    let known: Vec<String> = config.contexts.iter().map(|known| known.name.clone()).collect();
    config.contexts.retain(|known| known.name == context);
    let Some(found) = config.contexts.first().and_then(|found| found.context.clone()) else {
        return Err(Error::new(format!(
            "--context {context}: your kubeconfig has no such context; it has {}",
            if known.is_empty() { "none".into() } else { known.join(", ") }
        )));
    };
    config.clusters.retain(|cluster| cluster.name == found.cluster);
    config.auth_infos.retain(|user| Some(&user.name) == found.user.as_ref());
    if config.clusters.is_empty() {
        return Err(Error::new(format!(
            "--context {context}: your kubeconfig has no cluster {}",
            found.cluster
        )));
    }
    config.current_context = Some(context.to_owned());
    write(&config)
}

/// The same cluster with the operator's own token, which its API server is asked for.
///
/// # Errors
/// When the service account is not there, or its token is refused.
pub(super) async fn operator_kubeconfig(client: &Client, admin: &str) -> Result<String> {
    let doing = || format!("asking for a token of the service account {NAMESPACE}/{ACCOUNT}");
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let token = Api::<ServiceAccount>::namespaced(client.clone(), NAMESPACE)
        .create_token_request(ACCOUNT, &Default::default(), &request)
        .await
        .context(doing)?
        .status
        .and_then(|status| status.token)
        .ok_or_else(|| Error::new(format!("{}: the answer has none", doing())))?;
    let mut config = Kubeconfig::from_yaml(admin).context(doing)?;
    let info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
    config.auth_infos =
        vec![NamedAuthInfo { name: ACCOUNT.into(), auth_info: Some(info), ..NamedAuthInfo::default() }];
    for context in config.contexts.iter_mut().filter_map(|context| context.context.as_mut()) {
        context.user = Some(ACCOUNT.into());
    }
    write(&config)
}

/// Deletes what was not there before: the platform while its operator still runs, then the rest.
///
/// # Errors
/// When the API server does not answer, or a FinService is still there after a minute.
pub(super) async fn take_back(client: &Client, cloud: &str, applied: &[Applied]) -> Result<()> {
    let (services, rest): (Vec<Applied>, Vec<Applied>) =
        applied.iter().cloned().partition(|applied| applied.kind() == "FinService");
    install::remove(client, &services).await?;
    let deadline = Instant::now() + GONE;
    while install::any_left(client, &services).await? {
        if Instant::now() > deadline {
            return Err(Error::new(format!("{cloud}: FinServices that were deleted are still there")));
        }
        tokio::time::sleep(LOOK).await;
    }
    install::remove(client, &rest).await
}

/// A client of the current context of a kubeconfig.
///
/// # Errors
/// When the kubeconfig is none, or its files cannot be read.
pub(super) async fn client(kubeconfig: &str) -> Result<Client> {
    let doing = || "making a client";
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = Kubeconfig::from_yaml(kubeconfig).context(doing)?;
    let mut config =
        Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.context(doing)?;
    config.default_retry = false;
    Client::try_from(config).context(doing)
}

fn write(config: &Kubeconfig) -> Result<String> {
    serde_norway::to_string(config).context(|| "writing a kubeconfig")
}
