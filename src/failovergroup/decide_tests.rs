//! Scenarios of standing readiness: each check turns, says the right sentence, and turns back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::api::cloudcluster::WayKind;
use crate::api::operations::Residency;
use crate::api::schema::beyond_bounds;
use crate::api::{FailoverGroupSpec, Problem};
use crate::authority::known::{Knowledge, Known};
use crate::cloudcluster::peer_error::PeerError;
use crate::cloudcluster::sites::Described;
use crate::cloudcluster::view::{Amount, NodesView, PeerView, WayView};
use crate::dns::Finding;
use crate::failovergroup::facts::{ServiceFacts, Services};
use crate::failovergroup::index::{Asked, Group, GroupThere, Own, Traffic};
use crate::failovergroup::observe::{PeerSeen, digest};
use crate::failovergroup::status;
use crate::runtime::key::Key;
use crate::stores::position::Position;
use crate::stores::reading::{Archive, Heartbeat, Reading, Role, Row, Upstream};

const NOW: i64 = 1_795_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a time")
}

fn spec(change: impl FnOnce(&mut Value)) -> FailoverGroupSpec {
    let mut spec = json!({
        "sites": ["aws", "gcp"], "initialSite": "aws", "residency": "US",
        "services": {"namespaces": ["pay"]},
        "stores": [{"name": "ledger", "maxLag": "30s", "postgres": {"roles": ["app"], "sites": {
            "aws": {"host": "db.aws", "credentials": {"secretRef": {"name": "a"}}},
            "gcp": {"host": "db.gcp", "credentials": {"secretRef": {"name": "g"}}},
        }}}],
        "traffic": {"hosts": ["api.example"], "cloudflare": {"account": "0".repeat(32), "zone": "1".repeat(32),
            "loadBalancer": "2".repeat(32), "token": {"secretRef": {"name": "t"}}}},
        "witness": {"objectStore": {"url": "s3://w/pay", "endpoint": "https://w.example"}},
        "checks": [{"name": "acquirer", "tcp": {"host": "acquirer.example", "port": 443}}],
    });
    change(&mut spec);
    serde_json::from_value(spec).expect("a spec")
}

fn facts() -> ServiceFacts {
    ServiceFacts {
        placed: Some(vec!["aws".into(), "gcp".into()]),
        residency: Some(Residency::US),
        release: Some("pay/ledger:1".into()),
        asked: "pay/ledger:1".into(),
        ready: Some(Ok(())),
        pods: 4,
        asks: (500, 512),
        ..ServiceFacts::default()
    }
}

fn services() -> Services {
    [(Key::new("pay", "ledger"), facts())].into()
}

fn reading(role: Role) -> Reading {
    let standby = role == Role::Standby;
    Reading {
        measured_at: now(),
        server_time: now(),
        version: "15.4".into(),
        role,
        system: 7,
        timeline: 1,
        position: Some(Position(500)),
        replayed: standby.then_some(Position(500)),
        upstream: standby.then(|| Upstream {
            host: Some("db.aws".into()),
            port: Some(5432),
            streaming: true,
            heard: Some(Duration::ZERO),
            sender_end: Some(Position(500)),
        }),
        downstream: Vec::new(),
        waits_for: String::new(),
        can_rewind: true,
        archive: Archive::default(),
        row: None::<Row>,
        heartbeat: Some(Heartbeat { site: "aws".into(), at: now() }),
        open_roles: vec!["app".into()],
        unlisted_writers: Vec::new(),
        superusers: Vec::new(),
        frozen: false,
        problems: Vec::new(),
    }
}

pub(super) fn authority(holder: &str) -> crate::api::AuthoritySpec {
    crate::api::AuthoritySpec {
        epoch: 16,
        holders: vec![holder.to_owned()],
        promoted: (holder == "gcp").then_some(16),
        ..crate::api::AuthoritySpec::default()
    }
}

fn way(kind: WayKind, why: Option<PeerError>) -> WayView {
    let reachable = Some(why.is_none());
    WayView { kind, reachable, since: now(), why: why.unwrap_or(PeerError::NotYet) }
}

fn peak() -> Peak {
    let hour = NOW / 3600;
    let hours =
        vec![crate::api::failovergroup::PeakHour { hour, cpu_millis: 4000, memory_mib: 4096, pods: 8 }];
    Peak { hours }
}

