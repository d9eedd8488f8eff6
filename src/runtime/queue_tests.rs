use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

/// What only tests ask for.
impl<K: Hash + Eq + Clone + Send + 'static> Queue<K> {
    /// Run `key` at that time. Of several times the earliest wins; a run that starts before fulfils it, for it
    /// sees the same world. A time named during a run stands.
    pub fn add_at(&self, key: K, at: Instant, lane: Lane) {
        self.change(|state| state.add_at(key, at, lane));
    }

    /// [`Queue::add_at`], that long from now.
    pub fn add_after(&self, key: K, after: Duration, lane: Lane) {
        self.add_at(key, Instant::now() + after, lane);
    }

    /// The number of keys whose turn it is but that have not started.
    pub fn depth(&self) -> usize {
        self.state().ready.len()
    }

    /// The number of keys that wait for a time.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }
}

/// What happened, in order: (`'+'` a run begins, `'-'` it ends, key, milliseconds since the start).
type Log = Arc<Mutex<Vec<(char, u8, u64)>>>;

struct Bench {
    queue: Queue<u8>,
    log: Log,
    start: Instant,
}

impl Bench {
    /// A queue whose runs take `takes`, each ending as `ends` says (given the key and how often it ran before).
    fn new(
        concurrency: usize,
        takes: Duration,
        ends: impl Fn(u8, usize) -> Next + Send + Sync + 'static,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let bench = Self { queue: Queue::default(), log: Log::default(), start: Instant::now() };
        let (queue, log, start) = (bench.queue.clone(), bench.log.clone(), bench.start);
        let ends = Arc::new(ends);
        let driver = tokio::spawn(async move {
            queue
                .run(concurrency, |key| {
                    let (log, ends) = (log.clone(), ends.clone());
                    async move {
                        let before = {
                            let mut log = log.lock().unwrap();
                            let before = log.iter().filter(|l| l.0 == '+' && l.1 == key).count();
                            log.push(('+', key, start.elapsed().as_millis() as u64));
                            before
                        };
                        tokio::time::sleep(takes).await;
                        log.lock().unwrap().push(('-', key, start.elapsed().as_millis() as u64));
                        ends(key, before)
                    }
                })
                .await
        });
        (bench, driver)
    }

