//! What pods say of themselves, where that is no good news. Pure.

use crate::api::Problem;
use crate::api::network::MeshProvider;
use crate::finservice::children::{Scope, peer_authentication};
use crate::finservice::index::Observed;
use crate::finservice::index::pod::Unready;
use crate::finservice::plan::Plan;

/// The field that is named where pods have no proxy of the mesh.
pub const NO_PROXY: &str = "spec.mesh.provider, the namespace";
/// What a container of Istio needs where Istio runs without its CNI plugin.
const NEEDS_CNI: &str = "istio-init";

/// Adds what the pods of the revisions in play say.
pub fn add(scope: &Scope, seen: &Observed, plan: &mut Plan) {
    if let Some(at) = seen.pods_again {
        plan.look_again(at);
    }
    let Some(said) = &seen.pods else { return };
    let in_play = [plan.stable.clone(), plan.next.clone()];
    let is_in_play = |revision: &str| in_play.iter().flatten().any(|hash| hash == revision);
    for unready in said.unready.iter().filter(|unready| is_in_play(&unready.revision)) {
        plan.problems.push(of_pod(scope, unready, plan.stable.as_deref()));
    }
    let bare = said.without_proxy.iter().find(|(revision, _)| is_in_play(revision));
    if let Some((_, pod)) = bare.filter(|_| scope.spec.provider() == MeshProvider::Istio) {
        plan.problems.push(without_proxy(scope, pod));
    }
}

fn of_pod(scope: &Scope, unready: &Unready, stable: Option<&str>) -> Problem {
    let Unready { revision, pod, why } = unready;
    let namespace = scope.namespace;
    // A first revision has none before it.
    let serves_on = match stable {
        Some(stable) if *stable != **revision => format!(" Revision {stable} serves on."),
        _ => String::new(),
    };
    let (source, remedy) = match why.split([':', ' ']).next().unwrap_or_default() {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => (
            "spec.image",
            "Correct spec.image; for a registry that asks for credentials, name their Secret in spec.imagePullSecrets.".to_owned(),
        ),
        "Unschedulable" | "SchedulingGated" => (
            "spec.resources, spec.scheduling, spec.volumes",
            format!("Give what is missing, or ask for less in spec.resources, spec.scheduling or spec.volumes. See `kubectl -n {namespace} describe pod {pod}`."),
        ),
        "CreateContainerConfigError" if why.contains("runAsNonRoot") => (
            "spec.security",
            "Set security.runAsUser to the number of the user that the image is made for, such as 1000: no process of a FinService is root.".to_owned(),
        ),
        "CreateContainerConfigError" => (
            "spec.env, spec.envFrom, spec.files",
            format!("Make the key that is named, or make the reference optional. See `kubectl -n {namespace} describe pod {pod}`."),
        ),
        _ if why.contains("OOMKilled") => (
            "spec.resources",
            format!("Raise resources.limits.memory, or let the program keep to it. See `kubectl -n {namespace} logs {pod} --previous`."),
        ),
        _ => (
            "spec.image, spec.resources, spec.probes",
            format!("See `kubectl -n {namespace} logs {pod} --previous` and `kubectl -n {namespace} describe pod {pod}`."),
        ),
    };
    Problem::error(source, format!("pod {pod} of revision {revision}: {why}"), format!("{remedy}{serves_on}"))
}

fn without_proxy(scope: &Scope, pod: &str) -> Problem {
    let namespace = scope.namespace;
    let (problem, follows): (fn(_, _, _) -> _, _) = match peer_authentication::strict(scope) {
        true => {
            (Problem::error, "callers in the mesh cannot connect to them, and nobody holds to spec.access")
        }
        false => (Problem::warning, "nobody holds to spec.access but the NetworkPolicy"),
    };
    problem(
        NO_PROXY,
        format!("pods such as {pod} have no proxy of Istio: {follows}"),
        format!(
            "Let Istio put one into the pods of namespace {namespace}: `kubectl label namespace {namespace} istio-injection=enabled`, \
             and then `kubectl -n {namespace} rollout restart deployment -l banyan.dev/service={}`; or set mesh.provider to None.",
            scope.name
        ),
    )
}

/// What helps where no pod can be made, by what the API server says of it.
pub fn cni(failure: &str) -> &'static str {
    match failure.contains(NEEDS_CNI) && failure.contains("PodSecurity") {
        true => {
            " The namespace lets no container change the network, and Istio without its CNI plugin does that in each pod: install Istio with components.cni.enabled=true."
        }
        false => "",
    }
}
