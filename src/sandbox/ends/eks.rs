//! Amazon EKS and AWS STS, as far as a cluster is found and entered, and its nodes are scaled, through them. Requests must be signed; credentials
//! that STS gives live as long as they are told to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as With;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::server::{Served, serve};
use super::signature::{Claim, Signed, decoded, pairs};
use crate::clouds::aws::AccessKey;
use crate::clouds::eks_token::{CLUSTER, LIFE, PREFIX};
use crate::runtime::lock::lock;
use crate::sandbox::credentials::token;
use crate::sandbox::error::Result;

/// How far the clocks of who signs and who checks may differ.
const SKEW: Duration = Duration::from_secs(300);
/// The account that all belongs to.
pub const ACCOUNT: &str = "123456789012";

/// A cluster.
#[derive(Clone, Debug)]
pub struct EksCluster {
    /// Its name.
    pub name: String,
    /// Where its API server is.
    pub endpoint: String,
    /// The certificate that vouches for it, in PEM.
    pub ca: String,
    /// The version of Kubernetes.
    pub version: String,
    /// Its node groups: the least, the wanted and the greatest number of nodes of each.
    pub groups: BTreeMap<String, [u32; 3]>,
}

/// An access key that was given out.
struct Given {
    key: AccessKey,
    arn: String,
    ends: Option<SystemTime>,
}

pub(super) struct State {
    region: String,
    life: Duration,
    given: Vec<Given>,
    clusters: BTreeMap<String, EksCluster>,
    /// What else each cluster has, by its name.
    beside: BTreeMap<String, Beside>,
    pub(super) machines: Vec<Machine>,
}

/// What a cluster has beside its node groups.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// Fargate profiles.
    pub fargate: Vec<String>,
    /// Whether it is in Auto Mode.
    pub auto: bool,
    /// Whether it has hybrid nodes.
    pub hybrid: bool,
    /// What its node groups say of themselves; `ACTIVE` where left out.
    pub status: Option<&'static str>,
    /// Fields of `scalingConfig` that are not told.
    pub untold: Vec<&'static str>,
}

/// A machine in EC2.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its ID.
    pub id: String,
    /// The cluster whose mark it bears; empty for none.
    pub cluster: String,
    /// The Auto Scaling group that has started it; empty for none.
    pub group: String,
    /// Its state, such as `running`.
    pub state: &'static str,
}

/// AWS in one region. Cheap to clone.
#[derive(Clone)]
pub struct Aws(pub(super) Arc<Mutex<State>>);

impl fmt::Debug for Aws {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Aws").finish_non_exhaustive()
    }
}

