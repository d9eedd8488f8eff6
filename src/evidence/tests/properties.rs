//! What holds for any input.

use proptest::prelude::*;

use super::*;

fn any_tally(most: u64) -> impl Strategy<Value = Tally> {
    (0..=most, 0.0..=1.0f64, 0..=most, 0.0..=1.0f64).prop_map(|(canary, first, stable, second)| {
        let part = |of: u64, share: f64| ((of as f64 * share) as u64).min(of);
        tally((canary, part(canary, first)), (stable, part(stable, second)))
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
            let judgement = detector.look(Look { tally, stable_pods: &pods, seconds, ..Look::default() });
            let numbers = judgement.numbers;
            prop_assert!(numbers.evidence.is_finite() && numbers.dispersion >= 1.0);
            prop_assert!(numbers.interval.0.is_finite() && numbers.interval.1.is_finite());
            prop_assert!(!judgement.to_string().contains("NaN"));
        }
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
