//! Pure. From changes to the bodies of requests, each with no more fields than it changes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::dns::plan::Change;
use crate::dns::stands::Weight;
use crate::dns::wanted::{Mark, Wanted};

use super::shapes::{Ids, LoadBalancer, Settings};

/// One request that changes something.
pub(super) struct Write {
    /// The pool, or none for the load balancer.
    pub pool: Option<String>,
    /// The fields.
    pub body: Value,
    /// The mark that must stand before it.
    pub after: Option<Mark>,
    /// The mark that it carries.
    pub mark: Mark,
}

/// The requests, in order: the mark goes first, with all weights; then who takes part, then who is pinned off.
pub(super) fn writes(
    settings: &Settings,
    balancer: &LoadBalancer,
    wanted: &Wanted,
    ids: &Ids,
    changes: &[Change],
) -> Vec<Write> {
    let Some((from, to)) = changes.iter().find_map(|change| match change {
        Change::Mark { from, to } => Some((from.clone(), to.clone())),
        _ => None,
    }) else {
        return Vec::new();
    };
    let mut body =
        json!({"description": to.written_into(balancer.description.as_deref().unwrap_or_default())});
    let shares: BTreeMap<String, f64> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Weight { site, to } | Change::On { site, weight: Some(to) } => {
                let pool = settings.pool(site, wanted, ids)?;
                let stands = balancer.weight(&pool.id) == Weight::Is(*to);
                (!stands).then(|| (pool.id.clone(), f64::from(*to) / 100.0))
            }
            _ => None,
        })
        .collect();
    if !shares.is_empty() {
        let steering = balancer.random_steering.clone().unwrap_or_default();
        let mut weights = steering.pool_weights.unwrap_or_default();
        weights.extend(shares.clone());
        body["steering_policy"] = json!("random");
        body["random_steering"] =
            json!({"default_weight": steering.default_weight.unwrap_or(1.0), "pool_weights": weights});
    }
    // Where our mark stands already and no share changes, the load balancer is left alone.
    let marked = from.clone().filter(|from| from.epoch == to.epoch && shares.is_empty());
    let to = marked.clone().unwrap_or(to);
    let mut writes = match marked {
        Some(_) => Vec::new(),
        None => vec![Write { pool: None, body, after: from, mark: to.clone() }],
    };
    for change in changes {
        let enabled = match change {
            Change::On { .. } => true,
            Change::Off { .. } => false,
            _ => continue,
        };
        let Some(pool) = change.site().and_then(|site| settings.pool(site, wanted, ids)) else { continue };
        let description = to.written_into(pool.description.as_deref().unwrap_or_default());
        let body = json!({"enabled": enabled, "description": description});
        writes.push(Write { pool: Some(pool.id.clone()), body, after: Some(to.clone()), mark: to.clone() });
    }
    writes
}

/// The weights with which a load balancer is made: those that are wanted, by pool.
pub(super) fn first_weights(wanted: &Wanted, pools: &BTreeMap<String, String>) -> BTreeMap<String, f64> {
    let share = |site: &str| wanted.sites.get(site).map_or(1.0, |site| f64::from(site.weight) / 100.0);
    pools.iter().map(|(site, pool)| (pool.clone(), share(site))).collect()
}
