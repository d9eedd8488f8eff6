//! Somebody is silent: an API server, the network between the clouds, the witness, a paused process.

use std::time::{Duration, Instant};

use banyan::api::failover::{FenceLevel, MoveAction, Phase};
use banyan::api::{Authority, FailoverStatus};
use banyan::sandbox::Part;
use banyan::sandbox::audit::Request;
use banyan::sandbox::ends::server::Fault;
use banyan::sandbox::process::Signal;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding as Binding;
use kube::api::{Api, DeleteParams, PostParams};
use tokio_postgres::NoTls;

use super::field::{Field, Group, asks, lost, timeline, undisturbed, writes};
use super::gate::{commits, signal};
use super::number;
use super::releases;
use super::users::Users;
use crate::peers::until;

/// For how long somebody who is cut off is watched.
const WATCHED: Duration = Duration::from_secs(5);
/// For how long a primary is paused: one and a half times what a source may take to be closed, the longest deadline of a
/// move.
const PAUSED: Duration = Duration::from_secs(23);

/// For how long: `BANYAN_PAUSE_SECONDS` instead, where that is set.
fn paused_for() -> Duration {
    number("BANYAN_PAUSE_SECONDS").map_or(PAUSED, Duration::from_secs)
}

fn opens(status: &FailoverStatus) -> Option<i64> {
    assert!(
        !matches!(status.phase, Some(Phase::Refused | Phase::Aborted | Phase::Superseded)),
        "{status:#?}"
    );
    status.took.as_ref()?.without_writes
}

/// The source's API server is down, and all else there lives.
pub async fn the_api_server_of_the_source_is_down(field: &Field, name: &str) {
    let group = field.group(name);
    let (holder, epoch) = field.agreed(group).await;
    let place = 1 - holder;
    field.could_move(group, place).await;
    let released = releases::behind_the_other_cloud(field, place).await;
    let writer = group.postgres.client();
    writes(&writer, 20).await;
    let users = Users::of(field, group);
    field.two.pair.clouds()[holder].signal(Part::ApiServer, Signal::Stop).unwrap();
    let order = "no-api-server";
    field.order(group, place, MoveAction::Failover, order).await;
    let next = field.comes_to(place, order, "it asks", asks("assert-fenced")).await;
    let status = field.read(place, order).await.unwrap_or_default();
    let level = status.stores[0].level;
    assert_eq!(level, Some(FenceLevel::StoreAcknowledged), "closed over its own wire: {status:#?}");
    assert_eq!(field.authority_spec(group, place).await.epoch, epoch, "nothing is committed");
    field.types_next(place, &next).await;
    field.comes_to(place, order, "it is open", opens).await;
    let open = Instant::now();
    let status = field.read(place, order).await.unwrap_or_default();
    writes(&writer, 20).await;
    let there = field.names[place].clone();
    // The site that lost it answers for itself: it asks the other one, which needs no API server.
    until("traffic is there alone", async || {
        let recent = users.answered(Instant::now().checked_sub(Duration::from_secs(2))?);
        (recent.len() == 1 && recent.contains_key(&there)).then_some(())
    })
    .await;
    let answered = users.answered(open);
    // It has not been heard that it knows: the provider takes it out too, and takes it back once it does.
    let takes_part = |wanted: bool| async move {
        until("the old site takes part as wanted", async || {
            let name = format!("banyan-{}-{}", group.kind.name, field.names[holder]);
            let [_, pools, _] = field.cloudflare.kept();
            let pool = pools.into_iter().find(|pool| pool["name"] == *name)?;
            (pool["enabled"] == wanted).then_some(())
        })
        .await;
    };
    takes_part(false).await;
    releases::go_on(field, place, &released).await;
    field.two.pair.clouds()[holder].signal(Part::ApiServer, Signal::Cont).unwrap();
    field.keeper.kill(holder).await;
    field.start_again(holder).await;
    field.done(place, order).await;
    takes_part(true).await;
    assert_eq!(field.agreed(group).await.0, place);
    let count = writer.tally().acknowledged.len();
    assert_eq!(lost(group, place, &writer).await, 0);
    println!(
        "API server of the source down: 0 of {count} lost, {:?}; since it was open, answered by {answered:?}",
        status.took
    );
}

