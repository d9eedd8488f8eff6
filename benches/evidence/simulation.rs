//! The simulation behind `docs/evidence.md`, and behind the quick test that guards it.

use std::fmt::Write;
use std::time::Instant;

use crate::evidence::{
    ConfidenceSequence, Detector, EProcess, Look, PodCounts, Policy, Starts, Tally, Temper,
};

mod delays;
mod harm;
mod independent;
mod peers;
pub mod random;
mod report;
mod rollouts;
mod streams;

use report::{Target, table, words};

/// The chance of a false alarm that is promised in all tables.
pub const ALPHA: f64 = 0.01;

/// How much is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The seed of everything.
    pub seed: u64,
    /// Runs of a cell of the false alarms under independent errors.
    pub runs: u64,
    /// The part of the full number of requests in each of them.
    pub horizon: f64,
    /// Runs of a cell of the wrong promotions, independent errors.
    pub promotions: u64,
    /// Runs of a cell of the delays.
    pub delays: u64,
    /// Runs of a cell of the rollouts under real errors.
    pub rollouts: u64,
}

impl Size {
    /// What the document is made from.
    pub const FULL: Size =
        Size { seed: 20_260_101, runs: 5_000, horizon: 0.4, promotions: 1_500, delays: 1_600, rollouts: 600 };
    /// A first look.
    pub const QUICK: Size =
        Size { seed: 20_260_101, runs: 400, horizon: 0.05, promotions: 80, delays: 40, rollouts: 100 };
}

/// The document, and the targets that were missed.
pub fn everything(size: Size) -> (String, Vec<String>) {
    let mut targets = Vec::new();
    let began = Instant::now();
    let step = |name: &str| eprintln!("{name}: {:.0} s", began.elapsed().as_secs_f64());
    let alarms = independent::false_alarms(size, &mut targets);
    step("false alarms, independent errors");
    let (real, peers_alarms) = rollouts::false_alarms(size, &mut targets);
    step("false alarms, real errors");
    let promotions = independent::promotions(size, &mut targets);
    step("wrong promotions");
    let harm = harm::harm(size, &mut targets);
    step("going on to a small step");
    let delays = delays::delays(size, &mut targets);
    step("requests to detect");
    let (peers_delays, power) = rollouts::detections(size, &mut targets);
    step("delays and power");
    let mut out = String::new();
    let _ = write!(
        out,
        "# Evidence: what the canary's tests keep, and what they cost\n\n\
         Written in full by `cargo run --release --example evidence`, by simulation (`benches/evidence/`); nothing in it is typed by hand. Seed {}; \
         the generator is xoshiro256++, with a stream of its own for each run, so that the same seed gives the same tables. α = {ALPHA} throughout. \
         How the tests work, with sources, is in `src/evidence/`.\n\n## Summary\n\n",
        size.seed
    );
    let rows: Vec<Vec<String>> = targets.iter().map(Target::row).collect();
    out += &table(&words(&["what must hold", "at most", "found", ""]), &rows);
    out += &alarms;
    out += &real;
    out += &promotions;
    out += &harm;
    out += &delays;
    out += "## 5. The same streams through other rules\n\n\
        Simulated as rules; none of these programs was run. Thresholds and intervals are those of the projects' documentation: Flagger's Istio tutorial \
        (success rate at least 99 %, interval 1 m, threshold 5), Argo Rollouts' analysis page (success at least 95 %, interval 5 m, failureLimit 3, whose default \
        is 0), PipeCD's analysis stage (Mann-Whitney, significance level 5 %).\n\n";
    for peer in &peers::PEERS {
        let _ = writeln!(out, "- {}: {}.", peer.name, peer.what);
    }
    out += "- the plain e-process: one start, no dispersion, no cap, every read taken as it comes, no warm-up.\n\n";
    out += &peers_alarms;
    out += &peers_delays;
    out += &power;
    out += &cost();
    let missed = targets.iter().filter(|target| !target.met()).map(|target| target.what.clone()).collect();
    (out, missed)
}

/// What a test can afford.
pub struct InSmall {
    /// Good canaries failed among independent errors, and runs.
    pub independent_alarms: (u64, u64),
    /// Good canaries failed among real errors, and runs.
    pub real_alarms: (u64, u64),
    /// The same streams through the e-process with nothing against real errors.
    pub naive_alarms: (u64, u64),
    /// Canaries worse by 2m that passed, and runs.
    pub wrong_promotions: (u64, u64),
    /// Median requests to detect over Wald's bound, one start.
    pub one_start: f64,
    /// The same of the whole detector, bad from the start.
    pub whole: f64,
    /// The same, turning bad after 100 000 good requests.
    pub after_good: f64,
}

/// The simulation in small.
pub fn in_small() -> InSmall {
    let seed = Size::FULL.seed;
    let [real_alarms, naive_alarms] = rollouts::few_alarms(seed);
    let [one_start, whole, after_good] = delays::few_delays(seed);
    InSmall {
        independent_alarms: independent::few_alarms(seed),
        real_alarms,
        naive_alarms,
        wrong_promotions: independent::few_promotions(seed),
        one_start,
        whole,
        after_good,
    }
}

/// Time per look, on the machine that wrote the document.
fn cost() -> String {
    let look =
        |bad: u64| Tally { canary_requests: 30, canary_bad: bad, stable_requests: 270, stable_bad: 2 * bad };
    let nanoseconds = |work: &mut dyn FnMut(u64)| {
        let rounds = 200_000;
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let began = Instant::now();
            (0..rounds).for_each(&mut *work);
            best = best.min(began.elapsed().as_nanos() as f64 / rounds as f64);
        }
        format!("{best:.0}")
    };
    let mut process = EProcess::new(ALPHA, Starts::StepsAndWithin(4));
    process.begin_step();
    let mut interval = ConfidenceSequence::new(ALPHA);
    let mut detector = Detector::new(Policy::new(0.005, ALPHA, 4)).expect("a policy in range");
    detector.begin_step();
    let pods: Vec<PodCounts> =
        (0..9).map(|pod| PodCounts { pod, requests: 30, bad: u64::from(pod < 2) }).collect();
    let temper = Temper { phi: 1.2, cap: f64::INFINITY };
    // The share changes from look to look, as it does when it is counted.
    let share = |round: u64| 0.1 + (round % 7) as f64 * 0.001;
    let rows = [
        (
            "e-process, a look with bad requests",
            nanoseconds(&mut |round| process.look(look(1), share(round), temper)),
        ),
        ("e-process, a look without", nanoseconds(&mut |round| process.look(look(0), share(round), temper))),
        ("confidence sequence, a look with bad requests", nanoseconds(&mut |_| interval.look(look(1), 1.2))),
        (
            "detector, a look with bad requests and nine pods, and its verdict",
            nanoseconds(&mut |_| {
                detector.take(Look { tally: look(1), stable_pods: &pods, seconds: 5.0, ..Look::default() });
                std::hint::black_box(detector.decide());
            }),
        ),
        (
            "the verdict with all of its numbers",
            nanoseconds(&mut |_| {
                std::hint::black_box(detector.judge());
            }),
        ),
    ]
    .map(|(what, time)| vec![what.to_owned(), time]);
    format!(
        "## 7. Time per look\n\nNanoseconds, best of five times 200 000 looks, one core of the machine that wrote this (the one part of this document that differs from \
         run to run).\n\n{}",
        table(&words(&["what", "ns"]), &rows)
    )
}
