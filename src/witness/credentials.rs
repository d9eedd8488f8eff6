//! With what an object store is asked: the contents of a Secret, or what the operator's pod is given as its own identity.
//! Never a machine's identity, which belongs to every pod on it. Pure.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ground::{Ground, Protocol, SOURCE};
use crate::api::Problem;

/// Credentials of an object store. What is secret of them is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A folder needs none.
    None,
    /// Keys for S3.
    AwsKeys {
        /// The public part.
        id: String,
        /// The secret one.
        secret: String,
        /// Of keys that are lent.
        session: Option<String>,
    },
    /// IRSA: a token in a file, which STS takes for a role.
    AwsWebIdentity {
        /// Where the token lies.
        file: String,
        /// ARN of the role.
        role: String,
        /// Where STS is, if not in its usual place in the region.
        sts: Option<String>,
    },
    /// EKS Pod Identity: an agent on the node that knows the pod by its token.
    AwsPodIdentity {
        /// Where the agent answers.
        url: String,
        /// Where the pod's token lies.
        file: String,
    },
    /// A service account's key, as JSON that holds nothing but the key.
    GoogleKey(String),
    /// An external account: a token in a file, which Google's STS takes.
    GoogleExternal(Value),
    /// A storage account's key.
    AzureKey {
        /// Name of the storage account.
        account: String,
        /// Its key.
        key: String,
    },
    /// A shared access signature.
    AzureSas {
        /// Name of the storage account.
        account: String,
        /// The signature: the query of a URL.
        sas: String,
    },
    /// Workload identity: a token in a file, which Entra takes.
    AzureWorkloadIdentity {
        /// Name of the storage account.
        account: String,
        /// The application.
        client: String,
        /// The directory.
        tenant: String,
        /// Where the token lies.
        file: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no credentials",
            Self::AwsKeys { .. } => "AWS keys",
            Self::AwsWebIdentity { .. } => "an AWS web identity",
            Self::AwsPodIdentity { .. } => "an EKS Pod Identity",
            Self::GoogleKey(_) => "a Google service account's key",
            Self::GoogleExternal(_) => "a Google external account",
            Self::AzureKey { .. } => "an Azure storage account's key",
            Self::AzureSas { .. } => "an Azure shared access signature",
            Self::AzureWorkloadIdentity { .. } => "an Azure workload identity",
        })
    }
}

/// What a Google credentials file says of itself.
#[derive(Deserialize)]
struct GoogleFile {
    #[serde(rename = "type")]
    kind: String,
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
}

impl Credentials {
    /// From the contents of the Secret that the spec names.
    ///
    /// # Errors
    /// If a key is missing or is not what it must be: which, and the remedy.
    pub fn of_secret(
        ground: &Ground,
        name: &str,
        data: &BTreeMap<String, ByteString>,
    ) -> Result<Self, Problem> {
        let get = |key: &str| -> Result<Option<String>, Problem> {
            let Some(ByteString(bytes)) = data.get(key) else { return Ok(None) };
            match std::str::from_utf8(bytes).map(str::trim) {
                Ok("") => Ok(None),
                Ok(text) if text.contains(['\n', '\r', '\0']) && key != GOOGLE_KEY => Err(of(
                    name,
                    format!("{key} has more than one line"),
                    "put the value alone under that key",
                )),
                Ok(text) => Ok(Some(text.to_owned())),
                Err(_) => Err(of(name, format!("{key} is no text"), "put the value as text under that key")),
            }
        };
        let need = |key: &str| {
            get(key)?.ok_or_else(|| {
                let remedy = format!("add it: kubectl create secret generic {name} --from-literal={key}=…");
                of(name, format!("{key} is missing"), &remedy)
            })
        };
        match ground.protocol {
            Protocol::File => Ok(Self::None),
            Protocol::S3 => Ok(Self::AwsKeys {
                id: need("AWS_ACCESS_KEY_ID")?,
                secret: need("AWS_SECRET_ACCESS_KEY")?,
                session: get("AWS_SESSION_TOKEN")?,
            }),
            Protocol::Google => google(need(GOOGLE_KEY)?.as_bytes())
                .map_err(|(message, remedy)| of(name, format!("{GOOGLE_KEY} {message}"), remedy)),
            Protocol::Azure => {
                let account = account(ground, get("AZURE_STORAGE_ACCOUNT")?)?;
                match (get("AZURE_STORAGE_KEY")?, get("AZURE_STORAGE_SAS_TOKEN")?) {
                    (Some(key), None) => Ok(Self::AzureKey { account, key }),
                    (None, Some(sas)) => {
                        Ok(Self::AzureSas { account, sas: sas.trim_start_matches('?').to_owned() })
                    }
                    (Some(_), Some(_)) => Err(of(
                        name,
                        "AZURE_STORAGE_KEY and AZURE_STORAGE_SAS_TOKEN are both there".to_owned(),
                        "leave one of them out",
                    )),
                    (None, None) => need("AZURE_STORAGE_KEY").map(|key| Self::AzureKey { account, key }),
                }
            }
        }
    }

