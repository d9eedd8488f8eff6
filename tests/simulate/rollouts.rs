//! Rollouts: every story of `tests/goldens/canary/`, and what must hold at every decision.

use std::path::PathBuf;

use banyan::api::action::Verb;
use banyan::api::analysis::OnInsufficient;
use banyan::api::notice::Reason;
use banyan::canary::facts::Destination;
use banyan::canary::simulate::{Crash, Story, run, run_with};
use banyan::canary::{Decision, Phase};
use banyan::evidence::Verdict;
use expect_test::expect_file;
use proptest::prelude::*;

/// The stories, by name.
fn stories() -> Vec<(String, PathBuf, Story)> {
    let parsed = |(name, path, text): (String, PathBuf, String)| {
        let story = Story::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, path, story)
    };
    crate::stories("canary").into_iter().map(parsed).collect()
}

fn story(name: &str) -> Story {
    stories().into_iter().find(|(found, ..)| found == name).unwrap_or_else(|| panic!("no story {name}")).2
}

#[test]
fn every_story_is_told_as_before() {
    let stories = stories();
    assert!(stories.len() >= 40, "{}", stories.len());
    for (_, path, story) in stories {
        let report = run(story);
        expect_file![path.with_extension("txt")].assert_eq(&report.to_string());
    }
}

/// What must hold of every decision, and from one to the next. A canary may take everything without a Pass where nobody
/// answers beside it.
#[derive(Default)]
struct Watch {
    attempt: i64,
    weight: i32,
    /// The weight at which the evidence has said Pass in this attempt.
    passed: Option<i32>,
}

impl Watch {
    /// Checks a decision. `forward` says whether the story lets the rollout go on without a Pass.
    fn check(&mut self, at: f64, decision: &Decision, forward: bool) {
        let shares: i32 = decision.route.shares.iter().map(|(_, percent)| percent).sum();
        let empty = decision.route.shares.is_empty() && decision.stable.is_none();
        assert!(shares == 100 || empty, "{at}: {:?}", decision.route.shares);
        assert!(decision.route.shares.iter().all(|(_, percent)| (1..=100).contains(percent)), "{at}");
        assert!((0..=100).contains(&decision.weight), "{at}: {}", decision.weight);
        assert_eq!(decision.memory.rollout.is_some(), decision.canary.is_some(), "{at}");
        let share_of = |hash: &str| {
            let to = Destination::Revision(hash.to_owned());
            decision
                .route
                .shares
                .iter()
                .filter(|(found, _)| *found == to)
                .map(|(_, percent)| *percent)
                .sum::<i32>()
        };
        // A Fail is carried out in the decision that knows of it; and what failed gets nothing.
        let has_way_back = decision.stalled.as_ref().is_none_or(|(reason, _)| *reason != "NoWayBack");
        if decision.verdict == Some(Verdict::Fail) && has_way_back {
            assert_eq!((decision.weight, decision.phase), (0, Phase::RolledBack), "{at}");
            let failed = &decision.memory.failed[0].revision;
            let by_weight = decision.flag.is_none() && Some(failed) != decision.stable.as_ref();
            assert!(!by_weight || share_of(failed) == 0, "{at}: {:?}", decision.route);
            assert!(decision.route.matches.is_empty() && decision.route.mirror.is_none(), "{at}");
        }
        // Pods that serve are never fewer than none: whoever has a share has pods asked for, unless none are at all.
        let at_zero = decision.pods.iter().all(|(_, pods)| *pods == 0);
        for (to, percent) in &decision.route.shares {
            if let Destination::Revision(hash) = to {
                let pods = decision.pods.iter().find(|(named, _)| named == hash).map_or(0, |(_, pods)| *pods);
                assert!(
                    pods > 0 || at_zero || decision.flag.is_some(),
                    "{at}: {hash} has {percent} % and {pods} pods"
                );
            }
        }
        // More weight only after a Pass of the weight before, where nobody says otherwise.
        if decision.memory.attempt != self.attempt {
            *self = Self { attempt: decision.memory.attempt, ..Self::default() };
        }
        if decision.verdict == Some(Verdict::Pass) {
            self.passed = Some(self.weight);
        }
        let rises = decision.weight > self.weight && self.weight > 0;
        let rollout = decision.memory.rollout.as_ref();
        let alone =
            decision.weight == 100 && rollout.is_some_and(|rollout| rollout.alone_from == Some(self.weight));
        assert!(
            !rises || forward || alone || self.passed == Some(self.weight),
            "{at}: from {} to {} without a Pass",
            self.weight,
            decision.weight
        );
        if decision.memory.rollout.is_some() {
            self.weight = decision.weight;
        }
    }
}

