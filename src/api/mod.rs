//! The custom resources: types, bounds and rules; conditions, labels, and the reasons of Events.
//!
//! Optional fields stay `Option`: a default in the schema would be written into specs by the API
//! server, and ArgoCD would see a difference that nobody made.

pub mod action;
pub mod analysis;
pub mod authority;
pub(crate) mod canaryrollout;
pub mod canarystatus;
pub mod cloudcluster;
pub(crate) mod conditions;
pub mod failover;
pub mod failovergroup;
pub(crate) mod finservice;
pub mod hook;
pub mod labels;
pub mod mounts;
pub(crate) mod network;
pub mod notice;
pub mod operations;
pub(crate) mod patterns;
pub mod probes;
pub(crate) mod quantity;
pub mod record;
#[cfg(test)]
mod reference;
pub(crate) mod schema;
pub mod shown;
pub mod step;
pub mod store;
pub(crate) mod stuck;
pub mod traffic;
pub mod units;
pub mod witness;
pub(crate) mod workload;

pub use action::{Action, ActionSpec, ActionStatus};
pub use authority::{Authority, AuthoritySpec, AuthorityStatus};
pub use canaryrollout::{CanaryRollout, CanaryRolloutSpec, CanaryRolloutStatus};
pub use cloudcluster::{CloudCluster, CloudClusterSpec, CloudClusterStatus};
pub use conditions::{Problem, Severity};
pub use failover::{Failover, FailoverSpec, FailoverStatus};
pub use failovergroup::{FailoverGroup, FailoverGroupSpec, FailoverGroupStatus};
pub use finservice::{FinService, FinServiceSpec, FinServiceStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// Group of all resources.
pub const GROUP: &str = "banyan.dev";

/// The definitions of the resources, as they are to be installed.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [
        FinService::crd(),
        CanaryRollout::crd(),
        Action::crd(),
        CloudCluster::crd(),
        FailoverGroup::crd(),
        Authority::crd(),
        Failover::crd(),
    ]
    .into_iter()
    .map(schema::bounded)
    .collect()
}
