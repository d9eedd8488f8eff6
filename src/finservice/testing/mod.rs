//! FinServices for tests: a minimal one, one that has everything, and arbitrary ones.

mod arbitrary;
pub(crate) mod fake;
pub(crate) mod in_memory;
pub(crate) mod policies;

pub use arbitrary::spec;

use serde_json::Value;

use super::children::{Scope, template};
use crate::api::FinServiceSpec;
use crate::api::operations::Residency;
use crate::cloudcluster::sites::Sites;
use crate::finservice::children::Topics;
use crate::finservice::plan::revision::{RevisionInput, references};
use crate::finservice::settings::Settings;
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Name of the service.
pub const NAME: &str = "transaction";
/// Its namespace.
pub const NAMESPACE: &str = "payments";
/// The site of the operator.
pub const SITE: &str = "aws-us-east-1";

/// The shortest FinService that works.
pub const MINIMAL: &str = "
owner: payments-team
image: registry.example/transaction:1.4.2
ports: [{name: http, port: 8080}]
";

/// A FinService with every field set.
pub const RICH: &str = r#"
owner: payments-team
image: registry.example/bank/transaction:1.4.2
version: 1.4.2
ports:
  - {name: http, port: 8080, protocol: HTTP, servicePort: 80, nodePort: 30080}
  - {name: grpc, port: 9000, protocol: GRPC}
  - {name: iso8583, port: 8583, protocol: TCP}
  - {name: metrics, port: 9090}
env:
  - {name: LOG_LEVEL, value: info}
  - {name: EMPTY, value: ""}
  - {name: LIMITS, valueFrom: {configMapKeyRef: {name: limits, key: daily, optional: true}}}
  - {name: DB_PASSWORD, valueFrom: {secretKeyRef: {name: ledger-db, key: password}}}
  - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  - {name: GOMEMLIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
envFrom:
  - {prefix: APP_, configMapRef: {name: transaction}}
  - {secretRef: {name: transaction, optional: false}}
files:
  - {mountPath: /etc/rules, configMap: rules}
  - mountPath: /etc/keys
    secret: signing-keys
    items: [{key: public.pem, path: keys/public.pem, mode: 292}]
    mode: 256
    optional: false
  - {mountPath: /etc/app/logging.xml, configMap: rules, subPath: logging.xml}
command: [/app/transaction]
args: [--listen, ":8080"]
volumes:
  - {name: cache, mountPath: /var/cache/app, emptyDir: {sizeLimit: 0.5Gi, memory: true}}
  - {name: journal, mountPath: /var/journal, persistentVolumeClaim: transaction-journal, readOnly: false}
  - {name: reference, mountPath: /var/reference, persistentVolumeClaim: reference-data, readOnly: true, subPath: eu}
  - {name: vault, mountPath: /var/run/vault, serviceAccountToken: {audience: vault, path: token, expirationSeconds: 7200}}
initContainers:
  - name: migrate
    image: registry.example/bank/migrate:9
    args: [up]
    env: [{name: DB_PASSWORD, valueFrom: {secretKeyRef: {name: ledger-db, key: password}}}]
  - name: warm
    image: registry.example/bank/warm:1
    resources: {requests: {cpu: 100m}}
  - name: db-proxy
    image: registry.example/bank/db-proxy:2
    restartPolicy: Always
    envFrom: [{secretRef: {name: ledger-db}}]
    probes: {startup: {tcpSocket: {port: 5432}}}
preStop: {sleep: 10s}
terminationGracePeriod: 45s
imagePullSecrets: [registry]
security: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000, readOnlyRootFilesystem: false, capabilities: [NET_BIND_SERVICE]}
podLabels: {finflow.example/cost-centre: "4711"}
podAnnotations: {proxy.istio.io/config: "holdApplicationUntilProxyStarts: true"}
service:
  type: LoadBalancer
  annotations: {networking.gke.io/load-balancer-type: Internal}
  loadBalancerClass: example.com/internal
  loadBalancerSourceRanges: [203.0.113.0/24]
  externalTrafficPolicy: Local
identity:
  awsRoleArn: arn:aws:iam::123456789012:role/transaction
  gcpServiceAccount: transaction@finflow.iam.gserviceaccount.com
onSecretChange: Restart
tier: Critical
traffic: Requests
resources:
  requests: {cpu: "0.5", memory: 1024Mi}
  limits: {memory: 1.5Gi, ephemeral-storage: 1000M}
probes:
  readiness: {httpGet: {path: /ready, port: http, scheme: HTTPS, httpHeaders: [{name: X-Probe, value: kubelet}]}, initialDelaySeconds: 0, periodSeconds: 5}
  liveness: {grpc: {port: 9000, service: ""}, failureThreshold: 5}
  startup: {tcpSocket: {port: 8080}, failureThreshold: 30}
