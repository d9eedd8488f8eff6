//! `banyan failover`, as a plugin `kubectl banyan failover`: could the platform fail over to this site now, and do it.

use super::cluster::OperatorArgs;
use super::explain::{Explain, explain, may_go_back};
use super::failover_error::FailoverError;
use super::groups::{plan, ready};
use super::moves::{Back, Moves, Rehearse, Said, Say, Start};
use super::residual::residual;
use crate::api::action::{FenceEvidence, SkippedStep, Verb};
use crate::runtime::client;
use crate::runtime::metrics::Metrics;
use crate::terminal::output::Output;
use clap::{Args, Subcommand};

/// What is asked, and where.
#[derive(Clone, Debug, Args)]
pub struct FailoverOptions {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    operator: OperatorArgs,
    /// How it is printed
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Shows whether a failover to this site could be ordered now, and what stands in the way. Ends with 0 if all that was
    /// asked for is ready, with 3 if not
    Ready {
        /// The FailoverGroup; all of them where left out
        group: Option<String>,
    },
    /// Shows what a move to this site would do, how long each step took last, and what would hold it. Changes nothing. Ends
    /// with 0 if nothing would hold it, with 3 if something would
    Plan {
        /// The FailoverGroup
        group: String,
    },
    /// Explains who may write, why a store is closed, what opens it, and what would become of an order here now
    Explain(Explain),
    /// Orders that a FailoverGroup moves to this cluster; with --all, every one that a site has authority over
    Start(Start),
    /// Rehearses a move to this cluster: full size, replication, requests through its own gateway; then all is as before
    Rehearse(Rehearse),
    /// Orders a Switchover to this cluster, if it is the one that had authority before
    Failback(Back),
    /// Shows Failovers, or one with its steps
    Status {
        /// Its name; a line for each where left out
        name: Option<String>,
    },
    /// Says what a Failover does, until it is over. Ends with 0 if it has moved, with 3 if not
    Watch {
        /// Its name; not needed where only one is at work
        name: Option<String>,
    },
    /// Shows how many requests of users still arrive at the site of this cluster, though another one has authority, and what
    /// became of them
    Residual {
        /// The FailoverGroup; all of them where left out
        group: Option<String>,
    },
    /// Stops before the next step that can wait; after the commit it is refused
    Pause(Say),
    /// Goes on
    Resume(Say),
    /// Gives it up, and opens again what was closed; after the commit it is refused
    Abort(Say),
    /// Agrees to a move, where its FailoverGroup asks for that; never by whoever ordered it
    Approve(Say),
    /// Turns a Switchover into a Failover: goes on without the source
    Force(Say),
    /// Leaves out a step, or a store that cannot be promoted
    Skip {
        /// The step
        #[arg(long, value_enum, required_unless_present = "store")]
        step: Option<SkippedStep>,
        /// A store with required: false, which cannot be promoted or opened after the commit
        #[arg(long, value_name = "NAME", conflicts_with = "step")]
        store: Option<String>,
        #[command(flatten)]
        say: Say,
    },
    /// Says that the source accepts no writes, and will accept none until its operator has read the claim
    AssertFenced {
        /// How you know
        #[arg(long, value_enum)]
        evidence: FenceEvidence,
        #[command(flatten)]
        say: Say,
    },
    /// Accepts that what is not here is lost
    AcceptDataLoss {
        /// The position behind which all is thrown away, as `status` shows it under Stores
        #[arg(long, value_name = "POSITION")]
        position: String,
        #[command(flatten)]
        say: Say,
    },
}

/// Carries out the command.
///
/// # Errors
/// If it cannot be shown, or is not ready.
pub async fn main(options: FailoverOptions) -> Result<(), FailoverError> {
    let FailoverOptions { command, operator: OperatorArgs { cluster, namespace }, output } = options;
    let client = client::connect(&cluster.target(), Metrics::new()).await?;
    let moves = Moves { client: client.clone(), namespace: namespace.clone(), output };
    let nothing = Said::default;
    match command {
        Command::Ready { group } => ready(client, &namespace, group, output).await,
        Command::Plan { group } => plan(client, &namespace, &group, output).await,
        Command::Start(start) => moves.start(start).await,
        Command::Rehearse(rehearse) => moves.rehearse(rehearse).await,
        Command::Explain(asked) => explain(&cluster, &moves, asked).await,
        Command::Failback(back) => {
            may_go_back(&moves, &back.group).await?;
            moves.failback(back).await
        }
        Command::Status { name } => moves.status(name.as_deref()).await,
        Command::Watch { name } => moves.watch(name.as_deref()).await,
        Command::Residual { group } => residual(client, &namespace, group, output).await,
        Command::Pause(say) => moves.say(Verb::Pause, say, nothing()).await,
        Command::Resume(say) => moves.say(Verb::Resume, say, nothing()).await,
        Command::Abort(say) => moves.say(Verb::Abort, say, nothing()).await,
        Command::Approve(say) => moves.say(Verb::Approve, say, nothing()).await,
        Command::Force(say) => moves.say(Verb::Force, say, nothing()).await,
        Command::Skip { step, store, say } => {
            moves.say(Verb::Skip, say, Said { step, store, ..nothing() }).await
        }
        Command::AssertFenced { evidence, say } => {
            let said = Said { evidence: Some(evidence), ..nothing() };
            moves.say(Verb::AssertFenced, say, said).await
        }
        Command::AcceptDataLoss { position, say } => {
            moves.say(Verb::AcceptDataLoss, say, Said { position: Some(position), ..nothing() }).await
        }
    }
}
