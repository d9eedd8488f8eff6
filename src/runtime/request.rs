//! What a request to an API server asks for, in RBAC's words: verb, group, resource.

use http::{Method, Uri};

/// A request to an API server, as RBAC and the audit log name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `apply`, `delete`, `deletecollection`. `apply` is a
    /// `patch` to RBAC, and told apart because server-side apply costs the API server more.
    pub verb: &'static str,
    /// The API group, empty for the core group; for what is no resource (discovery, `/version`) also empty.
    pub group: String,
    /// `deployments`, `deployments/scale`; `nonresource` for discovery and the like.
    pub resource: String,
}

impl RequestInfo {
    /// Reads it off a request. `apply` says whether the body is a server-side apply.
    pub fn new(method: &Method, uri: &Uri, apply: bool) -> Self {
        let path = uri.path().trim_matches('/');
        let mut parts = path.split('/');
        let (group, named) = match parts.next() {
            Some("api") if parts.next().is_some() => ("", true),
            Some("apis") => match (parts.next(), parts.next()) {
                (Some(group), Some(_version)) => (group, true),
                _ => ("", false),
            },
            _ => ("", false),
        };
        let mut rest: Vec<&str> = if named { parts.collect() } else { Vec::new() };
        // `/namespaces/x/pods` asks for pods in x; `/namespaces/x` and `/namespaces/x/status` for the namespace.
        if rest.len() > 2 && rest[0] == "namespaces" && !matches!(rest[2], "status" | "finalize") {
            rest.drain(..2);
        }
        let Some(resource) = rest.first() else {
            return Self {
                verb: Self::verb(method, false, true, apply),
                group: String::new(),
                resource: "nonresource".into(),
            };
        };
        let watch = uri.query().is_some_and(|query| {
            query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1" | "watch"))
        });
        Self {
            verb: Self::verb(method, watch, rest.len() > 1, apply),
            group: group.into(),
            resource: match rest.get(2) {
                Some(subresource) => format!("{resource}/{subresource}"),
                None => (*resource).into(),
            },
        }
    }

    fn verb(method: &Method, watch: bool, one: bool, apply: bool) -> &'static str {
        match (method, one) {
            (&Method::GET | &Method::HEAD, _) if watch => "watch",
            (&Method::GET | &Method::HEAD, true) => "get",
            (&Method::GET | &Method::HEAD, false) => "list",
            (&Method::POST, _) => "create",
            (&Method::PUT, _) => "update",
            (&Method::PATCH, _) if apply => "apply",
            (&Method::PATCH, _) => "patch",
            (&Method::DELETE, true) => "delete",
            (&Method::DELETE, false) => "deletecollection",
            _ => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_rbac_names_them() {
        let cases = [
            ("GET", "/api/v1/namespaces/pay/services/ledger", "get /services"),
            ("GET", "/api/v1/services?labelSelector=a%3Db&limit=500", "list /services"),
            ("GET", "/api/v1/namespaces/pay/services?watch=true&timeoutSeconds=290", "watch /services"),
            ("POST", "/api/v1/namespaces/pay/configmaps?fieldManager=banyan", "create /configmaps"),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/pay/deployments/ledger-1?force=true",
                "patch apps/deployments",
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/pay/deployments/ledger-1/scale",
                "patch apps/deployments/scale",
            ),
            (
                "PUT",
                "/apis/coordination.k8s.io/v1/namespaces/b/leases/banyan",
                "update coordination.k8s.io/leases",
            ),
            (
                "DELETE",
                "/apis/policy/v1/namespaces/pay/poddisruptionbudgets/x",
                "delete policy/poddisruptionbudgets",
            ),
            ("DELETE", "/api/v1/namespaces/pay/pods", "deletecollection /pods"),
            ("GET", "/api/v1/namespaces/pay", "get /namespaces"),
            ("GET", "/api/v1/namespaces", "list /namespaces"),
            ("PUT", "/api/v1/namespaces/pay/finalize", "update /namespaces/finalize"),
            (
                "GET",
                "/apis/banyan.dev/v1alpha1/finservices?allowWatchBookmarks=true&watch=1",
                "watch banyan.dev/finservices",
            ),
            ("GET", "/apis/banyan.dev/v1alpha1", "get /nonresource"),
            ("GET", "/apis", "get /nonresource"),
            ("GET", "/api", "get /nonresource"),
            ("GET", "/version", "get /nonresource"),
            ("GET", "/", "get /nonresource"),
            ("OPTIONS", "/api/v1/pods", "other /pods"),
        ];
        for (method, uri, expected) in cases {
            let info = RequestInfo::new(&method.parse().unwrap(), &uri.parse().unwrap(), false);
            assert_eq!(format!("{} {}/{}", info.verb, info.group, info.resource), expected, "{method} {uri}");
        }
        let uri = "/apis/apps/v1/namespaces/pay/deployments/ledger-1".parse().unwrap();
        assert_eq!(RequestInfo::new(&Method::PATCH, &uri, true).verb, "apply");
    }
}
