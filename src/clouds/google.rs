//! Google's access tokens: from the metadata server of the Pod's node, for a service account, or in exchange for a token
//! of another identity (an external account).
//!
//! They are asked for here rather than by Google's own library: that keeps tokens by a clock of its own and does not tell
//! when they end, and it can run programs.

use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Url};
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{CloudError, Token};
use crate::runtime::client::USER_AGENT;
use crate::runtime::fetch::{Trouble, whole};
use crate::runtime::remote::{DEADLINE, RemoteError, within};

/// What tokens are for: all of Google Cloud, within the rights of the account.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// By which name an API server knows the account.
const EMAIL: &str = "https://www.googleapis.com/auth/userinfo.email";
/// How long a token for a service account is asked to live: the longest that Google grants.
const HOUR: u64 = 3600;
/// The largest answer that is read.
const LARGEST: usize = 64 * 1024;
/// Where tokens of Pods lie. Other files are not read, whatever credentials say.
const TOKENS: &str = "/var/run/secrets";
/// The operator's own identity in this cluster, which is sent to nobody.
const OWN: &str = "/var/run/secrets/kubernetes.io";

/// Where access tokens come from. It has no `Debug`, so that nothing shows it.
pub struct Google {
    http: Client,
    source: Source,
    /// Where the files of the Pod begin.
    root: PathBuf,
}

enum Source {
    /// The metadata server: GKE's Workload Identity.
    Metadata,
    ServiceAccount(ServiceAccount),
    External(External),
}

#[derive(Deserialize)]
struct ServiceAccount {
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: String,
    token_uri: String,
}

#[derive(Deserialize)]
struct External {
    audience: String,
    subject_token_type: String,
    token_url: String,
    service_account_impersonation_url: Option<String>,
    credential_source: CredentialSource,
}

#[derive(Deserialize)]
struct CredentialSource {
    file: Option<String>,
    url: Option<String>,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    format: Option<Format>,
}

#[derive(Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: String,
    subject_token_field_name: Option<String>,
}

/// What a token service answers.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    expires_in: u64,
}

/// What Google answers who takes the place of a service account.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    access_token: String,
    expire_time: jiff::Timestamp,
}

fn bad(message: impl Into<String>, remedy: &str) -> CloudError {
    CloudError::Credentials {
        message: format!("Google's credentials cannot be used: {}", message.into()),
        remedy: remedy.to_owned(),
    }
}

/// An address to which credentials may be sent: Google's own, or one of this Pod.
fn trusted(field: &str, address: &str) -> Result<(), CloudError> {
    let remedy = "name an address of Google's, such as https://sts.googleapis.com/v1/token";
    let url = Url::parse(address).map_err(|_| bad(format!("{field} is no URL"), remedy))?;
    let host = url.host_str().unwrap_or_default();
    let is_inside = host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    match url.scheme() {
        "https" if host.ends_with(".googleapis.com") => Ok(()),
        "http" | "https" if is_inside => Ok(()),
        _ => Err(bad(format!("{field} is no address of Google's"), remedy)),
    }
}

impl Google {
    /// Those of the Pod.
    ///
    /// # Errors
    /// If there is no client for HTTP.
    pub fn of_pod() -> Result<Self, CloudError> {
        Self::from(Source::Metadata)
    }

    /// Those that a JSON describes, as Google's console and `gcloud` write it.
    ///
    /// # Errors
    /// If it is none, or asks for what is refused: the field and the remedy.
    pub fn of_json(text: &[u8]) -> Result<Self, CloudError> {
        let remedy =
            "put the JSON of a service account or of an external account under that key of the Secret";
        // What the parser says may quote what it read, which is secret.
        let value: Value = serde_json::from_slice(text).map_err(|_| bad("they are no JSON", remedy))?;
        let parse = |what: &str| format!("a field that {what} needs is missing, or is of another form");
        let source = match value["type"].as_str() {
            Some("service_account") => {
                let account: ServiceAccount =
                    serde_json::from_value(value).map_err(|_| bad(parse("a service account"), remedy))?;
                trusted("token_uri", &account.token_uri)?;
                account.key()?;
                Source::ServiceAccount(account)
            }
            Some("external_account") => {
                Source::External(External::read(value, &parse("an external account"))?)
            }
            Some(other) => {
                let other: String = other.chars().filter(char::is_ascii_graphic).take(40).collect();
                return Err(bad(format!("type {other:?} is not supported"), remedy));
            }
            None => return Err(bad("type is missing", remedy)),
        };
        Self::from(source)
    }

    fn from(source: Source) -> Result<Self, CloudError> {
        let builder =
            Client::builder().redirect(Policy::none()).connect_timeout(DEADLINE).user_agent(USER_AGENT);
        // The metadata server is beside us, never behind a proxy.
        let builder = if matches!(source, Source::Metadata) { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| bad(error.to_string(), "start the operator anew"))?;
        Ok(Self { http, source, root: PathBuf::from("/") })
    }

