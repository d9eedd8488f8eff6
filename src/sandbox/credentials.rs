//! Keys, certificates and tokens of one cloud, made anew for each.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;

use super::error::{Context, Error, Result};

/// The user whom the chart's RBAC binds: the operator's service account.
pub const OPERATOR_USER: &str = "system:serviceaccount:banyan-system:banyan";

/// Whom the operators of other sites are, in this cloud. The sandbox binds the chart's role `banyan-peer` to it.
pub const PEER_USER: &str = "banyan-peer";

/// What proves who is who in one cloud.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The certificate of the authority that signed the API server's, as PEM.
    pub ca_pem: String,
    /// The same as DER.
    pub ca_der: Vec<u8>,
    /// The token of a user in `system:masters`.
    pub admin: String,
    /// The token of [`OPERATOR_USER`].
    pub operator: String,
    /// The token of [`PEER_USER`].
    pub peer: String,
}

impl Credentials {
    /// Makes them and writes into `dir` what the API server reads: `server.crt`, `server.key`,
    /// `ca.crt`, `accounts.key` and `accounts.pub` (for service account tokens) and `tokens.csv`.
    ///
    /// # Errors
    /// When the folder cannot be written, or the machine has no source of randomness.
    pub fn make(dir: &Path, cloud: &str) -> Result<Self> {
        let doing = || format!("making the certificates of {cloud}");
        let ca_key = KeyPair::generate().context(doing)?;
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        ca.distinguished_name.push(DnType::CommonName, format!("banyan sandbox {cloud}"));
        let ca_certificate = ca.self_signed(&ca_key).context(doing)?;
        let issuer = Issuer::new(ca, ca_key);

        let names = ["localhost", "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let server_key = KeyPair::generate().context(doing)?;
        let mut server = CertificateParams::new(names.map(String::from)).context(doing)?;
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        let server_certificate = server.signed_by(&server_key, &issuer).context(doing)?;
        let accounts_key = KeyPair::generate().context(doing)?;

        let made = Self {
            ca_pem: ca_certificate.pem(),
            ca_der: ca_certificate.der().to_vec(),
            admin: token()?,
            operator: token()?,
            peer: token()?,
        };
        let tokens = format!(
            "{},banyan:admin,admin,\"system:masters\"\n\
             {},{OPERATOR_USER},operator,\"system:serviceaccounts,system:serviceaccounts:banyan-system\"\n\
             {},{PEER_USER},peer,\"\"\n",
            made.admin, made.operator, made.peer
        );
        for (name, text) in [
            ("ca.crt", &made.ca_pem),
            ("server.crt", &server_certificate.pem()),
            ("server.key", &server_key.serialize_pem()),
            ("accounts.key", &accounts_key.serialize_pem()),
            ("accounts.pub", &accounts_key.public_key_pem()),
            ("tokens.csv", &tokens),
        ] {
            write_private(&dir.join(name), text)?;
        }
        Ok(made)
    }
}

/// A kubeconfig with one cluster, one user and one context, all called `name`.
pub fn kubeconfig(name: &str, server: &str, ca_pem: &str, token: &str) -> Result<String> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {
            "server": server,
            "certificate-authority-data": base64(ca_pem.as_bytes()),
        }}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    });
    serde_norway::to_string(&config).context(|| "writing a kubeconfig")
}

/// Writes a file that only its owner may read.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let doing = || format!("writing {}", path.display());
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .context(doing)?;
    file.write_all(text.as_bytes()).context(doing)
}

/// A text that nobody can guess: 48 hexadecimal digits.
pub(super) fn token() -> Result<String> {
    let mut bytes = [0u8; 24];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| Error::new("this machine has no source of randomness"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn base64(bytes: &[u8]) -> String {
    // Kubernetes' own type writes itself as base64.
    match serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec())) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_is_what_kube_reads() {
        let text = kubeconfig("aws", "https://127.0.0.1:6443", "pem", "secret").unwrap();
        let read = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(read.current_context.as_deref(), Some("aws"));
        let cluster = read.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://127.0.0.1:6443"));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some("cGVt"));
    }

    #[test]
    fn what_is_written_is_for_the_owner_alone_and_tokens_differ() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let made = Credentials::make(dir.path(), "aws").unwrap();
        assert_ne!(made.admin, made.operator);
        for name in ["server.key", "accounts.key", "tokens.csv"] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
