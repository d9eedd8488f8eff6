//! How each operator of the sandbox finds the other cloud: through that cloud's own API, or, where the sandbox is left to
//! itself, by a kubeconfig, since nobody plays the clouds then. Pure.

use serde_json::{Value, json};

use super::ends::clouds::{CloudEnds, kept, peer_rights};
use super::error::Result;

/// How a cloud is reached.
pub enum Way<'a> {
    /// Through the APIs of both clouds.
    Clouds(&'a CloudEnds),
    /// By this kubeconfig.
    Kubeconfig(&'a str),
}

/// What is applied in the cloud whose place is `here` (0 for AWS, 1 for Google's), so that it finds the other one and is
/// found by it. `sites` are the CloudClusters as they were written, `there` is the name of the other one.
///
/// # Errors
/// Never, unless the chart was broken when the program was built.
pub fn objects(here: usize, there: &str, sites: &[Value], way: &Way<'_>) -> Result<Vec<Value>> {
    let (access, secret) = match way {
        Way::Clouds(ends) if here == 0 => ends.to_gcp(there),
        Way::Clouds(ends) => ends.to_aws(there),
        Way::Kubeconfig(text) => {
            (json!({"kubeconfig": {"secretRef": {"name": there}}}), kept(there, &json!({"kubeconfig": text})))
        }
    };
    let of_there = sites.iter().find(|site| site["metadata"]["name"] == there).cloned();
    let site = of_there.map(|mut site| {
        site["spec"]["access"] = json!([access]);
        site
    });
    Ok(peer_rights(there)?.into_iter().chain([secret]).chain(site).collect())
}
