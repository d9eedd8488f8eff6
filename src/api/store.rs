//! The stores of a FailoverGroup: where its data lies at each site, and how it is replicated.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{patterns, units};

/// A store: data that is replicated from the site that may write to the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.postgres), has(self.cloudnativepg), has(self.kafkaMirror)].filter(set, set).size() == 1")
    .message("set exactly one of postgres, cloudnativepg, kafkaMirror: it says what kind of store it is"))]
pub struct Store {
    /// Its name, unique in the group.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::LABEL))]
    pub name: String,
    /// PostgreSQL with streaming replication, over its own wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Postgres>,
    /// A Cluster of CloudNativePG at each site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloudnativepg: Option<CloudNativePg>,
    /// Topics that MirrorMaker 2 copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka_mirror: Option<KafkaMirror>,
    /// How far the standby may lag for an unplanned promotion that cannot know the last position. None where left out:
    /// such a promotion then needs somebody to accept the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::POSITIVE_DURATION))]
    pub max_lag: Option<String>,
    /// Whether a failover may go on without it, by `skip`, when it cannot be promoted. Defaults to true: it may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
}

impl Store {
    /// How far the standby may lag, where that is said.
    pub fn max_lag(&self) -> Option<Duration> {
        self.max_lag.as_deref().and_then(units::duration)
    }

    /// Whether a failover needs it.
    pub fn required(&self) -> bool {
        self.required.unwrap_or(true)
    }
}

/// PostgreSQL with streaming replication.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Postgres {
    /// The server at each site, by the name of the site.
    #[schemars(extend("maxProperties" = 8))]
    #[x_kube(validation = Rule::new("self.size() >= 2")
        .message("sites must name the server of each site of the group: at least two, such as {aws-us-east-1: {host: …}, gcp-us-central1: {host: …}}"))]
    #[x_kube(validation = Rule::new("self.all(site, size(site) <= 63 && site.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))")
        .message("each key of sites must be the name of a site, as its CloudCluster has it"))]
    pub sites: BTreeMap<String, PostgresSite>,
    /// The roles that applications log in with. They are what a fence closes; a role that may write and is not among
    /// them is a hole in it, and readiness names it. The operator's own role is not one of them.
    #[schemars(length(max = 32), inner(length(min = 1, max = 63), regex(pattern = patterns::POSTGRES_NAME)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.size() >= 1")
        .message("roles must name the roles that applications log in with: without them nothing can be fenced"))]
    #[x_kube(validation = Rule::new("self.all(role, !role.startsWith('pg_'))")
        .message("roles must not name a role that begins with pg_: nobody can log in with those"))]
    pub roles: Vec<String>,
    /// Whether a commit waits for the other site. Defaults to Never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synchronous: Option<Synchronous>,
    /// `banyan pg-agent` beside each server. Without it a failover works, and the old primary is brought back by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<PostgresAgent>,
}

/// The server at one site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.tls) || self.tls != 'DisableOnLoopback' || self.host in ['127.0.0.1', '::1', 'localhost']")
    .message("tls: DisableOnLoopback is for host 127.0.0.1, ::1 or localhost only: elsewhere leave tls out and put the server's CA under ca.crt of the Secret"))]
pub struct PostgresSite {
    /// Its name or address, as every site reaches it: the server itself, not a pooler before it.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::HOST))]
    #[x_kube(validation = Rule::new("!self.lowerAscii().matches('[.]rds[.]amazonaws[.]com([.]cn)?[.]?$')")
        .message("RDS between clouds does not exist: a replica of RDS stays in AWS. Name a PostgreSQL that you run yourself, or use cloudnativepg"))]
    pub host: String,
    /// Its port. Defaults to 5432.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// The database that holds the applications' tables; the operator keeps its own in a schema `banyan` there. The same
    /// at every site, since it is replicated. Defaults to `postgres`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::POSTGRES_NAME))]
    pub database: Option<String>,
    /// By which name the server of this site asks for replication (`application_name` in its `primary_conninfo`).
    /// Defaults to the name of the site. `synchronous` waits for that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::POSTGRES_NAME))]
    pub application_name: Option<String>,
    /// The port of the agent beside it, where it is another one than `agent.port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub agent_port: Option<i32>,
    /// What the operator logs in with.
    pub credentials: PostgresCredentials,
    /// How the connection is protected. Defaults to Require.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<PostgresTls>,
}

impl PostgresSite {
    /// The port that is meant.
    pub fn port(&self) -> u16 {
        self.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(5432)
    }

    /// The database that is meant.
    pub fn database(&self) -> &str {
        self.database.as_deref().unwrap_or("postgres")
    }

    /// Whether plain text is allowed, which is so to the own machine only, whatever is set.
    pub fn is_plain(&self) -> bool {
        self.tls == Some(PostgresTls::DisableOnLoopback)
            && ["127.0.0.1", "::1", "localhost"].contains(&self.host.as_str())
    }
}

/// What the operator logs in with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostgresCredentials {
    /// The Secret that holds it, in the operator's own namespace.
    pub secret_ref: PostgresSecret,
}