/// The standby gcp, to which all is well.
pub(super) fn well() -> Observed {
    let spec = spec(|_| ());
    let amount = |cpu, gib: i64| Amount { cpu, memory: gib << 30 };
    let nodes = NodesView {
        ready: 6,
        total: 6,
        allocatable: amount(24_000, 96),
        requested: Some(amount(2_000, 2)),
        at: now(),
    };
    let described = |residency| Described {
        residency: vec![residency],
        gateway: Some("https://gw.example".into()),
        kinds: vec![],
    };
    let own = authority("aws");
    let stores = [("aws", Role::Primary), ("gcp", Role::Standby)];
    let stores =
        stores.map(|(site, role)| (("ledger".to_owned(), site.to_owned()), Ok(Arc::new(reading(role)))));
    let digest = digest(&spec);
    let view = PeerView {
        reachable: Some(true),
        silent: false,
        since: now(),
        ways: vec![way(WayKind::Kubeconfig, None), way(WayKind::Eks, None)],
        chosen: 0,
        version: None,
        nodes: None,
        uncounted: None,
    };
    Observed {
        site: "gcp".into(),
        name: "payments".into(),
        group: Some(Group {
            metadata: serde_json::from_value(json!({"name": "payments", "generation": 3})).expect("metadata"),
            spec: Ok(spec),
            status: Some(crate::api::FailoverGroupStatus { peak: Some(peak()), ..Default::default() }),
        }),
        own: Some(Own { metadata: Default::default(), spec: Ok(own.clone()), status: None, foreign: vec![] }),
        knowledge: Knowledge {
            own: Some(own.clone()),
            peers: vec![("aws".into(), Known::Read(Some(own)))],
            witness: Some(Known::Read(Vec::new())),
            stores: Vec::new(),
            ..Knowledge::default()
        },
        peers: vec![PeerSeen {
            intake: None,
            name: "aws".into(),
            view: Some(view),
            group: GroupThere::Asks(digest.clone()),
            services: Some(services()),
        }],
        digest,
        described: Arc::new(BTreeMap::from([
            ("aws".to_owned(), described(Residency::US)),
            ("gcp".to_owned(), described(Residency::US)),
        ])),
        services: services(),
        shared: Vec::new(),
        asked: Asked {
            stores: stores.into(),
            witness: Some(Ok(BTreeMap::new())),
            traffic: Some(Traffic::default()),
            own: [("acquirer".to_owned(), (now(), Ok(())))].into(),
            ..Asked::default()
        },
        nodes: Some(nodes),
        measured: None,
    }
}

pub(super) fn decided(seen: &Observed) -> Decision {
    decide(seen, now()).expect("a group")
}

pub(super) fn change_spec(seen: &mut Observed, change: impl FnOnce(&mut Value)) {
    let group = seen.group.as_mut().expect("a group");
    group.spec = Ok(spec(change));
    seen.digest = digest(group.spec.as_ref().expect("a spec"));
    seen.peers[0].group = GroupThere::Asks(seen.digest.clone());
}

pub(super) fn change_store(seen: &mut Observed, site: &str, change: impl FnOnce(&mut Reading)) {
    let store = seen.asked.stores.get_mut(&("ledger".to_owned(), site.to_owned())).expect("a store");
    let mut reading = (**store.as_ref().expect("a reading")).clone();
    change(&mut reading);
    *store = Ok(Arc::new(reading));
}

fn service(seen: &mut Observed) -> &mut ServiceFacts {
    seen.services.get_mut(&Key::new("pay", "ledger")).expect("a service")
}

#[test]
fn where_all_is_well_a_failover_could_be_ordered() {
    let decision = decided(&well());
    let bad: Vec<_> = decision.checks.iter().filter(|found| found.state != CheckState::Passed).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(decision.standing.ready.state, State::True);
    assert_eq!((decision.protected.state, decision.protected.reason), (State::True, "Follows"));
    let steps = decision.plan.expect("a plan").steps;
    assert_eq!(steps.len(), 10);
    assert!(steps.iter().all(|step| step.would_hold.is_empty()), "{steps:?}");
}

#[test]
fn a_status_settles_and_stays_within_its_bounds() {
    let mut seen = well();
    let first = status::group(&seen, decided(&seen), now());
    assert_eq!(beyond_bounds("FailoverGroup", &first), Vec::<String>::new());
    seen.group.as_mut().expect("a group").status = Some(first.clone());
    let later = now().saturating_add(jiff::SignedDuration::from_secs(20)).expect("a time");
    let again = status::group(&seen, decide(&seen, later).expect("a group"), later);
    assert!(status::same_group(&first, &again), "{first:#?}\n{again:#?}");
    let of_authority = status::authority(&seen, &decided(&seen).authority.expect("a decision"), now());
    assert_eq!(beyond_bounds("Authority", &of_authority), Vec::<String>::new());
}

