//! Layers: which top-level module may import which, and that no two files import each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::imports::named;
use crate::{files, name, read, root};

/// The top-level modules from the top floor to the ground. A module imports from below it alone.
const FLOORS: [&str; 22] = [
    "cli",
    "sandbox",
    "failover",
    "failovergroup",
    "finservice",
    "feature_flags",
    "import",
    "cloudcluster",
    "authority",
    "clouds",
    "dns",
    "canary",
    "judge",
    "signals",
    "actions",
    "witness",
    "stores",
    "notifications",
    "runtime",
    "terminal",
    "evidence",
    "api",
];
/// What begins and ends the drawing in ARCHITECTURE.md.
const DRAWN: [&str; 2] = ["<!-- imports: begin -->\n", "<!-- imports: end -->"];

/// The path of a module, by its file.
fn module_of(path: &Path) -> Vec<String> {
    let inside = path.strip_prefix(root().join("src")).unwrap().with_extension("");
    let mut parts: Vec<String> =
        inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    parts.retain(|part| !["mod", "lib", "main"].contains(&part.as_str()));
    parts
}

/// Whether a file is for tests alone.
pub fn is_for_tests(path: &Path) -> bool {
    let text = name(path);
    text.ends_with("_tests.rs") || ["/tests/", "/testing", "/fake"].iter().any(|part| text.contains(part))
}

/// Files of the product, by their modules.
fn modules() -> BTreeMap<Vec<String>, PathBuf> {
    let all = files(&["src"], &["rs"]).into_iter().filter(|path| !is_for_tests(path));
    all.map(|path| (module_of(&path), path)).collect()
}

/// Which modules each one imports from.
fn imports() -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let modules = modules();
    let target = |path: &[String]| {
        (0..=path.len()).rev().map(|length| path[..length].to_vec()).find(|part| modules.contains_key(part))
    };
    let of = |module: &Vec<String>, path: &PathBuf| {
        let named = named(&read(path), module);
        let inside = named.iter().filter(|path| path[0] == "crate").filter_map(|path| target(&path[1..]));
        inside.filter(|other| other != module).collect::<BTreeSet<_>>()
    };
    modules.iter().map(|(module, path)| (module.clone(), of(module, path))).collect()
}

/// The same between top-level modules.
fn floors() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, others) in imports() {
        let Some(top) = module.first() else { continue };
        let others = others.into_iter().filter_map(|other| other.first().cloned());
        found.entry(top.clone()).or_default().extend(others.filter(|other| other != top));
    }
    found
}

fn floor(module: &str) -> usize {
    FLOORS.iter().position(|known| *known == module).unwrap_or_else(|| {
        panic!(
            "src/{module} has no floor: give it one in tests/tidy/floors.rs, below all that import from it"
        )
    })
}

/// What can be reached from a module, by more than one step.
fn far(floors: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let near = &floors[from];
    let mut found = BTreeSet::new();
    let mut open: Vec<&String> = near.iter().collect();
    while let Some(next) = open.pop() {
        open.extend(floors[next].iter().filter(|other| found.insert((*other).clone())));
    }
    found
}

/// The drawing: an arrow for each import that does not follow from others, and a line for each module.
fn drawn(floors: &BTreeMap<String, BTreeSet<String>>) -> String {
    let mut arrows = String::from("```mermaid\nflowchart TD\n");
    let mut lines = String::new();
    for module in FLOORS {
        let (near, far) = (&floors[module], far(floors, module));
        let mut sorted: Vec<&String> = near.iter().collect();
        sorted.sort_by_key(|other| floor(other));
        for other in sorted.iter().filter(|other| !far.contains(**other)) {
            arrows.push_str(&format!("  {module} --> {other}\n"));
        }
        let all: Vec<String> = sorted.iter().map(|other| format!("`{other}`")).collect();
        let all = if all.is_empty() { "nothing of ours".to_owned() } else { all.join(", ") };
        lines.push_str(&format!("| `{module}` | {all} |\n"));
    }
    format!("{arrows}```\n\n| module | imports from |\n|---|---|\n{lines}")
}

#[test]
fn a_module_imports_from_the_floors_below_alone_and_the_drawing_says_so() {
    let floors = floors();
    let known: BTreeSet<&str> = FLOORS.into_iter().collect();
    let there: BTreeSet<&str> = floors.keys().map(String::as_str).collect();
    assert_eq!(there, known, "each folder of src has a floor in tests/tidy/floors.rs");
    let upwards: Vec<String> = floors
        .iter()
        .flat_map(|(module, others)| others.iter().map(move |other| (module, other)))
        .filter(|(module, other)| floor(other) <= floor(module))
        .map(|(module, other)| format!("{module} imports from {other}, which stands above it"))
        .collect();
    assert_eq!(upwards, Vec::<String>::new());

    let page = root().join("ARCHITECTURE.md");
    let text = read(&page);
    let begin = text.find(DRAWN[0]).expect("ARCHITECTURE.md has the drawing") + DRAWN[0].len();
    let end = text.find(DRAWN[1]).expect("the drawing ends");
    let drawn = drawn(&floors);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&page, format!("{}{drawn}{}", &text[..begin], &text[end..])).unwrap();
        return;
    }
    assert_eq!(text[begin..end], drawn, "draw it anew: UPDATE_EXPECT=1 cargo test --test tidy");
}

/// A circle of files, if there is one. What a folder's `mod.rs` hands on is not counted: it names its own files.
#[test]
fn no_files_import_each_other_in_a_circle() {
    let modules = modules();
    let is_folder = |module: &Vec<String>| module.is_empty() || modules[module].ends_with("mod.rs");
    let imports = imports();
    let mut done: BTreeSet<&Vec<String>> = BTreeSet::new();
    let mut circles = Vec::new();
    for from in imports.keys() {
        let mut path = Vec::new();
        visit(from, &imports, &is_folder, &mut path, &mut done, &mut circles);
    }
    assert_eq!(circles, Vec::<String>::new());
}

fn visit<'a>(
    module: &'a Vec<String>,
    imports: &'a BTreeMap<Vec<String>, BTreeSet<Vec<String>>>,
    is_folder: &impl Fn(&Vec<String>) -> bool,
    path: &mut Vec<&'a Vec<String>>,
    done: &mut BTreeSet<&'a Vec<String>>,
    circles: &mut Vec<String>,
) {
    if is_folder(module) || done.contains(module) {
        return;
    }
    if let Some(begin) = path.iter().position(|on_path| *on_path == module) {
        let circle: Vec<String> = path[begin..].iter().map(|module| module.join("::")).collect();
        circles.push(circle.join(" → "));
        return;
    }
    path.push(module);
    for other in &imports[module] {
        visit(other, imports, is_folder, path, done, circles);
    }
    path.pop();
    done.insert(module);
}
