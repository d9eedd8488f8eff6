use std::time::Instant;

use axum::http::Method;
use serde_json::json;

use super::*;
use crate::api::traffic::{CloudflareFallback, TokenSecret, TokenSource};
use crate::dns::plan::{Change, Refusal};
use crate::dns::problems::problems;
use crate::dns::provider::Provider;
use crate::dns::stands::Weight;
use crate::dns::testing::{LONG, Log, PATIENCE, SHORT, Site, shared, until, wanted};
use crate::sandbox::ends::cloudflare::{CloudflareEnd, CloudflareOptions, fixed_answer};
use crate::sandbox::ends::server::{Asked, Fault, Served};

/// Two sites, of which aws has authority, and all that stands at Cloudflare for them.
struct World {
    sites: [Site; 2],
    end: CloudflareEnd,
    wanted: Wanted,
    provider: Cloudflare,
    /// The same, which soon gives up.
    impatient: Cloudflare,
    traffic: CloudflareTraffic,
    _sorry: Served,
}

const TOKEN: &str = "planted-token-of-cloudflare";

fn traffic(end: &CloudflareOptions, fallback: Option<String>) -> CloudflareTraffic {
    CloudflareTraffic {
        account: end.account.clone(),
        zone: end.zone.clone(),
        token: TokenSource { secret_ref: TokenSecret { name: "cloudflare".to_owned(), key: None } },
        fallback: fallback.map(|pool| CloudflareFallback { pool: Some(pool), address: None }),
        ..CloudflareTraffic::default()
    }
}

async fn bare(options: CloudflareOptions) -> World {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let sites = [Site::start("aws", true).await, Site::start("gcp", false).await];
    let options = CloudflareOptions { token: TOKEN.to_owned(), ..options };
    let end = CloudflareEnd::start(options.clone()).await.expect("the end");
    let sorry = fixed_answer().await.expect("a fixed answer");
    let pool = end.make_pool("sorry", "127.0.0.1", sorry.address.port()).expect("a pool");
    let traffic = traffic(&options, Some(pool));
    let within =
        |deadline| Cloudflare::with_deadline(&traffic, TOKEN, &end.base(), deadline).expect("a provider");
    let (provider, impatient) = (within(LONG), within(SHORT));
    World { wanted: wanted(Some(16), &sites), sites, end, provider, impatient, traffic, _sorry: sorry }
}

async fn world() -> World {
    let world = bare(CloudflareOptions::default()).await;
    world.provider.ensure(&world.wanted).await.expect("all is made");
    world.provider.apply(&world.wanted).await.expect("the mark stands");
    world.end.api.desk.take();
    world
}

fn writes(asked: &[Asked]) -> Vec<&Asked> {
    asked.iter().filter(|asked| asked.method != Method::GET).collect()
}

impl World {
    /// Who waits as long as that fault needs.
    fn asks(&self, fault: &Fault) -> &Cloudflare {
        if *fault == Fault::Silence { &self.impatient } else { &self.provider }
    }

    fn id(&self, kind: usize, name: &str) -> String {
        let kept = self.end.kept();
        let found = kept[kind].iter().find(|one| one["name"] == name || one["description"] == name);
        found.expect("the thing")["id"].as_str().expect("an id").to_owned()
    }

    async fn reasons(&self) -> Vec<&'static str> {
        let stands = self.provider.read(&self.wanted).await.expect("what stands");
        problems(&stands, &self.wanted, None).iter().map(|finding| finding.reason).collect()
    }

    async fn who_answers(&self) -> (u16, String) {
        let asked = reqwest::Client::new()
            .get(format!("{}/pay?x=1", self.end.edge.url()))
            .header("host", "api.finflow.example");
        let answer = asked.send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.text().await.expect("a body"))
    }
}

