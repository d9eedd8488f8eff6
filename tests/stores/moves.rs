//! Whole moves, planned and not.

use std::time::{Duration, Instant};

use banyan::stores::reading::{Ancestry, Role, ancestry};
use banyan::stores::{CaughtUp, Fence, Promotion, Session, Store, StoreError};

use crate::world::{A, B, PATIENCE, World, caught_up, claim, packaged, promote, world};

/// Lets a client write so often more.
async fn writes(client: &banyan::sandbox::postgres::Client, more: usize) {
    let (begin, before) = (Instant::now(), client.tally().acknowledged.len());
    while client.tally().acknowledged.len() < before + more {
        assert!(begin.elapsed() < PATIENCE, "the client does not get on: {:?}", client.tally().unanswered);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_move_loses_nothing_that_was_acknowledged() {
    if let Some(world) = world().await {
        planned(world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_one_with_a_later_version_which_asks_for_other_rights() {
    if let Some(world) = packaged().await {
        planned(world).await;
    }
}

async fn planned(world: World) {
    let (there, here) = world.seen_from_b();
    let reading = there.read().await.expect("a reading");
    println!("measured with PostgreSQL {}", reading.version);
    assert_eq!(reading.problems, Vec::new());
    let clients = [1, 2, 3].map(|_| world.pair.client());
    writes(&clients[0], 50).await;

    // Opened before anybody is asked who may promote.
    let mut session = here.session().await.expect("a session");
    let begin = Instant::now();
    let fenced = there.fence(claim(17)).await.expect("it is closed");
    let closed = begin.elapsed();
    caught_up(&here, 17, fenced.position).await;
    let replayed = begin.elapsed();
    let promoted = session.promote(Promotion { ballot: 17, row: Some(17) }).await.expect("it is promoted");
    assert!(promoted >= fenced.position, "{promoted:?} {fenced:?}");
    let is_primary = begin.elapsed();
    let verified = here.verify(17).await.expect("it writes").expect("it can be written to");
    assert!(verified.position > promoted);
    // Roles are closed here too, since that was replicated, until it is opened.
    let error = world.app(B).await.err().expect("it is not open");
    assert_eq!(error, "role \"app\" is not permitted to log in");
    here.open(17).await.expect("it is opened");
    println!(
        "closed after {closed:?}, replayed after {replayed:?}, promoted after {is_primary:?}, open after {:?}",
        begin.elapsed()
    );
    writes(&clients[0], 50).await;
    clients.iter().for_each(|client| client.stop());
    for client in &clients {
        let kept = client.kept(&world.pair.servers[B]).await.expect("an answer");
        println!("{kept:?}, longest gap {:?}", client.tally().longest_gap);
        assert!(kept.acknowledged > 0);
        assert_eq!((kept.lost, client.tally().wrong_reads), (0, 0));
    }

    // Exactly once, however often it is ordered.
    for _ in 0..2 {
        promote(&here, 17, Some(17)).await.expect("it is promoted already");
        here.open(17).await.expect("it is open already");
    }
    assert_eq!(world.timeline(B).await, 2);
    let (old, new) = (there.read().await.expect("a reading"), here.read().await.expect("a reading"));
    assert_eq!((old.role, new.role), (Role::Primary, Role::Primary));
    assert_eq!(old.open_roles, Vec::<String>::new());
    assert_eq!(new.open_roles, ["app"]);
    assert_eq!(new.row.map(|row| (row.ballot, row.opened_at, row.open)), Some((17, 17, true)));

    // The old one becomes a standby of the new one, and commits can wait for it again.
    world.pair.join(A, B).await.expect("it follows");
    here.protect(17, Some("aws-us-east-1")).await.expect("commits wait for it");
    world.app(B).await.expect("it logs in").write(9).await.expect("it is written");
    let (old, new) = (there.read().await.expect("a reading"), here.read().await.expect("a reading"));
    assert_eq!((old.role, ancestry(&new, &old)), (Role::Standby, Ancestry::Follows));
    assert!(new.downstream.iter().any(|one| one.name == "aws-us-east-1" && one.synchronous), "{new:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_promotion_does_nothing() {
    let Some(world) = world().await else { return };
    let (there, here) = world.seen_from_b();
    there.fence(claim(17)).await.expect("it is closed");
    caught_up(&here, 17, None).await;
    let still_standby = async || here.read().await.expect("a reading").role == Role::Standby;

    // A leader that was paused with its session open; meanwhile another one claims with 33.
    let mut late = here.session().await.expect("a session");
    here.fence_standby(claim(33)).await.expect("older sessions are ended");
    let error =
        late.promote(Promotion { ballot: 17, row: Some(17) }).await.expect_err("its session was ended");
    assert!(matches!(error, StoreError::Remote(_)), "{error:?}");
    assert!(still_standby().await);

    // One whose session was opened since is refused by the row.
    let fenced = there.fence(claim(33)).await.expect("it is closed");
    caught_up(&here, 33, fenced.position).await;
    let refused = StoreError::Refused { asked: 17, known: 33 };
    assert_eq!(promote(&here, 17, Some(17)).await, Err(refused.clone()));
    assert_eq!(here.caught_up(17, None).await, Err(refused.clone()));
    assert_eq!(here.freeze(17).await, Err(refused.clone()));
    assert_eq!(here.fence_standby(claim(17)).await, Err(refused));
    for row in [None, Some(17)] {
        let other = Err(StoreError::OtherRow { expected: row, found: Some(33) });
        assert_eq!(promote(&here, 33, row).await, other);
    }
    assert!(still_standby().await);

    // Two at once promote once.
    let (mut one, mut two) =
        (here.session().await.expect("a session"), here.session().await.expect("a session"));
    let promotion = Promotion { ballot: 33, row: Some(33) };
    let (one, two) = tokio::join!(one.promote(promotion), two.promote(promotion));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    assert_eq!(world.timeline(B).await, 2);
    let refused = Err(StoreError::Refused { asked: 17, known: 33 });
    assert_eq!(promote(&here, 17, Some(17)).await, refused);

    // Overtaken before it was opened: it stands as the other one was closed, and whoever closes it is told.
    let closed = there.read().await.expect("a reading").row;
    assert!(closed.is_some_and(|row| row.ballot == 33 && row.sealed == fenced.position));
    assert_eq!(here.fence(claim(49)).await.expect("it is closed").found, closed);
    let own = here.fence(claim(49)).await.expect("it is closed").found.expect("a row");
    assert_eq!(own.ballot, 49, "what it wrote itself says nothing of before");
    here.open(49).await.expect("it is open");
    let later = Fence { ballot: 65, follows: 49 };
    assert_eq!(here.fence(later).await.expect("it is closed").found, None, "it was open");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unplanned_move_knows_what_it_has() {
    let Some(world) = world().await else { return };
    let (there, here) = world.seen_from_b();
    let client = world.pair.client();
    writes(&client, 20).await;

    // Frozen and let go again: nothing is promoted, and the standby receives as before.
    let frozen = here.freeze(17).await.expect("it receives nothing more");
    assert!(here.read().await.expect("a reading").frozen);
    writes(&client, 10).await;
    assert_eq!(here.freeze(17).await.expect("it is frozen already"), frozen);
    here.thaw().await.expect("it receives again");
    world.pair.streams(A).await.expect("it streams");
    assert!(!here.read().await.expect("a reading").frozen);

    // The machine of the primary is gone.
    writes(&client, 10).await;
    world.pair.servers[A].kill().await.expect("it is killed");
    let begin = Instant::now();
    let error = there.fence(claim(33)).await.expect_err("nobody is there");
    assert!(error.is_silence() && begin.elapsed() < PATIENCE, "{error:?}");
    here.fence_standby(claim(33)).await.expect("older sessions are ended");
    let frozen = here.freeze(33).await.expect("it has replayed all that it has");
    let at = frozen.position.expect("it tells");
    assert_eq!(here.caught_up(33, None).await, Ok(CaughtUp::No { replayed: Some(at) }));
    // No fence ever reached this store, so there is no row.
    assert_eq!(here.read().await.expect("a reading").row, None);
    promote(&here, 33, None).await.expect("it is promoted");
    // Roles were open at the primary, so they are open at once: they are closed before it is verified and opened.
    assert!(here.read().await.expect("a reading").open_roles == ["app"]);
    here.fence(claim(33)).await.expect("it is closed");
    here.verify(33).await.expect("it writes");
    here.open(33).await.expect("it is opened");
    writes(&client, 20).await;
    client.stop();
    let kept = client.kept(&world.pair.servers[B]).await.expect("an answer");
    println!("after the loss of the primary: {kept:?}");

    // It comes back as a primary, open as it was: it is found, closed and named.
    world.pair.servers[A].start().await.expect("it comes back");
    let (old, new) = (there.read().await.expect("a reading"), here.read().await.expect("a reading"));
    assert_eq!((old.role, old.row), (Role::Primary, None));
    assert!(new.timeline > old.timeline);
    there.fence(Fence { ballot: 33, follows: 0 }).await.expect("it is closed");
    assert!(world.app(A).await.is_err());
}
