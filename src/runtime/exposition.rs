//! A reader of Prometheus' text format. It reads the families that are asked for and passes over the rest, since
//! a proxy tells tens of thousands of lines of which a handful are about a rollout. Pure.
//!
//! OpenMetrics differs in what does not matter here: `# EOF`, exemplars, and timestamps in seconds. Timestamps are
//! checked and dropped: what is asked directly is of now.

use std::borrow::Cow;

/// How long a line may be that arrives in pieces, in bytes: only the last piece of it is kept meanwhile.
const LONGEST: usize = 64 << 10;

/// One line: a series and its value.
#[derive(Debug)]
pub struct Sample<'t, 'l> {
    /// Name of the metric, with `_total`, `_bucket` and so on.
    pub name: &'t str,
    /// Its value, which may be NaN or infinite.
    pub value: f64,
    labels: &'l [(&'t str, &'t str)],
}

impl<'t> Sample<'t, '_> {
    /// The value of a label; `None` if there is no such label.
    pub fn label(&self, name: &str) -> Option<Cow<'t, str>> {
        self.labels.iter().find(|(known, _)| *known == name).map(|(_, value)| unescape(value))
    }
}

/// A line that is no metric. What stands there is not said: whoever reads it may be somebody else than who may ask there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is no metric: {why}")]
pub struct Malformed {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Calls `each` for every sample whose metric's name begins with one of `prefixes`. Other lines are not read.
///
/// # Errors
/// At the first line asked for that is malformed, and if the last line does not end: then the text was cut off,
/// and a counter may have lost its last digits. What was visited before must not be used then.
pub fn visit<'t>(
    text: &'t str,
    prefixes: &[&str],
    mut each: impl FnMut(&Sample<'t, '_>),
) -> Result<(), Malformed> {
    let mut labels = Vec::new();
    for (number, whole) in text.split_inclusive('\n').enumerate() {
        let wrong = |why| Malformed { line: number + 1, why };
        if !whole.ends_with('\n') && !is_an_end(whole.as_bytes()) {
            return Err(wrong("the text was cut off"));
        }
        let line = whole.trim_matches(|c: char| c.is_ascii_whitespace());
        if !prefixes.iter().any(|prefix| line.starts_with(prefix)) {
            continue;
        }
        let (name, value) = sample(line, &mut labels).map_err(wrong)?;
        each(&Sample { name, value, labels: &labels });
    }
    Ok(())
}

/// Whether what stands behind the last line feed may be the end of a text.
fn is_an_end(rest: &[u8]) -> bool {
    matches!(rest.trim_ascii(), b"" | b"# EOF")
}

/// Reads a text line by line while it arrives, so that of a long one no more is kept than a line: otherwise like [`visit`].
#[derive(Debug, Default)]
pub struct Lines {
    /// What came of the line that has not ended yet.
    begun: Vec<u8>,
    /// How many lines have ended.
    ended: usize,
}

impl Lines {
    /// Reads on: `each` is called for every sample asked for whose line has ended.
    ///
    /// # Errors
    /// At the first line asked for that is malformed, or longer than any metric is.
    pub fn read(
        &mut self,
        piece: &[u8],
        prefixes: &[&str],
        mut each: impl FnMut(&Sample<'_, '_>),
    ) -> Result<(), Malformed> {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            if self.begun.len() + part.len() > LONGEST {
                return Err(Malformed { line: self.ended + 1, why: "it is longer than 64 KiB" });
            }
            if !part.ends_with(b"\n") {
                self.begun.extend_from_slice(part);
            } else if self.begun.is_empty() {
                self.line(part, prefixes, &mut each)?;
            } else {
                let mut line = std::mem::take(&mut self.begun);
                line.extend_from_slice(part);
                self.line(&line, prefixes, &mut each)?;
                line.clear();
                self.begun = line;
            }
        }
        Ok(())
    }

    fn line(
        &mut self,
        line: &[u8],
        prefixes: &[&str],
        each: &mut impl FnMut(&Sample<'_, '_>),
    ) -> Result<(), Malformed> {
        self.ended += 1;
        let line = line.trim_ascii();
        if !prefixes.iter().any(|prefix| line.starts_with(prefix.as_bytes())) {
            return Ok(());
        }
        let wrong = |why| Malformed { line: self.ended, why };
        let line = std::str::from_utf8(line).map_err(|_| wrong("it is no text"))?;
        let mut labels = Vec::new();
        let (name, value) = sample(line, &mut labels).map_err(wrong)?;
        each(&Sample { name, value, labels: &labels });
        Ok(())
    }

    /// The text has ended.
    ///
    /// # Errors
    /// If it was cut off.
    pub fn end(self) -> Result<(), Malformed> {
        match is_an_end(&self.begun) {
            true => Ok(()),
            false => Err(Malformed { line: self.ended + 1, why: "the text was cut off" }),
        }
    }
}

