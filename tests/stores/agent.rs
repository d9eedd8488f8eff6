//! `banyan pg-agent` beside real servers: an old primary becomes a standby.

use std::path::Path;
use std::time::{Duration, Instant};

use banyan::sandbox::postgres::agents::{Issuer, beside, issuer, papers};
use banyan::stores::agent::client::Agent;
use banyan::stores::agent::{Action, Order, State};
use banyan::stores::postgres::Postgres;
use banyan::stores::reading::Role;
use banyan::stores::{Promotion, Session, Store, StoreError};

use crate::world::{A, B, PATIENCE, World, caught_up, claim, promote, world};

fn client(port: u16, (certificate, key): &(String, String), ca: &str) -> Agent {
    Agent::new("127.0.0.1", port, certificate.as_bytes(), key.as_bytes(), ca.as_bytes()).expect("an agent")
}

/// Starts the agent of a site; `rewinds` says whether it knows a role that may rewind.
async fn agent(world: &World, site: usize, rewinds: bool, issuer: &Issuer) -> (u16, Agent) {
    let binary = Path::new(env!("CARGO_BIN_EXE_banyan"));
    let (port, log) = beside(&world.pair, site, binary, issuer, rewinds).expect("it starts");
    let papers = papers(issuer).expect("a certificate");
    let client = client(port, &papers, &issuer.pem());
    let begin = Instant::now();
    while let Err(error) = client.status().await {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        assert!(begin.elapsed() < PATIENCE, "{error}: {said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (port, client)
}

/// Asks until it is done.
async fn until_done(mut ask: impl AsyncFnMut() -> Result<(), StoreError>) -> Result<(), StoreError> {
    let begin = Instant::now();
    loop {
        match ask().await {
            Err(StoreError::NotYet { .. }) => assert!(begin.elapsed() < PATIENCE, "it is not done"),
            done => return done,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The store at a site, by its own operator, with its agent.
fn store(world: &World, site: usize, agent: &Agent) -> Postgres {
    world.store(site, site).with_agent(agent.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_primary_becomes_a_standby_and_nothing_of_it_is_thrown_away() {
    let Some(world) = world().await else { return };
    let issuer = issuer().expect("an issuer");
    let (port, at_a) = agent(&world, A, true, &issuer).await;
    let (_, at_b) = agent(&world, B, false, &issuer).await;
    let (a, b) = (store(&world, A, &at_a), store(&world, B, &at_b));
    let (there, here) = world.seen_from_b();

    // Who shows no certificate of the CA is not heard, nor is an agent believed that shows another one.
    let others = self::issuer().expect("an issuer");
    client(port, &papers(&others).expect("a certificate"), &issuer.pem())
        .status()
        .await
        .expect_err("it is a stranger");
    client(port, &papers(&issuer).expect("a certificate"), &others.pem())
        .status()
        .await
        .expect_err("it is a stranger");

    // Planned: stopped before the promotion, it follows without rewinding.
    let mut session = here.session().await.expect("a session");
    let fenced = there.fence(claim(17)).await.expect("it is closed");
    caught_up(&here, 17, fenced.position).await;
    until_done(async || a.shut_down(17).await).await.expect("it is stopped");
    a.shut_down(17).await.expect("it is stopped already");
    let stopped = at_a.status().await.expect("a status");
    assert_eq!((stopped.running, stopped.state.as_str(), stopped.ballot), (false, "shut down", 17));
    session.promote(Promotion { ballot: 17, row: Some(17) }).await.expect("it is promoted");
    here.verify(17).await.expect("it writes");
    here.open(17).await.expect("it is opened");
    let begin = Instant::now();
    until_done(async || a.follow(17, "gcp-us-central1", None).await).await.expect("it follows");
    println!("a primary that was stopped first follows after {:?}", begin.elapsed());
    world.pair.streams(B).await.expect("it streams");
    let running = world.value(A, "select pg_postmaster_start_time()").await;
    a.follow(17, "gcp-us-central1", None).await.expect("it follows already");
    assert_eq!(world.value(A, "select pg_postmaster_start_time()").await, running, "it was not done twice");

    // An older ballot is refused, also by an agent that was told of the greater one by the row alone.
    let older = Order { id: "late".to_owned(), ballot: 16, action: Action::Shutdown };
    for agent in [&at_a, &at_b] {
        assert_eq!(agent.order(&older).await, Err(StoreError::Refused { asked: 16, known: 17 }));
    }

    // Unplanned: the other one goes on by itself, and is rewound or, as here without the right to, copied anew.
    let row = a.read().await.expect("a reading").row.map(|row| row.ballot);
    a.fence_standby(claim(33)).await.expect_err("its epoch is 17, and the claim follows none");
    a.freeze(33).await.expect("it receives nothing more");
    promote(&a, 33, row).await.expect("it is promoted");
    world.app(B).await.expect("it logs in").write(7).await.expect("the old primary still writes");
    b.go_on(33, "aws-us-east-1", None).await.expect_err("nobody has stopped it for that");
    assert!(at_b.status().await.expect("a status").running);
    // An operator sees no more of a server once that is stopped: it goes on with what was begun.
    b.follow(33, "aws-us-east-1", None).await.expect_err("the agent is at work");
    until_done(async || b.go_on(33, "aws-us-east-1", None).await).await.expect("it is copied");
    world.pair.streams(A).await.expect("it streams");
    let aside = world.pair.servers[B].data().with_file_name("data.banyan-before-33");
    assert!(aside.join("PG_VERSION").is_file(), "what it had is kept");
    let reading = b.read().await.expect("a reading");
    assert_eq!((reading.role, world.rows(B, 7).await), (Role::Standby, 0));

    // The way back, with the right to rewind: it went its own way, and is rewound.
    let claim = banyan::stores::Fence { ballot: 49, follows: 17 };
    b.fence_standby(claim).await.expect("older sessions are ended");
    b.freeze(49).await.expect("it receives nothing more");
    let row = b.read().await.expect("a reading").row.map(|row| row.ballot);
    promote(&b, 49, row).await.expect("it is promoted");
    world.sql(A, "create table own_way as select * from generate_series(1, 1000)").await;
    until_done(async || a.follow(49, "gcp-us-central1", None).await).await.expect("it is rewound");
    world.pair.streams(B).await.expect("it streams");
    assert_eq!(world.value(A, "select coalesce(to_regclass('own_way')::text, 'gone')").await, "gone");
    assert!(!world.pair.servers[A].data().with_file_name("data.banyan-before-49").exists());

    for agent in [&at_a, &at_b] {
        let order = Order { id: "end".to_owned(), ballot: 65, action: Action::Shutdown };
        let begin = Instant::now();
        while agent.order(&order).await.expect("an answer").state != State::Done {
            assert!(begin.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// `pg_rewind` of PostgreSQL 15 and before looks at the last checkpoint of the source, which knows nothing of a promotion
/// that came after it.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_primary_is_rewound_though_the_new_one_was_promoted_just_now() {
    let Some(world) = world().await else { return };
    let issuer = issuer().expect("an issuer");
    let (_, at_a) = agent(&world, A, true, &issuer).await;
    let a = store(&world, A, &at_a);
    let (there, here) = world.seen_from_b();
    let mut session = here.session().await.expect("a session");
    let fenced = there.fence(claim(17)).await.expect("it is closed");
    caught_up(&here, 17, fenced.position).await;
    session.promote(Promotion { ballot: 17, row: Some(17) }).await.expect("it is promoted");
    // The log of the old one goes on for a moment, as it does by itself every few seconds.
    world.sql(A, "select pg_switch_wal()").await;
    let timeline = Some(world.timeline(B).await);
    let checkpoint = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        world.sql(B, "checkpoint").await;
    };
    let follows = until_done(async || a.follow(17, "gcp-us-central1", timeline).await);
    let (followed, ()) = tokio::join!(follows, checkpoint);
    followed.expect("it follows");
    world.sql(B, "create table news (one int)").await;
    let begin = Instant::now();
    while world.value(A, "select to_regclass('news')::text").await != "news" {
        assert!(begin.elapsed() < PATIENCE, "what is written at the new primary does not arrive");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
