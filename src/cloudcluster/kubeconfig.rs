//! Whether a kubeconfig that comes from a Secret may be used. Pure.
//!
//! It is somebody else's text, and used inside the operator's own Pod: it must not make that run a program, read a
//! file, or believe an API server that cannot show who it is.

use kube::config::{AuthInfo, Cluster, Kubeconfig};

use crate::api::Problem;

/// The field of a CloudCluster that problems come from.
const SOURCE: &str = "spec.kubeconfig.secretRef";

/// The kubeconfig, reduced to its current context, if all that it needs lies within it.
///
/// # Errors
/// If it is no kubeconfig, has no current context, or asks for what is refused: the field and the remedy.
pub fn check(text: &[u8]) -> Result<Kubeconfig, Problem> {
    let mut whole = parse(text)?;
    let name = whole.current_context.clone().filter(|name| !name.is_empty()).ok_or_else(|| {
        problem("current-context is missing", "name the context that is meant in current-context")
    })?;
    let context = whole
        .contexts
        .iter()
        .find(|named| named.name == name)
        .and_then(|named| named.context.clone())
        .ok_or_else(|| absent("contexts", &name))?;
    let user = context.user.clone().unwrap_or_default();
    whole.contexts.retain(|named| named.name == name);
    whole.clusters.retain(|named| named.name == context.cluster);
    whole.auth_infos.retain(|named| named.name == user);
    let cluster = whole.clusters.first().and_then(|named| named.cluster.as_ref());
    server(&context.cluster, cluster.ok_or_else(|| absent("clusters", &context.cluster))?)?;
    let info = whole.auth_infos.first().and_then(|named| named.auth_info.as_ref());
    credentials(&user, info.ok_or_else(|| absent("users", &user))?)?;
    Ok(whole)
}

fn parse(text: &[u8]) -> Result<Kubeconfig, Problem> {
    let remedy = "put a whole kubeconfig, as YAML, under that key of the Secret";
    let text = std::str::from_utf8(text).map_err(|_| problem("it is no text", remedy))?;
    serde_norway::from_str(text).map_err(|error| {
        // What the parser says may quote what it read, which is secret.
        let place = error.location().map(|at| format!(": see line {}", at.line())).unwrap_or_default();
        problem(&format!("it is no kubeconfig{place}"), remedy)
    })
}

fn problem(message: &str, remedy: &str) -> Problem {
    Problem::error(SOURCE, format!("the kubeconfig cannot be used: {message}"), remedy)
}

fn absent(list: &str, name: &str) -> Problem {
    problem(
        &format!("{list} has no entry {name:?}"),
        &format!("add it to {list}, or correct current-context"),
    )
}

fn server(name: &str, cluster: &Cluster) -> Result<(), Problem> {
    let at = |field: &str| format!("clusters[{name}].cluster.{field}");
    let inline = "put the certificate itself, in base64, into certificate-authority-data";
    if cluster.certificate_authority.is_some() {
        return Err(problem(&format!("{} names a file", at("certificate-authority")), inline));
    }
    if cluster.insecure_skip_tls_verify == Some(true) {
        let message = format!("{} would believe any server", at("insecure-skip-tls-verify"));
        return Err(problem(&message, inline));
    }
    if cluster.proxy_url.as_deref().is_some_and(|url| !url.is_empty()) {
        let message = format!("{} is set, and proxies are not supported", at("proxy-url"));
        return Err(problem(&message, "let the operator reach the API server directly"));
    }
    let remedy = "name the API server as https://host:port";
    let address = cluster.server.as_deref().unwrap_or_default();
    let uri: http::Uri =
        address.parse().map_err(|_| problem(&format!("{} is no URL", at("server")), remedy))?;
    let host = uri.host().unwrap_or_default();
    let inside = host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(()),
        // A tunnel in the same Pod.
        Some("http") if inside => Ok(()),
        _ => Err(problem(&format!("{} is not https", at("server")), remedy)),
    }
}

