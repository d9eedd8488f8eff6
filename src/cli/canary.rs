//! `banyan canary`, as a plugin `kubectl banyan canary`: where rollouts stand, and what people say to them in mid-course.
//!
//! It speaks to the API server alone, with the caller's own rights: what is said becomes an Action.

use std::time::Duration;

use clap::{Args, Subcommand};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde::Serialize;

use super::api_error::words;
use super::canary_plan::{self, PlanArgs};
use super::canary_table;
use super::cluster::ClusterArgs;
use super::say::{answered, create};
use crate::api::action::{ActionSpec, ActionState, Target as ActionTarget, TargetKind, Verb};
use crate::api::units;
use crate::api::{Action, CanaryRollout, FinService};
use crate::runtime::client::{self, ClientError};
use crate::runtime::metrics::Metrics;
use crate::terminal::output::Output;
use crate::terminal::size;

/// What is asked or said, and where.
#[derive(Clone, Debug, Args)]
pub struct CanaryOptions {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The namespace of the CanaryRollout [default: the context's]
    #[arg(short, long, global = true, value_name = "NS")]
    namespace: Option<String>,
    /// How it is printed
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Lists CanaryRollouts
    List {
        /// Those of all namespaces
        #[arg(short = 'A', long, conflicts_with = "namespace")]
        all_namespaces: bool,
    },
    /// Shows where a CanaryRollout stands: weights, evidence, gates, history
    Status {
        /// Its name; not needed where there is only one
        name: Option<String>,
    },
    /// Says how long a rollout will take, and what a bad release will cost, at so many requests
    Plan(PlanArgs),
    /// Skips what is left of holds, verdicts and gates; never missing pods, other clusters, or a Fail
    Promote(Say),
    /// Goes back to stable at once; wins over everything else that is said
    Abort(Say),
    /// Stays at this weight; a Fail still goes back
    Pause(Say),
    /// Goes on after a pause
    Resume(Say),
    /// Tries the revision that failed again
    Retry(Say),
    /// Does not wait any longer at this step; gates stand
    SkipStep(Say),
    /// Does not wait for other clusters
    SkipAfter(Say),
    /// Opens a gate that waits for a person
    Approve {
        #[command(flatten)]
        say: Say,
        /// The weight that the gate stands before [default: the gate that is waited at]
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(i32).range(1..=100))]
        gate: Option<i32>,
    },
}

#[derive(Clone, Debug, Args)]
struct Say {
    /// The name of the CanaryRollout; not needed where there is only one
    name: Option<String>,
    /// Why: it stays on record
    #[arg(long, value_name = "TEXT")]
    words: Option<String>,
    /// Wait until it is carried out or refused, and show which
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration, requires = "wait")]
    timeout: Duration,
}

/// A duration, as arguments have it.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).ok_or_else(|| "must be a duration such as 30s or 5m".to_owned())
}

/// Why it could not be shown, or is not done.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    /// The call itself is wrong.
    #[error("{0}")]
    Usage(String),
    /// There is no way to the API server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The API server does not answer as it should.
    #[error("{doing}: {}", words(.source))]
    Api {
        /// What was tried.
        doing: String,
        /// What it says.
        source: Box<kube::Error>,
    },
    /// It makes no sense now, or was refused.
    #[error("{verb} of {rollout} is refused: {why}")]
    Refused {
        /// What was said.
        verb: &'static str,
        /// To what.
        rollout: String,
        /// Why.
        why: String,
    },
    /// Something is not there.
    #[error("{0}")]
    Absent(String),
    /// Nobody has answered.
    #[error(
        "no operator has answered the Action {action} within {within}; is the operator of this cluster running? The Action stays: see `kubectl get action {action}`"
    )]
    Unanswered {
        /// Its name.
        action: String,
        /// How long was waited.
        within: String,
    },
    /// Nothing can be planned.
    #[error(transparent)]
    Plan(#[from] canary_plan::PlanError),
    /// It has no JSON form.
    #[error("cannot write it as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl CanaryError {
    /// What the program ends with: 2 if the call itself is wrong, else 1.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Usage(_) | Self::Plan(_)) { 2 } else { 1 }
    }
}