type Change = Box<dyn Fn(&mut Observed)>;

/// What goes wrong, which check says so, in which state, and the words.
fn cases() -> Vec<(&'static str, CheckState, &'static str, Change)> {
    use CheckState::{Failed, Unknown, Warning};
    let case =
        |name, state, words, change: fn(&mut Observed)| (name, state, words, Box::new(change) as Change);
    let timeout = || PeerError::timeout(Duration::from_secs(5));
    let mut cases = vec![
        case("authority", Failed, "shows epoch 33", |seen| seen.knowledge.record = Some(Known::Read(33))),
        case("git", Failed, "argocd-controller writes Authority payments too", |seen| {
            seen.own.as_mut().expect("one").foreign = vec!["argocd-controller".into()];
        }),
        case("peer aws", Failed, "no CloudCluster aws says", |seen| seen.peers[0].view = None),
        case("group at aws", Unknown, "have not been read", |seen| seen.peers[0].group = GroupThere::NotRead),
        case("group at aws", Failed, "there is no FailoverGroup payments at aws", |seen| {
            seen.peers[0].group = GroupThere::Absent
        }),
        case("group at aws", Failed, "asks for something else at aws", |seen| {
            seen.peers[0].group = GroupThere::Asks("other".into());
        }),
        case("residency", Failed, "data of US may not be kept at gcp", |seen| {
            let mut described = (*seen.described).clone();
            described.get_mut("gcp").expect("it").residency = vec![Residency::EU];
            seen.described = Arc::new(described);
        }),
        case("residency", Unknown, "nobody has said what data gcp may keep", |seen| {
            let mut described = (*seen.described).clone();
            described.remove("gcp");
            seen.described = Arc::new(described);
        }),
        case("witness", Unknown, "has not been asked", |seen| seen.asked.witness = None),
        case("witness", Failed, "cannot be read", |seen| {
            seen.asked.witness = Some(Err(("the witness cannot be read: no answer".into(), "see".into())));
        }),
        case("witness's ground", Warning, "one of the two clouds", |seen| {
            seen.asked.witness_ground =
                Some(Problem::warning("spec", "the witness stands in one of the two clouds", "move it"));
        }),
        case("services", Failed, "holds no FinService", |seen| seen.services.clear()),
        case("services", Failed, "Secret db does not exist", |seen| {
            service(seen).error =
                Some(("Secret db does not exist, so pods cannot start".into(), "Create Secret db.".into()));
        }),
        case("services", Failed, "2 of 4 pods are Ready", |seen| {
            service(seen).ready = Some(Err("2 of 4 pods are Ready".into()));
        }),
        case("placement", Failed, "pay/ledger not at aws", |seen| {
            service(seen).placed = Some(vec!["gcp".into()])
        }),
        case("one group each", Failed, "pay/ledger with edge", |seen| {
            seen.shared = vec![(Key::new("pay", "ledger"), "edge".into())];
        }),
        case("residency of services", Failed, "pay/ledger (EU)", |seen| {
            service(seen).residency = Some(Residency::EU)
        }),
        case("releases at aws", Failed, "pay/ledger (pay/ledger:2 here, pay/ledger:1 at aws)", |seen| {
            service(seen).release = Some("pay/ledger:2".into());
        }),
        case("releases at aws", Failed, "pay/other only at aws", |seen| {
            let there = seen.peers[0].services.as_mut().expect("services");
            there.insert(Key::new("pay", "other"), facts());
        }),
        case("releases at aws", Unknown, "have not been read", |seen| seen.peers[0].services = None),
        case("capacity", Unknown, "at its peak", |seen| {
            seen.group.as_mut().expect("it").status = None;
            seen.peers[0].services = None;
        }),
        case("capacity", Unknown, "have not been counted", |seen| seen.nodes = None),
        case("capacity", Failed, "no room for 80 %", |seen| {
            seen.nodes.as_mut().expect("nodes").allocatable.cpu = 3_000
        }),
        case("capacity", Warning, "room for 80 %", |seen| {
            seen.nodes.as_mut().expect("nodes").allocatable.cpu = 3_500
        }),
        case("store ledger at aws", Unknown, "has not been asked", |seen| {
            seen.asked.stores.remove(&("ledger".into(), "aws".into()));
        }),
        case("store ledger at gcp", Failed, "a fence would not close: report", |seen| {
            change_store(seen, "gcp", |reading| reading.unlisted_writers = vec!["report".into()]);
        }),
        case("store ledger at gcp", Warning, "could not be rewound", |seen| {
            change_store(seen, "gcp", |reading| reading.can_rewind = false);
        }),
        case("store ledger at gcp", Failed, "may not end sessions", |seen| {
            let problem =
                Problem::error("spec", "the role may not end sessions", "GRANT pg_signal_backend TO banyan;");
            change_store(seen, "gcp", |reading| reading.problems = vec![problem]);
        }),
        case("store ledger", Failed, "accepts writes at aws and at gcp", |seen| {
            change_store(seen, "gcp", |reading| reading.role = Role::Primary);
        }),
        case("lag of ledger at gcp", Failed, "behind by more than 30s", |seen| {
            change_store(seen, "gcp", |reading| {
                reading.server_time =
                    reading.server_time.saturating_add(jiff::SignedDuration::from_secs(45)).expect("a time");
            });
        }),
        case("lag of ledger at gcp", Unknown, "last measured", |seen| {
            change_store(seen, "gcp", |reading| {
                reading.measured_at =
                    reading.measured_at.saturating_sub(jiff::SignedDuration::from_secs(90)).expect("a time");
            });
        }),
        case("lag of ledger at gcp", Unknown, "no heartbeat", |seen| {
            change_store(seen, "gcp", |reading| reading.heartbeat = None);
        }),
        case("lag of ledger at gcp", Failed, "receives nothing", |seen| {
            change_store(seen, "gcp", |reading| reading.upstream = None);
        }),
        case("ancestry of ledger at gcp", Failed, "system identifiers differ", |seen| {
            change_store(seen, "gcp", |reading| reading.system = 8);
        }),
        case("ancestry of ledger at gcp", Failed, "writes that aws never had", |seen| {
            change_store(seen, "gcp", |reading| (reading.timeline, reading.upstream) = (2, None));
        }),
        case("archive of ledger at gcp", Failed, "by the same command", |seen| {
            let archive = Archive { archives: true, archive: Some("cp %p /wal/%f".into()), restore: None };
            change_store(seen, "aws", |reading| reading.archive = archive.clone());
            change_store(seen, "gcp", |reading| reading.archive = archive);
        }),
        case("traffic", Unknown, "has not been asked", |seen| seen.asked.traffic = None),
        case("traffic", Unknown, "traffic moves all the same", |seen| {
            let failed = Some("reading pools: it answers with 500".to_owned());
            seen.asked.traffic = Some(Traffic { failed, ..Traffic::default() });
        }),
        case("traffic", Warning, "what was read last counts", |seen| {
            let failed = "reading pools: it answers with 503".to_owned();
            seen.asked.traffic =
                Some(Traffic::unreadable(Some(Traffic { read: true, ..Traffic::default() }), failed));
        }),
        case("traffic PoolMissing", Failed, "no pool", |seen| {
            let problem = Problem::error("spec.traffic", "there is no pool for gcp", "make it");
            let findings = vec![Finding { reason: "PoolMissing", problem }];
            let before = Traffic { findings, read: true, ..Traffic::default() };
            seen.asked.traffic = Some(Traffic::unreadable(Some(before), "it answers with 503".to_owned()));
        }),
        case("traffic PoolMissing", Failed, "no pool", |seen| {
            let problem = Problem::error("spec.traffic", "there is no pool for gcp", "make it");
            seen.asked.traffic = Some(Traffic {
                findings: vec![Finding { reason: "PoolMissing", problem }],
                ..Traffic::default()
            });
        }),
        case("gateways", Warning, "no gateway is said for gcp", |seen| {
            let mut described = (*seen.described).clone();
            described.get_mut("gcp").expect("it").gateway = None;
            seen.described = Arc::new(described);
        }),
        case("check acquirer", Unknown, "has not been made", |seen| seen.asked.own.clear()),
        case("check acquirer", Failed, "does not answer from this site: no answer", |seen| {
            seen.asked.own.insert("acquirer".into(), (now(), Err("no answer within 5 s".into())));
        }),
        case("check acquirer", Unknown, "for a long time", |seen| {
            let then = now().saturating_sub(jiff::SignedDuration::from_hours(1)).expect("a time");
            seen.asked.own.insert("acquirer".into(), (then, Ok(())));
        }),
    ];
    cases.push((
        "peer aws by eks",
        Warning,
        "is not reached this way",
        Box::new(move |seen| {
            seen.peers[0].view.as_mut().expect("a view").ways[1] = way(WayKind::Eks, Some(timeout()));
        }),
    ));
    cases.push((
        "peer aws by kubeconfig",
        Failed,
        "aws is not reached: no answer within 5 s",
        Box::new(move |seen| {
            let view = seen.peers[0].view.as_mut().expect("a view");
            view.reachable = Some(false);
            view.ways.iter_mut().for_each(|one| *one = way(one.kind, Some(timeout())));
        }),
    ));
    cases
}

