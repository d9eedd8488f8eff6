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

pub mod answer;
pub mod behaviour;
pub mod gateway;
pub mod kubelet;
pub mod load;
pub mod metrics;
pub mod namespace;
pub mod pods;
pub mod prometheus;
pub mod relay;
pub mod session;
pub mod tally;
pub mod tools;

pub use behaviour::Behaviour;
pub use gateway::{Gateway, GatewayOptions};
pub use load::{Load, LoadOptions};
pub use pods::{PodRunner, ServedPod};
pub use prometheus::{PrometheusOptions, PrometheusServer};
pub use tally::Tally;
pub use tools::TrafficTools;