fn failed(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> CanaryError {
    |source| CanaryError::Api { doing: doing.into(), source: Box::new(source) }
}

/// Shows, or says.
///
/// # Errors
/// If it cannot be shown, or is not done.
pub async fn main(options: CanaryOptions) -> Result<(), CanaryError> {
    // A file needs no cluster.
    if let Command::Plan(args) = &options.command
        && let Some(spec) = args.of_file()?
    {
        let forecast = args.forecast(&spec, None)?;
        print!("{}", printed(options.output, &forecast, || canary_plan::table(&forecast))?);
        return Ok(());
    }
    let client = client::connect(&options.cluster.target(), Metrics::new()).await?;
    print!("{}", run(options, client).await?);
    Ok(())
}

/// [`main`] with a client of one's own: what is to be printed.
///
/// # Errors
/// As [`main`].
pub async fn run(options: CanaryOptions, client: Client) -> Result<String, CanaryError> {
    let namespace = options.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let here = Here { client, namespace, output: options.output };
    match options.command {
        Command::List { all_namespaces } => here.list(all_namespaces).await,
        Command::Status { name } => {
            let rollout = here.rollout(name.as_deref()).await?;
            let service = here.service(&rollout).await;
            let pods = match &service {
                Ok(found) => {
                    Ok(found.iter().flat_map(|found| canary_table::of_canary(&rollout, found)).collect())
                }
                // Who may read rollouts alone is shown the rollout.
                Err(error) => Err(format!("it cannot be seen why pods do not start: {error}")),
            };
            here.printed(&rollout, || canary_table::status(&rollout, pods, size::width()))
        }
        Command::Plan(args) => here.plan(&args).await,
        Command::Promote(say) => here.say(Verb::Promote, say, None).await,
        Command::Abort(say) => here.say(Verb::Abort, say, None).await,
        Command::Pause(say) => here.say(Verb::Pause, say, None).await,
        Command::Resume(say) => here.say(Verb::Resume, say, None).await,
        Command::Retry(say) => here.say(Verb::Retry, say, None).await,
        Command::SkipStep(say) => here.say(Verb::SkipStep, say, None).await,
        Command::SkipAfter(say) => here.say(Verb::SkipAfter, say, None).await,
        Command::Approve { say, gate } => here.say(Verb::Approve, say, gate).await,
    }
}

fn printed(
    output: Output,
    object: &impl Serialize,
    table: impl FnOnce() -> String,
) -> Result<String, CanaryError> {
    Ok(match output {
        Output::Table => table(),
        Output::Json => format!("{}\n", serde_json::to_string_pretty(object)?),
    })
}

/// A namespace in a cluster.
struct Here {
    client: Client,
    namespace: String,
    output: Output,
}

impl Here {
    fn printed(
        &self,
        object: &impl Serialize,
        table: impl FnOnce() -> String,
    ) -> Result<String, CanaryError> {
        printed(self.output, object, table)
    }

    async fn plan(&self, args: &PlanArgs) -> Result<String, CanaryError> {
        let rollout = self.rollout(args.name.as_deref()).await?;
        let found = self.service(&rollout).await?;
        let forecast = args.forecast(&rollout.spec, found.as_ref())?;
        self.printed(&forecast, || canary_plan::table(&forecast))
    }

    /// The FinService of a rollout; none if there is none.
    async fn service(&self, rollout: &CanaryRollout) -> Result<Option<FinService>, CanaryError> {
        let service = &rollout.spec.service;
        let api: Api<FinService> = Api::namespaced(self.client.clone(), &self.namespace);
        api.get_opt(service).await.map_err(failed(format!("reading FinService {service}")))
    }

    async fn list(&self, all_namespaces: bool) -> Result<String, CanaryError> {
        let api: Api<CanaryRollout> = match all_namespaces {
            true => Api::all(self.client.clone()),
            false => Api::namespaced(self.client.clone(), &self.namespace),
        };
        let found = api.list(&ListParams::default()).await.map_err(failed("listing CanaryRollouts"))?.items;
        self.printed(&found, || match found.is_empty() {
            true if all_namespaces => "there are no CanaryRollouts\n".to_owned(),
            true => format!("there are no CanaryRollouts in namespace {}\n", self.namespace),
            false => canary_table::list(&found, all_namespaces, size::width()),
        })
    }

    /// The CanaryRollout of that name, or the only one.
    async fn rollout(&self, name: Option<&str>) -> Result<CanaryRollout, CanaryError> {
        let namespace = &self.namespace;
        let api: Api<CanaryRollout> = Api::namespaced(self.client.clone(), namespace);
        if let Some(name) = name {
            let found = api.get_opt(name).await.map_err(failed(format!("reading {namespace}/{name}")))?;
            return found.ok_or_else(|| {
                CanaryError::Absent(format!(
                    "there is no CanaryRollout {name} in namespace {namespace}; see `kubectl banyan canary list -A`"
                ))
            });
        }
        let mut all = api.list(&ListParams::default()).await.map_err(failed("listing CanaryRollouts"))?.items;
        match (all.pop(), all.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => Err(CanaryError::Absent(format!(
                "there is no CanaryRollout in namespace {namespace}; choose another with --namespace"
            ))),
            (Some(last), false) => {
                all.push(last);
                let names: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
                Err(CanaryError::Usage(format!("name the CanaryRollout that is meant: {}", names.join(", "))))
            }
        }
    }

    async fn say(&self, verb: Verb, say: Say, gate: Option<i32>) -> Result<String, CanaryError> {
        let rollout = self.rollout(say.name.as_deref()).await?;
        let name = rollout.name_any();
        let full = format!("{}/{name}", self.namespace);
        let refused = |why| CanaryError::Refused { verb: verb.as_str(), rollout: full.clone(), why };
        let release = canary_table::meant(&rollout, verb, gate).map_err(refused)?;
        let spec = ActionSpec {
            target: ActionTarget { kind: TargetKind::CanaryRollout, name: name.clone(), uid: None },
            release: Some(release.clone()),
            step: None,
            store: None,
            evidence: None,
            position: None,
            verb,
            gate,
            words: say.words,
        };
        let actions: Api<Action> = Api::namespaced(self.client.clone(), &self.namespace);
        let said =
            create(&actions, spec).await.map_err(failed(format!("saying {} to {full}", verb.as_str())))?;
        let action = said.name_any();
        if !say.wait {
            let hint =
                format!("see what becomes of it with `kubectl get action {action} -n {}`", self.namespace);
            let words = format!("said {} of {release} to {full} as Action {action}; {hint}\n", verb.as_str());
            return self.printed(&said, || words);
        }
        let within = units::display(say.timeout);
        let Ok(answered) = answered(&actions, &action, say.timeout).await else {
            return Err(CanaryError::Unanswered { action, within });
        };
        let answered =
            answered.ok_or_else(|| CanaryError::Absent(format!("the Action {action} was deleted")))?;
        let status = answered.status.clone().unwrap_or_default();
        let words = status.message.unwrap_or_default();
        if status.state == Some(ActionState::Refused) {
            return Err(refused(words));
        }
        self.printed(&answered, || format!("{} of {release}: {words}\n", verb.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: CanaryOptions,
    }

    fn parsed(line: &str) -> Result<CanaryOptions, String> {
        let words = std::iter::once("canary").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.options).map_err(|error| error.to_string())
    }

    #[test]
    fn options_stand_before_or_behind_the_verb() {
        let options = parsed("approve app -n pay --gate 50 --wait --timeout 2m --words fine").unwrap();
        assert_eq!(options.namespace.as_deref(), Some("pay"));
        let Command::Approve { say, gate } = options.command else { panic!("it is an approval") };
        assert_eq!(
            (say.name.as_deref(), gate, say.timeout),
            (Some("app"), Some(50), Duration::from_secs(120))
        );
        assert_eq!(parsed("-n pay --output json list").unwrap().output, Output::Json);
        assert!(matches!(parsed("skip-step").unwrap().command, Command::SkipStep(_)));
    }

    #[test]
    fn a_wrong_call_is_named() {
        for (line, words) in [
            ("approve --gate 101", "101"),
            ("promote --gate 50", "--gate"),
            ("abort --wait --timeout soon", "30s or 5m"),
            ("list -A -n pay", "cannot be used with"),
            ("cancel", "cancel"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
        assert_eq!(CanaryError::Usage("name it".into()).exit_code(), 2);
        assert_eq!(CanaryError::Absent("nothing".into()).exit_code(), 1);
    }
}
