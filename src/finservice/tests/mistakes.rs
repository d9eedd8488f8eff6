//! Mistakes that people make, and what status says of each, as one page. Updated by `UPDATE_EXPECT=1 cargo test`.

use std::path::Path;
use std::sync::Arc;

use expect_test::expect_file;
use serde_json::{Value, json};

use crate::api::Severity;
use crate::api::operations::Residency;
use crate::finservice::children::Kind;
use crate::finservice::index::Parsed;
use crate::finservice::index::child::Facts;
use crate::finservice::index::pod::PodState;
use crate::finservice::index::stranger::Stranger;
use crate::finservice::testing::fake::Fake;
use crate::finservice::testing::sites;
use crate::runtime::key::Key;

/// A mistake: in words, the field that status names, what is laid over the spec, and what happens beside it.
struct Mistake {
    words: &'static str,
    source: &'static str,
    over: Value,
    then: fn(&mut Fake),
}

fn mistake(words: &'static str, source: &'static str, over: Value) -> Mistake {
    Mistake { words, source, over, then: |_| {} }
}

fn with(words: &'static str, source: &'static str, over: Value, then: fn(&mut Fake)) -> Mistake {
    Mistake { words, source, over, then }
}

fn base() -> Value {
    json!({"owner": "team", "image": "registry.example/app:1", "version": "1", "access": {"outbound": {}},
        "ports": [{"name": "http", "port": 8080}], "scale": {"replicas": 2}})
}

fn ingress(provider: &str) -> Value {
    json!({"mesh": {"provider": provider}, "ingress": {"hosts": ["app.example"], "gateway": "edge/public"}})
}

fn other(fake: &mut Fake, spec: &Value) {
    other_in(fake, "pay", spec);
}

fn other_in(fake: &mut Fake, namespace: &str, spec: &Value) {
    let object = json!({
        "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
        "metadata": {"name": "other", "namespace": namespace, "uid": "u-0", "creationTimestamp": "2025-12-31T00:00:00Z"},
        "spec": spec,
    });
    let service = Parsed::Good(Arc::new(serde_json::from_value(object).expect("a FinService")));
    fake.event("another FinService", |index| {
        index.service(&Key::new(namespace, "other"), 1, Some(service));
        index.refresh_cycles();
    });
}

fn route(fake: &mut Fake, change: fn(&mut crate::finservice::children::observed::Observed)) {
    fake.touch("its gateway says something", Kind::HTTPRoute, "app", |state| {
        if let Facts::Route(route) = &mut state.facts {
            change(route);
        }
    });
}

/// The first pod says that, as a watch of pods tells it.
fn pod(fake: &mut Fake, change: fn(&mut PodState)) {
    let revision = fake.hashes()[0].clone();
    fake.event("a pod says something", |index| {
        let mut pod = PodState {
            revision: revision.as_str().into(),
            name: format!("app-{revision}-x").into(),
            ..PodState::default()
        };
        change(&mut pod);
        index.rollouts.follows_pods = true;
        index.rollouts.pod(&Key::new("pay", "app"), pod);
    });
}

