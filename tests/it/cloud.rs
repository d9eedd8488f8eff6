//! The sandbox itself: what all other tests stand on.

use banyan::sandbox::pair;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};

#[tokio::test]
async fn each_cloud_has_six_ready_nodes_in_three_zones() {
    let pair = pair().await.unwrap();
    for cloud in pair.clouds() {
        let client = cloud.client_admin().unwrap();
        let nodes = Api::<Node>::all(client)
            .list(&ListParams::default())
            .await
            .unwrap();
        let zones: std::collections::BTreeMap<String, usize> =
            nodes.iter().fold(Default::default(), |mut zones, node| {
                let zone =
                    node.metadata.labels.as_ref().unwrap()["topology.kubernetes.io/zone"].clone();
                *zones.entry(zone).or_default() += 1;
                zones
            });
        assert_eq!(nodes.items.len(), 6);
        assert_eq!(
            zones.values().copied().collect::<Vec<_>>(),
            [2, 2, 2],
            "{zones:?}"
        );
    }
}
