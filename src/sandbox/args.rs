//! What is asked of `banyan sandbox`.

use std::path::PathBuf;
use std::time::Duration;

use super::home;
use super::tour::Tour;
pub use crate::terminal::output::Output;

/// What the sandbox is to do.
///
/// Everything is built from source the first time (about ten minutes; it needs Go) and kept in
/// the cache folder. Ctrl-C ends all and removes it.
#[derive(Debug, Clone, clap::Args)]
pub struct SandboxArgs {
    /// End with 0 once every FinService is Ready in both clouds and the databases could fail over, or with 1 when the
    /// timeout is over
    #[arg(long)]
    pub until_ready: bool,
    /// Let clouds and operators go on in the background at the end, until `banyan sandbox --stop`
    #[arg(long, conflicts_with = "stop")]
    pub keep: bool,
    /// End a sandbox that was kept, and remove its folder
    #[arg(long, conflicts_with_all = ["until_ready", "examples", "contexts"])]
    pub stop: bool,
    /// Folder of manifests to apply to both clouds in the place of the example platform
    #[arg(long, value_name = "DIR")]
    pub examples: Option<PathBuf>,
    /// Let pods answer requests, behind a gateway in each cloud (on Linux; builds for four minutes the first time)
    #[arg(long, conflicts_with_all = ["keep", "stop", "contexts"])]
    pub traffic: bool,
    /// Show something as it really happens, and end. `canary`: how a good release takes over and a bad one goes back, with
    /// --examples the FinService and the CanaryRollout of that folder. `failover`: how a group moves to the other cloud and
    /// back under writes and requests, and what happens when a cloud is lost
    #[arg(long, value_enum, conflicts_with_all = ["keep", "stop", "contexts", "until_ready"])]
    pub tour: Option<Tour>,
    /// Contexts of your kubeconfig for two clusters that exist, the first for aws-us-east-1, the second
    /// for gcp-us-central1; what was not there before is deleted at the end, unless it is kept
    #[arg(long = "context", value_name = "NAME")]
    pub contexts: Vec<String>,
    /// How the table is printed; a tour prints one JSON document a line for each event
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
    /// With --until-ready: how long the platform may take once the clouds run (90s, 5m)
    #[arg(long, default_value = "3m", value_parser = duration)]
    pub timeout: Duration,
    /// Folder for kubeconfigs, logs and data; removed at the end
    #[arg(long, value_name = "DIR", default_value = home::DEFAULT)]
    pub dir: PathBuf,
}

impl SandboxArgs {
    /// Whether pods are to answer requests: a tour is nothing without.
    pub(super) fn wants_traffic(&self) -> bool {
        self.traffic || self.tour == Some(Tour::Canary)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: write a number and s, m or h, such as 90s or 5m");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(factor).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: SandboxArgs,
    }

    pub(in crate::sandbox) fn parse(args: &[&str]) -> Result<SandboxArgs, String> {
        use clap::Parser;
        Command::try_parse_from([&["sandbox"], args].concat())
            .map(|command| command.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse(&["--timeout", "90s"]).unwrap().timeout, Duration::from_secs(90));
        assert_eq!(parse(&[]).unwrap().timeout, Duration::from_secs(180));
        for wrong in ["90", "", "m", "1d", "99999999999999999999h", "9999999999999999h", "é"] {
            let error = parse(&["--timeout", wrong]).unwrap_err();
            assert!(error.contains("90s or 5m"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_tour_has_traffic_and_ends_by_itself() {
        assert!(parse(&["--tour", "canary"]).unwrap().wants_traffic());
        assert!(!parse(&[]).unwrap().wants_traffic());
        for other in ["--keep", "--stop", "--until-ready", "--context=a"] {
            let error = parse(&["--tour", "canary", other]).unwrap_err();
            assert!(error.contains("cannot be used with"), "{other}: {error}");
        }
    }
}
