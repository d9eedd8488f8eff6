//! What a spec says that is dangerous or cannot be had, in plain words. Pure.

use crate::api::canaryrollout::From;
use crate::api::finservice::{OnSecretChange, Traffic};
use crate::api::network::{MeshProvider, Mtls, ServiceType};
use crate::api::operations::Classification;
use crate::api::{FinServiceSpec, Problem, units};
use crate::finservice::children::template::PRE_STOP_SECONDS;
use crate::finservice::index::Observed;
use crate::finservice::index::child::Facts;
use crate::finservice::index::named::Named;
use crate::finservice::index::rollouts::ObservedRollout;
use crate::finservice::plan::{Plan, claim_problems, topic_problems};

/// Paths and names that take writes, by the words that teams use; a retry there may do a thing
/// twice.
const WRITING_WORDS: [&str; 8] =
    ["pay", "transfer", "transaction", "order", "charge", "refund", "withdraw", "booking"];

/// How long a pod has to end unless the spec says otherwise: Kubernetes' own default.
const GRACE: std::time::Duration = std::time::Duration::from_secs(30);

/// How long a pod waits before it is told to stop unless the spec says otherwise: as the template has it.
const PRE_STOP: std::time::Duration = std::time::Duration::from_secs(PRE_STOP_SECONDS);

/// Gathers the problems that a spec has by itself or with others.
pub fn of_spec(spec: &FinServiceSpec, seen: &Observed, plan: &mut Plan) {
    let problems = &mut plan.problems;
    if let Some(cycle) = &seen.cycle {
        problems.push(Problem::warning(
            "spec.access",
            format!("calls go round in a ring: {cycle}; one slow member stalls them all"),
            "Break the ring: let one member send a message instead of a call, or take the call out of access.",
        ));
    }
    let namespace = seen.service.metadata.namespace.as_deref().unwrap_or_default();
    problems.extend(seen.lost_claims.iter().map(|lost| claim_problems::of_ingress(namespace, lost)));
    topic_problems::add(spec, seen, problems);
    retries(spec, seen.service.metadata.name.as_deref().unwrap_or_default(), problems);
    times(spec, problems);
    card_data(spec, problems);
    reached(spec, problems);
    handed_over(spec, seen, problems);
    problems.extend(seen.absent.iter().map(absent));
    let moves = |rollout: &ObservedRollout| rollout.object.spec.from == Some(From::Legacy);
    if spec.legacy.is_some() && !seen.rollout.as_ref().is_some_and(moves) {
        problems.push(Problem::info(
            "spec.legacy",
            "the old backend serves its paths in full",
            "Nothing to do while that is wanted. A CanaryRollout with from: Legacy moves them step by step; removing spec.legacy gives its paths to the FinService all at once.",
        ));
    }
    if spec.provider() == MeshProvider::GatewayAPI
        && spec.traffic() == Traffic::Requests
        && spec.ingress.is_none()
    {
        problems.push(Problem::info(
            "spec.mesh.provider",
            "there is no ingress, so no HTTPRoute: callers use the plain Service, which selects one revision at a time",
            "Nothing to do, unless the outside is to reach the service: then set spec.ingress.",
        ));
    }
    if seen.secrets_hidden && spec.on_secret_change != Some(OnSecretChange::Ignore) {
        problems.push(Problem::warning(
            "spec.onSecretChange",
            "a changed Secret is not noticed: this operator may not read Secrets",
            "Set onSecretChange to Ignore, or install the chart with rbac.readSecrets=true.",
        ));
    }
}

/// That something is named that is not there.
fn absent(named: &Named) -> Problem {
    let (field, message, remedy) = match named {
        Named::Caller(service) => (
            "spec.access.inbound",
            format!("there is no FinService {service}, so nobody is let in by that name"),
            format!(
                "Correct the name, or apply FinService {} in namespace {}; for pods that are no FinService use podLabels.",
                service.name, service.namespace
            ),
        ),
        Named::Callee(service) => (
            "spec.access.outbound.services",
            format!("there is no FinService {service}, so nothing is opened by that name"),
            format!(
                "Correct the name, or apply FinService {} in namespace {}; for pods that are no FinService use \
                 access.outbound.pods.",
                service.name, service.namespace
            ),
        ),
        Named::PullSecret(secret) => (
            "spec.imagePullSecrets",
            format!(
                "Secret {} does not exist, so images that need its credentials cannot be pulled",
                secret.name
            ),
            format!("Create Secret {} in this namespace, or correct the name.", secret.name),
        ),
    };
    Problem::warning(field, message, remedy)
}

