//! `banyan render` and `banyan diff`: what a FinService becomes, and what a change of it would do, without a cluster.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::documents::{self, DocumentError};
use crate::api::{FinService, Problem, Severity};
use crate::finservice::rendered::{Rendered, differences, rendered};
use crate::terminal::output::Output;

/// A site for FinServices that do not say where they are to be.
const ANYWHERE: &str = "site";

/// What is rendered.
#[derive(Clone, Debug, Args)]
pub struct RenderOptions {
    /// A file with FinServices, a folder, or - for standard input
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    /// The site: what `sites` overrides there, and whether `placement` names it [default: the first that `placement` names]
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// How it is printed: the objects as YAML with the problems before them, or all as JSON
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What is compared.
#[derive(Clone, Debug, Args)]
pub struct DiffOptions {
    /// The file as it is
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The file as it is to be
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// The site: what `sites` overrides there, and whether `placement` names it [default: the first that `placement` names]
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Why nothing was printed.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The files.
    #[error(transparent)]
    Documents(#[from] DocumentError),
    /// It has no YAML form.
    #[error("cannot write an object as YAML: {0}")]
    Yaml(#[from] serde_norway::Error),
    /// It has no JSON form.
    #[error("cannot write an object as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Prints what FinServices become.
///
/// # Errors
/// If a file holds none, or the API server would refuse one.
pub fn render(options: &RenderOptions) -> Result<(), RenderError> {
    let mut answers = Vec::new();
    for service in documents::services(&options.filename)? {
        let title = title(&service);
        let site = site(options.site.as_deref(), &service);
        let shown = rendered(service, &site);
        match options.output {
            Output::Table => print!("{}", yaml(&title, &shown)?),
            Output::Json => answers.push(json!({
                "service": title,
                "revision": shown.revision,
                "problems": shown.problems,
                "reasons": shown.reasons,
                "objects": shown.objects.iter().map(|child| &child.body).collect::<Vec<_>>(),
            })),
        }
    }
    if options.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&answers)?);
    }
    Ok(())
}

/// The site that is wanted; else the first at which a FinService is to be. One without `placement` is everywhere.
fn site(wanted: Option<&str>, service: &FinService) -> String {
    let placed = service.spec.placement.iter().flatten().next();
    wanted.or(placed.map(|placed| placed.cluster.as_str())).unwrap_or(ANYWHERE).to_owned()
}

fn title(service: &FinService) -> String {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    format!("{}/{name}", service.metadata.namespace.as_deref().unwrap_or("default"))
}

fn yaml(title: &str, shown: &Rendered) -> Result<String, RenderError> {
    let mut text = format!("# FinService {title}\n");
    for Problem { source, severity, message, remedy } in &shown.problems {
        text.push_str(&format!("# {severity:?} {source}: {message}\n#   {remedy}\n"));
    }
    if shown.objects.is_empty() {
        shown.reasons.iter().for_each(|reason| text.push_str(&format!("# nothing here: {reason}\n")));
    }
    for child in &shown.objects {
        text.push_str("---\n");
        text.push_str(&serde_norway::to_string(&child.body)?);
    }
    Ok(text)
}

/// Prints what a change would do.
///
/// # Errors
/// If a file holds no FinService, or the API server would refuse one.
pub fn diff(options: &DiffOptions) -> Result<(), RenderError> {
    let read = |path: &PathBuf| documents::services(std::slice::from_ref(path));
    let (old, new) = (read(&options.old)?, read(&options.new)?);
    let changes = changes(old, new, options.site.as_deref());
    match options.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&changes)?),
        Output::Table => print!("{}", table(&changes)),
    }
    Ok(())
}

