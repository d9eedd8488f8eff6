//! What commands show: tables, JSON, and the progress of what takes long.
//!
//! | file | what it holds |
//! |---|---|
//! | [`output`] | for people or for programs |
//! | [`table`] | columns of equal width, and what becomes of them on a narrow terminal |
//! | [`words`] | lines that end between words |
//! | [`drawing`] | what is drawn in place of what was drawn before |
//! | [`size`] | how much room there is |
//! | [`progress`] | steps that run side by side, and how long they take |

pub(crate) mod drawing;
pub(crate) mod output;
pub mod progress;
pub(crate) mod size;
pub(crate) mod table;
pub(crate) mod words;
