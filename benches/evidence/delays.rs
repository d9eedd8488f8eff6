//! Independent errors: the requests that a detection takes, beside Wald's bound.

use crate::evidence::{Detector, EProcess, Look, Starts, Temper, Verdict};

use super::independent::{BASES, WEIGHTS, bad_event, detector, routed_look};
use super::random::Random;
use super::report::{Target, median, percent, table, words};
use super::{ALPHA, Size};

/// Median ratios to Wald's bound in one cell: one start, the whole detector from the start, and after 100 000 good requests.
pub fn few_delays(seed: u64) -> [f64; 3] {
    let (base, canary, weight) = (0.01, 0.03, 0.1);
    let bound = bounds(base, canary, weight).0;
    let ratio = |taken: &dyn Fn(&mut Random) -> Option<f64>| {
        let mut ratios: Vec<f64> = (0..60)
            .filter_map(|run| taken(&mut Random::new(seed, 200_000 + run)))
            .map(|requests| requests / bound)
            .collect();
        median(&mut ratios)
    };
    let whole = |turn: Turn| {
        ratio(&|random| {
            let detector = past(turn, base, weight, (canary - base) / 2.0, random);
            detect(detector, base, canary, weight, random)
        })
    };
    [
        ratio(&|random| Some(one_start(random, base, canary, weight))),
        whole(Turn::Start),
        whole(Turn::After(1e5)),
    ]
}

/// The requests until one start's evidence reaches the limit.
fn one_start(random: &mut Random, base: f64, canary: f64, weight: f64) -> f64 {
    let mut process = EProcess::new(ALPHA, Starts::One);
    process.begin_step();
    let mut requests = 0;
    while !process.crossed() {
        let (gap, is_canary) = next_bad(random, weight, canary, base);
        requests += gap;
        process.look(bad_event(is_canary), weight, Temper::NONE);
    }
    requests as f64
}

fn divergence(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    part(p, q) + part(1.0 - p, 1.0 - q)
}

/// Wald's bound in requests of both arms: the conditional test's (which arm a bad request falls on), and that of full information.
fn bounds(base: f64, canary: f64, weight: f64) -> (f64, f64) {
    let bad = weight * canary + (1.0 - weight) * base;
    let share = weight * canary / bad;
    let nats = -ALPHA.ln();
    (nats / (bad * divergence(share, weight)), nats / (weight * divergence(canary, base)))
}

/// Where in a rollout the canary turns bad.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    /// With the first request.
    Start,
    /// With a later step, after a good one of 20 000 requests.
    Step,
    /// Within a step, after so many good requests.
    After(f64),
}

/// The next bad request of a stream: how many requests it took, and whether it is the canary's.
fn next_bad(random: &mut Random, weight: f64, canary: f64, stable: f64) -> (u64, bool) {
    let bad = weight * canary + (1.0 - weight) * stable;
    let gap = random.geometric(bad);
    (gap, random.chance(weight * canary / bad))
}

struct Cell {
    label: String,
    weight: f64,
    ratio: f64,
    full: f64,
}

impl Cell {
    /// The median of the requests that were taken, over both bounds.
    fn of(base: f64, times: f64, weight: f64, taken: &mut [f64]) -> Self {
        let (bound, full) = bounds(base, base * times, weight);
        let requests = median(taken);
        Self {
            label: format!("{} × {times}", percent(base)),
            weight,
            ratio: requests / bound,
            full: requests / full,
        }
    }
}

fn grid() -> Vec<(usize, f64, f64)> {
    let mut pairs = Vec::new();
    for (index, base) in BASES.into_iter().enumerate() {
        for times in [1.5, 2.0, 3.0, 5.0, 10.0] {
            if base * times < 0.9 {
                pairs.push((index, base, times));
            }
        }
    }
    pairs
}

