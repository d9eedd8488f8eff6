//! What review would have to watch for otherwise: purity, size, leftovers, and links that lead nowhere.

use std::path::{Path, PathBuf};

mod floors;
mod imports;
mod runbooks;

/// Files of `src/` with these names decide: their headers say that they are pure.
const DECIDE: [&str; 4] = ["decide.rs", "status.rs", "revision.rs", "refusal.rs"];
/// Crates that only code with effects has a use for, or how their names begin.
const IMPURE_CRATES: [&str; 8] =
    ["tokio", "reqwest", "axum", "hyper", "aws_config", "aws_sdk", "aws_sigv4", "google_cloud"];
/// Names that only code with effects has a use for, as they end a path.
const IMPURE: [&str; 16] = [
    "kube::Client",
    "kube::Api",
    "kube::client",
    "kube::api::Api",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "std::env",
    "std::fs",
    "net::TcpStream",
    "net::TcpListener",
    "net::UdpSocket",
    "std::process",
    "std::thread",
    "std::io",
];
/// Longest file of ours, in lines.
const LONGEST: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below these folders of the repository whose names end so, in order.
fn files(folders: &[&str], extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|end| extensions.iter().any(|extension| end == *extension)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The path as people say it, from the root of the repository.
fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// What the first comment of a file says.
fn header(path: &Path) -> String {
    read(path).lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n")
}

/// Whether a file says of itself that it is pure, or its folder does.
fn is_pure(path: &Path) -> bool {
    let says = |path: &Path| {
        path.exists() && header(path).split([' ', '\n']).any(|word| ["Pure.", "Pure:"].contains(&word))
    };
    says(path)
        || path
            .ancestors()
            .skip(1)
            .take_while(|folder| *folder != root())
            .any(|folder| says(&folder.join("mod.rs")))
}

/// What a path names that only code with effects has a use for.
fn impure(path: &[String]) -> Option<String> {
    let text = path.join("::");
    let by_crate = path.len() > 1
        && IMPURE_CRATES.iter().any(|name| path[0] == *name || path[0].starts_with(&format!("{name}_")));
    let by_name = IMPURE.iter().any(|name| {
        text.ends_with(name) || text.contains(&format!("{name}::")) || text.ends_with(&format!("::{name}"))
    });
    (by_crate || by_name).then_some(text)
}

/// Lines of these files that hold one of the words.
fn lines_with(files: &[PathBuf], words: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for path in files {
        for (number, line) in read(path).lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(word.as_str())) {
                found.push(format!("{}:{}: {word}", name(path), number + 1));
            }
        }
    }
    found
}

#[test]
fn what_is_called_pure_does_no_io_and_asks_no_clock() {
    let all = files(&["src"], &["rs"]);
    let pure: Vec<&PathBuf> = all.iter().filter(|path| is_pure(path)).collect();
    assert!(pure.len() >= 80, "the rule must find what it is about: {pure:?}");
    let mut found = Vec::new();
    for path in pure {
        let named = imports::named(&read(path), &[]);
        found.extend(
            named.iter().filter_map(|path| impure(path)).map(|what| format!("{}: {what}", name(path))),
        );
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn what_decides_is_called_pure() {
    let decides =
        |path: &&PathBuf| !floors::is_for_tests(path) && DECIDE.iter().any(|name| path.ends_with(name));
    let all = files(&["src"], &["rs"]);
    let silent: Vec<String> =
        all.iter().filter(decides).filter(|path| !is_pure(path)).map(|path| name(path)).collect();
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = files(&["src", "benches", "tests"], &["rs"])
        .into_iter()
        .map(|path| (name(&path), read(&path).lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(path, lines)| format!("{path} has {lines} lines of at most {LONGEST}"))
        .collect();
    assert_eq!(long, Vec::<String>::new());
}

#[test]
fn nothing_is_left_for_later_and_no_test_is_left_out() {
    // Put together, so that this file does not hold what it looks for.
    let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X:"], ["todo", "!("], ["unimplemented", "!("]];
    let mut words: Vec<String> = words.iter().map(|parts| parts.concat()).collect();
    words.push(["#[ign", "ore"].concat());
    assert_eq!(lines_with(&files(&["src", "tests", "benches"], &["rs"]), &words), Vec::<String>::new());
}

#[test]
fn nothing_depends_on_one_machine() {
    let folders = ["src", "tests", "benches", "examples", "docs", "charts", "crds"];
    let words: Vec<String> = ["root", "home", "Users", "work"].iter().map(|top| format!("/{top}/")).collect();
    let mut found = lines_with(&files(&folders, &["rs", "go", "yaml", "md", "txt", "tpl", "json"]), &words);
    // The path of a web page is none of a machine.
    found.retain(|line| !line.starts_with("tests/tidy/main.rs:"));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn lints_that_the_rules_rest_on_are_on() {
    let manifest = read(&root().join("Cargo.toml"));
    for lint in ["unsafe_code = \"forbid\"", "missing_docs = \"warn\""] {
        assert!(manifest.contains(lint), "Cargo.toml lacks `{lint}`");
    }
    let check = read(&root().join(".ci/run"));
    for step in ["cargo fmt --check", "-D warnings", "cargo test"] {
        assert!(check.contains(step), ".ci/run lacks `{step}`");
    }
}

/// Targets of Markdown links in a text, without those to other sites and without fragments.
fn links(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    let mut pages = files(&["docs", "examples", "charts"], &["md"]);
    pages.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|page| root().join(page)));
    let mut dead = Vec::new();
    let mut seen = 0;
    for page in &pages {
        let text = read(page);
        for target in links(&text) {
            seen += 1;
            let folder = page.parent().unwrap_or(root());
            if !folder.join(target).exists() {
                dead.push(format!("{}: {target}", name(page)));
            }
        }
    }
    assert!(seen > 10, "only {seen} links were found in {} pages", pages.len());
    assert_eq!(dead, Vec::<String>::new());
}

#[test]
fn every_runbook_that_an_alert_names_is_there() {
    for path in files(&["src"], &["rs"]) {
        let text = read(&path);
        for rest in text.split("runbooks/").skip(1) {
            let page: String =
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
            if page.ends_with(".md") {
                let book = root().join("docs/runbooks").join(&page);
                assert!(book.exists(), "{} names docs/runbooks/{page}, which is not there", name(&path));
            }
        }
    }
}

#[test]
fn every_test_that_a_page_promises_is_there() {
    tests_of("docs/wounds.md", 40);
    tests_of("docs/security.md", 30);
}

/// Each test that the last column of a page's tables names is there, and they are so many at the least.
fn tests_of(page: &str, least: usize) {
    let page = read(&root().join(page));
    let code: String = files(&["src", "tests"], &["rs"]).iter().map(|path| read(path)).collect();
    let mut named = 0;
    let mut missing = Vec::new();
    // The last column of each row, between backticks.
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        for test in tests.split('`').skip(1).step_by(2) {
            named += 1;
            let story = root().join(format!("tests/goldens/canary/{test}.yaml"));
            if !story.exists() && !code.contains(&format!("fn {test}(")) {
                missing.push(test.to_owned());
            }
        }
    }
    assert!(named >= least, "only {named} tests were found in the table");
    assert_eq!(missing, Vec::<String>::new());
}
