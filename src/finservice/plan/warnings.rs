//! What a spec says that is dangerous or cannot be had, in plain words. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::api::canaryrollout::From;
use crate::api::finservice::{OnSecretChange, Traffic};
use crate::api::network::{MeshProvider, Mtls, ServiceType};
use crate::api::operations::Classification;
use crate::api::{FinServiceSpec, Problem, units};
use crate::finservice::children::template::PRE_STOP_SECONDS;
use crate::finservice::index::child::Facts;
use crate::finservice::index::rollouts::ObservedRollout;
use crate::finservice::index::topics::LostTopic;
use crate::finservice::index::{Observed, legacy};
use crate::finservice::plan::Plan;
use crate::runtime::key::Key;

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
    for (claim, holder) in &seen.lost_claims {
        problems.push(Problem::error(
            "spec.ingress",
            format!(
                "{}{} at gateway {} is claimed by FinService {holder}, which is older; it is not routed here",
                claim.host, claim.path, claim.gateway
            ),
            "Choose another host or path, or remove it from the other FinService.",
        ));
    }
    topics(spec, seen, problems);
    retries(spec, seen.service.metadata.name.as_deref().unwrap_or_default(), problems);
    times(spec, problems);
    card_data(spec, problems);
    reached(spec, problems);
    handed_over(spec, seen, problems);
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

/// How long a gateway may take until it says something of a route.
const TAKEN_WITHIN: SignedDuration = SignedDuration::from_secs(10);

/// What gateways say of the routes, where that is no good news.
pub fn of_gateways(seen: &Observed, now: Timestamp, plan: &mut Plan) {
    let spec = &seen.service.spec;
    let namespace = seen.service.metadata.namespace.as_deref().unwrap_or_default();
    let Some((of, gateway)) = spec.ingress.as_ref().map(|ingress| ingress.gateway_in(namespace)) else {
        return;
    };
    for child in &seen.children {
        let Facts::Route(route) = &child.facts else { continue };
        let (kind, name) = (child.kind.name(), &child.name);
        let look = format!(
            "See `kubectl -n {namespace} get {} {name} -o yaml`, status.parents.",
            kind.to_lowercase()
        );
        if let Some(words) = &route.refused {
            let problem = match words.starts_with("Accepted") {
                true => Problem::error,
                false => Problem::warning,
            };
            let grant = grant(spec, namespace).filter(|_| words.contains("RefNotPermitted"));
            plan.problems.push(problem(
                "spec.ingress.gateway",
                format!("Gateway {of}/{gateway} says of {kind} {name}: {words}"),
                grant.unwrap_or(look),
            ));
        } else if let Some(since) = route.unclaimed_since {
            let until = since.saturating_add(TAKEN_WITHIN).unwrap_or(Timestamp::MAX);
            if until > now {
                plan.look_again(until);
                continue;
            }
            plan.problems.push(Problem::warning(
                "spec.ingress.gateway",
                format!("no gateway has taken {kind} {name}: nobody from outside reaches the service by it"),
                format!("Look whether there is a Gateway {gateway} and its controller runs: `kubectl -n {of} get gateway {gateway}`; or correct spec.ingress.gateway."),
            ));
        }
    }
}

/// What the owner of the legacy backend's namespace has to apply, so that a route of ours may lead there.
fn grant(spec: &FinServiceSpec, namespace: &str) -> Option<String> {
    let Key { namespace: of, name, .. } = legacy::named(namespace, spec)?;
    let grant = serde_json::json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
        "metadata": {"name": format!("{namespace}-{name}"), "namespace": of},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": namespace}],
            "to": [{"group": "", "kind": "Service", "name": name}],
        },
    });
    Some(format!("Let the owner of namespace {of} apply this with `kubectl apply -f -`: {grant}"))
}

/// Topics that somebody else names as its own too.
fn topics(spec: &FinServiceSpec, seen: &Observed, problems: &mut Vec<Problem>) {
    for LostTopic { name, cluster, holder, owner, same_object, same_owner } in &seen.lost_topics {
        let (source, remedy) =
            ("spec.data.topics", "Take it out of data.topics of one of both, or give it another name there.");
        if !same_owner {
            let made = match same_object {
                true => "that one makes it, and what is said of it here is not followed",
                false => "if both use one Kafka cluster, they have one topic with two owners",
            };
            let message = format!(
                "topic {name} of Kafka cluster {cluster} is owned by FinService {holder} of {owner} too, which is older; \
                 {made}, and {} may read and write it",
                spec.owner
            );
            problems.push(Problem::warning(source, message, remedy));
        } else if *same_object {
            let message = format!(
                "topic {name} is made by FinService {holder}, which is older: what is said of it here is not followed"
            );
            problems.push(Problem::info(source, message, "Nothing to do if both say the same of it."));
        }
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
    fn the_pause_that_is_there_by_default_is_told_as_well() {
        assert_eq!(found(json!({"terminationGracePeriod": "5s"})), ["spec.preStop.sleep"]);
        assert_eq!(found(json!({"terminationGracePeriod": "6s"})), [""; 0]);
        assert_eq!(
            found(json!({"terminationGracePeriod": "5s", "preStop": {"exec": {"command": ["x"]}}})),
            [""; 0]
        );
    }

    /// Rows 6.2 and 6.5.
    #[test]
    fn who_calls_nobody_or_is_called_by_nobody_is_told() {
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

    /// Row 5.6.
    #[test]
    fn the_grant_for_a_backend_elsewhere_is_there_to_be_pasted() {
        let mut spec = crate::finservice::testing::rich();
        spec.legacy.as_mut().expect("a backend").host = "monolith.legacy.svc.cluster.local".to_owned();
        let remedy = grant(&spec, "pay").expect("a grant");
        let (words, grant) = remedy.split_once(": ").expect("a grant");
        assert!(words.contains("owner of namespace legacy"), "{words}");
        let grant: serde_json::Value = serde_json::from_str(grant).expect("JSON");
        assert_eq!(grant["spec"]["from"][0]["namespace"], "pay");
        assert_eq!(
            (&grant["metadata"]["namespace"], &grant["spec"]["to"][0]["name"]),
            (&json!("legacy"), &json!("monolith"))
        );
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