#[tokio::test]
async fn what_is_missing_is_made_once_and_nothing_else_is_touched() {
    let world = bare(CloudflareOptions::default()).await;
    let made = world.provider.ensure(&world.wanted).await.expect("all is made");
    assert_eq!(
        made,
        [
            "monitor /authority/payments over http",
            "pool banyan-payments-aws",
            "pool banyan-payments-gcp",
            "load balancer api.finflow.example"
        ]
    );
    let kept = world.end.kept();
    world.end.api.desk.take();
    assert_eq!(world.provider.ensure(&world.wanted).await, Ok(Vec::new()));
    assert_eq!(writes(&world.end.api.desk.take()), Vec::<&Asked>::new());
    assert_eq!(world.end.kept(), kept);
    assert_eq!(world.reasons().await, [""; 0]);
    // What docs/traffic.md says it costs.
    world.end.api.desk.take();
    world.provider.apply(&world.wanted).await.expect("the mark stands");
    assert_eq!(world.end.api.desk.take().len(), 8);
    world.provider.rights().await.expect("rights");
    assert_eq!(world.end.api.desk.take().len(), 4);
    // Of what others steer by, nothing is known and nothing is wrong.
    let external = Provider::External;
    let stands = external.read(&world.wanted).await.expect("nothing");
    assert_eq!(external.problems(&stands, &world.wanted, None), []);
    let nobody = Wanted { sites: BTreeMap::new(), ..world.wanted.clone() };
    assert_eq!(external.problems(&stands, &nobody, None)[0].reason, "NoSites");

    let without = bare(CloudflareOptions::default()).await;
    let traffic = CloudflareTraffic { fallback: None, ..without.traffic.clone() };
    let provider = Cloudflare::new(&traffic, TOKEN, &without.end.base()).expect("a provider");
    let error = provider.ensure(&without.wanted).await.expect_err("no fallback").to_string();
    assert!(
        error.ends_with("name a host that gives a fixed answer in cloudflare.fallback.address"),
        "{error}"
    );
}

#[tokio::test]
async fn traffic_moves_by_authority_without_a_write() {
    let world = world().await;
    until("aws answers", async || world.who_answers().await == (200, "aws GET /pay?x=1".to_owned())).await;
    until("gcp is seen ill", async || {
        let stands = world.provider.read(&world.wanted).await.expect("what stands");
        matches!(stands.sites["gcp"].health, Health::Unhealthy(_))
            && stands.sites["aws"].health == Health::Healthy
    })
    .await;
    world.end.api.desk.take();
    world.sites[0].set(false);
    until("the fixed answer", async || world.who_answers().await.0 == 503).await;
    world.sites[1].set(true);
    until("gcp answers", async || world.who_answers().await.1.starts_with("gcp")).await;
    assert_eq!(world.end.api.desk.take(), []);
    let counts = world.end.counts();
    assert!(["banyan-payments-aws", "banyan-payments-gcp", "sorry"].iter().all(|pool| counts[*pool] > 0));
    // Both at once: the shares are those that are set.
    world.sites[0].set(true);
    let wanted = shared(&world.wanted, 16, &[("aws", Some(90)), ("gcp", Some(10))]);
    world.provider.apply(&wanted).await.expect("the weights");
    until("both are well", async || {
        let stands = world.provider.read(&wanted).await.expect("what stands");
        stands.sites.values().all(|site| site.health == Health::Healthy)
    })
    .await;
    let before = world.end.counts()["banyan-payments-gcp"];
    for _ in 0..200 {
        assert_eq!(world.who_answers().await.0, 200);
    }
    let gcp = world.end.counts()["banyan-payments-gcp"] - before;
    assert!((15..=25).contains(&gcp), "{gcp} of 200");
}

