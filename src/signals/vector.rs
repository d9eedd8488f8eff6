//! What Prometheus' API answers to a question. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// How much of what a server says is passed on, in characters.
const SHOWN: usize = 200;

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
    /// The value of a label; empty if there is none, as in PromQL.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

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
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
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
    let body = match serde_json::from_str::<Body>(text) {
        Ok(body) => body,
        Err(error) if status == 200 => {
            return Err(Refused::Other(format!("what is answered is not what Prometheus answers: {error}")));
        }
        Err(_) => return Err(by_status(status, "", "")),
    };
    if status != 200 || body.status != "success" {
        return Err(by_status(status, &body.error_type, &body.error));
    }
    if let Some(warning) = body.warnings.first() {
        return Err(Refused::Question(format!("the answer is not whole: {}", short(warning))));
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

fn by_status(status: u16, kind: &str, error: &str) -> Refused {
    let error = short(error);
    let words =
        if error.is_empty() { format!("status {status}") } else { format!("status {status}: {error}") };
    match (status, kind) {
        // Both are 422 or 503, by version.
        (_, "timeout" | "canceled") => Refused::Late(words),
        (400 | 422, _) => Refused::Question(words),
        (401 | 403, _) => Refused::Other(format!("{words}; see analysis.source.prometheus.auth")),
        _ => Refused::Other(words),
    }
}

fn short(text: &str) -> String {
    text.chars().take(SHOWN).collect()
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
        assert_eq!(refused(400, &error("bad_data", "parse error")), question("status 400: parse error"));
        assert_eq!(refused(422, &error("execution", "many")), question("status 422: many"));
        assert_eq!(refused(503, &error("timeout", "late")), Refused::Late("status 503: late".into()));
        assert_eq!(refused(429, "slow down"), other("status 429"));
        assert_eq!(refused(500, &error("internal", "broken")), other("status 500: broken"));
        let words = refused(401, "Unauthorized").to_string();
        assert!(words.contains("status 401") && words.contains("prometheus.auth"), "{words}");
        assert!(refused(200, "<html>").to_string().contains("not what Prometheus answers"));
        assert!(
            refused(200, r#"{"status":"success","data":{"resultType":"vector","result":[{"metric"#)
                .to_string()
                .contains("not what Prometheus answers")
        );
        assert_eq!(refused(200, r#"{"status":"success"}"#), other("the answer has no data"));
        assert_eq!(refused(200, &error("internal", "x".repeat(999).as_str())).to_string().len(), 212);
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
        assert_eq!(refused(200, partial), question("the answer is not whole: a store is away"));
    }
}