/// A refusal: the status, the code and the words.
pub(super) type Refusal = (u16, &'static str, String);

impl Aws {
    /// One without clusters, whose roles give credentials for an hour.
    pub fn new(region: &str) -> Self {
        let (life, given, clusters) = (Duration::from_secs(3600), Vec::new(), BTreeMap::new());
        let (region, beside, machines) = (region.to_owned(), BTreeMap::new(), Vec::new());
        Self(Arc::new(Mutex::new(State { region, life, given, clusters, beside, machines })))
    }

    /// Adds a cluster, or changes it.
    pub fn put(&self, cluster: EksCluster) {
        lock(&self.0).clusters.insert(cluster.name.clone(), cluster);
    }

    /// What a cluster has beside its node groups from now on.
    pub fn beside(&self, cluster: &str, beside: Beside) {
        lock(&self.0).beside.insert(cluster.to_owned(), beside);
    }

    /// The machines that there are from now on.
    pub fn machines(&self, machines: Vec<Machine>) {
        lock(&self.0).machines = machines;
    }

    /// The least, the wanted and the greatest number of nodes of a group.
    pub fn size(&self, cluster: &str, group: &str) -> Option<[u32; 3]> {
        lock(&self.0).clusters.get(cluster)?.groups.get(group).copied()
    }

    /// How long the credentials of a role live from now on.
    pub fn let_live(&self, life: Duration) {
        lock(&self.0).life = life;
    }

    /// An access key for that user, which does not end.
    ///
    /// # Errors
    /// If the machine has no source of randomness.
    pub fn user(&self, name: &str) -> Result<AccessKey> {
        self.give(format!("arn:aws:iam::{ACCOUNT}:user/{name}"), "AKIA", None)
    }

    /// A key that ends, such as a role has.
    ///
    /// # Errors
    /// If the machine has no source of randomness.
    pub fn lent(&self, role: &str) -> Result<AccessKey> {
        let ends = SystemTime::now() + lock(&self.0).life;
        self.give(format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/pod"), "ASIA", Some(ends))
    }

    /// Takes back what was given out: from now on nobody is known.
    pub fn forget_all(&self) {
        lock(&self.0).given.clear();
    }

    fn give(&self, arn: String, kind: &str, ends: Option<SystemTime>) -> Result<AccessKey> {
        let id = format!("{kind}{}", token()?[..16].to_uppercase());
        let session = ends.map(|_| token()).transpose()?;
        let key = AccessKey { id, secret: token()?, session };
        let mut state = lock(&self.0);
        let now = SystemTime::now();
        // What has ended some time ago is told apart from what was never given out, for a while.
        state.given.retain(|given| given.ends.is_none_or(|ends| ends + SKEW > now));
        state.given.push(Given { key: key.clone(), arn, ends });
        Ok(key)
    }

    /// Serves EKS, EC2 and STS at one address.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn serve(&self) -> Result<Served> {
        serve(Router::new().fallback(answer).with_state(self.clone())).await
    }

    /// Who signed a request.
    pub(super) fn signer(&self, request: &Signed, service: &str) -> std::result::Result<String, Refusal> {
        let refuse = |code, words: &str| Err((403, code, words.to_owned()));
        let Some(claim) = Claim::of(request) else {
            return refuse("MissingAuthenticationToken", "Missing Authentication Token");
        };
        self.check(&claim, request, service, SKEW)
    }

    fn check(
        &self,
        claim: &Claim,
        request: &Signed,
        service: &str,
        life: Duration,
    ) -> std::result::Result<String, Refusal> {
        let refuse = |code, words: &str| Err((403, code, words.to_owned()));
        let (state, now) = (lock(&self.0), SystemTime::now());
        if claim.service != service || claim.region != state.region {
            let words = format!("Credential should be scoped to {service} in {}", state.region);
            return refuse("SignatureDoesNotMatch", &words);
        }
        let given =
            state.given.iter().find(|given| given.key.id == claim.key && given.key.session == claim.session);
        let Some(given) = given else {
            return refuse("InvalidClientTokenId", "The security token included in the request is invalid.");
        };
        if given.ends.is_some_and(|ends| ends <= now) {
            return refuse("ExpiredToken", "The security token included in the request is expired");
        }
        if now > claim.at + life || claim.at > now + SKEW {
            return refuse("SignatureDoesNotMatch", "Signature expired");
        }
        match claim.is_made_with(&given.key.secret, request) {
            true => Ok(given.arn.clone()),
            false => refuse("SignatureDoesNotMatch", "The request signature does not match"),
        }
    }

    /// Who shows that token to the API server of a cluster; `None` if it is not to be let in. So it is done by the
    /// authenticator that EKS puts beside an API server.
    pub fn authenticate(&self, cluster: &str, token: &str) -> Option<String> {
        let url = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
        let url: http::Uri = String::from_utf8(url).ok()?.parse().ok()?;
        let host = url.host()?.to_owned();
        if host != format!("sts.{}.amazonaws.com", lock(&self.0).region) || url.scheme_str() != Some("https")
        {
            return None;
        }
        let headers = [("host".to_owned(), host), (CLUSTER.to_owned(), cluster.to_owned())].into();
        let (method, path) = ("GET".to_owned(), url.path().to_owned());
        let query = url.query()?.to_owned();
        if !query.contains("Action=GetCallerIdentity") {
            return None;
        }
        let request = Signed { method, path, query, headers, body: Vec::new() };
        let claim = Claim::of(&request)?;
        if !claim.headers.iter().any(|name| name == CLUSTER) {
            return None;
        }
        self.check(&claim, &request, "sts", LIFE).ok()
    }
}

async fn answer(With(aws): With<Aws>, parts: Parts, body: Bytes) -> Response {
    let headers = parts
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
    let request = Signed {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: headers.collect(),
        body: body.to_vec(),
    };
    let body = String::from_utf8_lossy(&request.body);
    match &*request.path {
        "/" if body.contains("Action=DescribeInstances") => aws.ec2(&request),
        "/" => aws.sts(&request),
        _ => aws.eks(&request),
    }
}

/// EKS.
impl Aws {
    fn eks(&self, request: &Signed) -> Response {
        let answered = self.signer(request, "eks").and_then(|_| self.clusters(request));
        let (status, kind, body) = match answered {
            Ok(body) => (200, "", body),
            Err((status, code, words)) => {
                // EKS has other words for these than STS.
                let code = match code {
                    "InvalidClientTokenId" => "UnrecognizedClientException",
                    "ExpiredToken" => "ExpiredTokenException",
                    "SignatureDoesNotMatch" => "InvalidSignatureException",
                    "MissingAuthenticationToken" => "MissingAuthenticationTokenException",
                    code => code,
                };
                (status, code, json!({"message": words}))
            }
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = [(header::CONTENT_TYPE.as_str(), "application/json"), ("x-amzn-errortype", kind)];
        (status, headers, body.to_string()).into_response()
    }

    fn clusters(&self, request: &Signed) -> std::result::Result<Value, Refusal> {
        let mut state = lock(&self.0);
        let region = state.region.clone();
        let parts: Vec<&str> = request.path.split('/').skip(1).collect();
        let beside = parts.get(1).and_then(|name| state.beside.get(*name)).cloned().unwrap_or_default();
        let absent = |words: String| (404, "ResourceNotFoundException", words);
        let unknown = || absent("No such operation".to_owned());
        if let ("GET", ["clusters"]) = (&*request.method, &parts[..]) {
            return Ok(json!({"clusters": state.clusters.keys().collect::<Vec<_>>(), "nextToken": null}));
        }
        let ["clusters", name, rest @ ..] = &parts[..] else { return Err(unknown()) };
        let cluster = state
            .clusters
            .get_mut(*name)
            .ok_or_else(|| absent(format!("No cluster found for name: {name}.")))?;
        let arn = format!("arn:aws:eks:{region}:{ACCOUNT}:cluster/{name}");
        let group = |cluster: &EksCluster, group: &str| {
            let found = cluster.groups.get(group);
            found.copied().ok_or_else(|| absent(format!("No node group found for name: {group}.")))
        };
        match (&*request.method, rest) {
            ("GET", []) => Ok(json!({"cluster": {
                "name": name, "arn": arn, "version": cluster.version, "endpoint": cluster.endpoint, "status": "ACTIVE",
                "certificateAuthority": {"data": STANDARD.encode(&cluster.ca)},
                "computeConfig": {"enabled": beside.auto},
                "remoteNetworkConfig": if beside.hybrid { json!({"remoteNodeNetworks": []}) } else { Value::Null },
            }})),
            ("GET", ["fargate-profiles"]) => {
                Ok(json!({"fargateProfileNames": beside.fargate, "nextToken": null}))
            }
            ("GET", ["node-groups"]) => {
                Ok(json!({"nodegroups": cluster.groups.keys().collect::<Vec<_>>(), "nextToken": null}))
            }
            ("GET", ["node-groups", wanted]) => {
                let [least, nodes, most] = group(cluster, wanted)?;
                let mut size = json!({"minSize": least, "desiredSize": nodes, "maxSize": most});
                beside.untold.iter().for_each(|field| size[*field] = Value::Null);
                Ok(json!({"nodegroup": {
                    "nodegroupName": wanted, "clusterName": name, "status": beside.status.unwrap_or("ACTIVE"),
                    "scalingConfig": size, "resources": {"autoScalingGroups": [{"name": format!("eks-{wanted}")}]},
                }}))
            }
            ("POST", ["node-groups", wanted, "update-config"]) => {
                let now = group(cluster, wanted)?;
                let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                let size = |field: &str, now: u32| {
                    let value = asked["scalingConfig"][field].as_u64();
                    value.map_or(now, |value| u32::try_from(value).unwrap_or(u32::MAX))
                };
                let next = [size("minSize", now[0]), size("desiredSize", now[1]), size("maxSize", now[2])];
                if next[0] > next[1] || next[1] > next[2] || next[2] == 0 {
                    let words = "minSize <= desiredSize <= maxSize, and maxSize at least 1".to_owned();
                    return Err((400, "InvalidParameterException", words));
                }
                cluster.groups.insert((*wanted).to_owned(), next);
                Ok(
                    json!({"update": {"id": "update", "status": "Successful", "type": "ConfigUpdate", "params": [], "errors": []}}),
                )
            }
            _ => Err(unknown()),
        }
    }
}

/// STS.
impl Aws {
    fn sts(&self, request: &Signed) -> Response {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let fields = pairs(&form).chain(pairs(&request.query));
        let form: BTreeMap<String, String> = fields.map(|(name, value)| (name, decoded(&value))).collect();
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let action = field("Action");
        let answered = match action {
            "GetCallerIdentity" => self
                .signer(request, "sts")
                .map(|arn| format!("<Arn>{arn}</Arn><UserId>AIDA</UserId><Account>{ACCOUNT}</Account>")),
            "AssumeRole" => self
                .signer(request, "sts")
                .and_then(|_| self.assumed(field("RoleArn"), field("RoleSessionName"))),
            "AssumeRoleWithWebIdentity" if field("WebIdentityToken").is_empty() => {
                Err((400, "InvalidIdentityToken", "The web identity token is missing".to_owned()))
            }
            "AssumeRoleWithWebIdentity" => self.assumed(field("RoleArn"), field("RoleSessionName")),
            _ => Err((400, "InvalidAction", format!("Could not find operation {action}"))),
        };
        let (status, body) = match answered {
            Ok(result) => (
                200,
                format!(
                    "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>{result}\
                     </{action}Result><ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></{action}Response>"
                ),
            ),
            Err((status, code, words)) => (
                status,
                format!(
                    "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                     <Code>{code}</Code><Message>{words}</Message></Error><RequestId>0</RequestId></ErrorResponse>"
                ),
            ),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, "text/xml")], body).into_response()
    }

    fn assumed(&self, role: &str, session: &str) -> std::result::Result<String, Refusal> {
        let name = role.strip_prefix(&format!("arn:aws:iam::{ACCOUNT}:role/")).ok_or_else(|| {
            (
                403,
                "AccessDenied",
                format!("User is not authorized to perform: sts:AssumeRole on resource: {role}"),
            )
        })?;
        let life = lock(&self.0).life;
        let ends = SystemTime::now() + life;
        let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/{session}");
        let key = self
            .give(arn.clone(), "ASIA", Some(ends))
            .map_err(|error| (500, "InternalFailure", error.to_string()))?;
        let ends = jiff::Timestamp::try_from(ends).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Ok(format!(
            "<Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey><SessionToken>{}\
             </SessionToken><Expiration>{ends:.3}</Expiration></Credentials><AssumedRoleUser><Arn>{arn}</Arn>\
             <AssumedRoleId>AROA:{session}</AssumedRoleId></AssumedRoleUser>",
            key.id,
            key.secret,
            key.session.unwrap_or_default()
        ))
    }
}
