//! Feature flags that carry the shares of a rollout outside of the cluster.

pub mod launch_darkly;
