//! Authority: who may write, for one group, as this site knows it. Operators alone write it; nothing of it lies in git.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::Problem;
use super::patterns;

/// How many numbers each term of the ballots has: one for each site that a group can have.
pub const BALLOTS_PER_TERM: i64 = 16;

/// The smallest ballot of a site (by its place in `spec.sites` of the group, from 0) that is greater than `known`.
///
/// Ballots are 16·k + place with k from 1, so that no two sites ever make the same one.
pub fn next_ballot(known: i64, place: usize) -> i64 {
    let place = place as i64;
    let term = (known - place).div_euclid(BALLOTS_PER_TERM) + 1;
    BALLOTS_PER_TERM * term.max(1) + place
}

/// Who may write, for the FailoverGroup of the same name, as this site knows it. There is one at each site, and no hub:
/// operators copy from each other what is greater.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "banyan.dev",
    version = "v1alpha1",
    kind = "Authority",
    plural = "authorities",
    shortname = "auth",
    category = "banyan",
    namespaced,
    status = "AuthorityStatus",
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"Holders","type":"string","jsonPath":".spec.holders"}"#,
    printcolumn = r#"{"name":"Epoch","type":"integer","jsonPath":".spec.epoch"}"#,
    printcolumn = r#"{"name":"Since","type":"date","jsonPath":".spec.since"}"#,
    printcolumn = r#"{"name":"Why","type":"string","jsonPath":".status.message"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.epoch >= oldSelf.epoch")
    .message("epoch must not fall: an older one would give authority back to a site that has lost it"))]
#[x_kube(validation = Rule::new("self.epoch != oldSelf.epoch || (has(self.holders) == has(oldSelf.holders) && (!has(self.holders) || self.holders == oldSelf.holders))")
    .message("the same epoch keeps its holders: whoever else is to write needs a greater epoch"))]
#[x_kube(validation = Rule::new("self.epoch != oldSelf.epoch || self.follows == oldSelf.follows")
    .message("the same epoch keeps what it follows"))]
#[x_kube(validation = Rule::new("self.follows < self.epoch || self.epoch == 0")
    .message("epoch must be greater than follows"))]
#[x_kube(validation = Rule::new("(self.epoch == 0) == (!has(self.holders) || self.holders.size() == 0)")
    .message("an epoch has holders, and without an epoch there are none"))]
#[x_kube(validation = Rule::new("(has(self.promoted) ? self.promoted : 0) <= self.epoch")
    .message("promoted must not be greater than epoch"))]
#[x_kube(validation = Rule::new("(has(oldSelf.promoted) ? oldSelf.promoted : 0) <= (has(self.promoted) ? self.promoted : 0)")
    .message("promoted must not fall"))]
#[x_kube(validation = Rule::new("!has(oldSelf.claims) || oldSelf.claims.all(o, has(self.claims) && self.claims.exists(n, n.site == o.site && n.ballot >= o.ballot))")
    .message("a slot of claims stays, and its ballot must not fall"))]
#[x_kube(validation = Rule::new("!has(oldSelf.claims) || !has(self.claims) || oldSelf.claims.all(o, self.claims.all(n, n.site != o.site || n.ballot != o.ballot || o.state != 'Withdrawn' || n.state == 'Withdrawn'))")
    .message("an ended claim stays ended: claim with a greater ballot"))]
#[x_kube(validation = Rule::new("!has(oldSelf.claims) || !has(self.claims) || oldSelf.claims.all(o, self.claims.all(n, n.site != o.site || n.ballot != o.ballot || o.state != 'Committing' || n.state != 'Open'))")
    .message("a claim that is committing is not opened again"))]
#[x_kube(validation = Rule::new("!has(oldSelf.claims) || !has(self.claims) || oldSelf.claims.all(o, self.claims.all(n, n.site != o.site || n.ballot != o.ballot || (has(o.byWitness) && o.byWitness) || !(has(n.byWitness) && n.byWitness)))")
    .message("a claim that others may decide is never left to the witness alone: claim with a greater ballot"))]
