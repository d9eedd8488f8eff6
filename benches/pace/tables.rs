//! Writes `docs/pace.md`: how long rollouts take at so many requests a second, and what bad releases cost, beside a policy of
//! fixed thresholds.
//!
//! `cargo run --release --example pace` writes it; `-- --quick` prints it from few runs.

use std::fmt::Write;
use std::process::ExitCode;

use banyan::api::CanaryRolloutSpec;
use banyan::canary::simulate::{Fate, Meets, Spread, forecast};
use serde_json::json;

#[path = "../evidence/random.rs"]
#[allow(dead_code, reason = "the document of the evidence uses the rest")]
mod random;

use random::Random;

/// Requests a second.
const RATES: [f64; 5] = [2.0, 10.0, 50.0, 200.0, 1000.0];
/// The share that fails in stable, in percent.
const ERRORS: f64 = 0.1;
const SEED: u64 = 20_260_101;

/// A policy of fixed thresholds with the same steps, as Flagger's Istio tutorial has it: each minute the canary must answer
/// 99 % of its requests well; the fifth minute in which it does not takes it back.
struct Fixed {
    promoted: usize,
    minutes: f64,
    failed: f64,
}

fn fixed(rate: f64, worse: f64, runs: usize) -> Fixed {
    let (mut promoted, mut minutes, mut failed) = (0, 0.0, 0.0);
    for run in 0..runs as u64 {
        let mut random = Random::new(SEED, run);
        let (mut weights, mut bad) = ([0.01, 0.1, 0.5].iter(), 0);
        let mut weight = weights.next();
        while let Some(share) = weight {
            minutes += 1.0;
            let requests = random.poisson(rate * 60.0 * share);
            let errors = random.binomial(requests, (ERRORS + worse) / 100.0);
            failed += errors as f64 * worse / (ERRORS + worse);
            if (errors as f64) * 100.0 > requests as f64 {
                bad += 1;
                if bad == 5 {
                    break;
                }
            } else {
                weight = weights.next();
            }
        }
        promoted += usize::from(weight.is_none());
    }
    Fixed { promoted, minutes: minutes / runs as f64, failed: failed / runs as f64 }
}

fn minutes(of: Option<Spread>) -> String {
    let shown = |seconds: f64| match seconds {
        seconds if seconds < 600.0 => format!("{:.1}", seconds / 60.0),
        seconds => format!("{:.0}", seconds / 60.0),
    };
    of.map_or("–".to_owned(), |of| {
        format!("{} ({} to {})", shown(of.median), shown(of.least), shown(of.most))
    })
}

/// The usual steps, or none.
fn policy(steps: bool) -> CanaryRolloutSpec {
    let usual = json!({"steps": [{"weight": 1}, {"weight": 10}, {"weight": 50}, {"weight": 100}]});
    let canary = if steps { usual } else { json!({}) };
    serde_json::from_value(json!({"service": "app", "strategy": {"canary": canary}})).expect("a policy")
}

fn failed(fate: &Fate) -> String {
    fate.failed.map_or("–".to_owned(), |of| format!("{:.0} ({:.0} to {:.0})", of.median, of.least, of.most))
}

/// The weights that a rollout had.
fn weights(fate: &Fate) -> String {
    let weights = fate.steps.iter().map(|(weight, _)| *weight).filter(|weight| *weight > 0);
    weights.map(|weight| weight.to_string()).collect::<Vec<_>>().join(", ")
}

/// A rollout that waits for a person at its first step: its weight, and since when.
fn waits(fate: &Fate) -> String {
    let at = fate.steps.last().map_or(0, |(weight, _)| *weight);
    format!("waits for a person at {at} % (`maxHold`)")
}

fn main() -> ExitCode {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let runs = if quick { 3 } else { 25 };
    let mut text = String::from(
        "# Pace: how long rollouts take, and what bad releases cost\n\nWritten in full by `cargo run --release --example pace`; \
         nothing in it is typed by hand. Whole rollouts are told in virtual time with the code that decides in a cluster: the usual \
         policy (steps 1, 10, 50, 100 %, everything else left out), and one without steps, which are chosen; four pods, 0.1 % of stable's requests fail, pods start within 10 s. ",
    );
    let _ = writeln!(
        text,
        "{runs} runs of each kind; the median, and in brackets the least and the most. `kubectl banyan canary plan` says the same \
         of a policy of your own.\n"
    );
    let mut good = String::from(
        "## A release that is as good as stable\n\n| requests a second | usual steps: minutes from deploy to promoted | \
         promoted | steps that were chosen | minutes | promoted | fixed thresholds: minutes | promoted |\n| --- | --- | --- | --- | --- \
         | --- | --- | --- |\n",
    );
    let mut worse = String::from(
        "\n## A release that is worse\n\nFailed requests are those beyond stable's own rate.\n\n| requests a second | worse by | usual \
         steps: taken back | minutes until then | failed requests | chosen steps: taken back | minutes until then | failed requests | fixed \
         thresholds: promoted | failed requests until then |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for requests in RATES {
        eprintln!("{requests} requests a second");
        let meets = Meets { requests, errors: ERRORS, pods: 4, routed: true };
        let told = |steps: bool| forecast(&policy(steps), meets, runs);
        let (told, chosen) = match (told(true), told(false)) {
            (Ok(told), Ok(chosen)) => (told, chosen),
            (Err(error), _) | (_, Err(error)) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        };
        let beside = fixed(requests, 0.0, runs * 40);
        let of = |part: usize, all: usize| format!("{:.0} %", 100.0 * part as f64 / all as f64);
        let takes = |good: &Fate| if good.promoted > 0 { minutes(good.seconds) } else { waits(good) };
        let _ = writeln!(
            good,
            "| {requests} | {} | {} | {} | {} | {} | {:.0} | {} |",
            takes(&told.good),
            of(told.good.promoted, runs),
            weights(&chosen.good),
            takes(&chosen.good),
            of(chosen.good.promoted, runs),
            beside.minutes,
            of(beside.promoted, runs * 40)
        );
        for (fate, chosen) in told.worse.iter().zip(&chosen.worse) {
            let beside = fixed(requests, fate.worse, runs * 40);
            let _ = writeln!(
                worse,
                "| {requests} | {} | {} | {} | {} | {} | {} | {} | {} | {:.0} |",
                match fate.worse {
                    1.0 => "1 point".to_owned(),
                    points => format!("{points} points"),
                },
                of(fate.taken_back, runs),
                minutes(fate.seconds),
                failed(fate),
                of(chosen.taken_back, runs),
                minutes(chosen.seconds),
                failed(chosen),
                of(beside.promoted, runs * 40),
                beside.failed
            );
        }
    }
    text.push_str(&good);
    text.push_str(&worse);
    text.push_str(
        "\n**Fixed thresholds** are a rule that was simulated, not a program that was run: the steps are the same, each minute 99 % of \
         the canary's requests must be answered well, and the fifth minute in which they are not takes it back (the figures of \
         Flagger's Istio tutorial). It looks at no request of stable, so that its time does not depend on traffic, and its mistakes \
         do. What it promoted goes on failing; what it failed until then is counted alone.\n",
    );
    if quick {
        print!("{text}");
        return ExitCode::SUCCESS;
    }
    match std::fs::write("docs/pace.md", &text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("docs/pace.md: {error}; run this from the root of the repository");
            ExitCode::FAILURE
        }
    }
}
