//! The ends of what cannot be had on one machine: small servers after published schemas, for the sandbox and for tests.
//! [`server`] is what they have in common: they count what they are asked, and misbehave when they are told to.
//! [`proxy`] stands before what is real, and is a network that misbehaves.

pub mod cloudflare;
pub mod clouds;
mod ec2;
pub mod eks;
pub mod gke;
pub mod identity;
pub mod objects;
mod probe;
pub mod proxy;
pub mod route53;
pub mod server;
pub mod signature;
pub mod token_review;
