//! What a rollout asks of routes beside weights: requests that are told by a header or a cookie, clients
//! that are kept, a mirror and a preview. What VirtualServices and HTTPRoutes have in common of it.

use super::routing::{Routing, split_paths};
use super::{Scope, Weights};
use crate::api::Problem;
use crate::api::canaryrollout::NameAndValue;
use crate::api::finservice::Traffic;
use crate::api::network::MeshProvider;
use crate::api::workload::Protocol;
use crate::canary::facts::Destination;
use crate::canary::policy::{Affinity, Policy};

/// Most matches that all rules of an HTTPRoute may have together, by its definition.
const MATCHES_OF_ROUTE: usize = 128;
/// Most revisions whose clients are kept at once: stable and the canary.
const KEPT_AT_ONCE: usize = 2;

/// What a header of a request must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Exactly that.
    Exact(String),
    /// Matched by an expression in the form of RE2, from its beginning to its end.
    Regex(String),
}

/// What tells a request from others: a header, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Criterion {
    /// Name of the header, in lower case, as Istio wants it; Gateway API takes any.
    pub header: String,
    /// What it must be.
    pub pattern: Pattern,
}

impl Criterion {
    fn header(of: &NameAndValue) -> Self {
        Self { header: of.name.to_ascii_lowercase(), pattern: Pattern::Exact(of.value.clone()) }
    }

    /// A cookie stands anywhere among others in one header.
    fn cookie(name: &str, value: &str) -> Self {
        let pattern = format!("^(.*; ?)?{}={}(;.*)?$", literal(name), literal(value));
        Self { header: "cookie".to_owned(), pattern: Pattern::Regex(pattern) }
    }
}

/// Text as an expression that matches that text alone.
fn literal(text: &str) -> String {
    let mut expression = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            expression.push('\\');
        }
        expression.push(c);
    }
    expression
}

/// Requests that are told from others, and where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// One of these must be met.
    pub criteria: Vec<Criterion>,
    /// The revision, by hash. They go to its direct Service.
    pub hash: &'a str,
}

/// Requests that always see a revision, in the order in which they are told apart. Those of one revision
/// stand together.
pub fn matched(weights: &Weights) -> Vec<Chosen<'_>> {
    let mut all: Vec<Chosen> = Vec::new();
    for (matched, hash) in &weights.matches {
        let header = matched.header.as_ref().map(Criterion::header);
        let cookie = matched.cookie.as_ref().map(|cookie| Criterion::cookie(&cookie.name, &cookie.value));
        let Some(criterion) = header.or(cookie) else { continue };
        match all.last_mut() {
            Some(last) if last.hash == hash => last.criteria.push(criterion),
            _ => all.push(Chosen { criteria: vec![criterion], hash }),
        }
    }
    all
}

/// How clients are kept where requests are shared in a certain way.
#[derive(Clone, Debug)]
pub struct Kept<'a> {
    affinity: &'a Affinity,
    hashes: Vec<&'a str>,
}

impl<'a> Kept<'a> {
    /// None where there is nothing to choose between, or where the legacy backend takes part: that one hands
    /// out no cookie, so that the revisions would drain it.
    ///
    /// A revision without a share is not among those whose clients are kept, whatever cookie they bring.
    pub fn of(weights: &'a Weights, shares: &[(Destination<&'a str>, u8)]) -> Option<Self> {
        let affinity = weights.affinity.as_ref()?;
        let mut hashes: Vec<&str> = Vec::new();
        for (target, _) in shares {
            let hash = match target {
                // A copy of stable stands for it: its clients are kept on stable.
                Destination::Revision(hash) | Destination::Baseline(hash) => *hash,
                Destination::Legacy => return None,
            };
            if !hashes.contains(&hash) {
                hashes.push(hash);
            }
        }
        (hashes.len() > 1).then_some(Self { affinity, hashes })
    }

    /// Requests of clients that have met a revision before.
    pub fn chosen(&self) -> Vec<Chosen<'a>> {
        let of =
            |hash: &&'a str| Chosen { criteria: vec![Criterion::cookie(&self.affinity.cookie, hash)], hash };
        self.hashes.iter().map(of).collect()
    }

    /// What an answer of a revision sets as `Set-Cookie`.
    pub fn cookie(&self, hash: &str) -> String {
        let Affinity { cookie, max_age } = self.affinity;
        format!("{cookie}={hash}; Path=/; Max-Age={}; HttpOnly", max_age.as_secs())
    }
}

/// The revision, by hash, that a share in percent of the requests that are shared so is mirrored to. None
/// where the legacy backend takes part, or where nobody else answers them.
pub fn mirror<'a>(weights: &'a Weights, shares: &[(Destination<&str>, u8)]) -> Option<(&'a str, u8)> {
    let (hash, percent) = weights.mirror.as_ref()?;
    let others = shares.iter().any(|(target, _)| *target != Destination::Revision(hash));
    let legacy = shares.iter().any(|(target, _)| *target == Destination::Legacy);
    (others && !legacy && *percent > 0).then_some((hash.as_str(), *percent))
}

