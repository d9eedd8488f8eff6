//! What runs in arbitrary pods.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::{distinct, name, quantity, text};
use crate::api::mounts::*;
use crate::api::probes::*;
use crate::api::workload::*;

pub(super) fn ports() -> BoxedStrategy<Vec<Port>> {
    let protocol = select(vec![Protocol::HTTP, Protocol::HTTP2, Protocol::GRPC, Protocol::TCP]);
    vec(("[a-z][a-z0-9]{0,8}", 1_u16.., of(protocol), of(1_u16..)), 0..5)
        .prop_map(|ports| {
            let ports = distinct(ports, |port| port.0.clone());
            let ports = distinct(ports, |port| port.1);
            let ports = ports.into_iter().map(|(name, port, protocol, service_port)| Port {
                name,
                port,
                protocol,
                service_port,
                node_port: None,
            });
            distinct(ports.collect(), Port::service_port)
        })
        .boxed()
}

pub(super) fn env() -> BoxedStrategy<Vec<EnvVar>> {
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

pub(super) fn env_from() -> BoxedStrategy<Vec<EnvFrom>> {
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

pub(super) fn mounts() -> BoxedStrategy<(Vec<Files>, Vec<Volume>)> {
    let item = (name(), "[a-z]{1,4}(/[a-z]{1,4})?", of(0..=511)).prop_map(|(key, path, mode)| FileItem {
        key,
        path,
        mode,
    });
    let files = (name(), any::<bool>(), of(vec(item, 1..3)), any::<bool>(), of(0..=511), of(any::<bool>()));
    let empty_dir =
        (of(quantity()), of(any::<bool>())).prop_map(|(size_limit, memory)| EmptyDir { size_limit, memory });
    let token = (name(), of(name()), of(600_i64..86_400)).prop_map(|(audience, path, expiration_seconds)| {
        ServiceAccountToken { audience, path, expiration_seconds }
    });
    let source = prop_oneof![
        empty_dir.prop_map(|empty_dir| (Some(empty_dir), None, None)),
        name().prop_map(|claim| (None, Some(claim), None)),
        token.prop_map(|token| (None, None, Some(token))),
    ];
    let volume = (name(), of(any::<bool>()), source, of("[a-z]{1,4}"));
    (vec(files, 0..3), vec(volume, 0..3))
        .prop_map(|(files, volumes)| {
            let files = files.into_iter().enumerate();
            let files = files.map(|(index, (name, secret, items, one, mode, optional))| Files {
                mount_path: format!("/files/{index}"),
                config_map: (!secret).then(|| name.clone()),
                secret: secret.then_some(name),
                sub_path: items.as_ref().filter(|_| one).map(|items| items[0].path.clone()),
                items: items.map(|items| distinct(items, |item| item.path.clone())),
                mode,
                optional,
            });
            let volumes = distinct(volumes, |volume| volume.0.clone()).into_iter().map(
                |(name, read_only, (empty_dir, persistent_volume_claim, token), sub_path)| Volume {
                    mount_path: format!("/volumes/{name}"),
                    read_only,
                    empty_dir,
                    persistent_volume_claim,
                    service_account_token: token,
                    sub_path,
                    name,
                },
            );
            (files.collect(), volumes.collect())
        })
        .boxed()
}

pub(super) fn resources() -> BoxedStrategy<Resources> {
    let amounts = || of(btree_map(select(vec!["cpu".to_owned(), "memory".to_owned()]), quantity(), 0..3));
    (amounts(), amounts()).prop_map(|(requests, limits)| Resources { requests, limits }).boxed()
}

fn probe() -> BoxedStrategy<Probe> {
    let port = || prop_oneof![(1..=65535).prop_map(IntOrString::Int), name().prop_map(IntOrString::String)];
    let header = (name(), name()).prop_map(|(name, value)| HttpHeader { name, value });
    let kind = prop_oneof![
        (of("/[a-z]{0,4}"), port(), of(select(vec![Scheme::HTTP, Scheme::HTTPS])), of(vec(header, 0..2)))
            .prop_map(|(path, port, scheme, http_headers)| Probe {
                http_get: Some(HttpGet { path, port, scheme, http_headers }),
                ..Probe::default()
            }),
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

pub(super) fn probes() -> BoxedStrategy<Probes> {
    (of(probe()), of(probe()), of(probe()))
        .prop_map(|(readiness, liveness, startup)| Probes { readiness, liveness, startup })
        .boxed()
}

pub(super) fn scale() -> BoxedStrategy<Scale> {
    let external = (name(), of(labels()), quantity(), any::<bool>()).prop_map(|(name, labels, aim, each)| {
        let (value, average_value) = if each { (None, Some(aim)) } else { (Some(aim), None) };
        ExternalMetric { name, labels, value, average_value }
    });
    prop_oneof![
        (0..50).prop_map(|replicas| Scale { replicas: Some(replicas), ..Scale::default() }),
        (1..50, 0..50, of(1..200), of(1..200), of(vec(external, 0..3))).prop_map(
            |(min, more, cpu_percent, memory_percent, external)| Scale {
                min: Some(min),
                max: Some(min + more),
                cpu_percent,
                memory_percent,
                external,
                replicas: None
            }
        ),
    ]
    .boxed()
}

pub(super) fn scheduling() -> BoxedStrategy<Scheduling> {
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

/// A few labels, or annotations.
pub(super) fn labels() -> BoxedStrategy<BTreeMap<String, String>> {
    btree_map(name(), name(), 0..3).boxed()
}

pub(super) fn security() -> BoxedStrategy<Security> {
    let capabilities = of(vec(Just(Capability::NET_BIND_SERVICE), 0..2));
    (of(1_i64..70_000), of(0_i64..70_000), of(0_i64..70_000), of(any::<bool>()), capabilities)
        .prop_map(|(run_as_user, run_as_group, fs_group, read_only_root_filesystem, capabilities)| Security {
            run_as_user,
            run_as_group,
            fs_group,
            read_only_root_filesystem,
            capabilities,
        })
        .boxed()
}

pub(super) fn init(env: Vec<EnvVar>, beside: Option<Probes>) -> InitContainer {
    InitContainer {
        name: "init".to_owned(),
        image: "registry.example/init:1".to_owned(),
        env: Some(env),
        restart_policy: beside.is_some().then_some(RestartPolicy::Always),
        probes: beside,
        ..InitContainer::default()
    }
}