    /// The same in a Pod whose files lie below that folder.
    #[cfg(test)]
    pub(super) fn below(self, root: &Path) -> Self {
        Self { root: root.to_owned(), ..self }
    }

    /// A new access token.
    ///
    /// # Errors
    /// If it is refused, or nobody answers.
    pub async fn token(&self) -> Result<Token, CloudError> {
        match &self.source {
            Source::Metadata => self.of_metadata().await,
            Source::ServiceAccount(account) => self.of_account(account).await,
            Source::External(external) => self.of_external(external).await,
        }
    }

    async fn of_metadata(&self) -> Result<Token, CloudError> {
        let asked = Instant::now();
        // The variable is Google's own, for emulators of its metadata server.
        let host =
            std::env::var("GCE_METADATA_HOST").unwrap_or_else(|_| "metadata.google.internal".to_owned());
        let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
        let request = self.http.get(url).query(&[("scopes", format!("{SCOPE},{EMAIL}"))]);
        let answer = ask::<Answer>(
            request.header("Metadata-Flavor", "Google"),
            "Google's metadata server, asked for a token, says:",
            Some(
                "bind the operator's ServiceAccount to a Google service account, or name a Secret in gke.credentials",
            ),
        );
        Ok(living(asked, answer.await?))
    }

    async fn of_account(&self, account: &ServiceAccount) -> Result<Token, CloudError> {
        let asked = Instant::now();
        let assertion = account.assertion(SystemTime::now())?;
        let form =
            form(&[("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)]);
        let request = posted(self.http.post(&account.token_uri), form);
        let remedy = Some("see that the service account and its key still exist");
        Ok(living(
            asked,
            ask::<Answer>(request, "Google's token service, asked for a service account, says:", remedy)
                .await?,
        ))
    }

    async fn of_external(&self, external: &External) -> Result<Token, CloudError> {
        let subject = self.subject(&external.credential_source).await?;
        let asked = Instant::now();
        let form = form(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", &external.audience),
            ("scope", SCOPE),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", &external.subject_token_type),
            ("subject_token", &subject),
        ]);
        let request = posted(self.http.post(&external.token_url), form);
        let remedy = Some("see that the workload identity pool accepts this cluster's tokens, and its clock");
        let own =
            ask::<Answer>(request, "Google's token service, asked for an exchange, says:", remedy).await?;
        let Some(url) = &external.service_account_impersonation_url else { return Ok(living(asked, own)) };
        let body = json!({"scope": [SCOPE, EMAIL], "lifetime": format!("{HOUR}s")});
        let request = self.http.post(url).bearer_auth(&own.access_token).json(&body);
        let remedy = Some("grant this identity roles/iam.workloadIdentityUser on the service account");
        let given: Impersonated =
            ask(request, "Google's IAM, asked for a token of the service account, says:", remedy).await?;
        let left = given.expire_time.duration_since(jiff::Timestamp::now());
        Ok(Token::living(given.access_token, Duration::try_from(left).unwrap_or_default()))
    }

    /// The token of the other identity.
    async fn subject(&self, source: &CredentialSource) -> Result<String, CloudError> {
        let text = match (&source.file, &source.url) {
            (Some(file), _) => read(&self.root, file).await?,
            (None, Some(url)) => {
                let request = source
                    .headers
                    .iter()
                    .fold(self.http.get(url), |request, (name, value)| request.header(name, value));
                let what = "the address in credential_source.url says:";
                let bytes = bytes(request).await.map_err(|error| CloudError::Remote {
                    what: what.to_owned(),
                    error,
                    remedy: None,
                })?;
                String::from_utf8(bytes)
                    .map_err(|_| bad("what credential_source.url answers is no text", "correct it"))?
            }
            (None, None) => {
                return Err(bad(
                    "credential_source names neither file nor url",
                    "set credential_source.file",
                ));
            }
        };
        let Some(format) = source.format.as_ref().filter(|format| format.kind == "json") else {
            return Ok(text.trim().to_owned());
        };
        let field = format.subject_token_field_name.as_deref().unwrap_or("access_token");
        let value: Option<Value> = serde_json::from_str(&text).ok();
        let token = value.as_ref().and_then(|value| value[field].as_str());
        token.map(str::to_owned).ok_or_else(|| {
            bad("the subject token is no JSON with that field", "correct credential_source.format")
        })
    }
}

impl External {
    fn read(value: Value, wrong: &str) -> Result<Self, CloudError> {
        let source = &value["credential_source"];
        let file = "let Kubernetes write the token into a file (a projected volume), and name it in credential_source.file";
        if !source["executable"].is_null() {
            return Err(bad("credential_source.executable would run a program in the operator's Pod", file));
        }
        if let Some(field) =
            ["environment_id", "certificate"].into_iter().find(|field| !source[*field].is_null())
        {
            return Err(bad(format!("credential_source.{field} is not supported"), file));
        }
        let external: Self = serde_json::from_value(value).map_err(|_| {
            bad(wrong, "write it anew with `gcloud iam workload-identity-pools create-cred-config`")
        })?;
        trusted("token_url", &external.token_url)?;
        if let Some(url) = &external.service_account_impersonation_url {
            trusted("service_account_impersonation_url", url)?;
        }
        if let Some(path) = &external.credential_source.file {
            readable(path)?;
        }
        Ok(external)
    }
}

/// Whether a file may be read: one that was mounted for that.
fn readable(path: &str) -> Result<(), CloudError> {
    let is_plain =
        Path::new(path).components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    match Path::new(path) {
        file if is_plain && file.starts_with(TOKENS) && !file.starts_with(OWN) => Ok(()),
        _ => Err(bad(
            "credential_source.file is not one of the tokens that are mounted for others",
            "mount the token below /var/run/secrets, such as /var/run/secrets/tokens/gcp, and name that",
        )),
    }
}

async fn read(root: &Path, path: &str) -> Result<String, CloudError> {
    readable(path)?;
    let text = tokio::fs::read_to_string(root.join(path.trim_start_matches('/'))).await;
    text.map_err(|error| bad(format!("{path} cannot be read: {}", error.kind()), "mount the token there"))
}

impl ServiceAccount {
    fn key(&self) -> Result<std::sync::Arc<dyn rustls::sign::SigningKey>, CloudError> {
        let wrong = || bad("private_key is no RSA key in PEM", "create a new key of the service account");
        let der = PrivateKeyDer::from_pem_slice(self.private_key.as_bytes()).map_err(|_| wrong())?;
        rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).map_err(|_| wrong())
    }

    /// What proves that we are the account: signed with its key, good for an hour.
    fn assertion(&self, now: SystemTime) -> Result<String, CloudError> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.private_key_id});
        let claims = json!({
            "iss": self.client_email, "scope": format!("{SCOPE} {EMAIL}"), "aud": self.token_uri,
            "iat": now, "exp": now + HOUR,
        });
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encoded(&header), encoded(&claims));
        let wrong = || bad("private_key is no RSA key", "create a new key of the service account");
        let signer = self.key()?.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).ok_or_else(wrong)?;
        let signature = signer.sign(signed.as_bytes()).map_err(|_| wrong())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// A token, and how long it still lives. One whose life is not told is taken to live as long as they do by default.
