//! The cloud that is to take over dies in mid-course: an order at the source opens it again, or the witness, and nothing else
//! does.

use std::time::{Duration, Instant};

use banyan::api::failover::{MoveAction, Phase};
use banyan::sandbox::Part;
use banyan::sandbox::process::Signal;

use super::field::{Field, Group, lost, timeline, writes};
use super::gate::{asks_the_witness, commits};
use crate::peers::until;

/// Where it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The source is closed, and nothing is committed.
    Fence,
    /// It is committed, and nothing is promoted.
    Commit,
}

/// For how long the source is watched: nothing that takes its time opens it.
const WATCHED: Duration = Duration::from_secs(3);

/// Nobody hears of that cloud any more; its operator was killed before.
fn dies(field: &Field, group: &Group, place: usize) {
    field.two.pair.clouds()[place].signal(Part::ApiServer, Signal::Stop).unwrap();
    group.postgres.doors[place].silence();
}

async fn returns(field: &Field, group: &Group, place: usize) {
    group.postgres.doors[place].heal();
    field.two.pair.clouds()[place].signal(Part::ApiServer, Signal::Cont).unwrap();
    field.start_again(place).await;
}

pub async fn the_target_dies(field: &Field, name: &str, at: At) {
    let group = field.group(name);
    let (holder, epoch) = field.agreed(group).await;
    let place = 1 - holder;
    field.could_move(group, place).await;
    let promoted = timeline(group, holder).await;
    let writer = group.postgres.client();
    writes(&writer, 20).await;
    let order = format!("dies-{at:?}").to_lowercase();
    let commits = commits(group.kind.name, place);
    let trap = field.gate.trap(place, field.keeper.pid(place).await, 1, commits);
    field.order(group, place, MoveAction::Switchover, &order).await;
    let caught = tokio::time::timeout(Duration::from_secs(60), trap).await;
    let mut caught = caught.expect("it commits").expect("caught");
    if at == At::Commit {
        caught.answer(true);
        until("it is committed", async || {
            (field.authority_spec(group, place).await.epoch > epoch).then_some(())
        })
        .await;
    }
    field.keeper.kill(place).await;
    caught.answer(false);
    dies(field, group, place);
    let closed = writer.tally().acknowledged.len();
    tokio::time::sleep(WATCHED).await;
    assert_eq!(writer.tally().acknowledged.len(), closed, "nothing opens it by itself");

    // One order, and what it asks to be told.
    let (back, died) = (format!("back-{at:?}").to_lowercase(), Instant::now());
    field.order(group, holder, MoveAction::Failover, &back).await;
    let mut typed = Vec::new();
    loop {
        let opens = |status: &banyan::api::FailoverStatus| {
            let over = matches!(status.phase, Some(Phase::Refused | Phase::Aborted | Phase::Superseded));
            assert!(!over, "{status:#?}");
            let open = status.took.as_ref().is_some_and(|took| took.until_open.is_some());
            let next = status.next.clone().filter(|next| !next.contains("skip") && !typed.contains(next));
            if open { Some(None) } else { next.map(Some) }
        };
        match field.comes_to(holder, &back, "it is open, or asks", opens).await {
            None => break,
            Some(next) => {
                field.types_next(holder, &next).await;
                typed.push(next);
            }
        }
    }
    writes(&writer, 20).await;
    let took = died.elapsed();

    // It returns, and stands by.
    returns(field, group, place).await;
    let status = field.done(holder, &back).await;
    assert_eq!(field.agreed(group).await, (holder, status.ballot.unwrap_or_default()));
    let first = field
        .comes_to(place, &order, "the first order is over", |status| {
            status.phase.filter(|phase| phase.is_over())
        })
        .await;
    assert_ne!(first, Phase::Done);
    assert_eq!(timeline(group, holder).await, promoted, "nothing was promoted");
    writes(&writer, 20).await;
    let count = writer.tally().acknowledged.len();
    assert_eq!(lost(group, holder, &writer).await, 0);
    println!(
        "the target dies after its {at:?}: closed until an order at the source, which opened it in {took:.1?}, told {typed:?}; 0 of \
         {count} lost; the first order ended as {}",
        first.as_str()
    );
}

/// The same after its fence, in a group that has a witness: nobody types anything.
pub async fn the_witness_gives_authority_back(field: &Field, name: &str) {
    let group = field.group(name);
    let (holder, epoch) = field.agreed(group).await;
    let place = 1 - holder;
    field.could_move(group, place).await;
    let promoted = timeline(group, holder).await;
    let writer = group.postgres.client();
    writes(&writer, 20).await;
    let marks = asks_the_witness(group.kind.name, place);
    let trap = field.gate.trap(place, field.keeper.pid(place).await, 1, marks);
    field.order(group, place, MoveAction::Switchover, "abandoned").await;
    let caught = tokio::time::timeout(Duration::from_secs(60), trap).await;
    let mut caught = caught.expect("it asks the witness").expect("caught");
    field.keeper.kill(place).await;
    caught.answer(false);
    dies(field, group, place);
    let (closed, died) = (writer.tally().acknowledged.len(), Instant::now());
    tokio::time::sleep(WATCHED).await;
    assert_eq!(writer.tally().acknowledged.len(), closed, "a time-out alone opens nothing");
    writes(&writer, 20).await;
    let took = died.elapsed();
    let own = field.authority_spec(group, holder).await;
    assert!(own.epoch > epoch && own.follows == epoch, "{own:?}");

    // It returns, and stands by.
    returns(field, group, place).await;
    let over = |status: &banyan::api::FailoverStatus| status.phase.filter(|phase| phase.is_over());
    let ended = field.comes_to(place, "abandoned", "the order is over", over).await;
    assert_eq!(ended, Phase::Superseded);
    assert_eq!(field.agreed(group).await, (holder, own.epoch));
    assert_eq!(timeline(group, holder).await, promoted, "nothing was promoted");
    writes(&writer, 20).await;
    assert_eq!(lost(group, holder, &writer).await, 0);
    println!(
        "the target dies after its fence, and the witness gives authority back: open again after {took:.1?}, nobody typed \
         anything; 0 of {} lost",
        writer.tally().acknowledged.len()
    );
}
