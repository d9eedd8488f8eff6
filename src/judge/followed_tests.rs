use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::*;
use crate::evidence::Verdict;
use crate::judge::hub::tests::follow;
use crate::signals::Reading;

/// A rollout that is asked about by hand: stable and canary answer 400 requests a second.
struct ByHand {
    followed: Followed<&'static str>,
    /// Whether the last answer wakes somebody, and whether at once.
    woken: Option<bool>,
    interval: f64,
    failed: f64,
    time: f64,
}

impl ByHand {
    /// With looks of so many milliseconds.
    fn new(interval: i64) -> Self {
        let mut follow = follow("app", 1, 10);
        follow.standard.interval = SignedDuration::from_millis(interval);
        let interval = follow.standard.interval.as_secs_f64();
        let comparison = follow.comparison.clone().unwrap();
        let mut followed = Followed::new("app", follow, 0.0);
        followed.analysis = Analysis::new(&followed.follow.standard, &comparison, ARMS[0], ARMS[1], 0.0).ok();
        Self { followed, woken: None, interval, failed: 0.0, time: 0.0 }
    }

    /// Asks after so many seconds, in which that share of the canary's requests failed. When it is to be asked again.
    fn ask(&mut self, seconds: f64, failing: f64) -> f64 {
        self.time += seconds;
        self.failed += 400.0 * seconds * failing;
        self.followed.due = next_tick(self.time, self.interval);
        let reading = |arm, bad| Reading {
            metric: 0,
            arm,
            series: arm as u64,
            time: self.time,
            ready_since: Some(-1000.0),
            requests: (400.0 * self.time).floor(),
            bad,
            unanswered: 0.0,
        };
        let readings = vec![reading(0, (0.4 * self.time).floor()), reading(1, self.failed.floor())];
        let answer = Answer::Readings { readings, comparable: true, exact: true, missing: Vec::new() };
        let pods = AskedPods { series: BTreeSet::from([0, 1]), canary: Vec::new() };
        self.woken = self.followed.take(answer, &pods, self.time);
        self.followed.due
    }

    fn verdict(&self) -> Verdict {
        self.followed.evidence.as_ref().unwrap().judgements[0].1.verdict
    }
}

#[test]
fn after_one_bad_look_the_next_one_comes_at_once_and_decides() {
    let mut app = ByHand::new(5000);
    for _ in 0..40 {
        assert_eq!(app.ask(5.0, 0.001), app.time + 5.0, "while all is well it is asked at its interval");
    }
    let due = app.ask(5.0, 0.2);
    assert_ne!(app.verdict(), Verdict::Fail, "one look alone fails nobody");
    assert!((0.2..0.4).contains(&(due - app.time)), "asked again after {} s", due - app.time);
    while app.verdict() != Verdict::Fail {
        let due = app.followed.due;
        app.ask(due - app.time, 0.2);
        assert!(app.time < 207.0, "it is asked again and again until that is enough");
    }
}

#[test]
fn a_hiccup_of_one_look_is_asked_about_once_more_and_forgotten() {
    let mut app = ByHand::new(5000);
    for _ in 0..40 {
        app.ask(5.0, 0.001);
    }
    let due = app.ask(5.0, 0.2);
    assert!(due < app.time + 1.0);
    assert_eq!(app.ask(due - app.time, 0.0), 210.0, "then at its interval again");
    for _ in 0..20 {
        app.ask(5.0 - app.time % 5.0, 0.001);
        assert_ne!(app.verdict(), Verdict::Fail);
    }
}

#[test]
fn a_source_that_is_read_a_moment_early_ends_a_look_all_the_same() {
    for interval in [250, 1000, 5000] {
        for bad_from in [0, 1] {
            let mut app = ByHand::new(interval);
            // Every second reading comes late, so the next one is a moment less than an interval after it.
            let early = |tick: usize| if tick.is_multiple_of(2) { 0.01 } else { -0.01 };
            let ticks = (200.0 / app.interval) as usize + bad_from;
            for tick in 0..ticks {
                app.ask(app.interval + early(tick), 0.001);
            }
            for tick in ticks..ticks + 2 {
                assert_ne!(app.verdict(), Verdict::Fail);
                app.ask(app.interval + early(tick), 0.2);
            }
            assert_eq!(app.verdict(), Verdict::Fail, "two looks of {interval} ms decide");
        }
    }
}

#[test]
fn who_has_just_failed_is_not_asked_about_while_its_weight_is_taken_away() {
    let mut app = ByHand::new(250);
    while app.time < 200.0 {
        app.ask(0.25, 0.001);
    }
    while app.verdict() != Verdict::Fail {
        app.ask(app.followed.due - app.time, 0.2);
    }
    let pause = app.followed.due - app.time;
    assert!((GIVES_WAY..GIVES_WAY + 0.32).contains(&pause), "asked again after {pause} s");
    let due = app.ask(pause, 0.2);
    assert_eq!(app.verdict(), Verdict::Fail);
    assert!(due - app.time >= GIVES_WAY, "where many fail, the rest of them is still to be written");
}

#[test]
fn nobody_is_woken_for_a_first_bad_look_before_the_next_one_has_decided() {
    for (failing, woken) in [(0.2, true), (0.0, false)] {
        let mut app = ByHand::new(5000);
        for _ in 0..40 {
            app.ask(5.0, 0.001);
        }
        assert_eq!((app.verdict(), app.woken), (Verdict::Pass, None));
        app.ask(5.0, 0.2);
        assert_eq!((app.verdict(), app.woken), (Verdict::Insufficient, None), "known, and not yet said");
        app.ask(0.3, failing);
        assert_eq!((app.verdict() == Verdict::Fail, app.woken), (woken, Some(woken)));
    }
}

#[test]
fn ready_pods_of_the_canary_that_tell_nothing_for_several_looks_are_no_good_evidence() {
    let ask = |silent: usize, looks: u32| {
        let mut app = ByHand::new(5000).followed;
        for look in 1..=looks {
            let time = 5.0 * f64::from(look);
            let reading = |arm, series| Reading {
                metric: 0,
                arm,
                series,
                time,
                ready_since: Some(-1000.0),
                requests: 400.0 * time,
                bad: 0.0,
                unanswered: 0.0,
            };
            let names: Vec<(u64, String, f64)> =
                (1..=10).map(|pod| (pod, format!("new-{pod}"), -1000.0)).collect();
            let told = names.iter().skip(silent).map(|(series, ..)| reading(1, *series));
            let readings = told.chain([reading(0, 0)]).collect();
            let pods = AskedPods { series: (0..=10).collect(), canary: names };
            app.take(
                Answer::Readings { readings, comparable: true, exact: false, missing: Vec::new() },
                &pods,
                time,
            );
        }
        (app.evidence.unwrap().judgements[0].1.verdict, app.problem)
    };
    assert_ne!(ask(0, 40).0, Verdict::ProviderDown);
    assert_ne!(ask(1, 2).0, Verdict::ProviderDown, "one look is none");
    let (verdict, problem) = ask(3, 40);
    assert_eq!(verdict, Verdict::ProviderDown);
    let problem = problem.expect("it is told");
    assert!(
        problem.starts_with("3 of 10 Ready pods of the canary tell no counters, new-1 among them"),
        "{problem}"
    );
}
