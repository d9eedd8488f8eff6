//! What carries a rollout's shares outside the cluster.

pub mod feature_flag;
