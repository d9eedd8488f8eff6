//! Independent errors: false alarms and wrong promotions.

use crate::evidence::{Detector, EProcess, Look, Policy, Starts, Tally, Temper, Verdict};

use super::random::Random;
use super::report::{Target, median, percent, share, table, upper, words};
use super::{ALPHA, Size};

/// The base rates of the grid without zero.
pub(super) const BASES: [f64; 4] = [0.0001, 0.001, 0.01, 0.1];
/// The weights of the grid.
pub(super) const WEIGHTS: [f64; 5] = [0.01, 0.05, 0.1, 0.25, 0.5];

fn name(starts: Starts) -> &'static str {
    match starts {
        Starts::One => "one start",
        Starts::StepsAndWithin(_) => "whole mixture of starts",
    }
}

/// One bad request; without a bad one the evidence does not move when the share is known, so these are all looks that matter.
pub(super) fn bad_event(canary: bool) -> Tally {
    Tally {
        canary_requests: u64::from(canary),
        canary_bad: u64::from(canary),
        stable_requests: u64::from(!canary),
        stable_bad: u64::from(!canary),
    }
}

/// Whether a good canary's evidence reaches the limit within so many bad requests on average, looking after each.
fn false_alarm(random: &mut Random, starts: Starts, mean: f64, weight: f64) -> bool {
    let events = random.poisson(mean);
    let mut process = EProcess::new(ALPHA, starts);
    process.begin_step();
    (0..events).any(|_| {
        process.look(bad_event(random.chance(weight)), weight, Temper::NONE);
        process.crossed()
    })
}

/// A few false alarms of the whole mixture: hits and runs.
pub fn few_alarms(seed: u64) -> (u64, u64) {
    let (mut hits, mut runs) = (0, 0);
    for (column, weight) in [0.01, 0.1, 0.5].into_iter().enumerate() {
        for run in 0..300 {
            let mut random = Random::new(seed, 10_000 * column as u64 + run);
            runs += 1;
            hits += u64::from(false_alarm(&mut random, Starts::StepsAndWithin(4), 200.0, weight));
        }
    }
    (hits, runs)
}

/// A few canaries that are worse by 2m: passed ones and runs.
pub fn few_promotions(seed: u64) -> (u64, u64) {
    let hits = (0..200).filter(|run| {
        let mut random = Random::new(seed, 100_000 + run);
        let mut detector = detector(0.005);
        (0..60).any(|_| {
            let mut look = routed_look(&mut random, 1000, 0.5, 0.02, 0.01);
            look.routed_share = None;
            detector.take(look);
            detector.decide().0 == Verdict::Pass
        })
    });
    (hits.count() as u64, 200)
}

/// False alarms with a look after every request.
pub fn false_alarms(size: Size, targets: &mut Vec<Target>) -> String {
    let mut out = String::from("## 1. False alarms, independent errors, a look after every request\n\n");
    out += &format!(
        "The canary is as good as stable. Share of runs in which the evidence ever reaches 1/α, α = {}, and in brackets the upper \
         end of its 95 % interval, which must not pass α.\n\n",
        percent(ALPHA)
    );
    for starts in [Starts::One, Starts::StepsAndWithin(4)] {
        let mut rows = vec![vec!["0".to_owned(), "none".to_owned()]];
        rows[0].extend(WEIGHTS.map(|_| "0 % (no bad request, no evidence)".to_owned()));
        let mut worst = 0.0f64;
        for (index, base) in BASES.into_iter().enumerate() {
            let requests = [1e6, 1e6, 500_000.0, 50_000.0][index] * size.horizon;
            let runs = size.runs * [1, 1, 2, 2][index];
            let mut row = vec![percent(base), format!("{runs} × {requests:.0}")];
            for (column, weight) in WEIGHTS.into_iter().enumerate() {
                let mut hits = 0;
                for run in 0..runs {
                    let mut random = Random::new(size.seed, 1_000_000 * (10 * index + column) as u64 + run);
                    hits += u64::from(false_alarm(&mut random, starts, requests * base, weight));
                }
                worst = worst.max(upper(hits, runs));
                row.push(share(hits, runs));
            }
            rows.push(row);
        }
        let mut head = words(&["base rate", "runs × requests"]);
        head.extend(WEIGHTS.map(|weight| format!("weight {}", percent(weight))));
        out += &format!("With {}, the share of each request known from the route:\n\n", name(starts));
        out += &table(&head, &rows);
        targets.push(Target {
            what: format!("false alarms, independent errors, {}, worst cell's upper end", name(starts)),
            found: worst,
            limit: ALPHA,
            is_share: true,
        });
    }
    out + &counted_alarms(size, targets)
}

