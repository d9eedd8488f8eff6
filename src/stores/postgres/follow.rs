//! An old primary becomes a standby, by the agent beside it.

use std::time::Duration;

use crate::api::Problem;
use crate::stores::agent::client::Agent;
use crate::stores::agent::{Action, Order, Progress, Source, State};
use crate::stores::{Ballot, StoreError};

/// What is said where there is no agent.
pub(super) fn without_agent(site: &str) -> StoreError {
    StoreError::Unsupported {
        message: "SQL can neither stop a server nor rewind it nor have it follow another, and the store has no agent"
            .to_owned(),
        remedy: format!(
            "run `banyan pg-agent` beside the server and name it in agent; or type at the server, as the user that runs \
             it: pg_ctl -D DATA stop -m fast; pg_rewind -D DATA -R --source-server='host=HOST-OF-{site} …' (or \
             pg_basebackup -R into an empty folder); touch DATA/standby.signal; pg_ctl -D DATA start"
        ),
    }
}

/// Gives an order, or asks how it fares. One that failed is given again, and why it failed is told.
pub(super) async fn ordered(agent: &Agent, order: Order, source: &str) -> Result<(), StoreError> {
    let before = agent.status().await?.last;
    ordered_after(agent, before, order, source).await
}

/// The same after a look at what the agent did last: whatever has come of it since is told by the next one.
async fn ordered_after(
    agent: &Agent,
    before: Option<Progress>,
    order: Order,
    source: &str,
) -> Result<(), StoreError> {
    let before = before.filter(|last| last.id == order.id);
    let now = agent.order(&order).await?;
    if let Some(failed) = before.filter(|before| before.state == State::Failed) {
        return Err(StoreError::Problem(Box::new(Problem::error(
            format!("{source}.agent"),
            format!("the agent could not carry out {}: {}", failed.id, failed.words),
            "correct what it names at the server; it is tried again",
        ))));
    }
    match now.state {
        State::Done => Ok(()),
        _ => Err(StoreError::NotYet { what: "the agent is at work", after: Duration::ZERO }),
    }
}

/// Goes on where a server was stopped for that epoch, and could neither be rewound nor started: it is copied anew.
pub(super) async fn go_on(agent: &Agent, epoch: Ballot, to: Source, source: &str) -> Result<(), StoreError> {
    let status = agent.status().await?;
    let ids = [format!("rewind-{epoch}"), format!("copy-{epoch}")];
    match status.last.filter(|last| ids.contains(&last.id)).map(|last| last.state) {
        Some(State::Done) => Ok(()),
        Some(State::Failed) if !status.running => follow(agent, epoch, to, source).await,
        _ => Err(StoreError::NotYet { what: "the server cannot be read", after: Duration::ZERO }),
    }
}

/// Rewinds the server, or copies it anew where it cannot be rewound, and has it follow.
pub(super) async fn follow(agent: &Agent, epoch: Ballot, to: Source, source: &str) -> Result<(), StoreError> {
    let (rewind, copy) = (format!("rewind-{epoch}"), format!("copy-{epoch}"));
    let last = agent.status().await?.last;
    let cannot_rewind = last
        .as_ref()
        .is_some_and(|last| last.id == copy || (last.id == rewind && last.state == State::Failed));
    let order = match cannot_rewind {
        true => Order { id: copy, ballot: epoch, action: Action::Copy(to) },
        false => Order { id: rewind, ballot: epoch, action: Action::Rewind(to) },
    };
    // One look for both: a rewind that fails between two looks would be told as a fault, and no copy begun.
    ordered_after(agent, last, order, source).await
}
