//! What the tests promise, checked exactly where totals are small enough to enumerate, by properties elsewhere, and by a quick run of
//! the simulation that writes `docs/evidence.md`.

use super::*;

#[path = "../../../benches/evidence/simulation.rs"]
#[allow(dead_code, reason = "the document uses all of it, this test a part")]
mod simulation;

mod behaviour;
mod properties;

const ALPHA: f64 = 0.01;

fn tally(canary: (u64, u64), stable: (u64, u64)) -> Tally {
    Tally { canary_requests: canary.0, canary_bad: canary.1, stable_requests: stable.0, stable_bad: stable.1 }
}

fn choose(n: u64, k: u64) -> f64 {
    (0..k).fold(1.0, |product, index| product * (n - index) as f64 / (index + 1) as f64)
}

fn binomial(n: u64, k: u64, p: f64) -> f64 {
    choose(n, k) * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32)
}

fn started(starts: Starts) -> EProcess {
    let mut process = EProcess::new(ALPHA, starts);
    process.begin_step();
    process
}

/// Takes a look into a copy and gives the evidence after it.
fn after(process: &EProcess, seen: Tally, share: f64, temper: Temper) -> f64 {
    let mut copy = process.clone();
    copy.look(seen, share, temper);
    copy.evidence()
}

/// Processes with a past, so that every part of the mixture carries weight.
fn pasts() -> Vec<EProcess> {
    [Starts::One, Starts::StepsAndWithin(3)]
        .into_iter()
        .flat_map(|starts| {
            [0u64, 1, 5].map(|bad| {
                let mut process = started(starts);
                for _ in 0..6 {
                    process.look(tally((10, bad), (90, 4)), 0.1, Temper::NONE);
                }
                process.begin_step();
                process
            })
        })
        .collect()
}

