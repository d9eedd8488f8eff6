//! What the detector says in the cases that the design names.

use super::*;

fn run(detector: &mut Detector, looks: usize, canary: (u64, u64), stable: (u64, u64)) -> Judgement {
    let look = Look { tally: tally(canary, stable), seconds: 5.0, ..Look::default() };
    let mut last = detector.judge();
    for _ in 0..looks {
        last = detector.look(look);
        if last.verdict == Verdict::Fail {
            break;
        }
    }
    last
}

#[test]
fn a_good_canary_passes_and_says_what_it_still_needs_before() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    let first = run(&mut detector, 1, (100, 0), (900, 4));
    assert_eq!((first.verdict, &first.reason), (Verdict::Insufficient, &Reason::TooFewRequests));
    assert_eq!(first.numbers.needed, None, "too few were counted to tell");
    let early = run(&mut detector, 2, (100, 0), (900, 4));
    assert_eq!((early.verdict, &early.reason), (Verdict::Insufficient, &Reason::TooFewRequests));
    let needed = early.numbers.needed.unwrap();
    assert_eq!(needed.toward, Verdict::Pass);
    let looks = (needed.requests as f64 / 1000.0).ceil() as usize;
    assert!(looks > 2 && needed.seconds.is_some());
    assert_ne!(run(&mut detector, looks / 2, (100, 0), (900, 4)).verdict, Verdict::Pass);
    assert_eq!(run(&mut detector, looks, (100, 0), (900, 4)).verdict, Verdict::Pass);
}

/// The first number that is told, against what it takes in the end.
#[test]
fn a_forecast_is_told_once_it_is_one() {
    for (bad, weight, next, max_increase) in [
        (0.005, 0.1, 0.5, 0.005),
        (0.005, 0.5, 1.0, 0.01),
        (0.001, 0.1, 0.5, 0.005),
        (0.001, 0.05, 0.25, 0.01),
        (0.02, 0.1, 0.5, 0.01),
    ] {
        let mut ratios: Vec<f64> = (0..120)
            .filter_map(|seed| {
                let mut random = simulation::random::Random::new(seed, 0);
                let mut detector = detector(Policy::new(max_increase, ALPHA, 3));
                detector.moves_on_to(next);
                let mut told = None;
                loop {
                    let canary = random.binomial(20, weight);
                    let mut arm = |requests| (requests, random.binomial(requests, bad));
                    let seen = tally(arm(canary), arm(20 - canary));
                    let said = detector.look(Look { tally: seen, seconds: 1.0, ..Look::default() });
                    let counted = said.numbers.step.requests();
                    match said.verdict {
                        Verdict::Pass => return told.map(|told: u64| told as f64 / counted as f64),
                        Verdict::Fail => return None,
                        _ => {}
                    }
                    let needed = said.numbers.needed.filter(|needed| needed.toward == Verdict::Pass);
                    told = told.or(needed.map(|needed| counted + needed.requests));
                }
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        let part = |share: f64| ratios[(ratios.len() as f64 * share) as usize];
        assert!(ratios.len() > 80, "{bad} {weight} {next}: told of {} only", ratios.len());
        let (least, most) = (part(0.05), part(0.95));
        assert!(least > 0.1 && most < 4.0, "{bad} {weight} {next} {max_increase}: {least} to {most}");
    }
}

#[test]
fn a_bad_canary_fails_within_a_few_looks_but_never_in_one() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    assert_ne!(run(&mut detector, 1, (100, 90), (900, 4)).verdict, Verdict::Fail);
    let judgement = run(&mut detector, 4, (100, 90), (900, 4));
    assert_eq!((judgement.verdict, judgement.reason), (Verdict::Fail, Reason::Worse));
}

#[test]
fn before_a_small_step_a_pass_refutes_what_would_harm_the_whole_there() {
    let told = |next: f64, looks: usize, canary: (u64, u64)| {
        let mut detector = detector(Policy::new(0.005, ALPHA, 4));
        detector.moves_on_to(next);
        run(&mut detector, looks, canary, (9_900, 10))
    };
    // 5 points at a tenth of all requests are half a point of the whole.
    let early = told(0.1, 4, (100, 0));
    let Reason::WithinHarm { margin, next } = early.reason else { panic!("{early}") };
    assert!(early.verdict == Verdict::Pass && (margin - 0.05).abs() < 1e-9 && next == 0.1, "{early}");
    assert_eq!(told(1.0, 4, (100, 0)).reason, Reason::TooFewRequests);
    // What is worse by more than that does not pass, and what the evidence speaks against fails as at any other step.
    let bad = told(0.1, 40, (100, 8));
    assert_eq!((bad.verdict, bad.reason), (Verdict::Fail, Reason::Worse));
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    detector.moves_on_to(0.1);
    let needed = run(&mut detector, 1, (100, 0), (9_900, 10)).numbers.needed.expect("it needs more");
    assert!(needed.toward == Verdict::Pass && needed.requests < 40_000, "{needed:?}");
}

/// faults.md 2.8
#[test]
fn the_first_look_of_all_decides_no_more_than_any_other() {
    let mut process = EProcess::new(ALPHA, Starts::StepsAndWithin(4));
    process.begin_step();
    let all_bad = tally((1_000, 1_000), (9_000, 9));
    process.look(all_bad, 0.1, Temper { phi: 1.0, cap: f64::INFINITY });
    assert!(!process.crossed() && process.asks_for_another(), "{}", process.evidence());
    process.look(all_bad, 0.1, Temper { phi: 1.0, cap: f64::INFINITY });
    assert!(process.crossed());
}

#[test]
fn after_the_promotion_there_is_a_limit_from_what_stable_did() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    run(&mut detector, 40, (100, 0), (900, 9));
    detector.begin(true);
    assert_eq!(run(&mut detector, 20, (1000, 30), (0, 0)).verdict, Verdict::Insufficient);
    let limit = detector.judge().numbers.absolute.expect("a limit");
    assert!((limit.rate - 0.06).abs() < 1e-3 && matches!(limit.from, LimitFrom::Before(_)), "{limit:?}");
    assert_ne!(run(&mut detector, 1, (1000, 1000), (0, 0)).verdict, Verdict::Fail, "no look decides alone");
    let judgement = run(&mut detector, 2, (1000, 1000), (0, 0));
    assert_eq!(judgement.reason, Reason::OverAbsoluteLimit { limit, alone: true });
}

