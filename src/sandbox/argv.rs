//! What the processes of a cloud are called with. Pure.

use std::path::Path;

use super::cloud_options::CloudOptions;
use super::ends::token_review;
use super::tools::Tools;

/// The file by which the API server finds who knows tokens.
pub const TOKEN_REVIEW: &str = "token-review.yaml";

/// What the processes of a cloud are called with.
pub struct Argv<'a> {
    /// What the cloud is like.
    pub options: &'a CloudOptions,
    /// Its folder.
    pub dir: &'a Path,
    /// The address of its API server.
    pub server: &'a str,
    /// Where the programs are.
    pub tools: &'a Tools,
}

impl Argv<'_> {
    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// The store, which is to serve that address.
    pub fn etcd(&self, url: &str) -> Vec<String> {
        let mut argv = self.tools.control_plane.etcd.clone();
        argv.extend([
            format!("--data-dir={}", self.path("etcd")),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            // One member has no peers; port zero is any free one.
            "--listen-peer-urls=http://127.0.0.1:0".into(),
            "--unsafe-no-fsync".into(),
            "--quota-backend-bytes=8589934592".into(),
            "--log-level=warn".into(),
        ]);
        argv
    }

    /// The API server, whose store is there.
    pub fn apiserver(&self, etcd: &str) -> Vec<String> {
        let port = self.server.rsplit(':').next().unwrap_or_default();
        let mut argv = self.tools.control_plane.apiserver.clone();
        argv.extend([
            format!("--etcd-servers={etcd}"),
            "--bind-address=127.0.0.1".into(),
            // Else it looks for the default route's address, and there may be no route.
            "--advertise-address=127.0.0.1".into(),
            format!("--secure-port={port}"),
            format!("--tls-cert-file={}", self.path("server.crt")),
            format!("--tls-private-key-file={}", self.path("server.key")),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-signing-key-file={}", self.path("accounts.key")),
            format!("--service-account-key-file={}", self.path("accounts.pub")),
            "--authorization-mode=RBAC".into(),
            "--anonymous-auth=false".into(),
            format!("--token-auth-file={}", self.path("tokens.csv")),
            "--service-cluster-ip-range=10.96.0.0/12".into(),
            // Its own Endpoints would need an address that is not loopback, which a network namespace has not.
            "--endpoint-reconciler-type=none".into(),
            format!("--audit-policy-file={}", self.path("audit-policy.yaml")),
            format!("--audit-log-path={}", self.path("audit.log")),
            // In megabytes: marks are places in one file, so it must not be rotated.
            "--audit-log-maxsize=100000".into(),
            "--profiling=false".into(),
        ]);
        if self.options.token_review.is_some() {
            argv.extend(token_review::flags(&self.dir.join(TOKEN_REVIEW)));
        }
        argv.extend(self.options.apiserver_flags.iter().cloned());
        argv
    }

    /// Its controllers.
    pub fn controller_manager(&self) -> Vec<String> {
        let mut argv = self.tools.control_plane.controller_manager.clone();
        argv.extend([
            format!("--kubeconfig={}", self.path("kubeconfig")),
            "--secure-port=0".into(),
            "--leader-elect=false".into(),
            format!("--service-account-private-key-file={}", self.path("accounts.key")),
            format!("--root-ca-file={}", self.path("ca.crt")),
            // The defaults are for clusters whose API server others need too.
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
            "--concurrent-deployment-syncs=20".into(),
            "--concurrent-replicaset-syncs=20".into(),
            "--concurrent-gc-syncs=40".into(),
        ]);
        argv
    }

    /// Its scheduler.
    pub fn scheduler(&self) -> Vec<String> {
        let mut argv = self.tools.control_plane.scheduler.clone();
        argv.extend([
            format!("--kubeconfig={}", self.path("kubeconfig")),
            "--secure-port=0".into(),
            "--leader-elect=false".into(),
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
        ]);
        argv
    }

    /// What plays the kubelets.
    pub fn kwok(&self) -> Vec<String> {
        vec![
            self.tools.kwok.display().to_string(),
            format!("--kubeconfig={}", self.path("kubeconfig")),
            format!("--config={}", self.path("stages.yaml")),
            "--manage-all-nodes=true".into(),
            format!("--cidr={}", self.options.pod_cidr),
            "--node-lease-duration-seconds=40".into(),
        ]
    }
}