/// The whole detector, which takes the share from the counts of each look.
fn counted_alarms(size: Size, targets: &mut Vec<Target>) -> String {
    let mut rows = Vec::new();
    let mut worst = 0.0f64;
    let runs = size.runs / 4;
    for (index, base) in [0.0].into_iter().chain(BASES).enumerate() {
        let requests = ([2e4, 1e5, 5e4, 3e4, 1e4][index] * size.horizon) as u64;
        let mut row = vec![percent(base), format!("{runs} × {requests}")];
        for (column, weight) in WEIGHTS.into_iter().enumerate() {
            let mut hits = 0;
            for run in 0..runs {
                let stream = 1_000_000 * (100 + 10 * index + column) as u64 + run;
                let mut random = Random::new(size.seed, stream);
                let mut detector = detector(1e-6);
                let mut seen = 0;
                while seen < requests {
                    let look = short_look(&mut random, weight, base, base);
                    seen += look.tally.requests();
                    detector.take(look);
                    if detector.evidence().crossed() {
                        hits += 1;
                        break;
                    }
                }
            }
            worst = worst.max(upper(hits, runs));
            row.push(share(hits, runs));
        }
        rows.push(row);
    }
    let mut head = words(&["base rate", "runs × requests"]);
    head.extend(WEIGHTS.map(|weight| format!("weight {}", percent(weight))));
    targets.push(Target {
        what: "false alarms, independent errors, whole detector by counts, worst cell's upper end".to_owned(),
        found: worst,
        limit: ALPHA,
        is_share: true,
    });
    format!(
        "The whole detector, share taken from the counts; a look is handed over after every request, and it puts them together \
         until both arms have one and there are 20:\n\n{}",
        table(&head, &rows)
    )
}

pub(super) fn detector(max_increase: f64) -> Detector {
    let mut detector = Detector::new(Policy::new(max_increase, ALPHA, 4)).expect("a policy in range");
    detector.begin_step();
    detector
}

/// What so many requests of canary and stable are answered, with these rates of bad answers.
pub(super) fn answers(random: &mut Random, requests: [u64; 2], rates: [f64; 2]) -> Tally {
    let [canary_requests, stable_requests] = requests;
    Tally {
        canary_requests,
        canary_bad: random.binomial(canary_requests, rates[0]),
        stable_requests,
        stable_bad: random.binomial(stable_requests, rates[1]),
    }
}

/// The requests until the detector would close a look: at least 20, and at least one of each arm. Feeding it one request at a time
/// gives the same looks, more slowly; `tests` holds it to that.
pub fn short_look(random: &mut Random, weight: f64, canary: f64, stable: f64) -> Look<'static> {
    let mut canary_requests = random.binomial(20, weight);
    let mut stable_requests = 20 - canary_requests;
    if canary_requests == 0 {
        stable_requests += random.geometric(weight) - 1;
        canary_requests = 1;
    } else if stable_requests == 0 {
        canary_requests += random.geometric(1.0 - weight) - 1;
        stable_requests = 1;
    }
    Look { tally: answers(random, [canary_requests, stable_requests], [canary, stable]), ..Look::default() }
}

