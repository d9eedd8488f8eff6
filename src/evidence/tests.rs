//! What the tests promise, checked exactly where totals are small enough to enumerate, by properties elsewhere, and by a quick run of
//! the simulation that writes `docs/evidence.md`.

use proptest::prelude::*;

use super::*;

#[path = "../../benches/evidence/simulation.rs"]
#[allow(dead_code, reason = "the document uses all of it, this test a part")]
mod simulation;

const ALPHA: f64 = 0.01;

fn tally(canary: (u64, u64), stable: (u64, u64)) -> Tally {
    Tally {
        canary_requests: canary.0,
        canary_bad: canary.1,
        stable_requests: stable.0,
        stable_bad: stable.1,
    }
}

fn choose(n: u64, k: u64) -> f64 {
    (0..k).fold(1.0, |product, index| {
        product * (n - index) as f64 / (index + 1) as f64
    })
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
        for (canary, stable, bad) in [
            (1, 9, 3),
            (5, 5, 4),
            (10, 30, 12),
            (3, 40, 43),
            (20, 20, 39),
        ] {
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
                    assert!(
                        mean <= 1.0 + 1e-9,
                        "{canary} {stable} {base} {delta} {phi}: {mean}"
                    );
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
    assert!(
        (least..1.7 * least).contains(&sequence.upper()),
        "{}",
        sequence.upper()
    );
}

#[test]
fn dispersed_errors_are_measured() {
    let mut independent = Dispersion::default();
    let mut clustered = Dispersion::default();
    let mut state = 1u64;
    let mut chance = |of: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % of == 0
    };
    for _ in 0..400u64 {
        let mut pods = |size: u64, of: u64| -> Vec<PodCounts> {
            let bad = |hit: bool| if hit { size } else { 0 };
            (0..8)
                .map(|pod| PodCounts {
                    pod,
                    requests: 200,
                    bad: bad(chance(of)),
                })
                .collect()
        };
        let (single, tens) = (pods(1, 4), pods(10, 40));
        independent.look(&single, 5.0);
        clustered.look(&tens, 5.0);
    }
    assert!(independent.phi() < 1.3, "{}", independent.phi());
    assert!(
        (7.0..13.0).contains(&clustered.phi()),
        "{}",
        clustered.phi()
    );
    // The first clusters, before the scatter is known, may be taken for bursts; none is long.
    assert!(
        clustered.longest_burst() <= 10.0,
        "{}",
        clustered.longest_burst()
    );
}

#[test]
fn an_error_rate_that_rises_for_all_is_no_dispersion() {
    let mut dispersion = Dispersion::default();
    for look in 0..300u64 {
        let bad = 2 + look / 20;
        let pods: Vec<PodCounts> = (0..6)
            .map(|pod| PodCounts {
                pod,
                requests: 500,
                bad,
            })
            .collect();
        dispersion.look(&pods, 5.0);
    }
    assert_eq!(dispersion.phi(), 1.0);
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
                bad: if blip && pod == 3 {
                    45
                } else {
                    u64::from((look + pod) % 4 == 0)
                },
            })
            .collect();
        dispersion.look(&pods, 5.0);
    }
    assert!(
        (15.0..=25.0).contains(&dispersion.longest_burst()),
        "{}",
        dispersion.longest_burst()
    );
    assert!(dispersion.phi() < 1.5, "{}", dispersion.phi());
    assert!(
        dispersion.phi_with_bursts() > 3.0,
        "{}",
        dispersion.phi_with_bursts()
    );
    let temper = dispersion.temper(ALPHA, 5.0);
    assert!(
        temper.cap * 3.0 < -ALPHA.ln(),
        "three looks of a blip stay under the limit"
    );
}

fn run(detector: &mut Detector, looks: usize, canary: (u64, u64), stable: (u64, u64)) -> Judgement {
    let look = Look {
        tally: tally(canary, stable),
        seconds: 5.0,
        ..Look::default()
    };
    let mut last = detector.judge();
    for _ in 0..looks {
        last = detector.look(look);
        if last.verdict == Verdict::Fail {
            break;
        }
    }
    last
}

fn detector(policy: Policy) -> Detector {
    let mut detector = Detector::new(policy).unwrap();
    detector.begin_step();
    detector
}

