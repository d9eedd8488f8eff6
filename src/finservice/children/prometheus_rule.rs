//! The Prometheus operator's PrometheusRule: how fast the error budget of the objectives burns, and
//! a rise of error lines in the logs.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::json::list;
use super::metric_source::MetricSource;
use super::{Child, Kind, Scope};
use crate::api::units;

/// Window of an objective unless the spec says otherwise, for which the burn rates below are meant.
const WINDOW: Duration = Duration::from_secs(30 * 86_400);

/// Pace of burning, the long window and the short one in minutes, and who is told. They are those of
/// the Site Reliability Workbook (2018), chapter 5, table 5-8 for 30 days: 2 % of the budget in an
/// hour, 5 % in six, 10 % in a day and in three.
const BURNS: [(&str, u64, u64, &str); 4] = [
    ("14.4", 60, 5, "page"),
    ("6", 360, 30, "page"),
    ("3", 1_440, 120, "ticket"),
    ("1", 4_320, 360, "ticket"),
];
/// The shortest of them, over which rates are recorded.
const BASE: u64 = 5;
/// What is recorded, before the window of its rates.
const REQUESTS: &str = "banyan:slo_requests:rate";
/// The same, of bad requests.
const BAD: &str = "banyan:slo_bad_requests:rate";
/// The shortest window, in minutes: less holds too few scrapes for a rate.
const SHORTEST: u64 = 2;
/// The shortest window of an objective: the others are parts of it, and at least [`SHORTEST`].
pub const SHORTEST_OBJECTIVE: Duration = Duration::from_secs(3_600);

/// An objective: what share of requests may be bad, and the two series that are recorded of it, how many requests there
/// were and how many of them were bad. All longer windows add up these two, so that no window of days is read from the
/// requests' own series, of which a service has hundreds.
struct Objective<'a> {
    name: &'static str,
    /// The error budget as a decimal fraction, such as `0.0001`.
    budget: String,
    /// Over which time the budget is meant.
    window: Duration,
    /// The window of the rates that are recorded.
    base: String,
    /// What the two series bear.
    labels: Vec<(&'static str, &'a str)>,
    /// Requests, as a rate over that window.
    requests: String,
    /// Those of them that are bad.
    bad: String,
}

impl Objective<'_> {
    fn record(&self, name: &str, expr: &str) -> Value {
        let labels: Map<String, Value> =
            self.labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        json!({"record": format!("{name}{}", self.base), "expr": expr, "labels": labels})
    }

    /// Share of bad requests over a window, from what is recorded.
    fn share(&self, window: &str) -> String {
        let labels: Vec<String> =
            self.labels.iter().map(|(key, value)| format!(r#"{key}="{value}""#)).collect();
        let of = |name: &str| {
            let series = format!("{name}{}{{{}}}", self.base, labels.join(","));
            if window == self.base { series } else { format!("sum_over_time({series}[{window}])") }
        };
        format!("{} / {}", of(BAD), of(REQUESTS))
    }
}

/// The rules; none if the spec has neither an objective nor the alert on logs.
pub fn build(scope: &Scope) -> Option<Child> {
    let objectives = objectives(scope);
    let mut groups = Vec::new();
    for objective in &objectives {
        groups.push(burning(scope, objective));
        groups.push(remaining(scope, objective));
    }
    groups.extend(logs(scope));
    let groups = list(groups)?;
    Some(scope.child(Kind::PrometheusRule, scope.name.to_owned(), None, json!({"spec": {"groups": groups}})))
}

fn objectives<'a>(scope: &'a Scope) -> Vec<Objective<'a>> {
    let Some(slo) = &scope.spec.slo else { return Vec::new() };
    let source = MetricSource::of(scope);
    let window = slo.window.as_deref().and_then(units::duration);
    let window = window.filter(|window| !window.is_zero()).unwrap_or(WINDOW).max(SHORTEST_OBJECTIVE);
    let base = scaled(BASE, window, SHORTEST);
    let labels =
        |name: &'static str| vec![("namespace", scope.namespace), ("service", scope.name), ("slo", name)];
    let mut objectives = Vec::new();
    if let Some(budget) = slo.availability.as_deref().and_then(budget) {
        let (requests, bad) = (source.requests(&base), source.errors(&base));
        let (name, base) = ("availability", base.clone());
        objectives.push(Objective { name, budget, window, base, labels: labels(name), requests, bad });
    }
    if let Some(latency) = &slo.latency
        && let Some(budget) = budget(&latency.percent)
    {
        let (fast, all) = source.fast(&latency.threshold, &base);
        // Only while there is such a bound: requests of which none is known to be slow would thin out the others.
        let (requests, bad) = (format!("{all} and {fast}"), format!("{all} - {fast}"));
        let name = "latency";
        let mut labels = labels(name);
        // What was slow by another bound says nothing of this one.
        labels.push(("threshold", &latency.threshold));
        objectives.push(Objective { name, budget, window, base, labels, requests, bad });
    }
    objectives
}