fn living(asked: Instant, answer: Answer) -> Token {
    let life = if answer.expires_in == 0 { HOUR } else { answer.expires_in };
    Token::living_since(asked, answer.access_token, Duration::from_secs(life))
}

fn form(fields: &[(&str, &str)]) -> String {
    // Only its query is used.
    let mut url = Url::parse("http://form").expect("a URL");
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

fn posted(request: RequestBuilder, form: String) -> RequestBuilder {
    request.header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
}

async fn ask<T: serde::de::DeserializeOwned>(
    request: RequestBuilder,
    what: &str,
    remedy: Option<&'static str>,
) -> Result<T, CloudError> {
    let failed = |error: RemoteError| CloudError::Remote {
        what: what.to_owned(),
        remedy: remedy.filter(|_| error.is_stalled()),
        error,
    };
    let bytes = bytes(request).await.map_err(failed)?;
    serde_json::from_slice(&bytes).map_err(|_| failed(RemoteError::unreadable("it is of another form")))
}

/// The body of an answer that is good.
async fn bytes(request: RequestBuilder) -> Result<Vec<u8>, RemoteError> {
    let began = Instant::now();
    within(DEADLINE, async {
        let answer = whole(request, LARGEST).await.map_err(|trouble| match trouble {
            Trouble::Broken(error) if error.is_timeout() => RemoteError::NoAnswer(DEADLINE),
            other => other.into(),
        })?;
        match answer.status.as_u16() {
            200..300 => Ok(answer.body),
            // OAuth answers with 400 where credentials are not accepted, and says so in one word.
            400 if is_about_credentials(&answer.body) => Err(RemoteError::Unauthorized),
            _ => Err(answer.bad(&words(&answer.body))),
        }
    })
    .await
    .inspect_err(|error| tracing::debug!(%error, took = ?began.elapsed(), "no token of Google's"))
}

/// The word that says what is wrong. The sentences beside it may repeat what was sent.
fn words(body: &[u8]) -> String {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let word = value
        .as_ref()
        .and_then(|value| value["error"].as_str().or_else(|| value["error"]["status"].as_str()));
    word.unwrap_or_default().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(60).collect()
}

fn is_about_credentials(body: &[u8]) -> bool {
    ["invalid_grant", "invalid_client", "unauthorized_client"].contains(&words(body).as_str())
}
