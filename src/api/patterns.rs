//! What strings look like, and the sentence that a wrong one is answered with.
//!
//! OpenAPI's `pattern` answers with the expression, which tells nobody what to do. So each one is
//! turned into a CEL rule with a sentence of its own, by [`super::schema::bounded`].

pub use super::units::{DURATION_PATTERN as DURATION, PERCENT_PATTERN as PERCENT};

/// A duration longer than zero.
pub const POSITIVE_DURATION: &str =
    "^([0-9]{1,9}(ms|s|m|h|d))*[0-9]{0,8}[1-9][0-9]{0,8}(ms|s|m|h|d)([0-9]{1,9}(ms|s|m|h|d))*$";
/// A DNS label (RFC 1123).
pub const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// The name of an object: DNS labels with dots between (RFC 1123).
pub const OBJECT_NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// The name of a topic (Kafka's own rule).
pub const TOPIC_NAME: &str = "^[a-zA-Z0-9._-]+$";
/// The name of a port (RFC 6335).
pub const PORT_NAME: &str = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$";
/// An image reference.
pub const IMAGE: &str = r"^[^\s]+$";
/// What is retried: the words that Istio takes, which are Envoy's of `x-envoy-retry-on` and `x-envoy-retry-grpc-on`, and
/// status codes.
pub const RETRY_ON: &str = "^(5xx|gateway-error|reset|reset-before-request|connect-failure|retriable-4xx|refused-stream|retriable-status-codes|retriable-headers|envoy-ratelimited|http3-post-connect-failure|cancelled|deadline-exceeded|internal|resource-exhausted|unavailable|[1-5][0-9][0-9])(,(5xx|gateway-error|reset|reset-before-request|connect-failure|retriable-4xx|refused-stream|retriable-status-codes|retriable-headers|envoy-ratelimited|http3-post-connect-failure|cancelled|deadline-exceeded|internal|resource-exhausted|unavailable|[1-5][0-9][0-9]))*$";
/// The name of an environment variable.
pub const ENV_NAME: &str = "^[-._a-zA-Z][-._a-zA-Z0-9]*$";
/// A key of a ConfigMap or of a Secret.
pub const KEY: &str = "^[-._a-zA-Z0-9]+$";
/// Where something is mounted.
pub const MOUNT_PATH: &str = "^/[^:]+$";
/// A path below a folder.
pub const RELATIVE_PATH: &str =
    "^([-._A-Za-z0-9]*[-_A-Za-z0-9][-._A-Za-z0-9]*)(/[-._A-Za-z0-9]*[-_A-Za-z0-9][-._A-Za-z0-9]*)*$";
/// A probability.
pub const PROBABILITY: &str = r"^0\.[0-9]{1,6}$";
/// The name of a metric of the service's own.
pub const METRIC: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?$";
/// The name of a header or of a cookie.
pub const TOKEN: &str = "^[A-Za-z0-9_-]+$";
/// The key of a project, an environment or a flag of LaunchDarkly. It becomes part of an address.
pub const FLAG_KEY: &str = "^[A-Za-z0-9][-._A-Za-z0-9]*$";
/// Who owns something. It becomes a label of alerts, which Prometheus reads as a template.
pub const OWNER: &str = r"^[^{}\pC]+$";
/// The value of a header or of a cookie.
pub const TOKEN_VALUE: &str = "^[A-Za-z0-9_.:/=@ -]+$";
/// A path of a request.
pub const PATH: &str = "^/";
/// A path of a request, of printable characters.
pub const REQUEST_PATH: &str = r"^/[!-~]*$";
/// The id of something at Cloudflare.
pub const CLOUDFLARE_ID: &str = "^[0-9a-f]{32}$";
/// The id of a hosted zone of Route 53, without `/hostedzone/`.
pub const ROUTE53_ID: &str = "^[A-Z0-9]{1,32}$";
/// An IPv4 address.
pub const IPV4: &str =
    "^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])$";
