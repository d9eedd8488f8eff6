//! Each reason for which a move waits has its runbook, and each runbook of a reason has one that waits for it. So has each
//! alert.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};

use crate::{files, name, read, root};
use serde_json::Value;

/// What a runbook of a reason has, in this order.
const PARTS: [&str; 4] = ["**What it says.**", "## Look", "## Type", "## Do not"];
/// What a runbook of an alert has, in this order.
const PARTS_OF_ALERT: [&str; 5] = [
    "**What it says.**",
    "\n## First\n",
    "\n## Then\n",
    "\n## What Banyan does",
    "\n## If the alert is wrong\n",
];

/// Text literals of one capitalised word, wherever they stand.
fn words(tokens: TokenStream, found: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => words(group.stream(), found),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let word = text.trim_matches('"');
                let camel = word.starts_with(|first: char| first.is_ascii_uppercase())
                    && word.chars().all(|letter| letter.is_ascii_alphabetic())
                    && word.chars().any(|letter| letter.is_ascii_lowercase());
                if text.starts_with('"') && camel {
                    found.insert(word.to_owned());
                }
            }
            _ => {}
        }
    }
}

/// The reasons that the code of moves names: where it decides, and where it acts.
fn reasons() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut all = files(&["src/failover/act"], &["rs"]);
    all.extend(
        ["decide.rs", "hooks.rs", "nodes.rs", "outcome.rs", "rehearse.rs", "view.rs", "worker.rs"]
            .map(|file| root().join("src/failover").join(file)),
    );
    for path in all {
        let tokens = read(&path).parse().unwrap_or_else(|error| panic!("{}: {error}", name(&path)));
        words(tokens, &mut found);
    }
    found
}

/// The pages of alerts, which begin with a small letter, or those that bear the name of a reason.
fn named(of_alerts: bool) -> BTreeSet<String> {
    let all = files(&["docs/runbooks"], &["md"]);
    let stems = all.iter().filter_map(|path| path.file_stem()?.to_str()).filter(|stem| *stem != "README");
    stems
        .filter(|stem| stem.starts_with(|first: char| first.is_ascii_lowercase()) == of_alerts)
        .map(str::to_owned)
        .collect()
}

/// The pages that bear the name of a reason.
fn pages() -> BTreeSet<String> {
    named(false)
}

/// The alerts of the chart and of FinServices: the page that each one names, and its severities.
fn alerts() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let stem = |path: &str| {
        let page = path.strip_prefix("docs/runbooks/").and_then(|page| page.strip_suffix(".md"));
        page.unwrap_or_else(|| panic!("{path} is no page of docs/runbooks")).to_owned()
    };
    let mut found: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let text = read(&root().join("charts/banyan/files/alerts.yaml"));
    let rules: Value = serde_norway::from_str(&text).unwrap();
    for rule in
        rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap())
    {
        let word = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{rule}")).to_owned();
        let page = stem(&word(&rule["annotations"]["runbook_url"]));
        let severities = BTreeSet::from([word(&rule["labels"]["severity"])]);
        assert!(found.insert(word(&rule["alert"]), (page, severities)).is_none(), "{rule} is there twice");
    }
    // Those of each FinService, as an example has them.
    for path in files(&["tests/goldens/children"], &["yaml", "json"]) {
        for object in serde_norway::Deserializer::from_str(&read(&path)) {
            let Ok(object) = <Value as serde::Deserialize>::deserialize(object) else { continue };
            of_service(&object, &mut |rule| {
                let word = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{rule}")).to_owned();
                let page = stem(&word(&rule["annotations"]["runbook"]));
                let known = found.entry(word(&rule["alert"])).or_insert((page, BTreeSet::new()));
                known.1.insert(word(&rule["labels"]["severity"]));
            });
        }
    }
    found
}

/// Hands over each rule in a value that is an alert.
fn of_service(value: &Value, on: &mut impl FnMut(&Value)) {
    match value {
        Value::Object(map) if map.contains_key("alert") => on(value),
        Value::Object(map) => map.values().for_each(|value| of_service(value, on)),
        Value::Array(list) => list.iter().for_each(|value| of_service(value, on)),
        _ => {}
    }
}

#[test]
fn each_reason_for_which_a_move_waits_has_its_runbook_and_each_runbook_its_reason() {
    let reasons = reasons();
    assert!(
        reasons.contains("NotFenced") && reasons.len() >= 20,
        "the rule must find what it is about: {reasons:?}"
    );
    assert_eq!(reasons, pages(), "docs/runbooks has a page REASON.md for each reason in src/failover");
}

#[test]
fn each_runbook_of_a_reason_has_the_same_form_and_stands_in_the_list() {
    let list = read(&root().join("docs/runbooks/README.md"));
    for page in pages() {
        let text = read(&root().join(format!("docs/runbooks/{page}.md")));
        assert!(text.starts_with(&format!("# {page}\n")), "{page}.md begins with its reason");
        let places: Vec<_> = PARTS.iter().map(|part| text.find(part)).collect();
        assert!(
            places.is_sorted() && places.iter().all(Option::is_some),
            "{page}.md has {PARTS:?}: {places:?}"
        );
        assert!(list.contains(&format!("| [{page}]({page}.md) |")), "README.md lists {page}");
    }
}

#[test]
fn each_alert_has_its_runbook_and_each_runbook_its_alert() {
    let (alerts, list) = (alerts(), read(&root().join("docs/runbooks/README.md")));
    assert!(alerts.contains_key("BanyanErrorLogs") && alerts.contains_key("BanyanNoLeader"), "{alerts:?}");
    let pages: BTreeSet<String> = alerts.values().map(|(page, _)| page.clone()).collect();
    assert_eq!(pages, named(true), "docs/runbooks has a page for each alert");
    for (alert, (page, severities)) in &alerts {
        let text = read(&root().join(format!("docs/runbooks/{page}.md")));
        assert!(text.starts_with(&format!("# {alert}\n")), "{page}.md begins with {alert}");
        let places: Vec<_> = PARTS_OF_ALERT.iter().map(|part| text.find(part)).collect();
        assert!(
            places.is_sorted() && places.iter().all(Option::is_some),
            "{page}.md has {PARTS_OF_ALERT:?}: {places:?}"
        );
        let severities: Vec<&str> = severities.iter().map(String::as_str).collect();
        let row = format!("| `{alert}` | {} | [{page}]({page}.md) |", severities.join(", "));
        assert!(list.contains(&row), "README.md lists {row}");
    }
}