/// The network between the clouds is cut: the holder serves on, and a Failover holds until the source can be closed.
pub async fn a_partition(field: &Field, group: &Group) {
    let (holder, epoch) = field.agreed(group).await;
    let place = 1 - holder;
    field.could_move(group, place).await;
    let writer = group.postgres.client();
    writes(&writer, 20).await;
    let before = writer.tally();
    let all = || field.doors.iter().chain(&group.postgres.doors);
    all().for_each(|door| door.silence());
    let order = "partition";
    field.order(group, place, MoveAction::Failover, order).await;
    field.comes_to(place, order, "it asks", asks("assert-fenced")).await;
    let watched = Instant::now();
    while watched.elapsed() < WATCHED {
        let status = field.read(place, order).await.unwrap_or_default();
        assert!(status.committed_at.is_none() && status.stores.iter().all(|store| store.promoted.is_none()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let held = field.authority_spec(group, holder).await;
    assert_eq!((held.epoch, held.promoted), (epoch, Some(epoch)));
    undisturbed(&writer, &before);
    all().for_each(|door| door.heal());
    let healed = Instant::now();
    let status = field.done(place, order).await;
    let took = healed.elapsed();
    assert_eq!(field.agreed(group).await, (place, status.ballot.unwrap_or_default()));
    assert!(
        status.assertion.is_none() && status.accepted_loss.is_none(),
        "nobody said anything: {status:#?}"
    );
    writes(&writer, 20).await;
    let tally = writer.tally();
    assert_eq!(lost(group, place, &writer).await, 0);
    println!(
        "partition: held, and went on by itself once healed, {took:.1?} until done; 0 of {} lost, {:.1?} without",
        tally.acknowledged.len(),
        tally.longest_gap
    );
}

/// The Authority of who serves is deleted in mid-life, while nobody else can be read.
pub async fn an_authority_is_deleted(field: &Field, group: &Group) {
    let (holder, _) = field.agreed(group).await;
    let before = field.authority(group, holder).await;
    let writer = group.postgres.client();
    writes(&writer, 20).await;
    let begun = writer.tally();
    field.doors.iter().for_each(|door| door.silence());
    // A policy refuses it; who may do anything takes that away first.
    let admin = &field.admins[holder];
    let bindings: Api<Binding> = Api::all(admin.clone());
    let mut binding = bindings.get("banyan-authority-writers").await.expect("a binding");
    bindings.delete("banyan-authority-writers", &DeleteParams::default()).await.expect("deleted");
    let authorities: Api<Authority> = Api::namespaced(admin.clone(), "banyan-system");
    let name = group.kind.name;
    until("it may be deleted", async || authorities.delete(name, &DeleteParams::default()).await.ok()).await;
    let deleted = Instant::now();
    let after = until("it is made anew", async || {
        let now = authorities.get_opt(name).await.ok()??;
        let again = now.metadata.uid != before.metadata.uid && now.spec.promoted.is_some();
        again.then_some(now)
    })
    .await;
    let took = deleted.elapsed();
    binding.metadata.resource_version = None;
    bindings.create(&PostParams::default(), &binding).await.expect("it is back");
    assert_eq!(
        (after.spec.epoch, &after.spec.holders, after.spec.promoted),
        (before.spec.epoch, &before.spec.holders, before.spec.promoted)
    );
    writes(&writer, 50).await;
    field.doors.iter().for_each(|door| door.heal());
    assert_eq!(field.agreed(group).await, (holder, before.spec.epoch));
    let tally = writer.tally();
    undisturbed(&writer, &begun);
    assert_eq!(lost(group, holder, &writer).await, 0);
    println!(
        "Authority deleted in a partition: as before {took:.1?} later; 0 of {} lost, {:.1?} without",
        tally.acknowledged.len(),
        tally.longest_gap
    );
}

/// The witness is down: a Switchover holds before anything is closed, a Failover goes on once a person has asserted.
pub async fn the_witness_is_down(field: &Field, group: &Group) {
    let (holder, epoch) = field.agreed(group).await;
    let place = 1 - holder;
    field.could_move(group, place).await;
    let writer = group.postgres.client();
    writes(&writer, 20).await;
    let before = writer.tally();
    field.witness.end.desk.always(|_| true, Fault::status(503));
    until("it is known that the witness is away", async || {
        let status = field.status(group, place).await?.status?;
        let found = status.checks.into_iter().find(|check| check.name == "witness")?;
        found.message.contains("cannot be").then_some(())
    })
    .await;
    let planned = "no-witness-planned";
    field.order(group, place, MoveAction::Switchover, planned).await;
    let waits = |status: &FailoverStatus| {
        let message = status.message.clone()?;
        message.contains("witness").then_some(message)
    };
    let said = field.comes_to(place, planned, "it waits for the witness", waits).await;
    writes(&writer, 20).await;
    undisturbed(&writer, &before);
    field.types(place, &["failover", "abort", planned]).await;
    let aborted = |status: &FailoverStatus| (status.phase == Some(Phase::Aborted)).then_some(());
    field.comes_to(place, planned, "it is given up", aborted).await;

    let order = "no-witness";
    field.order(group, place, MoveAction::Failover, order).await;
    let next = field.comes_to(place, order, "it asks", asks("assert-fenced")).await;
    field.types_next(place, &next).await;
    field.comes_to(place, order, "it is open", opens).await;
    writes(&writer, 20).await;
    let decided = |key: &String| key.ends_with(&format!("{}/after/{epoch}", group.kind.name));
    assert!(!field.witness.keys().iter().any(decided), "{:?}", field.witness.keys());
    field.witness.end.desk.behave();
    until("the witness hears of it", async || field.witness.keys().iter().any(decided).then_some(())).await;
    let status = field.done(place, order).await;
    assert_eq!(field.agreed(group).await.0, place);
    let count = writer.tally().acknowledged.len();
    assert_eq!(lost(group, place, &writer).await, 0);
    println!("witness down: a Switchover says `{said}`; a Failover lost 0 of {count}, {:?}", status.took);
}

/// The operator that moves a group is paused just when it commits. Its Lease ends, another one goes on, and the commit
/// arrives late.
pub async fn a_former_leader_wakes_up(field: &Field, name: &str) {
    let group = field.group(name);
    let (holder, epoch) = field.agreed(group).await;
    let place = 1 - holder;
    field.could_move(group, place).await;
    let promoted = timeline(group, holder).await;
    let writer = group.postgres.client();
    writes(&writer, 20).await;
    let order = "paused";
    let pid = field.keeper.pid(place).await;
    let trap = field.gate.trap(place, pid, 1, commits(group.kind.name, place));
    field.order(group, place, MoveAction::Switchover, order).await;
    let mut caught =
        tokio::time::timeout(Duration::from_secs(60), trap).await.expect("it commits").expect("caught");
    let paused = Instant::now();
    field.keeper.start(place);
    let committed = until("another one commits", async || {
        let own = field.authority(group, place).await;
        (own.spec.epoch > epoch).then_some(own)
    })
    .await;
    let took = paused.elapsed();
    // The late write arrives, and then its author wakes up.
    let mark = field.two.pair.clouds()[place].audit_mark();
    caught.answer(true);
    until("the late commit is refused", async || {
        let seen = field.two.pair.clouds()[place].audit_since(mark).ok()?;
        let refused = |one: &Request| one.resource == "authorities" && one.name == name && one.code == 409;
        seen.requests.iter().any(refused).then_some(())
    })
    .await;
    let longer = number("BANYAN_PAUSE_SECONDS").map_or(Duration::ZERO, Duration::from_secs);
    tokio::time::sleep(longer.saturating_sub(paused.elapsed())).await;
    signal(pid, "CONT");
    let status = field.done(place, order).await;
    until("the former leader ends", async || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        stat.is_none_or(|stat| stat.contains(") Z ")).then_some(())
    })
    .await;
    let own = field.authority(group, place).await;
    assert_eq!((own.spec.epoch, &own.spec.since), (committed.spec.epoch, &committed.spec.since));
    assert_eq!((status.ballot, timeline(group, place).await), (Some(own.spec.epoch), promoted + 1));
    writes(&writer, 20).await;
    let tally = writer.tally();
    assert_eq!(lost(group, place, &writer).await, 0);
    println!(
        "paused in its commit: another one committed {took:.1?} later, the late commit was refused; 0 of {} lost, {:.1?} without",
        tally.acknowledged.len(),
        tally.longest_gap
    );
}

/// The primary is paused, and wakes up when the other site has been promoted: what it takes then is taken away again.
pub async fn a_paused_primary_wakes_up(field: &Field, group: &Group) {
    let (holder, _) = field.agreed(group).await;
    let place = 1 - holder;
    field.could_move(group, place).await;
    let writer = group.postgres.client();
    writes(&writer, 20).await;
    // A session of an application that has stood for long.
    let server = &group.postgres.servers[holder];
    let (late, connection) =
        server.config("app", group.postgres.password()).connect(NoTls).await.expect("a session");
    tokio::spawn(connection);
    late.batch_execute("select 1").await.expect("it stands");
    let processes = server.processes();
    let paused = Instant::now();
    processes.iter().for_each(|pid| signal(*pid, "STOP"));
    let insert = "insert into ledger (writer, number, checksum) values (-1, 1, 'late')";
    let sent = tokio::spawn(async move { (late.batch_execute(insert).await, Instant::now()) });
    let order = "paused-primary";
    field.order(group, place, MoveAction::Failover, order).await;
    let next = field.comes_to(place, order, "it asks", asks("assert-fenced")).await;
    field.types_next(place, &next).await;
    let next = field
        .comes_to(place, order, "it is open, or asks what may be lost", |status| {
            opens(status).map(|_| None).or_else(|| asks("accept-data-loss")(status).map(Some))
        })
        .await;
    if let Some(next) = next {
        field.types_next(place, &next).await;
    }
    field.comes_to(place, order, "it is open", opens).await;
    tokio::time::sleep(paused_for().saturating_sub(paused.elapsed())).await;
    processes.iter().for_each(|pid| signal(*pid, "CONT"));
    let woken = Instant::now();
    let (answer, at) =
        tokio::time::timeout(Duration::from_secs(60), sent).await.expect("an answer").expect("whole");
    let status = field.done(place, order).await;
    println!(
        "paused primary: its late write {}, {:?} after it woke; it follows {:.1?} after; {:?}",
        if answer.is_ok() { "was taken there" } else { "was refused" },
        at.duration_since(woken),
        woken.elapsed(),
        status.took
    );
    assert_eq!(field.agreed(group).await.0, place);
    writes(&writer, 20).await;
    for server in &group.postgres.servers {
        let rows = server.sql("select 1 from ledger where writer = -1").await.expect("an answer");
        assert_eq!(rows.len(), 0, "it is in the data of nobody who serves or follows");
    }
    let count = writer.tally().acknowledged.len();
    println!("{} of {count} lost of the client that went over", lost(group, place, &writer).await);
}
