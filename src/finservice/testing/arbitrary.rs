//! Arbitrary FinServices.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

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

fn ports() -> BoxedStrategy<Vec<Port>> {
    let protocol = select(vec![Protocol::HTTP, Protocol::HTTP2, Protocol::GRPC, Protocol::TCP]);
    vec(("[a-z][a-z0-9]{0,8}", 1_u16.., of(protocol)), 0..5)
        .prop_map(|ports| {
            let ports = distinct(ports, |port| port.0.clone());
            let ports = distinct(ports, |port| port.1);
            ports.into_iter().map(|(name, port, protocol)| Port { name, port, protocol }).collect()
        })
        .boxed()
}

fn env() -> BoxedStrategy<Vec<EnvVar>> {
    let key = || {
        (name(), name(), of(any::<bool>())).prop_map(|(name, key, optional)| KeyRef { name, key, optional })
    };
    let source = prop_oneof![
        key().prop_map(|key| EnvSource { config_map_key_ref: Some(key), ..EnvSource::default() }),
        key().prop_map(|key| EnvSource { secret_key_ref: Some(key), ..EnvSource::default() }),
        Just(EnvSource {
            field_ref: Some(FieldRef { field_path: "status.podIP".to_owned() }),
            ..EnvSource::default()
        }),
        Just(EnvSource {
            resource_field_ref: Some(ResourceFieldRef { resource: "limits.cpu".to_owned() }),
            ..EnvSource::default()
        }),
    ];
    let value = prop_oneof![
        of(text()).prop_map(|value| (value, None)),
        source.prop_map(|source| (None, Some(source))),
    ];
    vec(("[A-Z][A-Z_]{0,6}", value), 0..5)
        .prop_map(|env| {
            distinct(env, |variable| variable.0.clone())
                .into_iter()
                .map(|(name, (value, value_from))| EnvVar { name, value, value_from })
                .collect()
        })
        .boxed()
}

fn env_from() -> BoxedStrategy<Vec<EnvFrom>> {
    let object = (name(), of(any::<bool>())).prop_map(|(name, optional)| ObjectName { name, optional });
    vec((of("[A-Z_]{0,4}"), object, any::<bool>()), 0..3)
        .prop_map(|from| {
            from.into_iter()
                .map(|(prefix, object, secret)| EnvFrom {
                    prefix,
                    config_map_ref: (!secret).then(|| object.clone()),
                    secret_ref: secret.then_some(object),
                })
                .collect()
        })
        .boxed()
}

fn mounts() -> BoxedStrategy<(Vec<Files>, Vec<Volume>)> {
    let files = (name(), any::<bool>());
    let empty_dir =
        (of(quantity()), of(any::<bool>())).prop_map(|(size_limit, memory)| EmptyDir { size_limit, memory });
    let volume = (name(), of(any::<bool>()), empty_dir, any::<bool>());
    (vec(files, 0..3), vec(volume, 0..3))
        .prop_map(|(files, volumes)| {
            let files = files.into_iter().enumerate().map(|(index, (name, secret))| Files {
                mount_path: format!("/files/{index}"),
                config_map: (!secret).then(|| name.clone()),
                secret: secret.then_some(name),
            });
            let volumes = distinct(volumes, |volume| volume.0.clone()).into_iter().map(
                |(name, read_only, empty_dir, claim)| Volume {
                    mount_path: format!("/volumes/{name}"),
                    read_only,
                    empty_dir: (!claim).then_some(empty_dir),
                    persistent_volume_claim: claim.then(|| name.clone()),
                    name,
                },
            );
            (files.collect(), volumes.collect())
        })
        .boxed()
}

fn resources() -> BoxedStrategy<Resources> {
    let amounts = || of(btree_map(select(vec!["cpu".to_owned(), "memory".to_owned()]), quantity(), 0..3));
    (amounts(), amounts()).prop_map(|(requests, limits)| Resources { requests, limits }).boxed()
}

fn probe() -> BoxedStrategy<Probe> {
    let port = || prop_oneof![(1..=65535).prop_map(IntOrString::Int), name().prop_map(IntOrString::String)];
    let kind = prop_oneof![
        (of("/[a-z]{0,4}"), port())
            .prop_map(|(path, port)| Probe { http_get: Some(HttpGet { path, port }), ..Probe::default() }),
        port().prop_map(|port| Probe { tcp_socket: Some(TcpSocket { port }), ..Probe::default() }),
        (1_u16.., of(text())).prop_map(|(port, service)| Probe {
            grpc: Some(GrpcCheck { port, service }),
            ..Probe::default()
        }),
        vec(name(), 1..3).prop_map(|command| Probe { exec: Some(Exec { command }), ..Probe::default() }),
    ];
    (kind, of(0..5), of(1..5), of(1..5))
        .prop_map(|(kind, initial_delay_seconds, period_seconds, failure_threshold)| Probe {
            initial_delay_seconds,
            period_seconds,
            failure_threshold,
            ..kind
        })
        .boxed()
}

