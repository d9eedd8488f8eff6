//! Failover: the order that this site is to take over a FailoverGroup.
//!
//! | file | what it is for |
//! |---|---|
//! | [`watch`] | fills the [`index`]: the Failovers of this site |
//! | [`journal`] | what a move remembers of itself; pure |
//! | [`hear`] | what people say in mid-course; pure |
//! | [`approve`] | who agrees to a move; pure |
//! | [`observe`] | all that a decision about a move needs, at one moment |
//! | [`source`] | what is known of the source without asking it; pure |
//! | [`view`] | what a decision is made of, and what it answers; pure |
//! | [`decide`] | what comes next: the order of steps, and lines 6 to 14 of the protocol; pure |
//! | [`hooks`] | which hook is called next, and what comes of a call; pure |
//! | [`rehearse`] | what a rehearsal does next; pure |
//! | [`turn`] | whose turn it is where several groups move; pure |
//! | [`act`] | carries one act out, once or many times with the same end |
//! | [`outcome`] | what of that is remembered, and what is said; pure |
//! | [`nodes`] | what comes of asking the cloud for the nodes of the source; pure |
//! | [`status`] | the status, which is the journal; pure |
//! | [`record`] | what an auditor can verify of each move |
//! | [`explain`] | why a site stands as it does, and what opens a store; pure |
//! | [`back`] | whether the way back leads to this site; pure |
//! | [`table`] | Failovers as people read them; pure |
//! | [`live`] | a move while it is under way, the sites side by side; pure |
//! | [`simulate`] | whole moves in virtual time, for `banyan simulate` |
//! | [`worker`] | takes one move as far as it goes |
//! | [`on_record`] | puts on record what a move does |
//! | [`controller`] | runs it all |
//!
//! Claims and epochs are changed in [`crate::authority::claims`]; what a site owes its own stores, whoever ordered what, is
//! in [`crate::authority::duty`].

pub(crate) mod act;
pub(crate) mod approve;
pub(crate) mod back;
pub(crate) mod controller;
pub mod decide;
pub(crate) mod explain;
pub(crate) mod hear;
pub(crate) mod hooks;
pub(crate) mod index;
pub mod journal;
pub(crate) mod live;
pub(crate) mod nodes;
pub(crate) mod observe;
mod on_record;
pub(crate) mod outcome;
pub mod record;
pub(crate) mod rehearse;
pub mod simulate;
pub mod source;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod turn;
pub mod view;
pub(crate) mod watch;
pub(crate) mod worker;
