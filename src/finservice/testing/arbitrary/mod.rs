//! Arbitrary FinServices.

mod pods;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use self::pods::*;
use super::SITE;
use crate::api::finservice::{FinServiceSpec, OnSecretChange, Tier, Traffic};
use crate::api::network::*;
use crate::api::operations::*;
use crate::api::workload::*;

fn name() -> BoxedStrategy<String> {
    "[a-z]([-a-z0-9]{0,12}[a-z0-9])?".boxed()
}

fn text() -> BoxedStrategy<String> {
    "[ -~]{0,20}".boxed()
}

fn duration() -> BoxedStrategy<String> {
    "[0-9]{1,4}(ms|s|m|h|d)".boxed()
}

fn percent() -> BoxedStrategy<String> {
    r"[0-9]{1,2}(\.[0-9]{1,6})?".boxed()
}

fn quantity() -> BoxedStrategy<Quantity> {
    r"[0-9]{1,4}(\.[0-9]{1,3})?(m|k|M|G|Ki|Mi|Gi|e[0-3])?".prop_map(Quantity).boxed()
}

fn distinct<T, K: Ord>(items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = std::collections::BTreeSet::new();
    items.into_iter().filter(|item| seen.insert(key(item))).collect()
}

fn paths() -> BoxedStrategy<Option<Vec<String>>> {
    of(vec("/([a-z]{1,4}(/[a-z]{1,4})?)?", 1..4)).boxed()
}

fn mesh() -> BoxedStrategy<Mesh> {
    let retries = (0..3, of(duration()), of(text())).prop_map(|(attempts, per_try_timeout, on)| Retries {
        attempts,
        per_try_timeout,
        on,
        idempotent: None,
    });
    let breaker = (of(1..100), of(1..100), of(1..100), of(duration()), of(0..100)).prop_map(
        |(max_connections, max_pending_requests, consecutive_5xx, ejection_time, max_ejection_percent)| {
            CircuitBreaker {
                max_connections,
                max_pending_requests,
                consecutive_5xx,
                ejection_time,
                max_ejection_percent,
            }
        },
    );
    let provider = select(vec![MeshProvider::Istio, MeshProvider::GatewayAPI, MeshProvider::None]);
    let mtls = select(vec![Mtls::Strict, Mtls::Permissive]);
    (of(provider), of(mtls), of(duration()), of(retries), of(breaker))
        .prop_map(|(provider, mtls, timeout, retries, circuit_breaker)| Mesh {
            provider,
            mtls,
            timeout,
            retries,
            circuit_breaker,
        })
        .boxed()
}

fn access() -> BoxedStrategy<Access> {
    let peer = prop_oneof![
        (name(), of(name())).prop_map(|(service, namespace)| Peer {
            service: Some(service),
            namespace,
            ..Peer::default()
        }),
        (name(), of(name())).prop_map(|(namespace, service_account)| Peer {
            namespace: Some(namespace),
            service_account,
            ..Peer::default()
        }),
        Just(Peer { cidr: Some("10.0.0.0/8".to_owned()), ..Peer::default() }),
        (name(), labels()).prop_map(|(namespace, labels)| Peer {
            namespace: Some(namespace),
            pod_labels: (!labels.is_empty()).then_some(labels),
            ..Peer::default()
        }),
    ];
    let service = (name(), of(name())).prop_map(|(service, namespace)| ServiceRef { service, namespace });
    let pods = (of(name()), of(labels()), of(vec(1_u16.., 1..3)))
        .prop_map(|(namespace, labels, ports)| PodPeer { namespace, labels, ports });
    let ranges = (select(vec!["10.1.0.0/16", "192.0.2.7/32", "fd00::/8"]), vec(1_u16.., 1..3))
        .prop_map(|(cidr, ports)| AddressPeer { cidr: cidr.to_owned(), ports });
    let outbound = (
        of(vec(service, 0..3)),
        of(vec("([*][.])?[a-z]{1,6}[.]example", 0..3)),
        of(vec(Just("10.0.0.0/8".to_owned()), 0..2)),
        of(vec(pods, 0..3)),
        of(vec(ranges, 0..3)),
    )
        .prop_map(|(services, hosts, cidrs, pods, addresses)| Outbound {
            services,
            hosts,
            cidrs,
            pods,
            addresses,
        });
    let jwt = of(vec(name(), 0..2)).prop_map(|audiences| Jwt {
        issuer: "https://issuer.example".to_owned(),
        jwks_uri: "https://issuer.example/keys".to_owned(),
        audiences,
    });
    (of(vec(peer, 0..4)), of(outbound), of(jwt))
        .prop_map(|(inbound, outbound, jwt)| Access { inbound, outbound, jwt })
        .boxed()
}