/// Whether `placement` names only sites that no CloudCluster describes.
pub fn nowhere(seen: &Observed) -> bool {
    seen.sites.nowhere(&seen.site, &seen.service.spec)
}

/// Sites that the spec names and that no CloudCluster describes: most often a slip of the pen, for which a service would not run
/// where its team believes it does.
pub fn of_sites(seen: &Observed, plan: &mut Plan) {
    let spec = &seen.service.spec;
    let unknown = seen.sites.unknown(&seen.site, spec);
    if unknown.is_empty() {
        return;
    }
    let nowhere = nowhere(seen);
    let runs_here = !seen.children.is_empty();
    let known: Vec<&str> =
        [&*seen.site].into_iter().chain(seen.sites.peers.iter().map(String::as_str)).collect();
    for (field, name) in unknown {
        let (problem, then): (fn(_, _, _) -> _, _) = match (field, nowhere) {
            ("spec.placement", true) if runs_here => {
                (Problem::error, "no site that is known is named, so what runs here is left as it is")
            }
            ("spec.placement", true) => {
                (Problem::error, "no site that is known is named, so it runs nowhere")
            }
            ("spec.placement", false) => (Problem::warning, "whether the FinService runs there is not known"),
            _ => (Problem::warning, "what is said for it is used nowhere that is known"),
        };
        plan.problems.push(problem(
            field,
            format!("there is no CloudCluster {name} here, only {}; {then}", known.join(" and ")),
            format!("Correct the name; or, if there is such a site, create CloudCluster {name} in the operator's namespace."),
        ));
    }
}

fn retries(spec: &FinServiceSpec, name: &str, problems: &mut Vec<Problem>) {
    let Some(retries) = spec.mesh.as_ref().and_then(|mesh| mesh.retries.as_ref()) else { return };
    let before_sending = retries.on.as_deref().is_none_or(|on| {
        on.split(',').all(|word| matches!(word.trim(), "connect-failure" | "refused-stream" | ""))
    });
    if retries.attempts == 0 || retries.idempotent == Some(true) || before_sending {
        return;
    }
    let paths = spec.ingress.iter().flat_map(|ingress| ingress.paths.iter().flatten());
    let found =
        paths.map(String::as_str).chain([name]).find(|text| WRITING_WORDS.iter().any(|w| text.contains(w)));
    if let Some(found) = found {
        problems.push(Problem::warning(
            "spec.mesh.retries",
            format!(
                "{found} seems to take writes, and up to {} retries on {} may do one of them twice: a retried payment is a double payment",
                retries.attempts,
                retries.on.as_deref().unwrap_or_default()
            ),
            "Set attempts to 0, or retry only on connect-failure,refused-stream, or say idempotent: true if requests may be repeated.",
        ));
    }
}