    /// From what the pod is given as its own identity: `variable` reads an environment variable, `file` a file.
    ///
    /// # Errors
    /// If it is given none, or its token cannot be read: what to do.
    pub fn of_pod(
        ground: &Ground,
        variable: impl Fn(&str) -> Option<String>,
        file: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<Self, Problem> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let none = |how: &str| {
            Problem::error(
                format!("{SOURCE}.credentials"),
                "there are no credentials for the witness: none are named, and the operator's pod has no identity of its own there",
                format!("name a Secret in credentials.secretRef, or {how}"),
            )
        };
        // The token itself is read anew each time it is needed, by whoever shows it.
        let mounted = |name: &str, path: String| match file(&path) {
            Some(_) => Ok(path),
            None => Err(Problem::error(
                format!("{SOURCE}.credentials"),
                format!("the token that {name} names cannot be read: {path}"),
                "mount the token of the operator's service account there, or name a Secret in credentials.secretRef",
            )),
        };
        match ground.protocol {
            Protocol::File => Ok(Self::None),
            Protocol::S3 => {
                let (token, role) = ("AWS_WEB_IDENTITY_TOKEN_FILE", variable("AWS_ROLE_ARN"));
                if let (Some(file), Some(role)) = (variable(token), role) {
                    let sts = variable("AWS_ENDPOINT_URL_STS");
                    return Ok(Self::AwsWebIdentity { file: mounted(token, file)?, role, sts });
                }
                let token = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
                match (variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"), variable(token)) {
                    (Some(url), Some(file)) => Ok(Self::AwsPodIdentity { url, file: mounted(token, file)? }),
                    _ => Err(none(
                        "give the operator's service account a role (annotation eks.amazonaws.com/role-arn, or an EKS Pod Identity association)",
                    )),
                }
            }
            Protocol::Google => {
                let how =
                    "mount a credentials file and name it in the variable GOOGLE_APPLICATION_CREDENTIALS";
                let path = variable("GOOGLE_APPLICATION_CREDENTIALS").ok_or_else(|| none(how))?;
                let text = file(&path).ok_or_else(|| none(how))?;
                google(&text).map_err(|(message, remedy)| {
                    let source = "GOOGLE_APPLICATION_CREDENTIALS";
                    Problem::error(source, format!("the file that {source} names {message}"), remedy)
                })
            }
            Protocol::Azure => {
                let account = account(ground, variable("AZURE_STORAGE_ACCOUNT"))?;
                let token = "AZURE_FEDERATED_TOKEN_FILE";
                let given = (variable("AZURE_CLIENT_ID"), variable("AZURE_TENANT_ID"), variable(token));
                let (Some(client), Some(tenant), Some(file)) = given else {
                    return Err(none(
                        "give the operator's pod a workload identity (label azure.workload.identity/use)",
                    ));
                };
                Ok(Self::AzureWorkloadIdentity { account, client, tenant, file: mounted(token, file)? })
            }
        }
    }
}

/// The key of the Secret that holds a Google credentials file.
const GOOGLE_KEY: &str = "credentials.json";

fn of(name: &str, message: String, remedy: &str) -> Problem {
    let source = format!("{SOURCE}.credentials.secretRef");
    Problem::error(source, format!("the Secret {name} cannot be used: {message}"), remedy)
}

/// The storage account: what the Secret says, else what the endpoint begins with.
fn account(ground: &Ground, named: Option<String>) -> Result<String, Problem> {
    let endpoint = ground.endpoint.as_deref().unwrap_or_default();
    let host = endpoint.split_once("://").map_or("", |(_, rest)| rest);
    let first = host.split_once(".blob.").map(|(account, _)| account.to_owned());
    let is_name = |name: &String| {
        (3..=24).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    named.or(first).filter(is_name).ok_or_else(|| {
        Problem::error(
            format!("{SOURCE}.endpoint"),
            "it cannot be told which storage account is meant",
            "set endpoint to https://ACCOUNT.blob.core.windows.net, or add AZURE_STORAGE_ACCOUNT to the Secret",
        )
    })
}

/// A Google credentials file, reduced to what is needed: the file is somebody else's text, and must not make the operator
/// run a program, read what it is not meant to read, or send tokens elsewhere.
fn google(text: &[u8]) -> Result<Credentials, (String, &'static str)> {
    let whole = "put a whole credentials file of type service_account or external_account there";
    let value: Value = serde_json::from_slice(text).map_err(|_| ("is no JSON".to_owned(), whole))?;
    let file: GoogleFile =
        serde_json::from_value(value.clone()).map_err(|_| ("is no credentials file".to_owned(), whole))?;
    match file.kind.as_str() {
        "service_account" => {
            let (Some(email), Some(key)) = (file.client_email, file.private_key) else {
                return Err(("has no client_email or no private_key".to_owned(), whole));
            };
            let id = file.private_key_id.unwrap_or_default();
            let key = json!({"client_email": email, "private_key": key, "private_key_id": id});
            Ok(Credentials::GoogleKey(key.to_string()))
        }
        "external_account" => {
            let from = value.get("credential_source").and_then(Value::as_object);
            let only_a_file = from.is_some_and(|from| {
                from.get("file").is_some_and(Value::is_string)
                    && from.keys().all(|key| key == "file" || key == "format")
            });
            if !only_a_file {
                let remedy = "use credential_source.file, which names a token that is mounted into the pod";
                return Err(("takes its token from elsewhere than a file".to_owned(), remedy));
            }
            let theirs = |field: &str| {
                value.get(field).is_none_or(|url| {
                    let url = url.as_str().unwrap_or_default();
                    let host = url.strip_prefix("https://").and_then(|rest| rest.split('/').next());
                    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
                    host.is_some_and(|host| host.ends_with(".googleapis.com") && host.bytes().all(plain))
                })
            };
            if !theirs("token_url") || !theirs("service_account_impersonation_url") {
                let remedy = "let token_url and service_account_impersonation_url lead to googleapis.com";
                return Err(("would send its token to somebody else".to_owned(), remedy));
            }
            Ok(Credentials::GoogleExternal(value))
        }
        kind => {
            let kind: String = kind.chars().take(32).collect();
            Err((format!("is of type {kind:?}, which is not known"), whole))
        }
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
