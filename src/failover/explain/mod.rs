//! Why a site stands as it does, why a store is closed, and what would open it: by the same functions that decide. Pure.
//!
//! | file | what it is for |
//! |---|---|
//! | `mod` | what is told, and what is explained |
//! | [`looked`] | the site: how it stands, what the Authorities say, what would become of an order |
//! | [`stores`] | its stores: why each stands as it does, and what would open it |
//! | [`table`] | all of it, as people read it |

mod looked;
mod stores;
pub(crate) mod table;

use jiff::Timestamp;
use serde::Serialize;

pub use self::looked::explain;
use crate::api::{Authority, Failover, FailoverGroup};

/// The objects of a group, as one cluster has them.
#[derive(Clone, Debug)]
pub struct Told<'a> {
    /// The FailoverGroup.
    pub group: &'a FailoverGroup,
    /// Its Authority.
    pub authority: Option<&'a Authority>,
    /// The Failovers of that cluster.
    pub failovers: &'a [Failover],
    /// When.
    pub now: Timestamp,
}

/// How a group stands at a site, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// The group.
    pub group: String,
    /// The site as which this is seen.
    pub site: String,
    /// How the site stands.
    pub state: &'static str,
    /// Why.
    pub why: String,
    /// What ends it, where it is not as it should be; or what moves the group here.
    pub next: Option<String>,
    /// What the Authorities say, this site's own first.
    pub authorities: Vec<AuthorityLine>,
    /// What the stores show, as this site has read them.
    pub stores: Vec<StoreLine>,
    /// What the witness has decided.
    pub witness: Option<String>,
    /// The nodes that an order at this site has scaled to zero, where no later one was done.
    pub nodes: Option<NodesLine>,
    /// What would become of an order at this site now.
    pub orders: Vec<OrderLine>,
}

/// Nodes that an order has scaled to zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodesLine {
    /// Which order did that, where, and what came of it.
    pub why: String,
    /// The commands that bring them back.
    pub back: Vec<String>,
}

/// What one Authority says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityLine {
    /// Of which site.
    pub site: String,
    /// The epoch; absent where it was not read.
    pub epoch: Option<i64>,
    /// The epoch before.
    pub follows: Option<i64>,
    /// Who may write.
    pub holders: Vec<String>,
    /// The last epoch for which all stores are open there.
    pub promoted: Option<i64>,
    /// Claims, in words.
    pub claims: Vec<String>,
    /// Why it was not read.
    pub error: Option<String>,
}

/// What one store shows at one site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreLine {
    /// The store.
    pub store: String,
    /// The site.
    pub site: String,
    /// Primary or standby, open or closed, in words.
    pub stands: String,
    /// The epoch for which it was opened last.
    pub opened_at: Option<i64>,
    /// The ballot that has ordered it last.
    pub ballot: Option<i64>,
    /// Why it stands so; of this site's own stores alone.
    pub why: Option<String>,
    /// What would open it; empty where it is open, or is not to be.
    pub opens: Vec<Opens>,
}

/// Something that would open a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Opens {
    /// What must happen.
    pub when: String,
    /// What to type for that, and in which cluster; absent where it comes by itself.
    pub next: Option<String>,
}

/// What would become of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OrderLine {
    /// Which.
    pub action: &'static str,
    /// What would come first.
    pub would: String,
    /// The page of what it would wait for.
    pub reason: Option<String>,
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
