//! What is read of a store, and what is said of what is missing.

use std::time::{Duration, Instant};

use banyan::api::Severity;
use banyan::runtime::remote::RemoteError;
use banyan::sandbox::postgres::OPERATOR;
use banyan::stores::postgres::{Credentials, Postgres};
use banyan::stores::reading::{Ancestry, Role, ancestry, lag};
use banyan::stores::{Store, StoreError};

use crate::world::{A, B, PATIENCE, claim, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_look_finds_what_is_there_and_takes_nothing_unknown_for_good() {
    let Some(world) = world().await else { return };
    let (there, here) = world.seen_from_b();
    let (primary, standby) = (there.read().await.expect("a reading"), here.read().await.expect("a reading"));
    println!("measured with PostgreSQL {}", primary.version);
    assert_eq!((primary.role, standby.role), (Role::Primary, Role::Standby));
    assert_eq!((primary.timeline, standby.timeline), (1, 1));
    assert_eq!(primary.system, standby.system);
    assert_eq!(ancestry(&primary, &standby), Ancestry::Follows);
    assert!(primary.can_rewind && standby.can_rewind);
    assert!(
        !primary.archive.archives && primary.archive.archive.is_none() && standby.archive.restore.is_none()
    );
    assert_eq!((&primary.problems, &standby.problems), (&Vec::new(), &Vec::new()));
    assert_eq!((primary.row, &primary.heartbeat), (None, &None));
    assert_eq!(primary.open_roles, ["app"]);
    let link = standby.upstream.clone().expect("it receives");
    assert!(link.streaming && link.port == Some(i32::from(world.pair.doors[A].port())), "{link:?}");
    assert_eq!(primary.downstream[0].name, "gcp-us-central1");
    // Without a heartbeat the lag in time is not known.
    assert_eq!(lag(None, &standby, standby.measured_at).time, None);

    there.beat("aws-us-east-1").await.expect("a heartbeat");
    let begin = Instant::now();
    let standby = loop {
        let standby = here.read().await.expect("a reading");
        if standby.heartbeat.is_some() {
            break standby;
        }
        assert!(begin.elapsed() < PATIENCE, "the heartbeat does not arrive");
    };
    assert_eq!(standby.heartbeat.as_ref().map(|beat| beat.site.as_str()), Some("aws-us-east-1"));
    assert_eq!(here.beat("gcp-us-central1").await, Err(StoreError::IsStandby));

    // Cut off, it lags by what it does not receive, and the heartbeat ages.
    world.pair.doors[A].refuse();
    let own = world.store(A, A);
    world.sql(A, "create table filler as select * from generate_series(1, 10000)").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (primary, standby) = (own.read().await.expect("a reading"), here.read().await.expect("a reading"));
    let behind = lag(Some(&primary), &standby, standby.measured_at);
    assert!(behind.bytes.is_some_and(|bytes| bytes > 100_000), "{behind:?}");
    assert!(behind.time.is_some_and(|time| time >= Duration::from_millis(300)), "{behind:?}");
    assert!(!standby.upstream.as_ref().is_some_and(|link| link.streaming));
    // Of its primary it knows nothing any more.
    let alone = lag(None, &standby, standby.measured_at);
    assert!(alone.bytes.is_none_or(|bytes| bytes == 0), "{alone:?}");
    let error = there.read().await.expect_err("it is cut off");
    assert!(matches!(error, StoreError::Remote(RemoteError::Unreachable(_))), "{error:?}");
    assert!(error.is_silence());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_our_role_lacks_is_said_with_the_words_to_type() {
    let Some(world) = world().await else { return };
    let (there, _) = world.seen_from_b();
    let revokes = [
        "alter role banyan nocreaterole",
        "revoke pg_monitor from banyan",
        "revoke pg_signal_backend from banyan",
        "revoke create on database postgres from banyan",
        "revoke execute on function pg_promote(boolean, integer) from banyan",
        "revoke execute on function pg_reload_conf() from banyan",
        "revoke alter system on parameter synchronous_standby_names from banyan",
        "revoke alter system on parameter primary_conninfo from banyan",
        "alter role app rename to app2",
        "alter role app superuser",
    ];
    for revoke in revokes {
        world.sql(A, revoke).await;
        if revoke.contains("pg_monitor") {
            // An empty list of sessions would be taken for a closed store.
            let error = there.fence(claim(17)).await.expect_err("it could not be proved");
            assert_eq!(error.reason(), "NotPrepared");
            assert!(error.remedy().ends_with("grant pg_monitor to \"banyan\";"), "{}", error.remedy());
            assert!(world.app(A).await.is_ok());
        }
        let problems = there.read().await.expect("a reading").problems;
        let errors: Vec<_> = problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
        assert_eq!(errors.len(), 1, "{revoke}: {problems:?}");
        let (_, typed) = errors[0].remedy.split_once(": ").expect("something to type");
        world.sql(A, typed).await;
        if revoke.contains("rename") {
            world.sql(A, "drop role app; alter role app2 rename to app").await;
        }
        let problems = there.read().await.expect("a reading").problems;
        assert_eq!(problems, Vec::new(), "{revoke}: {typed}");
    }

    // A server that cannot be rewound.
    for setting in ["full_page_writes"] {
        world.sql(A, &format!("alter system set {setting} = off")).await;
        world.sql(A, "select pg_reload_conf()").await;
        let begin = Instant::now();
        while there.read().await.expect("a reading").can_rewind {
            assert!(begin.elapsed() < PATIENCE, "it is not seen");
        }
        let problems = there.read().await.expect("a reading").problems;
        assert!(problems[0].remedy.contains("alter system set full_page_writes = on"), "{problems:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn why_nobody_answers_is_told_apart() {
    let Some(world) = world().await else { return };
    let spec = world.pair.spec(B, "ledger");
    let store = |spec: &banyan::api::store::Postgres, user: &str, password: &str| {
        let credentials = Credentials::new(user, password, None);
        Postgres::new(spec, "aws-us-east-1", "gcp-us-central1", credentials, "spec.stores[ledger].postgres")
    };
    let read = async |spec: &_, user: &str, password: &str| {
        store(spec, user, password).expect("a store").read().await.map(drop)
    };
    let unauthorized = Err(StoreError::Remote(RemoteError::Unauthorized));
    assert_eq!(read(&spec, OPERATOR, "planted-secret").await, unauthorized);
    assert_eq!(read(&spec, "nobody", "planted-secret").await, unauthorized);
    let with = |change: &dyn Fn(&mut banyan::api::store::PostgresSite)| {
        let mut spec = spec.clone();
        spec.sites.values_mut().for_each(change);
        spec
    };
    let password = world.pair.password();
    let elsewhere = with(&|site| site.database = Some("elsewhere".to_owned()));
    assert_eq!(read(&elsewhere, OPERATOR, password).await, Err(StoreError::Remote(RemoteError::NotFound)));
    let nobody = with(&|site| site.port = Some(1));
    assert_eq!(read(&nobody, OPERATOR, password).await, Err(StoreError::Remote(RemoteError::NobodyListens)));
    let problem = store(&spec, "app", password).expect_err("it would lock itself out");
    assert!(problem.message.contains("would lock the operator out"), "{problem:?}");

    // Nothing that is printed holds the password.
    let store = store(&spec, OPERATOR, "planted-secret").expect("a store");
    let error = store.read().await.expect_err("a wrong password");
    let printed = format!("{store:?} {error:?} {error} {}", error.remedy());
    assert!(printed.contains(OPERATOR) && !printed.contains("planted-secret"), "{printed}");
}