#[test]
fn a_significant_but_trivial_difference_passes() {
    let mut detector = detector(Policy::new(0.01, ALPHA, 4));
    let judgement = run(&mut detector, 400, (5_000, 35), (5_000, 25));
    assert!(judgement.numbers.evidence >= judgement.numbers.limit, "it is significant");
    assert_eq!(judgement.verdict, Verdict::Pass);
}

#[test]
fn a_good_past_does_not_hide_a_bad_present() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    assert_eq!(run(&mut detector, 1_000, (100, 0), (900, 4)).verdict, Verdict::Pass);
    let judgement = run(&mut detector, 12, (100, 10), (900, 4));
    assert_eq!(judgement.verdict, Verdict::Fail);
    let recent = judgement.numbers.recent_estimate.unwrap();
    assert!(judgement.numbers.estimate.unwrap() < 0.005, "the step as a whole is under maxIncrease");
    assert!(recent > 0.05, "the requests since the turn are not: {recent}");
}

/// Looks of one second, a good minute or two, then a canary that fails a fifth: how many looks until it is failed.
fn looks_until_failed(good: usize, blip: bool) -> usize {
    let mut detector = detector(Policy::new(0.02, ALPHA, 2));
    for second in 0..good {
        let bad = if blip && (10..13).contains(&second) { 30 } else { 1 };
        let failing = if bad > 1 { 0 } else { second as u64 % 10 };
        let of = |pod| PodCounts { pod, requests: 90, bad: if pod == failing { bad } else { 0 } };
        let pods: Vec<PodCounts> = (0..10).map(of).collect();
        let tally = tally((100, u64::from(second % 10 == 0)), (900, bad));
        detector.look(Look { tally, stable_pods: &pods, seconds: 1.0, ..Look::default() });
    }
    let bad = Look { tally: tally((100, 20), (900, 1)), seconds: 1.0, ..Look::default() };
    (1..=40).find(|_| detector.look(bad).verdict == Verdict::Fail).expect("it is failed")
}

#[test]
fn a_canary_that_turns_bad_after_a_good_while_fails_in_the_second_bad_look() {
    assert_eq!(looks_until_failed(150, false), 2);
    assert_eq!(looks_until_failed(3000, false), 2, "a long good past makes it no slower");
}

