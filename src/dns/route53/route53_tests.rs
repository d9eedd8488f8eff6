use std::collections::BTreeMap;
use std::time::Instant;

use axum::http::Method;

use super::records::RecordSet;
use super::*;
use crate::api::traffic::{RecordType, Route53Record, Route53Target};
use crate::dns::plan::Refusal;
use crate::dns::problems::problems;
use crate::dns::stands::{Health, Weight};
use crate::dns::testing::{LONG, Log, PATIENCE, SHORT, Site, shared, until, wanted};
use crate::sandbox::ends::route53::{Route53End, Route53Options};
use crate::sandbox::ends::server::{Asked, Fault};

#[path = "pod_tests.rs"]
mod pod;
#[path = "turns_tests.rs"]
mod turns;

const HOST: &str = "api.finflow.example";
const SECRET: &str = "planted/secret+of+aws";
const QUICK: (Duration, Duration) = (PATIENCE, Duration::from_millis(20));

/// Two sites, of which aws has authority, and all that stands at Route 53 for them.
struct World {
    sites: [Site; 2],
    end: Route53End,
    wanted: Wanted,
    provider: Route53,
    /// The same, which soon gives up.
    impatient: Route53,
    traffic: Route53Traffic,
}

fn keys(id: &str, secret: &str) -> AccessKeys {
    AccessKeys { id: id.to_owned(), secret: Hidden::new(secret), session: None }
}

fn to(address: &str) -> Route53Target {
    Route53Target { a: Some(vec![address.to_owned()]), ..Route53Target::default() }
}

async fn within(deadline: Duration, traffic: &Route53Traffic, endpoint: &str) -> Route53 {
    let keys = keys("AKIAEXAMPLE", SECRET);
    Route53::with_deadline(traffic, Some(&keys), Some(endpoint), deadline, QUICK).await
}

async fn provider(traffic: &Route53Traffic, endpoint: &str) -> Route53 {
    within(LONG, traffic, endpoint).await
}

async fn bare(options: Route53Options) -> World {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let sites = [Site::start("aws", true).await, Site::start("gcp", false).await];
    let known = [("AKIAEXAMPLE", SECRET), ("AKIAREADER", "reader")];
    let keys: BTreeMap<_, _> = known.map(|(id, secret)| (id.to_owned(), secret.to_owned())).into();
    let end = Route53End::start(Route53Options { keys, ..options.clone() }).await.expect("the end");
    let traffic = Route53Traffic {
        zone_id: options.zone_id,
        records: vec![Route53Record { name: HOST.to_owned(), kind: RecordType::A, ttl: None }],
        targets: [("aws".to_owned(), to("192.0.2.1")), ("gcp".to_owned(), to("192.0.2.2"))].into(),
        fallback: Some(to("192.0.2.99")),
        ..Route53Traffic::default()
    };
    let provider = provider(&traffic, &end.served.url()).await;
    let impatient = within(SHORT, &traffic, &end.served.url()).await;
    World { wanted: wanted(Some(16), &sites), sites, end, provider, impatient, traffic }
}

async fn world() -> World {
    // Small pages, so that lists have several.
    let world = bare(Route53Options { page: 2, ..Route53Options::default() }).await;
    world.provider.ensure(&world.wanted).await.expect("all is made");
    world.provider.apply(&world.wanted).await.expect("the mark stands");
    world.end.served.desk.take();
    world
}

fn is_write(asked: &Asked) -> bool {
    asked.method == Method::POST
}

fn text(name: &str, value: &str) -> RecordSet {
    let (kind, values) = ("TXT".to_owned(), vec![format!("\"{value}\"")]);
    RecordSet { name: name.to_owned(), kind, ttl: Some(60), values, ..RecordSet::default() }
}

impl World {
    /// Who waits as long as that fault needs.
    fn asks(&self, fault: &Fault) -> &Route53 {
        if *fault == Fault::Silence { &self.impatient } else { &self.provider }
    }

    fn resolved(&self) -> Vec<String> {
        let all = self.end.resolve(HOST, "A");
        let values = all.into_iter().filter_map(|record| record.resource_records);
        values.flat_map(|values| values.resource_record).map(|value| value.value).collect()
    }

    async fn make(&self, sets: impl IntoIterator<Item = RecordSet>) {
        let edits: Vec<Edit> = sets.into_iter().map(Edit::Create).collect();
        self.provider.client.change(&edits, "by somebody else").await.expect("a batch");
    }

