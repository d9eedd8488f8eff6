//! The nodes of a cluster of EKS over real sockets, well and badly told: what is not certain is never taken for gone.

use super::*;
use crate::api::cloudcluster::EksAccess;
use crate::clouds::nodes::Verdict;
use crate::clouds::{Addresses, fault_tests::assert_is};
use crate::sandbox::ends::eks::{Aws, Beside, EksCluster, Machine};
use crate::sandbox::ends::server::{Asked, Fault, Served};

struct Stage {
    aws: Aws,
    end: Served,
    eks: Eks,
}

fn machine(id: &str, cluster: &str, group: &str, state: &'static str) -> Machine {
    Machine { id: id.to_owned(), cluster: cluster.to_owned(), group: group.to_owned(), state }
}

async fn stage(groups: &[(&str, [u32; 3])]) -> Stage {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let aws = Aws::new("us-east-1");
    aws.put(EksCluster {
        name: "prod".to_owned(),
        endpoint: "https://10.0.0.1".to_owned(),
        ca: String::new(),
        version: "1.36".to_owned(),
        groups: groups.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect(),
    });
    let key = aws.user("gcp-us-central1").expect("a key");
    let end = aws.serve().await.expect("a server");
    let url = Some(end.url());
    let addresses = Addresses { eks: url.clone(), sts: url.clone(), ec2: url, ..Addresses::default() };
    let access =
        EksAccess { name: "prod".to_owned(), region: "us-east-1".to_owned(), ..EksAccess::default() };
    Stage { eks: Eks::new(&access, Some(key), &addresses), aws, end }
}

impl Stage {
    async fn verdict(&self) -> Verdict {
        self.eks.nodes().await.expect("it tells").verdict()
    }
}

const ZERO: [u32; 3] = [0, 0, 9];

#[tokio::test]
async fn a_cluster_whose_groups_are_at_zero_and_that_has_no_machine_is_gone() {
    let stage = stage(&[("blue", ZERO), ("green", ZERO)]).await;
    stage.aws.machines(vec![
        machine("i-1", "prod", "eks-blue", "terminated"),
        machine("i-2", "other", "eks-other", "running"),
    ]);
    let Verdict::Gone(words) = stage.verdict().await else { panic!("{:?}", stage.verdict().await) };
    assert!(
        words.starts_with("the node groups of Amazon EKS cluster prod in us-east-1 are at zero"),
        "{words}"
    );
}

#[tokio::test]
async fn a_machine_that_is_left_by_whatever_mark_in_whatever_state_is_no_zero() {
    let stage = stage(&[("blue", ZERO)]).await;
    for (cluster, group) in [("prod", ""), ("", "eks-blue"), ("prod", "eks-blue")] {
        for state in ["pending", "running", "shutting-down", "stopping", "stopped"] {
            stage.aws.machines(vec![machine("i-1", cluster, group, state)]);
            let verdict = stage.verdict().await;
            assert!(matches!(verdict, Verdict::Going(_)), "{cluster} {group} {state}: {verdict:?}");
        }
    }
    // More than are on a page, and each is counted once.
    let many = (0..5).map(|place| machine(&format!("i-{place}"), "prod", "eks-blue", "shutting-down"));
    stage.aws.machines(many.collect());
    assert_eq!(stage.eks.nodes().await.expect("it tells").left, 5);
}

#[tokio::test]
async fn what_would_bring_nodes_back_or_runs_beside_them_is_no_zero() {
    let up = stage(&[("blue", ZERO), ("green", [0, 3, 9])]).await;
    assert!(matches!(up.verdict().await, Verdict::Up(words) if words.contains("green has 3")));
    let least = stage(&[("blue", [1, 1, 1])]).await;
    assert!(matches!(least.verdict().await, Verdict::Up(_)));
    assert!(matches!(stage(&[]).await.verdict().await, Verdict::Never(_)));
    let stage = stage(&[("blue", ZERO)]).await;
    let never = [
        (Beside { fargate: vec!["system".to_owned()], ..Beside::default() }, "Fargate"),
        (Beside { auto: true, ..Beside::default() }, "Auto Mode"),
        (Beside { hybrid: true, ..Beside::default() }, "hybrid"),
    ];
    for (beside, words) in never {
        stage.aws.beside("prod", beside);
        let verdict = stage.verdict().await;
        assert!(matches!(&verdict, Verdict::Never(other) if other.message.contains(words)), "{verdict:?}");
    }
    stage.aws.beside("prod", Beside { status: Some("UPDATING"), ..Beside::default() });
    assert!(matches!(stage.verdict().await, Verdict::Going(_)));
}