#[test]
fn as_long_as_stable_is_not_known_or_has_blips_of_its_own_a_bad_canary_is_given_longer() {
    assert!((4..=8).contains(&looks_until_failed(30, false)), "{}", looks_until_failed(30, false));
    assert!(looks_until_failed(150, true) > 2);
}

#[test]
fn one_bad_look_asks_for_another_and_the_next_one_may_be_short() {
    let mut detector = detector(Policy { look_seconds: 5.0, ..Policy::new(0.02, ALPHA, 2) });
    let look = |bad, seconds| Look { tally: tally((100, bad), (900, 0)), seconds, ..Look::default() };
    for _ in 0..30 {
        detector.look(look(0, 5.0));
        assert!(!detector.asks_for_another());
    }
    assert_ne!(detector.look(look(20, 5.0)).verdict, Verdict::Fail);
    assert!(detector.asks_for_another());
    assert_ne!(detector.look(look(20, 0.5)).verdict, Verdict::Fail, "it is put together with what follows");
    detector.hasten(0.25);
    assert_eq!(detector.look(look(20, 0.5)).verdict, Verdict::Fail);
    assert!(!detector.asks_for_another());
}

#[test]
fn a_pass_is_judged_on_its_own_step() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    assert_eq!(run(&mut detector, 200, (100, 0), (900, 4)).verdict, Verdict::Pass);
    detector.begin_step();
    assert_eq!(detector.judge().reason, Reason::NothingSeen);
    assert_eq!(run(&mut detector, 1, (100, 0), (900, 4)).verdict, Verdict::Insufficient);
}

#[test]
fn an_outage_of_both_holds_and_its_edges_say_nothing() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    run(&mut detector, 30, (100, 0), (900, 4));
    let before = detector.evidence().evidence();
    let edge = run(&mut detector, 1, (100, 60), (900, 100));
    assert_eq!((edge.verdict, edge.reason), (Verdict::Insufficient, Reason::SharedOutage));
    assert_eq!(detector.evidence().evidence(), before);
    let within = run(&mut detector, 5, (100, 30), (900, 270));
    assert_eq!((within.verdict, within.reason), (Verdict::Insufficient, Reason::SharedOutage));
    run(&mut detector, 2, (100, 0), (900, 4));
    assert_ne!(detector.judge().reason, Reason::SharedOutage);
}

#[test]
fn arms_that_leave_an_outage_in_different_looks_say_nothing() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    run(&mut detector, 30, (100, 0), (900, 4));
    run(&mut detector, 5, (100, 30), (900, 270));
    let before = detector.interval().tally();
    // Read later than stable, the canary is out of it while half of stable's look is not.
    run(&mut detector, 1, (100, 0), (900, 135));
    run(&mut detector, 1, (100, 0), (900, 4));
    let counted = detector.interval().tally();
    assert_eq!(counted.stable_bad - before.stable_bad, 270, "of the last ones, the third counts");
    assert_eq!(counted.canary_bad - before.canary_bad, 30);
    run(&mut detector, 1, (100, 0), (900, 4));
    assert_eq!(detector.interval().tally().stable_bad - counted.stable_bad, 4);
}

#[test]
fn an_outage_that_the_canary_shows_first_is_taken_back() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    run(&mut detector, 30, (100, 0), (900, 4));
    let mut look = |canary_bad, stable_bad, apart| {
        let tally = Tally { canary_requests: 100, canary_bad, stable_requests: 900, stable_bad };
        detector.look(Look { tally, seconds: 1.0, apart, ..Look::default() });
        (detector.evidence().evidence(), detector.interval().tally())
    };
    look(0, 4, 0.5);
    let (evidence, tally) = look(0, 4, 0.5);
    assert!(look(15, 4, 0.5).0 > 1.5 * evidence);
    assert_eq!(look(30, 270, 0.5), (evidence, tally));
    // Read at one moment, what the canary alone showed is its own.
    look(0, 4, 0.0);
    let alone = look(15, 4, 0.0);
    assert_eq!(look(30, 270, 0.0), alone);
}

#[test]
fn a_canary_far_worse_than_a_failing_stable_still_fails() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    run(&mut detector, 30, (100, 0), (900, 4));
    assert_eq!(run(&mut detector, 12, (100, 95), (900, 100)).verdict, Verdict::Fail);
}