#[test]
fn each_check_turns_and_says_why() {
    for (name, state, words, change) in cases() {
        let mut seen = well();
        change(&mut seen);
        let decision = decided(&seen);
        let found = decision.checks.iter().find(|found| found.name == name);
        let found =
            found.unwrap_or_else(|| panic!("{name}: there is no such check in {:#?}", decision.checks));
        assert_eq!(found.state, state, "{name}: {found:?}");
        let message = if words == "traffic moves all the same" { &found.remedy } else { &found.message };
        assert!(message.contains(words), "{name}: {found:?}");
        assert!(!found.remedy.is_empty(), "{name}: a remedy is missing");
        let ready = decision.standing.ready.state;
        let expected = match state {
            CheckState::Warning | CheckState::Passed => State::True,
            _ => ready,
        };
        assert_eq!(ready, expected, "{name}");
        assert!(state >= CheckState::Warning || ready != State::True, "{name}: Ready all the same");
    }
}

#[test]
fn what_is_not_protected_is_named() {
    let mut seen = well();
    change_store(&mut seen, "gcp", |reading| reading.upstream = None);
    let protected = decided(&seen).protected;
    assert_eq!((protected.state, protected.message.as_str()), (State::False, "no standby follows: ledger"));
    let mut without = well();
    change_spec(&mut without, |spec| spec["stores"] = json!([]));
    assert_eq!(decided(&without).protected.state, State::True);
}