fn service() -> BoxedStrategy<ServiceSettings> {
    let kind = select(vec![ServiceType::ClusterIP, ServiceType::NodePort, ServiceType::LoadBalancer]);
    let ranges = of(vec(Just("203.0.113.0/24".to_owned()), 0..2));
    let policy = of(select(vec![ExternalTrafficPolicy::Cluster, ExternalTrafficPolicy::Local]));
    (of(kind), of(labels()), of(name()), ranges, policy)
        .prop_map(|(kind, annotations, class, ranges, policy)| {
            let balances = kind == Some(ServiceType::LoadBalancer);
            let outside = balances || kind == Some(ServiceType::NodePort);
            ServiceSettings {
                kind,
                annotations,
                load_balancer_class: class.filter(|_| balances),
                load_balancer_source_ranges: ranges.filter(|_| balances),
                external_traffic_policy: policy.filter(|_| outside),
            }
        })
        .boxed()
}

fn slo() -> BoxedStrategy<Slo> {
    let latency = (duration(), percent()).prop_map(|(threshold, percent)| LatencySlo { threshold, percent });
    (of(percent()), of(latency), of(duration()))
        .prop_map(|(availability, latency, window)| Slo { availability, latency, window })
        .boxed()
}

fn data() -> BoxedStrategy<Data> {
    let on_delete = select(vec![OnDelete::Retain, OnDelete::Delete]);
    let readers = vec(name(), 0..2).prop_map(|names| {
        let reader = |service| ServiceRef { service, namespace: Some("books".to_owned()) };
        names.into_iter().map(reader).collect::<Vec<_>>()
    });
    let topic =
        (name(), of("[A-Za-z0-9._-]{1,20}"), of(readers), of(1..50), of(1..4), of(duration()), of(on_delete))
            .prop_map(|(name, topic_name, readers, partitions, replicas, retention, on_delete)| Topic {
                name,
                topic_name,
                writers: readers.clone(),
                readers,
                partitions,
                replicas,
                retention,
                on_delete,
            });
    let residency = select(vec![Residency::US, Residency::EU]);
    (of(residency), of(vec(topic, 0..3)), of(name()), of(vec("[A-Za-z0-9._-]{1,20}", 0..3)))
        .prop_map(|(residency, topics, kafka_cluster, reads)| Data {
            residency,
            writes: reads.clone(),
            reads,
            topics: topics.map(|topics| distinct(topics, |topic| topic.name.clone())),
            kafka_cluster,
            ..Data::default()
        })
        .boxed()
}