#[test]
fn a_limit_that_stable_does_not_keep_is_none_for_a_release() {
    let policy = Policy { absolute_limit: Some(0.02), ..Policy::new(0.005, ALPHA, 4) };
    let mut detector = detector(policy);
    // Callers of a mobile application give up three requests in a hundred, whichever release answers.
    let judgement = run(&mut detector, 200, (100, 3), (900, 27));
    assert_eq!((judgement.verdict, judgement.numbers.absolute), (Verdict::Pass, None), "{judgement}");
    detector.begin(true);
    let judgement = run(&mut detector, 12, (1000, 30), (0, 0));
    assert_ne!(judgement.verdict, Verdict::Fail, "{judgement}");
    assert!(judgement.numbers.absolute.is_some_and(|limit| limit.rate > 0.08 && limit.rate < 0.1));
    let judgement = run(&mut detector, 12, (1000, 300), (0, 0));
    assert_eq!(judgement.verdict, Verdict::Fail);
    assert!(judgement.to_string().contains("stable did not keep the limit of 2.00 %"), "{judgement}");
}

#[test]
fn an_absolute_limit_stands_beside_the_comparison() {
    let policy = Policy { absolute_limit: Some(0.02), ..Policy::new(0.5, ALPHA, 4) };
    let mut alone = detector(policy);
    let judgement = run(&mut alone, 3, (100, 30), (900, 4));
    let limit = Absolute { rate: 0.02, from: LimitFrom::Set };
    assert_eq!(judgement.reason, Reason::OverAbsoluteLimit { limit, alone: false });
    let mut both = detector(policy);
    run(&mut both, 10, (100, 0), (900, 4));
    let judgement = run(&mut both, 3, (100, 30), (900, 270));
    assert_eq!(judgement.reason, Reason::BothOverAbsoluteLimit(0.02));
    assert_eq!(judgement.verdict, Verdict::Insufficient);
}

#[test]
fn no_evidence_is_its_own_verdict() {
    let mut detector = detector(Policy::new(0.005, ALPHA, 4));
    assert_eq!(run(&mut detector, 1, (0, 0), (0, 0)).reason, Reason::NothingSeen);
    assert_eq!(run(&mut detector, 1, (0, 0), (900, 4)).reason, Reason::NoRequests(Arm::Canary));
    let down = detector.provider_down(Missing::Stale(90));
    assert_eq!(down.verdict, Verdict::ProviderDown);
    assert!(down.to_string().contains("90 s old"), "{down}");
    assert_eq!(detector.not_comparable().verdict, Verdict::Insufficient);
    let before = detector.clone();
    assert_eq!(run(&mut detector, 1, (10, 11), (900, 4)).reason, Reason::ImpossibleNumbers);
    assert_eq!(detector, before, "a look that cannot be changes nothing");
}

#[test]
fn several_metrics_share_alpha_and_combine() {
    use Verdict::{Fail, Insufficient, Pass, ProviderDown};
    assert_eq!(together([Pass, Pass]), Some(Pass));
    assert_eq!(together([Pass, Insufficient]), Some(Insufficient));
    assert_eq!(together([Insufficient, ProviderDown, Pass]), Some(ProviderDown));
    assert_eq!(together([ProviderDown, Fail, Pass]), Some(Fail));
    assert_eq!(together([]), None);
    assert!((shared_alpha(0.01, 4) - 0.0025).abs() < 1e-12);
}

#[test]
fn impossible_policies_name_the_field() {
    let good = Policy::new(0.005, ALPHA, 4);
    assert_eq!(good.check(), Ok(()));
    for (policy, word) in [
        (Policy { max_increase: 0.0, ..good }, "maxIncrease"),
        (Policy { max_increase: f64::NAN, ..good }, "maxIncrease"),
        (Policy { false_alarm: 0.0, ..good }, "falseAlarm"),
        (Policy { steps: 0, ..good }, "steps"),
        (Policy { look_seconds: -1.0, ..good }, "interval"),
        (Policy { absolute_limit: Some(1.0), ..good }, "absolute limit"),
    ] {
        let error = Detector::new(policy).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_low_traffic_service_is_told_what_a_pass_takes() {
    let policy = Policy::new(0.005, ALPHA, 4);
    let (small, large) = (policy.requests_to_pass(0.01, 0.01, 1.0), policy.requests_to_pass(0.01, 0.5, 1.0));
    assert!(small.unwrap() > 10 * large.unwrap(), "weight is what it takes: {small:?} {large:?}");
    assert!(policy.requests_to_pass(0.05, 0.1, 1.0) > policy.requests_to_pass(0.001, 0.1, 1.0));
}