#[tokio::test]
async fn the_old_site_is_pinned_off_and_nothing_of_others_changes() {
    let world = world().await;
    let balancer = world.id(0, "api.finflow.example");
    let words = "of team edge [INC-1] [banyan group=payments epoch=16 change=1]";
    let theirs = json!({"description": words, "session_affinity": "cookie",
        "random_steering": {"default_weight": 0.5, "pool_weights": {"other": 0.3}}});
    world.end.change(&balancer, theirs).expect("a change");
    let moved = shared(&world.wanted, 33, &[("aws", None), ("gcp", Some(100))]);
    let applied = world.provider.apply(&moved).await.expect("a write");
    assert_eq!(applied.requests, 2);
    assert!(matches!(&applied.changes[..], [
        Change::Mark { .. }, Change::Weight { site: gcp, to: 100 }, Change::Off { site: aws }
    ] if gcp == "gcp" && aws == "aws"));
    let [balancers, pools, _] = world.end.kept();
    assert_eq!(balancers[0]["session_affinity"], "cookie");
    assert_eq!(balancers[0]["description"], "of team edge [INC-1] [banyan group=payments epoch=33 change=1]");
    let gcp = world.id(1, "banyan-payments-gcp");
    assert_eq!(
        balancers[0]["random_steering"],
        json!({"default_weight": 0.5, "pool_weights": {"other": 0.3, gcp: 1.0}})
    );
    let aws = pools.iter().find(|pool| pool["name"] == "banyan-payments-aws").expect("the pool");
    assert_eq!(aws["enabled"], false);
    assert_eq!(aws["description"], "[banyan group=payments epoch=33 change=1]");
    // Again costs the reading alone.
    world.end.api.desk.take();
    assert_eq!(world.provider.apply(&moved).await.expect("nothing").changes, []);
    let asked = world.end.api.desk.take();
    assert_eq!((asked.len(), writes(&asked).len()), (3, 0));
    // All of a reading: three lists, health of two pools, records of one host, and the registry.
    world.provider.read(&moved).await.expect("what stands");
    assert_eq!(world.end.api.desk.take().len(), 7);
}

#[tokio::test]
async fn whoever_writes_late_is_refused_or_corrected() {
    let world = world().await;
    let moved = shared(&world.wanted, 33, &[("aws", None), ("gcp", Some(100))]);
    world.provider.apply(&moved).await.expect("a write");
    let late = shared(&world.wanted, 16, &[("aws", Some(50)), ("gcp", Some(50))]);
    let superseded = Refusal::Superseded { ours: 16, theirs: 33 };
    assert_eq!(world.provider.apply(&late).await, Err(superseded.into()));
    assert_eq!(world.provider.apply(&moved).await.expect("nothing").changes, []);

    // A write that was on its way while the new one was made arrives between both looks.
    let new = shared(&world.wanted, 48, &[("aws", Some(100)), ("gcp", None)]);
    let provider = Provider::Cloudflare(world.provider.clone());
    let balancer = world.id(0, "api.finflow.example");
    let settled = provider.settle(&new, Duration::from_secs(5));
    let late = async {
        until("the new one stands", async || {
            world.end.kept()[0][0]["description"].as_str().unwrap_or_default().contains("epoch=48")
        })
        .await;
        let aws = world.id(1, "banyan-payments-aws");
        let body = json!({"description": "[banyan group=payments epoch=33 change=7]",
            "steering_policy": "random", "random_steering": {"default_weight": 1, "pool_weights": {aws: 0.0}}});
        world.end.change(&balancer, body).expect("a late write");
    };
    let (settled, ()) = tokio::join!(settled, late);
    let settled = settled.expect("corrected");
    assert_eq!(settled.stands.mark.map(|mark| mark.epoch), Some(48));
    assert_eq!(settled.stands.sites["aws"].weight, Weight::Is(100));
    assert_eq!(provider.apply(&new).await.expect("nothing").changes, []);

    // The same, when it arrives between our look and our own write: the look before the write sees it.
    let newest = shared(&world.wanted, 65, &[("aws", None), ("gcp", Some(100))]);
    let body = json!({"description": "[banyan group=payments epoch=97 change=1]"});
    world.end.change(&balancer, body).expect("a greater one");
    let refused = world.provider.apply(&newest).await;
    assert_eq!(refused, Err(Refusal::Superseded { ours: 65, theirs: 97 }.into()));
}