#[test]
fn who_has_authority_checks_what_can_be_seen_from_there() {
    let mut seen = well();
    let own = authority("gcp");
    seen.own.as_mut().expect("one").spec = Ok(own.clone());
    seen.knowledge.own = Some(own);
    seen.knowledge.peers[0].1 = Known::Read(None);
    let decision = decided(&seen);
    let names: Vec<&str> = decision.checks.iter().map(|found| found.name.as_str()).collect();
    assert!(!names.contains(&"capacity") && !names.contains(&"check acquirer"), "{names:?}");
    assert!(decision.standing.ready.message.contains("this site has authority"));
}

#[test]
fn another_groups_sites_and_what_cannot_be_read_are_told() {
    let mut seen = well();
    change_spec(&mut seen, |spec| spec["sites"] = json!(["aws", "azure"]));
    let decision = decided(&seen);
    assert_eq!(decision.standing.ready.reason, "OtherSites");
    assert!(decision.authority.is_none() && decision.checks.is_empty());
    seen.group.as_mut().expect("it").spec = Err("spec.active: unknown variant `Two`".into());
    let decision = decided(&seen);
    assert_eq!(decision.standing.stalled.state, State::True);
    assert!(decision.standing.stalled.message.contains("spec.active"));
}

#[test]
fn an_answer_that_took_its_time_says_nothing_against_what_was_read_later() {
    let second = |second| now() + jiff::SignedDuration::from_secs(second);
    let read = |role, at| Ok(Arc::new(Reading { measured_at: second(at), ..reading(role) }));
    let key = || ("ledger".into(), "aws".into());
    let hear = |asked: &mut Asked, since, answer| asked.hear(key(), second(since), answer);
    let mut asked = Asked::default();
    hear(&mut asked, 5, read(Role::Primary, 5));
    let known = asked.clone();
    hear(&mut asked, 3, read(Role::Standby, 4));
    assert_eq!(asked, known);
    hear(&mut asked, 6, Err(crate::stores::StoreError::IsStandby));
    assert!(asked.stores.values().all(Result::is_err) && asked.primaries == known.primaries);
}