    /// (key, milliseconds) of the runs that began.
    fn begun(&self) -> Vec<(u8, u64)> {
        self.log.lock().unwrap().iter().filter(|l| l.0 == '+').map(|l| (l.1, l.2)).collect()
    }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn backoff_doubles_up_to_a_minute() {
    let seconds: Vec<f64> = (1..=9).map(|n| backoff(n).as_secs_f64()).collect();
    assert_eq!(seconds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
    assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_key_added_often_runs_once() {
    let (bench, _driver) = Bench::new(4, ms(10), |_, _| Next::Idle);
    for _ in 0..5 {
        bench.queue.add(1, Lane::Normal);
    }
    assert_eq!(bench.queue.depth(), 1);
    tokio::time::sleep(ms(100)).await;
    assert_eq!(bench.begun(), [(1, 0)]);
    assert_eq!(bench.queue.depth(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_added_while_in_work_runs_again_afterwards_and_not_beside() {
    let (bench, _driver) = Bench::new(4, ms(10), |_, _| Next::Idle);
    bench.queue.add(1, Lane::Normal);
    tokio::time::sleep(ms(5)).await;
    bench.queue.add(1, Lane::Normal);
    bench.queue.add(1, Lane::Normal);
    tokio::time::sleep(ms(100)).await;
    assert_eq!(*bench.log.lock().unwrap(), [('+', 1, 0), ('-', 1, 10), ('+', 1, 10), ('-', 1, 20)]);
}

#[tokio::test(start_paused = true)]
async fn urgent_keys_overtake_and_a_waiting_key_can_become_urgent() {
    let (bench, _driver) = Bench::new(1, ms(10), |_, _| Next::Idle);
    for key in 1..=4 {
        bench.queue.add(key, Lane::Normal);
    }
    tokio::time::sleep(ms(5)).await;
    bench.queue.add(9, Lane::Urgent);
    bench.queue.add(4, Lane::Urgent);
    bench.queue.add(4, Lane::Normal);
    tokio::time::sleep(ms(100)).await;
    let order: Vec<u8> = bench.begun().iter().map(|b| b.0).collect();
    assert_eq!(order, [1, 9, 4, 2, 3]);
    assert_eq!(bench.begun()[1], (9, 5), "it waits for none at work");
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_waited_for_start_before_ordinary_ones_and_beside_those_at_work() {
    let (bench, _driver) = Bench::new(1, ms(10), |_, _| Next::Idle);
    for key in 1..=3 {
        bench.queue.add(key, Lane::Normal);
    }
    tokio::time::sleep(ms(5)).await;
    bench.queue.add(7, Lane::Soon);
    bench.queue.add(3, Lane::Soon);
    bench.queue.add(9, Lane::Urgent);
    tokio::time::sleep(ms(100)).await;
    let order: Vec<u8> = bench.begun().iter().map(|b| b.0).collect();
    assert_eq!(order, [1, 9, 7, 3, 2]);
    assert_eq!(
        bench.begun()[1..4],
        [(9, 5), (7, 10), (3, 15)],
        "as many again as of the others, and urgent ones count among all"
    );
}

#[tokio::test(start_paused = true)]
async fn of_several_times_the_earliest_wins() {
    let (bench, _driver) = Bench::new(4, ms(1), |_, _| Next::Idle);
    bench.queue.add_after(1, ms(300), Lane::Normal);
    bench.queue.add_after(1, ms(100), Lane::Normal);
    bench.queue.add_after(1, ms(200), Lane::Normal);
    tokio::time::sleep(ms(1000)).await;
    assert_eq!(bench.begun(), [(1, 100)]);
    assert_eq!(bench.queue.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_fulfils_what_was_planned_and_names_the_next_time() {
    let start = Instant::now();
    let (bench, _driver) = Bench::new(4, ms(1), move |_, before| match before {
        0 => Next::At(start + ms(500), Lane::Normal),
        _ => Next::Idle,
    });
    bench.queue.add_after(1, ms(300), Lane::Normal);
    tokio::time::sleep(ms(50)).await;
    bench.queue.add(1, Lane::Normal);
    tokio::time::sleep(ms(1000)).await;
    assert_eq!(bench.begun(), [(1, 50), (1, 500)]);
}

#[tokio::test(start_paused = true)]
async fn a_time_named_during_a_run_stands() {
    let (bench, _driver) = Bench::new(4, ms(10), |_, _| Next::Idle);
    bench.queue.add(1, Lane::Normal);
    tokio::time::sleep(ms(5)).await;
    bench.queue.add_after(1, ms(100), Lane::Normal);
    tokio::time::sleep(ms(1000)).await;
    assert_eq!(bench.begun(), [(1, 0), (1, 105)]);
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_and_a_success_ends_it() {
    let (bench, _driver) = Bench::new(4, ms(0), |_, before| match before {
        0..=2 | 4 => Next::Retry,
        _ => Next::Idle,
    });
    bench.queue.add(1, Lane::Normal);
    tokio::time::sleep(ms(3600)).await;
    bench.queue.add(1, Lane::Normal);
    tokio::time::sleep(ms(10_000)).await;
    // 0.5 s, 1 s and 2 s after each failure; after the success the next failure waits 0.5 s again.
    assert_eq!(bench.begun(), [(1, 0), (1, 500), (1, 1500), (1, 3500), (1, 3600), (1, 4100)]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_backs_off_runs_at_once_when_it_changes() {
    let (bench, _driver) =
        Bench::new(4, ms(0), |_, before| if before == 0 { Next::Retry } else { Next::Idle });
    bench.queue.add(1, Lane::Normal);
    tokio::time::sleep(ms(100)).await;
    bench.queue.add(1, Lane::Normal);
    tokio::time::sleep(ms(10_000)).await;
    assert_eq!(bench.begun(), [(1, 0), (1, 100)]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_harms_only_its_own_key_and_is_tried_again() {
    let queue = Queue::<u8>::default();
    let runs = Arc::new(AtomicUsize::new(0));
    let driver = tokio::spawn({
        let (queue, runs) = (queue.clone(), runs.clone());
        async move {
            queue
                .run(1, |key| {
                    let runs = runs.clone();
                    async move {
                        if key == 1 && runs.fetch_add(1, Ordering::SeqCst) == 0 {
                            panic!("on purpose, to see that the queue survives it");
                        }
                        Next::Idle
                    }
                })
                .await
        }
    });
    queue.add(1, Lane::Normal);
    queue.add(2, Lane::Normal);
    tokio::time::sleep(ms(400)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    tokio::time::sleep(ms(200)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert!(!driver.is_finished());
}

#[tokio::test(start_paused = true)]
async fn shutting_down_finishes_what_is_in_work_and_starts_nothing() {
    let (bench, driver) = Bench::new(1, ms(10), |_, _| Next::Retry);
    bench.queue.add(1, Lane::Normal);
    bench.queue.add(2, Lane::Normal);
    bench.queue.add_after(3, ms(7), Lane::Normal);
    tokio::time::sleep(ms(5)).await;
    bench.queue.shut_down();
    bench.queue.add(4, Lane::Urgent);
    driver.await.unwrap();
    assert_eq!(bench.start.elapsed(), ms(10));
    assert_eq!(*bench.log.lock().unwrap(), [('+', 1, 0), ('-', 1, 10)]);
    assert_eq!(bench.queue.depth() + bench.queue.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_gauge_follows_and_a_queue_at_rest_keeps_no_key() {
    let gauge = Gauge::default();
    let queue = Queue::<u16>::new(gauge.clone());
    queue.add_all(0..1000, Lane::Normal);
    assert_eq!(gauge.get(), 1000);
    let driver = tokio::spawn({
        let queue = queue.clone();
        async move { queue.run(8, |_| async { Next::Idle }).await }
    });
    tokio::time::sleep(ms(100)).await;
    assert_eq!(gauge.get(), 0);
    assert!(queue.state().entries.is_empty());
    queue.shut_down();
    driver.await.unwrap();
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Op {
    Add(u8, bool),
    AddAfter(u8, u64, bool),
    Sleep(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0u8..6, any::<bool>()).prop_map(|(key, urgent)| Op::Add(key, urgent)),
        (0u8..6, 0u64..50, any::<bool>()).prop_map(|(key, after, urgent)| Op::AddAfter(key, after, urgent)),
        (0u64..40).prop_map(Op::Sleep),
    ]
}

fn lane(urgent: bool) -> Lane {
    if urgent { Lane::Urgent } else { Lane::Normal }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// In any history: no key runs beside itself, never more runs at once than allowed, and after each `add`
    /// and each `add_at` a run of that key begins; at the end nothing is left behind.
    #[test]
    fn no_key_runs_twice_at_once_and_none_is_lost(
        ops in proptest::collection::vec(op(), 1..60),
        concurrency in 1usize..4,
        takes in 0u64..30,
        fails in proptest::collection::vec(any::<bool>(), 8),
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (bench, driver) = Bench::new(concurrency, ms(takes), move |key, before| {
                if before < 3 && fails[(key as usize + before) % fails.len()] { Next::Retry } else { Next::Idle }
            });
            // For each add: the key, and how long the log was.
            let mut added = Vec::new();
            let urgent = |op: &Op| matches!(op, Op::Add(_, true) | Op::AddAfter(_, _, true));
            let most = if ops.iter().any(urgent) { 3 * concurrency } else { concurrency };
            for op in ops {
                let position = bench.log.lock().unwrap().len();
                match op {
                    Op::Add(key, urgent) => {
                        bench.queue.add(key, lane(urgent));
                        added.push((key, position));
                    }
                    Op::AddAfter(key, after, urgent) => {
                        bench.queue.add_after(key, ms(after), lane(urgent));
                        added.push((key, position));
                    }
                    Op::Sleep(long) => tokio::time::sleep(ms(long)).await,
                }
            }
            tokio::time::sleep(Duration::from_secs(600)).await;
            let log = bench.log.lock().unwrap().clone();
            for (key, position) in added {
                prop_assert!(
                    log[position..].iter().any(|l| l.0 == '+' && l.1 == key),
                    "key {key} was added after {position} entries of {log:?} and never ran again"
                );
            }
            let mut at_work = std::collections::BTreeSet::new();
            for (what, key, _) in &log {
                if *what == '+' {
                    prop_assert!(at_work.insert(*key), "key {key} ran beside itself: {log:?}");
                    prop_assert!(at_work.len() <= most);
                } else {
                    prop_assert!(at_work.remove(key));
                }
            }
            prop_assert!(at_work.is_empty());
            prop_assert!(bench.queue.state().entries.is_empty());
            bench.queue.shut_down();
            driver.await.unwrap();
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn how_long_the_oldest_key_has_waited_is_told_until_its_run_has_ended() {
    let metrics = Metrics::new();
    let queue: Queue<u8> = Queue::of(&metrics, "finservices");
    let age = || {
        let text = metrics.encode().unwrap();
        let start = r#"banyan_queue_oldest_seconds{resource="finservices"} "#;
        text.lines().find_map(|line| line.strip_prefix(start)?.parse::<f64>().ok()).unwrap()
    };
    assert_eq!(age(), 0.0);
    queue.add(1, Lane::Normal);
    tokio::time::sleep(Duration::from_secs(3)).await;
    queue.add(2, Lane::Urgent);
    queue.add(1, Lane::Normal);
    assert_eq!(age(), 3.0, "while nobody works");
    let working = queue.clone();
    let driver = tokio::spawn(async move {
        let work = |_| async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Next::At(Instant::now() + Duration::from_secs(1000), Lane::Normal)
        };
        working.run(1, work).await;
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(age(), 4.0, "while it is at work");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(age(), 0.0, "one that waits for a time is not late");
    driver.abort();
}
