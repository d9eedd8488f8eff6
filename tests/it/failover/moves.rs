//! A group moves from one cloud to the other and back, under a client that writes; then a cloud is lost.

use std::time::{Duration, Instant};

use banyan::api::failover::{MoveAction, Phase};
use banyan::api::{Failover, FailoverSpec};
use banyan::sandbox::Part;
use banyan::sandbox::process::Signal;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

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
    let writer = stage.postgres.client();
    // Replication stops just when it is ordered: all looks well, the source is closed, and the rest never arrives. Its connection
    // stays: whoever looks before the order has passed its checks would find that nothing is received.
    stage.postgres.doors[AWS].silence();
    let name = "given-up";
    order(stage, GCP, MoveAction::Switchover, name).await;
    let caught = |failover: &Failover| {
        let status = failover.status.as_ref()?;
        (status.step.as_deref() == Some("catch-up")).then(|| asks("abort")(failover)).flatten()
    };
    let next = comes_to(stage, GCP, name, "it asks whether to give up", caught).await;
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
        let writer = stage.postgres.client();
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
    // Whether what is behind may be lost; and once more whether it is fenced, if the witness did not answer just then: without
    // it, another claim is needed, and a person speaks for one claim.
    loop {
        let ballot = read(stage, place, name).await.status.and_then(|status| status.ballot);
        let next = comes_to(stage, place, name, "it is open, or asks something", |failover| {
            let status = failover.status.as_ref()?;
            let again = || asks("assert-fenced")(failover).filter(|_| status.assertion.is_none());
            opens(failover)
                .map(|_| None)
                .or_else(|| asks("accept-data-loss")(failover).or_else(again).map(Some))
        })
        .await;
        let Some(next) = next else { break };
        type_next(stage, place, &next);
        let heard = |failover: &Failover| {
            let status = failover.status.as_ref()?;
            let heard =
                status.ballot != ballot || status.next.as_ref() != Some(&next) || status.took.is_some();
            heard.then_some(())
        };
        comes_to(stage, place, name, "it goes on", heard).await;
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

/// As on-call asks, after the last move: who may write, as both sites see it, and whether there is a way back.
pub async fn what_stands_is_explained(stage: &Stage) {
    let (code, text) = command(stage, AWS, &["failover", "explain", GROUP, "--output", "json"]);
    assert_eq!(code, Some(0), "{text}");
    let said: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&said[0]["site"], &said[0]["state"]), (&json!(stage.names[AWS]), &json!("Held")), "{said}");
    let stands: Vec<_> =
        said[0]["stores"].as_array().expect("stores").iter().map(|one| &one["stands"]).collect();
    assert_eq!(stands, ["primary, open", "standby"], "{said}");
    let other = stage.two.pair.dir().join(format!("kubeconfig-oncall-{AWS}"));
    let args = ["failover", "explain", GROUP, "--peer-kubeconfig", other.to_str().unwrap()];
    let (code, text) = command(stage, GCP, &args);
    assert_eq!(code, Some(0), "{text}");
    println!("{text}");
    for (place, state) in [(GCP, "Standby"), (AWS, "Held")] {
        assert!(text.contains(&format!("as {} sees it\n  here     {state}: ", stage.names[place])), "{text}");
    }
    let (code, text) = command(stage, AWS, &["failover", "failback", GROUP, "--reason", "a drill"]);
    assert!(code == Some(2) && text.contains("nothing to give back"), "{text}");
}

