//! Canary: from revisions, evidence and commands to weights. Pure: no I/O, no clock, no act of its own.
//!
//! The service reconciler asks [`decide`] once per reconcile and carries the [`Decision`] out, weights first.
//!
//! | file | what it holds |
//! |---|---|
//! | [`policy`] | the CanaryRollout's spec, read once: [`Policy`] |
//! | `criteria` | what a canary is judged by |
//! | `fields` | durations and shares in a spec, and what is wrong with them |
//! | [`facts`] | what a decision is made from, [`Facts`], and what it says, [`Decision`] |
//! | [`mod@decide`] | the order of a decision; helped by `draft`, `catch_up`, `listen`, `proceed`, `capacity`, `route` |
//! | [`refusal`] | what people say that makes no sense as the rollout stands |
//! | `measure`, `ladder` | the steps, where the policy leaves them out: by what stable answers |
//! | [`steps`] | how many pods a weight needs, and whether a step may be left |
//! | [`gates`] | approvals, queries, web servers |
//! | `outage` | a step that is taken back since stable fails under it as well |
//! | `approval` | who may approve |
//! | [`health`] | restarts and lost readiness |
//! | `shares` | what is said while requests are not shared as the weights say |
//! | [`peers`] | lockstep over clusters |
//! | [`mark`] | what the route carries, so that a crash between two writes loses nothing |
//! | [`status`] | the status of a CanaryRollout |
//! | [`simulate`] | whole rollouts in virtual time |

mod approval;
mod capacity;
mod catch_up;
mod criteria;
pub(crate) mod decide;
mod draft;
pub mod facts;
mod fields;
pub(crate) mod gates;
pub(crate) mod health;
mod ladder;
mod listen;
pub(crate) mod mark;
mod measure;
mod outage;
pub(crate) mod peers;
pub(crate) mod policy;
mod proceed;
pub mod refusal;
mod route;
mod shares;
pub mod simulate;

pub(crate) mod status;
pub(crate) mod steps;

pub use decide::decide;
pub use facts::{Decision, Facts, Phase};
pub use mark::Mark;
pub use policy::Policy;