/// Reads a line: its name and value; its labels go into `labels`, escaped as they are.
fn sample<'t>(line: &'t str, labels: &mut Vec<(&'t str, &'t str)>) -> Result<(&'t str, f64), &'static str> {
    labels.clear();
    let (name, mut rest) = word(line);
    if name.is_empty() {
        return Err("it has no name");
    }
    if let Some(inside) = rest.trim_ascii_start().strip_prefix('{') {
        rest = read_labels(inside, labels)?;
    } else if !rest.starts_with(|c: char| c.is_ascii_whitespace()) {
        return Err("its name has a character that none may have, or it has no value");
    }
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().ok_or("it has no value")?;
    let value = value.parse().map_err(|_| "its value is no number")?;
    match words.next() {
        None => {}
        Some(exemplar) if exemplar.starts_with('#') => {}
        Some(timestamp) => {
            timestamp.parse::<f64>().map_err(|_| "its timestamp is no number")?;
            if words.next().is_some_and(|more| !more.starts_with('#')) {
                return Err("it has more than a value and a timestamp");
            }
        }
    }
    Ok((name, value))
}

/// Reads labels up to the closing brace; returns what follows it.
fn read_labels<'t>(mut rest: &'t str, labels: &mut Vec<(&'t str, &'t str)>) -> Result<&'t str, &'static str> {
    loop {
        rest = rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (name, after) = word(rest);
        if name.is_empty() {
            return Err("a label has no name");
        }
        let after = after.trim_ascii_start().strip_prefix('=').ok_or("a label has no `=`")?;
        let quoted = after.trim_ascii_start().strip_prefix('"').ok_or("a label's value is not quoted")?;
        let end = closing_quote(quoted).ok_or("a label's value does not end")?;
        labels.push((name, &quoted[..end]));
        rest = quoted[end + 1..].trim_ascii_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err("labels are not separated by commas"),
        }
    }
}

/// A name at the beginning, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    text.split_at(end)
}

/// Where the first quote is that no backslash stands before.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return Some(place),
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