/// An IPv6 address, roughly.
pub const IPV6: &str = "^[0-9a-f]*:[0-9a-f:]*:[0-9a-f.:]*$";
/// A URL.
pub const URL: &str = r"^https?://[^\s/]+";
/// A gateway, in another namespace or in the service's own.
pub const GATEWAY: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-.a-z0-9]*[a-z0-9])?$";
/// An IAM role.
pub const AWS_ROLE: &str = "^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$";
/// A Google service account.
pub const GCP_ACCOUNT: &str = "^[^@]+@[^@]+[.]iam[.]gserviceaccount[.]com$";
/// A field of a pod that a variable may hold.
pub const FIELD_PATH: &str = r"^(metadata\.(name|namespace|uid|(labels|annotations)\['[^']+'\])|spec\.(nodeName|serviceAccountName)|status\.(hostIP|hostIPs|podIP|podIPs))$";
/// A resource of a container that a variable may hold.
pub const CONTAINER_RESOURCE: &str =
    "^(limits|requests)[.](cpu|memory|ephemeral-storage|hugepages-[0-9A-Za-z]+)$";
/// A place in object storage, or a folder.
pub const WITNESS_URL: &str = "^((s3|gs|az)://[a-z0-9][-._a-z0-9]{1,61}[a-z0-9]|file:///[A-Za-z0-9][-A-Za-z0-9._=]*)(/[A-Za-z0-9][-A-Za-z0-9._=]*)*/?$";
/// The region of a bucket.
pub const WITNESS_REGION: &str = "^[a-z0-9]+(-[a-z0-9]+)*$";
/// Where an object store answers: TLS, except to the machine itself.
pub const WITNESS_ENDPOINT: &str =
    r"^(https://[^\s/@?#]+|http://(localhost|127([.][0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?)(/[^\s?#]*)?$";

/// An object in a namespace.
pub const NAMESPACED: &str =
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A host: a name or an address.
pub const HOST: &str = "^[A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?$|^[0-9a-fA-F:]*:[0-9a-fA-F:.]*$";
/// The name of a role or of a database of PostgreSQL.
pub const POSTGRES_NAME: &str = "^[A-Za-z_][-A-Za-z0-9_$.@]*$";
/// The name of a consumer group of Kafka.
pub const CONSUMER_GROUP: &str = "^[-._A-Za-z0-9]+$";
/// An address that shows who it is.
pub const HTTPS_URL: &str = r"^https://[^\s/]+";
/// The gateway of a site: an address that shows who it is, or one of this machine itself.
pub const GATEWAY_URL: &str =
    r"^(https://[^\s/]+|http://(localhost|127([.][0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?(/|$))";
/// Certificates in PEM.
pub const CERTIFICATES: &str = r"^\s*-----BEGIN CERTIFICATE-----";
/// The name of an EKS cluster.
pub const EKS_NAME: &str = "^[0-9A-Za-z][A-Za-z0-9_-]*$";
/// A region of AWS.
pub const AWS_REGION: &str = "^[a-z]{2}(-[a-z]+)+-[0-9]+$";
/// The ID of a Google Cloud project.
pub const GCP_PROJECT: &str = "^([a-z0-9.-]+:)?[a-z][-a-z0-9]*[a-z0-9]$";
/// A region or zone of Google Cloud.
pub const GCP_LOCATION: &str = "^[a-z]+-[a-z]+[0-9]+(-[a-z])?$";
/// The name of a GKE cluster.
pub const GKE_NAME: &str = "^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$";

/// A rule of CEL: all entries of a map are labels.
pub const LABELS_RULE: &str = "self.all(k, k.size() <= 317 && k.matches('^([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && self[k].matches('^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$'))";
/// A rule of CEL: all entries of a map are annotations.
pub const ANNOTATIONS_RULE: &str = "self.all(k, k.size() <= 317 && k.matches('^([a-z0-9]([-.a-z0-9]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && self[k].size() <= 8192)";