/// What `99.99` percent leave: `0.0001`. In whole numbers, so that no digit is lost. `None` if
/// nothing is left, or the text is no percentage.
fn budget(percent: &str) -> Option<String> {
    let (whole, fraction) = percent.split_once('.').unwrap_or((percent, ""));
    let parts: u64 = format!("{whole}{fraction:0<6}").parse().ok()?;
    let left = 100_000_000_u64.checked_sub(parts).filter(|left| *left > 0 && fraction.len() <= 6)?;
    let digits = format!("{left:09}");
    let fraction = digits[1..].trim_end_matches('0');
    Some(if fraction.is_empty() { digits[..1].to_owned() } else { format!("{}.{fraction}", &digits[..1]) })
}

/// The paces of burning that an objective can have: at another one more than all requests would have to be bad, and an alert
/// that waits for that would never be raised (sloth#341).
fn possible(budget: &str) -> impl Iterator<Item = &'static (&'static str, u64, u64, &'static str)> {
    let budget: f64 = budget.parse().unwrap_or_default();
    BURNS.iter().filter(move |(pace, ..)| pace.parse::<f64>().is_ok_and(|pace| pace * budget < 1.0))
}

/// Who is told of no burn of such an objective, `percent` of the requests: `page`, or `page` and `ticket`.
pub fn never_told(percent: &str) -> Vec<&'static str> {
    let Some(budget) = budget(percent) else { return Vec::new() };
    let told: Vec<&str> = possible(&budget).map(|(.., severity)| *severity).collect();
    let mut all: Vec<&str> = BURNS.iter().map(|(.., severity)| *severity).collect();
    all.dedup();
    all.retain(|severity| !told.contains(severity));
    all
}

/// A window of the workbook, brought to the window of the objective, in whole minutes.
fn scaled(minutes: u64, window: Duration, at_least: u64) -> String {
    let scaled = minutes.saturating_mul(window.as_secs()) / WINDOW.as_secs();
    units::display(Duration::from_secs(scaled.max(at_least).saturating_mul(60)))
}

fn burning(scope: &Scope, objective: &Objective) -> Value {
    let window = objective.window;
    let mut rules =
        vec![objective.record(REQUESTS, &objective.requests), objective.record(BAD, &objective.bad)];
    let mut alerts: Vec<(&str, Vec<String>)> = Vec::new();
    for &(pace, long, short, severity) in possible(&objective.budget) {
        // The short window makes the alert end soon after the cause does; it must stay the shorter.
        let (long, short) = (scaled(long, window, 5 * SHORTEST), scaled(short, window, SHORTEST));
        let over = |window: &str| format!("{} > {pace} * {}", objective.share(window), objective.budget);
        let both = format!("({} and {})", over(&long), over(&short));
        match alerts.iter_mut().find(|(known, _)| *known == severity) {
            Some((_, conditions)) => conditions.push(both),
            None => alerts.push((severity, vec![both])),
        }
    }
    for (severity, conditions) in alerts {
        let pace = if severity == "page" { "fast" } else { "steadily" };
        rules.push(json!({
            "alert": "BanyanErrorBudgetBurn",
            "expr": conditions.join(" or "),
            // What is recorded bears the other labels.
            "labels": {"severity": severity, "owner": no_template(&scope.spec.owner)},
            "annotations": {
                "summary": format!("{}/{} burns its error budget for {} {pace}", scope.namespace, scope.name, objective.name),
                "description": format!(
                    "{{{{ $value | humanizePercentage }}}} of requests miss the objective for {}; the budget is {} of them over {}.",
                    objective.name, objective.budget, units::display(window)
                ),
                "runbook": "docs/runbooks/slo-burn.md",
            },
        }));
    }
    json!({"name": format!("{}.{}", scope.name, objective.name), "rules": rules})
}

/// A text that Prometheus, to which labels of alerts are templates, says as it is: one with a query in it would be answered
/// with what others measure.
fn no_template(text: &str) -> String {
    text.replace(['{', '}'], "")
}

/// What is left of the budget over the whole window, which is long: asked seldom.
fn remaining(scope: &Scope, objective: &Objective) -> Value {
    let bad = objective.share(&units::display(objective.window));
    json!({
        "name": format!("{}.{}.budget", scope.name, objective.name),
        "interval": "5m",
        "rules": [{
            "record": "banyan:slo_error_budget_remaining:ratio",
            "expr": format!("1 - {bad} / {}", objective.budget),
        }],
    })
}

