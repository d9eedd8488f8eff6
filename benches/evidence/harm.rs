//! What a Pass before a small step keeps: the whole service is not worse by more than m at the next weight.

use crate::evidence::{Look, Policy, Verdict};

use super::independent::{answers, detector};
use super::random::Random;
use super::report::{Target, percent, share, table, upper, words};
use super::{ALPHA, Size};

/// Steps and what comes after them, as shares.
const STEPS: [(f64, f64); 4] = [(0.01, 0.1), (0.05, 0.25), (0.1, 0.5), (0.25, 0.5)];

/// Passes of canaries that would make the whole service worse by more than m at their next weight.
pub fn harm(size: Size, targets: &mut Vec<Target>) -> String {
    let runs = size.promotions;
    let (mut rows, mut worst) = (Vec::new(), 0.0f64);
    for (index, (base, increase)) in [(0.0, 0.005), (0.001, 0.005), (0.01, 0.005)].into_iter().enumerate() {
        for (column, (weight, next)) in STEPS.into_iter().enumerate() {
            let stream = 1_000_000 * (500 + 10 * index + column) as u64;
            let margin = increase / next;
            let planned =
                Policy::new(increase, ALPHA, 4).requests_to_pass(base, weight, next).unwrap_or(u64::MAX);
            let whole =
                Policy::new(increase, ALPHA, 4).requests_to_pass(base, weight, 1.0).unwrap_or(u64::MAX);
            let passes = |canary: f64, stream: u64| -> u64 {
                let passed = |run: &u64| {
                    let mut random = Random::new(size.seed, stream + run);
                    let mut detector = detector(increase);
                    detector.moves_on_to(next);
                    let step = (planned / 40).max(40) as f64;
                    let mut seen = 0;
                    while seen < planned.saturating_mul(3) {
                        let requests = [weight, 1.0 - weight].map(|share| random.poisson(step * share));
                        let tally = answers(&mut random, requests, [canary, base]);
                        seen += tally.requests();
                        detector.take(Look { tally, ..Look::default() });
                        match detector.decide().0 {
                            Verdict::Pass => return true,
                            Verdict::Fail => return false,
                            _ => {}
                        }
                    }
                    false
                };
                (0..runs).filter(passed).count() as u64
            };
            let (over, at) = (passes(base + 1.5 * margin, stream), passes(base + margin, stream + 200_000));
            worst = worst.max(upper(at, runs)).max(upper(over, runs));
            rows.push(vec![
                percent(base),
                format!("{} → {}", percent(weight), percent(next)),
                format!("{} points", percent(margin).replace(" %", "")),
                share(over, runs),
                share(at, runs),
                format!("{planned}"),
                format!("{whole}"),
            ]);
        }
    }
    targets.push(Target {
        what: "going on although the whole is worse by m or more at the next weight, worst cell's upper end"
            .to_owned(),
        found: worst,
        limit: ALPHA,
        is_share: true,
    });
    let head = [
        "base rate",
        "step",
        "refuted increase",
        "passed, worse by 1.5 times that",
        "passed, worse by that",
        "planned requests",
        "of them for m itself",
    ];
    format!(
        "### Going on to a small step\n\nBefore a step with less than all requests a Pass refutes an increase of m divided by the \
         canary's share there, so that the whole service is worse by less than m. Share of {runs} runs, with m = 0.5 points, that \
         ever say Pass for a canary that is worse by that increase, and by one and a half times as much; then the requests (both \
         arms) that a Pass is planned to take for a good canary, and how many it would take to refute m itself there.\n\n{}",
        table(&words(&head), &rows)
    )
}
