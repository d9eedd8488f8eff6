//! `banyan give-back`: the way back from a FinService to what was handed over to it, without a gap.
//!
//! It speaks to the API server alone, with the caller's own rights: pods first, then the Service, and nothing is deleted
//! unless that is asked for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde::Serialize;
use serde_json::{Value, json};

use super::api_error::words;
use super::canary::duration;
use super::cluster::ClusterArgs;
use crate::api::finservice::Traffic;
use crate::api::labels::{
    ADOPT_ANNOTATION, ADOPTED_FROM_ANNOTATION, HANDED_OVER_ANNOTATION, MANAGED_BY_LABEL, PAUSE_ANNOTATION,
    REPLICAS_BEFORE_ANNOTATION, RETIRED_ANNOTATION, SERVICE_LABEL,
};
use crate::api::{FinService, units};
use crate::finservice::children::handed_over::Before;
use crate::runtime::client::{self, ClientError};
use crate::runtime::metrics::Metrics;
use crate::terminal::output::Output;

/// How long proxies get to hear that requests go elsewhere, before the pods that had them may go.
const HEARD: Duration = Duration::from_secs(30);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// What is given back, and where.
#[derive(Clone, Debug, Args)]
pub struct GiveBackOptions {
    /// The name of the FinService
    name: String,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Its namespace [default: the context's]
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// Delete the FinService afterwards, with all that it made
    #[arg(long)]
    delete: bool,
    /// How long the old pods may take to be Ready
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    timeout: Duration,
    /// How it is printed
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Why it was not given back.
#[derive(Debug, thiserror::Error)]
pub enum GiveBackError {
    /// The cluster cannot be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The cluster refused something.
    #[error(
        "cannot {what}: {}; run the command again once that is mended: it goes on where it stopped",
        words(.source)
    )]
    Cluster {
        /// What.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Nothing was handed over.
    #[error(
        "nothing in namespace {namespace} was handed over to FinService {name} (annotation banyan.dev/adopt); if it is to go, delete it with `kubectl -n {namespace} delete finservice {name}`"
    )]
    Nothing {
        /// The FinService.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// The old pods do not come.
    #[error(
        "{ready} of {wanted} pods of Deployment {name} are Ready after {waited}; the FinService serves on. See `kubectl -n {namespace} describe deployment {name}`, and run the command again"
    )]
    Late {
        /// The Deployment.
        name: String,
        /// Its namespace.
        namespace: String,
        /// Pods Ready.
        ready: i32,
        /// Pods asked for.
        wanted: i32,
        /// How long was waited.
        waited: String,
    },
    /// Its own pods do not end.
    #[error(
        "{left} pods of FinService {name} are still there after {waited}, and the old ones were not started: see `kubectl -n \
         {namespace} get pods -l banyan.dev/service={name}`, and say the same again; or let it serve on with `kubectl -n \
         {namespace} annotate finservice {name} banyan.dev/pause-`"
    )]
    Stays {
        /// The FinService.
        name: String,
        /// Its namespace.
        namespace: String,
        /// How many pods are left.
        left: usize,
        /// How long was waited.
        waited: String,
    },
    /// It has no JSON form.
    #[error("cannot write the answer as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What was given back.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct GivenBack {
    deployments: BTreeMap<String, i32>,
    service: Option<String>,
    deleted: bool,
}

/// Gives back what was handed over.
///
/// # Errors
/// If nothing was handed over, the cluster refuses something, or the old pods are not Ready in time.
pub async fn main(options: GiveBackOptions) -> Result<(), GiveBackError> {
    let client = client::connect(&options.cluster.target(), Metrics::default()).await?;
    let namespace = options.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let back = Back { client, namespace, options: &options };
    let given = back.give().await?;
    if options.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&given)?);
    }
    Ok(())
}

struct Back<'a> {
    client: Client,
    namespace: String,
    options: &'a GiveBackOptions,
}

fn refused(what: impl Into<String>) -> impl FnOnce(kube::Error) -> GiveBackError {
    let what = what.into();
    move |source| GiveBackError::Cluster { what, source: Box::new(source) }
}