#[test]
fn a_good_canary_passes_and_says_what_it_still_needs_before() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    let early = run(&mut detector, 3, (100, 0), (900, 4));
    assert_eq!(
        (early.verdict, &early.reason),
        (Verdict::Insufficient, &Reason::TooFewRequests)
    );
    let needed = early.numbers.needed.unwrap();
    assert_eq!(needed.toward, Verdict::Pass);
    let looks = (needed.requests as f64 / 1000.0).ceil() as usize;
    assert!(looks > 2 && needed.seconds.is_some());
    assert_ne!(
        run(&mut detector, looks / 2, (100, 0), (900, 4)).verdict,
        Verdict::Pass
    );
    assert_eq!(
        run(&mut detector, looks, (100, 0), (900, 4)).verdict,
        Verdict::Pass
    );
}

#[test]
fn a_bad_canary_fails_within_a_few_looks_but_never_in_one() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    assert_ne!(
        run(&mut detector, 1, (100, 90), (900, 4)).verdict,
        Verdict::Fail
    );
    let judgement = run(&mut detector, 4, (100, 90), (900, 4));
    assert_eq!(
        (judgement.verdict, judgement.reason),
        (Verdict::Fail, Reason::Worse)
    );
}

#[test]
fn a_significant_but_trivial_difference_passes() {
    let mut detector = detector(Policy::new(0.01, ALPHA, 4));
    let judgement = run(&mut detector, 400, (5_000, 35), (5_000, 25));
    assert!(
        judgement.numbers.evidence >= judgement.numbers.limit,
        "it is significant"
    );
    assert_eq!(judgement.verdict, Verdict::Pass);
}

#[test]
fn a_good_past_does_not_hide_a_bad_present() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    assert_eq!(
        run(&mut detector, 1_000, (100, 0), (900, 4)).verdict,
        Verdict::Pass
    );
    let judgement = run(&mut detector, 12, (100, 10), (900, 4));
    assert_eq!(judgement.verdict, Verdict::Fail);
    let recent = judgement.numbers.recent_estimate.unwrap();
    assert!(
        judgement.numbers.estimate.unwrap() < 0.005,
        "the step as a whole is under maxIncrease"
    );
    assert!(
        recent > 0.05,
        "the requests since the turn are not: {recent}"
    );
}

#[test]
fn a_pass_is_judged_on_its_own_step() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    assert_eq!(
        run(&mut detector, 200, (100, 0), (900, 4)).verdict,
        Verdict::Pass
    );
    detector.begin_step();
    assert_eq!(detector.judge().reason, Reason::NothingSeen);
    assert_eq!(
        run(&mut detector, 1, (100, 0), (900, 4)).verdict,
        Verdict::Insufficient
    );
}

#[test]
fn an_outage_of_both_holds_and_its_edges_say_nothing() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    run(&mut detector, 30, (100, 0), (900, 4));
    let before = detector.evidence().evidence();
    let edge = run(&mut detector, 1, (100, 60), (900, 100));
    assert_eq!(
        (edge.verdict, edge.reason),
        (Verdict::Insufficient, Reason::SharedOutage)
    );
    assert_eq!(detector.evidence().evidence(), before);
    let within = run(&mut detector, 5, (100, 30), (900, 270));
    assert_eq!(
        (within.verdict, within.reason),
        (Verdict::Insufficient, Reason::SharedOutage)
    );
    run(&mut detector, 2, (100, 0), (900, 4));
    assert_ne!(detector.judge().reason, Reason::SharedOutage);
}

#[test]
fn a_canary_far_worse_than_a_failing_stable_still_fails() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    run(&mut detector, 30, (100, 0), (900, 4));
    assert_eq!(
        run(&mut detector, 12, (100, 95), (900, 100)).verdict,
        Verdict::Fail
    );
}

#[test]
fn an_absolute_limit_stands_beside_the_comparison() {
    let policy = Policy {
        absolute_limit: Some(0.02),
        ..Policy::new(0.5, ALPHA, 4)
    };
    let mut alone = detector(policy);
    let judgement = run(&mut alone, 3, (100, 30), (900, 4));
    assert_eq!(judgement.reason, Reason::OverAbsoluteLimit(0.02));
    let mut both = detector(policy);
    let judgement = run(&mut both, 3, (100, 30), (900, 270));
    assert_eq!(judgement.reason, Reason::BothOverAbsoluteLimit(0.02));
    assert_eq!(judgement.verdict, Verdict::Insufficient);
}

#[test]
fn no_evidence_is_its_own_verdict() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    assert_eq!(
        run(&mut detector, 1, (0, 0), (0, 0)).reason,
        Reason::NothingSeen
    );
    assert_eq!(
        run(&mut detector, 1, (0, 0), (900, 4)).reason,
        Reason::NoRequests(Arm::Canary)
    );
    let down = detector.provider_down(Missing::Stale(90));
    assert_eq!(down.verdict, Verdict::ProviderDown);
    assert!(down.to_string().contains("90 s old"), "{down}");
    assert_eq!(detector.not_comparable().verdict, Verdict::Insufficient);
    let before = detector.clone();
    assert_eq!(
        run(&mut detector, 1, (10, 11), (900, 4)).reason,
        Reason::ImpossibleNumbers
    );
    assert_eq!(detector, before, "a look that cannot be changes nothing");
}