/// What a label's value means: `\\`, `\"` and `\n` are escaped, everything else stands for itself.
fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut plain = String::with_capacity(value.len());
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('n') => plain.push('\n'),
                Some(other @ ('\\' | '"')) => plain.push(other),
                Some(other) => plain.extend(['\\', other]),
                None => plain.push('\\'),
            },
            other => plain.push(other),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is visited, in short.
    fn all(text: &str, prefixes: &[&str]) -> Result<Vec<String>, Malformed> {
        let mut seen = Vec::new();
        let told = |sample: &Sample<'_, '_>| {
            let label = sample.label("path").map(|value| format!("{value:?}")).unwrap_or_default();
            format!("{} {label} {}", sample.name, sample.value)
        };
        let whole = visit(text, prefixes, |sample| seen.push(told(sample))).map(|()| seen);
        // Whatever the pieces in which it arrives.
        for size in [1, 7, 1000] {
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            let mut pieces = text.as_bytes().chunks(size);
            let read =
                pieces.try_for_each(|piece| lines.read(piece, prefixes, |sample| seen.push(told(sample))));
            assert_eq!(read.and_then(|()| lines.end()).map(|()| seen), whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut lines = Lines::default();
        let piece = [b'a'; 4096];
        let read = (0..100).try_for_each(|_| lines.read(&piece, &["b"], |_| {}));
        assert_eq!(read.unwrap_err().why, "it is longer than 64 KiB");
        assert!(lines.begun.len() <= LONGEST);
        let read = Lines::default().read(b"a{path=\"\xff\"} 1\n", &["a"], |_| {});
        assert_eq!(read.unwrap_err().why, "it is no text");
    }

    #[test]
    fn only_the_families_asked_for_are_read() {
        let text = "# HELP a_total What\n# TYPE a_total counter\na_total{path=\"/x\",code=\"200\"} 12\n\
                    b_total what even is this\na_total{path=\"/y\"} 3.5e2 1700000000000\n\na_other{} +Inf\n\
                    a_plain NaN\n";
        assert_eq!(
            all(text, &["a_total", "a_other", "a_plain"]).unwrap(),
            ["a_total \"/x\" 12", "a_total \"/y\" 350", "a_other  inf", "a_plain  NaN"]
        );
        assert_eq!(all(text, &[]).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn labels_may_hold_anything_once_it_is_escaped() {
        let text = "a{ path = \"q\\\"u}o,t\\\\e\\nn\\d\" , } 1\na{path=\"\\\\\"} 2\na {path=\"ü\"} 3\r\n\ta{path=\"\"}\t4\n";
        assert_eq!(
            all(text, &["a"]).unwrap(),
            ["a \"q\\\"u}o,t\\\\e\\nn\\\\d\" 1", "a \"\\\\\" 2", "a \"ü\" 3", "a \"\" 4"]
        );
    }

    #[test]
    fn open_metrics_ends_otherwise_and_has_exemplars() {
        let text = "# TYPE a counter\n# UNIT a seconds\na_total{path=\"/\"} 5.0 1700000000.5 # {trace_id=\"x\"} 0.6 1.5\n\
                    a_bucket{le=\"1.0\"} 5 # {} 0.1\na_created 1.7e9\n# EOF";
        assert_eq!(all(text, &["a_"]).unwrap(), ["a_total \"/\" 5", "a_bucket  5", "a_created  1700000000"]);
    }

    #[test]
    fn a_line_that_is_no_metric_is_named() {
        for (line, why) in [
            ("a{x=\"1\" 5", "not separated"),
            ("a{x=\"1} 5", "does not end"),
            ("a{x=1} 5", "not quoted"),
            ("a{x} 5", "no `=`"),
            ("a{=\"1\"} 5", "no name"),
            ("a{x=\"1\"}", "no value"),
            ("a", "no value"),
            ("a-b 5", "character"),
            ("a five", "no number"),
            ("a 5 soon", "timestamp"),
            ("a 5 6 7", "more than"),
        ] {
            let error = all(&format!("b 1\n{line}\na 1\n"), &["a"]).unwrap_err();
            assert_eq!(error.line, 2, "{line}");
            assert!(error.to_string().contains(why), "{line}: {error}");
            let quoted = line.len() > 1 && error.to_string().contains(line);
            assert!(!quoted, "faults 4.2, nothing foreign is quoted: {error}");
        }
    }

    #[test]
    fn a_text_that_was_cut_off_is_not_believed() {
        // The counter may have been 1234.
        assert_eq!(all("a 1\na 12", &["a"]).unwrap_err().why, "the text was cut off");
        // Of what follows the cut nothing is known, whatever the line is about.
        assert_eq!(all("a 1\nb 12", &["a"]).unwrap_err().line, 2);
        assert_eq!(all("a 1\n  ", &["a"]).unwrap(), ["a  1"]);
        assert_eq!(all("", &["a"]).unwrap(), Vec::<String>::new());
    }

    /// Pieces from which almost a metric may come.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "a", "a_total", "{", "}", "\"", "\\", "=", ",", " ", "\n", "\r", "1", "NaN", "#", "ü", "le",
            "\t", "-",
        ]);
        prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = all(&String::from_utf8_lossy(&bytes), &["", "a"]);
        }

        #[test]
        fn almost_metrics_never_panic(text in pieces()) {
            let _ = all(&text, &["a"]);
        }

        #[test]
        fn whatever_a_label_holds_comes_back(value in ".*", number in any::<f64>()) {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let text = format!("a{{path=\"{escaped}\"}} {number:e}\n");
            let mut seen = Vec::new();
            visit(&text, &["a"], |sample| {
                seen.push((sample.label("path").unwrap().into_owned(), sample.value.to_bits()));
            }).unwrap();
            // A line feed within a value is escaped; a carriage return at the end of a line is none of it.
            prop_assert_eq!(seen, [(value, number.to_bits())]);
        }
    }
}
