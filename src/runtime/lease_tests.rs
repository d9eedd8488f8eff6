use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use k8s_openapi::api::coordination::v1 as coordination;
use proptest::prelude::*;
use tokio::task::JoinHandle;

use super::*;
use crate::runtime::lease_store::Changes;

/// An API server with one Lease: conditional writes, and a watch that a test can cut.
#[derive(Clone)]
struct Server {
    lease: Arc<watch::Sender<Option<Lease>>>,
    version: Arc<Mutex<u64>>,
    writes: Arc<AtomicUsize>,
    reads: Arc<AtomicUsize>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            lease: Arc::new(watch::channel(None).0),
            version: Arc::default(),
            writes: Arc::default(),
            reads: Arc::default(),
        }
    }
}

/// One replica's way to the server.
#[derive(Clone, Default)]
struct Link {
    server: Server,
    /// No request arrives.
    cut: Arc<AtomicBool>,
    /// Requests arrive and take effect; answers do not come back.
    deaf: Arc<AtomicBool>,
    /// How long an answer is on its way back.
    slow: Duration,
    /// The watch tells nothing.
    no_watch: bool,
}

impl Server {
    fn link(&self) -> Link {
        Link { server: self.clone(), ..Link::default() }
    }

    fn holder(&self) -> Option<String> {
        self.lease.borrow().as_ref()?.claim.as_ref().map(|claim| claim.holder.clone())
    }

    fn put(&self, claim: Option<Claim>) -> Lease {
        let mut version = self.version.lock().unwrap();
        *version += 1;
        let mut lease = Lease::from_object(coordination::Lease::default());
        lease.version = version.to_string();
        lease.claim = claim;
        self.lease.send_replace(Some(lease.clone()));
        lease
    }
}

impl Link {
    async fn line(&self, flag: &AtomicBool) {
        if flag.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}

impl Store for Link {
    async fn read(&self) -> Result<Option<Lease>, StoreError> {
        self.line(&self.cut).await;
        self.line(&self.deaf).await;
        self.server.reads.fetch_add(1, Ordering::SeqCst);
        Ok(self.server.lease.borrow().clone())
    }

    async fn write(&self, before: Option<&Lease>, claim: Option<Claim>) -> Result<Lease, StoreError> {
        self.line(&self.cut).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.server.writes.fetch_add(1, Ordering::SeqCst);
        let current = self.server.lease.borrow().clone();
        if current.as_ref().map(|lease| &lease.version) != before.map(|lease| &lease.version) {
            return Err(StoreError::Conflict);
        }
        let written = self.server.put(claim);
        tokio::time::sleep(self.slow).await;
        self.line(&self.deaf).await;
        Ok(written)
    }

    fn changes(&self) -> Changes<'_> {
        if self.no_watch {
            return futures::stream::pending().boxed();
        }
        let receiver = self.server.lease.subscribe();
        futures::stream::unfold(receiver, |mut receiver| async {
            receiver.changed().await.ok()?;
            let lease = receiver.borrow_and_update().clone();
            Some((lease, receiver))
        })
        .boxed()
    }
}

struct Replica {
    leadership: Leadership,
    release: CancellationToken,
    task: JoinHandle<Ended>,
}

fn replica(link: &Link, name: &str) -> Replica {
    let (election, leadership) = Election::new(link.clone(), name.into(), Timing::default());
    let release = CancellationToken::new();
    let task = tokio::spawn(election.run(release.clone()));
    Replica { leadership, release, task }
}

