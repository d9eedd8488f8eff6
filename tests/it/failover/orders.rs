//! Orders that move nothing: a plan, a rehearsal, and one that nobody else agrees to.

use std::time::Duration;

use banyan::api::action::{ActionSpec, Target, TargetKind, Verb};
use banyan::api::failover::{MoveAction, Phase};
use banyan::api::{Action, Failover, FailoverGroup, FailoverStatus};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::moves::{asks, comes_to, order, phase, read};
use super::stage::{AWS, GCP, GROUP, HOST, Stage, command, is_ready};

fn is_over(failover: &Failover) -> Option<FailoverStatus> {
    let status = failover.status.clone()?;
    status.phase?.is_over().then_some(status)
}

pub async fn a_plan_and_a_rehearsal_take_nothing_from_anybody(stage: &Stage) {
    stage.told(GCP, "a failover could be ordered", is_ready).await;
    order(stage, GCP, MoveAction::Plan, "planned").await;
    let planned = comes_to(stage, GCP, "planned", "it is planned", is_over).await;
    assert_eq!(planned.phase, Some(Phase::Done), "{planned:?}");
    assert_eq!(planned.plan.expect("a plan").steps.len(), 10);

    let before = [stage.pods(AWS).await, stage.pods(GCP).await];
    let authority = stage.authority(GCP).await.expect("an Authority").spec;
    // Users send requests all the while.
    let (edge, http) = (stage.cloudflare.edge.url(), reqwest::Client::new());
    let users = tokio::spawn(async move {
        let mut bad = Vec::new();
        for sent in 0.. {
            let answer = http.get(format!("{edge}/authority/payments")).header("host", HOST).send().await;
            let status = answer.map(|answer| answer.status().as_u16()).unwrap_or_default();
            if status == 0 || status >= 500 {
                bad.push((sent, status));
            }
            if STOP.load(std::sync::atomic::Ordering::Relaxed) {
                return (sent, bad);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (0, bad)
    });
    let name = "rehearsed";
    order(stage, GCP, MoveAction::Rehearsal, name).await;
    let mut most = 0;
    let status = loop {
        let pods = stage.pods(GCP).await;
        assert!(!pods.contains_key("consumer"), "no consumer is started: {pods:?}");
        most = most.max(pods.get("ledger").map_or(0, Vec::len));
        if let Some(status) = is_over(&read(stage, GCP, name).await) {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    STOP.store(true, std::sync::atomic::Ordering::Relaxed);
    let (sent, bad) = users.await.expect("users");
    println!("rehearsed under {sent} requests, {bad:?} of them failed: {:?}", status.steps);
    assert_eq!((status.phase, status.grown), (Some(Phase::Done), Some(false)), "{status:?}");
    assert!(bad.is_empty() && sent > 10, "{sent} sent, {bad:?} failed");
    assert_eq!(most, 2, "it had full size");
    assert!(status.stores[0].replayed_millis.is_some(), "{:?}", status.stores);
    let after = [stage.pods(AWS).await, stage.pods(GCP).await];
    assert_eq!(after[AWS], before[AWS], "no pod of the active site is touched");
    assert_eq!(after[GCP].get("ledger").map(Vec::len), before[GCP].get("ledger").map(Vec::len));
    assert_eq!(stage.authority(GCP).await.expect("an Authority").spec, authority, "nothing is claimed");
    stage
        .told(GCP, "what was measured stands in the plan", |group| {
            let plan = group.status.as_ref()?.plan.as_ref()?;
            (plan.measured_by.as_deref() == Some(name) && plan.total_millis.is_some()).then_some(())
        })
        .await;
    let (code, text) = command(stage, GCP, &["failover", "plan", GROUP]);
    assert!(code == Some(0) && text.contains("as measured by Failover rehearsed"), "{text}");
    // At the site that has authority there is nothing to rehearse.
    order(stage, AWS, MoveAction::Rehearsal, "at-the-wrong-site").await;
    let refused = comes_to(stage, AWS, "at-the-wrong-site", "it is refused", is_over).await;
    assert_eq!(refused.phase, Some(Phase::Refused), "{refused:?}");
}

static STOP: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// The administrator's client in the name of somebody.
fn as_user(stage: &Stage, place: usize, user: &str) -> Client {
    let kubeconfig: kube::config::Kubeconfig =
        serde_norway::from_str(&stage.two.pair.clouds()[place].kubeconfig().expect("a kubeconfig"))
            .expect("YAML");
    let options = kube::config::KubeConfigOptions::default();
    let config = futures::executor::block_on(kube::Config::from_custom_kubeconfig(kubeconfig, &options));
    let mut config = config.expect("a configuration");
    config.auth_info.impersonate = Some(user.to_owned());
    config.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
    Client::try_from(config).expect("a client")
}

async fn group_asks(stage: &Stage, approval: Value) {
    for place in [AWS, GCP] {
        let groups: Api<FailoverGroup> = Api::namespaced(stage.admin(place), "banyan-system");
        let patch = Patch::Merge(json!({"spec": {"approval": approval}}));
        groups.patch(GROUP, &PatchParams::default(), &patch).await.expect("the group is taken");
    }
    let has = !approval.is_null();
    stage
        .told(GCP, "both ask for the same", |group| {
            is_ready(group).filter(|()| group.spec.approval.is_some() == has)
        })
        .await;
}

pub async fn who_ordered_a_move_cannot_agree_to_it(stage: &Stage) {
    group_asks(stage, json!({"people": 2})).await;
    let name = "needs-two";
    order(stage, GCP, MoveAction::Switchover, name).await;
    comes_to(stage, GCP, name, "it waits for approvals", asks("approve")).await;
    let (code, text) = command(stage, GCP, &["failover", "approve", name]);
    assert!(code == Some(1) && text.contains("another person must agree"), "{text}");
    let failover = read(stage, GCP, name).await;
    let target = Target { kind: TargetKind::Failover, name: name.to_owned(), uid: failover.uid() };
    let approve: Api<Action> = Api::namespaced(as_user(stage, GCP, "kim"), "banyan-system");
    let spec = ActionSpec {
        target,
        release: None,
        verb: Verb::Approve,
        gate: None,
        step: None,
        store: None,
        evidence: None,
        position: None,
        words: None,
    };
    approve.create(&PostParams::default(), &Action::new("kim-agrees", spec)).await.expect("it is taken");
    let approvals = comes_to(stage, GCP, name, "one person has agreed", |failover| {
        let status = failover.status.as_ref()?;
        (!status.approvals.is_empty()).then(|| status.approvals.clone())
    })
    .await;
    assert_eq!(approvals[0].by, "kim");
    let words = comes_to(stage, GCP, name, "it waits for the other", |failover| {
        failover.status.as_ref()?.message.clone().filter(|words| words.contains("one person"))
    })
    .await;
    assert!(words.contains("other than who ordered it"), "{words}");
    let here = stage.authority(AWS).await.expect("an Authority").spec;
    assert!(here.claims.iter().all(|claim| claim.fence != Some(true)), "nothing is closed: {here:?}");
    let (code, text) = command(stage, GCP, &["failover", "abort", name]);
    assert_eq!(code, Some(0), "{text}");
    comes_to(stage, GCP, name, "it is given up", |failover| {
        (phase(failover) == Some(Phase::Aborted)).then_some(())
    })
    .await;
    group_asks(stage, Value::Null).await;
}
