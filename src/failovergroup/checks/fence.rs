//! Whether a Failover could learn from the cloud that no node of its source is left, where the group asks for that. Pure.

use super::found::{Found, Looked, Step};
use crate::api::failovergroup::NodePools;

/// Checks it: a warning at the most, since a person can always say so instead.
pub fn check(looked: &Looked<'_>) -> Option<Found> {
    let asks = looked.spec.fence.as_ref()?.node_pools();
    if looked.holds(&looked.seen.site) {
        return None;
    }
    let site = looked.holders().first()?;
    let name = format!("nodes of {site}");
    let asked = looked.seen.asked.pools.as_ref().filter(|asked| asked.site == *site);
    Some(match asked.map(|asked| &asked.found) {
        None => Found::warning(
            Step::Claim,
            name,
            "NotAsked",
            format!("the cloud of {site} has not been asked yet whether it tells of its nodes"),
            "wait some seconds",
        ),
        Some(Err(why)) => Found::warning(
            Step::Claim,
            name,
            "NodesNotTold",
            format!("a Failover could not learn whether all nodes of {site} are gone: {}", why.message),
            why.remedy.clone(),
        ),
        Some(Ok(Some(never))) => Found::warning(
            Step::Claim,
            name,
            "NeverConfirmed",
            format!("it can never be confirmed that all nodes of {site} are gone: {}", never.message),
            never.remedy.clone(),
        ),
        Some(Ok(None)) => {
            let words = match asks {
                NodePools::Confirm => format!("the cloud of {site} tells of its nodes"),
                NodePools::Stop => format!(
                    "the cloud of {site} tells of its nodes; whether it lets them be scaled to zero is seen only then"
                ),
            };
            Found::passed(Step::Claim, name, "NodesTold", words)
        }
    })
}