#[test]
fn the_evidence_of_a_good_canary_does_not_grow_on_average_given_the_totals() {
    for process in pasts() {
        let before = process.evidence();
        for (canary, stable, bad) in [(1, 9, 3), (5, 5, 4), (10, 30, 12), (3, 40, 43), (20, 20, 39)] {
            let share = canary as f64 / (canary + stable) as f64;
            for phi in [1.0, 1.7, 12.0] {
                for cap in [0.1, 1.0, f64::INFINITY] {
                    let mean: f64 = (0..=bad.min(canary))
                        .filter(|hits| bad - hits <= stable)
                        .map(|hits| {
                            let chance = choose(canary, hits) * choose(stable, bad - hits)
                                / choose(canary + stable, bad);
                            let seen = tally((canary, hits), (stable, bad - hits));
                            chance * after(&process, seen, share, Temper { phi, cap })
                        })
                        .sum();
                    assert!(
                        mean <= before * (1.0 + 1e-9),
                        "{canary} {stable} {bad} φ {phi} cap {cap}: {mean} over {before}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_evidence_of_a_good_canary_does_not_grow_on_average_when_the_route_draws() {
    for process in pasts() {
        let before = process.evidence();
        for (bad, share) in [(1, 0.01), (2, 0.5), (7, 0.1), (15, 0.9)] {
            let mean = |temper: Temper| -> f64 {
                (0..=bad)
                    .map(|hits| {
                        let seen = tally((hits, hits), (bad - hits, bad - hits));
                        binomial(bad, hits, share) * after(&process, seen, share, temper)
                    })
                    .sum()
            };
            assert!(mean(Temper::NONE) <= before * (1.0 + 1e-9));
            let tempered = Temper { phi: 3.0, cap: 0.5 };
            assert!(mean(tempered) <= before * (1.0 + 1e-9));
        }
    }
}

#[test]
fn uncapped_it_is_a_fair_bet_under_the_binomial() {
    // One bad request is never capped: the mean is then exactly what it was, so nothing is given away.
    let process = started(Starts::One);
    let mean: f64 = [0u64, 1]
        .map(|hit| {
            let seen = tally((hit, hit), (1 - hit, 1 - hit));
            binomial(1, hit, 0.3) * after(&process, seen, 0.3, Temper::NONE)
        })
        .iter()
        .sum();
    assert!((mean - 1.0).abs() < 1e-12, "{mean}");
}

/// The mean of exp(side) after one look, for a confidence sequence that may be refuted from above or from below.
fn mean_against(delta: f64, canary: (u64, f64), stable: (u64, f64), phi: f64) -> f64 {
    let mut mean = 0.0;
    for canary_bad in 0..=canary.0 {
        for stable_bad in 0..=stable.0 {
            let mut sequence = ConfidenceSequence::new(ALPHA);
            sequence.look(tally((canary.0, canary_bad), (stable.0, stable_bad)), phi);
            mean += binomial(canary.0, canary_bad, canary.1)
                * binomial(stable.0, stable_bad, stable.1)
                * sequence.log_evidence_under(delta).exp();
        }
    }
    mean
}

#[test]
fn the_evidence_for_a_pass_does_not_grow_on_average_when_the_canary_is_worse() {
    for (canary, stable) in [(4, 12), (10, 10), (12, 3)] {
        for base in [0.0, 0.01, 0.2, 0.5] {
            for delta in [0.0, 0.01, 0.1, 0.4] {
                for phi in [1.0, 2.5] {
                    let mean = mean_against(delta, (canary, base + delta), (stable, base), phi);
                    assert!(mean <= 1.0 + 1e-9, "{canary} {stable} {base} {delta} {phi}: {mean}");
                }
            }
        }
    }
    let worse = mean_against(0.1, (10, 0.2), (10, 0.3), 1.0);
    assert!(worse > 1.2, "a better canary must be able to pass: {worse}");
}

#[test]
fn the_interval_holds_the_truth_and_narrows() {
    let mut sequence = ConfidenceSequence::new(ALPHA);
    assert_eq!((sequence.lower(), sequence.upper()), (-1.0, 1.0));
    let mut width = 2.0;
    for look in 0..200 {
        sequence.look(tally((1_000, 10), (9_000, 45)), 1.0);
        let (low, high) = (sequence.lower(), sequence.upper());
        assert!(low < 0.005 && 0.005 < high, "look {look}: {low} {high}");
        assert!(high - low <= width + 1e-9);
        width = high - low;
    }
    assert!(width < 0.002, "{width}");
}

#[test]
fn the_interval_without_errors_is_near_the_rule_of_its_size() {
    let mut sequence = ConfidenceSequence::new(ALPHA);
    sequence.look(tally((10_000, 0), (90_000, 0)), 1.0);
    // With one look and no error, ln(1/α) / n is the least that any such bound can be.
    let least = -ALPHA.ln() / 10_000.0;
    assert!((least..1.7 * least).contains(&sequence.upper()), "{}", sequence.upper());
}

#[test]
fn dispersed_errors_are_measured() {
    let mut independent = Dispersion::default();
    let mut clustered = Dispersion::default();
    let mut state = 1u64;
    let mut chance = |of: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).is_multiple_of(of)
    };
    for _ in 0..400u64 {
        let mut pods = |size: u64, of: u64| -> Vec<PodCounts> {
            let bad = |hit: bool| if hit { size } else { 0 };
            (0..8).map(|pod| PodCounts { pod, requests: 200, bad: bad(chance(of)) }).collect()
        };
        let (single, tens) = (pods(1, 4), pods(10, 40));
        independent.look(&single, 5.0);
        clustered.look(&tens, 5.0);
    }
    assert!(independent.phi() < 1.3, "{}", independent.phi());
    assert!((7.0..13.0).contains(&clustered.phi()), "{}", clustered.phi());
    // The first clusters, before the scatter is known, may be taken for bursts; none is long.
    assert!(clustered.longest_burst() <= 10.0, "{}", clustered.longest_burst());
}

#[test]
fn an_error_rate_that_rises_for_all_is_no_dispersion() {
    let mut dispersion = Dispersion::default();
    for look in 0..300u64 {
        let bad = 2 + look / 20;
        let pods: Vec<PodCounts> = (0..6).map(|pod| PodCounts { pod, requests: 500, bad }).collect();
        dispersion.look(&pods, 5.0);
    }
    assert_eq!(dispersion.phi(), 1.0);
}

#[test]
fn errors_that_come_together_scatter_as_much_in_shorter_looks() {
    let (mut whole, mut parts) = (Dispersion::default(), Dispersion::default());
    for second in 0..300u64 {
        let bad = |pod: u64| if (second + pod).is_multiple_of(3) { 4 } else { 0 };
        let pods = |part: u64| {
            let counts = move |pod| PodCounts { pod, requests: 60 / part, bad: bad(pod) / part };
            (0..6).map(counts).collect::<Vec<_>>()
        };
        whole.look(&pods(1), 1.0);
        (0..4).for_each(|_| parts.look(&pods(4), 0.25));
    }
    assert!(whole.phi() > 2.0, "{}", whole.phi());
    assert_eq!(parts.phi(), whole.phi());
    assert_eq!(Dispersion::from_text(&parts.to_text()).expect("our own form").phi(), whole.phi());
    // Until stable is known, four looks of a quarter of a second are believed no more than one of a second.
    let unknown = Dispersion::default();
    assert!(4.0 * unknown.temper(ALPHA, 0.25).cap < -ALPHA.ln());
}

#[test]
fn a_blip_is_remembered_by_its_length_and_not_by_its_size() {
    let mut dispersion = Dispersion::default();
    for look in 0..400u64 {
        let blip = (200..203).contains(&look);
        let pods: Vec<PodCounts> = (0..8)
            .map(|pod| PodCounts {
                pod,
                requests: 150,
                bad: if blip && pod == 3 { 45 } else { u64::from((look + pod) % 4 == 0) },
            })
            .collect();
        dispersion.look(&pods, 5.0);
    }
    assert!((15.0..=25.0).contains(&dispersion.longest_burst()), "{}", dispersion.longest_burst());
    assert!(dispersion.phi() < 1.5, "{}", dispersion.phi());
    assert!(dispersion.phi_with_bursts() > 3.0, "{}", dispersion.phi_with_bursts());
    let temper = dispersion.temper(ALPHA, 5.0);
    assert!(temper.cap * 3.0 < -ALPHA.ln(), "three looks of a blip stay under the limit");
}

fn detector(policy: Policy) -> Detector {
    let mut detector = Detector::new(policy).unwrap();
    detector.begin_step();
    detector
}

/// The simulation of `docs/evidence.md` in small: few runs, all cells of a kind pooled, limits that chance passes less than once in a
/// thousand.
#[test]
fn the_simulation_in_small_keeps_its_promises() {
    let small = simulation::in_small();
    let (hits, runs) = small.independent_alarms;
    // Poisson with mean α · runs = 9 is over 19 in 0.1 %.
    assert!(runs == 900 && hits <= 19, "{hits} of {runs} good canaries failed among independent errors");
    let (hits, runs) = small.real_alarms;
    // With mean 2α · runs = 0.96, over 5 in 0.06 %.
    assert!(runs == 48 && hits <= 5, "{hits} of {runs} good canaries failed among real errors");
    let (naive, _) = small.naive_alarms;
    assert!(naive >= 10, "the streams are real enough to fool a plain test: {naive} of {runs}");
    let (hits, runs) = small.wrong_promotions;
    assert!(runs == 200 && hits <= 8, "{hits} of {runs} canaries worse by 2m passed");
    assert!(small.one_start < 1.5, "{}", small.one_start);
    assert!(small.whole < 2.3, "{}", small.whole);
    assert!(small.after_good < 4.0, "{}", small.after_good);
}