fn mistakes() -> Vec<Mistake> {
    vec![
        with("an image that cannot be pulled (5.9)", "spec.image", json!({}), |fake| {
            pod(fake, |pod| {
                pod.why = Some(
                    "ErrImagePull: failed to resolve reference \"registry.example/app:1\": not found".into(),
                )
            });
        }),
        with(
            "a volume that is not there (5.9)",
            "spec.resources, spec.scheduling, spec.volumes",
            json!({"volumes": [{"name": "journal", "mountPath": "/j", "persistentVolumeClaim": "journal"}]}),
            |fake| {
                pod(fake, |pod| {
                    pod.why = Some("Unschedulable: 0/3 nodes are available: persistentvolumeclaim \"journal\" not found.".into())
                });
            },
        ),
        with(
            "pods that fit on no node (5.9)",
            "spec.resources, spec.scheduling, spec.volumes",
            json!({"resources": {"requests": {"cpu": "64"}}}),
            |fake| {
                pod(fake, |pod| {
                    pod.why = Some("Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.".into())
                })
            },
        ),
        with(
            "a key that a Secret does not have (6.12)",
            "spec.env, spec.envFrom, spec.files",
            json!({"env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}}]}),
            |fake| {
                pod(fake, |pod| {
                    pod.why =
                        Some("CreateContainerConfigError: couldn't find key a in Secret pay/keys".into())
                })
            },
        ),
        with("an image whose process is root (6.1)", "spec.security", json!({}), |fake| {
            pod(fake, |pod| {
                pod.why = Some("CreateContainerConfigError: container has runAsNonRoot and image will run as root (pod: x, container: app)".into())
            });
        }),
        with("too little memory (5.9)", "spec.resources", json!({}), |fake| {
            pod(fake, |pod| {
                pod.why = Some("CrashLoopBackOff: container app ended with exit code 137 (OOMKilled)".into())
            });
        }),
        with(
            "a namespace without injection (5.3)",
            "spec.mesh.provider, the namespace",
            json!({"mesh": {"provider": "Istio"}}),
            |fake| pod(fake, |pod| (pod.bare, pod.ready_since) = (true, Some(jiff::Timestamp::UNIX_EPOCH))),
        ),
        with(
            "a namespace that lets no container change the network, and Istio without CNI (8.9)",
            "spec.image, spec.resources, spec.probes",
            json!({"mesh": {"provider": "Istio"}}),
            |fake| {
                let name = format!("app-{}", fake.hashes()[0]);
                fake.touch("its pods are refused", Kind::Deployment, &name, |state| {
                    if let Facts::Deployment(facts) = &mut state.facts {
                        facts.failure = Some("pods \"app-x\" is forbidden: violates PodSecurity \"restricted:latest\": unrestricted capabilities (container \"istio-init\" must not include \"NET_ADMIN\")".into());
                    }
                });
            },
        ),
        mistake(
            "ranges of addresses without ports, with Istio (5.1)",
            "spec.access.outbound.cidrs",
            json!({"mesh": {"provider": "Istio"}, "access": {"outbound": {"cidrs": ["10.3.0.0/16"]}}}),
        ),
        mistake(
            "callers by address, and certificates are asked for",
            "spec.access.inbound",
            json!({"mesh": {"provider": "Istio"}, "access": {"outbound": {}, "inbound": [{"cidr": "10.0.0.0/8"}]}}),
        ),
        mistake(
            "a token for connections (5.4)",
            "spec.access.jwt",
            json!({"mesh": {"provider": "Istio"},
            "ports": [{"name": "http", "port": 8080}, {"name": "gossip", "port": 7946, "protocol": "TCP"}],
            "access": {"outbound": {}, "jwt": {"issuer": "https://auth.example", "jwksUri": "https://auth.example/keys"}}}),
        ),
        mistake(
            "a Gateway in the team's own namespace (5.2)",
            "spec.ingress.gateway",
            json!({"mesh": {"provider": "Istio"}, "ingress": {"hosts": ["app.example"], "gateway": "public"}}),
        ),
        mistake(
            "an objective that leaves too much (5.10)",
            "spec.slo.availability",
            json!({"mesh": {"provider": "Istio"}, "slo": {"availability": "80"}}),
        ),
        mistake(
            "an objective over a moment (5.10)",
            "spec.slo.window",
            json!({"mesh": {"provider": "Istio"}, "slo": {"availability": "99", "window": "500ms"}}),
        ),
        with(
            "a port of the old Service that nobody names (5.7)",
            "spec.ports",
            json!({"mesh": {"provider": "Istio"}}),
            |fake| {
                fake.touch("it was handed over", Kind::Service, "app", |state| {
                    if let Facts::Service(facts) = &mut state.facts {
                        facts.had = Box::new([(80, true)]);
                    }
                });
            },
        ),
        with(
            "a ConfigMap that is not there",
            "spec.env, spec.envFrom, spec.files",
            json!({"envFrom": [{"configMapRef": {"name": "fees"}}]}),
            |fake| {
                fake.index.config_map(&Key::new("pay", "fees"), None);
            },
        ),
        with(
            "a Secret that is not there",
            "spec.env, spec.envFrom, spec.files",
            json!({"files": [{"mountPath": "/keys", "secret": "keys"}]}),
            |fake| {
                fake.index.secret(&Key::new("pay", "keys"), None);
            },
        ),
        with(
            "an image that cannot be pulled, or pods that do not fit",
            "spec.image, spec.resources, spec.probes",
            json!({}),
            |fake| {
                let name = format!("app-{}", fake.hashes()[0]);
                fake.touch("its pods do not come", Kind::Deployment, &name, |state| {
                    if let Facts::Deployment(facts) = &mut state.facts {
                        facts.failure = Some("ReplicaSet \"app-x\" has timed out progressing.".into());
                    }
                });
            },
        ),
        mistake("nothing is said of whom it calls (6.2)", "spec.access.outbound", json!({"access": {}})),
        mistake(
            "a load balancer, and nobody outside may call (6.5)",
            "spec.access.inbound",
            json!({"service": {"type": "LoadBalancer"}}),
        ),
        mistake(
            "a pause that eats all the time to stop (6.8)",
            "spec.preStop.sleep",
            json!({"terminationGracePeriod": "5s"}),
        ),
        with(
            "a slip in the only site (6.9)",
            "spec.placement",
            json!({"placement": [{"cluster": "heer"}]}),
            |fake| {
                fake.index.set_sites(sites(Some(&[Residency::US]), &["there"]));
            },
        ),
        with(
            "data that must be elsewhere",
            "spec.data.residency",
            json!({"data": {"residency": "EU"}}),
            |fake| {
                fake.index.set_sites(sites(Some(&[Residency::US]), &[]));
            },
        ),
        with(
            "nobody has said what this site may keep",
            "spec.data.residency",
            json!({"data": {"residency": "EU"}}),
            |fake| {
                fake.index.set_sites(sites(None, &[]));
            },
        ),
        with("`banyan.dev/pause: \"True\"` (6.12)", "metadata.annotations", json!({}), |fake| {
            fake.change("an annotation", |service| {
                let all = service.metadata.annotations.get_or_insert_default();
                all.insert("banyan.dev/pause".to_owned(), "True".to_owned());
            });
        }),
        with("a Service of that name is somebody else's", "Service app", json!({}), |fake| {
            let theirs = Stranger { whose: "the Helm release shop".into(), ..Stranger::default() };
            fake.index.child_gone(&Key::new("pay", "app"), Kind::Service, "app", None);
            fake.index.stranger(Kind::Service, &Key::new("pay", "app"), Some(theirs));
        }),
        with(
            "a gateway that does not let the namespace in (5.5)",
            "spec.ingress.gateway",
            ingress("GatewayAPI"),
            |fake| {
                route(fake, |route| {
                    route.refused = Some(
                        "Accepted is False (NotAllowedByListeners): no listener allows namespace pay".into(),
                    )
                });
            },
        ),
        with("a gateway that is not there (5.5)", "spec.ingress.gateway", ingress("GatewayAPI"), |fake| {
            route(fake, |route| route.unclaimed_since = Some(jiff::Timestamp::UNIX_EPOCH));
        }),
        with(
            "a Gateway of Istio that is not there (5.5)",
            "spec.ingress.gateway",
            ingress("Istio"),
            |fake| {
                fake.index.retain_istio_gateways(&Default::default());
            },
        ),
        with("a Gateway of Istio for other hosts (5.5)", "spec.ingress.gateway", ingress("Istio"), |fake| {
            let gateway = Key::new("edge", "public");
            fake.index.istio_gateway(&gateway, Some(&json!({"servers": [{"hosts": ["shop.example"]}]})));
            fake.index.retain_istio_gateways(&[gateway].into());
        }),
        with(
            "a caller that does not exist (6.12)",
            "spec.access.inbound",
            json!({"access": {"outbound": {}, "inbound": [{"service": "wbe"}]}}),
            |fake| fake.index.alone = false,
        ),
        with(
            "a FinService that it calls, misspelt (6.12)",
            "spec.access.outbound.services",
            json!({"access": {"outbound": {"services": [{"service": "ledgr", "namespace": "books"}]}}}),
            |fake| fake.index.alone = false,
        ),
        with(
            "credentials of a registry that are not there (6.12)",
            "spec.imagePullSecrets",
            json!({"imagePullSecrets": ["regcred"]}),
            |fake| fake.index.alone = false,
        ),
        with(
            "a topic whose owner does not allow it (4.6)",
            "spec.data.reads",
            json!({"data": {"reads": ["fees"]}}),
            |fake| {
                fake.index.alone = false;
                let mut spec = base();
                spec["data"] = json!({"topics": [{"name": "fees"}]});
                other_in(fake, "books", &spec);
            },
        ),
        with(
            "a topic that is another namespace's (4.6)",
            "spec.data.topics",
            json!({"data": {"topics": [{"name": "fees"}]}}),
            |fake| {
                let mut spec = base();
                spec["data"] = json!({"topics": [{"name": "fees"}]});
                other_in(fake, "books", &spec);
            },
        ),
        with(
            "a ServiceAccount of that name is somebody else's (4.9)",
            "ServiceAccount app",
            json!({}),
            |fake| {
                let theirs = Stranger { whose: "kubectl".into(), ..Stranger::default() };
                fake.index.child_gone(&Key::new("pay", "app"), Kind::ServiceAccount, "app", None);
                fake.index.stranger(Kind::ServiceAccount, &Key::new("pay", "app"), Some(theirs));
            },
        ),
        with(
            "an old backend in a namespace without a ReferenceGrant (5.6)",
            "spec.ingress.gateway",
            {
                let mut spec = ingress("GatewayAPI");
                spec["legacy"] = json!({"host": "monolith.legacy.svc", "port": 80});
                spec
            },
            |fake| {
                route(fake, |route| {
                    route.refused = Some(
                        "ResolvedRefs is False (RefNotPermitted): backendRef legacy/monolith not permitted"
                            .into(),
                    )
                });
            },
        ),
        mistake("an old backend of another namespace, with Istio (4.3)", "spec.legacy.host", {
            let mut spec = ingress("Istio");
            spec["legacy"] = json!({"host": "monolith.legacy.svc", "port": 80});
            spec
        }),
        with("a host that an older FinService has", "spec.ingress", ingress("Istio"), |fake| {
            let mut spec = base();
            spec.as_object_mut().expect("a map").extend(ingress("Istio").as_object().expect("a map").clone());
            other(fake, &spec);
        }),
        with(
            "calls that go round in a ring",
            "spec.access",
            json!({"access": {"outbound": {"services": [{"service": "other"}]}}}),
            |fake| {
                let mut spec = base();
                spec["access"] = json!({"outbound": {"services": [{"service": "app"}]}});
                other(fake, &spec);
            },
        ),
        mistake("retries of what takes writes", "spec.mesh.retries", {
            let mut spec = ingress("Istio");
            spec["ingress"]["paths"] = json!(["/payments"]);
            spec["mesh"]["retries"] = json!({"attempts": 2, "retryOn": "5xx"});
            spec
        }),
        mistake(
            "a try that takes longer than all of them",
            "spec.mesh.retries.perTryTimeout",
            json!({"mesh": {"provider": "Istio",
            "timeout": "1s", "retries": {"attempts": 2, "perTryTimeout": "2s"}}}),
        ),
        mistake(
            "card data without certificates",
            "spec.mesh.mtls",
            json!({"data": {"classification": "PCI"},
            "mesh": {"provider": "Istio", "mtls": "Permissive"}}),
        ),
        mistake(
            "hosts that nobody can hold it to",
            "spec.access.outbound.hosts",
            json!({"access": {"outbound": {"hosts": ["api.stripe.com"]}}}),
        ),
        with(
            "an API that is not installed",
            "spec.mesh.provider",
            json!({"mesh": {"provider": "Istio"}}),
            |fake| {
                for kind in Kind::ALL
                    .into_iter()
                    .filter(|kind| kind.api() == Some(crate::finservice::children::Api::Istio))
                {
                    fake.index.kind(kind, false);
                }
            },
        ),
        mistake(
            "an autoscaler without a request to measure by",
            "spec.resources.requests",
            json!({"scale": {"min": 2, "max": 5}}),
        ),
        mistake(
            "a network in which nodes have their credentials (4.8)",
            "spec.access.outbound.cidrs",
            json!({"access": {"outbound": {"cidrs": ["169.254.169.254/32"]}}}),
        ),
        mistake(
            "metrics at the port of requests (4.7)",
            "spec.observability.metrics.port",
            json!({"observability": {"metrics": {"port": "http"}}, "access": {"inbound": [{"service": "web"}], "outbound": {}}}),
        ),
    ]
}

#[test]
fn what_status_says_of_each_mistake() {
    let mut page = String::from(
        "# What a FinService says of mistakes\n\nWritten by `UPDATE_EXPECT=1 cargo test --lib mistakes`: each mistake is made, and what \
         `status.problems` then says first of it stands here. What the API server refuses at once is not here: it says why.\n\n\
         | mistake | field | severity | words | remedy |\n|---|---|---|---|---|\n",
    );
    for Mistake { words, source, over, then } in mistakes() {
        let mut spec = base();
        spec.as_object_mut().expect("a map").extend(over.as_object().expect("a map").clone());
        let mut fake = Fake::new(spec);
        fake.everything_is_there();
        if source == "spec.legacy.host" {
            fake.index.stranger(Kind::Service, &Key::new("legacy", "monolith"), None);
        }
        fake.settle();
        then(&mut fake);
        let plan = fake.settle();
        let found = plan.problems.iter().find(|problem| problem.source == source);
        let problem = found.unwrap_or_else(|| panic!("{words}: {source} is not among {:#?}", plan.problems));
        assert_ne!(problem.remedy, "", "{words}");
        let shown = |text: &str| {
            let text = fake
                .hashes()
                .iter()
                .fold(text.to_owned(), |text, hash| text.replace(hash.as_str(), "REVISION"));
            text.replace('|', "\\|").replace('\n', " ")
        };
        let severity = match problem.severity {
            Severity::Error => "Error",
            Severity::Warning => "Warning",
            Severity::Info => "Info",
        };
        page.push_str(&format!(
            "| {words} | `{source}` | {severity} | {} | {} |\n",
            shown(&problem.message),
            shown(&problem.remedy)
        ));
    }
    expect_file![Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/service-messages.md")]
        .assert_eq(&page);
}
