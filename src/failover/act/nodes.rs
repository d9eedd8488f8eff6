//! Asks the cloud of the source for its nodes, and has it scale them to zero where the group has that done.

use jiff::Timestamp;
use kube::ResourceExt;

use super::super::nodes::{self, looked, rests_on_it, still_gone, to_stop};
use super::super::view::{ASSERT, untold_words};
use super::{Done, Means};
use crate::api::FailoverStatus;
use crate::api::authority::ClaimState;
use crate::api::failovergroup::{FenceSpec, NodePools};
use crate::authority::claims::{greater, slot};
use crate::failovergroup::live;
use crate::failovergroup::sources::pools;
use crate::runtime::lock::lock;

impl Means<'_> {
    /// What may be asked of the cloud; nothing of a Switchover.
    fn node_pools(&self) -> Option<NodePools> {
        self.seen.spec.fence.as_ref().filter(|_| !self.planned).map(FenceSpec::node_pools)
    }
}

/// Stores could not be closed over their own wire: asks the cloud whether no node of the source is left.
pub(super) async fn instead(means: &Means<'_>, done: Done, status: &mut FailoverStatus) -> Done {
    let (Some(mode), Some(source)) = (means.node_pools(), means.seen.source()) else { return done };
    let Done::NotYet(wait) = done else { return done };
    let asked = pools::look(&means.shared.ground.sites, &source).await;
    looked(&means.of(&source), (mode, wait), asked, status, Timestamp::now())
}

/// The same where stores must not be closed over their own wire yet, since that peer has not taken the claim.
pub(super) async fn confirm(
    means: &Means<'_>,
    peer: &str,
    stores: &[String],
    status: &mut FailoverStatus,
) -> Done {
    let wait = Done::not_yet("ClaimNotTold", untold_words(peer, stores), Some(means.command(ASSERT)));
    instead(means, wait, status).await
}

/// Whether the claim stands as it was decided on, by the Authority of this moment: a leader that was paused stops no nodes for
/// a claim that was given up meanwhile.
async fn claims_still(means: &Means<'_>) -> Result<bool, kube::Error> {
    let (ground, group) = (&means.shared.ground, &*means.seen.group.name);
    if let Err(error) = live::own(means.context, ground, group).await {
        tracing::warn!(group, %error, "this cluster's API server does not answer: no node is stopped");
        return Ok(false);
    }
    let own = lock(&ground.index).own_spec(group).cloned().unwrap_or_default();
    let (site, (ballot, follows)) = (&*means.context.site, means.claim);
    let claim = slot(&own, site).filter(|claim| claim.ballot == ballot && claim.fence == Some(true));
    let stands = claim.is_some_and(|claim| claim.state == ClaimState::Open) && own.epoch == follows;
    Ok(stands && greater(&own, site, ballot).is_none())
}

/// Has the cloud scale the nodes of the source to zero.
pub(super) async fn stop(means: &Means<'_>, status: &mut FailoverStatus) -> Result<Done, kube::Error> {
    let (Some(NodePools::Stop), Some(source)) = (means.node_pools(), means.seen.source()) else {
        return Ok(Done::Again);
    };
    let of = means.of(&source);
    let sites = &means.shared.ground.sites;
    let wanted = match pools::look(sites, &source).await {
        Ok(found) => to_stop(&found, status),
        Err(why) => Err(why),
    };
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(why) => return Ok(nodes::stopped(&of, Err(why), status)),
    };
    if !claims_still(means).await? {
        return Ok(Done::Again);
    }
    let Some(_permit) = means.context.may_write(true).await else { return Ok(Done::Again) };
    tracing::warn!(failover = %means.failover.name_any(), source, pools = wanted.len(), "its nodes are scaled to zero");
    let done = pools::stop(sites, &source, &wanted).await;
    Ok(nodes::stopped(&of, done, status))
}

/// Whether all nodes of the source are gone still, where it rests on that. `None` if they are, or if a person says that nobody
/// writes there.
pub(super) async fn still(means: &Means<'_>, status: &mut FailoverStatus) -> Option<Done> {
    if !rests_on_it(status) || status.assertion.is_some() {
        return None;
    }
    let source = means.seen.source()?;
    let asked = pools::look(&means.shared.ground.sites, &source).await;
    still_gone(&means.of(&source), asked, status)
}
