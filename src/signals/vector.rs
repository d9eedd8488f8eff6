//! What Prometheus' API answers to a question. Pure.
//!
//! What the server says in its own words is not passed on: whoever reads the status of a rollout may be somebody else than
//! who may ask there.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// How many values an answer may have. What they are read into takes up to fifty bytes for each, whatever the length of
/// the text; seven thousand series as ours are have less than half as many.
const VALUES: usize = 400_000;

/// One series of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When the question was evaluated, in Unix seconds, by the server's clock. That is not when the value was
    /// sampled.
    pub time: f64,
    /// Its value; NaN also stands for what is no number, such as a native histogram.
    pub value: f64,
}

impl Row {
    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        let label = |(name, value): (&String, &String)| name.len() + value.len() + LABEL;
        size_of::<Self>() + self.labels.iter().map(label).sum::<usize>()
    }

    /// The value of a label; empty if there is none, as in PromQL.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// What a label takes beside its text: two strings in a tree, each with an allocation.
const LABEL: usize = 2 * size_of::<String>() + 32;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The question itself is at fault.
    #[error("{0}")]
    Question(String),
    /// It took too long.
    #[error("{0}")]
    Late(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    status: String,
    data: Option<Data>,
    #[serde(default)]
    error_type: String,
    #[serde(default)]
    warnings: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Sample>),
    Matrix(IgnoredAny),
    Scalar(IgnoredAny),
    String(IgnoredAny),
}

#[derive(Deserialize)]
struct Sample {
    metric: BTreeMap<String, String>,
    /// Not there for a native histogram.
    value: Option<(f64, String)>,
}

/// Reads an answer.
///
/// # Errors
/// If it is none, or none that can be used: a warning means that something is missing from it.
pub fn read(status: u16, text: &str) -> Result<Vec<Row>, Refused> {
    let begins = |byte: &u8| matches!(byte, b'"' | b',' | b'[' | b'{');
    if text.bytes().filter(begins).count() > VALUES {
        return Err(Refused::Question(
            "the answer has more series than are read; ask for fewer, such as `sum by (revision)`".to_owned(),
        ));
    }
    let body = match serde_json::from_str::<Body>(text) {
        Ok(body) => body,
        Err(_) if status == 200 => {
            return Err(Refused::Other("what is answered is not what Prometheus answers".to_owned()));
        }
        Err(_) => return Err(by_status(status, "")),
    };
    if status != 200 || body.status != "success" {
        return Err(by_status(status, &body.error_type));
    }
    if !body.warnings.is_empty() {
        return Err(Refused::Question(
            "the answer is not whole: the server warns of what is missing; ask it the query to see"
                .to_owned(),
        ));
    }
    let kind = match body.data {
        Some(Data::Vector(samples)) => return Ok(samples.into_iter().map(row).collect()),
        Some(Data::Matrix(_)) => "a range of values for each series",
        Some(Data::Scalar(_)) => "a number without a series",
        Some(Data::String(_)) => "a string",
        None => return Err(Refused::Other("the answer has no data".to_owned())),
    };
    Err(Refused::Question(format!("the query gives {kind}; write one that gives an instant vector")))
}

fn row(sample: Sample) -> Row {
    let (time, value) = match sample.value {
        Some((time, value)) => (time, value.parse().unwrap_or(f64::NAN)),
        None => (f64::NAN, f64::NAN),
    };
    Row { labels: sample.metric, time, value }
}

/// What a server may say of an error, and what that means.
const KINDS: [(&str, &str); 8] = [
    ("bad_data", "the query cannot be read"),
    ("execution", "the query cannot be evaluated"),
    ("timeout", "the query took too long"),
    ("canceled", "the query was given up"),
    ("internal", "the server failed"),
    ("unavailable", "the server is not ready"),
    ("not_found", "nothing is there"),
    ("not_acceptable", "the form of answer is not known there"),
];

