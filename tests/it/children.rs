//! What the builders write is what the API server gives back: else every look at a child would find
//! drift that nobody made.

use banyan::api::labels::MANAGER;
use banyan::runtime::digest::{self, Parts};
use banyan::sandbox::install::documents;
use banyan::sandbox::pair;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Discovery, ResourceExt};
use serde_json::Value;

const GOLDENS: [(&str, &str); 4] = [
    ("minimal", include_str!("../goldens/children/minimal.yaml")),
    ("rich-istio", include_str!("../goldens/children/rich-istio.yaml")),
    ("strict-istio", include_str!("../goldens/children/strict-istio.yaml")),
    ("rich-gateway-api", include_str!("../goldens/children/rich-gateway-api.yaml")),
];

#[tokio::test]
async fn children_are_read_back_as_they_were_written() {
    let client = pair().await.expect("a pair of clouds").gcp.client_admin().expect("a client");
    let discovery = Discovery::new(client.clone()).run().await.expect("discovery");
    let mut defects = Vec::new();
    for (golden, text) in GOLDENS {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let metadata = ObjectMeta { generate_name: Some("children-".to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let namespace = namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace");
        for mut body in documents(golden, text).expect("YAML") {
            body["metadata"]["namespace"] = namespace.name_any().into();
            // There is no such FinService, and what it owns would be collected.
            body["metadata"].as_object_mut().expect("metadata").remove("ownerReferences");
            let what = format!("{golden}: {} {}", body["kind"], body["metadata"]["name"]);
            let resource = resource(&discovery, &body);
            let api: Api<DynamicObject> =
                Api::namespaced_with(client.clone(), &namespace.name_any(), &resource);
            let name = body["metadata"]["name"].as_str().expect("a name");
            // The operator does not ask for this check, since here all that it makes is checked once.
            let parameters = PatchParams::apply(MANAGER).force().validation_strict();
            let first = match api.patch(name, &parameters, &Patch::Apply(&body)).await {
                Ok(object) => object,
                Err(error) => {
                    defects.push(format!("{what} is refused: {error}"));
                    continue;
                }
            };
            if digest::owned(&first.metadata, &first.data).map(Parts::whole) != Some(digest::wanted(&body)) {
                defects.push(format!("{what} is read back as {}", first.data));
            }
            if body["spec"]["type"] == "LoadBalancer" {
                // A cluster gives out the number of a node's port once, and the next golden asks for it too.
                api.delete(name, &DeleteParams::default()).await.expect("a Service that is deleted");
            }
        }
    }
    assert!(defects.is_empty(), "{}", defects.join("\n"));
}

fn resource(discovery: &Discovery, body: &Value) -> ApiResource {
    let version = body["apiVersion"].as_str().expect("an apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let kind = GroupVersionKind::gvk(group, version, body["kind"].as_str().expect("a kind"));
    discovery.resolve_gvk(&kind).unwrap_or_else(|| panic!("{kind:?} is not installed")).0
}
