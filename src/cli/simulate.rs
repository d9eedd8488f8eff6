//! `banyan simulate`: a whole rollout in virtual time.

use std::path::PathBuf;

use clap::Args;

use crate::canary::simulate::{Story, StoryError, run};
use crate::terminal::output::Output;

/// Which story is told, and how.
#[derive(Clone, Debug, Args)]
pub struct SimulateOptions {
    /// The story: a CanaryRollout's spec and what happens, as YAML (see docs/canary.md)
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How it is printed
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Begin chance elsewhere than the story says
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
    let mut story = Story::parse(&text).map_err(|source| SimulateError::Story { path, source })?;
    story.seed = options.seed.unwrap_or(story.seed);
    let report = run(story);
    Ok(match options.output {
        Output::Table => report.to_string(),
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&report)?),
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