/// Whether somebody, or the policy, lets the story's rollout go on without a Pass.
fn goes_forward(story: &Story) -> bool {
    let said = story.events.iter().filter_map(|event| event.say.as_ref());
    let advance = story.rollout.analysis.as_ref().and_then(|analysis| analysis.on_insufficient);
    let standby = story.events.iter().any(|event| event.standby == Some(true));
    advance == Some(OnInsufficient::Advance)
        || standby
        || story.service.partial
        || said.map(|said| said.verb).any(|verb| matches!(verb, Verb::Promote | Verb::SkipStep))
}

#[test]
fn every_decision_of_every_story_keeps_the_invariants() {
    for (name, _, story) in stories() {
        let forward = goes_forward(&story);
        let mut watch = Watch::default();
        eprintln!("{name}");
        run_with(story, None, |at, decision| watch.check(at, decision, forward));
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for name in
        ["a-good-release-goes-through-all-steps", "one-bad-moment-of-one-pod", "a-shared-outage-holds"]
    {
        assert_eq!(run(story(name)), run(story(name)), "{name}");
        let mut other = story(name);
        other.seed += 1;
        assert_ne!(run(other).users, run(story(name)).users, "{name}: chance has no part in it");
    }
}

/// The looks of a story at which something happened that the status must remember.
fn turns(story: &Story) -> Vec<u64> {
    let tick = 5.0;
    let mut looks = Vec::new();
    run_with(story.clone(), None, |at, decision| {
        let look = (at / tick) as u64;
        if !decision.notices.is_empty() && looks.last() != Some(&look) {
            looks.push(look);
        }
    });
    looks
}

#[test]
fn killed_at_every_step_the_end_is_the_same() {
    for name in [
        "a-good-release-goes-through-all-steps",
        "a-bad-release-loses-its-weight-in-one-look",
        "abort-then-retry-then-promote",
        "regret-after-promotion-is-one-write",
        "git-revert-within-the-window-is-one-write",
        "revert-to-stable-cancels-and-does-not-retrigger",
        "blue-green-switches-after-a-preview",
        "a-gate-waits-for-a-person",
        "a-standby-site-follows-its-peer",
        "a-failover-freezes-rollouts",
        "strangler-fig-goes-back-to-the-monolith",
        "a-feature-flag-goes-to-zero",
        "without-a-mesh-numbers-of-pods-are-the-weight",
    ] {
        let mut story = story(name);
        // What is counted anew after a crash needs its time again.
        story.lasts = "90m".to_owned();
        let rested = |phase: &str| if phase == "Warm" { "Settled".to_owned() } else { phase.to_owned() };
        let expected = run(story.clone());
        let turns = turns(&story);
        assert!(!turns.is_empty(), "{name}");
        for look in turns {
            for after_weights in [true, false] {
                let crash = Crash { look, after_weights };
                let mut before = (0, 0, 0.0);
                let report = run_with(story.clone(), Some(crash), |at, decision| {
                    if !after_weights && at == look as f64 * 5.0 {
                        // It died before it wrote anything.
                        return;
                    }
                    let attempt = decision.memory.attempt;
                    // Once an attempt has lost its weight to a Fail or an abort, it never has any again.
                    let failed = decision.phase == Phase::RolledBack;
                    assert!(
                        !(before.0 == attempt && before.1 == 1 && decision.weight > 0),
                        "{name}, killed at look {look}: the weight jumps back at {at} after {}",
                        before.2
                    );
                    before = (attempt, i32::from(failed), at);
                });
                let end = |report: &banyan::canary::simulate::Report| {
                    (rested(&report.phase), report.stable.clone(), report.weight)
                };
                assert_eq!(
                    end(&report),
                    end(&expected),
                    "{name}, killed at look {look} ({after_weights})\n{report}"
                );
            }
        }
    }
}

#[test]
fn an_abort_wins_whatever_is_said_with_it() {
    for name in [
        "a-good-release-goes-through-all-steps",
        "a-gate-waits-for-a-person",
        "mirror-while-the-canary-has-pods",
    ] {
        for minute in [1, 3, 5, 7, 9, 11] {
            let mut story = story(name);
            let at = format!("{minute}m");
            for verb in ["promote", "skip-step", "approve", "pause", "abort", "resume"] {
                let text = format!("{{at: {at}, say: {{verb: {verb}}}}}");
                story.events.push(serde_norway::from_str(&text).expect("an event"));
            }
            story.events.sort_by_key(|event| banyan::api::units::duration(&event.at));
            let (mut was, mut seen) = (0, false);
            run_with(story, None, |now, decision| {
                if now == f64::from(minute) * 60.0 && !seen {
                    seen = true;
                    let back = decision.notices.iter().any(|notice| notice.reason == Reason::RolledBack);
                    assert!(back, "{name} at {at}: {:?}", decision.notices);
                    assert_eq!(
                        (decision.weight, &decision.canary),
                        (0, &None),
                        "{name} at {at}, from {was} %"
                    );
                }
                was = decision.weight;
            });
            assert!(seen);
        }
    }
}

/// What was written to the route is not in force while the control plane is dead: its proxies go on as they last heard.
#[test]
fn faults_8_1_while_weights_are_not_followed_nothing_goes_on_and_no_pods_go() {
    for (name, until, weight) in [
        ("a-dead-control-plane-moves-nothing-on", 15.0, 50),
        ("a-dead-control-plane-at-the-last-step-keeps-stables-pods", 20.0, 100),
    ] {
        let mut stalled = false;
        let report = run_with(story(name), None, |at, decision| {
            if at >= until * 60.0 {
                return;
            }
            assert!(decision.weight <= weight, "{name}: {} % at {at}", decision.weight);
            assert_eq!(decision.stable.as_deref(), Some("1.0"), "{name}: promoted at {at}");
            let pods = decision.pods.iter().find(|(revision, _)| revision == "1.0").map(|(_, pods)| *pods);
            assert_eq!(pods, Some(4), "{name}: stable's pods at {at}");
            stalled |= decision.stalled.as_ref().is_some_and(|(reason, _)| *reason == "WeightNotFollowed");
        });
        assert!(stalled, "{name}: nobody was told");
        assert_eq!((report.users.unanswered, &*report.stable), (0, "1.1"), "{name}: it goes on afterwards");
    }
}

/// Something that may happen, as YAML without its time.
fn happening() -> impl Strategy<Value = String> {
    let releases = prop_oneof![Just("1.0"), Just("1.1"), Just("1.2")];
    let verbs = prop_oneof![Just("abort"), Just("pause"), Just("resume"), Just("retry"), Just("approve")];
    prop_oneof![
        releases.clone().prop_map(|release| format!("deploy: '{release}'")),
        (releases.clone(), 0..40u32).prop_map(|(release, rate)| format!("errors: {{'{release}': '{rate}'}}")),
        (releases.clone(), prop_oneof![Just("Ready"), Just("NotReady")])
            .prop_map(|(release, state)| format!("pods: {{'{release}': {state}}}")),
        (releases.clone(), 0..5u32)
            .prop_map(|(release, count)| format!("restarts: {{'{release}': {count}}}")),
        releases.prop_map(|release| format!("drain: '{release}'")),
        verbs.prop_map(|verb| format!("say: {{verb: {verb}}}")),
        prop_oneof![Just("Up"), Just("Down"), Just("NaN"), Just("Stale")]
            .prop_map(|state| format!("source: {state}")),
        (1..12i32).prop_map(|replicas| format!("replicas: {replicas}")),
        (0..500u32).prop_map(|requests| format!("requests: {requests}")),
        prop_oneof![Just("Between"), Just("BeforeStatus")].prop_map(|when| format!("killed: {when}")),
        prop_oneof![Just("true"), Just("false")].prop_map(|standby| format!("standby: {standby}")),
        prop_oneof![Just("'a Failover'"), Just("''")].prop_map(|why| format!("freeze: {why}")),
        Just("unknown: true".to_owned()),
        Just("selector: '1.1'".to_owned()),
    ]
}

/// A story, and its text for whoever must understand a failure.
fn any_story() -> impl Strategy<Value = (String, Story)> {
    let policy = prop_oneof![
        Just("canary: {steps: [{weight: 10}, {weight: 50}, {weight: 100}], minHold: 20s, maxHold: 2m}"),
        Just("canary: {steps: [{weight: 1}, {weight: 99}, {weight: 100}], minHold: 0s, maxHold: 1m}"),
        Just("blueGreen: {previewFor: 30s}"),
    ];
    let extra = prop_oneof![
        Just(""),
        Just(", gates: [{at: 100, approval: {}}]"),
        Just(", analysis: {baseline: Fresh, warmup: 5s}"),
        Just(", matches: [{header: {name: a, value: b}}], mirrorPercent: 5"),
    ];
    let provider = prop_oneof![Just("Istio"), Just("GatewayAPI"), Just("None")];
    let events = prop::collection::vec((0..600u32, happening()), 1..24);
    (policy, extra, provider, events, any::<u64>()).prop_map(|(policy, extra, provider, events, seed)| {
        // A preview shares no traffic, so it takes no mirror.
        let extra = if policy.starts_with("blue") && extra.contains("mirror") { "" } else { extra };
        let events: Vec<String> =
            events.iter().map(|(at, what)| format!("  - {{at: {at}s, {what}}}")).collect();
        let text = format!(
            "rollout: {{service: app, strategy: {{{policy}}}{extra}}}\nservice: {{provider: {provider}}}\n\
             requests: 100\nseed: {seed}\nlasts: 12m\nevents:\n{}\n",
            events.join("\n")
        );
        let story = Story::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        (text, story)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::cases(96), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_story_keeps_the_invariants_and_is_the_same_twice((text, story) in any_story()) {
        eprintln!("{text}");
        let forward = goes_forward(&story);
        let mut watch = Watch::default();
        let first = run_with(story.clone(), None, |at, decision| watch.check(at, decision, forward));
        prop_assert_eq!(first, run(story));
    }
}