async fn seconds(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

async fn until_leading(replica: &Replica) -> Duration {
    let start = Instant::now();
    tokio::time::timeout(Duration::from_secs(3600), replica.leadership.acquired()).await.unwrap();
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_at_once_and_renews_with_one_request() {
    let server = Server::default();
    let a = replica(&server.link(), "a");
    assert!(until_leading(&a).await < Duration::from_millis(100));
    let b = replica(&server.link(), "b");
    seconds(1.0).await;
    let (writes, reads) = (server.writes.load(Ordering::SeqCst), server.reads.load(Ordering::SeqCst));
    seconds(60.0).await;
    assert!(a.leadership.is_leader() && !b.leadership.is_leader());
    assert_eq!(server.writes.load(Ordering::SeqCst) - writes, 24, "a renewal every 2.5 s");
    assert_eq!(server.reads.load(Ordering::SeqCst) - reads, 0, "the standby watches and does not ask");
}

#[tokio::test(start_paused = true)]
async fn after_a_kill_the_second_takes_over_within_15_s_and_not_while_the_first_could_act() {
    let server = Server::default();
    let a = replica(&server.link(), "a");
    until_leading(&a).await;
    let b = replica(&server.link(), "b");
    seconds(7.3).await;
    a.task.abort();
    let took = until_leading(&b).await;
    assert!(!a.leadership.is_leader());
    assert!(took > Duration::from_secs(10) && took < Duration::from_secs(15), "{took:?}");
    assert_eq!(server.holder().as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn after_a_release_the_second_takes_over_at_once() {
    let server = Server::default();
    let a = replica(&server.link(), "a");
    until_leading(&a).await;
    let b = replica(&server.link(), "b");
    seconds(20.0).await;
    a.release.cancel();
    assert!(until_leading(&b).await < Duration::from_millis(100));
    assert_eq!(a.task.await.unwrap(), Ended::Released);
    assert!(!a.leadership.is_leader());
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_is_released_leaves_the_lease_alone() {
    let server = Server::default();
    let a = replica(&server.link(), "a");
    until_leading(&a).await;
    let b = replica(&server.link(), "b");
    seconds(3.0).await;
    b.release.cancel();
    assert_eq!(b.task.await.unwrap(), Ended::Released);
    assert_eq!(server.holder().as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn without_a_watch_a_renewed_lease_is_never_taken_and_an_expired_one_is() {
    let server = Server::default();
    let a = replica(&server.link(), "a");
    until_leading(&a).await;
    let b = replica(&Link { no_watch: true, ..server.link() }, "b");
    seconds(120.0).await;
    assert!(a.leadership.is_leader() && !b.leadership.is_leader());
    a.task.abort();
    assert!(until_leading(&b).await < Duration::from_secs(29));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_stops_before_another_may_start() {
    let server = Server::default();
    let link = server.link();
    let a = replica(&link, "a");
    until_leading(&a).await;
    let b = replica(&server.link(), "b");
    seconds(30.0).await;
    link.cut.store(true, Ordering::SeqCst);
    let mut stopped = None;
    for _ in 0..2000 {
        seconds(0.01).await;
        assert!(!(a.leadership.is_leader() && b.leadership.is_leader()), "two leaders");
        if !a.leadership.is_leader() && stopped.is_none() {
            stopped = Some(Instant::now());
        }
        if b.leadership.is_leader() {
            break;
        }
    }
    assert!(b.leadership.is_leader());
    assert!(stopped.unwrap().elapsed() > Duration::from_secs(2), "requests on their way have time to end");
    let Ended::Lost(why) = a.task.await.unwrap() else { panic!("a should have lost") };
    assert_eq!(why, "it could not be renewed for 10s");
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_does_not_lengthen_the_claim() {
    let server = Server::default();
    let link = Link { slow: Duration::from_millis(900), ..server.link() };
    let start = Instant::now();
    let a = replica(&link, "a");
    until_leading(&a).await;
    assert!(start.elapsed() > Duration::from_millis(900));
    link.cut.store(true, Ordering::SeqCst);
    tokio::time::sleep_until(start + Duration::from_millis(9_900)).await;
    assert!(a.leadership.is_leader());
    // Others count from when the write took effect, which was soon after it was sent.
    tokio::time::sleep_until(start + Duration::from_millis(10_100)).await;
    assert!(!a.leadership.is_leader());
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_slow_or_silent_for_a_while_costs_no_lead() {
    for (slow, silent) in [(2.0, 0.0), (0.0, 6.0)] {
        let server = Server::default();
        let link = Link { slow: Duration::from_secs_f64(slow), ..server.link() };
        let a = replica(&link, "a");
        until_leading(&a).await;
        let b = replica(&server.link(), "b");
        // Whenever it begins within the time between two renewals.
        for offset in 0..10 {
            seconds(20.0 + f64::from(offset) * 0.25).await;
            link.cut.store(silent > 0.0, Ordering::SeqCst);
            seconds(silent).await;
            link.cut.store(false, Ordering::SeqCst);
        }
        seconds(20.0).await;
        assert!(
            a.leadership.is_leader() && !a.task.is_finished(),
            "answers after {slow} s, silent for {silent} s"
        );
        assert!(!b.leadership.is_leader());
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_interruption_costs_nothing() {
    let server = Server::default();
    let link = server.link();
    let a = replica(&link, "a");
    until_leading(&a).await;
    seconds(10.1).await;
    for flag in [&link.cut, &link.deaf] {
        flag.store(true, Ordering::SeqCst);
        for _ in 0..40 {
            seconds(0.1).await;
            assert!(a.leadership.is_leader());
        }
        flag.store(false, Ordering::SeqCst);
        seconds(10.0).await;
        assert!(a.leadership.is_leader());
    }
    a.release.cancel();
    assert_eq!(a.task.await.unwrap(), Ended::Released);
}

#[tokio::test(start_paused = true)]
async fn of_two_who_claim_at_once_one_leads() {
    let server = Server::default();
    let replicas: Vec<_> = (0..8).map(|n| replica(&server.link(), &format!("r{n}"))).collect();
    seconds(2.0).await;
    assert_eq!(replicas.iter().filter(|r| r.leadership.is_leader()).count(), 1);
    assert_eq!(replicas.iter().filter(|r| r.task.is_finished()).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_another_wrote_ends() {
    let server = Server::default();
    let a = replica(&server.link(), "a");
    until_leading(&a).await;
    server.put(Some(Claim { holder: "intruder".into(), duration: Duration::from_secs(10) }));
    seconds(3.0).await;
    assert_eq!(a.task.await.unwrap(), Ended::Lost("intruder has it now".into()));
    assert!(!a.leadership.is_leader());
}

#[tokio::test(start_paused = true)]
async fn an_edit_by_hand_that_leaves_the_holder_is_no_loss() {
    let server = Server::default();
    let a = replica(&server.link(), "a");
    until_leading(&a).await;
    let claim = server.lease.borrow().as_ref().unwrap().claim.clone();
    server.put(claim.clone());
    seconds(5.0).await;
    assert!(a.leadership.is_leader());
    server.put(claim);
    a.release.cancel();
    assert_eq!(a.task.await.unwrap(), Ended::Released);
    assert_eq!(server.holder(), None);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_nobody_answers_ends_all_the_same() {
    let server = Server::default();
    let link = server.link();
    let a = replica(&link, "a");
    until_leading(&a).await;
    link.cut.store(true, Ordering::SeqCst);
    let start = Instant::now();
    a.release.cancel();
    assert!(matches!(a.task.await.unwrap(), Ended::NotReleased(_)));
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn the_heartbeat_goes_on_while_leading_and_standing_by() {
    let server = Server::default();
    for name in ["leader", "standby"] {
        let (election, _) = Election::new(server.link(), name.into(), Timing::default());
        let beat = election.heartbeat();
        tokio::spawn(election.run(CancellationToken::new()));
        for _ in 0..30 {
            seconds(3.1).await;
            assert!(beat.borrow().elapsed() <= Timing::default().duration, "{name}");
        }
    }
}

#[test]
fn identities_differ_even_in_one_place() {
    let (one, two) = (unique_identity("banyan-0"), unique_identity("banyan-0"));
    assert!(one.starts_with("banyan-0_") && one != two);
}

fn lease(version: u64, holder: Option<&str>, duration: u64) -> Lease {
    let mut lease = Lease::from_object(coordination::Lease::default());
    lease.version = version.to_string();
    lease.claim =
        holder.map(|holder| Claim { holder: holder.into(), duration: Duration::from_secs(duration) });
    lease
}

#[test]
fn a_claim_expires_by_our_clock_since_its_last_change_alone() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let timing = Timing::default();
    // The record's own times are hours off in either direction: they are not even read.
    let seen = Observed::next(None, Some(lease(1, Some("a"), 10)), start);
    assert_eq!(decide(&seen, &timing, after(12)), Step::Wait(after(13)));
    // Reading the same again does not make it younger.
    let again = Observed::next(Some(seen.clone()), Some(lease(1, Some("a"), 10)), after(8));
    assert_eq!(decide(&again, &timing, after(13)), Step::Claim);
    // A renewal does.
    let renewed = Observed::next(Some(seen), Some(lease(2, Some("a"), 10)), after(8));
    assert_eq!(decide(&renewed, &timing, after(13)), Step::Wait(after(21)));
}

#[test]
fn a_longer_claim_is_respected_and_an_absurd_one_bounded() {
    let start = Instant::now();
    let at = |duration| Observed::next(None, Some(lease(1, Some("a"), duration)), start);
    let expiry = |duration| decide(&at(duration), &Timing::default(), start);
    assert_eq!(expiry(30), Step::Wait(start + Duration::from_secs(30)));
    assert_eq!(expiry(0), Step::Wait(start + Duration::from_secs(13)), "never less than our own");
    assert_eq!(expiry(86_400), Step::Wait(start + Duration::from_secs(60)));
    assert_eq!(expiry(u64::from(u32::MAX)), Step::Wait(start + Duration::from_secs(60)));
}

#[test]
fn what_nobody_holds_is_claimed_at_once() {
    let now = Instant::now();
    for free in [None, Some(lease(3, None, 10))] {
        assert_eq!(decide(&Observed::next(None, free, now), &Timing::default(), now), Step::Claim);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// However links fail, replicas die and come back: at no moment do two lead, and once all is well again one
    /// does.
    #[test]
    fn never_two_leaders(steps in proptest::collection::vec((0usize..3, 0u8..5, 0u64..9000), 1..40)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let server = Server::default();
            let links: Vec<Link> = (0..3).map(|_| server.link()).collect();
            let mut replicas: Vec<Replica> = (0..3).map(|n| replica(&links[n], &format!("r{n}-0"))).collect();
            let mut lives = 0;
            for (n, what, pause) in steps {
                match what {
                    0 => links[n].cut.store(true, Ordering::SeqCst),
                    1 => links[n].deaf.store(true, Ordering::SeqCst),
                    2 => {
                        links[n].cut.store(false, Ordering::SeqCst);
                        links[n].deaf.store(false, Ordering::SeqCst);
                    }
                    3 => replicas[n].release.cancel(),
                    _ => {
                        lives += 1;
                        replicas[n].task.abort();
                        replicas[n] = replica(&links[n], &format!("r{n}-{lives}"));
                    }
                }
                let end = Instant::now() + Duration::from_millis(pause);
                while Instant::now() < end {
                    seconds(0.05).await;
                    // An aborted or ended replica acts no more, whatever its last word was.
                    let leaders = replicas.iter().filter(|r| r.leadership.is_leader() && !r.task.is_finished());
                    prop_assert!(leaders.count() <= 1);
                }
            }
            for (n, link) in links.iter().enumerate() {
                link.cut.store(false, Ordering::SeqCst);
                link.deaf.store(false, Ordering::SeqCst);
                if replicas[n].task.is_finished() || replicas[n].release.is_cancelled() {
                    lives += 1;
                    replicas[n].task.abort();
                    replicas[n] = replica(link, &format!("r{n}-{lives}"));
                }
            }
            seconds(40.0).await;
            let leaders = replicas.iter().filter(|r| r.leadership.is_leader()).count();
            prop_assert_eq!(leaders, 1);
            Ok(())
        })?;
    }
}