    async fn reasons(&self) -> Vec<&'static str> {
        let stands = self.provider.read(&self.wanted).await.expect("what stands");
        problems(&stands, &self.wanted, None).iter().map(|finding| finding.reason).collect()
    }
}

#[tokio::test]
async fn what_is_missing_is_made_once_and_nothing_else_is_touched() {
    let world = bare(Route53Options { page: 2, ..Route53Options::default() }).await;
    let before = Wanted { epoch: None, ..world.wanted.clone() };
    let made = world.provider.ensure(&before).await.expect("all is made");
    assert_eq!(made.len(), 5, "{made:?}");
    let (records, checks) = (world.end.records(), world.end.checks());
    assert_eq!((records.len(), checks.len()), (3, 2));
    assert_eq!(world.provider.ensure(&before).await, Ok(Vec::new()));
    assert_eq!(world.provider.apply(&before).await.expect("nothing").requests, 0);
    assert_eq!((world.end.records(), world.end.checks()), (records, checks));
    assert_eq!(world.reasons().await, [""; 0]);
}

#[tokio::test]
async fn answers_follow_authority_without_a_write() {
    let world = world().await;
    let batches = world.end.changes();
    until("aws is named alone", async || world.resolved() == ["192.0.2.1"]).await;
    world.sites[0].set(false);
    until("the fixed answer is named", async || world.resolved() == ["192.0.2.99"]).await;
    world.sites[1].set(true);
    until("gcp is named", async || world.resolved() == ["192.0.2.2"]).await;
    assert_eq!(world.end.changes(), batches);
    let stands = world.provider.read(&world.wanted).await.expect("what stands");
    assert_eq!(stands.sites["aws"].health, Health::Unhealthy("Failure: HTTP Status Code 503".to_owned()));
    assert_eq!(stands.sites["gcp"].health, Health::Healthy);
}

#[tokio::test]
async fn the_old_site_is_pinned_off_and_comes_back() {
    let world = world().await;
    world.make([text("www.finflow.example", "somebody else's")]).await;
    let moved = shared(&world.wanted, 33, &[("aws", None), ("gcp", Some(100))]);
    let applied = world.provider.apply(&moved).await.expect("a write");
    assert_eq!((applied.requests, applied.everywhere), (1, Some(true)));
    assert_eq!(applied.stands.mark.as_ref().map(|mark| (mark.epoch, mark.change)), Some((33, 1)));
    assert!(!applied.stands.sites["aws"].on && applied.stands.sites["gcp"].on);
    world.end.served.desk.take();
    assert_eq!(world.provider.apply(&moved).await.expect("nothing").changes, []);
    let asked = world.end.served.desk.take();
    // The zone, two names of which one has a second page, and the health checks.
    assert_eq!((asked.len(), asked.iter().filter(|asked| is_write(asked)).count()), (5, 0), "{asked:?}");
    // All of a reading: health of two sites, and the registry of others, as well.
    world.provider.read(&moved).await.expect("what stands");
    assert_eq!(world.end.served.desk.take().len(), 8);
    let back = shared(&world.wanted, 33, &[("aws", Some(10)), ("gcp", Some(90))]);
    let applied = world.provider.apply(&back).await.expect("a write");
    assert_eq!(applied.stands.mark.map(|mark| mark.change), Some(2));
    assert_eq!(applied.stands.sites["aws"].weight, Weight::Is(10));
    let names: Vec<String> = world.end.records().into_iter().map(|record| record.name).collect();
    assert!(names.contains(&"www.finflow.example.".to_owned()));
    // Another target in the group is written, at once with the shares.
    let mut traffic = world.traffic.clone();
    traffic.targets.insert("aws".to_owned(), to("192.0.2.7"));
    let changed = provider(&traffic, &world.end.served.url()).await;
    let applied = changed.apply(&back).await.expect("a write");
    assert_eq!((applied.requests, applied.stands.sites["aws"].as_asked), (1, true));
    assert!(world.resolved().contains(&"192.0.2.7".to_owned()));
    assert_eq!(changed.apply(&back).await.expect("nothing").requests, 0);
}

#[tokio::test]
async fn a_change_that_takes_long_is_not_called_everywhere() {
    let options = Route53Options { in_sync: Duration::from_secs(3600), ..Route53Options::default() };
    let world = bare(options).await;
    world.provider.ensure(&world.wanted).await.expect("all is made");
    let waits = (Duration::from_millis(200), Duration::from_millis(20));
    let patient = Route53 { in_sync: waits, ..world.provider.clone() };
    let applied = patient.apply(&world.wanted).await.expect("a write");
    assert_eq!(applied.everywhere, Some(false));
}

