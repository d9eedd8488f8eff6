//! Authority: who may write, for each FailoverGroup, as this site knows it.
//!
//! | file | what it is for |
//! |---|---|
//! | [`known`] | what one site, the witness and the stores show; pure |
//! | [`claims`] | what becomes of claims: lines 6, 7, 11 and 12; pure |
//! | [`duty`] | what a site owes its own stores, whoever ordered what: lines 8, 16 and 20; pure |
//! | [`decide`] | what this site is to believe, and how it stands: lines 1 to 5 and 17 of the protocol; pure |
//! | [`abandoned`] | whether the claim for which this site was closed is abandoned: line 17; pure |
//! | [`answer`] | what `/authority/GROUP` says: line 15 of the protocol; pure |
//! | [`book`] | what `banyan authority` knows |
//! | [`residual`] | what becomes of requests that arrive at a site without authority, and how many do; pure |
//! | [`forward`] | sends them on to the gateway of the site that has it |
//! | [`server`] | `banyan authority`, which says it, without a leader and from its last knowledge |
//! | [`view`] | the small view that other reconcilers get: does this site have authority over that service? |
//!
//! [The protocol](../../docs/protocol.md) has the numbers of these lines.

pub mod abandoned;
pub mod answer;
pub(crate) mod book;
pub mod claims;
pub mod decide;
pub mod duty;
pub(crate) mod forward;
pub mod known;
pub mod residual;
pub mod server;
pub mod view;
