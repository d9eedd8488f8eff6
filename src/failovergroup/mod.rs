//! FailoverGroup: what moves together, and a standing answer to "could it fail over to this site now?".
//!
//! | file | what it is for |
//! |---|---|
//! | [`watch`] | fills the [`index`]: groups and Authorities here, and at each peer those and its FinServices |
//! | [`listed`] | what a list and its watch tell of one kind |
//! | [`sources`] | asks stores, the witness, the traffic provider and the outside, each at its own pace |
//! | [`observe`] | all that a decision about one group needs, at one moment |
//! | [`decide`] | who has authority, what is checked, what a move would do; pure |
//! | [`checks`] | what standing readiness consists of; pure |
//! | [`act`] | writes the Authority, what applications are told, and the status |
//! | [`duties`] | does what this site owes its own stores, whoever ordered what |
//! | [`mirrors`] | which way mirrors copy; pure |
//! | [`live`] | reads at this moment what watches tell a moment later |
//! | [`hangs`] | what hangs on authority: a ConfigMap for applications, the refusal of Jobs |
//! | [`peak`] | the peak of the site that serves, over a day; pure |
//! | [`measured`] | what the last move here, or rehearsal, took; pure |
//! | [`plan`] | what a move would do, what each step took last, what would hold it; pure |
//! | [`status`] | the statuses; pure |
//! | [`table`] | groups as people read them; pure |
//! | [`controller`] | runs it all |
//!
//! Who may write is decided in [`crate::authority`]. Every check, and what to do about it: docs/readiness.md.

pub(crate) mod act;
pub(crate) mod checks;
pub(crate) mod controller;
pub(crate) mod decide;
pub(crate) mod duties;
pub(crate) mod facts;
pub(crate) mod hangs;
pub(crate) mod index;
pub(crate) mod listed;
pub(crate) mod live;
pub(crate) mod measured;
pub(crate) mod mirrors;
pub(crate) mod observe;
pub(crate) mod peak;
pub(crate) mod plan;
pub(crate) mod sources;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod watch;
