//! The questions that Prometheus is asked: one for the built-in metrics of all rollouts, one for all metrics of
//! services' own. Pure.
//!
//! Raw counters are asked for and never a rate, which hides resets, gaps and the time it speaks of. Several questions
//! become one by `or`, each with a label of its own that tells what its series are.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::pods::{FAMILY, PATHS, STATUS};
use super::subject::{Subject, What};

/// The label that tells terms of a union apart.
pub const TERM: &str = "banyan_term";
/// Labels that a pod's own series are told apart by. Job and instance are among them so that two jobs that scrape
/// one pod do not add up.
const POD: &str = "namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance";
/// Labels that a proxy's view of a Service is told apart by: a sum over proxies would fall when one of them goes,
/// and what falls looks like a counter that began anew.
const PROXY: &str = "namespace, pod, job, instance, destination_service_namespace, destination_service_name";

/// The question about the built-in metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltInQuery {
    /// In PromQL.
    pub text: String,
    /// For each subject, the number that stands in the terms of its pods' series.
    pub groups: Vec<usize>,
}

/// What a term of the built-in question counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// Pods' own, of the group with this number.
    Pods(usize, Kind),
    /// Istio's, as callers' proxies tell.
    Istio(Kind),
}

/// What a term counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// When the newest sample was taken.
    Seen,
    /// When a target was last scraped that is up.
    Up,
    /// Requests.
    Requests,
    /// Requests that failed.
    Bad,
    /// Requests up to a bound, which is in the label `le`.
    Bucket,
}