#[tokio::test]
async fn each_read_that_fails_says_so_in_time() {
    let world = world().await;
    for part in ["/hostedzone/Z0123456789ABC", "/rrset?", "/healthcheck", "/status", "name=a-api"] {
        for fault in Fault::all() {
            let matches = move |asked: &Asked| match part {
                "/rrset?" | "name=a-api" => asked.path.contains(part),
                _ => asked.path.ends_with(part),
            };
            world.end.served.desk.next(matches, [fault.clone()]);
            let begin = Instant::now();
            let read = world.asks(&fault).read(&world.wanted).await;
            assert!(begin.elapsed() < PATIENCE, "{part} {fault:?}");
            let reason = read.as_ref().map_or_else(DnsError::reason, |_| "Ok");
            let expected: &[&str] = match &fault {
                Fault::Status(401, _) => &["Unauthorized"],
                Fault::Status(403, _) => &["Forbidden"],
                Fault::Status(404, _) if part == "/status" => &["Ok"],
                Fault::Status(404, _) => &["NotFound"],
                Fault::Status(409, _) => &["Conflict"],
                Fault::Status(..) => &["Failing"],
                Fault::RetryAfter(_) => &["Busy"],
                Fault::Silence => &["NoAnswer"],
                Fault::HalfAnswer | Fault::AnswerLost => &["Unreachable", "Unreadable"],
            };
            assert!(expected.contains(&reason), "{part} {fault:?} {read:?}");
            world.end.served.desk.behave();
        }
    }
    assert!(world.provider.read(&world.wanted).await.is_ok());
}

#[tokio::test]
async fn each_write_that_fails_is_done_once_all_the_same() {
    let world = world().await;
    let mut epoch = 16;
    for fault in Fault::all() {
        epoch += 16;
        let (on, off) = if epoch % 32 == 0 { ("aws", "gcp") } else { ("gcp", "aws") };
        let wanted = shared(&world.wanted, epoch, &[(on, Some(100)), (off, None)]);
        world.end.served.desk.next(is_write, [fault.clone()]);
        let before = world.end.changes();
        let begin = Instant::now();
        let applied = world.asks(&fault).apply(&wanted).await;
        assert!(begin.elapsed() < PATIENCE, "{fault:?}");
        match &fault {
            Fault::Status(401 | 403 | 404, _) => {
                let error = applied.expect_err("refused");
                assert!(!error.remote().expect("a call").may_be_done());
                assert_eq!(world.end.changes(), before);
            }
            Fault::RetryAfter(_) => {
                let after = Some(Duration::from_secs(1));
                assert_eq!(applied.expect_err("busy").remote(), Some(&RemoteError::Busy { after }));
            }
            // A batch that was refused as it stood, or was never done, is made anew of what stands; one that was done is
            // not done again.
            _ => {
                assert!(applied.is_ok(), "{fault:?} {applied:?}");
                assert_eq!(world.end.changes(), before + 1, "{fault:?}");
            }
        }
        world.end.served.desk.behave();
        let applied = world.provider.apply(&wanted).await.expect("in the end");
        assert_eq!((applied.stands.sites[on].on, applied.stands.sites[off].on), (true, false));
        assert_eq!(world.end.changes(), before + 1, "{fault:?}");
    }
}