#[tokio::test]
async fn each_read_that_fails_says_so_in_time() {
    let world = world().await;
    let parts = ["/load_balancers?", "/pools?", "/monitors?", "/health", "name=api", "type=TXT"];
    for part in parts {
        // A list has no query: what is meant is the end of its path.
        let end = part.trim_end_matches('?').to_owned();
        let list = part.ends_with('?');
        let matches = move |asked: &Asked| {
            asked.method == Method::GET
                && if list { asked.path.ends_with(&end) } else { asked.path.contains(&end) }
        };
        for fault in Fault::all() {
            world.end.api.desk.next(matches.clone(), [fault.clone()]);
            let begin = Instant::now();
            let error = world.asks(&fault).read(&world.wanted).await;
            assert!(begin.elapsed() < PATIENCE, "{part} {fault:?}");
            let reason = error.as_ref().map_or_else(DnsError::reason, |_| "Ok");
            let expected = match &fault {
                Fault::Status(401, _) => "Unauthorized",
                Fault::Status(403, _) => "Forbidden",
                // Health that nobody knows of is not known.
                Fault::Status(404, _) if part == "/health" => "Ok",
                Fault::Status(404, _) => "NotFound",
                Fault::Status(409, _) => "Conflict",
                Fault::Status(..) => "Failing",
                Fault::RetryAfter(_) => "Busy",
                Fault::Silence => "NoAnswer",
                Fault::HalfAnswer | Fault::AnswerLost => "Unreachable",
            };
            assert_eq!(reason, expected, "{part} {fault:?} {error:?}");
            world.end.api.desk.behave();
        }
    }
    assert!(world.provider.read(&world.wanted).await.is_ok());
}

#[tokio::test]
async fn each_write_that_fails_is_done_once_all_the_same() {
    let world = world().await;
    let mut epoch = 16;
    for part in ["/load_balancers/", "/pools/"] {
        for fault in Fault::all() {
            epoch += 16;
            let (on, off) = if epoch % 32 == 0 { ("aws", "gcp") } else { ("gcp", "aws") };
            let wanted = shared(&world.wanted, epoch, &[(on, Some(100)), (off, None)]);
            let matches = move |asked: &Asked| asked.method == Method::PATCH && asked.path.contains(part);
            world.end.api.desk.next(matches, [fault.clone()]);
            world.end.api.desk.take();
            let begin = Instant::now();
            let applied = world.asks(&fault).apply(&wanted).await;
            assert!(begin.elapsed() < PATIENCE, "{part} {fault:?}");
            let asked = world.end.api.desk.take();
            let times = writes(&asked).iter().filter(|asked| matches(asked)).count();
            match &fault {
                Fault::Status(code, _) if *code < 500 => {
                    let error = applied.expect_err("refused");
                    assert_eq!(times, 1, "{part} {fault:?}");
                    assert!(!error.remote().expect("a call").may_be_done());
                }
                Fault::RetryAfter(_) => {
                    let error = applied.expect_err("too busy");
                    let after = Some(Duration::from_secs(1));
                    assert_eq!(error.remote(), Some(&RemoteError::Busy { after }));
                }
                // It was not done: it is read, and then asked for once more. Each pool is a write of its own.
                Fault::Status(..) | Fault::Silence => {
                    assert!(applied.is_ok(), "{part} {fault:?} {applied:?}");
                    assert!(times >= 2, "{part} {fault:?}");
                }
                // It was done, and is not done again.
                Fault::HalfAnswer | Fault::AnswerLost => {
                    assert!(applied.is_ok(), "{part} {fault:?} {applied:?}");
                    let mut paths: Vec<_> = writes(&asked).iter().map(|asked| asked.path.clone()).collect();
                    let all = paths.len();
                    paths.sort();
                    paths.dedup();
                    assert_eq!(paths.len(), all, "{part} {fault:?} {paths:?}");
                }
            }
            world.end.api.desk.behave();
            world.provider.apply(&wanted).await.expect("in the end");
            let stands = world.provider.read(&wanted).await.expect("what stands");
            assert_eq!((stands.sites[on].on, stands.sites[off].on), (true, false), "{part} {fault:?}");
        }
    }
}