#[x_kube(validation = Rule::new("!has(oldSelf.withdrawn) || oldSelf.withdrawn.all(b, b < self.epoch || (has(self.withdrawn) && b in self.withdrawn))")
    .message("withdrawn keeps each ballot that is greater than epoch"))]
pub struct AuthoritySpec {
    /// The ballot that was committed last, of all that this site knows; 0 while nobody ever had authority.
    #[schemars(range(min = 0))]
    pub epoch: i64,
    /// The epoch before.
    #[schemars(range(min = 0))]
    pub follows: i64,
    /// The sites that may write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63), regex(pattern = patterns::LABEL)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub holders: Vec<String>,
    /// Since when. Jobs that were scheduled before are refused at this site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// The last epoch for which all stores are open at this site.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub promoted: Option<i64>,
    /// Who wants to take over, a slot for each site. A claim is a licence to fence; only `epoch` gives authority.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["site".into()]))]
    pub claims: Vec<Claim>,
    /// Ballots of this site that were given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub withdrawn: Vec<i64>,
}

impl AuthoritySpec {
    /// Whether that site may write.
    pub fn is_held_by(&self, site: &str) -> bool {
        self.holders.iter().any(|holder| holder == site)
    }
}

/// A claim of one site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The site that claims.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::LABEL))]
    pub site: String,
    /// Its ballot.
    #[schemars(range(min = 1))]
    pub ballot: i64,
    /// The epoch that it is to follow.
    #[schemars(range(min = 0))]
    pub follows: i64,
    /// Whether the holder is to close its stores on reading this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<bool>,
    /// Where it is in its life.
    pub state: ClaimState,
    /// UID of the Failover that it is made for; absent where a site takes authority back by the witness.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub failover: Option<String>,
    /// Whether the witness alone decides it. Then a holder that was closed for it may ask the witness for authority itself,
    /// once this site is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_witness: Option<bool>,
}

/// Where a claim is in its life.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ClaimState {
    /// It may still go either way.
    #[default]
    Open,
    /// It is being decided at the witness.
    Committing,
    /// It was given up, for ever.
    Withdrawn,
}

/// What the operator of this site says of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled, by the kstatus rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What is wrong, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub problems: Vec<Problem>,
    /// How this site stands for the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<AuthorityState>,
    /// Why, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Whether each store of the group is an open primary here; true for a group without stores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stores_open: Option<bool>,
    /// What others show: sites, the witness, rows in stores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub seen: Vec<Seen>,
}

/// The greatest epoch that one source shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Who shows it: the name of a site, `witness`, or `store NAME`.
    #[schemars(length(min = 1, max = 128))]
    pub source: String,
    /// The epoch; 0 if it knows of none. Absent if it could not be read since this operator started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub epoch: Option<i64>,
}

/// How a site stands for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AuthorityState {
    /// Nobody ever had authority. Nothing is stopped and nothing is fenced.
    Unclaimed,
    /// This site may write.
    Held,
    /// Another site may write.
    Standby,
    /// Somebody shows a greater epoch than this site knows. It claims nothing, and `/authority` sends traffic elsewhere.
    Lost,
}

impl AuthorityState {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unclaimed => "Unclaimed",
            Self::Held => "Held",
            Self::Standby => "Standby",
            Self::Lost => "Lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ballots_rise_and_never_meet() {
        assert_eq!((next_ballot(0, 0), next_ballot(0, 1)), (16, 17));
        assert_eq!((next_ballot(16, 1), next_ballot(17, 0), next_ballot(17, 1)), (17, 32, 33));
        for known in 0..200 {
            for place in 0..16 {
                let next = next_ballot(known, place);
                assert!(next > known && next <= known.max(15) + 32, "{known} {place} {next}");
                assert_eq!(next % BALLOTS_PER_TERM, place as i64);
            }
        }
    }
}
