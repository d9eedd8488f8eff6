//! A group moves from one cloud to the other and back, under a client that writes; then a cloud is lost.

use std::time::{Duration, Instant};

use banyan::api::failover::{MoveAction, Phase};
use banyan::api::{Failover, FailoverSpec};
use banyan::sandbox::Part;
use banyan::sandbox::process::Signal;
use kube::ResourceExt;
use kube::api::{Api, PostParams};

use super::stage::{AWS, GCP, GROUP, Stage, command, is_ready, state};
use crate::peers::until;

/// Orders that the cloud at that place takes the group over.
async fn order(stage: &Stage, place: usize, action: MoveAction, name: &str) -> Failover {
    let spec = FailoverSpec { group: GROUP.to_owned(), action, reason: "a drill".to_owned(), ticket: None };
    let api: Api<Failover> = Api::namespaced(stage.admin(place), "banyan-system");
    api.create(&PostParams::default(), &Failover::new(name, spec)).await.expect("the order is taken")
}

async fn read(stage: &Stage, place: usize, name: &str) -> Failover {
    let api: Api<Failover> = Api::namespaced(stage.admin(place), "banyan-system");
    api.get(name).await.expect("a Failover")
}

/// Waits until a Failover is as it is to be.
async fn comes_to<T>(
    stage: &Stage,
    place: usize,
    name: &str,
    what: &str,
    found: impl Fn(&Failover) -> Option<T>,
) -> T {
    let last = std::cell::RefCell::new(None);
    let waited = until(what, async || {
        let failover = read(stage, place, name).await;
        let is = found(&failover);
        *last.borrow_mut() = failover.status;
        is
    });
    let waited = tokio::time::timeout(Duration::from_secs(120), waited).await;
    waited.unwrap_or_else(|_| panic!("{what}: {:#?}", last.borrow()))
}

fn phase(failover: &Failover) -> Option<Phase> {
    failover.status.as_ref()?.phase
}

fn opens(failover: &Failover) -> Option<i64> {
    let status = failover.status.as_ref()?;
    assert!(
        !matches!(status.phase, Some(Phase::Refused | Phase::Aborted | Phase::Superseded)),
        "{status:#?}"
    );
    status.took.as_ref()?.without_writes
}

pub async fn a_switchover_there_and_back_loses_nothing(stage: &Stage) {
    for (place, from) in [(GCP, AWS), (AWS, GCP)] {
        stage.told(place, "a failover could be ordered", is_ready).await;
        let writer = stage.postgres.client(10 + i32::try_from(place).unwrap());
        until("the client writes", async || (writer.tally().acknowledged.len() > 20).then_some(())).await;
        let before = stage.authority(place).await.expect("an Authority").spec.epoch;
        let name = format!("switchover-to-{}", stage.names[place]);
        let began = Instant::now();
        order(stage, place, MoveAction::Switchover, &name).await;
        let without = comes_to(stage, place, &name, "its stores are open there", opens).await;
        println!(
            "a switchover to {}: {:?} until open, {without} ms closed",
            stage.names[place],
            began.elapsed()
        );
        let own = stage.authority(place).await.expect("an Authority").spec;
        assert!(own.epoch > before && own.holders == [stage.names[place].clone()], "{own:?}");
        assert_eq!(own.promoted, Some(own.epoch));
        until("the other site knows it", async || {
            let there = stage.authority(from).await?.spec;
            (there.epoch == own.epoch && there.holders == own.holders).then_some(())
        })
        .await;
        stage
            .told(from, "the other site stands by", |group| (state(group) == Some("Standby")).then_some(()))
            .await;
        let acknowledged = writer.tally().acknowledged.len();
        until("the client writes again", async || {
            (writer.tally().acknowledged.len() > acknowledged + 20).then_some(())
        })
        .await;
        writer.stop();
        let tally = writer.tally();
        println!("{} writes acknowledged, {} unanswered", tally.acknowledged.len(), tally.unanswered);
        let kept = writer.kept(&stage.postgres.servers[place]).await.expect("what is kept");
        assert_eq!(kept.lost, 0, "{kept:?}");
        // The old primary is rewound by its agent, and follows.
        comes_to(stage, place, &name, "it is done", |failover| {
            (phase(failover) == Some(Phase::Done)).then_some(())
        })
        .await;
    }
}

pub async fn a_cloud_that_is_lost_is_taken_over(stage: &mut Stage) {
    stage.told(GCP, "a failover could be ordered", is_ready).await;
    stage.two.operators[AWS].signal(Signal::Stop).unwrap();
    stage.two.pair.aws.signal(Part::ApiServer, Signal::Stop).unwrap();
    stage.postgres.servers[AWS].kill().await.expect("it is killed");
    let name = "aws-is-gone";
    order(stage, GCP, MoveAction::Failover, name).await;
    let asks = |words: &'static str| {
        move |failover: &Failover| failover.status.as_ref()?.next.clone().filter(|next| next.contains(words))
    };
    // It does what can be done, and says what a person has to know.
    let next =
        comes_to(stage, GCP, name, "it asks whether the source is fenced", asks("assert-fenced")).await;
    let (code, text) = command(stage, GCP, &next.split(' ').skip(2).collect::<Vec<_>>());
    assert_eq!(code, Some(0), "{text}");
    let next = comes_to(stage, GCP, name, "it is open, or asks what may be lost", |failover| {
        opens(failover).map(|_| None).or_else(|| asks("accept-data-loss")(failover).map(Some))
    })
    .await;
    if let Some(next) = next {
        let (code, text) = command(stage, GCP, &next.split(' ').skip(2).collect::<Vec<_>>());
        assert_eq!(code, Some(0), "{text}");
    }
    comes_to(stage, GCP, name, "its stores are open", opens).await;
    let own = stage.authority(GCP).await.expect("an Authority").spec;
    assert_eq!(
        (own.holders.as_slice(), own.promoted),
        ([stage.names[GCP].clone()].as_slice(), Some(own.epoch))
    );
    let failover = read(stage, GCP, name).await;
    let status = failover.status.clone().unwrap_or_default();
    let steps: Vec<_> = status.steps.iter().map(|step| (step.name.as_str(), step.millis)).collect();
    println!("{}: {:?}; {steps:?}", failover.name_any(), status.took);

    // The lost cloud returns: its database is a primary still, and is closed before it does harm.
    stage.postgres.servers[AWS].start().await.expect("it starts");
    stage.two.pair.aws.signal(Part::ApiServer, Signal::Cont).unwrap();
    stage.two.operators[AWS].signal(Signal::Kill).unwrap();
    stage.start_again(AWS).await;
    until("the returned site knows that it has lost authority", async || {
        let there = stage.authority(AWS).await?.spec;
        (there.epoch == own.epoch && there.holders == own.holders).then_some(())
    })
    .await;
    comes_to(stage, GCP, name, "the returned site follows", |failover| {
        (phase(failover) == Some(Phase::Done)).then_some(())
    })
    .await;
}
