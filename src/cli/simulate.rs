//! `banyan simulate`: a whole rollout, or a move between sites, in virtual time.

use std::fmt::Display;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::canary::simulate::{Story, StoryError, run};
use crate::failover::simulate as moves;
use crate::terminal::output::Output;

/// Which story is told, and how.
#[derive(Clone, Debug, Args)]
pub struct SimulateOptions {
    /// The story, as YAML: a CanaryRollout's spec and what happens (docs/canary.md), or a group and what happens to its sites
    /// (docs/failover.md)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How it is printed
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Begin chance elsewhere than the story of a rollout says
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

/// Why a story could not be told.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The file could not be read.
    #[error("cannot read {}: {source}; name a file with a story", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: std::io::Error,
    },
    /// It is no story.
    #[error("{}: {source}", path.display())]
    Story {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: StoryError,
    },
    /// It is no story of a move.
    #[error("{}: {source}", path.display())]
    Move {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: moves::StoryError,
    },
    /// It has no JSON form.
    #[error("cannot write the report as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Tells the story.
///
/// # Errors
/// If the file is no story.
pub fn main(options: &SimulateOptions) -> Result<(), SimulateError> {
    print!("{}", tell(options)?);
    Ok(())
}

fn tell(options: &SimulateOptions) -> Result<String, SimulateError> {
    let path = options.file.clone();
    let text = std::fs::read_to_string(&path)
        .map_err(|source| SimulateError::File { path: path.clone(), source })?;
    if is_move(&text) {
        let story = moves::Story::parse(&text)
            .map_err(|source| SimulateError::Move { path: path.clone(), source })?;
        return shown(&moves::run(story), options.output);
    }
    let mut story = Story::parse(&text).map_err(|source| SimulateError::Story { path, source })?;
    story.seed = options.seed.unwrap_or(story.seed);
    shown(&run(story), options.output)
}

/// Whether it is a story of a group, rather than of a rollout.
fn is_move(text: &str) -> bool {
    let story: Option<serde_json::Value> = serde_norway::from_str(text).ok();
    story.is_some_and(|story| story.get("group").is_some())
}

fn shown(report: &(impl Display + Serialize), output: Output) -> Result<String, SimulateError> {
    Ok(match output {
        Output::Table => report.to_string(),
        Output::Json => format!("{}\n", serde_json::to_string_pretty(report)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, output: Output) -> Result<String, SimulateError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("story.yaml");
        std::fs::write(&file, text).unwrap();
        tell(&SimulateOptions { file, output, seed: None })
    }

    const STORY: &str = "
rollout: {service: app, strategy: {canary: {steps: [{weight: 10}, {weight: 100}]}}}
lasts: 2m
events: [{at: 0s, deploy: '1.1'}]
";

    #[test]
    fn json_says_the_same_as_text() {
        let text = told(STORY, Output::Table).unwrap();
        let json: serde_json::Value = serde_json::from_str(&told(STORY, Output::Json).unwrap()).unwrap();
        assert!(text.contains("end: Analysing, 1.0 serves, the canary has 10 %"), "{text}");
        assert_eq!((json["phase"].as_str(), json["weight"].as_i64()), (Some("Analysing"), Some(10)));
    }

    #[test]
    fn a_story_of_a_group_is_told_too() {
        let story = "
group: {sites: [aws, gcp], stores: [ledger]}
lasts: 1m
events: [{at: 1s, order: {to: gcp, action: Switchover}}]
";
        let text = told(story, Output::Table).unwrap();
        assert!(text.contains("end: gcp has authority in epoch 17"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&told(story, Output::Json).unwrap()).unwrap();
        assert_eq!((json["epoch"].as_i64(), json["writes"]["lost"].as_i64()), (Some(17), Some(0)));
        let error = told(&story.replace("to: gcp", "to: here"), Output::Table).unwrap_err().to_string();
        assert!(error.contains("events[0].order.to: here is none of group.sites: aws, gcp"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_story_is_named() {
        let wrong = STORY.replace("at: 0s", "at: soon");
        let error = told(&wrong, Output::Table).unwrap_err().to_string();
        assert!(error.contains("events[0].at") && error.contains("soon"), "{error}");
        let error = told("lasts: 1m", Output::Table).unwrap_err().to_string();
        assert!(error.contains("rollout") && error.contains("docs/canary.md"), "{error}");
        let error = told(&STORY.replace("lasts: 2m", "lasts: 9999d"), Output::Table).unwrap_err().to_string();
        assert!(error.contains("raise tick"), "{error}");
    }
}
