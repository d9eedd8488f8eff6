//! The questions that Prometheus is asked: one for the built-in metrics of all rollouts, one for all metrics of
//! services' own. Pure.
//!
//! Raw counters are asked for and never a rate, which hides resets, gaps and the time it speaks of. Several questions
//! become one by `or`, each with a label of its own that tells what its series are.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::grpc::{self, FAMILIES, Family, Speaks};
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
    /// Requests that were refused.
    Refused,
    /// Requests up to a bound, which is in the label `le`.
    Bucket,
    /// Calls of gRPC up to a bound: histograms of their own, whose bounds may be others.
    Calls,
    /// The same, in milliseconds.
    CallsMillis,
    /// Requests that say what they ask for.
    Named,
}

impl Kind {
    const ALL: [(Kind, &'static str); 9] = [
        (Kind::Seen, "seen"),
        (Kind::Up, "up"),
        (Kind::Requests, "requests"),
        (Kind::Bad, "bad"),
        (Kind::Refused, "refused"),
        (Kind::Bucket, "bucket"),
        (Kind::Calls, "calls"),
        (Kind::CallsMillis, "callsmillis"),
        (Kind::Named, "named"),
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
    let mut groups_of: BTreeMap<Alike, (usize, Vec<&Subject>)> = BTreeMap::new();
    let mut groups = Vec::new();
    for subject in subjects {
        let mut paths: Vec<&str> = subject.not_counted.iter().map(String::as_str).collect();
        paths.sort_unstable();
        paths.dedup();
        let alike = Alike { paths, speaks: subject.speaks, probed: subject.probed };
        let number = groups_of.len();
        let group = groups_of.entry(alike).or_insert((number, Vec::new()));
        group.1.push(subject);
        groups.push(group.0);
    }
    let mut terms = Vec::new();
    for (alike, (number, subjects)) in &groups_of {
        pods(*number, alike, subjects, &mut terms);
    }
    istio(subjects, &mut terms);
    (!terms.is_empty()).then(|| BuiltInQuery { text: terms.join("\nor "), groups })
}

/// What subjects have in common that are asked about together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Alike<'s> {
    /// What is left out.
    paths: Vec<&'s str>,
    speaks: Speaks,
    probed: bool,
}

/// Terms of the pods' own series.
fn pods(group: usize, alike: &Alike, subjects: &[&Subject], terms: &mut Vec<String>) {
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
    if !alike.paths.is_empty() {
        let paths = quote(&any_of(alike.paths.iter().copied()));
        for label in PATHS {
            // Writing to a String cannot fail.
            let _ = write!(counted, ",{label}!~{paths}");
        }
    }
    let up = format!("max by ({POD}) (timestamp(up{{{own}}}) and (up{{{own}}} == 1))");
    let select = Select { own, counted };
    let found = match alike.speaks {
        Speaks::Http => select.requests(&asked),
        Speaks::Grpc | Speaks::Both => select.calls(&asked, alike.speaks),
    };
    let named = alike.probed.then(|| (Kind::Named, select.named(alike.speaks)));
    let all = [(Kind::Up, up)].into_iter().chain(found).chain(named);
    terms.extend(all.map(|(kind, query)| labelled(&Term::Pods(group, kind).label(), &query)));
}

/// What selects the pods' own series, as labels in PromQL.
struct Select {
    /// All of them.
    own: String,
    /// Those of HTTP that count.
    counted: String,
}

impl Select {
    /// Requests of HTTP.
    fn http(&self, suffix: &str, more: &str) -> String {
        format!("{FAMILY}{suffix}{{{}{more}}}", self.counted)
    }

    /// Those that failed.
    fn failed(&self) -> String {
        self.http("_count", &format!(",{STATUS}=~\"5..|\""))
    }

    /// Those that were refused.
    fn refused(&self) -> String {
        self.http("_count", &format!(",{STATUS}=~\"4..\""))
    }

    /// Terms of services that speak HTTP.
    fn requests(&self, asked: &Asked) -> Vec<(Kind, String)> {
        let mut terms = vec![
            (Kind::Seen, format!("max by ({POD}) (timestamp({FAMILY}_count{{{}}}))", self.own)),
            (Kind::Requests, format!("sum by ({POD}) ({})", self.http("_count", ""))),
        ];
        if asked.errors {
            terms.push((Kind::Bad, format!("sum by ({POD}) ({})", self.failed())));
        }
        if asked.refused {
            terms.push((Kind::Refused, format!("sum by ({POD}) ({})", self.refused())));
        }
        if let Some(bounds) = asked.bounds(1.0) {
            let buckets = self.http("_bucket", &format!(",le=~{bounds}"));
            terms.push((Kind::Bucket, format!("sum by ({POD}, le) ({buckets})")));
        }
        terms
    }

    /// Those of all that say what they ask for, which a call always does. Where requests of HTTP count beside calls,
    /// they have to say it themselves.
    fn named(&self, speaks: Speaks) -> String {
        let named = PATHS.map(|label| format!("{FAMILY}_count{{{},{label}!=\"\"}}", self.own)).join(" or ");
        let http = format!("sum by ({POD}) ({named})");
        match speaks {
            Speaks::Http => http,
            Speaks::Grpc => format!("{} or {http}", self.all_calls()),
            Speaks::Both => {
                let any = format!("sum by ({POD}) ({FAMILY}_count{{{}}})", self.own);
                format!("{http} or (({}) unless {any})", self.all_calls())
            }
        }
    }