impl Back<'_> {
    fn say(&self, words: &str) {
        match self.options.output {
            Output::Table => println!("{words}"),
            Output::Json => eprintln!("{words}"),
        }
    }

    async fn give(&self) -> Result<GivenBack, GiveBackError> {
        let name = self.options.name.as_str();
        let service = self.service().await?;
        let deployments = self.deployments().await?;
        if service.is_none() && deployments.is_empty() {
            return Err(GiveBackError::Nothing { name: name.to_owned(), namespace: self.namespace.clone() });
        }
        let paused = self.pause().await?;
        let status = paused.as_ref().and_then(|service| service.status.as_ref());
        let pods = status.and_then(|status| status.replicas.as_ref()).map(|replicas| replicas.desired);
        // What fetches its work ends before the old pods start: nothing is to be done twice.
        if paused.is_some_and(|service| service.spec.traffic() == Traffic::Pulled) && !deployments.is_empty()
        {
            self.stop().await?;
        }
        let mut given = GivenBack::default();
        for deployment in &deployments {
            let wanted = before(deployment).or(pods).unwrap_or(1);
            self.scale_up(&deployment.name_any(), wanted).await?;
            given.deployments.insert(deployment.name_any(), wanted);
        }
        if let Some(service) = service {
            self.give_service(&service).await?;
            given.service = Some(service.name_any());
        }
        for deployment in &deployments {
            self.forget(&deployment.name_any()).await?;
        }
        given.deleted = self.end().await?;
        Ok(given)
    }

    /// The plain Service, if it was handed over.
    async fn service(&self) -> Result<Option<Service>, GiveBackError> {
        let name = &self.options.name;
        let api: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let service = api.get_opt(name).await.map_err(refused(format!("read Service {name}")))?;
        Ok(service.filter(|service| {
            service.annotations().get(ADOPT_ANNOTATION) == Some(name)
                && service.annotations().contains_key(ADOPTED_FROM_ANNOTATION)
        }))
    }

    async fn deployments(&self) -> Result<Vec<Deployment>, GiveBackError> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let all = api.list(&ListParams::default()).await.map_err(refused("read Deployments"))?;
        let ours = |deployment: &Deployment| {
            deployment.annotations().get(ADOPT_ANNOTATION) == Some(&self.options.name)
        };
        Ok(all.items.into_iter().filter(ours).collect())
    }

    /// Stops the pods of the FinService, and waits until they are gone.
    async fn stop(&self) -> Result<(), GiveBackError> {
        let name = &self.options.name;
        let own = ListParams::default().labels(&format!("{SERVICE_LABEL}={name}"));
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        for deployment in deployments.list(&own).await.map_err(refused("read Deployments"))? {
            let patch = json!({"spec": {"replicas": 0}});
            let revision = deployment.name_any();
            let done =
                deployments.patch_scale(&revision, &PatchParams::default(), &Patch::Merge(&patch)).await;
            done.map_err(refused(format!("scale Deployment {revision} to 0")))?;
        }
        self.say(&format!("the pods of FinService {name} end first, so that no work is done twice"));
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let began = Instant::now();
        loop {
            let left = pods.list_metadata(&own).await.map_err(refused("read Pods"))?.items.len();
            if left == 0 {
                return Ok(());
            }
            if began.elapsed() >= self.options.timeout {
                let (name, namespace) = (name.clone(), self.namespace.clone());
                let waited = units::display(self.options.timeout);
                return Err(GiveBackError::Stays { name, namespace, left, waited });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops the operator's writes for the FinService. Returns it, if there is one.
    async fn pause(&self) -> Result<Option<FinService>, GiveBackError> {
        let name = &self.options.name;
        let api: Api<FinService> = Api::namespaced(self.client.clone(), &self.namespace);
        let pause = json!({"metadata": {"annotations": {PAUSE_ANNOTATION: "true"}}});
        match api.patch(name, &PatchParams::default(), &Patch::Merge(&pause)).await {
            Ok(service) => {
                self.say(&format!("FinService {name} is paused: nothing is written for it any more"));
                Ok(Some(service))
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(refused(format!("pause FinService {name}"))(error)),
        }
    }

    async fn scale_up(&self, name: &str, wanted: i32) -> Result<(), GiveBackError> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        // From now on it is not the operator's to scale down.
        let patch = json!({"spec": {"replicas": wanted}});
        api.patch_scale(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .map_err(refused(format!("scale Deployment {name} to {wanted}")))?;
        self.say(&format!("Deployment {name} is scaled to {wanted}"));
        let began = Instant::now();
        let mut told = -1;
        loop {
            let deployment = api.get(name).await.map_err(refused(format!("read Deployment {name}")))?;
            let observed = deployment.status.as_ref().and_then(|status| status.observed_generation);
            let fresh = observed >= deployment.metadata.generation;
            let ready = deployment.status.and_then(|status| status.available_replicas).unwrap_or(0);
            if fresh && ready >= wanted {
                return Ok(());
            }
            if ready != told {
                self.say(&format!("  {ready} of {wanted} pods are Ready"));
                told = ready;
            }
            if began.elapsed() >= self.options.timeout {
                return Err(GiveBackError::Late {
                    name: name.to_owned(),
                    namespace: self.namespace.clone(),
                    ready,
                    wanted,
                    waited: units::display(self.options.timeout),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn give_service(&self, service: &Service) -> Result<(), GiveBackError> {
        let name = service.name_any();
        let api: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let patch = patch_of(service);
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .map_err(refused(format!("give back Service {name}")))?;
        self.say(&format!("Service {name} selects the old pods again"));
        Ok(())
    }

    async fn forget(&self, name: &str) -> Result<(), GiveBackError> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let patch = json!({"metadata": {"annotations": {
            ADOPT_ANNOTATION: null, HANDED_OVER_ANNOTATION: null, RETIRED_ANNOTATION: null,
            REPLICAS_BEFORE_ANNOTATION: null,
        }}});
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.map(|_| ()).map_err(refused(format!("take the annotations off Deployment {name}")))
    }

    async fn end(&self) -> Result<bool, GiveBackError> {
        let (name, namespace) = (&self.options.name, &self.namespace);
        let api: Api<FinService> = Api::namespaced(self.client.clone(), namespace);
        let stands = api.get_opt(name).await.map_err(refused(format!("read FinService {name}")))?.is_some();
        if !stands {
            return Ok(false);
        }
        if !self.options.delete {
            self.say(&format!(
                "Its pods have no requests through the Service any more. In half a minute, once everybody has heard of it: `kubectl -n {namespace} delete finservice {name}`; and take it out of git"
            ));
            return Ok(false);
        }
        self.say(&format!("waiting for {} until everybody has heard of it", units::display(HEARD)));
        tokio::time::sleep(HEARD).await;
        api.delete(name, &DeleteParams::default())
            .await
            .map_err(refused(format!("delete FinService {name}")))?;
        self.say(&format!("FinService {name} is deleted"));
        Ok(true)
    }
}

fn before(deployment: &Deployment) -> Option<i32> {
    let noted = deployment.annotations().get(REPLICAS_BEFORE_ANNOTATION).and_then(|text| text.parse().ok());
    let has = deployment.spec.as_ref().and_then(|spec| spec.replicas).filter(|pods| *pods > 0);
    // One that was never scaled to zero has what it needs.
    has.or(noted)
}

/// The merge patch that makes a Service what it was.
fn patch_of(service: &Service) -> Value {
    let kept = service.annotations().get(ADOPTED_FROM_ANNOTATION).map(String::as_str).unwrap_or_default();
    let Before { selector, ports } = serde_json::from_str(kept).unwrap_or_default();
    let mut patched = json!(selector);
    let has = service.spec.iter().flat_map(|spec| spec.selector.iter().flat_map(|keys| keys.keys()));
    for key in has.filter(|key| !selector.contains_key(*key)) {
        patched[key] = Value::Null;
    }
    json!({
        "metadata": {
            "resourceVersion": service.metadata.resource_version,
            "annotations": {ADOPT_ANNOTATION: null, ADOPTED_FROM_ANNOTATION: null},
            "labels": {SERVICE_LABEL: null, MANAGED_BY_LABEL: null},
        },
        "spec": {"selector": patched, "ports": ports},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_6_3_a_service_becomes_what_it_was() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "app", "resourceVersion": "9", "annotations": {
                ADOPTED_FROM_ANNOTATION: r#"{"selector": {"app": "old"}, "ports": [{"port": 80, "nodePort": 31500}]}"#,
            }},
            "spec": {"selector": {"banyan.dev/service": "app", "banyan.dev/revision": "x"}, "ports": [{"port": 80}, {"port": 8080}]},
        }))
        .expect("a Service");
        let patch = patch_of(&service);
        assert_eq!(
            patch["spec"]["selector"],
            json!({"app": "old", "banyan.dev/service": null, "banyan.dev/revision": null})
        );
        assert_eq!(patch["spec"]["ports"], json!([{"port": 80, "nodePort": 31500}]));
    }

    #[test]
    fn faults_6_3_a_deployment_gets_the_pods_that_it_had() {
        let of = |replicas: i32, noted: Option<&str>| {
            let annotations = noted.map(|noted| json!({REPLICAS_BEFORE_ANNOTATION: noted}));
            let deployment = json!({"metadata": {"annotations": annotations}, "spec": {"replicas": replicas,
                "selector": {}, "template": {}}});
            before(&serde_json::from_value(deployment).expect("a Deployment"))
        };
        assert_eq!(of(0, Some("3")), Some(3));
        assert_eq!(of(4, None), Some(4), "it was never scaled to zero");
        assert_eq!(of(0, None), None);
    }
}
