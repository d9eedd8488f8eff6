use super::*;
use crate::authority::known::{Knowledge, Known, StoreShows};

fn known() -> Knowledge {
    let standby = StoreShows { open: true, ..StoreShows::default() };
    let stores = ["db", "log"].map(|name| (name.to_owned(), Known::Read(standby.clone())));
    Knowledge { own: None, peers: Vec::new(), witness: None, stores: stores.into(), ..Knowledge::default() }
}

fn of(known: &Knowledge) -> Of<'_> {
    Of {
        site: "gcp",
        source: "aws",
        name: "move",
        planned: false,
        ballot: 17,
        known,
        required: &[],
        optional: &[],
    }
}

fn pool(name: &str, nodes: u32) -> Pool {
    let restore = format!("scale {name} to {nodes}");
    Pool { name: name.to_owned(), nodes, most: 9, restore, ..Pool::default() }
}

fn nodes(pools: Vec<Pool>, left: u32) -> Nodes {
    Nodes { cluster: "cluster prod".to_owned(), called: "node groups", pools, left, others: Vec::new() }
}

fn waits() -> Wait {
    let message = format!("db at aws: no answer within 5 s; look. {SAY_SO}");
    Wait { reason: "NotFenced", message, next: Some(command(ASSERT, "move")) }
}

fn look(mode: NodePools, asked: Asked, status: &mut FailoverStatus) -> Result<String, Wait> {
    look_at(100, mode, asked, status)
}

/// So many seconds after the fence was begun.
fn look_at(second: i64, mode: NodePools, asked: Asked, status: &mut FailoverStatus) -> Result<String, Wait> {
    let at = |second| Timestamp::from_second(second).expect("a time");
    status::begin(status, Step::Fence, at(0));
    match looked(&of(&known()), (mode, waits()), asked, status, at(second)) {
        Done::Yes(words) => Ok(words),
        Done::NotYet(wait) => Err(wait),
        Done::Again => panic!("it is decided"),
    }
}

fn level(status: &FailoverStatus, name: &str) -> Option<FenceLevel> {
    status.stores.iter().find(|store| store.name == name)?.level
}

#[test]
fn all_that_is_not_closed_otherwise_is_closed_once_no_node_is_left() {
    let mut status = FailoverStatus::default();
    status::store(&mut status, "log").level = Some(FenceLevel::StoreAcknowledged);
    let words = look(NodePools::Confirm, Ok(nodes(vec![pool("blue", 0)], 0)), &mut status).expect("it is so");
    assert!(words.ends_with("so nobody writes to db at aws"), "{words}");
    assert_eq!(level(&status, "db"), Some(FenceLevel::Stopped));
    assert_eq!(level(&status, "log"), Some(FenceLevel::StoreAcknowledged));
    let db = &status.stores[1];
    assert!(db.evidence.as_ref().is_some_and(|words| words.contains("no machine of it is left")));
    assert_eq!(db.complete, None, "what it had acknowledged is not known");
}

#[test]
fn what_is_not_certain_closes_nothing_and_asks_a_person() {
    let other = Other::new("GKE says: it answers with 500", "wait");
    let mut fargate = nodes(vec![pool("blue", 0)], 0);
    fargate.others.push(Other::new("pods may run on Fargate", "delete the profile"));
    for asked in [Err(other), Ok(fargate), Ok(nodes(vec![pool("blue", 2)], 2)), Ok(nodes(Vec::new(), 0))] {
        let mut status = FailoverStatus::default();
        let wait = look(NodePools::Confirm, asked.clone(), &mut status).expect_err("it is not known");
        assert_eq!((wait.reason, wait.next), ("NotFenced", Some(command(ASSERT, "move"))), "{asked:?}");
        let whole = wait.message.starts_with("db at aws: no answer within 5 s; look. ");
        assert!(whole && wait.message.ends_with(SAY_SO), "{}", wait.message);
        assert_eq!(level(&status, "db"), None, "{asked:?}");
    }
}

#[test]
fn machines_that_are_still_there_are_waited_for() {
    let mut status = FailoverStatus::default();
    let wait =
        look(NodePools::Confirm, Ok(nodes(vec![pool("blue", 0)], 2)), &mut status).expect_err("two are left");
    assert_eq!(wait.reason, "NodesStopping");
    assert_eq!(wait.message, "the node groups of cluster prod are at zero, and 2 machines of it are left");
}

