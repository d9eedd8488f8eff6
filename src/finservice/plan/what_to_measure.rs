//! What is to be counted for a rollout, and where: from a decision to what the hub follows. Pure.

use std::collections::BTreeSet;

use serde_json::json;

use crate::api::units;
use crate::canary::facts::{Decision, Destination, Phase, Sampling};
use crate::canary::policy::GateKind;
use crate::finservice::children::routing::{LegacyBackend, legacy_backend};
use crate::finservice::children::service_monitor::PATH;
use crate::finservice::children::{Scope, fresh};
use crate::finservice::index::pod::PodState;
use crate::finservice::index::rollouts::ObservedRollout;
use crate::finservice::plan::planning::Planning;
use crate::finservice::plan::revision::RevisionInput;
use crate::finservice::plan::rollout_inputs::Gathered;
use crate::finservice::plan::traffic_split::Shift;
use crate::judge::hub::Follow;
use crate::judge::{Evidence, Question};
use crate::runtime::key::Key;
use crate::runtime::live::Live;
use crate::signals::{Arm, Counted, Endpoint, Pod, SourceKey, Subject, What};

/// What the hub is to follow after a decision; `None` while there is nothing to count and nobody to ask.
fn follow<'a>(
    scope: &Scope<'_>,
    rollout: &ObservedRollout,
    gathered: &Gathered,
    decision: &Decision,
    chosen: bool,
    input_of: impl Fn(&str) -> Option<&'a RevisionInput>,
) -> Option<Follow> {
    if rollout
        .unreadable
        .as_ref()
        .is_some_and(|unreadable| unreadable.left_out.iter().any(|field| field == "analysis"))
    {
        // Limits that nobody can read are not those that somebody has chosen: the pods alone judge.
        return None;
    }
    let asks = !decision.ask.is_empty() && decision.phase != Phase::Blocked;
    if decision.sampling.is_none() && !asks {
        return None;
    }
    let spec = &rollout.object.spec;
    let prometheus =
        spec.analysis.as_ref().and_then(|analysis| analysis.source.as_ref()?.prometheus.as_ref());
    let source = match prometheus {
        Some(prometheus) => SourceKey::Prometheus {
            namespace: scope.namespace.to_owned(),
            spec: serde_json::to_string(prometheus).unwrap_or_default(),
        },
        None => SourceKey::BuiltIn,
    };
    let arms = decision.sampling.as_ref().map(|sampling| [&sampling.stable, &sampling.canary]);
    let arm = |to: &Destination| arm(scope, to, &input_of);
    let subject = Subject {
        namespace: scope.namespace.to_owned(),
        service: scope.name.to_owned(),
        arms: arms.map(|arms| arms.map(arm)).unwrap_or_default(),
        metrics: metrics(scope, gathered, rollout),
        endpoint: endpoint(scope),
        not_counted: not_counted(scope),
        probed: probed(scope).next().is_some(),
        speaks: scope.speaks(),
        chosen,
        inside: gathered.has_callers_inside,
    };
    let labels = arms.map(|arms| arms.map(|to| fresh::label(to).unwrap_or_default())).unwrap_or_default();
    let policy = gathered.policy();
    let gates =
        decision.ask.iter().filter_map(|gate| Some((*gate, question(&policy.gates.get(*gate)?.kind)?)));
    // Steps before which a gate stands that is asked now.
    let before: BTreeSet<i32> =
        decision.ask.iter().filter_map(|gate| policy.gates.get(*gate).map(|gate| gate.at)).collect();
    let attempt = decision.memory.attempt;
    Some(Follow {
        comparison: decision.sampling.as_ref().map(Sampling::comparison),
        standard: policy.standard(),
        source,
        subject,
        labels,
        gates: gates.collect(),
        told: json!({
            "id": format!("{}/{}/{attempt}", scope.namespace, scope.name),
            "namespace": scope.namespace,
            "service": scope.name,
            "site": scope.site,
            "release": decision.memory.rollout.as_ref().map(|rollout| &rollout.release),
            "revision": decision.canary,
            "stable": decision.stable,
            "weight": decision.weight,
            "before": before,
        }),
        scatter: rollout.object.status.as_ref().map(|status| status.scatter.clone()).unwrap_or_default(),
    })
}

/// The same of a whole plan.
pub fn of(planning: &Planning<'_>, shift: &Shift) -> Option<Follow> {
    let (decision, gathered) = (shift.decision.as_ref()?, shift.gathered.as_ref()?);
    let rollout = planning.seen.rollout.as_ref()?;
    let input = |hash: &str| planning.input(hash);
    follow(planning.scope, rollout, gathered, decision, shift.has_chosen(), input)
}

/// What a gate asks; nothing where a person opens it.
fn question(kind: &GateKind) -> Option<Question> {
    match kind {
        GateKind::Approval => None,
        GateKind::Promql { query, .. } => Some(Question::Query(query.clone())),
        GateKind::Webhook(server) => Some(Question::Webhook(server.clone())),
    }
}