fn changes(old: Vec<FinService>, new: Vec<FinService>, wanted: Option<&str>) -> Vec<Value> {
    let names: BTreeSet<String> = old.iter().chain(&new).map(title).collect();
    let find = |of: &[FinService], name: &str| of.iter().find(|service| title(service) == name).cloned();
    let of = |name: &String| {
        let (before, after) = (find(&old, name), find(&new, name));
        // One site for both: what leaves it is a change.
        let site =
            after.as_ref().or(before.as_ref()).map(|service| site(wanted, service)).unwrap_or_default();
        let shown = |service: Option<FinService>| {
            service.map_or_else(Rendered::default, |service| rendered(service, &site))
        };
        let gone = after.is_none();
        let made = before.is_none();
        let (before, after) = (shown(before), shown(after));
        let found = differences(&before, &after);
        let rolls = before.revision != after.revision;
        let effect = match (made, gone) {
            (true, _) => "made",
            (_, true) => "deleted, with everything but what was handed over and retained topics",
            _ if rolls => "a new revision: it rolls out",
            _ if found.is_empty() => "nothing",
            _ => "in force at once, and no pod is restarted",
        };
        let news: Vec<&Problem> = after
            .problems
            .iter()
            .filter(|problem| !before.problems.contains(problem) && problem.severity != Severity::Info)
            .collect();
        json!({"service": name, "effect": effect, "changes": found, "problems": news})
    };
    names.iter().map(of).collect()
}

fn table(changes: &[Value]) -> String {
    let mut text = String::new();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for change in changes {
        text.push_str(&format!("{}: {}\n", word(&change["service"]), word(&change["effect"])));
        for line in change["changes"].as_array().into_iter().flatten() {
            text.push_str(&format!("  {}\n", word(line)));
        }
        for problem in change["problems"].as_array().into_iter().flatten() {
            let [severity, source, message, remedy] =
                ["severity", "source", "message", "remedy"].map(|field| word(&problem[field]));
            text.push_str(&format!("  {severity} {source}: {message}\n    {remedy}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(more: Value) -> Vec<FinService> {
        let mut spec = json!({"owner": "team", "image": "app:1", "ports": [{"name": "http", "port": 8080}],
            "access": {"outbound": {}}});
        spec.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        let object = json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
            "metadata": {"name": "app", "namespace": "pay"}, "spec": spec});
        vec![documents::service(&object).expect("a FinService")]
    }

    #[test]
    fn a_change_says_whether_pods_are_replaced() {
        let effect = |old: Value, new: Value| {
            let changes = changes(service(old), service(new), Some("here"));
            changes[0]["effect"].as_str().expect("words").to_owned()
        };
        assert_eq!(effect(json!({}), json!({})), "nothing");
        assert_eq!(effect(json!({}), json!({"image": "app:2"})), "a new revision: it rolls out");
        let scale = json!({"scale": {"min": 2, "max": 9}, "resources": {"requests": {"cpu": "1"}}});
        let more = json!({"scale": {"min": 2, "max": 12}, "resources": {"requests": {"cpu": "1"}}});
        assert_eq!(effect(scale, more), "in force at once, and no pod is restarted");
    }

    #[test]
    fn a_service_is_shown_where_it_is_placed() {
        let placed = |image: &str| {
            service(json!({"image": image, "placement": [{"cluster": "aws"}, {"cluster": "gcp"}]}))
        };
        let effect = |wanted| changes(placed("app:1"), placed("app:2"), wanted)[0]["effect"].clone();
        assert_eq!(effect(None), "a new revision: it rolls out");
        assert_eq!(effect(Some("gcp")), "a new revision: it rolls out");
        assert_eq!(effect(Some("elsewhere")), "nothing");
    }

    #[test]
    fn new_problems_are_told_with_the_change() {
        let short = json!({"terminationGracePeriod": "5s"});
        let text = table(&changes(service(json!({})), service(short), Some("here")));
        assert!(text.contains("Warning spec.preStop.sleep"), "{text}");
        assert!(text.contains("terminationGracePeriodSeconds: nothing -> 5"), "{text}");
    }
}
