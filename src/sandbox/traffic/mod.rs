//! Real HTTP through Contour and Envoy to the addresses of played pods.
//!
//! | file | what it holds |
//! |---|---|
//! | `namespace` | the network namespace in which all of it runs |
//! | `relay` | doors into it, for kubectl |
//! | `tools` | Contour, Envoy, Prometheus: where they come from |
//! | `gateway` | Contour and Envoy in front of one cloud |
//! | `pods` | servers behind the addresses of pods, Ready as long as they listen |
//! | `kubelet` | what the API server is told of them |
//! | `answer`, `behaviour`, `metrics` | what those servers answer, and what they say of it |
//! | `load`, `tally` | requests, and what became of them |
//! | `session` | all of it in `banyan sandbox` |
//! | `prometheus` | a Prometheus that scrapes the pods |
//!
//! Pods have addresses that no machine has, so they are reachable only where the kernel is told that they are its
//! own: in a network namespace ([`namespace::enter`]) that has nothing else. There no request can go astray.

pub(crate) mod answer;
pub(crate) mod behaviour;
pub mod gateway;
pub(crate) mod kubelet;
pub(crate) mod load;
pub mod metrics;
pub mod namespace;
pub(crate) mod pods;
pub(crate) mod prometheus;
pub mod relay;
pub(crate) mod session;
pub(crate) mod tally;
pub(crate) mod tools;

pub use behaviour::Behaviour;
pub use gateway::{Gateway, GatewayOptions};
pub use load::{Load, LoadOptions};
pub use pods::{PodRunner, ServedPod};
pub use prometheus::{PrometheusOptions, PrometheusServer};
pub use tally::Tally;
pub use tools::TrafficTools;
