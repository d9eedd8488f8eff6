//! What others do, on the same streams.

use super::ALPHA;
use super::streams::{SECONDS, Stream};

/// A rule that looks at a stream and says after how many seconds it rolls back.
pub struct Peer {
    /// Its name in the tables.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// The rule.
    pub rule: fn(&Stream) -> Option<usize>,
}

/// The peers.
pub const PEERS: [Peer; 5] = [
    Peer {
        name: "Flagger",
        what: "a fixed threshold: success under 99 % over the last minute, checked each minute, rolled back at the fifth failed check",
        rule: |stream| failed_checks(stream, 0.99, 60, 60, 5),
    },
    Peer {
        name: "Argo Rollouts, example",
        what: "a fixed threshold: success under 95 % over the last five minutes, measured each five minutes, rolled back when more than three fail (which ten minutes do not hold)",
        rule: |stream| failed_checks(stream, 0.95, 300, 300, 4),
    },
    Peer {
        name: "Argo Rollouts, failureLimit 0",
        what: "the same kind with the default failureLimit and Flagger's threshold and interval: rolled back at the first minute under 99 %",
        rule: |stream| failed_checks(stream, 0.99, 60, 60, 1),
    },
    Peer {
        name: "Mann-Whitney, 5 %",
        what: "one-sided, each minute, on the rates of each 10 s of the last five minutes, at PipeCD's significance level",
        rule: |stream| repeated_rank_test(stream, 1.645),
    },
    Peer {
        name: "Mann-Whitney, 1 %",
        what: "the same at α",
        rule: |stream| repeated_rank_test(stream, 2.326),
    },
];

fn failed_checks(stream: &Stream, least: f64, window: usize, every: usize, failures: usize) -> Option<usize> {
    (1..=SECONDS / every)
        .map(|check| check * every)
        .filter(|end| {
            let (requests, bad) = stream.window(true, end.saturating_sub(window), *end);
            // No traffic gives no value, and is not counted as a failure here.
            requests > 0 && 1.0 - (bad as f64 / requests as f64) < least
        })
        .nth(failures - 1)
}

/// One-sided, with the normal approximation and the correction for ties.
fn repeated_rank_test(stream: &Stream, quantile: f64) -> Option<usize> {
    let rates = |canary: bool| -> Vec<f64> {
        (0..SECONDS / 10)
            .map(|point| {
                let (requests, bad) = stream.window(canary, point * 10, point * 10 + 10);
                bad as f64 / requests.max(1) as f64
            })
            .collect()
    };
    let (canary, stable) = (rates(true), rates(false));
    (1..=SECONDS / 60).map(|minute| minute * 60).find(|end| {
        let window = (end / 10).saturating_sub(30)..end / 10;
        rank_score(&canary[window.clone()], &stable[window]) > quantile
    })
}

fn rank_score(canary: &[f64], stable: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> =
        canary.iter().map(|rate| (*rate, true)).chain(stable.iter().map(|rate| (*rate, false))).collect();
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut rank_sum, mut ties, mut from) = (0.0, 0.0, 0);
    while from < all.len() {
        let same = all[from..].iter().take_while(|item| item.0 == all[from].0).count();
        let middle = from as f64 + (same as f64 + 1.0) / 2.0;
        rank_sum += middle * all[from..from + same].iter().filter(|item| item.1).count() as f64;
        ties += (same as f64).powi(3) - same as f64;
        from += same;
    }
    let (m, n) = (canary.len() as f64, stable.len() as f64);
    let total = m + n;
    let variance = m * n / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    let excess = rank_sum - m * (m + 1.0) / 2.0 - m * n / 2.0 - 0.5;
    if variance > 0.0 { excess / variance.sqrt() } else { 0.0 }
}

/// The same e-process with none of what real errors ask for: one start, no dispersion, no cap, every read taken as it comes,
/// looks of 5 s.
pub fn plain(stream: &Stream, skew: usize) -> Option<usize> {
    let odds: Vec<f64> =
        (0..40).map(|index| (1.25f64.ln() + (32f64 / 1.25).ln() * f64::from(index) / 39.0).exp()).collect();
    let mut logs = [0.0f64; 40];
    (1..=SECONDS / 5).map(|look| look * 5).find(|end| {
        let (stable_requests, stable_bad) = stream.window(false, end - 5, *end);
        let (canary_requests, canary_bad) = stream.window(true, end - 5 + skew, end + skew);
        let requests = (canary_requests + stable_requests) as f64;
        let share = canary_requests as f64 / requests.max(1.0);
        let mut sum = 0.0;
        for (log, odds) in logs.iter_mut().zip(&odds) {
            *log += canary_bad as f64 * odds.ln()
                - (canary_bad + stable_bad) as f64 * (share * (odds - 1.0)).ln_1p();
            sum += log.exp() / 40.0;
        }
        sum * ALPHA >= 1.0
    })
}
