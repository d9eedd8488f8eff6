//! The operator that moves a group is killed between any two of its writes: those of the journal, and of both Authorities.

use std::time::{Duration, Instant};

use banyan::api::failover::{MoveAction, Phase};
use banyan::sandbox::postgres::Client as Writer;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};

use super::field::{Field, lost, timeline, writes};
use super::gate::{Caught, Write};

/// How often it is killed in one move: at each write of so many.
const EACH: usize = 3;
/// How long a write that was let through may take until it stands. One that somebody was faster than never does.
const STANDS: Duration = Duration::from_millis(700);

/// How often it is looked how far a move is.
const LOOK: Duration = Duration::from_millis(100);

/// When the operator is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Once, after the write was taken: it is written, and not done.
    After,
    /// Once, before the write was taken: something is done, and not written.
    Before,
    /// Its successors too, now after and now before.
    InTurns,
}

impl How {
    fn taken(self, kills: usize) -> bool {
        self == Self::After || (self == Self::InTurns && kills % 2 == 1)
    }
}

/// Every write that a move is remembered by.
fn any(_: &Write) -> bool {
    true
}

/// Whether a write stands.
async fn stands(field: &Field, write: &Write) {
    let (kind, plural) = match write.what.as_str() {
        "authorities" => ("Authority", "authorities"),
        _ => ("Failover", "failovers"),
    };
    let gvk = GroupVersionKind::gvk("banyan.dev", "v1alpha1", kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    let api: Api<DynamicObject> =
        Api::namespaced_with(field.admins[write.cloud].clone(), "banyan-system", &resource);
    let began = Instant::now();
    while began.elapsed() < STANDS {
        let now =
            api.get_opt(&write.name).await.expect("an answer").and_then(|now| now.metadata.resource_version);
        if now.is_some() && now != write.over {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Kills the operator where it was stopped: after its write was taken, or before.
async fn kill(field: &Field, place: usize, mut caught: Caught, taken: bool) {
    if taken {
        caught.answer(true);
        stands(field, &caught.write).await;
    }
    field.keeper.kill(place).await;
    caught.answer(false);
    field.start_again(place).await;
}

/// What a move in which the operator was killed came to.
struct Killed {
    kills: usize,
    writes: usize,
    lost: usize,
    acknowledged: usize,
    gap: Duration,
}

/// Moves a group to where it is not; the operator is killed at the `at`-th of its writes, and again at each `at`-th of its
/// successors' where that is in turns.
async fn moved(field: &Field, name: &str, action: MoveAction, order: &str, at: usize, how: How) -> Killed {
    let group = field.group(name);
    let (holder, epoch) = field.agreed(group).await;
    let place = 1 - holder;
    field.could_move(group, place).await;
    let promoted = timeline(group, holder).await;
    let writer: Writer = group.postgres.client();
    writes(&writer, 20).await;
    field.gate.take(place);
    let mut kills = 0;
    let pid = field.keeper.pid(place).await;
    let mut trap = Some(field.gate.trap(place, pid, at, any));
    field.order(field.group(name), place, action, order).await;
    let began = Instant::now();
    loop {
        let status = field.read(place, order).await.unwrap_or_default();
        let over = status.phase.filter(|phase| phase.is_over());
        if let Some(phase) = over {
            assert_eq!(phase, Phase::Done, "{status:#?}");
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(400), "it does not end: {status:#?}");
        // Both sites live: nobody says anything to it.
        let caught = match &mut trap {
            Some(trap) => tokio::time::timeout(LOOK, trap).await,
            None => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        let Ok(Ok(caught)) = caught else { continue };
        kills += 1;
        let taken = how.taken(kills);
        println!(
            "{order}: killed {} {} of {} ({})",
            if taken { "after" } else { "before" },
            caught.write.what,
            caught.write.cloud,
            caught.write.object["status"]["step"].as_str().unwrap_or_default()
        );
        kill(field, place, caught, taken).await;
        let pid = field.keeper.pid(place).await;
        trap = (how == How::InTurns).then(|| field.gate.trap(place, pid, at, any));
    }
    field.gate.open();
    let writes_seen =
        field.gate.take(place).into_iter().filter(|write| write.name == order || write.name == name);
    let group = field.group(name);
    let (now, after) = field.agreed(group).await;
    let status = field.read(place, order).await.unwrap_or_default();
    assert_eq!((now, Some(after), status.follows), (place, status.ballot, Some(epoch)), "{status:#?}");
    assert_eq!(timeline(group, place).await, promoted + 1, "it was promoted once");
    if group.kind.whole {
        let decided =
            field.witness.keys().into_iter().filter(|key| key.ends_with(&format!("after/{epoch}"))).count();
        assert_eq!(decided, 1, "{:?}", field.witness.keys());
    }
    writes(&writer, 20).await;
    let tally = writer.tally();
    Killed {
        kills,
        writes: writes_seen.count(),
        lost: lost(group, place, &writer).await,
        acknowledged: tally.acknowledged.len(),
        gap: tally.longest_gap,
    }
}

/// A switchover in which the operator is killed at every third of its writes.
pub async fn of_a_switchover(field: &Field, name: &str) {
    at_every_third_write(field, name, MoveAction::Switchover, "killed-there").await;
}

/// The same with a failover.
pub async fn of_a_failover(field: &Field, name: &str) {
    at_every_third_write(field, name, MoveAction::Failover, "killed-back").await;
}

async fn at_every_third_write(field: &Field, name: &str, action: MoveAction, order: &str) {
    let began = Instant::now();
    let found = moved(field, name, action, order, EACH, How::InTurns).await;
    let Killed { kills, writes, lost, acknowledged, gap } = found;
    println!(
        "{}: {kills} kills at {writes} writes in {:.1?}; {lost} of {acknowledged} acknowledged writes lost, {gap:.1?} without",
        action.as_str(),
        began.elapsed()
    );
    assert_eq!(lost, 0);
    assert!(kills >= 3, "it was killed {kills} times");
}

/// One move for each write of a move, in which the operator is killed just there: only where `BANYAN_KILLS` is set.
pub async fn at_each_write(field: &Field, name: &str) {
    if std::env::var_os("BANYAN_KILLS").is_none() {
        return;
    }
    let all = [
        (MoveAction::Switchover, How::After, "after"),
        (MoveAction::Switchover, How::Before, "before"),
        (MoveAction::Failover, How::After, "after"),
        (MoveAction::Failover, How::Before, "before"),
    ];
    for (action, how, word) in all {
        let (mut moves, mut acknowledged, mut longest) = (0, 0, Duration::ZERO);
        for at in 1.. {
            let order = format!("each-{}-{word}-{at}", action.as_str().to_lowercase());
            let found = moved(field, name, action, &order, at, how).await;
            assert_eq!(found.lost, 0, "{order}");
            acknowledged += found.acknowledged;
            println!("{order}: {} kills, {} writes, {:.1?} without", found.kills, found.writes, found.gap);
            if found.kills == 0 {
                break;
            }
            (moves, longest) = (moves + 1, longest.max(found.gap));
        }
        println!(
            "{}: killed {word} each of {moves} writes, each resumed; 0 of {acknowledged} lost, {longest:.1?} without at the most",
            action.as_str(),
        );
    }
}