#[test]
fn several_metrics_share_alpha_and_combine() {
    use Verdict::{Fail, Insufficient, Pass, ProviderDown};
    assert_eq!(together([Pass, Pass]), Some(Pass));
    assert_eq!(together([Pass, Insufficient]), Some(Insufficient));
    assert_eq!(
        together([Insufficient, ProviderDown, Pass]),
        Some(ProviderDown)
    );
    assert_eq!(together([ProviderDown, Fail, Pass]), Some(Fail));
    assert_eq!(together([]), None);
    assert!((shared_alpha(0.01, 4) - 0.0025).abs() < 1e-12);
}

#[test]
fn impossible_policies_name_the_field() {
    let good = Policy::new(0.005, ALPHA, 4);
    assert_eq!(good.check(), Ok(()));
    for (policy, word) in [
        (
            Policy {
                max_increase: 0.0,
                ..good
            },
            "maxIncrease",
        ),
        (
            Policy {
                max_increase: f64::NAN,
                ..good
            },
            "maxIncrease",
        ),
        (
            Policy {
                false_alarm: 0.0,
                ..good
            },
            "falseAlarm",
        ),
        (Policy { steps: 0, ..good }, "steps"),
        (
            Policy {
                look_seconds: -1.0,
                ..good
            },
            "interval",
        ),
        (
            Policy {
                absolute_limit: Some(1.0),
                ..good
            },
            "absolute limit",
        ),
    ] {
        let error = Detector::new(policy).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_low_traffic_service_is_told_what_a_pass_takes() {
    let policy = Policy::new(0.005, ALPHA, 4);
    let (small, large) = (
        policy.requests_to_pass(0.01, 0.01),
        policy.requests_to_pass(0.01, 0.5),
    );
    assert!(
        small.unwrap() > 10 * large.unwrap(),
        "weight is what it takes: {small:?} {large:?}"
    );
    assert!(policy.requests_to_pass(0.05, 0.1) > policy.requests_to_pass(0.001, 0.1));
}

fn any_tally(most: u64) -> impl Strategy<Value = Tally> {
    (0..=most, 0.0..=1.0f64, 0..=most, 0.0..=1.0f64).prop_map(|(canary, first, stable, second)| {
        let part = |of: u64, share: f64| ((of as f64 * share) as u64).min(of);
        tally(
            (canary, part(canary, first)),
            (stable, part(stable, second)),
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn more_bad_requests_of_the_canary_are_more_evidence(
        canary in 1u64..500, stable in 1u64..500, bad in 1u64..60, hits in 0u64..59, phi in 1.0..20.0f64,
    ) {
        let bad = bad.min(canary).min(stable);
        let hits = hits.min(bad - 1);
        let share = canary as f64 / (canary + stable) as f64;
        let temper = Temper { phi, cap: f64::INFINITY };
        let process = started(Starts::StepsAndWithin(4));
        let fewer = after(&process, tally((canary, hits), (stable, bad - hits)), share, temper);
        let more = after(&process, tally((canary, hits + 1), (stable, bad - hits - 1)), share, temper);
        prop_assert!(more >= fewer);
    }

    #[test]
    fn more_dispersion_is_never_more_evidence_against_a_bad_canary(
        looks in 1usize..30, phi in 1.0..10.0f64,
    ) {
        let evidence = |phi: f64| {
            let mut process = started(Starts::One);
            for _ in 0..looks {
                process.look(tally((100, 6), (900, 9)), 0.1, Temper { phi, cap: f64::INFINITY });
            }
            process.evidence()
        };
        prop_assert!(evidence(phi * 1.5) <= evidence(phi) * (1.0 + 1e-9));
    }

    #[test]
    fn a_refuted_increase_refutes_all_larger_ones(looks in 1usize..50, bad in 0u64..5, delta in 0.0..0.5f64) {
        let mut sequence = ConfidenceSequence::new(ALPHA);
        for _ in 0..looks {
            sequence.look(tally((100, bad), (400, 2)), 1.0);
        }
        if sequence.under(delta) {
            prop_assert!(sequence.under(delta * 1.5));
            prop_assert!(sequence.upper() <= delta + 1e-9);
        } else {
            prop_assert!(sequence.upper() >= delta - 1e-9);
        }
        prop_assert!(sequence.lower() <= sequence.upper());
    }

    #[test]
    fn nothing_is_too_large_to_judge(
        looks in prop::collection::vec(any_tally(u64::MAX / 2), 1..6),
        small in prop::collection::vec(any_tally(40), 1..6),
        seconds in 0.0..1e9f64,
    ) {
        let mut detector = detector(Policy { absolute_limit: Some(0.1), ..Policy::new(0.005, ALPHA, 2) });
        for tally in small.into_iter().chain(looks) {
            let pods = [
                PodCounts { pod: 1, requests: tally.stable_requests, bad: tally.stable_bad },
                PodCounts { pod: 2, requests: u64::MAX / 2, bad: u64::MAX / 2 },
            ];
            let judgement = detector.look(Look { tally, stable_pods: &pods, seconds, routed_share: None });
            let numbers = judgement.numbers;
            prop_assert!(numbers.evidence.is_finite() && numbers.dispersion >= 1.0);
            prop_assert!(numbers.interval.0.is_finite() && numbers.interval.1.is_finite());
            prop_assert!(!judgement.to_string().contains("NaN"));
        }
        let text = serde_json::to_string(&detector).unwrap();
        prop_assert_eq!(serde_json::from_str::<Detector>(&text).unwrap(), detector);
    }

    #[test]
    fn a_detector_that_was_written_down_goes_on_as_it_would_have(
        looks in prop::collection::vec((any_tally(2_000), any::<bool>(), 0.1..30.0f64), 2..30), cut in 0usize..29,
    ) {
        let mut kept = detector(Policy { look_seconds: 5.0, absolute_limit: Some(0.2), ..Policy::new(0.005, ALPHA, 3) });
        let mut resumed = kept.clone();
        for (index, (tally, step, seconds)) in looks.into_iter().enumerate() {
            let pods = [PodCounts { pod: 7, requests: tally.stable_requests, bad: tally.stable_bad }];
            let look = Look { tally, stable_pods: &pods, seconds, routed_share: None };
            if index == cut {
                let text = serde_json::to_string(&resumed).unwrap();
                resumed = serde_json::from_str(&text).unwrap();
            }
            if step {
                kept.begin_step();
                resumed.begin_step();
            }
            prop_assert_eq!(kept.look(look), resumed.look(look));
        }
        prop_assert_eq!(serde_json::to_string(&kept).unwrap(), serde_json::to_string(&resumed).unwrap());
    }

    #[test]
    fn looks_that_are_handed_over_in_parts_come_to_the_same(parts in prop::collection::vec(any_tally(6), 1..60)) {
        // The detector puts short looks together by counts of requests alone, so what it takes in does not depend on who cut them.
        let mut one_by_one = detector(Policy::new(0.005, ALPHA, 3));
        let mut together = one_by_one.clone();
        let mut sum = Tally::default();
        for part in parts {
            one_by_one.take(Look { tally: part, seconds: 1.0, ..Look::default() });
            sum = sum.plus(part);
            if sum.requests() >= 20 && sum.canary_requests > 0 && sum.stable_requests > 0 {
                together.take(Look { tally: sum, seconds: 1.0, ..Look::default() });
                sum = Tally::default();
            }
        }
        prop_assert_eq!(one_by_one.evidence().evidence(), together.evidence().evidence());
        prop_assert_eq!(one_by_one.interval().upper(), together.interval().upper());
    }
}

/// The simulation of `docs/evidence.md` in small: few runs, all cells of a kind pooled, limits that chance passes less than once in a
/// thousand.
#[test]
fn the_simulation_in_small_keeps_its_promises() {
    let small = simulation::in_small();
    let (hits, runs) = small.independent_alarms;
    // Poisson with mean α · runs = 9 is over 19 in 0.1 %.
    assert!(
        runs == 900 && hits <= 19,
        "{hits} of {runs} good canaries failed among independent errors"
    );
    let (hits, runs) = small.real_alarms;
    // With mean 2α · runs = 0.96, over 5 in 0.06 %.
    assert!(
        runs == 48 && hits <= 5,
        "{hits} of {runs} good canaries failed among real errors"
    );
    let (naive, _) = small.naive_alarms;
    assert!(
        naive >= 10,
        "the streams are real enough to fool a plain test: {naive} of {runs}"
    );
    let (hits, runs) = small.wrong_promotions;
    assert!(
        runs == 200 && hits <= 8,
        "{hits} of {runs} canaries worse by 2m passed"
    );
    assert!(small.one_start < 1.5, "{}", small.one_start);
    assert!(small.whole < 2.3, "{}", small.whole);
    assert!(small.after_good < 4.0, "{}", small.after_good);
}