scale:
  min: 3
  max: 30
  cpuPercent: 70
  memoryPercent: 80
  external: [{name: queue_length, labels: {queue: payments}, averageValue: "30"}]
scheduling:
  nodeSelector: {pool: payments}
  tolerations:
    - {key: dedicated, operator: Equal, value: payments, effect: NoSchedule}
    - {key: spot, operator: Exists}
  spread: Required
ingress: {hosts: [api.finflow.example], paths: [/transactions, /refunds], gateway: istio-system/public, port: http}
mesh:
  provider: Istio
  mtls: Permissive
  timeout: 2s
  retries: {attempts: 0}
  circuitBreaker: {maxConnections: 200, maxPendingRequests: 50, consecutive5xx: 5, ejectionTime: 30s, maxEjectionPercent: 50}
access:
  inbound:
    - {service: api-gateway, namespace: edge}
    - {service: refunds}
    - {namespace: backoffice}
    - {namespace: batch, serviceAccount: settlement}
    - {namespace: monitoring, podLabels: {app: prober}}
    - {cidr: 10.20.0.0/16}
  outbound:
    services: [{service: ledger}, {service: fraud, namespace: risk}]
    hosts: [api.stripe.com, "*.swift.example"]
    cidrs: [10.30.0.0/24]
    addresses: [{cidr: 10.40.0.0/16, ports: [1521, 5432]}]
    pods: [{namespace: data, labels: {app: ledger-db}, ports: [5432]}, {labels: {app: redis}}]
  jwt: {issuer: "https://auth.finflow.example", jwksUri: "https://auth.finflow.example/keys", audiences: [api]}
observability:
  metrics: {port: metrics, path: /metrics, interval: 15s}
  tracing: {endpoint: "http://otel-collector.observability.svc:4317", samplePercent: 10}
  logs: {errorRateAlert: true}
slo: {availability: "99.99", latency: {threshold: 200ms, percent: "99"}, window: 30d}
data:
  residency: US
  classification: PCI
  stores: [{name: ledger-db}]
  topics:
    - {name: transactions, partitions: 12, retention: 7d}
    - {name: transactions.dead-letters, replicas: 2, onDelete: Delete}
placement:
  - {cluster: aws-us-east-1}
  - {cluster: gcp-us-central1, capacityPercent: 50}
sites: {gcp-us-central1: {env: [{name: LOG_LEVEL, value: debug}], resources: {requests: {cpu: 250m}}}}
legacy: {host: monolith.legacy.svc.cluster.local, port: 80, paths: [/transactions]}
"#;

/// [`MINIMAL`], parsed.
pub fn minimal() -> FinServiceSpec {
    serde_norway::from_str(MINIMAL).expect("a spec")
}

/// [`RICH`], parsed.
pub fn rich() -> FinServiceSpec {
    serde_norway::from_str(RICH).expect("a spec")
}

/// What builders are told.
pub fn scope(spec: &FinServiceSpec) -> Scope<'_> {
    static SETTINGS: LazyLock<Settings> = LazyLock::new(Settings::default);
    let uid = "8a5f3e0c-6d1b-4c57-9b0e-3f2a1d4c5b6e";
    static NONE: BTreeSet<(String, u16)> = BTreeSet::new();
    static TOPICS: Topics = Topics { lost: BTreeSet::new(), granted: BTreeSet::new() };
    let (settings, known_hosts, topics) = (&*SETTINGS, &NONE, &TOPICS);
    Scope { namespace: NAMESPACE, name: NAME, uid, site: SITE, spec, settings, known_hosts, topics }
}

/// The input of a revision, with a digest for each ConfigMap that it reads.
pub fn input(spec: &FinServiceSpec) -> RevisionInput {
    let (config_maps, secrets) = references(spec);
    let digests = |names: Vec<String>| names.into_iter().map(|name| (name, "digest".to_owned())).collect();
    RevisionInput::of(spec, digests(config_maps), digests(secrets))
}

/// The spec of the pods of the shortest FinService, of which something was changed.
pub fn rendered(change: impl FnOnce(&mut RevisionInput)) -> Value {
    let spec = minimal();
    let mut input = input(&spec);
    change(&mut input);
    template::render(&scope(&spec), &input, "bcdfghjklm")["spec"].clone()
}

/// A view of the sites: what may be kept here (`None`: nobody has said), and which others there are.
pub fn sites(residency: Option<&[Residency]>, peers: &[&str]) -> Sites {
    let peers = peers.iter().map(|name| (*name).to_owned()).collect();
    Sites { residency: residency.map(Into::into), peers: std::sync::Arc::new(peers), ..Sites::default() }
}