/// Where a revision can be seen before it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview<'a> {
    /// The host.
    pub host: &'a str,
    /// Path prefixes: those of the ingress.
    pub paths: Vec<String>,
    /// The revision, by hash.
    pub hash: &'a str,
}

/// The preview; none without an ingress, or where the host serves the service itself.
pub fn preview<'a>(scope: &Scope, routing: &Routing<'a>) -> Option<Preview<'a>> {
    let (host, hash) = routing.weights.preview.as_ref()?;
    let ingress = scope.spec.ingress.as_ref()?;
    if ingress.hosts.contains(host) {
        return None;
    }
    let mut paths = ingress.paths.clone().unwrap_or_else(|| vec!["/".to_owned()]);
    paths.retain(|path| !routing.refused.contains(&(host.clone(), path.clone())));
    (!paths.is_empty()).then_some(Preview { host, paths, hash })
}

/// Name of the route of the preview. A dot keeps it apart from those of all FinServices, which are DNS
/// labels.
pub fn preview_name(scope: &Scope) -> String {
    format!("{}.preview", scope.name)
}

/// How many matches of a rollout an HTTPRoute has room for, beside so many paths of its own and so many others.
pub fn room(paths: usize, others: usize, affinity: bool) -> usize {
    let taken = others + paths * if affinity { 1 + KEPT_AT_ONCE } else { 1 };
    MATCHES_OF_ROUTE.saturating_sub(taken) / paths.max(1)
}

/// What a policy asks of routes and they cannot do for this service. What needs a route where there is none
/// at all is said by the decision about the rollout.
pub fn problems(scope: &Scope, policy: &Policy) -> Vec<Problem> {
    let mut problems = Vec::new();
    let provider = scope.spec.provider();
    let routed = provider != MeshProvider::None && scope.spec.traffic() == Traffic::Requests;
    if let Some(host) = policy.preview.as_ref().and_then(|preview| preview.host.as_ref()) {
        let field = "spec.strategy.blueGreen.previewHost";
        match &scope.spec.ingress {
            Some(ingress) if ingress.hosts.contains(host) => problems.push(Problem::error(
                field,
                format!("{host} is among ingress.hosts of the FinService: no preview is made"),
                "Choose a host that nothing else is served under.",
            )),
            Some(_) if routed => {}
            _ => problems.push(Problem::warning(
                field,
                format!(
                    "{host} would be served by the ingress gateway, and this FinService has no route there"
                ),
                "Set ingress and mesh.provider on the FinService, or leave this out.",
            )),
        }
    }
    let tcp: Vec<&str> = scope
        .spec
        .ports
        .iter()
        .filter(|port| port.protocol() == Protocol::TCP)
        .map(|port| port.name.as_str())
        .collect();
    if routed && provider == MeshProvider::Istio && !tcp.is_empty() {
        let asked = [
            ("spec.matches", !policy.matches.is_empty()),
            ("spec.mirrorPercent", policy.mirror_percent.is_some()),
            ("spec.sessionAffinity", policy.affinity.is_some()),
        ];
        for (field, _) in asked.iter().filter(|(_, set)| *set) {
            problems.push(Problem::warning(
                *field,
                format!("connections to port {} are TCP and shared by weight alone", tcp.join(", ")),
                "Set the protocol of the port if it speaks HTTP or gRPC, or leave this out.",
            ));
        }
    }
    if routed && provider == MeshProvider::GatewayAPI {
        problems.extend(no_room(scope, policy));
    }
    problems
}

