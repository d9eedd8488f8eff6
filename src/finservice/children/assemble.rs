//! All children of a service and of a revision, as the spec asks for them. Which of the optional
//! APIs are installed is not asked here.

use serde_json::{Value, json};

use super::{
    Child, Routing, Scope, authorization_policy, autoscaler, budget, dashboard, deployment, destination_rule,
    http_route, kafka, network_policy, peer_authentication, prometheus_rule, request_authentication,
    rollout_route, service, service_account, service_entry, service_monitor, sidecar, virtual_service,
};
use crate::api::labels::MARK_ANNOTATION;
use crate::api::network::MeshProvider;
use crate::finservice::plan::revision::RevisionInput;

/// What the children of one revision are made from.
#[derive(Clone, Copy, Debug)]
pub struct RevisionParts<'a> {
    /// Its hash.
    pub hash: &'a str,
    /// What the user wrote.
    pub input: &'a RevisionInput,
    /// What was made of it, as its ControllerRevision keeps it.
    pub template: &'a Value,
    /// Pods that it is to have; without any there is no budget.
    pub replicas: i32,
    /// Whether it has the traffic. Only then is there an autoscaler: one that is on its way in has no
    /// load yet, and would be shrunk just before it gets all of it.
    pub serves: bool,
    /// Whether requests may reach it otherwise than by chance: then it has a direct Service as well.
    pub direct: bool,
    /// The autoscaler's lower bound in pods; `None` is the spec's.
    pub least: Option<i32>,
    /// Digest of the Secrets that its pods read, with `onSecretChange: Restart`.
    pub secrets_digest: Option<&'a str>,
}

/// Children by which requests find their way to revisions: the plain Service, and the routes.
///
/// What a rollout's last write meant is marked on every route; where no route carries shares, on the
/// plain Service.
pub fn ways(scope: &Scope, routing: &Routing) -> (Child, Vec<Child>) {
    let mut routes = match scope.spec.provider() {
        MeshProvider::Istio => virtual_service::build(scope, routing),
        MeshProvider::GatewayAPI => http_route::build(scope, routing),
        MeshProvider::None => Vec::new(),
    };
    let mut plain = service::plain(scope, routing);
    if let Some(mark) = &routing.weights.mark {
        let preview = rollout_route::preview_name(scope);
        if routes.iter().all(|route| route.name == preview) {
            put_mark(&mut plain, mark);
        }
        routes.iter_mut().for_each(|route| put_mark(route, mark));
    }
    (plain, routes)
}

/// Children that the service has once, in the order in which they are made: what others refer to
/// comes first, and routes come last.
pub fn of_service(scope: &Scope, routing: &Routing) -> Vec<Child> {
    let (plain, routes) = ways(scope, routing);
    let mut children = vec![service_account::build(scope), plain, network_policy::build(scope, routing)];
    children.extend(service_monitor::build(scope));
    children.extend(prometheus_rule::build(scope));
    children.extend(dashboard::build(scope));
    children.extend(kafka::build(scope));
    if scope.spec.provider() == MeshProvider::Istio {
        children.push(peer_authentication::build(scope));
        children.extend(request_authentication::build(scope));
        children.push(authorization_policy::build(scope, routing));
        children.extend(service_entry::build(scope));
        children.extend(destination_rule::legacy(scope));
        children.push(sidecar::build(scope));
    }
    children.extend(routes);
    children
}

fn put_mark(child: &mut Child, mark: &str) {
    child.body["metadata"]["annotations"] = json!({MARK_ANNOTATION: mark});
}

/// Children of one revision, in the order in which they are made. Its ControllerRevision and the
/// copies of its ConfigMaps are apart, since they come first and hold contents that are read when
/// they are made.
pub fn of_revision(scope: &Scope, revision: &RevisionParts) -> Vec<Child> {
    let RevisionParts { hash, input, template, replicas, serves, direct, least, secrets_digest } = *revision;
    let mut children: Vec<Child> = service::revision(scope, hash, &input.ports).into_iter().collect();
    if direct {
        children.extend(service::direct(scope, hash, &input.ports));
    }
    if scope.spec.provider() == MeshProvider::Istio && !input.ports.is_empty() {
        children.extend(destination_rule::build(scope, hash));
        if direct {
            children.extend(destination_rule::direct(scope, hash));
        }
    }
    children.extend(budget::build(scope, hash, replicas));
    children.push(deployment::build(scope, hash, template, secrets_digest));
    if serves {
        children.extend(autoscaler::build(scope, hash, least));
    }
    children
}
