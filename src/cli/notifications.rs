//! `banyan notifications`: tries out where the operator tells people of transitions.

use clap::{Args, Subcommand};

use crate::notifications::send::{NoClient, NotSent, Sender};
use crate::notifications::settings::Settings;

/// What is tried out.
#[derive(Clone, Debug, Args)]
pub struct NotificationsOptions {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Sends a message to a destination that says that it is a test. In a cluster: `kubectl exec -n banyan-system
    /// deploy/banyan -- banyan notifications test NAME`
    Test {
        /// The name of the destination
        name: String,
        /// Who is told, as the operator has it
        #[arg(long, env = "BANYAN_NOTIFICATIONS", value_name = "JSON", default_value = "")]
        notifications: Settings,
        /// The name of this cluster
        #[arg(long, env = "BANYAN_SITE", default_value = "nowhere")]
        site: String,
    },
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum NotificationsError {
    /// There is no way to speak HTTP.
    #[error(transparent)]
    Client(#[from] NoClient),
    /// There is none of that name.
    #[error("there is no notification {name:?}; the chart's `notifications` has {known}")]
    Unknown {
        /// Which was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// It was not taken.
    #[error("{name} does not take it: {source}")]
    NotSent {
        /// Which.
        name: String,
        /// Why.
        source: NotSent,
    },
}

/// Runs the command.
///
/// # Errors
/// If the message is not taken.
pub async fn main(options: NotificationsOptions) -> Result<(), NotificationsError> {
    let Command::Test { name, notifications, site } = options.command;
    let Some(settings) = notifications.named(&name) else {
        let known: Vec<&str> = notifications.all().iter().map(|one| one.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(NotificationsError::Unknown { name, known });
    };
    let sent = Sender::new(settings.clone(), &site)?.try_out().await;
    sent.map_err(|source| NotificationsError::NotSent { name: name.clone(), source })?;
    println!("{name} has taken a test message");
    Ok(())
}
