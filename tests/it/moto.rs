//! The played EKS against moto, which plays it too: each answers the same to the same question. Where moto is missing
//! this is skipped, and fails if CI=true.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_sdk_eks::config::{BehaviorVersion, Region, retry::RetryConfig};
use aws_sdk_eks::error::ProvideErrorMetadata;
use aws_sdk_eks::types::{NodegroupScalingConfig, VpcConfigRequest};
use banyan::sandbox::ends::eks::{Aws, EksCluster};

/// A server of moto, which ends with this.
struct Moto {
    child: Child,
    url: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None` where moto is not installed.
async fn moto() -> Option<Moto> {
    let has = Command::new("python3").args(["-c", "import moto.server"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "moto is missing: pip install 'moto[server]'");
        println!("skipped: moto is missing: pip install 'moto[server]'");
        return None;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new("python3")
        .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("moto starts");
    let moto = Moto { child, url: format!("http://127.0.0.1:{port}") };
    let began = Instant::now();
    while reqwest::get(format!("{}/moto-api/", moto.url)).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(120), "moto does not answer");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Some(moto)
}

fn client(url: &str, id: &str, secret: &str) -> aws_sdk_eks::Client {
    let config = aws_sdk_eks::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(url);
    aws_sdk_eks::Client::from_conf(config.build())
}

/// What an answer says, in a line.
type Said = BTreeMap<&'static str, String>;

/// An error, in a line.
fn refused<E: ProvideErrorMetadata>(error: &E) -> String {
    format!("{} {}", error.code().unwrap_or_default(), error.message().unwrap_or_default())
}

/// What is answered to each question.
async fn answers(client: &aws_sdk_eks::Client) -> Said {
    let mut said = Said::new();
    let cluster = client.describe_cluster().name("prod").send().await.unwrap().cluster.unwrap();
    let known = (cluster.name, cluster.arn, cluster.version, cluster.status);
    let whole = (cluster.endpoint.is_some(), cluster.certificate_authority.and_then(|ca| ca.data).is_some());
    said.insert("DescribeCluster", format!("{known:?} {whole:?}"));
    let missing = client.describe_cluster().name("none").send().await.unwrap_err().into_service_error();
    said.insert("DescribeCluster of none", refused(&missing));
    let clusters = client.list_clusters().send().await.unwrap();
    said.insert("ListClusters", format!("{:?} {:?}", clusters.clusters, clusters.next_token));
    let groups = client.list_nodegroups().cluster_name("prod").send().await.unwrap();
    said.insert("ListNodegroups", format!("{:?} {:?}", groups.nodegroups, groups.next_token));
    // Moto fails when it is asked for the node groups of no cluster; EKS' description says what ours says.
    let describe = || client.describe_nodegroup().cluster_name("prod").nodegroup_name("blue");
    let group = describe().send().await.unwrap().nodegroup.unwrap();
    said.insert("DescribeNodegroup", format!("{:?} {:?}", group.nodegroup_name, group.scaling_config));
    let missing = client.describe_nodegroup().cluster_name("prod").nodegroup_name("none").send().await;
    said.insert("DescribeNodegroup of none", refused(&missing.unwrap_err().into_service_error()));
    let size = NodegroupScalingConfig::builder().min_size(0).desired_size(0).max_size(9).build();
    let update = client.update_nodegroup_config().cluster_name("prod").nodegroup_name("blue");
    update.scaling_config(size).send().await.unwrap();
    let group = describe().send().await.unwrap().nodegroup.unwrap();
    said.insert("DescribeNodegroup after UpdateNodegroupConfig", format!("{:?}", group.scaling_config));
    said
}

#[tokio::test]
async fn the_played_eks_answers_as_moto_does() {
    let Some(moto) = moto().await else { return };
    let theirs = client(&moto.url, "AKIDEXAMPLE", "secret");
    let vpc = VpcConfigRequest::builder().subnet_ids("subnet-1").build();
    let role = "arn:aws:iam::123456789012:role/eks";
    let made = theirs.create_cluster().name("prod").version("1.36").role_arn(role).resources_vpc_config(vpc);
    made.send().await.expect("a cluster");
    let size = NodegroupScalingConfig::builder().min_size(1).desired_size(3).max_size(9).build();
    let group = theirs.create_nodegroup().cluster_name("prod").nodegroup_name("blue").node_role(role);
    group.subnets("subnet-1").scaling_config(size).send().await.expect("a node group");

    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let aws = Aws::new("us-east-1");
    aws.put(EksCluster {
        name: "prod".to_owned(),
        endpoint: "https://10.0.0.1".to_owned(),
        ca: "a certificate".to_owned(),
        version: "1.36".to_owned(),
        groups: [("blue".to_owned(), [1, 3, 9])].into(),
    });
    let (key, end) = (aws.user("test").unwrap(), aws.serve().await.unwrap());
    let ours = client(&end.url(), &key.id, &key.secret);
    assert_eq!(answers(&ours).await, answers(&theirs).await);
}
