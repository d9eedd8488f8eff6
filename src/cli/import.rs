//! `banyan import`: FinServices from what runs already.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::cluster::ClusterArgs;
use super::documents::{self, DocumentError};
use super::objects::{self, ReadError};
use crate::api::labels::SERVICE_LABEL;
use crate::import::{Imported, Note, Taken, Weight, Wishes, import};
use crate::runtime::client::{self, ClientError};
use crate::runtime::metrics::Metrics;
use crate::terminal::output::Output;

/// What is imported, and how.
#[derive(Clone, Debug, Args)]
pub struct ImportOptions {
    /// Manifests: a file, a folder, or - for standard input [default: what runs in the namespace]
    #[arg(short, long = "filename", value_name = "FILE")]
    filename: Vec<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The namespace that is read, without --filename [default: the context's]
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// The team that answers for the services
    #[arg(long, value_name = "TEAM")]
    owner: String,
    /// Who carries traffic; with it, Ingresses become spec.ingress
    #[arg(long, value_enum)]
    provider: Option<Provider>,
    /// The gateway that hosts are routed from [default: that of the HTTPRoute or VirtualService]
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "provider")]
    gateway: Option<String>,
    /// A Deployment that stays as it is, such as a database; may be repeated
    #[arg(long, value_name = "NAME")]
    except: Vec<String>,
    /// How it is printed: FinServices as YAML with the notes before each, or all as JSON
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Who carries traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Provider {
    /// Istio's VirtualServices
    Istio,
    /// Gateway API's HTTPRoutes
    #[value(name = "gateway-api")]
    GatewayAPI,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The files.
    #[error(transparent)]
    Documents(#[from] DocumentError),
    /// The cluster cannot be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The cluster does not answer as it should.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no Deployment.
    #[error("there is no Deployment in {0}; name a file with -f, or a namespace with -n")]
    Nothing(String),
    /// It has no YAML form.
    #[error("cannot write a FinService as YAML: {0}")]
    Yaml(#[from] serde_norway::Error),
    /// It has no JSON form.
    #[error("cannot write the answer as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What is read of a cluster; the last of each are there only where they are installed.
const KINDS: [(&str, &str, &str); 9] = [
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "StatefulSet"),
    ("", "v1", "Service"),
    ("", "v1", "ServiceAccount"),
    ("", "v1", "ConfigMap"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("networking.k8s.io", "v1", "Ingress"),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
    ("networking.istio.io", "v1", "VirtualService"),
];

/// Prints FinServices.
///
/// # Errors
/// If nothing could be read, or there is no Deployment.
pub async fn main(options: ImportOptions) -> Result<(), ImportError> {
    let (objects, place) = match options.filename.as_slice() {
        [] => of_cluster(&options).await?,
        files => {
            let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            (documents::objects(files)?, names.join(", "))
        }
    };
    let provider = options.provider.map(|provider| format!("{provider:?}"));
    let wishes = Wishes { owner: options.owner, provider, gateway: options.gateway, except: options.except };
    let imported = import(objects, &wishes);
    if imported.services.is_empty() {
        return Err(ImportError::Nothing(place));
    }
    match options.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&imported)?),
        Output::Table => {
            print!("{}", yaml(&imported)?);
            eprint!("{}", summary(&imported));
        }
    }
    Ok(())
}

async fn of_cluster(options: &ImportOptions) -> Result<(Vec<Value>, String), ImportError> {
    let client = client::connect(&options.cluster.target(), Metrics::default()).await?;
    let namespace = options.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let mut objects = Vec::new();
    for kind in KINDS {
        // What Banyan has made is none of it.
        for mut object in objects::list(&client, &namespace, kind, &format!("!{SERVICE_LABEL}")).await? {
            object.metadata.managed_fields = None;
            let mut value = serde_json::to_value(&object)?;
            value["status"] = Value::Null;
            objects.push(value);
        }
    }
    Ok((objects, format!("namespace {namespace}")))
}

fn yaml(imported: &Imported) -> Result<String, ImportError> {
    let mut text = String::new();
    for note in &imported.left {
        let _ = writeln!(text, "# {}", line(note));
    }
    for Taken { service, notes } in &imported.services {
        text.push_str("---\n");
        for note in notes {
            let _ = writeln!(text, "# {}", line(note));
        }
        // By its type, so that fields stand in the order of the reference.
        match documents::service(service) {
            Ok(service) => text.push_str(&serde_norway::to_string(&service)?),
            Err(error) => {
                let _ = writeln!(text, "# Lost: the API server would refuse it: {error}");
                text.push_str(&serde_norway::to_string(service)?);
            }
        }
    }
    Ok(text)
}

fn line(note: &Note) -> String {
    let field = if note.field.is_empty() { String::new() } else { format!(" {}", note.field) };
    format!("{:?}: {}{field}: {}", note.weight, note.object, note.message)
}

fn summary(imported: &Imported) -> String {
    let count = |weight: Weight| {
        let notes = imported.services.iter().flat_map(|taken| &taken.notes).chain(&imported.left);
        notes.filter(|note| note.weight == weight).count()
    };
    format!(
        "{} FinServices; {} fields lost, {} things to decide, {} that are done in another way: the comments say which.\n\
         Next: read them, look at what comes of it with `kubectl banyan render -f FILE`, apply, and hand over each old object \
         with `kubectl annotate service,deployment NAME banyan.dev/adopt=NAME`.\n",
        imported.services.len(),
        count(Weight::Lost),
        count(Weight::Decide),
        count(Weight::Changed)
    )
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;
    use crate::api::Severity;
    use crate::finservice::rendered::rendered;

    fn imported(file: &str, except: &[&str]) -> Imported {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(file);
        let objects = documents::objects(&[path]).expect("manifests");
        let except = except.iter().map(|name| (*name).to_owned()).collect();
        import(objects, &Wishes { owner: "team".to_owned(), except, ..Wishes::default() })
    }

    /// Three public applications: no field that they need is lost, and every FinService is one that the API server takes and
    /// that can begin.
    #[test]
    fn public_applications_lose_nothing_that_they_need() {
        let databases = ["carts-db", "orders-db", "user-db", "catalogue-db", "session-db", "rabbitmq"];
        for (name, except, services) in
            [("bank", &[][..], 7), ("boutique", &["redis-cart"], 11), ("socks", &databases, 8)]
        {
            let imported = imported(&format!("{name}.yaml"), except);
            assert_eq!(imported.services.len(), services, "{name}");
            let text = yaml(&imported).expect("YAML");
            assert!(!text.contains("# Lost"), "{text}");
            for taken in &imported.services {
                let service = documents::service(&taken.service).expect("a FinService");
                let shown = rendered(service, "here");
                // A ConfigMap that all read names all: whoever may call in a ring is told so.
                let wrong = shown.problems.iter().filter(|problem| {
                    problem.severity != Severity::Info
                        && !problem.message.starts_with("calls go round in a ring")
                });
                assert_eq!(wrong.collect::<Vec<_>>(), Vec::<&crate::api::Problem>::new(), "{name}");
                assert!(!shown.objects.is_empty(), "{:?}", shown.reasons);
            }
            let path = format!("{}/tests/goldens/import/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
            expect_file![path].assert_eq(&text);
        }
    }

    #[test]
    fn a_database_that_runs_as_root_says_what_it_would_lose() {
        let imported = imported("socks.yaml", &[]);
        let summary = summary(&imported);
        assert!(summary.starts_with("14 FinServices; 19 fields lost"), "{summary}");
    }
}
