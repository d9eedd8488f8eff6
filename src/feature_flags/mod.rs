//! Feature flags that carry the shares of a rollout outside of the cluster.

pub(crate) mod launch_darkly;
