//! What gets past a closed store, and what does not. The table in docs/stores.md says the same in words.

use std::time::Instant;

use banyan::stores::{Fence, Store, StoreError};

use crate::world::{A, B, PATIENCE, caught_up, claim, insert, world};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_an_application_can_say_gets_past_a_closed_store() {
    let Some(world) = world().await else { return };
    let (primary, standby) = world.seen_from_b();
    let app = async || world.app(A).await.expect("the application logs in");

    // What many take for a fence is none.
    world.sql(A, "alter role app set default_transaction_read_only = on").await;
    let reader = app().await;
    reader.write(1).await.expect_err("it is read-only by default");
    reader.run(&format!("begin read write; {}; commit", insert(1))).await.expect("and writes all the same");
    reader.run("set default_transaction_read_only = off").await.expect("nobody forbids that");
    reader.write(1).await.expect("and writes so too");
    world.sql(A, "alter role app reset default_transaction_read_only").await;

    let idle = app().await;
    let open = app().await;
    open.run(&format!("begin; {}", insert(2))).await.expect("a transaction is open");
    let locking = app().await;
    locking.run("begin; lock table ledger in row exclusive mode").await.expect("a lock is held");

    let begin = Instant::now();
    let fenced = primary.fence(claim(17)).await.expect("it is closed");
    let took = begin.elapsed();
    println!("a fence over the wire took {took:?}, and ended {} sessions", fenced.ended);
    assert!(fenced.ended >= 4, "{fenced:?}");
    assert_eq!((fenced.open_to, fenced.left), (Vec::<String>::new(), Vec::<String>::new()));

    for (session, statement) in [
        (&reader, format!("begin read write; {}; commit", insert(3))),
        (&idle, format!("set default_transaction_read_only = off; {}", insert(3))),
        (&idle, format!("set synchronous_commit = local; {}", insert(3))),
        (&open, "commit".to_owned()),
        (&locking, format!("{}; commit", insert(3))),
    ] {
        let error = session.run(&statement).await.expect_err(&statement);
        assert!(error.contains("terminating connection") || error.contains("closed"), "{statement}: {error}");
    }
    let error = world.app(A).await.err().expect("it may not log in");
    assert_eq!(error, "role \"app\" is not permitted to log in");
    assert_eq!((world.rows(A, 1).await, world.rows(A, 2).await, world.rows(A, 3).await), (2, 0, 0));

    // The roles are closed at the standby as well, and stay so.
    caught_up(&standby, 17, fenced.position).await;
    let error = world.app(B).await.err().expect("it may not log in");
    assert_eq!(error, "role \"app\" is not permitted to log in");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_fence_does_not_close_is_named() {
    let Some(world) = world().await else { return };
    let (primary, _) = world.seen_from_b();
    let password = world.pair.password().to_owned();
    world
        .sql(
            A,
            &format!(
                "create role other login password '{password}'; grant insert on ledger to other;
                 create role heir login password '{password}'; create role writers; grant insert on ledger to writers;
                 grant writers to heir; alter role heir noinherit;
                 create role reader login password '{password}'; grant select on ledger to reader;
                 create role boss login superuser password '{password}'"
            ),
        )
        .await;
    let reading = primary.read().await.expect("a reading");
    assert_eq!(reading.unlisted_writers, ["heir", "other"]);
    assert_eq!(reading.superusers, ["boss", "postgres"]);
    assert!(
        reading
            .problems
            .iter()
            .any(|problem| problem.message.contains("the role other may log in and write"))
    );

    let other = world.login(A, "other").await.expect("it logs in");
    let boss = world.login(A, "boss").await.expect("it logs in");
    let reader = world.login(A, "reader").await.expect("it logs in");
    other.run(&format!("begin; {}", insert(1))).await.expect("a transaction is open");
    let fenced = primary.fence(claim(17)).await.expect("it is closed");
    assert_eq!(fenced.open_to, ["heir", "other"]);
    assert_eq!(fenced.left.len(), 1, "{fenced:?}");
    assert!(fenced.left[0].starts_with("boss (process "), "{fenced:?}");
    // Sessions that stood were ended, whoever had them; who is not listed comes again.
    other.run("commit").await.expect_err("it was ended");
    reader.run("select 1").await.expect_err("it was ended");
    world.login(A, "other").await.expect("it logs in again").write(2).await.expect("and writes");
    // A superuser's session outlives an operator that is none.
    boss.write(3).await.expect("a superuser writes");
    assert_eq!((world.rows(A, 1).await, world.rows(A, 2).await, world.rows(A, 3).await), (0, 1, 1));

    // An operator that is a superuser ends it.
    world.sql(A, "alter role banyan superuser").await;
    let fenced = primary.fence(claim(17)).await.expect("it is closed");
    assert_eq!(fenced.left, Vec::<String>::new());
    boss.write(3).await.expect_err("it was ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_ballot_is_refused_and_a_withdrawn_one_too() {
    let Some(world) = world().await else { return };
    let (primary, standby) = world.seen_from_b();
    let state = async || {
        let row = primary.read().await.expect("a reading").row.expect("a row");
        (row.ballot, row.opened_at, row.open)
    };
    let may_log_in = async || world.app(A).await.is_ok();
    assert_eq!(primary.read().await.expect("a reading").row, None);

    // Nothing was closed by 17: to lift it opens nothing, and a fence of 17 that is still on its way comes to nothing.
    primary.lift(17).await.expect("there is nothing to lift");
    assert_eq!(primary.fence(claim(17)).await, Err(StoreError::Refused { asked: 17, known: 17 }));
    assert!(may_log_in().await);

    primary.fence(claim(33)).await.expect("it is closed");
    assert_eq!((state().await, may_log_in().await), ((33, 0, false), false));
    for _ in 0..2 {
        assert_eq!(primary.fence(claim(18)).await, Err(StoreError::Refused { asked: 18, known: 33 }));
        assert_eq!(primary.lift(18).await, Err(StoreError::Refused { asked: 18, known: 33 }));
        assert_eq!(primary.open(18).await, Err(StoreError::Refused { asked: 18, known: 33 }));
        assert_eq!(primary.verify(18).await, Err(StoreError::Refused { asked: 18, known: 33 }));
        assert_eq!((state().await, may_log_in().await), ((33, 0, false), false));
    }
    let again = primary.fence(claim(33)).await.expect("it is closed already");
    assert_eq!(again.ballot, 33);
    for _ in 0..2 {
        primary.lift(33).await.expect("it is opened again");
        assert_eq!((state().await, may_log_in().await), ((33, 0, true), true));
    }
    assert_eq!(primary.fence(claim(33)).await, Err(StoreError::Refused { asked: 33, known: 33 }));

    // A holder opens for its epoch, and claims that follow an older one are void.
    primary.fence(claim(49)).await.expect("it is closed");
    for _ in 0..2 {
        primary.open(49).await.expect("it is opened");
        assert_eq!((state().await, may_log_in().await), ((49, 49, true), true));
    }
    let void = primary.fence(Fence { ballot: 65, follows: 33 }).await;
    assert_eq!(void, Err(StoreError::OpenedSince { asked: 65, follows: 33, opened: 49 }));
    assert!(may_log_in().await);
    primary.fence(Fence { ballot: 65, follows: 49 }).await.expect("it is closed");

    // Only a primary can be closed and opened.
    caught_up(&standby, 65, None).await;
    assert_eq!(standby.fence(Fence { ballot: 81, follows: 49 }).await, Err(StoreError::IsStandby));
    assert_eq!(standby.open(81).await, Err(StoreError::IsStandby));
    assert_eq!(standby.lift(65).await, Err(StoreError::IsStandby));
    assert_eq!(primary.thaw().await, Err(StoreError::IsPrimary));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_standby_that_is_away_hangs_nothing() {
    let Some(world) = world().await else { return };
    let (primary, standby) = world.seen_from_b();
    primary.beat("aws-us-east-1").await.expect("a heartbeat");
    assert!(matches!(primary.protect(17, Some("nowhere")).await, Err(StoreError::NotYet { .. })));
    primary.protect(17, Some("gcp-us-central1")).await.expect("commits wait for the standby");
    let reading = primary.read().await.expect("a reading");
    assert_eq!(reading.waits_for, "FIRST 1 (\"gcp-us-central1\")");
    world.app(A).await.expect("it logs in").write(1).await.expect("the standby is there");

    world.pair.doors[A].silence();
    let hung = world.app(A).await.expect("it logs in");
    let hangs = tokio::spawn(async move { hung.write(2).await });
    // A row that is written as usual hangs, and would keep its lock.
    let plain = world.login(A, "banyan").await.expect("it logs in");
    let row =
        tokio::spawn(async move { plain.run("insert into banyan.authority (ballot) values (1)").await });
    let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    let begin = Instant::now();
    while world.value(A, waits).await != "2" {
        assert!(begin.elapsed() < PATIENCE, "nobody waits for the standby");
    }

    // The door is silent, so it is the operator of the site itself that closes.
    let own = world.store(A, A);
    let begin = Instant::now();
    own.beat("aws-us-east-1").await.expect("a heartbeat does not hang");
    let fenced = own.fence(claim(33)).await.expect("it is closed");
    println!("a fence with the synchronous standby away took {:?}", begin.elapsed());
    assert!(begin.elapsed() < PATIENCE);
    let error = hangs.await.expect("it does not panic").expect_err("it was never acknowledged");
    assert!(error.contains("terminating connection") || error.contains("closed"), "{error}");
    row.await.expect("it does not panic").expect_err("it was ended, and its lock with it");

    world.pair.doors[A].heal();
    caught_up(&standby, 33, fenced.position).await;
    tokio::time::timeout(PATIENCE, own.open(49)).await.expect("in time").expect("it is opened");
    assert_eq!(own.read().await.expect("a reading").waits_for, "");
    world.app(A).await.expect("it logs in").write(3).await.expect("nobody is waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_a_lock_on_the_roles_does_not_hold_up_a_fence() {
    let Some(world) = world().await else { return };
    let (primary, _) = world.seen_from_b();
    primary.beat("aws-us-east-1").await.expect("a heartbeat");
    // An older order of an operator that is stuck with the row and the role in hand.
    let stuck = world.login(A, "banyan").await.expect("it logs in");
    let held = "begin; insert into banyan.authority (ballot) values (1); alter role app connection limit 5";
    stuck.run(held).await.expect("it holds both");
    let begin = Instant::now();
    primary.fence(claim(17)).await.expect("it is closed");
    println!("a fence against a stuck older order took {:?}", begin.elapsed());
    stuck.run("commit").await.expect_err("it was ended");

    // Somebody else's.
    primary.lift(17).await.expect("it is opened again");
    world.sql(A, "create role helper login createrole").await;
    world.sql(A, &format!("alter role helper password '{}'", world.pair.password())).await;
    let helper = world.login(A, "helper").await.expect("it logs in");
    helper.run("begin; alter role app connection limit 6").await.expect("it holds the role");
    let begin = Instant::now();
    primary.fence(claim(33)).await.expect("it is closed");
    println!("a fence against somebody's lock took {:?}", begin.elapsed());
    helper.run("commit").await.expect_err("it was ended");
}
