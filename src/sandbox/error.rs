//! What goes wrong in the sandbox, in words for the person at the terminal.

use std::fmt::Display;

/// A failure of the sandbox: one sentence that says what was being done and what stood in the way.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// The result of the sandbox's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error out of a whole sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Says what was being done when something failed.
pub(crate) trait Context<T> {
    /// `doing` is a clause such as "starting etcd"; the cause follows it after a colon.
    fn context<D: Display>(self, doing: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Display> Context<T> for std::result::Result<T, E> {
    fn context<D: Display>(self, doing: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|cause| Error(format!("{}: {cause}", doing())))
    }
}