fn by_status(status: u16, kind: &str) -> Refused {
    let known = KINDS.iter().find(|(known, _)| *known == kind);
    let words = known.map_or_else(String::new, |(kind, meaning)| format!(" ({kind}): {meaning}"));
    let words = format!("status {status}{words}");
    match (status, kind) {
        // Both are 422 or 503, by version.
        (_, "timeout" | "canceled") => Refused::Late(words),
        (400 | 422, _) => Refused::Question(words),
        (401 | 403, _) => Refused::Other(format!("{words}; see analysis.source.prometheus.auth")),
        _ => Refused::Other(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, text: &str) -> Refused {
        read(status, text).unwrap_err()
    }

    #[test]
    fn a_vector_is_read() {
        let text = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"__name__":"up","pod":"a"},"value":[1700000000.781,"1"]},
            {"metric":{},"value":[1700000000.781,"NaN"]},
            {"metric":{},"value":[1700000000.781,"+Inf"]},
            {"metric":{},"histogram":[1700000000.781,{"count":"1","sum":"2"}]}]},"infos":["info"]}"#;
        let rows = read(200, text).unwrap();
        assert_eq!((rows[0].label("pod"), rows[0].label("none")), ("a", ""));
        assert_eq!((rows[0].time, rows[0].value), (1_700_000_000.781, 1.0));
        assert!(rows[1].value.is_nan() && rows[2].value.is_infinite() && rows[3].value.is_nan());
        let empty = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
        assert_eq!(read(200, empty).unwrap(), []);
    }

    #[test]
    fn what_is_no_answer_is_said_in_words_and_by_whose_fault() {
        let error = |kind, words| format!(r#"{{"status":"error","errorType":"{kind}","error":"{words}"}}"#);
        let question = |words: &str| Refused::Question(words.to_owned());
        let other = |words: &str| Refused::Other(words.to_owned());
        let bad = question("status 400 (bad_data): the query cannot be read");
        assert_eq!(
            refused(400, &error("bad_data", "parse error")),
            bad,
            "faults 4.2: nothing foreign is quoted"
        );
        let many = question("status 422 (execution): the query cannot be evaluated");
        assert_eq!(refused(422, &error("execution", "many")), many);
        let late = Refused::Late("status 503 (timeout): the query took too long".into());
        assert_eq!(refused(503, &error("timeout", "late")), late);
        assert_eq!(refused(429, "slow down"), other("status 429"));
        assert_eq!(
            refused(500, &error("internal", "broken")),
            other("status 500 (internal): the server failed")
        );
        assert_eq!(refused(500, &error("a secret", "broken")), other("status 500"));
        let words = refused(401, "Unauthorized").to_string();
        assert!(words.contains("status 401") && words.contains("prometheus.auth"), "{words}");
        assert!(refused(200, "<html>").to_string().contains("not what Prometheus answers"));
        assert!(
            refused(200, r#"{"status":"success","data":{"resultType":"vector","result":[{"metric"#)
                .to_string()
                .contains("not what Prometheus answers")
        );
        assert_eq!(refused(200, r#"{"status":"success"}"#), other("the answer has no data"));
        let unknown = r#"{"status":"success","data":{"resultType":"a secret","result":[]}}"#;
        assert_eq!(refused(200, unknown), other("what is answered is not what Prometheus answers"));
        let many = format!(r#"{{"status":"success","data":{{"result":[0{}]}}}}"#, ",0".repeat(VALUES));
        assert!(refused(200, &many).to_string().contains("more series than are read"), "faults 4.1");
        for (kind, result, word) in [
            ("scalar", r#"[1,"1"]"#, "number"),
            ("string", r#"[1,"x"]"#, "string"),
            ("matrix", "[]", "range"),
        ] {
            let text =
                format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#);
            let Refused::Question(words) = refused(200, &text) else { panic!("{kind}") };
            assert!(words.contains(word) && words.contains("instant vector"), "{words}");
        }
        let partial = r#"{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["a store is away"]}"#;
        let words = refused(200, partial).to_string();
        assert!(words.starts_with("the answer is not whole: ") && !words.contains("away"), "{words}");
    }
}
