//! `banyan canary plan`: how long a rollout will take with a policy, and what a bad release will cost.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::api::units::display;
use crate::api::{CanaryRollout, CanaryRolloutSpec, FinService};
use crate::canary::simulate::{Fate, Forecast, Meets, Spread, forecast};
use crate::terminal::table::columns;

/// Why nothing can be planned: the call itself is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PlanError(String);

/// The pods of a service that does not say how many it has.
const PODS: i32 = 2;

/// What is planned, and what the releases will meet.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// The name of the CanaryRollout; not needed where there is only one
    #[arg(conflicts_with = "filename")]
    pub name: Option<String>,
    /// A file with a CanaryRollout, instead of one in the cluster
    #[arg(short, long, value_name = "FILE")]
    pub filename: Option<PathBuf>,
    /// Requests a second that the service answers
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    requests: f64,
    /// The share of them that fails in stable, in percent
    #[arg(long, value_name = "PERCENT", default_value = "0.1", value_parser = share)]
    errors: f64,
    /// Pods of the service [default: as its FinService asks for; 2 with a file]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pods: Option<i32>,
    /// Weights are numbers of pods: no mesh and no gateway shares the requests
    #[arg(long)]
    by_pods: bool,
    /// How many rollouts of each kind are tried
    #[arg(long, value_name = "NUMBER", default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..=1000))]
    runs: u64,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate > 0.0 && *rate <= 1e6);
    rate.ok_or_else(|| {
        "must be a number of requests a second, over 0 and up to 1000000, such as 50".to_owned()
    })
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share: &f64| (0.0..100.0).contains(share));
    share.ok_or_else(|| "must be a percentage from 0 to under 100, such as 0.1".to_owned())
}

impl PlanArgs {
    /// The policy of the file that is named, if one is.
    ///
    /// # Errors
    /// If it cannot be read, or holds no CanaryRollout.
    pub fn of_file(&self) -> Result<Option<CanaryRolloutSpec>, PlanError> {
        let Some(path) = &self.filename else { return Ok(None) };
        let wrong = |why: String| PlanError(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        for document in serde_norway::Deserializer::from_str(&text) {
            let value: serde_json::Value =
                serde::Deserialize::deserialize(document).map_err(|error| wrong(error.to_string()))?;
            if value["kind"] == "CanaryRollout" {
                let rollout: CanaryRollout =
                    serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
                return Ok(Some(rollout.spec));
            }
        }
        Err(wrong("it has no CanaryRollout: name a file with one".to_owned()))
    }

    /// The forecast of a policy.
    ///
    /// # Errors
    /// If no such rollout can be.
    pub fn forecast(
        &self,
        spec: &CanaryRolloutSpec,
        service: Option<&FinService>,
    ) -> Result<Forecast, PlanError> {
        let scale = service.and_then(|service| service.spec.scale.as_ref());
        let pods = scale.and_then(|scale| scale.replicas.or(scale.min));
        let meets = Meets {
            requests: self.requests,
            errors: self.errors,
            pods: self.pods.or(pods).unwrap_or(PODS).max(1),
            routed: !self.by_pods,
        };
        let runs = usize::try_from(self.runs).unwrap_or(1);
        forecast(spec, meets, runs).map_err(|error| PlanError(error.to_string()))
    }
}

fn time(seconds: f64) -> String {
    display(Duration::from_secs(seconds.clamp(0.0, 1e9).round() as u64))
}

fn spread(of: Option<Spread>, shown: impl Fn(f64) -> String) -> String {
    match of {
        Some(of) if of.least < of.most => {
            format!("{} ({} to {})", shown(of.median), shown(of.least), shown(of.most))
        }
        Some(of) => shown(of.median),
        None => "-".to_owned(),
    }
}

fn count(how: usize, fate: &Fate) -> String {
    match how {
        0 => "none".to_owned(),
        _ if how == fate.runs => "all".to_owned(),
        _ => format!("{how} of {}", fate.runs),
    }
}

/// The forecast, as people read it.
pub fn table(forecast: &Forecast) -> String {
    let Meets { requests, errors, pods, routed } = forecast.meets;
    let by = if routed { "" } else { ", and weights that are numbers of pods" };
    let mut text = format!(
        "At {requests} requests a second, of which {errors} % fail in stable, with {pods} pods{by}:\n\n"
    );
    let good = &forecast.good;
    if good.promoted == good.runs {
        let after = spread(good.seconds, time);
        text.push_str(&format!("A release that is as good as stable is promoted after {after}.\n"));
    } else {
        let promoted = count(good.promoted, good);
        text.push_str(&format!(
            "A release that is as good as stable is promoted in {promoted} of the runs.\n"
        ));
        if let Some(waits) = &good.waits {
            text.push_str(&format!("Else it waits: {waits}\n"));
        }
    }
    let mut rows = vec![vec!["WEIGHT".to_owned(), "STANDS FOR".to_owned()]];
    let steps = good.steps.iter().filter(|(weight, _)| *weight > 0);
    rows.extend(steps.map(|(weight, seconds)| vec![format!("{weight} %"), time(*seconds)]));
    text.push_str(&columns(&rows, "  ", 3));
    text.push_str("\nA release that is worse:\n");
    let head = ["BY", "TAKEN BACK", "AFTER", "PROMOTED", "FAILED REQUESTS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(forecast.worse.iter().map(|fate| {
        let unit = if fate.worse == 1.0 { "point" } else { "points" };
        vec![
            format!("{} {unit}", fate.worse),
            count(fate.taken_back, fate),
            spread(fate.seconds, time),
            count(fate.promoted, fate),
            spread(fate.failed, |failed| format!("{failed:.0}")),
        ]
    }));
    text.push_str(&columns(&rows, "  ", 3));
    text.push_str("\nTold by chance, in whole rollouts; gates and other clusters are left out, since nobody can tell how long people take.\n");
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: PlanArgs,
    }

    fn args(line: &str) -> Result<PlanArgs, String> {
        let words = std::iter::once("plan").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.args).map_err(|error| error.to_string())
    }

    const POLICY: &str = "
apiVersion: v1
kind: ConfigMap
---
apiVersion: banyan.dev/v1alpha1
kind: CanaryRollout
metadata: {name: checkout}
spec: {service: checkout, strategy: {canary: {steps: [{weight: 5}, {weight: 50}, {weight: 100}]}}}
";

    #[test]
    fn a_file_is_planned_without_a_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.yaml");
        std::fs::write(&file, POLICY).unwrap();
        let args = args(&format!("-f {} --requests 200 --runs 3", file.display())).unwrap();
        let spec = args.of_file().unwrap().expect("it names a file");
        let forecast = args.forecast(&spec, None).unwrap();
        assert_eq!((forecast.good.promoted, forecast.good.taken_back), (3, 0));
        assert!(forecast.worse.iter().all(|fate| fate.promoted == 0), "{:?}", forecast.worse);
        let text = table(&forecast);
        for words in ["is promoted after", "  5 %", "  50 %", "1 point ", "20 points", "all"] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        std::fs::write(&file, "kind: ConfigMap").unwrap();
        assert!(args.of_file().unwrap_err().to_string().contains("it has no CanaryRollout"));
    }

    #[test]
    fn a_wrong_call_is_named() {
        for (line, words) in [
            ("app", "--requests"),
            ("app --requests 0", "requests a second"),
            ("app --requests 1 --errors 100", "a percentage"),
            ("app -f b --requests 1", "cannot be used with"),
        ] {
            let error = args(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
