//! EKS and STS over real sockets, well and badly behaved.

use std::time::Duration;

use axum::http::Method;

use super::*;
use crate::api::cloudcluster::EksAccess;
use crate::clouds::HasNodes;
use crate::clouds::fault_tests::assert_is;
use crate::sandbox::ends::eks::{ACCOUNT, Aws, EksCluster};
use crate::sandbox::ends::server::{Asked, Fault, Served};

struct Stage {
    aws: Aws,
    end: Served,
    key: AccessKey,
}

async fn stage() -> Stage {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let aws = Aws::new("us-east-1");
    aws.put(EksCluster {
        name: "prod".to_owned(),
        endpoint: "https://10.0.0.1".to_owned(),
        ca: "-----BEGIN CERTIFICATE-----".to_owned(),
        version: "1.36".to_owned(),
        groups: [("blue".to_owned(), [1, 3, 9]), ("green".to_owned(), [0, 0, 5])].into(),
    });
    let key = aws.user("gcp-us-central1").expect("a key");
    Stage { end: aws.serve().await.expect("a server"), aws, key }
}

impl Stage {
    fn eks(&self, role: Option<&str>, name: &str) -> Eks {
        let access = EksAccess {
            name: name.to_owned(),
            region: "us-east-1".to_owned(),
            role_arn: role.map(|role| format!("arn:aws:iam::{ACCOUNT}:role/{role}")),
            credentials: None,
        };
        let url = Some(self.end.url());
        let addresses = Addresses { eks: url.clone(), sts: url.clone(), ec2: url, ..Addresses::default() };
        Eks::new(&access, Some(self.key.clone()), &addresses)
    }
}

fn eks(asked: &Asked) -> bool {
    asked.path.starts_with("/clusters")
}

fn sts(asked: &Asked) -> bool {
    asked.path == "/" && asked.method == Method::POST
}

#[tokio::test]
async fn a_cluster_is_found_and_its_token_is_that_of_the_role() {
    let stage = stage().await;
    let eks = stage.eks(Some("banyan-peer"), "prod");
    let found = eks.find().await.expect("it is found");
    assert_eq!((&*found.server, &*found.version), ("https://10.0.0.1", "1.36"));
    assert_eq!(found.ca.as_deref(), Some("-----BEGIN CERTIFICATE-----"));
    let token = eks.token().await.expect("a token");
    let who = stage.aws.authenticate("prod", &token.value);
    assert_eq!(who, Some(format!("arn:aws:sts::{ACCOUNT}:assumed-role/banyan-peer/banyan")));
    assert_eq!(stage.aws.authenticate("other", &token.value), None, "it is for one cluster");
    let groups = eks.nodes().await.expect("groups").pools;
    let sizes: Vec<_> =
        groups.iter().map(|group| (&*group.name, group.least, group.nodes, group.most)).collect();
    assert_eq!(sizes, [("blue", 1, 3, 9), ("green", 0, 0, 5)]);
}

#[tokio::test]
async fn a_token_lives_no_longer_than_the_credentials_beneath_it() {
    let stage = stage().await;
    let life = |token: &Token| token.ends.duration_since(token.made);
    let own = stage.eks(None, "prod").token().await.expect("a token");
    assert_eq!(life(&own), Duration::from_secs(15 * 60), "of a key that does not end");
    stage.aws.let_live(Duration::from_secs(3600));
    let eks = stage.eks(Some("banyan-peer"), "prod");
    assert_eq!(life(&eks.token().await.expect("a token")), Duration::from_secs(15 * 60));
    stage.aws.let_live(Duration::from_millis(2500));
    let short = eks.token().await.expect("a token");
    assert!(life(&short) <= Duration::from_millis(2500), "{short:?}");
    assert!(stage.aws.authenticate("prod", &short.value).is_some());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(stage.aws.authenticate("prod", &short.value), None, "it has ended");
    stage.aws.let_live(Duration::ZERO);
    let ended = eks.token().await.expect_err("it ends at once");
    assert!(ended.to_string().contains("the credentials for AWS have ended"), "{ended}");
}

#[tokio::test]
async fn who_is_not_known_is_told_apart_from_who_may_not() {
    let stage = stage().await;
    let missing = stage.eks(None, "none").find().await.expect_err("there is none");
    assert_eq!(missing.reason(), "CloudNotFound");
    assert!(missing.to_string().contains("correct eks.name, eks.region or eks.roleArn"), "{missing}");
    let mut eks = stage.eks(None, "prod");
    eks.source =
        Source::new("us-east-1", Some(AccessKey { secret: "wrong".into(), ..stage.key.clone() }), None, None);
    assert_eq!(eks.find().await.expect_err("a wrong secret").reason(), "CloudUnauthorized");
    stage.aws.forget_all();
    assert_eq!(stage.eks(None, "prod").find().await.expect_err("no key").reason(), "CloudUnauthorized");
    let refused = stage.eks(Some("banyan-peer"), "prod").token().await.expect_err("no key");
    assert_eq!(refused.reason(), "CloudUnauthorized");
    let stage = self::stage().await;
    let mut eks = stage.eks(None, "prod");
    let role = Some("arn:aws:iam::999999999999:role/theirs".to_owned());
    eks.source = Source::new("us-east-1", Some(stage.key.clone()), role, Some(stage.end.url()));
    let refused = eks.token().await.expect_err("another account");
    assert_eq!(refused.reason(), "CloudForbidden");
    assert!(refused.to_string().contains("trust policy"), "{refused}");
    // Nothing that is printed says a secret.
    let printed = format!("{refused:?} {refused} {:?} {:?}", stage.key, stage.aws);
    assert!(!printed.contains(&stage.key.secret), "{printed}");
}

#[tokio::test]
async fn each_fault_has_its_error_in_bounded_time_and_is_asked_once() {
    let stage = stage().await;
    let (plain, assuming) = (stage.eks(None, "prod"), stage.eks(Some("banyan-peer"), "prod"));
    for fault in Fault::all() {
        stage.end.desk.take();
        stage.end.desk.next(eks, [fault.clone()]);
        assert_is(&fault, plain.find().await.expect_err("a fault"));
        assert_eq!(stage.end.desk.take().len(), 1, "{fault:?}: it is not asked again");
        stage.end.desk.next(sts, [fault.clone()]);
        assert_is(&fault, assuming.token().await.expect_err("a fault"));
        assert_eq!(stage.end.desk.take().len(), 1, "{fault:?}: it is not asked again");
    }
    plain.find().await.expect("it is well again");
    assuming.token().await.expect("it is well again");
}