/// The numbers of rollouts, for `/metrics`.
pub fn live(all: Vec<(Key, Evidence)>) -> Vec<Live> {
    let of = |(key, evidence): (Key, Evidence)| {
        let weight = evidence.weight;
        evidence.judgements.into_iter().chain(evidence.doubts).map(move |(metric, judgement)| Live {
            namespace: key.namespace.to_string(),
            service: key.name.to_string(),
            metric,
            weight,
            requests: [judgement.numbers.step.stable_requests, judgement.numbers.step.canary_requests],
            evidence: judgement.numbers.evidence,
            limit: judgement.numbers.limit,
        })
    };
    all.into_iter().flat_map(of).collect()
}

/// Puts the pods of now into a subject, by the revision labels of its arms.
pub fn fill(pods: &[PodState], labels: &[String; 2], subject: &mut Subject) {
    for (arm, label) in subject.arms.iter_mut().zip(labels).filter(|(_, label)| !label.is_empty()) {
        let of_arm = pods.iter().filter(|pod| *pod.revision == **label);
        arm.pods = of_arm
            .filter_map(|pod| {
                let ready_since = pod.ready_since.map(|since| since.as_millisecond() as f64 / 1000.0);
                Some(Pod { name: pod.name.to_string(), address: pod.address?, ready_since })
            })
            .collect();
    }
}

fn metrics(scope: &Scope<'_>, gathered: &Gathered, rollout: &ObservedRollout) -> Vec<Counted> {
    let none = Default::default();
    let analysis = rollout.object.spec.analysis.as_ref().unwrap_or(&none);
    let what = |name: &str| match name {
        "error-rate" => What::Errors,
        "client-errors" => What::Refused,
        "latency" => {
            let promised = scope.spec.slo.as_ref().and_then(|slo| slo.latency.as_ref());
            let asked = analysis.latency.as_ref().map(|latency| &latency.threshold);
            let threshold = asked.or(promised.map(|promised| &promised.threshold));
            let threshold = threshold.and_then(|text| units::duration(text));
            What::Slower(threshold.unwrap_or_default().as_secs_f64())
        }
        name => {
            let custom = analysis.custom.iter().flatten().find(|custom| custom.name == name);
            let (bad, total) = custom.map(|c| (c.bad.clone(), c.total.clone())).unwrap_or_default();
            What::Custom { bad, total }
        }
    };
    let metrics = gathered.policy().metrics.iter();
    metrics.map(|metric| Counted { name: metric.name.clone(), what: what(&metric.name) }).collect()
}

/// The Service to which the route sends an arm's share.
fn arm<'a>(
    scope: &Scope<'_>,
    to: &Destination,
    input_of: &impl Fn(&str) -> Option<&'a RevisionInput>,
) -> Arm {
    let (Destination::Revision(hash) | Destination::Baseline(hash)) = to else {
        return match (legacy_backend(scope), &scope.spec.legacy) {
            (Some(LegacyBackend::Service(namespace, service)), Some(legacy)) => {
                Arm { namespace, service, port: legacy.port, ..Arm::default() }
            }
            (Some(LegacyBackend::Host(host)), Some(legacy)) => {
                Arm { service: host, port: legacy.port, ..Arm::default() }
            }
            _ => Arm::default(),
        };
    };
    let name = scope.ingress_port().map(|port| port.name.as_str());
    let ports = input_of(hash).map_or(scope.spec.ports.as_slice(), |input| input.ports.as_slice());
    let port = ports.iter().find(|port| Some(port.name.as_str()) == name).or(ports.first());
    let revision = fresh::label(to).unwrap_or_default();
    Arm {
        namespace: scope.namespace.to_owned(),
        service: scope.revision_name(&revision),
        port: port.map_or(0, |port| port.port),
        revision,
        pods: Vec::new(),
    }
}

/// Where the pods tell their own counters: where the FinService says that they do.
fn endpoint(scope: &Scope<'_>) -> Option<Endpoint> {
    let metrics = scope.spec.observability.as_ref()?.metrics.as_ref()?;
    let port = scope.metrics_port()?.port;
    Some(Endpoint { port, path: metrics.path.clone().unwrap_or_else(|| PATH.to_owned()) })
}

/// What probes ask for over HTTP.
fn probed(scope: &Scope<'_>) -> impl Iterator<Item = String> {
    let probes = scope.spec.probes.iter();
    let probes = probes.flat_map(|probes| [&probes.readiness, &probes.liveness, &probes.startup]).flatten();
    let gets = probes.filter_map(|probe| probe.http_get.as_ref());
    gets.map(|get| get.path.clone().unwrap_or_else(|| "/".to_owned()))
}

/// What probes and scrapes ask for: every pod gets as many of them, whatever its share of the requests.
fn not_counted(scope: &Scope<'_>) -> Vec<String> {
    let mut paths: Vec<String> = probed(scope).collect();
    paths.extend(endpoint(scope).map(|endpoint| endpoint.path));
    paths.sort();
    paths.dedup();
    paths
}
