//! A network that misbehaves: the right outcome, in bounded time, and nothing done twice.

use std::time::{Duration, Instant};

use banyan::runtime::remote::RemoteError;
use banyan::sandbox::ends::proxy::{Trouble, Way};
use banyan::stores::reading::Role;
use banyan::stores::{Fence, Promotion, Session, Store, StoreError};

use crate::world::{A, B, PATIENCE, World, caught_up, claim, promote, world};

/// How long a request may take here.
const DEADLINE: Duration = Duration::from_millis(1500);

/// What can go wrong on the way; the numbers are bytes after which it breaks.
fn troubles() -> Vec<(Way, Trouble)> {
    // A whole fence is some six thousand bytes there and some three thousand back.
    let breaks = |way, step: usize, most: usize| {
        (0..most).step_by(step).map(move |after| (way, Trouble::BreakAfter(after)))
    };
    let mut all: Vec<_> = breaks(Way::Back, 170, 3400).chain(breaks(Way::There, 430, 8600)).collect();
    all.extend([(Way::There, Trouble::Swallow), (Way::Back, Trouble::Swallow)]);
    all.push((Way::Back, Trouble::Delay(Duration::from_millis(30))));
    all
}

async fn row(world: &World) -> (i64, i64, bool) {
    let row = world.store(A, A).read().await.expect("a reading").row.expect("a row");
    (row.ballot, row.opened_at, row.open)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_lost_on_the_way_a_store_is_closed_and_opened_once() {
    let Some(world) = world().await else { return };
    let there = world.store(B, A).with_deadline(DEADLINE);
    let door = &world.pair.doors[A];
    there.beat("aws-us-east-1").await.expect("a heartbeat");
    let (mut lost, mut carried_out) = (0, 0);
    let mut epoch = 0;
    for (way, trouble) in troubles() {
        let fence = Fence { ballot: epoch + 17, follows: epoch };
        door.trouble(way, trouble);
        let begin = Instant::now();
        let first = there.fence(fence).await;
        assert!(begin.elapsed() < PATIENCE, "{way:?} {trouble:?}: {:?}", begin.elapsed());
        door.heal();
        if let Err(error) = &first {
            lost += 1;
            assert!(error.is_silence() && error.may_be_done(), "{way:?} {trouble:?}: {error:?}");
            // An answer that was lost may be one to something that was done.
            let row = world.store(A, A).read().await.expect("a reading").row;
            carried_out += u32::from(row.is_some_and(|row| row.ballot == fence.ballot));
        }
        let again = there.fence(fence).await.unwrap_or_else(|error| panic!("{way:?} {trouble:?}: {error:?}"));
        assert_eq!((again.open_to.len(), again.left.len()), (0, 0));
        assert_eq!(row(&world).await, (fence.ballot, epoch, false), "{way:?} {trouble:?}");
        assert!(world.app(A).await.is_err(), "{way:?} {trouble:?}");

        door.trouble(way, trouble);
        let begin = Instant::now();
        let first = there.open(fence.ballot).await;
        assert!(begin.elapsed() < PATIENCE, "{way:?} {trouble:?}: {:?}", begin.elapsed());
        door.heal();
        if let Err(error) = first {
            assert!(error.is_silence() && error.may_be_done(), "{way:?} {trouble:?}: {error:?}");
        }
        there.open(fence.ballot).await.unwrap_or_else(|error| panic!("{way:?} {trouble:?}: {error:?}"));
        epoch = fence.ballot;
        assert_eq!(row(&world).await, (epoch, epoch, true), "{way:?} {trouble:?}");
        assert!(world.app(A).await.is_ok(), "{way:?} {trouble:?}");
    }
    println!("{lost} fences without an answer, of which {carried_out} were carried out");
    assert!(lost > 10 && carried_out > 0 && carried_out < lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_and_a_refusal_is_told() {
    let Some(world) = world().await else { return };
    let there = world.store(B, A).with_deadline(DEADLINE);
    let door = &world.pair.doors[A];
    door.silence();
    let begin = Instant::now();
    let silent = Err(StoreError::Remote(RemoteError::NoAnswer(DEADLINE)));
    assert_eq!(there.read().await.map(drop), silent);
    assert_eq!(there.fence(claim(17)).await.map(drop), silent);
    assert!(begin.elapsed() >= DEADLINE * 2 && begin.elapsed() < PATIENCE);
    door.heal();
    door.refuse();
    assert!(there.fence(claim(17)).await.expect_err("it is refused").is_silence());
    door.heal();
    assert_eq!(world.store(A, A).read().await.expect("a reading").row, None);
    there.fence(claim(17)).await.expect("it is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_whose_answer_is_lost_is_done_once() {
    let Some(world) = world().await else { return };
    let (there, here) = (world.store(A, A), world.store(A, B).with_deadline(DEADLINE));
    let door = &world.pair.doors[B];
    let fenced = there.fence(claim(17)).await.expect("it is closed");
    caught_up(&here, 17, fenced.position).await;

    // The order is lost: nothing is promoted.
    let mut session = here.session().await.expect("a session");
    door.trouble(Way::There, Trouble::Swallow);
    let error = session.promote(Promotion { ballot: 17, row: Some(17) }).await.expect_err("it is lost");
    assert!(error.may_be_done(), "{error:?}");
    door.heal();
    assert_eq!(here.read().await.expect("a reading").role, Role::Standby);

    // The answer is lost: it is promoted.
    let mut session = here.session().await.expect("a session");
    door.trouble(Way::Back, Trouble::BreakAfter(0));
    let error = session.promote(Promotion { ballot: 17, row: Some(17) }).await.expect_err("it is lost");
    assert!(error.may_be_done(), "{error:?}");
    door.heal();
    // Each of these may come while it is still becoming a primary by the first one.
    for again in futures::future::join_all((0..8).map(|_| promote(&here, 17, Some(17)))).await {
        again.expect("it is promoted already");
    }
    assert_eq!(world.timeline(B).await, 2);
}
