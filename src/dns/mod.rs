//! Steers requests to the site that has authority, at Cloudflare or Route 53.
//!
//! All that carries traffic stands beforehand, and each site is asked `/authority/<group>` by the provider itself: a move
//! needs no write. What is written tunes shares and pins an old site off, and carries the epoch of who writes.
//!
//! | file | what it holds |
//! |---|---|
//! | [`wanted`] | how a group's traffic is to stand, and the mark of a writer; pure |
//! | [`stands`] | what stands at a provider, in words that are the same for all; pure |
//! | [`plan`] | from both to the fewest changes; pure |
//! | [`problems`] | what would stand in the way of a move; pure |
//! | [`provider`] | read, apply, ensure, rights: one interface for all providers |
//! | [`cloudflare`], [`route53`] | the providers |
//! | [`error`], [`secret`] | why nothing came of it; what is told to nobody |

pub mod cloudflare;
pub mod error;
mod keeper;
pub mod plan;
pub mod problems;
pub mod provider;
pub mod route53;
pub mod secret;
pub mod stands;
#[cfg(test)]
mod testing;
pub mod wanted;

pub use cloudflare::Cloudflare;
pub use error::DnsError;
pub use plan::{Change, Refusal, plan};
pub use problems::{Finding, problems};
pub use provider::{Applied, Provider};
pub use route53::{AccessKeys, Route53};
pub use secret::Hidden;
pub use stands::{Health, Rights, Stands};
pub use wanted::{Gateway, Mark, SiteWanted, Wanted};
