//! What must not be opened although a spec asks for it: metrics where requests come in, and the metadata of nodes. Pure.

use serde_json::{Value, json};

use super::Scope;
use super::peer::{addresses, labelled, namespace};
use crate::api::Problem;
use crate::api::workload::Port;

/// The operator's own pods, which ask for the metrics of canaries.
fn operator(scope: &Scope) -> Value {
    labelled(&scope.settings.own_namespace, [("app.kubernetes.io/name", "banyan")])
}

/// Who may ask at a port where nothing is served but metrics.
pub fn scrapers(scope: &Scope) -> Vec<Value> {
    let listed = &scope.settings.scrapers;
    if listed.is_empty() {
        return vec![json!({"namespaceSelector": {}})];
    }
    listed.iter().map(|name| namespace(name)).chain([operator(scope)]).collect()
}

/// The port of metrics where requests come in as well.
fn shared_port<'s>(scope: &'s Scope<'_>) -> Option<&'s Port> {
    let inbound = scope.spec.access.as_ref().and_then(|access| access.inbound.as_ref());
    let called = scope.spec.ingress.is_some() || inbound.is_some_and(|inbound| !inbound.is_empty());
    let port = scope.metrics_port()?;
    (called && scope.own_metrics_port().is_none()).then_some(port)
}

/// Who may ask for the service's own metrics. Who may not call it must not come in with those who scrape it: where both use
/// one port, none do of whom the installer does not say where they are.
pub fn metrics(scope: &Scope) -> Vec<Value> {
    match shared_port(scope) {
        Some(_) if scope.settings.scrapers.is_empty() => vec![operator(scope)],
        _ => scrapers(scope),
    }
}

/// What is asked for and not opened.
pub fn problems(scope: &Scope) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(port) = shared_port(scope).filter(|_| scope.settings.scrapers.is_empty()) {
        // It serves all the same: an upgrade must not make of it one that does not.
        problems.push(Problem::warning(
            "spec.observability.metrics.port",
            format!(
                "requests come in at port {} too: it is not opened to whoever scrapes metrics, which would be every \
                 namespace",
                port.name
            ),
            "Give metrics a port of their own, or have the namespace of Prometheus listed in metrics.scraperNamespaces of \
             the operator's chart.",
        ));
    }
    let outbound = scope.spec.access.as_ref().and_then(|access| access.outbound.as_ref());
    let cidrs = outbound.into_iter().flat_map(|outbound| outbound.cidrs.iter().flatten());
    let ranges = outbound.into_iter().flat_map(|outbound| outbound.addresses.iter().flatten());
    let named = cidrs
        .map(|cidr| ("spec.access.outbound.cidrs", cidr))
        .chain(ranges.map(|range| ("spec.access.outbound.addresses", &range.cidr)));
    for (field, cidr) in named.filter(|(_, cidr)| addresses(cidr).is_none()) {
        problems.push(Problem::error(
            field,
            format!("{cidr} is link-local, where clouds give away credentials of the node: it is not opened"),
            "Take it out; for an identity of its own at the cloud set spec.identity.",
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::FinServiceSpec;
    use crate::finservice::settings::Settings;
    use crate::finservice::testing;

    fn spec(more: &str) -> FinServiceSpec {
        let text = format!(
            "owner: team\nimage: app:1\nports: [{{name: http, port: 8080}}, {{name: metrics, port: 9090}}]\n{more}"
        );
        serde_norway::from_str(&text).expect("a spec")
    }

    fn told(scope: &Scope) -> (String, Vec<String>) {
        let problems = problems(scope).into_iter().map(|problem| problem.source).collect();
        (Value::from(metrics(scope)).to_string(), problems)
    }

    #[test]
    fn faults_4_7_metrics_at_the_port_of_requests_open_it_to_nobody_else() {
        let field = ["spec.observability.metrics.port".to_owned()];
        for more in [
            "ingress: {hosts: [a.example], gateway: gateways/public}",
            "access: {inbound: [{namespace: pay}]}",
        ] {
            let shared = spec(&format!("{more}\nobservability: {{metrics: {{port: http}}}}"));
            let (from, problems) = told(&testing::scope(&shared));
            assert!(from.contains("banyan-system") && !from.contains("\"namespaceSelector\":{}"), "{from}");
            assert_eq!(problems, field);
            let settings = Settings { scrapers: vec!["monitoring".into()], ..Settings::default() };
            let (from, problems) = told(&Scope { settings: &settings, ..testing::scope(&shared) });
            assert!(from.contains("monitoring") && from.contains("banyan-system"), "{from}");
            assert_eq!(problems, [""; 0]);
            let own = spec(&format!("{more}\nobservability: {{metrics: {{port: metrics}}}}"));
            let (from, problems) = told(&testing::scope(&own));
            assert_eq!((from.as_str(), problems), (r#"[{"namespaceSelector":{}}]"#, vec![]));
        }
        // Nobody calls it.
        let (_, problems) = told(&testing::scope(&spec("observability: {metrics: {port: http}}")));
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn faults_4_8_metadata_is_named_and_not_opened() {
        let spec =
            spec("access: {outbound: {cidrs: [0.0.0.0/0, 169.254.169.254/32, \"fd00:ec2::254/128\"]}}");
        assert_eq!(told(&testing::scope(&spec)).1, ["spec.access.outbound.cidrs"; 2]);
        assert_eq!(addresses("169.254.169.254/32"), None);
        let all = addresses("0.0.0.0/0").expect("it is more than that");
        assert_eq!(all, json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}));
    }
}