#[tokio::test]
async fn nothing_is_made_twice() {
    for part in ["/load_balancers", "/pools", "/monitors"] {
        for fault in Fault::all() {
            let world = bare(CloudflareOptions::default()).await;
            let matches = move |asked: &Asked| asked.method == Method::POST && asked.path.ends_with(part);
            world.end.api.desk.next(matches, [fault.clone()]);
            let begin = Instant::now();
            let made = world.asks(&fault).ensure(&world.wanted).await;
            assert!(begin.elapsed() < PATIENCE);
            let refused = matches!(fault, Fault::Status(..=499, _) | Fault::RetryAfter(_));
            assert_eq!(made.is_err(), refused, "{part} {fault:?} {made:?}");
            world.provider.ensure(&world.wanted).await.expect("in the end");
            let kept = world.end.kept().map(|kept| kept.len());
            // One load balancer; two pools and the fixed answer; one monitor.
            assert_eq!(kept, [1, 3, 1], "{part} {fault:?}");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_at_cloudflare_is_found() {
    let world = world().await;
    let (balancer, gcp) = (world.id(0, "api.finflow.example"), world.id(1, "banyan-payments-gcp"));
    let (aws, sorry) = (world.id(1, "banyan-payments-aws"), world.id(1, "sorry"));
    let monitor = world.id(2, "/authority/payments over http");
    let stranger = world.end.make_pool("lending", "192.0.2.9", 80).expect("a pool");
    let both = json!([aws, gcp]);
    let trials = [
        (
            &balancer,
            json!({"region_pools": {"WEU": [aws, gcp, stranger]}}),
            json!({"region_pools": {}}),
            "ResidencyLeak",
        ),
        (
            &balancer,
            json!({"default_pools": [aws, gcp, stranger]}),
            json!({"default_pools": both}),
            "ResidencyLeak",
        ),
        (&balancer, json!({"country_pools": {"DE": [aws]}}), json!({"country_pools": {}}), "SiteLeftOut"),
        (
            &balancer,
            json!({"rules": [{"name": "r", "overrides": {"default_pools": [stranger, aws, gcp]}}]}),
            json!({"rules": []}),
            "ResidencyLeak",
        ),
        (&balancer, json!({"fallback_pool": gcp}), json!({"fallback_pool": sorry}), "LiveFallback"),
        (&balancer, json!({"fallback_pool": stranger}), json!({"fallback_pool": sorry}), "UnknownFallback"),
        (&balancer, json!({"proxied": false, "ttl": 300}), json!({"proxied": true}), "LivesTooLong"),
        (&balancer, json!({"enabled": false}), json!({"enabled": true}), "Disabled"),
        (
            &balancer,
            json!({"name": "other.finflow.example"}),
            json!({"name": "api.finflow.example"}),
            "OtherName",
        ),
        (&gcp, json!({"enabled": false}), json!({"enabled": true}), "PinnedOff"),
        (&gcp, json!({"monitor": ""}), json!({"monitor": monitor}), "MonitorMissing"),
        (&gcp, json!({"name": "renamed"}), json!({"name": "banyan-payments-gcp"}), "PoolMissing"),
        (&monitor, json!({"path": "/healthz"}), json!({"path": "/authority/payments"}), "MonitorElsewhere"),
        (&monitor, json!({"expected_codes": "2xx"}), json!({"expected_codes": "200"}), "MonitorLenient"),
        (&monitor, json!({"interval": 300}), json!({"interval": 60}), "MonitorSlow"),
    ];
    let traffic = CloudflareTraffic { load_balancer: Some(balancer.clone()), ..world.traffic.clone() };
    let by_id = Cloudflare::new(&traffic, TOKEN, &world.end.base()).expect("a provider");
    let reasons = async || {
        let stands = by_id.read(&world.wanted).await.expect("what stands");
        problems(&stands, &world.wanted, None).iter().map(|finding| finding.reason).collect::<Vec<_>>()
    };
    for (id, wrong, right, reason) in &trials {
        world.end.change(id, wrong.clone()).expect("a change");
        let found = reasons().await;
        assert!(found.contains(reason), "{wrong}: {found:?}");
        world.end.change(id, right.clone()).expect("a change");
        assert_eq!(reasons().await, [""; 0], "after {wrong}");
    }
    let owner = "heritage=external-dns,external-dns/owner=prod,external-dns/resource=ingress/a/b";
    world.end.make_record(json!({"name": "cname-api.finflow.example", "type": "TXT", "content": owner}));
    assert_eq!(reasons().await, ["OtherController"]);
    let by_nobody = Cloudflare::new(
        &CloudflareTraffic { load_balancer: Some("f".repeat(32)), ..world.traffic.clone() },
        TOKEN,
        &world.end.base(),
    );
    let stands = by_nobody.expect("a provider").read(&world.wanted).await.expect("what stands");
    assert!(problems(&stands, &world.wanted, None).iter().any(|finding| finding.reason == "NotThere"));
}

#[tokio::test]
async fn rights_are_tried_without_changing_anything() {
    let options = CloudflareOptions { read_only: Some("reader".to_owned()), zones: 12, ..Default::default() };
    let world = bare(options).await;
    world.provider.ensure(&world.wanted).await.expect("all is made");
    let kept = world.end.kept();
    let of = async |token: &str| {
        let provider = Cloudflare::new(&world.traffic, token, &world.end.base()).expect("a provider");
        let rights = provider.rights().await.expect("an answer");
        let stands = world.provider.read(&world.wanted).await.expect("what stands");
        let found = problems(&stands, &world.wanted, Some(&rights));
        found.iter().map(|finding| finding.reason).collect::<Vec<_>>()
    };
    assert_eq!(of(TOKEN).await, ["SeesTooMuch"]);
    assert_eq!(of("reader").await, ["CannotWrite", "CannotWrite", "SeesTooMuch"]);
    assert_eq!(of("wrong").await, ["NotAccepted"]);
    assert_eq!(of("two\nlines").await, ["NotAccepted"]);
    assert_eq!(world.end.kept(), kept);
    let wrong = Cloudflare::new(&world.traffic, "wrong", &world.end.base()).expect("a provider");
    assert_eq!(wrong.read(&world.wanted).await.expect_err("refused").reason(), "Forbidden");
}

#[tokio::test]
async fn the_token_is_told_to_nobody() {
    let world = world().await;
    let log = Log::default();
    let _listening = log.listen();
    let mut said = format!("{:?}", world.provider);
    let echo = json!({"success": false, "errors": [{"code": 1, "message": format!("bad token {TOKEN}")}]});
    for code in [400, 401, 403, 422, 500, 200] {
        world.end.api.desk.next(|_| true, [Fault::Status(code, echo.to_string())]);
        let error = world.provider.read(&world.wanted).await.expect_err("an error");
        said += &format!("{error} {error:?}");
    }
    world.end.api.desk.behave();
    let moved = shared(&world.wanted, 33, &[("aws", None), ("gcp", Some(100))]);
    said += &format!("{:?}", world.provider.apply(&moved).await);
    said += &format!("{:?}", world.provider.rights().await);
    let log = log.text();
    assert!(said.contains("(hidden)") && log.len() > 1000, "{}", log.len());
    assert!(!said.contains(TOKEN), "{said}");
    assert!(!log.contains(TOKEN));
}