/// After all moves: each site has the whole of what was ordered there on record, and nobody changes it.
pub async fn what_was_done_is_on_record(stage: &Stage) {
    // Of each, what moved nothing is on record too: a plan, rehearsals, and what nobody else agreed to.
    for (place, moves) in [(GCP, 3 + 3), (AWS, 2 + 1)] {
        let failovers: Api<Failover> = Api::namespaced(stage.admin(place), "banyan-system");
        let all = failovers.list(&Default::default()).await.expect("a list").items;
        assert_eq!(all.len(), moves);
        for failover in &all {
            comes_to(stage, place, &failover.name_any(), "it is on record", |failover| {
                let record = failover.status.as_ref()?.record.as_ref()?;
                (record.pending.is_empty() && record.head.is_some()).then_some(())
            })
            .await;
        }
        let all = failovers.list(&Default::default()).await.expect("a list").items;
        let (code, text) = command(stage, place, &["audit", "export", GROUP]);
        assert_eq!(code, Some(0), "{text}");
        let file = stage.two.pair.dir().join(format!("record-{place}.json"));
        std::fs::write(&file, &text).unwrap();
        let file = file.to_str().unwrap();
        let (code, said) = command(stage, place, &["audit", "verify", file, "--output", "json"]);
        assert_eq!(code, Some(0), "{said}");
        let said: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(said["has"]["moves"], moves, "{said}");
        println!("{}: {}", stage.names[place], said["has"]);
        let record: Value = serde_json::from_str(&text).expect("JSON");
        let entries = record["entries"].as_array().expect("entries").clone();
        let of = |failover: &str, event: &str| -> Vec<Value> {
            let is = |entry: &&Value| entry["failover"] == failover && entry["event"] == event;
            entries.iter().filter(is).cloned().collect()
        };
        // Each order is named with who gave it, and has its end.
        for failover in &all {
            let (name, status) = (failover.name_any(), failover.status.clone().unwrap_or_default());
            let ordered = of(&name, "Ordered");
            assert_eq!(ordered.len(), 1, "{name}: {ordered:?}");
            assert_eq!(ordered[0]["by"].as_str(), status.by.as_deref(), "{name}");
            assert!(status.by.is_some_and(|by| !by.is_empty()), "{name}: nobody knows who ordered it");
            let over = of(&name, "Over");
            let phase = status.phase.expect("a phase");
            assert_eq!((over.len(), over[0]["phase"].as_str()), (1, Some(phase.as_str())), "{name}");
            let kept = status.record.unwrap_or_default();
            assert_eq!((kept.pending.len(), kept.missed, kept.error), (0, None, None), "{name}");
            let head = kept.head.expect("a head");
            let (code, said) = command(stage, place, &["audit", "verify", file, "--head", &head]);
            assert_eq!(code, Some(0), "{name}: {said}");
            let opened = of(&name, "Opened");
            let moved = phase == Phase::Done && failover.spec.action.moves();
            assert_eq!(opened.len(), usize::from(moved), "{name}");
            println!("{name}: {}", opened.first().unwrap_or(&Value::Null));
        }
        if place == AWS {
            let opened = &of("the-other-is-gone", "Opened")[0];
            let (outage, order) = (&opened["sinceOutageMillis"], &opened["sinceOrderMillis"]);
            assert!(order.as_i64() > Some(0), "{opened}");
            // Absent where nothing of the source was known just then.
            assert!(outage.is_null() || outage.as_i64() >= order.as_i64(), "{opened}");
            let heard = of("the-other-is-gone", "Heard");
            let asserted = heard.iter().find(|said| said["verb"] == "assert-fenced").expect("it was said");
            assert!(asserted["carriedOut"] == true && asserted["by"].is_string(), "{asserted}");
        } else {
            assert_eq!(of("given-up", "Lifted").len(), 1);
        }
        // A word is changed: it is found, and where.
        let changed = stage.two.pair.dir().join("changed.json");
        std::fs::write(&changed, text.replacen("a drill", "no drill", 1)).unwrap();
        let (code, said) = command(stage, place, &["audit", "verify", changed.to_str().unwrap()]);
        assert!(code == Some(3) && said.contains("broken at entry 1:"), "{said}");
        nobody_changes_the_record(stage, place).await;
    }
}

async fn nobody_changes_the_record(stage: &Stage, place: usize) {
    let name = format!("banyan-record-{GROUP}-0001");
    let shorter = json!({"data": {"entries": ""}});
    let refused = async |client, patch: &Value| {
        let maps: Api<ConfigMap> = Api::namespaced(client, "banyan-system");
        let patched = maps.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.expect_err("it is refused").to_string()
    };
    let admin = refused(stage.admin(place), &shorter).await;
    assert!(admin.contains("the operator alone writes the record"), "{admin}");
    let operator = stage.two.pair.clouds()[place].client_operator().expect("a client");
    let own = refused(operator, &shorter).await;
    assert!(own.contains("only grows"), "{own}");
    let unlabelled = json!({"metadata": {"labels": {"banyan.dev/record": null}}});
    assert!(refused(stage.admin(place), &unlabelled).await.contains("the operator alone"));
    let maps: Api<ConfigMap> = Api::namespaced(stage.admin(place), "banyan-system");
    let deleted = maps.delete(&name, &DeleteParams::default()).await.expect_err("it is kept").to_string();
    assert!(deleted.contains("is kept"), "{deleted}");
}
