//! The nodes of a cluster of GKE over real sockets, well and badly told: what is not certain is never taken for gone.

use super::*;
use crate::api::cloudcluster::GkeAccess;
use crate::clouds::google::Google;
use crate::clouds::nodes::Verdict;
use crate::clouds::{Addresses, fault_tests::assert_is};
use crate::sandbox::ends::gke::{Beside, GkeCluster, Google as End};
use crate::sandbox::ends::server::{Asked, Fault, Served};

struct Stage {
    google: End,
    end: Served,
    gke: Gke,
}

async fn stage(pools: &[(&str, u32)]) -> Stage {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let google = End::default();
    google.put(GkeCluster {
        project: "finflow".to_owned(),
        location: "us-central1".to_owned(),
        name: "prod".to_owned(),
        endpoint: "10.0.0.2".to_owned(),
        ca: String::new(),
        version: "1.36.1-gke.1".to_owned(),
        pools: pools.iter().map(|(name, nodes)| ((*name).to_owned(), *nodes)).collect(),
    });
    let end = google.serve().await.expect("a server");
    let account = google.account("banyan", &end.url()).expect("an account");
    let access = GkeAccess {
        project: "finflow".to_owned(),
        location: "us-central1".to_owned(),
        name: "prod".to_owned(),
        credentials: None,
    };
    let url = Some(end.url());
    let addresses = Addresses { gke: url.clone(), compute: url, ..Addresses::default() };
    let source = Google::of_json(account.to_string().as_bytes()).expect("credentials");
    Stage { gke: Gke::new(&access, source, &addresses), google, end }
}

impl Stage {
    async fn verdict(&self) -> Verdict {
        self.gke.nodes().await.expect("it tells").verdict()
    }

    fn beside(&self, beside: Beside) {
        self.google.beside("finflow", "us-central1", "prod", beside);
    }
}

const CLUSTER: &str = "/v1/projects/finflow/locations/us-central1/clusters/prod";

fn cluster(asked: &Asked) -> bool {
    asked.path.starts_with(CLUSTER)
}

fn machines(asked: &Asked) -> bool {
    asked.path.starts_with("/compute/v1/projects/finflow/zones/us-central1-a/instanceGroupManagers/gke-")
}

#[tokio::test]
async fn a_cluster_whose_pools_are_at_zero_and_have_no_machine_is_gone() {
    let stage = stage(&[("general", 0), ("large", 0)]).await;
    let Verdict::Gone(words) = stage.verdict().await else { panic!("{:?}", stage.verdict().await) };
    let begins =
        "the node pools of GKE cluster projects/finflow/locations/us-central1/clusters/prod are at zero";
    assert!(words.starts_with(begins), "{words}");
}

#[tokio::test]
async fn what_is_left_comes_back_or_is_not_known_is_no_zero() {
    let up = stage(&[("general", 0), ("large", 2)]).await;
    assert!(matches!(up.verdict().await, Verdict::Up(words) if words.contains("large has 2")));
    assert!(matches!(stage(&[]).await.verdict().await, Verdict::Never(_)));
    let stage = stage(&[("general", 0)]).await;
    let general = |value: u32| [("general".to_owned(), value)].into();
    stage.beside(Beside { deleting: general(1), ..Beside::default() });
    assert!(matches!(stage.verdict().await, Verdict::Going(words) if words.contains("1 machine")));
    stage.beside(Beside { scales: [("general".to_owned(), [0, 5])].into(), ..Beside::default() });
    assert!(matches!(stage.verdict().await, Verdict::Up(words) if words.contains("scales by itself")));
    for status in ["RECONCILING", "PROVISIONING", "ERROR", "STOPPING"] {
        stage.beside(Beside { status: Some(status), ..Beside::default() });
        assert!(matches!(stage.verdict().await, Verdict::Going(_)), "{status}");
    }
    for (beside, words) in [
        (Beside { autopilot: true, ..Beside::default() }, "Autopilot"),
        (Beside { provisions: true, ..Beside::default() }, "auto-provisioning"),
    ] {
        stage.beside(beside);
        let verdict = stage.verdict().await;
        assert!(matches!(&verdict, Verdict::Never(other) if other.message.contains(words)), "{verdict:?}");
    }
    stage.beside(Beside { unnamed: true, ..Beside::default() });
    assert!(stage.gke.nodes().await.is_err(), "it names no instance group");
    for field in ["targetSize", "currentActions"] {
        stage.beside(Beside { untold: vec![field], ..Beside::default() });
        assert!(stage.gke.nodes().await.is_err(), "{field} is not told");
    }
}