fn credentials(name: &str, user: &AuthInfo) -> Result<(), Problem> {
    let at = |field: &str| format!("users[{name}].user.{field}");
    let token = "use a token or client-certificate-data and client-key-data instead";
    let programs = [("exec", user.exec.is_some()), ("auth-provider", user.auth_provider.is_some())];
    if let Some((field, _)) = programs.iter().find(|(_, set)| *set) {
        let message = format!("{} would run a program in the operator's Pod", at(field));
        return Err(problem(&message, token));
    }
    let files = [
        ("tokenFile", user.token_file.is_some()),
        ("client-certificate", user.client_certificate.is_some()),
        ("client-key", user.client_key.is_some()),
    ];
    if let Some((field, _)) = files.iter().find(|(_, set)| *set) {
        return Err(problem(&format!("{} names a file", at(field)), token));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn kubeconfig() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "gcp",
            "contexts": [{"name": "gcp", "context": {"cluster": "c", "user": "u"}},
                {"name": "other", "context": {"cluster": "x", "user": "x"}}],
            "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443", "certificate-authority-data": "YQ=="}}],
            "users": [{"name": "u", "user": {"token": "secret-token"}},
                {"name": "x", "user": {"exec": {"command": "aws"}}}],
        })
    }

    fn checked(change: impl FnOnce(&mut Value)) -> Result<Kubeconfig, String> {
        let mut value = kubeconfig();
        change(&mut value);
        check(value.to_string().as_bytes()).map_err(|problem| {
            assert_eq!(problem.source, "spec.kubeconfig.secretRef");
            assert!(!problem.message.contains("secret-token") && !problem.remedy.is_empty(), "{problem:?}");
            problem.message
        })
    }

    #[test]
    fn only_what_the_current_context_names_is_left() {
        let left = checked(|_| ()).unwrap();
        assert_eq!((left.contexts.len(), left.clusters.len(), left.auth_infos.len()), (1, 1, 1));
        assert_eq!(left.auth_infos[0].name, "u", "another user's exec harms nobody who does not use it");
    }

    #[test]
    fn what_leaves_the_text_is_refused_by_name() {
        let cases: [(&str, Value, &str); 11] = [
            ("/users/0/user/exec", json!({"command": "aws"}), "users[u].user.exec would run a program"),
            ("/users/0/user/auth-provider", json!({"name": "gcp"}), "users[u].user.auth-provider would run"),
            ("/users/0/user/tokenFile", json!("/t"), "users[u].user.tokenFile names a file"),
            (
                "/users/0/user/client-certificate",
                json!("/c"),
                "users[u].user.client-certificate names a file",
            ),
            ("/users/0/user/client-key", json!("/k"), "users[u].user.client-key names a file"),
            (
                "/clusters/0/cluster/certificate-authority",
                json!("/ca"),
                "clusters[c].cluster.certificate-authority names",
            ),
            ("/clusters/0/cluster/insecure-skip-tls-verify", json!(true), "would believe any server"),
            ("/clusters/0/cluster/proxy-url", json!("socks5://a"), "proxies are not supported"),
            (
                "/clusters/0/cluster/server",
                json!("http://10.0.0.1"),
                "clusters[c].cluster.server is not https",
            ),
            ("/clusters/0/cluster/server", json!("10.0.0.1"), "is not https"),
            ("/clusters/0/cluster/server", json!(" "), "is no URL"),
        ];
        for (pointer, value, words) in cases {
            let error = checked(|config| {
                let (parent, field) = pointer.rsplit_once('/').unwrap();
                config.pointer_mut(parent).unwrap()[field] = value;
            })
            .unwrap_err();
            assert!(error.contains(words), "{pointer}: {error}");
        }
    }

    #[test]
    fn plain_http_is_only_for_the_same_pod() {
        for (server, taken) in [
            ("http://127.0.0.1:8001", true),
            ("http://[::1]:8001", true),
            ("http://localhost:8001", true),
            ("http://localhost.evil.example", false),
        ] {
            let checked = checked(|config| config["clusters"][0]["cluster"]["server"] = json!(server));
            assert_eq!(checked.is_ok(), taken, "{server}: {checked:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let cases: [(&str, Value, &str); 4] = [
            ("current-context", json!(""), "current-context is missing"),
            ("current-context", json!("aws"), "contexts has no entry \"aws\""),
            ("clusters", json!([]), "clusters has no entry \"c\""),
            ("users", json!([]), "users has no entry \"u\""),
        ];
        for (field, value, words) in cases {
            let error = checked(|config| config[field] = value).unwrap_err();
            assert!(error.contains(words), "{field}: {error}");
        }
        let error = check(b"clusters: secret-token").unwrap_err().message;
        assert!(
            error.contains("it is no kubeconfig: see line 1") && !error.contains("secret-token"),
            "{error}"
        );
        assert!(check(&[0xff]).unwrap_err().message.contains("no text"));
    }
}
