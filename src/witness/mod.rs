//! The witness: which epoch of a group followed which, on ground that is neither cloud.
//!
//! Each epoch has at most one successor there: the object `after/<E>`, which is made only where none stands and is never
//! changed. So of two that want to succeed the same epoch one is first, and both learn who.
//!
//! | module | what it is for |
//! |---|---|
//! | [`decision`] | who succeeded an epoch, and how that is written |
//! | [`chain`] | from all decisions to the epoch that counts; holes and forks |
//! | [`ground`] | where a URL leads, and whether that is one of the group's own clouds |
//! | [`credentials`] | with what the store is asked |
//! | [`wire`] | what an answer or a silence of the store means |
//! | [`connect`] | the way to the store |
//! | [`store`] | what is asked of it |

pub mod chain;
pub mod connect;
pub mod credentials;
pub mod decision;
pub mod ground;
pub mod store;
pub(crate) mod wire;

pub use chain::{Chain, ChainFault};
pub use connect::connect;
pub use credentials::Credentials;
pub use decision::Decision;
pub use ground::{Cloud, Ground};
pub use store::{Creation, Unfit, Witness};