#[tokio::test]
async fn nothing_is_made_twice() {
    for part in ["/healthcheck", "/rrset"] {
        for fault in Fault::all() {
            let world = bare(Route53Options::default()).await;
            let matches =
                move |asked: &Asked| is_write(asked) && asked.path.trim_end_matches('/').ends_with(part);
            world.end.served.desk.next(matches, [fault.clone()]);
            let begin = Instant::now();
            let made = world.asks(&fault).ensure(&world.wanted).await;
            assert!(begin.elapsed() < PATIENCE);
            if matches!(fault, Fault::HalfAnswer | Fault::AnswerLost) {
                assert!(made.is_ok(), "{part} {fault:?} {made:?}");
            }
            world.provider.ensure(&world.wanted).await.expect("in the end");
            let (records, checks) = (world.end.records().len(), world.end.checks().len());
            assert_eq!((records, checks), (3, 2), "{part} {fault:?}");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_at_route_53_is_found() {
    let world = world().await;
    let mut other = world.end.records().len();
    let stranger = RecordSet {
        name: HOST.to_owned(),
        kind: "A".to_owned(),
        set: Some("lending".to_owned()),
        weight: Some(10),
        ttl: Some(300),
        values: vec!["192.0.2.50".to_owned()],
        ..RecordSet::default()
    };
    world.make([stranger.clone()]).await;
    assert_eq!(world.reasons().await, ["ResidencyLeak", "LivesTooLong"]);
    // It is none of ours: a move leaves it.
    let moved = shared(&world.wanted, 33, &[("aws", None), ("gcp", Some(100))]);
    world.provider.apply(&moved).await.expect("a write");
    other = world.end.records().len() - other;
    assert_eq!(other, 0, "one more, and one less");
    world.provider.apply(&shared(&world.wanted, 48, &[])).await.expect("a write");
    world.provider.client.change(&[Edit::Delete(stranger)], "gone").await.expect("a batch");
    let owner = "heritage=external-dns,external-dns/owner=prod,external-dns/resource=ingress/a/b";
    world.make([text("a-api.finflow.example", owner)]).await;
    let world = World { wanted: shared(&world.wanted, 48, &[]), ..world };
    assert_eq!(world.reasons().await, ["OtherController"]);

    let elsewhere = world.provider.client.make_check(
        "by-hand",
        world.wanted.sites["gcp"].gateway.as_ref().expect("a gateway"),
        HOST,
        "/healthz",
    );
    let elsewhere = elsewhere.await.expect("a check").id;
    let named = Route53Traffic {
        health_checks: Some([("gcp".to_owned(), elsewhere)].into()),
        fallback: None,
        ..world.traffic.clone()
    };
    let named = provider(&named, &world.end.served.url()).await;
    let stands = named.read(&world.wanted).await.expect("what stands");
    let found = problems(&stands, &world.wanted, None);
    let reasons: Vec<_> = found.iter().map(|finding| finding.reason).collect();
    assert_eq!(reasons, ["MonitorElsewhere", "OtherController", "NotAsAsked"]);
    // Without a record of the fixed answer, all sites are named when none is well.
    let fallback = records::of_fallback(&world.wanted, &world.traffic, &world.traffic.records[0]);
    world
        .provider
        .client
        .change(&[Edit::Delete(fallback.expect("a record"))], "gone")
        .await
        .expect("a batch");
    assert!(world.reasons().await.contains(&"LiveFallback"));
    let nowhere = Route53Traffic {
        health_checks: Some([("gcp".to_owned(), "none".to_owned())].into()),
        ..world.traffic.clone()
    };
    let nowhere = provider(&nowhere, &world.end.served.url()).await;
    let stands = nowhere.read(&world.wanted).await.expect("what stands");
    assert_eq!(problems(&stands, &world.wanted, None)[0].reason, "PoolMissing");
}

#[tokio::test]
async fn rights_are_tried_without_changing_anything() {
    let options = Route53Options {
        read_only: vec!["AKIAREADER".to_owned()],
        lists_zones: true,
        unwrapped: true,
        ..Route53Options::default()
    };
    let world = bare(options).await;
    world.provider.ensure(&world.wanted).await.expect("all is made");
    let (records, batches) = (world.end.records(), world.end.changes());
    let of = async |id: &str, secret: &str| {
        let url = world.end.served.url();
        let provider = Route53::new(&world.traffic, Some(&keys(id, secret)), Some(&url)).await;
        let rights = provider.rights(&world.wanted).await.expect("an answer");
        let stands = world.provider.read(&world.wanted).await.expect("what stands");
        let found = problems(&stands, &world.wanted, Some(&rights));
        found.iter().map(|finding| finding.reason).collect::<Vec<_>>()
    };
    assert_eq!(of("AKIAEXAMPLE", SECRET).await, ["SeesTooMuch"]);
    assert_eq!(of("AKIAREADER", "reader").await, ["CannotWrite", "SeesTooMuch"]);
    assert_eq!(of("AKIAEXAMPLE", "wrong").await, ["NotAccepted"]);
    assert_eq!(of("AKIANOBODY", SECRET).await, ["NotAccepted"]);
    assert_eq!((world.end.records(), world.end.changes()), (records, batches));
    let narrow = bare(Route53Options::default()).await;
    narrow.provider.ensure(&narrow.wanted).await.expect("all is made");
    let asked = |part: &str| {
        let all = narrow.end.served.desk.take();
        (all.len(), all.iter().filter(|asked| asked.path.contains(part)).count())
    };
    // What docs/traffic.md says it costs.
    asked("");
    narrow.provider.apply(&narrow.wanted).await.expect("the mark stands");
    let (all, waiting) = asked("/change/");
    assert_eq!(all - waiting, 9);
    narrow.provider.read(&narrow.wanted).await.expect("what stands");
    assert_eq!(asked("").0, 7);
    narrow.provider.apply(&narrow.wanted).await.expect("nothing");
    assert_eq!(asked("").0, 4);
    let rights = narrow.provider.rights(&narrow.wanted).await.expect("an answer");
    assert_eq!(rights, Rights { accepted: true, ..Rights::default() });
    assert_eq!(asked("").0, 3);
    let read = |key: &str| (key == "accessKeyId").then(|| "AKIAEXAMPLE".to_owned());
    let error = AccessKeys::of_secret(read).expect_err("no secret");
    assert_eq!(error.to_string(), "the Secret of route53.credentials has no key secretAccessKey: add it");
}

#[tokio::test]
async fn the_secret_is_told_to_nobody() {
    let world = world().await;
    let mut said = format!("{:?} {:?}", world.provider, keys("AKIAEXAMPLE", SECRET));
    let echo = format!(
        "<ErrorResponse><Error><Code>Odd</Code><Message>bad key {SECRET}</Message></Error></ErrorResponse>"
    );
    for code in [400, 401, 403, 422, 500, 200] {
        world.end.served.desk.next(|_| true, [Fault::Status(code, echo.clone())]);
        let error = world.provider.read(&world.wanted).await.expect_err("an error");
        said += &format!("{error} {error:?}");
    }
    world.end.served.desk.behave();
    // What was not repeated to us is in no log either, at no level of any crate.
    let log = Log::default();
    let _listening = log.listen();
    let moved = shared(&world.wanted, 33, &[("aws", None), ("gcp", Some(100))]);
    said += &format!("{:?}", world.provider.apply(&moved).await.expect("a write"));
    said += &format!("{:?}", world.provider.rights(&world.wanted).await);
    let log = log.text();
    assert!(said.contains("(hidden)") && log.len() > 1000, "{}", log.len());
    assert!(!said.contains(SECRET), "{said}");
    assert!(!log.contains(SECRET));
}

#[tokio::test]
async fn of_two_writers_the_greater_epoch_stands_whatever_the_order() {
    let world = world().await;
    let turns = turns::Turns::default();
    let doors = [turns.door(0, &world.end.served.url()).await, turns.door(1, &world.end.served.url()).await];
    let writers =
        [provider(&world.traffic, &doors[0].url()).await, provider(&world.traffic, &doors[1].url()).await];
    let (mut superseded, mut refused) = (0, 0);
    for round in 1..=100_i64 {
        let (low, high) = (32 * round, 32 * round + 1);
        turns.begin(u64::try_from(round).expect("a seed"));
        let before = world.end.changes();
        world.end.served.desk.take();
        let older = shared(&world.wanted, low, &[("aws", Some(100)), ("gcp", None)]);
        let newer = shared(&world.wanted, high, &[("aws", None), ("gcp", Some(100))]);
        let write = async |who: usize, wanted: &Wanted| {
            let applied = writers[who].apply(wanted).await;
            turns.end(who);
            applied
        };
        let (old, new) = tokio::join!(write(0, &older), write(1, &newer));
        let new = new.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(new.stands.mark.map(|mark| mark.epoch), Some(high), "round {round}");
        match old {
            Ok(_) => {}
            Err(error) => {
                let expected = Refusal::Superseded { ours: low, theirs: high };
                assert_eq!(error, expected.into(), "round {round}");
                superseded += 1;
            }
        }
        let stands = world.provider.read(&newer).await.expect("what stands");
        assert_eq!(stands.mark.as_ref().map(|mark| mark.epoch), Some(high), "round {round}");
        assert_eq!((stands.sites["aws"].on, stands.sites["gcp"].on), (false, true), "round {round}");
        let done = world.end.changes() - before;
        assert!((1..=2).contains(&done), "round {round}: {done} batches");
        let sent = world.end.served.desk.take().iter().filter(|asked| is_write(asked)).count();
        refused += usize::from(sent > done);
    }
    // Both happened: a writer that found itself late, and a batch that the table refused.
    assert!(superseded >= 10 && refused >= 10, "{superseded} superseded, {refused} refused");
}