/// Times that contradict each other.
fn times(spec: &FinServiceSpec, problems: &mut Vec<Problem>) {
    let length = |text: Option<&String>| text.and_then(|text| units::duration(text));
    let grace = length(spec.termination_grace_period.as_ref()).unwrap_or(GRACE);
    let asked = length(spec.pre_stop.as_ref().and_then(|stop| stop.sleep.as_ref()));
    let of_its_own = spec.pre_stop.as_ref().is_some_and(|stop| stop.exec.is_some());
    // Without a word on it there is one all the same.
    let pause = asked.or((!of_its_own).then_some(PRE_STOP));
    if let Some(pause) = pause.filter(|pause| *pause >= grace && !pause.is_zero()) {
        problems.push(Problem::warning(
            "spec.preStop.sleep",
            format!(
                "the pause of {} before a pod is told to stop takes up the {} that it has to end: nothing is left for \
                 requests that are under way",
                units::display(pause),
                units::display(grace)
            ),
            "Raise terminationGracePeriod above it, or set preStop.sleep to less.",
        ));
    }
    let Some(mesh) = &spec.mesh else { return };
    let retries = mesh.retries.as_ref().filter(|retries| retries.attempts > 0);
    let each = length(retries.and_then(|retries| retries.per_try_timeout.as_ref()));
    if let (Some(each), Some(all)) = (each, length(mesh.timeout.as_ref()))
        && each > all
        && !all.is_zero()
    {
        problems.push(Problem::warning(
            "spec.mesh.retries.perTryTimeout",
            format!(
                "each try may take {}, and all of them together {}: there is never a second one",
                units::display(each),
                units::display(all)
            ),
            "Lower perTryTimeout so that the tries fit into mesh.timeout, or raise that.",
        ));
    }
}

/// What nobody reaches, or reaches nobody, for want of a word in `access`.
fn reached(spec: &FinServiceSpec, problems: &mut Vec<Problem>) {
    let access = spec.access.as_ref();
    if access.is_none_or(|access| access.outbound.is_none()) {
        problems.push(Problem::info(
            "spec.access.outbound",
            "the pods may call nobody but DNS, since it is not said whom they call",
            "Name in access.outbound what they call (services, pods, hosts, addresses); or set access.outbound to {} if they call nobody.",
        ));
    }
    let settings = spec.service.as_ref();
    let outside = settings.and_then(|settings| settings.kind).filter(|kind| *kind != ServiceType::ClusterIP);
    let inbound = access.and_then(|access| access.inbound.as_deref()).unwrap_or_default();
    if let Some(kind) = outside.filter(|_| inbound.iter().all(|peer| peer.cidr.is_none())) {
        problems.push(Problem::warning(
            "spec.access.inbound",
            format!("the Service is reached from outside ({kind:?}), and nobody outside may call"),
            "Add the callers' addresses to access.inbound, as - cidr: 203.0.113.0/24, or 0.0.0.0/0 for everybody.",
        ));
    }
}

/// Ports of a Service that was handed over of which the FinService knows nothing: who calls there gets no share of a rollout.
fn handed_over(spec: &FinServiceSpec, seen: &Observed, problems: &mut Vec<Problem>) {
    let name = seen.service.metadata.name.as_deref().unwrap_or_default();
    if spec.provider() != MeshProvider::Istio {
        return;
    }
    for child in seen.children.iter().filter(|child| &*child.name == name) {
        let Facts::Service(facts) = &child.facts else { continue };
        let known = |port: u16| spec.ports.iter().any(|known| known.service_port() == port);
        for (port, _) in facts.had.iter().filter(|(port, _)| !known(*port)) {
            problems.push(Problem::warning(
                "spec.ports",
                format!(
                    "Service {name} has port {port} from before it was handed over, and no port of the FinService is seen there: \
                     who calls it gets the stable revision alone, whatever the weights"
                ),
                format!("Set servicePort: {port} at the port of spec.ports that is meant; or take it out of the Service once nobody calls it."),
            ));
        }
    }
}

