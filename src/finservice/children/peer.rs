//! Who is meant, as a NetworkPolicy tells it: namespaces, labels of pods, and addresses. Pure.

use serde_json::{Map, Value, json};

use crate::api::labels::SERVICE_LABEL;
use crate::runtime::network::but_metadata;

/// Everything in a namespace.
pub fn namespace(name: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}})
}

/// Pods in a namespace: those with the labels, or all.
pub fn labelled<'a>(of: &str, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    let labels: Map<String, Value> =
        labels.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    let mut peer = namespace(of);
    if !labels.is_empty() {
        peer["podSelector"] = json!({"matchLabels": labels});
    }
    peer
}

/// The pods of a FinService.
pub fn service(namespace: &str, name: &str) -> Value {
    labelled(namespace, [(SERVICE_LABEL, name)])
}

/// The addresses of a network, without those where clouds give away credentials of the node; `None` if that is all of them.
pub fn addresses(cidr: &str) -> Option<Value> {
    let except = but_metadata(cidr)?;
    let mut block = json!({"cidr": cidr});
    if !except.is_empty() {
        block["except"] = json!(except);
    }
    Some(json!({"ipBlock": block}))
}

/// All addresses but those.
pub fn anywhere() -> Vec<Value> {
    ["0.0.0.0/0", "::/0"].into_iter().filter_map(addresses).collect()
}
