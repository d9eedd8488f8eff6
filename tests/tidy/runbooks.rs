//! Each reason for which a move waits has its runbook, and each runbook of a reason has one that waits for it.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};

use crate::{files, name, read, root};

/// What a runbook of a reason has, in this order.
const PARTS: [&str; 4] = ["**What it says.**", "## Look", "## Type", "## Do not"];

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
        ["decide.rs", "outcome.rs", "rehearse.rs", "view.rs", "worker.rs"]
            .map(|file| root().join("src/failover").join(file)),
    );
    for path in all {
        let tokens = read(&path).parse().unwrap_or_else(|error| panic!("{}: {error}", name(&path)));
        words(tokens, &mut found);
    }
    found
}

/// The pages that bear the name of a reason.
fn pages() -> BTreeSet<String> {
    let named = files(&["docs/runbooks"], &["md"]);
    let stems = named.iter().filter_map(|path| path.file_stem()?.to_str());
    let of_reason =
        |stem: &&str| *stem != "README" && stem.starts_with(|first: char| first.is_ascii_uppercase());
    stems.filter(of_reason).map(str::to_owned).collect()
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
