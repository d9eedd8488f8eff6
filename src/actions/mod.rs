//! Actions: what people say in mid-course, to whatever kind of object.
//!
//! Each kind that can be told something decides by itself what is refused (see [`crate::canary::refusal`]), in one pure
//! function that the command line calls too. Here is what is the same for all of them.
//!
//! | file | what it is for |
//! |---|---|
//! | [`hear`] | from the objects to what was said; pure |
//! | [`status`] | what became of one; pure |
//! | [`index`] | what is known of them, by what they are said to |
//! | [`controller`] | follows them, answers, refuses what nobody hears, and removes what is old |

pub(crate) mod controller;
pub mod hear;
pub(crate) mod index;
pub mod status;

pub use controller::{Actions, RESOURCE, Target};
pub use hear::{Answered, Said};
