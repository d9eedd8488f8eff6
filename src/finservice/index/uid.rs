//! The UID of an object, kept small: there are two for each of hundreds of thousands of children.

use std::fmt;

use uuid::Uuid;

/// The UID of an object. Kubernetes makes UUIDs, and of those the sixteen bytes are kept; but its API promises no more
/// than a text, so that any other is kept as it is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Uid(Kept);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Kept {
    Uuid(Uuid),
    Text(Box<str>),
}

impl Uid {
    /// The UID that this text is.
    pub fn new(text: &str) -> Self {
        // A UUID can be written in more than one way, and what a precondition says must be the very text.
        let uuid = Uuid::try_parse(text).ok();
        let uuid = uuid.filter(|uuid| *uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *text);
        Self(uuid.map_or_else(|| Kept::Text(text.into()), Kept::Uuid))
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kept::Uuid(uuid) => uuid.fmt(f),
            Kept::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_the_text_that_it_was() {
        let uuid = "6fa459ea-ee8a-3ca4-894e-db77e160355e";
        for text in
            [uuid, "6FA459EA-EE8A-3CA4-894E-DB77E160355E", "6fa459eaee8a3ca4894edb77e160355e", "u-1", ""]
        {
            assert_eq!(Uid::new(text).to_string(), text);
            assert_eq!(matches!(Uid::new(text).0, Kept::Uuid(_)), text == uuid, "{text}");
        }
        assert_ne!(Uid::new(uuid), Uid::new(&uuid.to_uppercase()));
        assert_eq!(size_of::<Option<Uid>>(), 24);
    }
}
