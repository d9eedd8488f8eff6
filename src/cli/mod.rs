//! The commands of `banyan`.

mod api_error;
pub(crate) mod audit;
pub mod authority;
pub(crate) mod canary;
pub(crate) mod canary_plan;
pub(crate) mod canary_table;
pub mod clouds;
pub mod cluster;
pub mod crds;
mod documents;
mod explain;
pub(crate) mod failover;
mod failover_error;
pub(crate) mod give_back;
mod groups;
pub(crate) mod import;
mod live;
mod moves;
pub(crate) mod notifications;
mod objects;
pub mod operator;
pub(crate) mod pg_agent;
pub(crate) mod render;
pub(crate) mod residual;
pub mod run;
pub(crate) mod sandbox;
mod say;
mod service_list;
pub(crate) mod service_status;
pub(crate) mod simulate;
mod status_tree;

use std::error::Error;

use clap::{Parser, Subcommand};

use crate::sandbox::traffic::relay;

/// A Kubernetes operator for financial platforms.
#[derive(Debug, Parser)]
#[command(name = "banyan", version, about, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the operator of one cluster
    Run(Box<run::RunOptions>),
    /// Says to load balancers whether this site has authority over a FailoverGroup
    Authority(authority::AuthorityOptions),
    /// Shows where rollouts stand, and speaks to them in mid-course
    Canary(canary::CanaryOptions),
    /// Moves groups between sites, and shows whether they could move to this one now
    Failover(failover::FailoverOptions),
    /// Prints the record of what moves did, and says whether one is whole
    Audit(audit::AuditOptions),
    /// Tries out where the operator tells people of transitions
    Notifications(notifications::NotificationsOptions),
    /// Prints the definitions of the custom resources, or writes them into a folder
    Crds(crds::CrdsOptions),
    /// Makes FinServices from Deployments, Services, autoscalers and routes, and says what could not be taken over
    Import(import::ImportOptions),
    /// Gives Services and Deployments that were handed over to a FinService back, without a gap
    GiveBack(give_back::GiveBackOptions),
    /// Shows what a FinService becomes, without a cluster
    Render(render::RenderOptions),
    /// Shows what a change of a FinService would do, without a cluster
    Diff(render::DiffOptions),
    /// Runs beside a PostgreSQL and does what SQL cannot: shut down, rewind, copy anew, follow
    PgAgent(pg_agent::PgAgentOptions),
    /// Lists FinServices, or shows one with its revisions, pods, routes and problems, and what to type next
    Status(service_status::StatusOptions),
    /// Starts two clouds on this machine, with an operator in each and a platform on both
    Sandbox(sandbox::SandboxOptions),
    /// Passes connections into the sandbox's network namespace; the sandbox calls it
    #[command(hide = true)]
    Relay(relay::RelayArgs),
    /// Tells how a rollout, or a move between sites, would go, in virtual time, without a cluster
    Simulate(simulate::SimulateOptions),
    /// Prints the version
    Version,
}

/// Runs the command that was asked for.
///
/// # Errors
/// Whatever stands in the way, as one sentence with the remedy.
pub async fn main(cli: Cli) -> Result<(), Box<dyn Error + Send + Sync>> {
    match cli.command {
        Command::Run(options) => Ok(run::run(*options, operator::Operator::new).await?),
        Command::Authority(options) => Ok(authority::main(options).await?),
        Command::Canary(options) => Ok(canary::main(options).await?),
        Command::Failover(options) => Ok(failover::main(options).await?),
        Command::Audit(options) => Ok(audit::main(options).await?),
        Command::Notifications(options) => Ok(notifications::main(options).await?),
        Command::Crds(options) => Ok(crds::main(&options)?),
        Command::Import(options) => Ok(import::main(options).await?),
        Command::GiveBack(options) => Ok(give_back::main(options).await?),
        Command::Render(options) => Ok(render::render(&options)?),
        Command::Diff(options) => Ok(render::diff(&options)?),
        Command::PgAgent(options) => Ok(pg_agent::main(options).await?),
        Command::Sandbox(options) => sandbox::main(options).await,
        Command::Relay(args) => Ok(relay::run(args).await?),
        Command::Simulate(options) => Ok(simulate::main(&options)?),
        Command::Status(options) => Ok(service_status::main(options).await?),
        Command::Version => {
            println!("banyan {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

/// What the program ends with after that error: 2 if the call itself is wrong, as where arguments cannot be parsed; 3 if what
/// was asked about is not so; else 1.
pub fn exit_code(error: &(dyn Error + 'static)) -> u8 {
    let of_canary = error.downcast_ref::<canary::CanaryError>().map(canary::CanaryError::exit_code);
    let of_failover =
        error.downcast_ref::<failover_error::FailoverError>().map(failover_error::FailoverError::exit_code);
    let of_audit = error.downcast_ref::<audit::AuditError>().map(audit::AuditError::exit_code);
    of_canary.or(of_failover).or(of_audit).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_call_says_what_is_missing() {
        let error = Cli::try_parse_from(["banyan", "run"]).unwrap_err().to_string();
        assert!(error.contains("--site"), "{error}");
        let error = Cli::try_parse_from(["banyan", "run", "--site", "aws us"]).unwrap_err().to_string();
        assert!(error.contains("lower-case letters, digits and dashes"), "{error}");
    }
}
