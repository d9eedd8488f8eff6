//! Both clouds' own APIs for a pair: AWS, in which the first cluster is one of EKS, and Google's, in which the second is
//! one of GKE. Each operator finds the other cluster through them, with tokens that they issue.

use std::fmt;

use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::eks::{ACCOUNT, Aws, EksCluster};
use super::gke::{GkeCluster, Google};
use super::server::Served;
use super::token_review::{Issuer, review};
use crate::clouds::aws::AccessKey;
use crate::sandbox::cloud::Cloud;
use crate::sandbox::credentials::PEER_USER;
use crate::sandbox::error::{Context, Error, Result};
use crate::sandbox::operators::NAMESPACE;
use crate::sandbox::payload::Payload;

/// The policy of who may write Authorities.
const WRITERS: &str = "banyan-authority-writers";

/// The name of either cluster in its cloud.
const CLUSTER: &str = "finflow";
/// The region of AWS.
const REGION: &str = "us-east-1";
/// The role that peers assume in AWS.
const ROLE: &str = "banyan-peer";
/// Google's project.
const PROJECT: &str = "finflow-prod";
/// The location in Google's cloud.
const LOCATION: &str = "us-central1";
/// The version of Kubernetes, as clouds write it.
const VERSION: &str = "1.36";

/// The servers. They run on threads of their own, so that they outlive whoever started them.
pub struct CloudEnds {
    /// AWS.
    pub aws: Aws,
    /// Google's cloud.
    pub google: Google,
    /// The server of AWS.
    pub aws_end: Served,
    /// Google's server.
    pub google_end: Served,
    reviews: [Served; 2],
    key: AccessKey,
    account: Value,
    runtime: Option<Runtime>,
}

impl fmt::Debug for CloudEnds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CloudEnds").finish_non_exhaustive()
    }
}

impl Drop for CloudEnds {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl CloudEnds {
    /// Starts them. They know no cluster yet.
    ///
    /// # Errors
    /// If no port can be had, or the machine has no source of randomness.
    pub async fn start() -> Result<Self> {
        // Signatures and keys are made with it, possibly before any client is.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let doing = || "starting the clouds' ends";
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().context(doing)?;
        let (aws, google) = (Aws::new(REGION), Google::default());
        let (of_aws, of_google) = (aws.clone(), google.clone());
        let started = runtime.spawn(async move {
            let eks = Issuer::Eks(of_aws.clone(), CLUSTER.to_owned());
            let reviews = [review(eks).await?, review(Issuer::Gke(of_google.clone())).await?];
            Ok::<_, crate::sandbox::Error>((of_aws.serve().await?, of_google.serve().await?, reviews))
        });
        let (aws_end, google_end, reviews) = started.await.context(doing)??;
        let key = aws.user("banyan-of-gcp")?;
        let account = google.account("banyan-of-aws", &google_end.url())?;
        Ok(Self { aws, google, aws_end, google_end, reviews, key, account, runtime: Some(runtime) })
    }

    /// Where the API server of each of the two asks about tokens.
    pub fn token_reviews(&self) -> [String; 2] {
        [0, 1].map(|place| self.reviews[place].url())
    }

    /// Makes both clusters known in their clouds.
    pub fn publish(&self, [aws, gcp]: [&Cloud; 2]) {
        self.publish_at([(aws, aws.server()), (gcp, gcp.server())]);
    }

    /// The same, at other addresses of their API servers: of relays on 127.0.0.1.
    pub fn publish_at(&self, [(aws, to_aws), (gcp, to_gcp)]: [(&Cloud, &str); 2]) {
        self.aws.put(EksCluster {
            name: CLUSTER.to_owned(),
            endpoint: to_aws.to_owned(),
            ca: aws.ca_pem().to_owned(),
            version: VERSION.to_owned(),
            groups: [("general".to_owned(), [3, 6, 12])].into(),
        });
        self.google.put(GkeCluster {
            project: PROJECT.to_owned(),
            location: LOCATION.to_owned(),
            name: CLUSTER.to_owned(),
            endpoint: to_gcp.trim_start_matches("https://").to_owned(),
            ca: gcp.ca_pem().to_owned(),
            version: format!("{VERSION}.0-gke.1"),
            pools: [("general".to_owned(), 6)].into(),
        });
    }

    /// What an operator is told, so that it asks these instead of the real ones.
    pub fn operator_args(&self) -> Vec<String> {
        let (aws, google) = (self.aws_end.url(), self.google_end.url());
        let all = [
            "--eks-url",
            &aws,
            "--sts-url",
            &aws,
            "--ec2-url",
            &aws,
            "--gke-url",
            &google,
            "--compute-url",
            &google,
        ];
        all.map(str::to_owned).into()
    }

    /// What leads from the second cloud to the first: the way, and the Secret that it needs.
    pub fn to_aws(&self, secret: &str) -> (Value, Value) {
        let role = format!("arn:aws:iam::{ACCOUNT}:role/{ROLE}");
        let way = json!({"eks": {"name": CLUSTER, "region": REGION, "roleArn": role,
            "credentials": {"secretRef": {"name": secret}}}});
        let data = json!({"AWS_ACCESS_KEY_ID": self.key.id, "AWS_SECRET_ACCESS_KEY": self.key.secret});
        (way, kept(secret, &data))
    }

    /// What leads from the first cloud to the second: the way, and the Secret that it needs.
    pub fn to_gcp(&self, secret: &str) -> (Value, Value) {
        let way = json!({"gke": {"project": PROJECT, "location": LOCATION, "name": CLUSTER,
            "credentials": {"secretRef": {"name": secret}}}});
        (way, kept(secret, &json!({"credentials.json": self.account.to_string()})))
    }
}

/// A Secret in the operator's namespace.
pub fn kept(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "stringData": data})
}

/// Gives the operator of another site the rights of a peer in a cloud, as the chart's `authority.peers` does.
///
/// # Errors
/// Never, unless the chart was broken when the program was built.
pub fn peer_rights(peer: &str) -> Result<Vec<Value>> {
    let manifests = Payload::embedded()?.manifests;
    let mut policy = manifests
        .into_iter()
        .find(|object| object["metadata"]["name"] == WRITERS && object["kind"] == "ValidatingAdmissionPolicy")
        .ok_or_else(|| Error::new(format!("the chart has no policy {WRITERS}")))?;
    for variable in policy["spec"]["variables"].as_array_mut().into_iter().flatten() {
        if let (true, Some(text)) = (variable["name"] == "peer", variable["expression"].as_str()) {
            let named = text.replace("{'': ''}", &format!("{{'': '', '{PEER_USER}': '{peer}'}}"));
            variable["expression"] = named.into();
        }
    }
    Ok(vec![peer_binding(), policy])
}

/// Gives the operators of other sites the rights of a peer in a cloud, other than to claim.
pub fn peer_binding() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": PEER_USER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "banyan-peer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": PEER_USER}],
    })
}