/// Card data that may cross the network in the clear.
fn card_data(spec: &FinServiceSpec, problems: &mut Vec<Problem>) {
    let is_card_data =
        spec.data.as_ref().is_some_and(|data| data.classification == Some(Classification::PCI));
    let mtls = spec.mesh.as_ref().and_then(|mesh| mesh.mtls);
    let permissive = mtls.unwrap_or(if spec.legacy.is_some() { Mtls::Permissive } else { Mtls::Strict });
    if is_card_data && spec.provider() == MeshProvider::Istio && permissive == Mtls::Permissive {
        problems.push(Problem::warning(
            "spec.mesh.mtls",
            "it holds card data (PCI), and callers may come without a certificate of the mesh: requests may cross the network in the clear",
            "Set mesh.mtls to Strict; while spec.legacy is set, its calls must come through the mesh for that.",
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(more: serde_json::Value) -> Vec<String> {
        let mut spec = json!({"owner": "team", "image": "app:1", "ports": [{"name": "http", "port": 8080}]});
        spec.as_object_mut().expect("map").extend(more.as_object().expect("map").clone());
        let spec: FinServiceSpec = serde_json::from_value(spec).expect("a spec");
        let mut problems = Vec::new();
        times(&spec, &mut problems);
        card_data(&spec, &mut problems);
        problems.into_iter().map(|problem| problem.source).collect()
    }

    #[test]
    fn a_pause_that_is_longer_than_the_grace_is_told() {
        assert_eq!(found(json!({"preStop": {"sleep": "31s"}})), ["spec.preStop.sleep"]);
        assert_eq!(found(json!({"preStop": {"sleep": "31s"}, "terminationGracePeriod": "1m"})), [""; 0]);
        assert_eq!(found(json!({"preStop": {"sleep": "30s"}})), ["spec.preStop.sleep"]);
        assert_eq!(found(json!({"preStop": {"sleep": "29s"}})), [""; 0]);
        assert_eq!(found(json!({"preStop": {"sleep": "0s"}, "terminationGracePeriod": "0s"})), [""; 0]);
    }

    /// Row 6.8: the pause that nobody asked for ate a grace period of five seconds.
    #[test]
    fn faults_6_8_the_pause_that_is_there_by_default_is_told_as_well() {
        assert_eq!(found(json!({"terminationGracePeriod": "5s"})), ["spec.preStop.sleep"]);
        assert_eq!(found(json!({"terminationGracePeriod": "6s"})), [""; 0]);
        assert_eq!(
            found(json!({"terminationGracePeriod": "5s", "preStop": {"exec": {"command": ["x"]}}})),
            [""; 0]
        );
    }

    /// Rows 6.2 and 6.5.
    #[test]
    fn faults_6_2_who_calls_nobody_or_is_called_by_nobody_is_told() {
        let found = |more: serde_json::Value| {
            let mut spec =
                json!({"owner": "team", "image": "app:1", "ports": [{"name": "http", "port": 8080}]});
            spec.as_object_mut().expect("map").extend(more.as_object().expect("map").clone());
            let mut problems = Vec::new();
            reached(&serde_json::from_value(spec).expect("a spec"), &mut problems);
            problems.into_iter().map(|problem| problem.source).collect::<Vec<_>>()
        };
        assert_eq!(found(json!({})), ["spec.access.outbound"]);
        assert_eq!(found(json!({"access": {"outbound": {}}})), [""; 0]);
        let balancer = |inbound: serde_json::Value| json!({"service": {"type": "LoadBalancer"}, "access": {"outbound": {}, "inbound": inbound}});
        assert_eq!(found(balancer(json!([{"service": "a"}]))), ["spec.access.inbound"]);
        assert_eq!(found(balancer(json!([{"cidr": "0.0.0.0/0"}]))), [""; 0]);
    }

    #[test]
    fn tries_that_do_not_fit_into_the_timeout_are_told() {
        let mesh = |timeout: &str, attempts: i32| {
            json!({"mesh": {"provider": "Istio", "timeout": timeout,
                "retries": {"attempts": attempts, "perTryTimeout": "2s"}}})
        };
        assert_eq!(found(mesh("1s", 2)), ["spec.mesh.retries.perTryTimeout"]);
        assert_eq!(found(mesh("1s", 0)), [""; 0], "nothing is tried again");
        assert_eq!(found(mesh("4s", 2)), [""; 0]);
    }

    #[test]
    fn card_data_without_certificates_is_told() {
        let pci = |mesh: serde_json::Value| json!({"data": {"classification": "PCI"}, "mesh": mesh});
        assert_eq!(found(pci(json!({"provider": "Istio", "mtls": "Permissive"}))), ["spec.mesh.mtls"]);
        assert_eq!(found(pci(json!({"provider": "Istio"}))), [""; 0]);
        let mut legacy = pci(json!({"provider": "Istio"}));
        legacy["legacy"] = json!({"host": "monolith", "port": 80});
        assert_eq!(found(legacy), ["spec.mesh.mtls"]);
    }
}
