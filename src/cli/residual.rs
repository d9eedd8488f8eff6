//! `banyan failover residual`: how many requests of users still arrive at the site of this cluster, which has no authority.
//! It asks each pod of `banyan authority` through the API server, with the caller's own rights.

use futures::future::try_join_all;
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::failover_error::FailoverError;
use crate::authority::residual::{Arrived, SERVICE, together};
use crate::cloudcluster::peer_error::remote;
use crate::runtime::remote::{DEADLINE, within};
use crate::terminal::output::Output;
use crate::terminal::table::columns;

/// The port at which a pod of `banyan authority` answers.
const PORT: u16 = 8080;

/// Shows what has arrived, added up over all pods.
///
/// # Errors
/// If there are no such pods, or one does not answer.
pub async fn residual(
    client: Client,
    namespace: &str,
    group: Option<String>,
    output: Output,
) -> Result<(), FailoverError> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/name={SERVICE}"));
    let listed = pods
        .list(&selector)
        .await
        .map_err(FailoverError::api("listing the pods of banyan authority", namespace))?;
    let running = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
    };
    let names: Vec<String> = listed.items.into_iter().filter(running).map(|pod| pod.name_any()).collect();
    if names.is_empty() {
        return Err(FailoverError::Usage(format!(
            "no pod of banyan authority runs in namespace {namespace}: see `kubectl get deployment {SERVICE} -n {namespace}`"
        )));
    }
    let answers = try_join_all(names.iter().map(|pod| ask(&client, namespace, pod))).await?;
    let all = together(answers.into_iter().flatten());
    let all: Vec<Arrived> =
        all.into_iter().filter(|one| group.as_ref().is_none_or(|group| one.group == *group)).collect();
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&all)?),
        Output::Table => print!("{}", table(&all, group.as_deref())),
    }
    Ok(())
}

async fn ask(client: &Client, namespace: &str, pod: &str) -> Result<Vec<Arrived>, FailoverError> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{PORT}/proxy/residual");
    let failed = |why: String| {
        FailoverError::Usage(format!(
            "pod {pod} does not say what has arrived: {why}. It needs the right to `get pods/proxy` in namespace {namespace}"
        ))
    };
    let request = Request::get(path).body(Vec::new()).map_err(|error| failed(error.to_string()))?;
    let asked = async { client.request_text(request).await.map_err(|error| remote(&error)) };
    let text = within(DEADLINE, asked).await.map_err(|error| failed(error.to_string()))?;
    Ok(serde_json::from_str(&text)?)
}

/// What people read. Pure.
fn table(all: &[Arrived], group: Option<&str>) -> String {
    if all.is_empty() {
        return match group {
            Some(group) => format!("No request for FailoverGroup {group} was led away from this site.\n"),
            None => "No request was led away from this site.\n".to_owned(),
        };
    }
    let heads = ["GROUP", "LAST MINUTE", "SENT ON", "REFUSED", "FAILED"].map(str::to_owned);
    let row = |one: &Arrived| {
        let figures =
            [one.last_minute, one.forwarded, one.refused, one.failed].map(|figure| figure.to_string());
        std::iter::once(one.group.clone()).chain(figures).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = std::iter::once(heads.to_vec()).chain(all.iter().map(row)).collect();
    columns(&rows, "", 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_still_arrives_is_one_line_for_each_group() {
        assert_eq!(
            table(&[], Some("pay")),
            "No request for FailoverGroup pay was led away from this site.\n"
        );
        let pay =
            Arrived { group: "payments".to_owned(), last_minute: 12, forwarded: 340, refused: 0, failed: 3 };
        let expected = "GROUP      LAST MINUTE   SENT ON   REFUSED   FAILED\npayments   12            340       0         3\n";
        assert_eq!(table(&[pay], None), expected);
    }
}