#[tokio::test]
async fn whatever_answer_is_missing_bad_or_broken_nothing_is_known() {
    let stage = stage(&[("general", 0)]).await;
    for matches in [cluster as fn(&Asked) -> bool, machines] {
        for fault in Fault::all() {
            stage.end.desk.next(matches, [fault.clone()]);
            assert_is(&fault, stage.gke.nodes().await.expect_err("a fault"));
        }
        stage.end.desk.next(matches, [Fault::status(200)]);
        assert!(stage.gke.nodes().await.is_err(), "it answers well, and not what was asked for");
    }
    assert!(matches!(stage.verdict().await, Verdict::Gone(_)), "it is well again");
}

#[tokio::test]
async fn a_pool_stops_scaling_by_itself_and_is_set_to_zero_and_its_size_is_noted() {
    let stage = stage(&[("general", 3)]).await;
    stage.beside(Beside { scales: [("general".to_owned(), [1, 5])].into(), ..Beside::default() });
    let first = stage.gke.nodes().await.expect("it tells").pools[0].clone();
    let at = "--location us-central1 --project finflow";
    let restore = format!(
        "gcloud container clusters resize prod --node-pool general --num-nodes 3 {at} --quiet && gcloud container clusters \
         update prod --node-pool general --enable-autoscaling --min-nodes 1 --max-nodes 5 {at}"
    );
    assert_eq!((first.scales, first.restore.as_str()), (true, restore.as_str()));
    stage.gke.stop(&first).await.expect("it does not scale by itself any more");
    let next = stage.gke.nodes().await.expect("it tells").pools[0].clone();
    assert_eq!((next.scales, next.nodes), (false, 3));
    stage.end.desk.next(|asked| asked.path.contains(":setSize"), [Fault::AnswerLost]);
    assert!(stage.gke.stop(&next).await.is_err());
    for _ in 0..2 {
        stage.gke.stop(&next).await.expect("it is set");
        assert_eq!(stage.google.size("finflow", "us-central1", "prod", "general"), Some(0));
    }
    assert!(matches!(stage.verdict().await, Verdict::Gone(_)));
}

#[tokio::test]
async fn rights_that_are_missing_are_named() {
    let stage = stage(&[("general", 3)]).await;
    let pool = stage.gke.nodes().await.expect("it tells").pools[0].clone();
    stage.end.desk.next(cluster, [Fault::status(403)]);
    let error = stage.gke.nodes().await.expect_err("refused").to_string();
    assert!(error.contains("container.clusters.get"), "{error}");
    stage.end.desk.next(machines, [Fault::status(403)]);
    let error = stage.gke.nodes().await.expect_err("refused").to_string();
    assert!(error.contains("compute.instanceGroupManagers.get"), "{error}");
    stage.end.desk.next(cluster, [Fault::status(403)]);
    let error = stage.gke.stop(&pool).await.expect_err("refused").to_string();
    assert!(error.contains("container.clusters.update"), "{error}");
}

#[test]
fn a_token_is_sent_to_no_address_but_that_of_an_instance_group() {
    let good = "https://www.googleapis.com/compute/v1/projects/finflow/zones/us-central1-a/instanceGroupManagers/gke-1";
    let there = "/compute/v1/projects/finflow/zones/us-central1-a/instanceGroupManagers/gke-1";
    assert_eq!(path(good).as_deref(), Some(there));
    for bad in [
        "https://evil.example/x",
        "https://x/projects/a/zones/b/instanceGroupManagers/",
        "https://x/projects/a/zones/../instanceGroupManagers/c",
        "https://x/projects/a/zones/b/instanceGroupManagers/c?d",
        "https://x/projects/a/global/b/instanceGroupManagers/c",
    ] {
        assert_eq!(path(bad), None, "{bad}");
    }
}
