//! Carries one act of a move out. Each may be carried out again: it reads first what stands.
//!
//! | file | what it changes |
//! |---|---|
//! | [`authority`] | the Authorities, here and at peers, and the witness |
//! | [`stores`] | the stores at the source, and here |
//! | [`nodes`] | the nodes of the source, where the group has that done |
//! | [`hooks`] | nothing: it calls what the group has called on the way |
//! | [`requests`] | nothing: it sends requests through this site's own gateway |

mod authority;
mod hooks;
mod nodes;
mod requests;
mod stores;

use std::collections::BTreeSet;

use kube::ResourceExt;

use super::observe::Seen;
use super::outcome::{Done, Of};
use super::view::{Act, command};
use crate::api::{Failover, FailoverStatus};
use crate::failovergroup::controller::Shared;
use crate::failovergroup::sources::group::OfGroup;
use crate::runtime::context::Context;

/// What an act is carried out with.
pub struct Means<'a> {
    /// The process.
    pub context: &'a Context,
    /// What reconciling groups stands on.
    pub shared: &'a Shared,
    /// The order.
    pub failover: &'a Failover,
    /// What was seen when the act was decided on.
    pub seen: &'a Seen,
    /// The ballot of its claim, and the epoch that it follows; zeros before it.
    pub claim: (i64, i64),
    /// Whether both sites are to answer.
    pub planned: bool,
    /// Sites that are known not to answer.
    pub silent: &'a [String],
    /// Stores of which no commit may be acknowledged that is not at both sites.
    pub required: Vec<&'a str>,
    /// Stores that a move may go on without.
    pub optional: Vec<&'a str>,
}

impl Means<'_> {
    fn of_group(&self) -> OfGroup {
        OfGroup::new(&self.shared.sources, &self.seen.group.name, &self.seen.spec)
    }

    fn ballot(&self) -> i64 {
        self.claim.0
    }

    /// The move, for what comes of an act that concerns that source.
    fn of<'a>(&'a self, source: &'a str) -> Of<'a> {
        Of {
            site: &self.context.site,
            source,
            name: self.failover.metadata.name.as_deref().unwrap_or_default(),
            planned: self.planned,
            ballot: self.ballot(),
            known: &self.seen.group.knowledge,
            required: &self.required,
            optional: &self.optional,
        }
    }

    fn command(&self, verb: &str) -> String {
        command(verb, &self.failover.name_any())
    }
}

/// Carries an act out, and takes what came of it into the status. Sites that did not answer go into `silent`.
///
/// # Errors
/// If this cluster's API server does not answer, or refuses.
pub async fn carry_out(
    means: &Means<'_>,
    act: &Act,
    status: &mut FailoverStatus,
    silent: &mut BTreeSet<String>,
) -> Result<Done, kube::Error> {
    match act {
        Act::Claim { ballot, follows, fence, by_witness } => {
            authority::claim(means, (*ballot, *follows), (*fence, *by_witness)).await
        }
        Act::Tell(peer) => authority::tell(means, peer, silent).await,
        Act::Press => authority::press(means).await,
        Act::Fence(stores) => match stores::fence(means, stores, status, silent).await {
            Some(done) => Ok(nodes::instead(means, done, status).await),
            // A store knows of a later order.
            None => authority::withdraw(means).await,
        },
        Act::Confirm { peer, stores } => Ok(nodes::confirm(means, peer, stores, status).await),
        Act::Stop => nodes::stop(means, status).await,
        Act::CatchUp(stores) => Ok(stores::catch_up(means, stores, status).await),
        Act::Freeze(stores) => Ok(stores::freeze(means, stores, status).await),
        Act::Call(hook) => Ok(hooks::call(means, hook, status).await),
        Act::Try => {
            let done = requests::send(means).await;
            status.tried = matches!(done, Done::Yes(_)).then_some(true);
            Ok(done)
        }
        Act::Mark => authority::mark(means, status).await,
        Act::Decide => authority::decide(means).await,
        Act::Commit => authority::commit(means, status).await,
        Act::Promote(stores) => stores::promote(means, stores, status).await,
        Act::Open(stores) => Ok(stores::open(means, stores, status).await),
        Act::Serve if authority::serves(means) => authority::serve(means, status).await,
        Act::Serve => match requests::write(means, status).await {
            // Users come once it can be written to.
            Some(done) if !matches!(done, Done::Yes(_)) => Ok(done),
            _ => authority::serve(means, status).await,
        },
        Act::Withdraw => authority::withdraw(means).await,
        Act::Lift(stores) => Ok(stores::lift(means, stores, status).await),
        Act::Grow => {
            status.grown = Some(true);
            Ok(Done::Yes("the services of this site are brought to full size".to_owned()))
        }
        Act::Replay(stores) => Ok(stores::replay(means, stores, status).await),
        Act::Shrink => {
            status.grown = Some(false);
            Ok(Done::Yes("the services of this site are brought back to the size of a standby".to_owned()))
        }
    }
}
