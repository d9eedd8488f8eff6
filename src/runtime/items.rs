//! The items of a Kubernetes list, read one by one while its text arrives.
//!
//! Read as a whole, the text of a long list and all its objects would be held at once; read like this, the buffer
//! and one object are.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How much text is gathered before it is read. An object that is cut off at the end of the buffer is read again
/// once the rest is there, so the buffer has to be many objects long (most have a few kilobytes).
const ENOUGH: usize = 128 * 1024;

const KEY: &[u8] = b"\"items\":";

/// Why a list cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ItemsError {
    /// What arrived is no list, or an item of it is not of the kind that was asked for.
    #[error("the answer to a list cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// It has more pages, though none were asked for.
    #[error("the API server answers a list in pages, which was not asked for")]
    Paged,
}

/// Reads items from text that comes in pieces of any length.
#[derive(Debug, Default)]
pub struct Items {
    /// What has arrived; what is before `at` has been read.
    text: Vec<u8>,
    at: usize,
    /// How much unread text there has to be before it is worth a try.
    enough: usize,
    place: Place,
    /// The list without its items.
    frame: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    Within,
    After,
}

impl Items {
    /// A piece of text has arrived.
    pub fn push(&mut self, piece: &[u8]) {
        if self.at > 0 && self.text.len() + piece.len() > self.text.capacity() {
            self.text.drain(..self.at);
            self.at = 0;
        }
        self.text.extend_from_slice(piece);
    }

    /// All text has arrived: what is left is read whatever its length.
    pub fn end(&mut self) {
        self.enough = 0;
    }

