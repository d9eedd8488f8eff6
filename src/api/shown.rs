//! What a site knows of the other ones, of the stores and of the witness, as its FailoverGroup shows it: what
//! `banyan failover explain` is made of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::authority::{AuthoritySpec, Claim};

/// What this site has read of who may write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// This site.
    #[schemars(length(max = 63))]
    pub site: String,
    /// What the Authorities of the other sites say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["site"]))]
    pub peers: Vec<PeerShown>,
    /// What the stores with a single writer show, at each site.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name", "site"]))]
    pub stores: Vec<StoreShown>,
    /// The mirrors that copy to this site. Other sites go by this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub mirrors: Vec<MirrorShown>,
    /// What the witness decided last; absent where the group has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witness: Option<WitnessShown>,
}

/// A mirror that copies to this site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MirrorShown {
    /// The store.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Whether it copies nothing: its connector and all tasks say so.
    pub stopped: bool,
}

/// What the Authority of another site says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerShown {
    /// The site.
    #[schemars(length(min = 1, max = 63))]
    pub site: String,
    /// Why it has not been read since this operator started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub error: Option<String>,
    /// Its Authority; absent where it has none, or was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<AuthorityShown>,
}

/// An Authority, as another site read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityShown {
    /// The epoch.
    pub epoch: i64,
    /// The one before.
    pub follows: i64,
    /// The sites that may write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub holders: Vec<String>,
    /// The last epoch for which all stores are open there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promoted: Option<i64>,
    /// Who wants to take over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["site"]))]
    pub claims: Vec<Claim>,
    /// Its ballots that were given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub withdrawn: Vec<i64>,
}

impl From<&AuthoritySpec> for AuthorityShown {
    fn from(of: &AuthoritySpec) -> Self {
        Self {
            epoch: of.epoch,
            follows: of.follows,
            holders: of.holders.clone(),
            promoted: of.promoted,
            claims: of.claims.clone(),
            withdrawn: of.withdrawn.clone(),
        }
    }
}

impl From<&AuthorityShown> for AuthoritySpec {
    fn from(of: &AuthorityShown) -> Self {
        Self {
            epoch: of.epoch,
            follows: of.follows,
            holders: of.holders.clone(),
            since: None,
            promoted: of.promoted,
            claims: of.claims.clone(),
            withdrawn: of.withdrawn.clone(),
        }
    }
}

/// What a store shows at a site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreShown {
    /// The store.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The site.
    #[schemars(length(min = 1, max = 63))]
    pub site: String,
    /// Why it could not be read; what follows is absent then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub error: Option<String>,
    /// Whether it takes writes as a primary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<bool>,
    /// Whether applications may log in and write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
    /// The epoch for which it was opened last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened_at: Option<i64>,
    /// The greatest ballot that has ordered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ballot: Option<i64>,
    /// Whether it is a standby that was told to take in nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<bool>,
}

/// What the witness decided last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WitnessShown {
    /// Why it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub error: Option<String>,
    /// The last epoch that it knows; 0 where it has decided nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// The epoch before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// Who may write in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub holders: Vec<String>,
}