/// A look of so many requests, each drawn for itself.
pub(super) fn routed_look(
    random: &mut Random,
    requests: u64,
    weight: f64,
    canary: f64,
    stable: f64,
) -> Look<'static> {
    let canary_requests = random.binomial(requests, weight);
    Look {
        tally: answers(random, [canary_requests, requests - canary_requests], [canary, stable]),
        routed_share: Some(weight),
        ..Look::default()
    }
}

/// Wrong promotions, and what a right one takes.
pub fn promotions(size: Size, targets: &mut Vec<Target>) -> String {
    let runs = size.promotions;
    let (mut rows, mut worst) = (Vec::new(), 0.0f64);
    for (index, (base, increase)) in
        [(0.0, 0.001), (0.0001, 0.0005), (0.001, 0.001), (0.01, 0.005), (0.1, 0.02)].into_iter().enumerate()
    {
        for (column, weight) in [0.01, 0.1, 0.5].into_iter().enumerate() {
            let stream = 1_000_000 * (300 + 10 * index + column) as u64;
            let planned =
                Policy::new(increase, ALPHA, 4).requests_to_pass(base, weight, 1.0).unwrap_or(u64::MAX);
            let horizon = planned.saturating_mul(3).min((3e6 * size.horizon) as u64);
            let passes = |canary: f64, stream: u64, runs: u64| -> Vec<f64> {
                (0..runs)
                    .map(|run| {
                        let mut random = Random::new(size.seed, stream + run);
                        let mut detector = detector(increase);
                        let mut seen = 0;
                        // Looks of about a fortieth of what a Pass takes: often enough to be tempted, few enough to count.
                        let step = (planned / 40).max(40) as f64;
                        while seen < horizon {
                            let requests = [weight, 1.0 - weight].map(|share| random.poisson(step * share));
                            let tally = answers(&mut random, requests, [canary, base]);
                            seen += tally.requests();
                            detector.take(Look { tally, ..Look::default() });
                            match detector.decide().0 {
                                Verdict::Pass => return seen as f64,
                                Verdict::Fail => return f64::INFINITY,
                                _ => {}
                            }
                        }
                        f64::INFINITY
                    })
                    .collect()
            };
            let wrong =
                passes(base + 2.0 * increase, stream, runs).iter().filter(|taken| taken.is_finite()).count()
                    as u64;
            let at_limit = passes(base + increase, stream + 200_000, runs)
                .iter()
                .filter(|taken| taken.is_finite())
                .count() as u64;
            let mut right = passes(base, stream + 500_000, runs / 10);
            worst = worst.max(upper(wrong, runs));
            rows.push(vec![
                percent(base),
                format!("{} points", percent(increase).replace(" %", "")),
                percent(weight),
                share(wrong, runs),
                share(at_limit, runs),
                format!("{planned}"),
                match median(&mut right) {
                    requests if requests.is_finite() => format!("{requests:.0}"),
                    _ => "–".to_owned(),
                },
            ]);
        }
    }
    targets.push(Target {
        what: "wrong promotions of a canary worse by 2m, independent errors, worst cell's upper end"
            .to_owned(),
        found: worst,
        limit: ALPHA,
        is_share: true,
    });
    format!(
        "## 3. Wrong promotions\n\nShare of runs that ever say Pass, looked at about forty times on the way to a Pass and on up to three \
         times as far, for a canary worse by 2m (the promise: at most α = {}) and by m itself; {runs} runs each. The last two columns: \
         requests (both arms) that a Pass is planned to take for a canary as good as stable, and their median ({} runs).\n\n{}",
        percent(ALPHA),
        runs / 10,
        table(
            &words(&[
                "base rate",
                "m",
                "weight",
                "passed, worse by 2m",
                "passed, worse by m",
                "planned requests",
                "median requests",
            ]),
            &rows,
        )
    )
}