/// Specs as the API server would let them in, as wide as the fields allow.
pub fn spec() -> BoxedStrategy<FinServiceSpec> {
    let pod = (
        (of(text()), ports(), of(env()), of(env_from()), mounts()),
        (of(vec(name(), 0..3)), of(vec(text(), 0..3)), of(resources()), of(probes()), of(scheduling())),
        (of(duration()), of(duration()), of(vec(name(), 0..2)), of((env(), of(probes())))),
        (of(security()), of(labels()), of(labels()), of(service())),
    );
    let place = (
        of(scale()),
        of(select(vec![Tier::Critical, Tier::Standard, Tier::Batch])),
        any::<bool>(),
        of(select(vec![OnSecretChange::Restart, OnSecretChange::Rollout, OnSecretChange::Ignore])),
        of(1..=100_i32),
        of((any::<bool>(), any::<bool>())),
    );
    let network = (
        of(mesh()),
        of(access()),
        of((vec("[a-z]{1,6}[.]example", 1..3), paths(), any::<bool>())),
        of((select(vec!["monolith.legacy.svc", "monolith", "old.example"]), 1_u16.., paths())),
    );
    let operations = (
        any::<Option<bool>>(),
        of(("[a-z]{1,8}(:[0-9]{1,5})?", of(0..=100_i32))),
        of(any::<bool>()),
        of(slo()),
        of(data()),
    );
    (pod.boxed(), place.boxed(), network.boxed(), operations.boxed())
        .prop_map(|(pod, place, network, operations)| {
            let ((version, ports, env, env_from, (files, volumes)), main, (sleep, grace, pull, init), more) =
                pod;
            let (security, pod_labels, pod_annotations, service) = more;
            let (command, args, resources, probes, scheduling) = main;
            let (scale, tier, pulled, on_secret_change, capacity_percent, identity) = place;
            let (mesh, access, ingress, legacy) = network;
            let (metrics, tracing, alert, slo, data) = operations;
            let pulled = pulled || ports.is_empty();
            let routed = mesh.as_ref().and_then(|mesh| mesh.provider).unwrap_or_default()
                != MeshProvider::None
                && !pulled;
            let ingress = ingress.filter(|_| routed).map(|(hosts, paths, namespaced)| Ingress {
                hosts,
                paths,
                gateway: if namespaced { "edge/public" } else { "public" }.to_owned(),
                port: ports.last().map(|port| port.name.clone()),
            });
            let legacy = legacy.filter(|_| ingress.is_some()).map(|(host, port, paths)| Legacy {
                tls: None,
                host: host.to_owned(),
                port,
                paths,
            });
            let port = |first: bool| if first { ports.first() } else { ports.last() };
            let metrics = metrics.and_then(port).map(|port| Metrics {
                port: port.name.clone(),
                path: None,
                interval: None,
            });
            let tracing = tracing
                .map(|(host, sample_percent)| Tracing { endpoint: format!("http://{host}"), sample_percent });
            FinServiceSpec {
                owner: "team".to_owned(),
                image: "registry.example/app:1".to_owned(),
                version: version.filter(|version| !version.is_empty()),
                env,
                env_from,
                files: Some(files),
                command,
                args,
                volumes: Some(volumes),
                init_containers: init.map(|(env, beside)| vec![pods::init(env, beside)]),
                pre_stop: sleep.map(|sleep| PreStop { sleep: Some(sleep), exec: None }),
                termination_grace_period: grace,
                image_pull_secrets: pull,
                identity: identity.map(|(aws, gcp)| Identity {
                    aws_role_arn: aws.then(|| "arn:aws:iam::123456789012:role/app".to_owned()),
                    gcp_service_account: gcp.then(|| "app@project.iam.gserviceaccount.com".to_owned()),
                }),
                security,
                pod_labels,
                pod_annotations,
                service,
                on_secret_change,
                tier,
                traffic: pulled.then_some(Traffic::Pulled),
                standby: None,
                resources,
                probes,
                scale,
                scheduling,
                ingress,
                mesh,
                access,
                observability: Some(Observability {
                    metrics,
                    tracing,
                    logs: alert.map(|alert| Logs { error_rate_alert: Some(alert) }),
                }),
                slo,
                data,
                placement: capacity_percent.map(|percent| {
                    vec![Placement { cluster: SITE.to_owned(), capacity_percent: Some(percent) }]
                }),
                sites: Some(BTreeMap::new()),
                legacy,
                ports,
            }
        })
        .boxed()
}