/// What is said of a string that does not match; the API server puts the field's path before it.
pub fn sentence(pattern: &str) -> Option<&'static str> {
    Some(match pattern {
        DURATION => "must be a duration such as 500ms, 2s, 5m, 1h30m or 7d, without spaces",
        POSITIVE_DURATION => {
            "must be a duration longer than zero, such as 500ms, 2s, 5m, 1h30m or 7d, without spaces"
        }
        PERCENT => r#"must be a percentage from 0 to 100 with at most six decimals, such as "99.9""#,
        LABEL => {
            "must be lower-case letters, digits and dashes, with a letter or digit first and last, such as payments"
        }
        OBJECT_NAME => {
            "must be a name of lower-case letters, digits, dashes and dots, with a letter or digit first and last"
        }
        TOPIC_NAME => "must be a topic of Kafka: letters, digits, dots, dashes and underscores",
        PORT_NAME => {
            "must be lower-case letters, digits and single dashes, with a letter first, such as http"
        }
        RETRY_ON => {
            "must be failures that a proxy knows, with commas and no spaces between, such as connect-failure,refused-stream,503"
        }
        IMAGE => "must be an image reference without spaces, such as registry.example/transaction:1.4.2",
        ENV_NAME => {
            "must be letters, digits, underscores, dots and dashes, with no digit first, such as DB_HOST"
        }
        KEY => "must be a key of letters, digits, underscores, dots and dashes, such as password",
        MOUNT_PATH => "must be an absolute path without a colon, such as /etc/transaction",
        RELATIVE_PATH => {
            "must be a path below the folder, without a slash first and without .., such as keys/public.pem"
        }
        PROBABILITY => r#"must be a probability with at most six decimals, such as "0.01""#,
        METRIC => {
            "must be lower-case letters, digits and dashes, with a letter first, such as double-postings"
        }
        FLAG_KEY => {
            "must be letters, digits, dots, underscores and dashes, with a letter or digit first, such as new-checkout"
        }
        OWNER => "must be the name of a team without braces or line breaks, such as payments-team",
        TOKEN => "must be letters, digits, underscores and dashes, such as x-canary",
        TOKEN_VALUE => "must be letters, digits, spaces and any of _ . : / = @ -",
        PATH => "must begin with a slash, such as /metrics",
        REQUEST_PATH => "must begin with a slash and hold no space, such as /healthz",
        CLOUDFLARE_ID => {
            "must be an id of Cloudflare: 32 lower-case hexadecimal digits, as the dashboard shows them"
        }
        ROUTE53_ID => "must be the id of a hosted zone, such as Z0123456789ABC, without /hostedzone/",
        IPV4 => "must be an IPv4 address, such as 192.0.2.10",
        IPV6 => "must be an IPv6 address in lower case, such as 2001:db8::10",
        URL => "must begin with http:// or https:// and name a host, such as https://auth.finflow.example",
        GATEWAY => "must be namespace/name, or name alone for a gateway in the service's own namespace",
        AWS_ROLE => "must be the ARN of an IAM role, such as arn:aws:iam::123456789012:role/transaction",
        GCP_ACCOUNT => {
            "must be a Google service account, such as transaction@project.iam.gserviceaccount.com"
        }
        FIELD_PATH => {
            "must be a field that a pod can tell its containers, such as metadata.name, spec.nodeName or status.podIP"
        }
        CONTAINER_RESOURCE => "must be limits or requests and a resource, such as limits.memory",
        WITNESS_URL => {
            "must be s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder, each part of the prefix with a letter or digit first"
        }
        WITNESS_REGION => "must be a cloud's region, such as us-east-2",
        WITNESS_ENDPOINT => {
            "must begin with https:// and name a host, such as https://objects.example; http:// is for this machine alone (localhost, 127.0.0.1, [::1])"
        }
        NAMESPACED => "must be namespace/name, such as payments/ledger",
        HOST => "must be a host name or an address, without a scheme or a port, such as db.payments.example",
        POSTGRES_NAME => {
            "must be a name of PostgreSQL: letters, digits and any of _ - $ . @, with a letter or _ first, such as app"
        }
        CONSUMER_GROUP => "must be letters, digits, dots, underscores and dashes, such as fraud",
        HTTPS_URL => "must begin with https:// and name a host, such as https://10.0.0.1",
        GATEWAY_URL => {
            "must begin with https:// and name a host, such as https://gw.finflow.example; http:// is for this machine alone (localhost, 127.0.0.1, [::1])"
        }
        CERTIFICATES => "must be certificates in PEM, beginning with -----BEGIN CERTIFICATE-----",
        EKS_NAME => {
            "must be the name of an EKS cluster: letters, digits, dashes and underscores, with a letter or digit first"
        }
        AWS_REGION => "must be a region of AWS, such as us-east-1",
        GCP_PROJECT => "must be the ID of a Google Cloud project, such as finflow-prod, and not its number",
        GCP_LOCATION => "must be a region or zone of Google Cloud, such as us-central1 or us-central1-a",
        GKE_NAME => {
            "must be the name of a GKE cluster: lower-case letters, digits and dashes, with a letter first"
        }
        _ => return None,
    })
}