#[test]
fn sizes_are_noted_before_anything_is_stopped_and_only_once() {
    let mut status = FailoverStatus::default();
    let found = nodes(vec![pool("blue", 3), pool("green", 0)], 3);
    look(NodePools::Stop, Ok(found.clone()), &mut status).expect("they are to be stopped");
    let record = status.nodes.clone().expect("it is noted");
    assert_eq!((record.pools[0].nodes, record.pools[0].restore.as_deref()), (3, Some("scale blue to 3")));
    assert_eq!((record.pools[1].at_zero, record.pools[1].restore.as_deref()), (true, None));
    let wanted = to_stop(&found, &status).expect("one is");
    assert_eq!(wanted, [pool("blue", 3)]);
    let unknown = nodes(vec![pool("red", 3)], 3);
    assert_eq!(to_stop(&unknown, &status), Ok(Vec::new()), "its size is not noted");
    let known = known();
    let done = vec![("blue".to_owned(), Ok(()))];
    let Done::NotYet(wait) = stopped(&of(&known), Ok(done), &mut status) else { panic!("it takes its time") };
    assert_eq!(
        (wait.reason, wait.message.as_str()),
        ("NodesStopping", "the nodes of cluster prod are scaled to zero: blue")
    );
    look(NodePools::Stop, Ok(nodes(vec![pool("blue", 0), pool("green", 0)], 3)), &mut status)
        .expect_err("they leave");
    let record = status.nodes.clone().expect("it is noted");
    assert_eq!((record.pools[0].nodes, record.pools[0].at_zero), (3, true));
}

#[test]
fn nodes_are_not_stopped_before_the_databases_had_their_time_to_be_closed() {
    let mut status = FailoverStatus::default();
    let found = || Ok(nodes(vec![pool("blue", 3)], 3));
    let wait = look_at(29, NodePools::Stop, found(), &mut status).expect_err("it is too early");
    assert_eq!((wait.reason, wait.next), ("NodesStopping", Some(command(ASSERT, "move"))));
    let whole = wait.message.starts_with("db at aws: no answer within 5 s; look. Its cloud: the node groups");
    assert!(
        whole && wait.message.ends_with("at 00:00:30 UTC, unless its databases are closed before"),
        "{}",
        wait.message
    );
    assert_eq!(status.nodes.as_ref().and_then(|nodes| nodes.due), None);
    look_at(30, NodePools::Stop, found(), &mut status).expect("it is time");
    assert_eq!(status.nodes.as_ref().and_then(|nodes| nodes.due), Some(true));
    look_at(99, NodePools::Confirm, found(), &mut status).expect_err("a person is asked");
}

#[test]
fn what_cannot_be_stopped_says_why_and_is_looked_at_again_first() {
    let mut status = FailoverStatus::default();
    look(NodePools::Stop, Ok(nodes(vec![pool("blue", 3)], 3)), &mut status).expect("they are to be stopped");
    let why = Other::new(
        "Amazon EKS says: the credentials may not do this (403)",
        "allow eks:UpdateNodegroupConfig",
    );
    let known = known();
    let done = Ok(vec![("blue".to_owned(), Err(why))]);
    let Done::NotYet(wait) = stopped(&of(&known), done, &mut status) else { panic!("it waits") };
    assert!(wait.message.contains("allow eks:UpdateNodegroupConfig"), "{}", wait.message);
    assert!(status.nodes.as_ref().is_some_and(|nodes| nodes.error.is_some() && !nodes.pools[0].at_zero));
    look(NodePools::Stop, Ok(nodes(vec![pool("blue", 3)], 3)), &mut status).expect("once more");
    assert!(status.nodes.is_some_and(|nodes| nodes.error.is_none()));
    // What can never be confirmed is not stopped.
    let mut status = FailoverStatus::default();
    let mut fargate = nodes(vec![pool("blue", 3)], 3);
    fargate.others.push(Other::new("pods may run on Fargate", "delete the profile"));
    look(NodePools::Stop, Ok(fargate.clone()), &mut status).expect_err("a person is asked");
    assert!(to_stop(&fargate, &status).is_err());
}

#[test]
fn nodes_that_are_back_before_the_commit_open_the_source_again() {
    let stood = || {
        let mut status = FailoverStatus::default();
        look(NodePools::Confirm, Ok(nodes(vec![pool("blue", 0)], 0)), &mut status).expect("all are gone");
        let db = status::store(&mut status, "db");
        (db.frozen, db.lag_millis) = (Some("0/30".to_owned()), Some(4000));
        status
    };
    let known = known();
    let mut status = stood();
    assert!(still_gone(&of(&known), Ok(nodes(vec![pool("blue", 0)], 0)), &mut status).is_none());
    assert!(rests_on_it(&status));
    // What is not told takes nothing back, and holds the commit.
    let silent = Err(Other::new("no answer", "wait"));
    let held = still_gone(&of(&known), silent, &mut status);
    assert!(matches!(held, Some(Done::NotYet(wait)) if wait.reason == "NotFenced") && rests_on_it(&status));
    for back in [nodes(vec![pool("blue", 1)], 0), nodes(vec![pool("blue", 0)], 1)] {
        let mut status = stood();
        let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        let (by, words) = ("anna".to_owned(), "behind 0/30".to_owned());
        status.accepted_loss = Some(crate::api::failover::Statement { by, words, at });
        let held = still_gone(&of(&known), Ok(back), &mut status);
        assert_eq!(status.accepted_loss, None, "it was accepted of a source that stood still");
        assert!(matches!(held, Some(Done::NotYet(wait)) if wait.message.starts_with("aws has nodes again")));
        let db = status.stores.iter().find(|store| store.name == "db").expect("it is there");
        assert_eq!((db.level, &db.frozen, db.lag_millis), (None, &None, None), "it may have been written to");
    }
}