    /// Calls but probes, of the first family that a pod tells.
    fn all_calls(&self) -> String {
        by_pod(|family| family.calls("_count", &self.own))
    }

    /// Terms of services that speak gRPC. Of the families of calls the first counts that a pod tells. Where nothing
    /// else is spoken, requests of HTTP count for pods that tell none.
    fn calls(&self, asked: &Asked, speaks: Speaks) -> Vec<(Kind, String)> {
        let all = self.all_calls();
        let with_http = |calls: &str, http: String| match speaks {
            Speaks::Both => format!("sum by ({POD}) ({calls} or {http})"),
            _ => format!("{calls} or (sum by ({POD}) ({http}) unless ({all}))"),
        };
        let names = FAMILIES.iter().map(|family| family.name).chain([FAMILY]);
        let seen: Vec<_> = names.map(|name| format!("timestamp({name}_count{{{}}})", self.own)).collect();
        let mut terms = vec![
            (Kind::Seen, format!("max by ({POD}) ({})", seen.join(" or "))),
            (Kind::Requests, with_http(&all, self.http("_count", ""))),
        ];
        if asked.errors {
            terms.push((Kind::Bad, with_http(&by_pod(|family| family.failures(&self.own)), self.failed())));
        }
        if asked.refused {
            let calls = by_pod(|family| family.refused(&self.own));
            terms.push((Kind::Refused, with_http(&calls, self.refused())));
        }
        let (Some(seconds), Some(millis)) = (asked.bounds(1.0), asked.bounds(1000.0)) else { return terms };
        let by_bound = |family: &Family, bounds: &str| {
            let labels = format!("{},le=~{bounds}", self.own);
            format!("sum by ({POD}, le) ({})", family.calls("_bucket", &labels))
        };
        let [first, second, third] = &FAMILIES;
        let [one, two] = [first, second].map(|family| family.calls("_count", &self.own));
        let requests = format!("sum by ({POD}, le) ({})", self.http("_bucket", &format!(",le=~{seconds}")));
        terms.extend([
            (Kind::Calls, format!("{} or {}", by_bound(first, &seconds), by_bound(second, &seconds))),
            (Kind::CallsMillis, format!("{} unless on ({POD}) ({one} or {two})", by_bound(third, &millis))),
            match speaks {
                Speaks::Both => (Kind::Bucket, requests),
                _ => (Kind::Bucket, format!("{requests} unless on ({POD}) ({all})")),
            },
        ]);
        terms
    }
}

/// For each pod the sum of what is selected of the first family that there is.
fn by_pod(select: impl Fn(&Family) -> String) -> String {
    grpc::first_of(|family| format!("sum by ({POD}) ({})", select(family)))
}

/// Terms of Istio's standard metrics, as callers' proxies and gateways tell them.
fn istio(subjects: &[Subject], terms: &mut Vec<String>) {
    let asked = Asked::of(subjects);
    if !asked.anything() {
        return;
    }
    let arms = || asked.subjects.iter().flat_map(|subject| &subject.arms);
    let to = format!(
        "reporter=~\"source|waypoint\",destination_service_namespace=~{},destination_service_name=~{}",
        quote(&any_of(arms().map(|arm| arm.namespace.as_str()))),
        quote(&any_of(arms().map(|arm| arm.service.as_str())))
    );
    let mut add = |kind, query: String| terms.push(labelled(&Term::Istio(kind).label(), &query));
    add(Kind::Seen, format!("max by ({PROXY}) (timestamp(istio_requests_total{{{to}}}))"));
    add(Kind::Requests, format!("sum by ({PROXY}) (istio_requests_total{{{to}}})"));
    if asked.errors {
        add(Kind::Bad, of_istio(&to, "5..|0|", &grpc::faults()));
    }
    if asked.refused {
        add(Kind::Refused, of_istio(&to, "4..", &grpc::refusals()));
    }
    if let Some(bounds) = asked.bounds(1000.0) {
        let durations = format!("istio_request_duration_milliseconds_bucket{{{to},le=~{bounds}}}");
        add(Kind::Bucket, format!("sum by ({PROXY}, le) ({durations})"));
    }
}

/// Istio's requests with one of these codes, and its calls of gRPC with one of these statuses, which mostly have the HTTP
/// status 200.
fn of_istio(to: &str, codes: &str, statuses: &str) -> String {
    let http = format!("istio_requests_total{{{to},response_code=~\"{codes}\"}}");
    let grpc = format!("istio_requests_total{{{to},grpc_response_status=~\"{statuses}\"}}");
    format!("sum by ({PROXY}) ({http} or {grpc})")
}

/// What is asked of some subjects.
struct Asked<'s> {
    /// Those that ask for a built-in metric.
    subjects: Vec<&'s Subject>,
    errors: bool,
    refused: bool,
    /// In seconds.
    thresholds: Vec<f64>,
}

impl<'s> Asked<'s> {
    fn of(subjects: impl IntoIterator<Item = &'s Subject>) -> Self {
        let mut asked = Asked { subjects: Vec::new(), errors: false, refused: false, thresholds: Vec::new() };
        for subject in subjects {
            let mut any = false;
            for metric in &subject.metrics {
                match metric.what {
                    What::Errors => asked.errors = true,
                    What::Refused => asked.refused = true,
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
#[path = "promql_tests.rs"]
mod tests;