/// A Secret with a user, its password, and the CA of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostgresSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// The key of the user. Defaults to `username`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::KEY))]
    pub user_key: Option<String>,
    /// The key of the password. Defaults to `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::KEY))]
    pub password_key: Option<String>,
    /// The key of the CA that the server's certificate is checked against. Defaults to `ca.crt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::KEY))]
    pub ca_key: Option<String>,
}

impl PostgresSecret {
    /// The key of the user that is meant.
    pub fn user_key(&self) -> &str {
        self.user_key.as_deref().unwrap_or("username")
    }

    /// The key of the password that is meant.
    pub fn password_key(&self) -> &str {
        self.password_key.as_deref().unwrap_or("password")
    }

    /// The key of the CA that is meant.
    pub fn ca_key(&self) -> &str {
        self.ca_key.as_deref().unwrap_or("ca.crt")
    }
}

/// How the connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PostgresTls {
    /// TLS, and the server's certificate and name are checked.
    #[default]
    Require,
    /// Plain text, to a server on the same machine.
    DisableOnLoopback,
}

/// Whether a commit waits for the other site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Synchronous {
    /// It does, and a site that is cut off serves only reads.
    Required,
    /// It does while the other site is there; whoever runs the database sees to that. It proves nothing.
    Preferred,
    /// It does not.
    #[default]
    Never,
}

/// `banyan pg-agent` beside each server of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PostgresAgent {
    /// The port at which it listens, on the host of its server. Defaults to 8543.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// The Secret, in the operator's own namespace, with `tls.crt` and `tls.key`, by which the agent knows the operator,
    /// and `ca.crt`, by which the operator knows the agent.
    pub secret_ref: AgentSecret,
}

impl PostgresAgent {
    /// The port of the agent beside that server.
    pub fn port(&self, server: &PostgresSite) -> u16 {
        let port = server.agent_port.or(self.port);
        port.and_then(|port| u16::try_from(port).ok()).unwrap_or(8543)
    }
}

/// A Secret of type `kubernetes.io/tls` with a CA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
}

/// A Cluster of CloudNativePG at each site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudNativePg {
    /// The Cluster, as namespace/name.
    #[schemars(length(min = 3, max = 317), regex(pattern = patterns::NAMESPACED))]
    pub cluster: String,
    /// The Cluster at sites where it is called otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 8))]
    #[x_kube(validation = Rule::new("self.all(site, size(self[site]) <= 317 && self[site].matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-.a-z0-9]*[a-z0-9])?$'))")
        .message("each value of sites must be namespace/name of a Cluster, such as payments/ledger"))]
    pub sites: Option<BTreeMap<String, String>>,
}

impl CloudNativePg {
    /// Namespace and name of the Cluster at that site.
    pub fn at(&self, site: &str) -> (&str, &str) {
        split(self.sites.as_ref().and_then(|sites| sites.get(site)).unwrap_or(&self.cluster))
    }
}

/// Topics that MirrorMaker 2 copies from the site that may write to the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaMirror {
    /// The KafkaMirrorMaker2 of Strimzi at each site, as namespace/name.
    #[schemars(length(min = 3, max = 317), regex(pattern = patterns::NAMESPACED))]
    pub connect: String,
    /// The consumer groups whose offsets must be there before a site takes over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255), regex(pattern = patterns::CONSUMER_GROUP)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub groups: Option<Vec<String>>,
    /// What copied topics are called. Defaults to Identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<MirrorPolicy>,
    /// Where its counters are.
    pub metrics: MirrorMetrics,
}

impl KafkaMirror {
    /// Namespace and name of the KafkaMirrorMaker2.
    pub fn connect(&self) -> (&str, &str) {
        split(&self.connect)
    }
}

/// What copied topics are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MirrorPolicy {
    /// As at the source (IdentityReplicationPolicy), so that applications need not know where they run.
    #[default]
    Identity,
    /// With the name of the source before them (DefaultReplicationPolicy).
    Default,
}

/// Where MirrorMaker's counters are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MirrorMetrics {
    /// The page of the MirrorMaker of the same cluster, such as
    /// `http://mirror-mirrormaker2-metrics.kafka.svc:9404/metrics`.
    #[schemars(length(min = 1, max = 512), regex(pattern = patterns::URL))]
    pub url: String,
}

/// Namespace and name. The schema asks for both.
fn split(text: &str) -> (&str, &str) {
    text.split_once('/').unwrap_or(("", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_on_the_machine() {
        let site = |host: &str, tls| PostgresSite { host: host.to_owned(), tls, ..PostgresSite::default() };
        assert!(site("127.0.0.1", Some(PostgresTls::DisableOnLoopback)).is_plain());
        assert!(!site("127.0.0.1", None).is_plain());
        assert!(!site("db.example", Some(PostgresTls::DisableOnLoopback)).is_plain());
    }

    #[test]
    fn a_cluster_may_be_called_otherwise_at_a_site() {
        let sites = BTreeMap::from([("gcp".to_owned(), "pay/ledger-b".to_owned())]);
        let store = CloudNativePg { cluster: "payments/ledger".to_owned(), sites: Some(sites) };
        assert_eq!((store.at("aws"), store.at("gcp")), (("payments", "ledger"), ("pay", "ledger-b")));
    }
}
