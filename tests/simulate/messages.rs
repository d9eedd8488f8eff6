//! Every message of a rollout on one page, so that they can be read as a whole: each is taken from a story of
//! `tests/goldens/canary/`, as the operator says it there.

use std::collections::BTreeMap;
use std::fmt::Write;

use banyan::canary::simulate::{Story, run_with};
use expect_test::expect_file;

/// People and metrics of the stories, in whose place any other might stand.
const ANY: [&str; 9] =
    ["anna", "ben", "cem", "mia", "dora", "error-rate", "latency", "declined", "double-postings"];

/// What tells a message from another one: its words without numbers, releases, people and metrics.
fn kind(words: &str) -> String {
    let mut kind = String::new();
    for word in words.split(' ') {
        let name = word.trim_end_matches([':', ';', ',']);
        let number = word.chars().any(|letter| letter.is_ascii_digit());
        kind.push_str(if number || ANY.contains(&name) { "#" } else { word });
        kind.push(' ');
    }
    // What several of them have in a row is one thing: "1m 30s", "4 of 9".
    while kind.contains("# # ") {
        kind = kind.replace("# # ", "# ");
    }
    kind
}

/// Messages by what they belong to; each kind once, as it was seen first.
#[derive(Default)]
struct Said(BTreeMap<String, BTreeMap<String, String>>);

impl Said {
    fn add(&mut self, of: &str, words: &str) {
        let words = words.replace('|', "\\|");
        self.0.entry(of.to_owned()).or_default().entry(kind(&words)).or_insert(words);
    }

    fn section(&self, title: &str, about: &str, column: &str) -> String {
        let mut text = format!("\n## {title}\n{about}\n\n| {column} | words |\n|---|---|\n");
        for (of, all) in &self.0 {
            for words in all.values() {
                let _ = writeln!(text, "| `{of}` | {words} |");
            }
        }
        text
    }
}

#[test]
fn every_message_of_a_rollout_stands_on_one_page() {
    let (mut events, mut waits, mut stalled, mut problems) =
        (Said::default(), Said::default(), Said::default(), Said::default());
    for (name, _, text) in crate::stories("canary") {
        let story = Story::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        run_with(story, None, |_, decision| {
            for notice in &decision.notices {
                events.add(notice.reason.as_str(), &notice.note);
            }
            for reason in &decision.reasons {
                waits.add(decision.phase.as_str(), reason);
            }
            if let Some((reason, words)) = &decision.stalled {
                stalled.add(reason, words);
            }
            for problem in &decision.problems {
                problems.add(&problem.source, &format!("{}. {}", problem.message, problem.remedy));
            }
        });
    }
    let mut page = String::from(
        "# What a rollout says\n\nWritten by `UPDATE_EXPECT=1 cargo test --test simulate messages` from the stories under \
         `tests/goldens/canary/`: each kind of message once, as the operator said it there. `NAMESPACE` and `NAME` stand for those of \
         the CanaryRollout.\n",
    );
    page.push_str(&events.section(
        "Events",
        "Said once, on the FinService and on the CanaryRollout.",
        "reason",
    ));
    page.push_str(&waits.section(
        "What it is doing, or waits for",
        "`status.message`, and the message of the conditions.",
        "phase",
    ));
    page.push_str(&stalled.section(
        "When a person must act",
        "The condition `Stalled` is True, with this reason.",
        "reason",
    ));
    page.push_str(&problems.section(
        "Problems",
        "`status.problems`: what is wrong with the policy, and what to do about it.",
        "field",
    ));
    assert!(page.lines().count() > 100, "the stories say much:\n{page}");
    let path = format!("{}/docs/reference/rollout-messages.md", env!("CARGO_MANIFEST_DIR"));
    expect_file![path].assert_eq(&page);
}