    /// The next item; `None` if more text has to arrive first, or there are no more items.
    ///
    /// # Errors
    /// If the item is not of this kind.
    pub fn take<K: DeserializeOwned>(&mut self) -> Result<Option<K>, ItemsError> {
        if self.place == Place::Before {
            self.enter();
        }
        if self.place != Place::Within || self.text.len() - self.at < self.enough {
            return Ok(None);
        }
        while let Some(b',' | b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
        match self.text.get(self.at) {
            None => {
                self.enough = ENOUGH;
                return Ok(None);
            }
            Some(b']') => {
                self.place = Place::After;
                return Ok(None);
            }
            Some(_) => {}
        }
        let unread = &self.text[self.at..];
        let mut values = serde_json::Deserializer::from_slice(unread).into_iter::<K>();
        match values.next() {
            Some(Ok(item)) => {
                self.at += values.byte_offset();
                self.enough = 0;
                Ok(Some(item))
            }
            Some(Err(error)) if error.is_eof() => {
                // Twice as much as did not do: so an object of any size is read a few times at most.
                self.enough = (2 * unread.len()).max(ENOUGH);
                Ok(None)
            }
            Some(Err(error)) => Err(error.into()),
            None => Ok(None),
        }
    }

    /// The resource version of the list, once its last item has been read.
    ///
    /// # Errors
    /// If what arrived is not a whole list.
    pub fn version(mut self) -> Result<String, ItemsError> {
        #[derive(Deserialize)]
        struct List {
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            resource_version: String,
            #[serde(rename = "continue", default)]
            more: String,
        }
        self.frame.extend_from_slice(&self.text[self.at..]);
        let list: List = serde_json::from_slice(&self.frame)?;
        if !list.metadata.more.is_empty() {
            return Err(ItemsError::Paged);
        }
        Ok(list.metadata.resource_version)
    }

    /// Goes on to the first item, if that much has arrived. Nothing that may stand before the items holds their key:
    /// type and version, and metadata of numbers and opaque words.
    fn enter(&mut self) {
        let Some(key) = self.text.windows(KEY.len()).position(|window| window == KEY) else { return };
        let rest = &self.text[key + KEY.len()..];
        let Some(blank) = rest.iter().position(|byte| !byte.is_ascii_whitespace()) else { return };
        if rest[blank] == b'[' {
            self.at = key + KEY.len() + blank + 1;
            self.frame.extend_from_slice(&self.text[..self.at]);
            self.place = Place::Within;
        } else {
            // `null`, as no items are told by some.
            self.place = Place::After;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Reads a list that arrives in pieces of these lengths, over and over.
    fn read(text: &str, pieces: &[usize]) -> Result<(Vec<Value>, String), ItemsError> {
        let (mut items, mut read) = (Items::default(), Vec::new());
        let (mut rest, mut lengths) = (text.as_bytes(), pieces.iter().cycle());
        while !rest.is_empty() {
            let length = lengths.next().map_or(rest.len(), |length| (*length).clamp(1, rest.len()));
            items.push(&rest[..length]);
            rest = &rest[length..];
            while let Some(item) = items.take()? {
                read.push(item);
            }
        }
        items.end();
        while let Some(item) = items.take()? {
            read.push(item);
        }
        Ok((read, items.version()?))
    }

    #[test]
    fn the_frame_may_stand_before_the_items_or_after_them() {
        let one = json!({"metadata": {"name": "a", "annotations": {"x": "\"items\":[ ] } \\"}}, "é": 1.5});
        for text in [
            format!(
                r#"{{"kind":"AList","apiVersion":"v1","metadata":{{"resourceVersion":"7"}},"items":[{one},{one}]}}"#
            ),
            format!(
                r#"{{"apiVersion":"v1","items":[{one},{one}],"kind":"AList","metadata":{{"continue":"","resourceVersion":"7"}}}}"#
            ),
            format!(
                "{{\"metadata\": {{\"resourceVersion\": \"7\"}}, \"items\": [\n {one} ,\n {one}\n]\n}}\n"
            ),
        ] {
            for piece in [1, 3, 1000] {
                assert_eq!(
                    read(&text, &[piece]).unwrap(),
                    (vec![one.clone(), one.clone()], "7".into()),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn a_list_may_be_empty() {
        for items in ["[]", "null", "[ ]"] {
            let text = format!(r#"{{"metadata":{{"resourceVersion":"7"}},"items":{items}}}"#);
            assert_eq!(read(&text, &[1]).unwrap(), (vec![], "7".into()), "{text}");
        }
    }

    #[test]
    fn what_is_cut_off_is_an_error_wherever_it_is_cut() {
        let text = r#"{"metadata":{"resourceVersion":"7"},"items":[{"a":"b"},{"a":"b"}]}"#;
        assert!(read(text, &[1000]).is_ok());
        for length in 0..text.len() {
            assert!(read(&text[..length], &[1000]).is_err(), "{}", &text[..length]);
        }
    }

    #[test]
    fn what_is_no_list_and_a_page_of_one_are_errors() {
        for text in ["", "[]", "upstream error", r#"{"kind":"Status"}"#, r#"{"metadata":{},"items":[]}"#] {
            assert!(matches!(read(text, &[1000]), Err(ItemsError::Unreadable(_))), "{text}");
        }
        let wrong = r#"{"metadata":{"resourceVersion":"7"},"items":[{"a" "b"}]}"#;
        assert!(matches!(read(wrong, &[1000]), Err(ItemsError::Unreadable(_))));
        let page = r#"{"metadata":{"resourceVersion":"7","continue":"x"},"items":[]}"#;
        assert!(matches!(read(page, &[1000]), Err(ItemsError::Paged)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Objects from a few bytes to longer than the buffer, in pieces of any length.
        #[test]
        fn all_items_are_read_however_they_arrive(
            lengths in prop::collection::vec(prop_oneof![0..200usize, 1000..40_000usize, 100_000..500_000usize], 0..8),
            pieces in prop::collection::vec(prop_oneof![1000..20_000usize, 100_000..200_000usize], 1..6),
        ) {
            let all: Vec<Value> = lengths.iter().map(|length| json!({"data": "x\"]}".repeat(length / 4)})).collect();
            let text = json!({"items": all, "metadata": {"resourceVersion": "12"}}).to_string();
            let (read, version) = read(&text, &pieces).unwrap();
            prop_assert_eq!(read, all);
            prop_assert_eq!(version, "12");
        }
    }
}