/// All cells of the grid, of so many runs with streams of their own. `takes` draws the requests that one run takes, given
/// the rates of stable and canary and the weight.
fn cells(
    seed: u64,
    runs: u64,
    series: usize,
    takes: impl Fn(&mut Random, f64, f64, f64) -> f64,
) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (index, base, times) in grid() {
        for (column, weight) in WEIGHTS.into_iter().enumerate() {
            let first = 1_000_000 * (series + 10 * index + column) as u64 + (times * 10_000.0) as u64;
            let mut taken: Vec<f64> = (0..runs)
                .map(|run| takes(&mut Random::new(seed, first + run), base, base * times, weight))
                .collect();
            cells.push(Cell::of(base, times, weight, &mut taken));
        }
    }
    cells
}

/// Requests to detect, as ratios to Wald's bound.
pub fn delays(size: Size, targets: &mut Vec<Target>) -> String {
    let mut out = String::from(
        "## 4. Requests to detect a worse canary\n\nMedian requests (both arms) to evidence 1/α, as a ratio to Wald's (1945) bound \
         ln(1/α) / information for the same α, weight and pair of rates, independent errors; one start looks after every request. First the ratio to \
         the bound of the conditional test, which only uses which arm a bad request falls on; in brackets that to the bound of full \
         information, which knows both rates. The whole detector looks each hundredth of the bound, with the share of each request known. (A median may lie under a bound on the mean.)\n\n",
    );
    let runs = size.delays;
    let cells = cells(size.seed, runs, 500, one_start);
    out += &format!("### One start ({runs} runs a cell)\n\n{}", ratio_table(&cells));
    summarise(&cells, "one start", Some(1.2), 1.5, targets);
    for (turn, title, limit) in [
        (Turn::Start, "whole detector, bad from the start", 2.0),
        (Turn::Step, "whole detector, bad from the start of a later step", 2.0),
        (Turn::After(10_000.0), "whole detector, turning bad after 10 000 good requests", 3.5),
        (Turn::After(1e6), "whole detector, turning bad after a million good requests", 3.5),
    ] {
        let cells = detector_delays(size, turn);
        out += &format!(
            "### The {title} ({} runs a cell)\n\nCounted from the turn; m is half of the increase.\n\n{}",
            runs_of(size, turn),
            ratio_table(&cells)
        );
        summarise(&cells, title, None, limit, targets);
    }
    out + &counted_delays(size)
}

fn runs_of(size: Size, turn: Turn) -> u64 {
    match turn {
        Turn::After(after) if after > 1e5 => size.delays / 4,
        _ => size.delays / 2,
    }
}

fn detector_delays(size: Size, turn: Turn) -> Vec<Cell> {
    let runs = runs_of(size, turn);
    let mut cells = Vec::new();
    for (index, base) in BASES.into_iter().enumerate() {
        let times: Vec<f64> = grid().into_iter().filter(|cell| cell.0 == index).map(|cell| cell.2).collect();
        let mut taken = vec![Vec::new(); times.len() * WEIGHTS.len()];
        for (column, weight) in WEIGHTS.into_iter().enumerate() {
            for run in 0..runs {
                let salt = match turn {
                    Turn::Start => 0,
                    Turn::Step => 1,
                    Turn::After(after) => after as u64,
                };
                let stream = 1_000_000 * (700 + 10 * index + column) as u64 + salt * 1000 + run;
                let mut random = Random::new(size.seed, stream);
                for (row, times) in times.iter().enumerate() {
                    let detector = past(turn, base, weight, base * (times - 1.0) / 2.0, &mut random);
                    if let Some(requests) = detect(detector, base, base * times, weight, &mut random) {
                        taken[row * WEIGHTS.len() + column].push(requests);
                    }
                }
            }
        }
        for (row, times) in times.iter().enumerate() {
            for (column, weight) in WEIGHTS.into_iter().enumerate() {
                cells.push(Cell::of(base, *times, weight, &mut taken[row * WEIGHTS.len() + column]));
            }
        }
    }
    cells
}