#[tokio::test]
async fn a_number_that_is_not_told_is_no_zero() {
    let stage = stage(&[("blue", ZERO)]).await;
    for field in ["minSize", "desiredSize", "maxSize"] {
        stage.aws.beside("prod", Beside { untold: vec![field], ..Beside::default() });
        let error = stage.eks.nodes().await.expect_err(field);
        assert!(error.to_string().contains("does not say its size"), "{error}");
    }
}

#[tokio::test]
async fn whatever_answer_is_missing_bad_or_broken_nothing_is_known() {
    let stage = stage(&[("blue", ZERO)]).await;
    fn is(path: &'static str) -> impl Fn(&Asked) -> bool + Send + 'static {
        move |asked: &Asked| asked.path == path
    }
    for path in [
        "/clusters/prod",
        "/clusters/prod/fargate-profiles",
        "/clusters/prod/node-groups",
        "/clusters/prod/node-groups/blue",
    ] {
        // Silence is waited for once, so that this takes no minute.
        for fault in
            Fault::all().into_iter().filter(|fault| path == "/clusters/prod" || *fault != Fault::Silence)
        {
            stage.end.desk.next(is(path), [fault.clone()]);
            assert_is(&fault, stage.eks.nodes().await.expect_err("a fault"));
        }
    }
    for fault in Fault::all() {
        stage.end.desk.next(is("/"), [fault.clone()]);
        assert_is(&fault, stage.eks.nodes().await.expect_err("a fault"));
    }
    // It answers well, and not what was asked for.
    for text in ["", "{}", "<DescribeInstancesResponse><reservationSet/>", "<html></html>"] {
        stage.end.desk.next(is("/"), [Fault::Status(200, text.to_owned())]);
        assert!(stage.eks.nodes().await.is_err(), "{text:?}");
    }
    stage.end.desk.next(is("/clusters/prod/node-groups"), [Fault::status(200)]);
    assert!(stage.eks.nodes().await.is_err(), "it lists no node groups");
    stage.end.desk.next(is("/clusters/prod/fargate-profiles"), [Fault::status(200)]);
    assert!(stage.eks.nodes().await.is_err(), "it lists no profiles");
    assert!(matches!(stage.verdict().await, Verdict::Gone(_)), "it is well again");
}

#[tokio::test]
async fn rights_that_are_missing_are_named() {
    let stage = stage(&[("blue", [1, 3, 9])]).await;
    let refused = |path: &'static str| {
        stage.end.desk.next(move |asked: &Asked| asked.path.ends_with(path), [Fault::status(403)]);
    };
    refused("/fargate-profiles");
    let error = stage.eks.nodes().await.expect_err("refused").to_string();
    assert!(error.contains("eks:ListFargateProfiles"), "{error}");
    refused("/");
    let error = stage.eks.nodes().await.expect_err("refused").to_string();
    assert!(error.contains("allow the identity ec2:DescribeInstances"), "{error}");
    let pool = stage.eks.nodes().await.expect("it tells").pools[0].clone();
    refused("/update-config");
    let error = stage.eks.stop(&pool).await.expect_err("refused").to_string();
    assert!(error.contains("allow the identity eks:UpdateNodegroupConfig"), "{error}");
}

#[tokio::test]
async fn a_group_is_set_to_zero_as_often_as_it_is_asked_for_and_its_size_is_noted() {
    let stage = stage(&[("blue", [1, 3, 9])]).await;
    let pool = stage.eks.nodes().await.expect("it tells").pools[0].clone();
    let restore = "aws eks update-nodegroup-config --cluster-name prod --nodegroup-name blue --scaling-config \
                   minSize=1,maxSize=9,desiredSize=3 --region us-east-1";
    assert_eq!((pool.nodes, pool.restore.as_str()), (3, restore));
    // The answer is lost, and it is asked for again.
    stage.end.desk.next(|asked| asked.path.ends_with("/update-config"), [Fault::AnswerLost]);
    assert!(stage.eks.stop(&pool).await.is_err());
    for _ in 0..2 {
        stage.eks.stop(&pool).await.expect("it is set");
        assert_eq!(stage.aws.size("prod", "blue"), Some([0, 0, 9]));
    }
    assert!(matches!(stage.verdict().await, Verdict::Gone(_)));
}
