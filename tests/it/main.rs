//! Tests on real API servers. All modules share one pair of clouds; each test has namespaces of its own.

mod actions;
mod after;
mod behaviour;
mod chart;
mod chart_noticed;
mod children;
mod cloud;
mod cnpg;
mod crd;
mod failover;
mod finservice;
mod in_sync;
mod lease;
mod moto;
mod noticed;
mod ownership;
mod peers;
#[path = "../support/prometheus.rs"]
mod played_prometheus;
mod resilience;
mod rollout;
mod rollout_faults;
mod rollout_kills;
mod rollout_kinds;
mod rollout_ways;
mod sandbox;
mod secrets;
mod stage;
mod starts;
mod strimzi;
mod successors;
mod tenants;
mod tour;
mod traffic;
mod world;