/// A detector that has seen the good past.
fn past(turn: Turn, base: f64, weight: f64, max_increase: f64, random: &mut Random) -> Detector {
    let mut detector = detector(max_increase);
    let requests = match turn {
        Turn::Start => 0.0,
        Turn::Step => 20_000.0,
        Turn::After(after) => after,
    };
    let look = if base > 0.05 { 200 } else { 1000 };
    for _ in 0..requests as u64 / look {
        detector.take(routed_look(random, look, weight, base, base));
    }
    if turn == Turn::Step {
        detector.begin_step();
    }
    detector
}

/// The requests from the turn to a Fail; `None` if the good past had already raised a false alarm.
fn detect(detector: Detector, base: f64, canary: f64, weight: f64, random: &mut Random) -> Option<f64> {
    if detector.evidence().crossed() {
        return None;
    }
    let bound = bounds(base, canary, weight).0;
    let look = (bound / 100.0).floor().max(1.0) as u64;
    Some(until_fail(detector, bound, look, || routed_look(random, look, weight, canary, base)))
}

/// The requests to a Fail, in looks of so many; infinite where 40 times the bound do not suffice.
fn until_fail(
    mut detector: Detector,
    bound: f64,
    requests: u64,
    mut look: impl FnMut() -> Look<'static>,
) -> f64 {
    let mut taken = 0;
    while (taken as f64) < 40.0 * bound {
        detector.take(look());
        taken += requests;
        if detector.decide().0 == Verdict::Fail {
            return taken as f64;
        }
    }
    f64::INFINITY
}

/// The same from the start, by counts, as a cluster runs it.
fn counted_delays(size: Size) -> String {
    let runs = size.delays / 4;
    let cells = cells(size.seed, runs, 900, |random, base, canary, weight| {
        let bound = bounds(base, canary, weight).0;
        let requests = (bound / 50.0).ceil() as u64;
        let look = || Look { routed_share: None, ..routed_look(random, requests, weight, canary, base) };
        until_fail(detector((canary - base) / 2.0), bound, requests, look)
    });
    format!(
        "### The whole detector by counts, bad from the start ({runs} runs a cell)\n\nThe share comes from the counts; a look is a fiftieth of the bound, but has 20 \
         requests at least and some of each arm, and is capped at α^(−1/2): where the bound is a few hundred requests, the looks are what it takes.\n\n{}",
        ratio_table(&cells)
    )
}

fn ratio_table(cells: &[Cell]) -> String {
    let mut head = words(&["base rate × times worse"]);
    head.extend(WEIGHTS.map(|weight| format!("weight {}", percent(weight))));
    let mut rows: Vec<Vec<String>> = Vec::new();
    for cell in cells {
        if cell.weight == WEIGHTS[0] {
            rows.push(vec![cell.label.clone()]);
        }
        if let Some(row) = rows.last_mut() {
            row.push(format!("{:.2} ({:.2})", cell.ratio, cell.full));
        }
    }
    let mut ratios: Vec<f64> = cells.iter().map(|cell| cell.ratio).collect();
    let middle = median(&mut ratios);
    let most = ratios.last().copied().unwrap_or(f64::NAN);
    table(&head, &rows) + &format!("Median of the cells {middle:.2}, largest {most:.2}.\n\n")
}

fn summarise(cells: &[Cell], what: &str, middle: Option<f64>, limit: f64, targets: &mut Vec<Target>) {
    let mut ratios: Vec<f64> = cells.iter().map(|cell| cell.ratio).collect();
    let found = median(&mut ratios);
    let target = |name: &str, found: f64, limit: f64| Target {
        what: format!("requests to detect over Wald's bound, {what}, {name}"),
        found,
        limit,
        is_share: false,
    };
    if let Some(limit) = middle {
        targets.push(target("median cell", found, limit));
    }
    targets.push(target("largest cell", *ratios.last().unwrap_or(&f64::NAN), limit));
}
