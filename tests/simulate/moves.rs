//! Moves: every story of `tests/goldens/failover/`, and what must hold of any.

use std::path::PathBuf;

use banyan::failover::simulate::{Report, Story, run};
use expect_test::expect_file;
use proptest::prelude::*;

fn stories() -> Vec<(String, PathBuf, Story)> {
    let parsed = |(name, path, text): (String, PathBuf, String)| {
        let story = Story::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, path, story)
    };
    crate::stories("failover").into_iter().map(parsed).collect()
}

/// Whether somebody said that something need not be so that keeps all writes.
fn vouches(story: &Story) -> bool {
    use banyan::api::action::Verb::{AcceptDataLoss, AssertFenced};
    let said = story.events.iter().filter_map(|event| event.say.as_ref());
    said.map(|said| said.verb).any(|verb| matches!(verb, AssertFenced | AcceptDataLoss))
}

fn keeps_all(report: &Report) -> Result<(), String> {
    let writes = &report.writes;
    match writes.lost == 0 && writes.both_seconds == 0.0 {
        true => Ok(()),
        false => Err(format!("nobody vouched for anything\n{report}")),
    }
}

#[test]
fn every_story_is_told_as_before() {
    let stories = stories();
    assert!(stories.len() >= 30, "{}", stories.len());
    for (name, path, story) in stories {
        let (vouches, limit) = (vouches(&story), story.group.max_lag.is_some());
        let report = run(story);
        expect_file![path.with_extension("txt")].assert_eq(&report.to_string());
        if !vouches && !limit {
            keeps_all(&report).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn the_same_story_is_told_twice() {
    for (name, _, story) in stories() {
        assert_eq!(run(story.clone()), run(story), "{name}");
    }
}

/// Something that may happen, as YAML without its time.
fn happening() -> impl Strategy<Value = String> {
    let site = || prop_oneof![Just("a"), Just("b")];
    let health = || prop_oneof![Just("Up"), Just("Down")];
    let field = prop_oneof![Just("api"), Just("operator"), Just("databases"), Just("application")];
    let all = prop_oneof![Just("network"), Just("witness"), Just("replication")];
    let verb = prop_oneof![
        Just("abort"),
        Just("force"),
        Just("pause"),
        Just("resume"),
        Just("skip, step: reprotect"),
        Just("skip, step: try"),
    ];
    let action = prop_oneof![Just("Switchover"), Just("Failover")];
    prop_oneof![
        4 => (site(), action).prop_map(|(to, action)| format!("order: {{to: {to}, action: {action}}}")),
        3 => (site(), verb).prop_map(|(to, verb)| format!("say: {{to: {to}, verb: {verb}}}")),
        2 => (field, site(), health()).prop_map(|(field, site, up)| format!("{field}: {{{site}: {up}}}")),
        2 => (all, health()).prop_map(|(field, up)| format!("{field}: {up}")),
        1 => (site(), any::<bool>()).prop_map(|(site, gone)| format!("nodesStopped: {{{site}: {gone}}}")),
        1 => site().prop_map(|site| format!("gone: {site}")),
        2 => site().prop_map(|site| format!("back: {site}")),
        1 => site().prop_map(|site| format!("delete: {site}")),
        1 => Just("groupChanges: true".to_owned()),
    ]
}

/// A story, and its text for whoever must understand a failure.
fn any_story() -> impl Strategy<Value = (String, Story)> {
    let stores = prop_oneof![Just("[]"), Just("[ledger]"), Just("[ledger, cards]")];
    let events = prop::collection::vec((0..240u32, happening()), 1..20);
    let fence = prop_oneof![Just("null"), Just("{nodePools: Confirm}"), Just("{nodePools: Stop}")];
    let group = (stores, any::<bool>(), any::<bool>(), fence);
    (group, events).prop_map(|((stores, witness, synchronous, fence), events)| {
        let can = |(_, what): &&(u32, String)| witness || !what.starts_with("witness");
        let events = events.iter().filter(can).map(|(at, what)| format!("  - {{at: {at}s, {what}}}"));
        let events: Vec<String> = events.collect();
        let text = format!(
            "group: {{sites: [a, b], stores: {stores}, witness: {witness}, synchronous: {synchronous}, fence: {fence}}}\n\
             lasts: 5m\nevents:\n{}\n",
            events.join("\n")
        );
        let story = Story::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        (text, story)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::cases(64), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_lost_where_nobody_vouches((text, story) in any_story()) {
        let report = run(story);
        if let Err(error) = keeps_all(&report) {
            return Err(TestCaseError::fail(format!("{text}\n{error}")));
        }
    }
}
