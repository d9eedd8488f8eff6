//! Pure. What must be said to nobody but the provider.

use std::fmt;

/// A token or a key. It shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// Hides a text; space around it is none of it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The text itself, for the one call that needs it.
    pub(super) fn shown(&self) -> &str {
        &self.0
    }

    /// The words without it, should somebody have repeated it.
    pub(super) fn taken_out_of(&self, words: &str) -> String {
        if self.0.is_empty() { words.to_owned() } else { words.replace(&self.0, "(hidden)") }
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}
