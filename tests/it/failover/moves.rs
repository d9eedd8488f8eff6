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
pub async fn order(stage: &Stage, place: usize, action: MoveAction, name: &str) -> Failover {
    let spec = FailoverSpec { group: GROUP.to_owned(), action, reason: "a drill".to_owned(), ticket: None };
    let api: Api<Failover> = Api::namespaced(stage.admin(place), "banyan-system");
    api.create(&PostParams::default(), &Failover::new(name, spec)).await.expect("the order is taken")
}

pub async fn read(stage: &Stage, place: usize, name: &str) -> Failover {
    let api: Api<Failover> = Api::namespaced(stage.admin(place), "banyan-system");
    api.get(name).await.expect("a Failover")
}

/// Waits until a Failover is as it is to be.
pub async fn comes_to<T>(
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

pub fn phase(failover: &Failover) -> Option<Phase> {
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

/// Types the command that a Failover says comes next.
fn type_next(stage: &Stage, place: usize, next: &str) {
    let words: Vec<&str> = next.split(' ').skip(2).collect();
    let (code, text) = command(stage, place, &words);
    assert_eq!(code, Some(0), "{next}: {text}");
}

pub fn asks(words: &'static str) -> impl Fn(&Failover) -> Option<String> {
    move |failover| failover.status.as_ref()?.next.clone().filter(|next| next.contains(words))
}

pub async fn what_was_closed_is_open_again_once_a_move_is_given_up(stage: &Stage) {
    let before = stage.authority(AWS).await.expect("an Authority").spec;
    let writer = stage.postgres.client(20);
    // Replication stops just when it is ordered: all looks well, the source is closed, and the rest never arrives.
    stage.postgres.doors[AWS].cut();
    stage.postgres.doors[AWS].silence();
    let name = "given-up";
    order(stage, GCP, MoveAction::Switchover, name).await;
    let next = comes_to(stage, GCP, name, "it asks whether to give up", asks("abort")).await;
    let waiting = read(stage, GCP, name).await.status.unwrap_or_default();
    assert_eq!(waiting.step.as_deref(), Some("catch-up"), "{:?}", waiting.message);
    type_next(stage, GCP, &next);
    comes_to(stage, GCP, name, "it is given up", |failover| {
        (phase(failover) == Some(Phase::Aborted)).then_some(())
    })
    .await;
    stage.postgres.doors.iter().for_each(|door| door.heal());
    let acknowledged = writer.tally().acknowledged.len();
    until("the client writes again", async || {
        (writer.tally().acknowledged.len() > acknowledged + 20).then_some(())
    })
    .await;
    writer.stop();
    let kept = writer.kept(&stage.postgres.servers[AWS]).await.expect("what is kept");
    assert_eq!(kept.lost, 0, "{kept:?}");
    let after = stage.authority(AWS).await.expect("an Authority").spec;
    assert_eq!(
        (after.epoch, &after.holders, after.promoted),
        (before.epoch, &before.holders, before.promoted)
    );
    let given_up = stage.authority(GCP).await.expect("an Authority").spec;
    let ballot = waiting.ballot.expect("a ballot");
    assert!(given_up.withdrawn.contains(&ballot), "{ballot}: {given_up:?}");
}

/// There and back, and there again; the operator that moves it is killed in two of them.
pub async fn a_switchover_loses_nothing_and_goes_on_where_its_operator_was_killed(stage: &mut Stage) {
    for (place, from, killed_at) in
        [(GCP, AWS, None), (AWS, GCP, Some(["fence", "catch-up"])), (GCP, AWS, Some(["promote", "open"]))]
    {
        stage.told(place, "a failover could be ordered", is_ready).await;
        let writer = stage.postgres.client(10 + i32::try_from(place).unwrap());
        until("the client writes", async || (writer.tally().acknowledged.len() > 20).then_some(())).await;
        let before = stage.authority(place).await.expect("an Authority").spec.epoch;
        let name = format!("switchover-{before}");
        let began = Instant::now();
        order(stage, place, MoveAction::Switchover, &name).await;
        if let Some(steps) = killed_at {
            kill_at(stage, place, &name, &steps).await;
        }
        let without = comes_to(stage, place, &name, "its stores are open there", opens).await;
        let took = began.elapsed();
        println!(
            "to {}, killed at {killed_at:?}: {took:?} until open, {without} ms closed",
            stage.names[place]
        );
        let own = stage.authority(place).await.expect("an Authority").spec;
        assert!(own.epoch > before && own.holders == [stage.names[place].clone()], "{own:?}");
        assert_eq!((own.follows, own.promoted), (before, Some(own.epoch)), "one epoch came of it");
        let status = read(stage, place, &name).await.status.unwrap_or_default();
        assert!(status.committed_at.is_some(), "there is no way back: {status:?}");
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

/// Kills the operator of a cloud as soon as one of the steps is seen, and starts another one.
async fn kill_at(stage: &mut Stage, place: usize, name: &str, steps: &[&str]) {
    let seen = loop {
        let status = read(stage, place, name).await.status.unwrap_or_default();
        if let Some(step) = status.step.filter(|step| steps.contains(&step.as_str())) {
            break step;
        }
        assert_eq!(status.took, None, "none of {steps:?} was seen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    stage.two.operators[place].signal(Signal::Kill).unwrap();
    println!("killed at {seen}");
    stage.start_again(place).await;
}

pub async fn a_cloud_that_is_lost_is_taken_over(stage: &mut Stage) {
    let (lost, place) = (GCP, AWS);
    stage.told(place, "a failover could be ordered", is_ready).await;
    stage.two.operators[lost].signal(Signal::Stop).unwrap();
    stage.two.pair.clouds()[lost].signal(Part::ApiServer, Signal::Stop).unwrap();
    stage.postgres.servers[lost].kill().await.expect("it is killed");
    let name = "the-other-is-gone";
    order(stage, place, MoveAction::Failover, name).await;
    // It does what can be done, and says what a person has to know.
    let next =
        comes_to(stage, place, name, "it asks whether the source is fenced", asks("assert-fenced")).await;
    type_next(stage, place, &next);
    let next = comes_to(stage, place, name, "it is open, or asks what may be lost", |failover| {
        opens(failover).map(|_| None).or_else(|| asks("accept-data-loss")(failover).map(Some))
    })
    .await;
    if let Some(next) = next {
        type_next(stage, place, &next);
    }
    comes_to(stage, place, name, "its stores are open", opens).await;
    let own = stage.authority(place).await.expect("an Authority").spec;
    assert_eq!(
        (own.holders.as_slice(), own.promoted),
        ([stage.names[place].clone()].as_slice(), Some(own.epoch))
    );
    let failover = read(stage, place, name).await;
    let status = failover.status.clone().unwrap_or_default();
    let steps: Vec<_> = status.steps.iter().map(|step| (step.name.as_str(), step.millis)).collect();
    println!("{}: {:?}; {steps:?}", failover.name_any(), status.took);

    // The lost cloud returns: its database is a primary still, and is closed before it does harm.
    stage.postgres.servers[lost].start().await.expect("it starts");
    stage.two.pair.clouds()[lost].signal(Part::ApiServer, Signal::Cont).unwrap();
    stage.two.operators[lost].signal(Signal::Kill).unwrap();
    stage.start_again(lost).await;
    until("the returned site knows that it has lost authority", async || {
        let there = stage.authority(lost).await?.spec;
        (there.epoch == own.epoch && there.holders == own.holders).then_some(())
    })
    .await;
    comes_to(stage, place, name, "the returned site follows", |failover| {
        (phase(failover) == Some(Phase::Done)).then_some(())
    })
    .await;
}