fn probes() -> BoxedStrategy<Probes> {
    (of(probe()), of(probe()), of(probe()))
        .prop_map(|(readiness, liveness, startup)| Probes { readiness, liveness, startup })
        .boxed()
}

fn scale() -> BoxedStrategy<Scale> {
    prop_oneof![
        (0..50).prop_map(|replicas| Scale { replicas: Some(replicas), ..Scale::default() }),
        (1..50, 0..50, of(1..200)).prop_map(|(min, more, cpu_percent)| Scale {
            min: Some(min),
            max: Some(min + more),
            cpu_percent,
            replicas: None
        }),
    ]
    .boxed()
}

fn scheduling() -> BoxedStrategy<Scheduling> {
    let effect = || of(select(vec!["NoSchedule", "NoExecute"]));
    let toleration = prop_oneof![
        (of(name()), effect()).prop_map(|(key, effect)| (key, Some("Exists"), None, effect)),
        (name(), of(Just("Equal")), of(prop_oneof![name(), Just(String::new())]), effect())
            .prop_map(|(key, operator, value, effect)| (Some(key), operator, value, effect)),
    ];
    let spread = select(vec![Spread::Preferred, Spread::Required, Spread::None]);
    (of(btree_map(name(), name(), 0..3)), of(vec(toleration, 0..3)), of(spread))
        .prop_map(|(node_selector, tolerations, spread)| Scheduling {
            node_selector,
            tolerations: tolerations.map(|tolerations| {
                tolerations
                    .into_iter()
                    .map(|(key, operator, value, effect)| Toleration {
                        key,
                        operator: operator.map(str::to_owned),
                        value,
                        effect: effect.map(str::to_owned),
                    })
                    .collect()
            }),
            spread,
        })
        .boxed()
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
    ];
    let service = (name(), of(name())).prop_map(|(service, namespace)| ServiceRef { service, namespace });
    let outbound = (
        of(vec(service, 0..3)),
        of(vec("([*][.])?[a-z]{1,6}[.]example", 0..3)),
        of(vec(Just("10.0.0.0/8".to_owned()), 0..2)),
    )
        .prop_map(|(services, hosts, cidrs)| Outbound { services, hosts, cidrs });
    let jwt = of(vec(name(), 0..2)).prop_map(|audiences| Jwt {
        issuer: "https://issuer.example".to_owned(),
        jwks_uri: "https://issuer.example/keys".to_owned(),
        audiences,
    });
    (of(vec(peer, 0..4)), of(outbound), of(jwt))
        .prop_map(|(inbound, outbound, jwt)| Access { inbound, outbound, jwt })
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
    let topic = (name(), of(1..50), of(1..4), of(duration()), of(on_delete)).prop_map(
        |(name, partitions, replicas, retention, on_delete)| Topic {
            name,
            partitions,
            replicas,
            retention,
            on_delete,
        },
    );
    let residency = select(vec![Residency::US, Residency::EU]);
    (of(residency), of(vec(topic, 0..3)), of(name()))
        .prop_map(|(residency, topics, kafka_cluster)| Data {
            residency,
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
        (of(duration()), of(duration()), of(vec(name(), 0..2)), of(env())),
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
            let ((version, ports, env, env_from, (files, volumes)), main, (sleep, grace, pull, init_env)) =
                pod;
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
                init_containers: init_env.map(|env| {
                    vec![InitContainer {
                        name: "init".to_owned(),
                        image: "registry.example/init:1".to_owned(),
                        env: Some(env),
                        ..InitContainer::default()
                    }]
                }),
                pre_stop: sleep.map(|sleep| PreStop { sleep: Some(sleep), exec: None }),
                termination_grace_period: grace,
                image_pull_secrets: pull,
                identity: identity.map(|(aws, gcp)| Identity {
                    aws_role_arn: aws.then(|| "arn:aws:iam::123456789012:role/app".to_owned()),
                    gcp_service_account: gcp.then(|| "app@project.iam.gserviceaccount.com".to_owned()),
                }),
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
