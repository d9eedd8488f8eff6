//! Rollouts in virtual time: every story of `tests/goldens/canary/` is told and compared with what it was, and
//! what must hold of all of them is checked at every decision.
//!
//! `UPDATE_EXPECT=1 cargo test --test simulate` writes the goldens anew; read the difference in review.

use std::path::PathBuf;

use banyan::canary::simulate::{Crash, Story, run, run_with};
use banyan::canary::{Decision, Phase};
use banyan::evidence::Verdict;
use expect_test::expect_file;

/// The stories, by name.
fn stories() -> Vec<(String, PathBuf, Story)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/canary");
    let mut stories = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("the goldens") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).expect("a story");
            let story = Story::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            stories.push((name, path, story));
        }
    }
    stories.sort_by(|one, other| one.0.cmp(&other.0));
    stories
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
