//! What the operator logs in with, from a Secret. Pure.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;

use crate::api::Problem;
use crate::api::store::PostgresSite;

/// A user, its password, and the CA of the server. Printed, it shows the user alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub(super) password: String,
    /// Certificates of the CA, in PEM; none where plain text is allowed.
    pub(super) ca: Option<Vec<u8>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    /// With a password; `ca` is PEM.
    pub fn new(user: impl Into<String>, password: impl Into<String>, ca: Option<Vec<u8>>) -> Self {
        Self { user: user.into(), password: password.into(), ca }
    }

    /// From the data of the Secret that the site names. `source` is the path of the site's field.
    ///
    /// # Errors
    /// If a key is missing or is no text: which one, and what to do.
    pub fn from_secret(
        site: &PostgresSite,
        data: &BTreeMap<String, ByteString>,
        source: &str,
    ) -> Result<Self, Problem> {
        let secret = &site.credentials.secret_ref;
        let read = |key: &str| {
            let problem = |what: &str| {
                Problem::error(
                    format!("{source}.credentials.secretRef"),
                    format!("the Secret {} {what} {key}", secret.name),
                    format!(
                        "kubectl create secret generic {} --from-literal={}=… --from-literal={}=… --from-file={}=ca.crt",
                        secret.name,
                        secret.user_key(),
                        secret.password_key(),
                        secret.ca_key(),
                    ),
                )
            };
            let found = data.get(key).filter(|value| !value.0.is_empty());
            let text = std::str::from_utf8(&found.ok_or_else(|| problem("has no key"))?.0);
            text.map(str::to_owned).map_err(|_| problem("holds no text under"))
        };
        // A file that an editor wrote ends with a newline, and a name of a user does not.
        let user = read(secret.user_key())?.trim_end_matches(['\r', '\n']).to_owned();
        let password = read(secret.password_key())?.trim_end_matches(['\r', '\n']).to_owned();
        let ca = if site.is_plain() { None } else { Some(read(secret.ca_key())?.into_bytes()) };
        Ok(Self { user, password, ca })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::store::PostgresTls;

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect()
    }

    #[test]
    fn a_missing_key_is_named_with_the_command_to_type() {
        let mut site = PostgresSite { host: "127.0.0.1".to_owned(), ..PostgresSite::default() };
        site.credentials.secret_ref.name = "ledger".to_owned();
        let all = data(&[("username", "banyan"), ("password", "s3cret\n")]);
        let problem = Credentials::from_secret(&site, &all, "spec.stores[ledger]").expect_err("no CA");
        assert_eq!(problem.message, "the Secret ledger has no key ca.crt");
        assert!(problem.remedy.starts_with("kubectl create secret generic ledger --from-literal=username="));
        site.tls = Some(PostgresTls::DisableOnLoopback);
        let read = Credentials::from_secret(&site, &all, "").expect("credentials");
        assert_eq!(read, Credentials::new("banyan", "s3cret", None));
        assert!(!format!("{read:?}").contains("s3cret"));
    }
}