/// Says so where an HTTPRoute has no room for all matches.
fn no_room(scope: &Scope, policy: &Policy) -> Option<Problem> {
    let ingress = scope.spec.ingress.as_ref()?;
    let all = ingress.paths.clone().unwrap_or_else(|| vec!["/".to_owned()]);
    let (shared, rest) = split_paths(scope, &all);
    let paths = shared.len() + rest.len();
    let room = room(paths, 0, policy.affinity.is_some());
    (policy.matches.len() > room).then(|| {
        Problem::warning(
            "spec.matches",
            format!("an HTTPRoute with {paths} paths has room for {room} of them: the others are left out"),
            "Name fewer matches, or fewer paths in ingress.paths of the FinService.",
        )
    })
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::api::canaryrollout::Match;
    use crate::canary::policy::Preview as PreviewPolicy;
    use crate::finservice::testing;

    const OLD: &str = "bcdfghjklm";
    const NEW: &str = "nothashhhh";

    fn affinity() -> Affinity {
        Affinity { cookie: "kept".to_owned(), max_age: SignedDuration::from_mins(2) }
    }

    fn pair(name: &str, value: &str) -> Option<NameAndValue> {
        Some(NameAndValue { name: name.to_owned(), value: value.to_owned() })
    }

    fn policy() -> Policy {
        let spec = serde_json::from_value(serde_json::json!({
            "service": "a", "strategy": {"canary": {"steps": [{"weight": 10}, {"weight": 100}]}},
        }));
        Policy::of(&spec.expect("a policy"), None, Default::default()).0
    }

    fn fields(spec: &crate::api::FinServiceSpec, policy: &Policy) -> Vec<String> {
        problems(&testing::scope(spec), policy).into_iter().map(|problem| problem.source).collect()
    }

    #[test]
    fn a_cookie_is_told_exactly() {
        let criterion = Criterion::cookie("a-b", "x.y");
        assert_eq!(criterion.pattern, Pattern::Regex(r"^(.*; ?)?a-b=x\.y(;.*)?$".to_owned()));
        assert_eq!(criterion.header, "cookie");
    }

    #[test]
    fn clients_are_kept_between_those_that_have_a_share() {
        let mut weights = Weights { affinity: Some(affinity()), ..Weights::default() };
        let both = [(Destination::Revision(OLD), 90), (Destination::Revision(NEW), 10)];
        let hashes = |weights: &Weights, shares: &[(Destination<&'static str>, u8)]| -> Option<Vec<String>> {
            let kept = Kept::of(weights, shares)?;
            Some(kept.chosen().iter().map(|chosen| chosen.hash.to_owned()).collect())
        };
        assert_eq!(hashes(&weights, &both), Some(vec![OLD.to_owned(), NEW.to_owned()]));
        let with_copy = [(Destination::Baseline(OLD), 50), (Destination::Revision(NEW), 50)];
        assert_eq!(hashes(&weights, &with_copy), Some(vec![OLD.to_owned(), NEW.to_owned()]));
        let failed = [(Destination::Revision(OLD), 100)];
        assert_eq!(hashes(&weights, &failed), None, "the cookie of what has no share is not honoured");
        let legacy =
            [(Destination::Revision(OLD), 40), (Destination::Revision(NEW), 10), (Destination::Legacy, 50)];
        assert_eq!(hashes(&weights, &legacy), None);
        weights.affinity = None;
        assert_eq!(hashes(&weights, &both), None);
    }

    #[test]
    fn both_revisions_hand_out_their_own_cookie() {
        let weights = Weights { affinity: Some(affinity()), ..Weights::default() };
        let shares = [(Destination::Revision(OLD), 90), (Destination::Revision(NEW), 10)];
        let kept = Kept::of(&weights, &shares).expect("clients are kept");
        assert_eq!(kept.cookie(NEW), format!("kept={NEW}; Path=/; Max-Age=120; HttpOnly"));
    }

    #[test]
    fn a_mirror_needs_somebody_else_who_answers() {
        let weights = Weights { mirror: Some((NEW.to_owned(), 5)), ..Weights::default() };
        let old = (Destination::Revision(OLD), 100);
        assert_eq!(mirror(&weights, &[old]), Some((NEW, 5)));
        assert_eq!(mirror(&weights, &[(Destination::Revision(NEW), 100)]), None);
        assert_eq!(mirror(&weights, &[(Destination::Legacy, 100)]), None);
    }

    #[test]
    fn what_routes_cannot_do_is_said() {
        let mut spec = testing::rich();
        let mut policy = policy();
        assert_eq!(fields(&spec, &policy), Vec::<String>::new());
        policy.matches = vec![Match { header: pair("x-canary", "always"), ..Match::default() }];
        policy.affinity = Some(affinity());
        assert_eq!(fields(&spec, &policy), ["spec.matches", "spec.sessionAffinity"], "one port is TCP");
        spec.mesh.as_mut().expect("a mesh").provider = Some(MeshProvider::GatewayAPI);
        assert_eq!(fields(&spec, &policy), Vec::<String>::new());
        let ingress = spec.ingress.as_mut().expect("an ingress");
        ingress.paths = Some((0..16).map(|number| format!("/{number}")).collect());
        policy.matches = vec![policy.matches[0].clone(); 6];
        assert_eq!(fields(&spec, &policy), ["spec.matches"], "there is no room for all");
    }

    #[test]
    fn a_preview_needs_a_host_of_its_own_at_a_gateway() {
        let mut spec = testing::rich();
        let mut policy = policy();
        let host =
            |host: &str| Some(PreviewPolicy { host: Some(host.to_owned()), at_least: SignedDuration::ZERO });
        policy.preview = host("preview.finflow.example");
        assert_eq!(fields(&spec, &policy), Vec::<String>::new());
        policy.preview = host("api.finflow.example");
        assert_eq!(fields(&spec, &policy), ["spec.strategy.blueGreen.previewHost"]);
        spec.ingress = None;
        assert_eq!(fields(&spec, &policy), ["spec.strategy.blueGreen.previewHost"]);
    }
}