impl Kind {
    const ALL: [(Kind, &'static str); 5] = [
        (Kind::Seen, "seen"),
        (Kind::Up, "up"),
        (Kind::Requests, "requests"),
        (Kind::Bad, "bad"),
        (Kind::Bucket, "bucket"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

impl Term {
    /// The value of [`TERM`].
    fn label(self) -> String {
        match self {
            Term::Pods(group, kind) => format!("pods {group} {}", kind.name()),
            Term::Istio(kind) => format!("istio {}", kind.name()),
        }
    }

    /// The term that a value of [`TERM`] stands for.
    pub fn read(label: &str) -> Option<Term> {
        let kind = |name: &str| Kind::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind);
        match label.split(' ').collect::<Vec<_>>()[..] {
            ["pods", group, name] => Some(Term::Pods(group.parse().ok()?, kind(name)?)),
            ["istio", name] => Some(Term::Istio(kind(name)?)),
            _ => None,
        }
    }
}

/// The one question about the built-in metrics of all subjects; `None` if none has any.
pub fn built_in(subjects: &[Subject]) -> Option<BuiltInQuery> {
    // Subjects that leave out the same paths are asked about together.
    let mut by_paths: BTreeMap<Vec<&str>, (usize, Vec<&Subject>)> = BTreeMap::new();
    let mut groups = Vec::new();
    for subject in subjects {
        let mut paths: Vec<&str> = subject.not_counted.iter().map(String::as_str).collect();
        paths.sort_unstable();
        paths.dedup();
        let number = by_paths.len();
        let group = by_paths.entry(paths).or_insert((number, Vec::new()));
        group.1.push(subject);
        groups.push(group.0);
    }
    let mut terms = Vec::new();
    for (paths, (number, subjects)) in &by_paths {
        pods(*number, paths, subjects, &mut terms);
    }
    istio(subjects, &mut terms);
    (!terms.is_empty()).then(|| BuiltInQuery { text: terms.join("\nor "), groups })
}

/// Terms of the pods' own series.
fn pods(group: usize, paths: &[&str], subjects: &[&Subject], terms: &mut Vec<String>) {
    let asked = Asked::of(subjects.iter().copied());
    let arms = asked.subjects.iter().flat_map(|subject| &subject.arms).filter(|arm| !arm.revision.is_empty());
    let revisions = any_of(arms.map(|arm| arm.revision.as_str()));
    if !asked.anything() || revisions.is_empty() {
        return;
    }
    let own = format!(
        "namespace=~{},banyan_dev_service=~{},banyan_dev_revision=~{}",
        quote(&any_of(asked.subjects.iter().map(|subject| subject.namespace.as_str()))),
        quote(&any_of(asked.subjects.iter().map(|subject| subject.service.as_str()))),
        quote(&revisions)
    );
    let mut counted = own.clone();
    if !paths.is_empty() {
        let paths = quote(&any_of(paths.iter().copied()));
        for label in PATHS {
            // Writing to a String cannot fail.
            let _ = write!(counted, ",{label}!~{paths}");
        }
    }
    let mut add = |kind, query: String| terms.push(labelled(&Term::Pods(group, kind).label(), &query));
    add(Kind::Up, format!("max by ({POD}) (timestamp(up{{{own}}}) and (up{{{own}}} == 1))"));
    add(Kind::Seen, format!("max by ({POD}) (timestamp({FAMILY}_count{{{own}}}))"));
    add(Kind::Requests, format!("sum by ({POD}) ({FAMILY}_count{{{counted}}})"));
    if asked.errors {
        add(Kind::Bad, format!("sum by ({POD}) ({FAMILY}_count{{{counted},{STATUS}=~\"5..|\"}})"));
    }
    if let Some(bounds) = asked.bounds(1.0) {
        add(Kind::Bucket, format!("sum by ({POD}, le) ({FAMILY}_bucket{{{counted},le=~{bounds}}})"));
    }
}

/// Terms of Istio's standard metrics, as callers' proxies and gateways tell them.
fn istio(subjects: &[Subject], terms: &mut Vec<String>) {
    let asked = Asked::of(subjects);
    if !asked.anything() {
        return;
    }
    let arms = || asked.subjects.iter().flat_map(|subject| &subject.arms);
    let to = format!(
        "reporter=\"source\",destination_service_namespace=~{},destination_service_name=~{}",
        quote(&any_of(arms().map(|arm| arm.namespace.as_str()))),
        quote(&any_of(arms().map(|arm| arm.service.as_str())))
    );
    let mut add = |kind, query: String| terms.push(labelled(&Term::Istio(kind).label(), &query));
    add(Kind::Seen, format!("max by ({PROXY}) (timestamp(istio_requests_total{{{to}}}))"));
    add(Kind::Requests, format!("sum by ({PROXY}) (istio_requests_total{{{to}}})"));
    if asked.errors {
        add(Kind::Bad, format!("sum by ({PROXY}) (istio_requests_total{{{to},response_code=~\"5..|0|\"}})"));
    }
    if let Some(bounds) = asked.bounds(1000.0) {
        let durations = format!("istio_request_duration_milliseconds_bucket{{{to},le=~{bounds}}}");
        add(Kind::Bucket, format!("sum by ({PROXY}, le) ({durations})"));
    }
}

/// What is asked of some subjects.
struct Asked<'s> {
    /// Those that ask for a built-in metric.
    subjects: Vec<&'s Subject>,
    errors: bool,
    /// In seconds.
    thresholds: Vec<f64>,
}

impl<'s> Asked<'s> {
    fn of(subjects: impl IntoIterator<Item = &'s Subject>) -> Self {
        let mut asked = Asked { subjects: Vec::new(), errors: false, thresholds: Vec::new() };
        for subject in subjects {
            let mut any = false;
            for metric in &subject.metrics {
                match metric.what {
                    What::Errors => asked.errors = true,
                    What::Slower(threshold) => asked.thresholds.push(threshold),
                    What::Custom { .. } => continue,
                }
                any = true;
            }
            if any {
                asked.subjects.push(subject);
            }
        }
        asked.thresholds.sort_by(f64::total_cmp);
        asked.thresholds.dedup();
        asked
    }

    fn anything(&self) -> bool {
        !self.subjects.is_empty()
    }

    /// The bounds to be asked for, where the unit is so many to a second, quoted.
    fn bounds(&self, unit: f64) -> Option<String> {
        if self.thresholds.is_empty() {
            return None;
        }
        let mut patterns: Vec<String> = self.thresholds.iter().map(|seconds| bound(seconds * unit)).collect();
        patterns.push("[+]Inf".to_owned());
        Some(quote(&patterns.join("|")))
    }
}

/// A bound as clients write it: whole numbers with and without `.0`.
fn bound(value: f64) -> String {
    // What was multiplied has digits that nobody wrote: 0.57 s are 570 ms.
    let value = (value * 1e9).round() / 1e9;
    let text = value.to_string();
    if text.contains('.') { escape(&text) } else { format!("{text}([.]0)?") }
}

/// A query whose series have a label that tells them from others.
fn labelled(label: &str, query: &str) -> String {
    format!("label_replace({query}, \"{TERM}\", \"{label}\", \"\", \"\")")
}

/// One question for several queries; [`TERM`] holds the place of the query.
///
/// Each must be [`self_contained`]: then none can reach out of its parentheses.
pub fn union(queries: &[&str]) -> String {
    let terms = queries.iter().enumerate().map(|(place, query)| {
        // A line feed ends a comment.
        labelled(&place.to_string(), &format!("(\n{query}\n)"))
    });
    terms.collect::<Vec<_>>().join("\nor\n")
}

/// Whether strings and brackets of a query end within it.
pub fn self_contained(query: &str) -> bool {
    let mut open = Vec::new();
    let mut rest = query.chars();
    let mut says_something = false;
    while let Some(c) = rest.next() {
        match c {
            '#' => {
                rest.by_ref().find(|c| *c == '\n');
                continue;
            }
            '"' | '\'' | '`' if !ends(&mut rest, c) => return false,
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' if open.pop() != Some(c) => return false,
            _ => {}
        }
        says_something |= !c.is_whitespace();
    }
    open.is_empty() && says_something
}

/// Reads a string to its end; whether it has one.
fn ends(rest: &mut std::str::Chars<'_>, quote: char) -> bool {
    while let Some(c) = rest.next() {
        match c {
            _ if c == quote => return true,
            '\\' if quote != '`' => {
                rest.next();
            }
            '\n' if quote != '`' => return false,
            _ => {}
        }
    }
    false
}

/// A regular expression for these words and no others; empty if there are none.
fn any_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let mut words: Vec<&str> = words.into_iter().collect();
    words.sort_unstable();
    words.dedup();
    words.into_iter().map(escape).collect::<Vec<_>>().join("|")
}

/// A word as a regular expression.
fn escape(word: &str) -> String {
    let mut escaped = String::new();
    for c in word.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A string of PromQL.
fn quote(text: &str) -> String {
    let escaped = text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::subject::{Arm, Counted};
    use super::*;

    fn subject(name: &str, metrics: Vec<What>, paths: &[&str]) -> Subject {
        let arm = |hash: &str| Arm {
            namespace: "pay".into(),
            service: format!("{name}-{hash}"),
            port: 80,
            revision: hash.into(),
            pods: Vec::new(),
        };
        Subject {
            namespace: "pay".into(),
            service: name.into(),
            arms: [arm("old"), arm("new")],
            metrics: metrics.into_iter().map(|what| Counted { name: "m".into(), what }).collect(),
            not_counted: paths.iter().map(|path| (*path).to_owned()).collect(),
            ..Subject::default()
        }
    }

    #[test]
    fn one_question_is_for_all_subjects() {
        let subjects = [
            subject("a", vec![What::Errors], &["/metrics", "/healthz"]),
            subject("b", vec![What::Slower(0.2)], &["/healthz", "/metrics"]),
            subject("c", vec![What::Slower(1.0)], &[r#"/x".*"#]),
            subject("d", vec![What::Custom { bad: "b".into(), total: "t".into() }], &[]),
        ];
        let query = built_in(&subjects).unwrap();
        assert_eq!(query.groups, [0, 0, 1, 2]);
        expect![[r#"
            label_replace(max by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance) (timestamp(up{namespace=~"pay",banyan_dev_service=~"a|b",banyan_dev_revision=~"new|old"}) and (up{namespace=~"pay",banyan_dev_service=~"a|b",banyan_dev_revision=~"new|old"} == 1)), "banyan_term", "pods 0 up", "", "")
            or label_replace(max by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance) (timestamp(http_server_request_duration_seconds_count{namespace=~"pay",banyan_dev_service=~"a|b",banyan_dev_revision=~"new|old"})), "banyan_term", "pods 0 seen", "", "")
            or label_replace(sum by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance) (http_server_request_duration_seconds_count{namespace=~"pay",banyan_dev_service=~"a|b",banyan_dev_revision=~"new|old",http_route!~"/healthz|/metrics",url_path!~"/healthz|/metrics"}), "banyan_term", "pods 0 requests", "", "")
            or label_replace(sum by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance) (http_server_request_duration_seconds_count{namespace=~"pay",banyan_dev_service=~"a|b",banyan_dev_revision=~"new|old",http_route!~"/healthz|/metrics",url_path!~"/healthz|/metrics",http_response_status_code=~"5..|"}), "banyan_term", "pods 0 bad", "", "")
            or label_replace(sum by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance, le) (http_server_request_duration_seconds_bucket{namespace=~"pay",banyan_dev_service=~"a|b",banyan_dev_revision=~"new|old",http_route!~"/healthz|/metrics",url_path!~"/healthz|/metrics",le=~"0\\.2|[+]Inf"}), "banyan_term", "pods 0 bucket", "", "")
            or label_replace(max by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance) (timestamp(up{namespace=~"pay",banyan_dev_service=~"c",banyan_dev_revision=~"new|old"}) and (up{namespace=~"pay",banyan_dev_service=~"c",banyan_dev_revision=~"new|old"} == 1)), "banyan_term", "pods 1 up", "", "")
            or label_replace(max by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance) (timestamp(http_server_request_duration_seconds_count{namespace=~"pay",banyan_dev_service=~"c",banyan_dev_revision=~"new|old"})), "banyan_term", "pods 1 seen", "", "")
            or label_replace(sum by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance) (http_server_request_duration_seconds_count{namespace=~"pay",banyan_dev_service=~"c",banyan_dev_revision=~"new|old",http_route!~"/x\"\\.\\*",url_path!~"/x\"\\.\\*"}), "banyan_term", "pods 1 requests", "", "")
            or label_replace(sum by (namespace, pod, banyan_dev_service, banyan_dev_revision, job, instance, le) (http_server_request_duration_seconds_bucket{namespace=~"pay",banyan_dev_service=~"c",banyan_dev_revision=~"new|old",http_route!~"/x\"\\.\\*",url_path!~"/x\"\\.\\*",le=~"1([.]0)?|[+]Inf"}), "banyan_term", "pods 1 bucket", "", "")
            or label_replace(max by (namespace, pod, job, instance, destination_service_namespace, destination_service_name) (timestamp(istio_requests_total{reporter="source",destination_service_namespace=~"pay",destination_service_name=~"a-new|a-old|b-new|b-old|c-new|c-old"})), "banyan_term", "istio seen", "", "")
            or label_replace(sum by (namespace, pod, job, instance, destination_service_namespace, destination_service_name) (istio_requests_total{reporter="source",destination_service_namespace=~"pay",destination_service_name=~"a-new|a-old|b-new|b-old|c-new|c-old"}), "banyan_term", "istio requests", "", "")
            or label_replace(sum by (namespace, pod, job, instance, destination_service_namespace, destination_service_name) (istio_requests_total{reporter="source",destination_service_namespace=~"pay",destination_service_name=~"a-new|a-old|b-new|b-old|c-new|c-old",response_code=~"5..|0|"}), "banyan_term", "istio bad", "", "")
            or label_replace(sum by (namespace, pod, job, instance, destination_service_namespace, destination_service_name, le) (istio_request_duration_milliseconds_bucket{reporter="source",destination_service_namespace=~"pay",destination_service_name=~"a-new|a-old|b-new|b-old|c-new|c-old",le=~"200([.]0)?|1000([.]0)?|[+]Inf"}), "banyan_term", "istio bucket", "", "")"#]].assert_eq(&query.text);
        assert_eq!(built_in(&subjects[3..]), None);
        assert_eq!(built_in(&[]), None);
    }

    #[test]
    fn terms_are_read_as_they_are_written() {
        for (kind, _) in Kind::ALL {
            for term in [Term::Pods(12, kind), Term::Istio(kind)] {
                assert_eq!(Term::read(&term.label()), Some(term));
            }
        }
        for label in ["", "pods", "pods x up", "pods 1 down", "istio", "other up"] {
            assert_eq!(Term::read(label), None, "{label}");
        }
    }

    #[test]
    fn bounds_are_found_as_clients_write_them() {
        for (value, pattern) in
            [(0.2, r"0\.2"), (1.0, "1([.]0)?"), (0.57 * 1000.0, "570([.]0)?"), (0.0005 * 1000.0, r"0\.5")]
        {
            assert_eq!(bound(value), pattern, "{value}");
        }
    }

    #[test]
    fn a_query_is_taken_into_a_union_only_if_it_ends_within_itself() {
        for query in [
            "a",
            "sum by (revision) (a{b=\"c\"}[5m])",
            "a # (",
            "a{b=~\"[(\\\"]\"}",
            "a{b='`'} + a{b=`\\`}",
            "# first\na",
        ] {
            assert!(self_contained(query), "{query}");
        }
        for query in [
            "",
            " \n",
            "# nothing",
            "a)",
            "a) or (b",
            "(a",
            "(a]",
            "a{b=\"c}",
            "a{b=\"c\\\"}",
            "a{b='c\n'}",
            "a{b=`c}",
            "a\n), \"x\", \"1\", \"\", \"\") or label_replace((b",
        ] {
            assert!(!self_contained(query), "{query}");
        }
        assert_eq!(
            union(&["a # b", "c"]),
            "label_replace((\na # b\n), \"banyan_term\", \"0\", \"\", \"\")\nor\n\
             label_replace((\nc\n), \"banyan_term\", \"1\", \"\", \"\")"
        );
    }
}