/// A rise of error lines: three times as many as over the last day, and more than a handful. The
/// counters are those of the logging libraries' own metrics: logback's and log4j's as Micrometer
/// names them, and `log_messages_total` for others.
fn logs(scope: &Scope) -> Option<Value> {
    let logs = scope.spec.observability.as_ref()?.logs.as_ref()?;
    if !logs.error_rate_alert? {
        return None;
    }
    let own = MetricSource::of(scope);
    let series = format!(
        r#"{{__name__=~"logback_events_total|log4j2_events_total|log_messages_total",level=~"(?i)error|fatal|critical",{}}}"#,
        own.own()
    );
    let expr = format!(
        "sum(rate({series}[10m])) > 3 * (sum(rate({series}[1d] offset 10m)) or vector(0)) and sum(increase({series}[10m])) > 10"
    );
    Some(json!({
        "name": format!("{}.logs", scope.name),
        "rules": [{
            "alert": "BanyanErrorLogs",
            "expr": expr,
            "for": "5m",
            "labels": {
                "namespace": scope.namespace,
                "service": scope.name,
                "severity": "ticket",
                "owner": no_template(&scope.spec.owner),
            },
            "annotations": {
                "summary": format!("{}/{} logs errors three times as often as yesterday", scope.namespace, scope.name),
                "description": "{{ $value | humanize }} error lines a second over the last ten minutes.",
                "runbook": "docs/runbooks/error-logs.md",
            },
        }],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finservice::testing;

    #[test]
    fn faults_5_10_no_alert_waits_for_more_than_all_requests() {
        assert_eq!(never_told("99.9"), [""; 0]);
        // Six times 14 % is less than all, 14.4 times is more: the slower of the two pages.
        assert_eq!(never_told("86"), [""; 0]);
        assert_eq!(never_told("80"), ["page"]);
        let mut spec = testing::rich();
        let slo = spec.slo.as_mut().expect("an objective");
        (slo.availability, slo.latency, slo.window) = (Some("80".to_owned()), None, Some("500ms".to_owned()));
        let rules = build(&testing::scope(&spec)).expect("rules").body.to_string();
        assert!(
            !rules.contains("page") && rules.contains("3 * 0.2") && !rules.contains("6 * 0.2"),
            "{rules}"
        );
        assert!(rules.contains("over 1h"), "{rules}");
    }

    #[test]
    fn faults_4_10_an_owner_is_no_template_of_an_alert() {
        let mut spec = testing::rich();
        spec.owner = r#"{{ with query "up" }}{{ . }}{{ end }}"#.to_owned();
        let rules = build(&testing::scope(&spec)).expect("rules").body["spec"].to_string();
        assert!(rules.contains("with query") && !rules.contains("{{ with"), "{rules}");
    }

    #[test]
    fn budgets_lose_no_digit() {
        for (percent, left) in [
            ("99.99", Some("0.0001")),
            ("99", Some("0.01")),
            ("99.999999", Some("0.00000001")),
            ("0", Some("1")),
        ] {
            assert_eq!(budget(percent).as_deref(), left, "{percent}");
        }
        for wrong in ["100", "100.0", "x", "99.1234567"] {
            assert_eq!(budget(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn windows_are_the_workbooks_for_thirty_days_and_scale_with_others() {
        let day = |days: u64| Duration::from_secs(days * 86_400);
        assert_eq!(scaled(60, day(30), 10), "1h");
        assert_eq!(scaled(4_320, day(30), 10), "72h");
        assert_eq!(scaled(60, day(90), 10), "3h");
        assert_eq!(scaled(5, day(1), 2), "2m");
    }

    #[test]
    fn an_objective_of_a_day_is_counted_over_two_minutes_and_never_over_less() {
        let mut spec = testing::rich();
        spec.slo.as_mut().expect("objectives").window = Some("1d".into());
        let groups = build(&testing::scope(&spec)).expect("rules").body["spec"]["groups"].to_string();
        for window in ["rate2m", "[2m]", "[12m]", "[4m]", "[48m]", "[2h24m]", "[24h]"] {
            assert!(groups.contains(window), "{window}: {groups}");
        }
        for window in ["rate5m", "[1m]", "[0m]"] {
            assert!(!groups.contains(window), "{window}: {groups}");
        }
    }

    #[test]
    fn each_alert_says_who_answers_and_where_to_read() {
        let spec = testing::rich();
        let child = build(&testing::scope(&spec)).expect("rules");
        let groups = child.body["spec"]["groups"].as_array().cloned().unwrap_or_default();
        let alerts: Vec<&Value> = groups
            .iter()
            .flat_map(|group| group["rules"].as_array().into_iter().flatten())
            .filter(|rule| rule.get("alert").is_some())
            .collect();
        assert_eq!(alerts.len(), 5, "page and ticket for both objectives, and the logs");
        for alert in alerts {
            assert_eq!(alert["labels"]["owner"], spec.owner.as_str());
            assert!(
                alert["annotations"]["runbook"]
                    .as_str()
                    .is_some_and(|path| path.starts_with("docs/runbooks/"))
            );
        }
    }

    #[test]
    fn nothing_promised_nothing_ruled() {
        let spec = testing::minimal();
        assert_eq!(build(&testing::scope(&spec)), None);
    }
}
