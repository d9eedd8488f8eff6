//! The tour in virtual time, where this machine lets nobody send requests to pods.

use serde_json::json;

use super::script::Script;
use crate::canary::simulate::{Report, Story, run};
use crate::sandbox::args::{Output, SandboxArgs};
use crate::sandbox::error::{Context, Result};
use crate::sandbox::install;
use crate::sandbox::payload::Payload;
use crate::terminal::drawing::print;

/// Plays the tour as `banyan simulate` would. What decides is what decides in a cluster; requests are made up by
/// chance, and the text says so.
///
/// # Errors
/// When the objects of `--examples` are none that a tour can be played with.
pub fn simulate(args: &SandboxArgs, payload: &Payload) -> Result<()> {
    let objects = match &args.examples {
        Some(path) => install::read_folder(path)?,
        None => payload.tour.clone(),
    };
    let report = told(&Script::of(&objects)?)?;
    print(&text(&report, args.output)?);
    Ok(())
}

fn told(script: &Script) -> Result<Report> {
    // JSON is YAML.
    let story = Story::parse(&script.story().to_string()).context(|| "reading the tour as a story")?;
    Ok(run(story))
}

fn text(report: &Report, output: Output) -> Result<String> {
    if output == Output::Table {
        return Ok(format!(
            "The tour goes on in virtual time, as `banyan simulate` tells it. What decides is what decides in a cluster; \
             requests and pods are made up.\n\n{report}"
        ));
    }
    let mut text = String::new();
    for line in &report.lines {
        text.push_str(&format!("{}\n", json!({"event": "simulated", "line": line})));
    }
    let end = json!({
        "event": "simulatedEnd", "phase": report.phase, "stable": report.stable, "weight": report.weight,
        "users": report.users,
    });
    text.push_str(&format!("{end}\n"));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::script::tests::script;
    use super::*;

    #[test]
    fn the_good_release_is_promoted_and_the_bad_one_goes_back() {
        let report = told(&script()).unwrap();
        let people = text(&report, Output::Table).unwrap();
        let place = |words: &str| people.find(words).unwrap_or_else(|| panic!("no {words} in\n{people}"));
        assert!(place("Promoted: checkout:1.1.0") < place("RolledBack: checkout:1.2.0"), "{people}");
        assert_eq!((report.stable.as_str(), report.weight), ("checkout:1.1.0", 0));
        assert!(report.users.failed_by_canary > 0);
    }

    #[test]
    fn each_line_is_a_document() {
        let report = told(&script()).unwrap();
        let text = text(&report, Output::Json).unwrap();
        let events: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), report.lines.len() + 1);
        assert_eq!(events.last().unwrap()["event"], "simulatedEnd");
    }
}
