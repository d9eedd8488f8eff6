//! Two replicas of the operator, as processes, on an API server of their own: who leads when one ends.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use banyan::sandbox::install::{apply, documents};
use banyan::sandbox::process::{Signal, Spec, Status, Supervisor};
use banyan::sandbox::{Cloud, CloudOptions, Part, pair};
use banyan::terminal::progress::Progress;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};

use crate::world::until;

/// One process of `banyan run`.
struct Replica {
    name: String,
    address: String,
    log: PathBuf,
    supervisor: Arc<Supervisor>,
}

impl Replica {
    fn start(cloud: &Cloud, name: &str) -> Self {
        let kubeconfig = cloud.dir().join("kubeconfig-operator");
        std::fs::write(&kubeconfig, cloud.kubeconfig_operator().unwrap()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let argv = [
            env!("CARGO_BIN_EXE_banyan"),
            "run",
            "--site=lease-test",
            &format!("--kubeconfig={}", kubeconfig.display()),
            &format!("--listen={address}"),
            &format!("--identity={name}"),
        ];
        let replica = Self {
            name: format!("lease/{name}"),
            address,
            log: cloud.dir().join(format!("{name}.log")),
            supervisor: cloud.supervisor().clone(),
        };
        let spec = Spec {
            name: replica.name.clone(),
            argv: argv.map(str::to_owned).to_vec(),
            env: Vec::new(),
            dir: None,
            log: replica.log.clone(),
            stage: 3,
            grace: Duration::ZERO,
        };
        cloud.supervisor().spawn(&spec).unwrap();
        replica
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let answer = reqwest::get(format!("http://{}{path}", self.address)).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    async fn leads(&self) -> bool {
        self.get("/metrics").await.is_some_and(|(_, text)| text.contains("\nbanyan_leader 1\n"))
    }

    /// Waits until `so`, and returns how long that took.
    async fn until(&self, what: &str, limit: Duration, mut so: impl AsyncFnMut() -> bool) -> Duration {
        let start = Instant::now();
        while !so().await {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            assert!(start.elapsed() < limit, "{}: not {what} after {limit:?}; its log:\n{log}", self.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        start.elapsed()
    }

    async fn until_leading(&self, limit: Duration) -> Duration {
        self.until("leading", limit, async || self.leads().await).await
    }

    async fn until_standing_by(&self) {
        let standing_by = async || self.get("/readyz").await == Some((200, "standing by\n".into()));
        self.until("standing by", Duration::from_secs(20), standing_by).await;
    }

    /// Waits until it has ended by itself; its exit code.
    async fn code(&self, limit: Duration) -> i32 {
        let ended = async || matches!(self.supervisor.status(&self.name), Some(Status::Ended { .. }));
        self.until("ended", limit, ended).await;
        match self.supervisor.status(&self.name) {
            Some(Status::Ended { code, .. }) => code,
            other => panic!("{other:?}"),
        }
    }

    fn signal(&self, signal: Signal) {
        self.supervisor.signal(&self.name, signal).unwrap();
    }
}

/// A cloud with the chart's definitions and RBAC, for these tests alone: an operator works on all that it finds.
async fn cloud() -> Cloud {
    let pair = pair().await.unwrap();
    let options =
        CloudOptions { name: "lease-test".into(), nodes_per_zone: 1, subnet: 9, ..CloudOptions::aws() };
    let dir = pair.dir().join("lease-test");
    let progress = Progress::stderr();
    let cloud = Cloud::start(options, &dir, &pair.tools, pair.supervisor().clone(), &progress).await.unwrap();
    let mut objects =
        documents("the rendered chart", include_str!("../goldens/chart/rendered.yaml")).unwrap();
    objects.retain(|object| object["kind"].as_str().unwrap().contains("Role"));
    objects.extend(banyan::api::crds().iter().map(|crd| serde_json::to_value(crd).unwrap()));
    for object in &mut objects {
        if object["kind"].is_null() {
            object["apiVersion"] = "apiextensions.k8s.io/v1".into();
            object["kind"] = "CustomResourceDefinition".into();
        }
    }
    // The definitions of these kinds are lax, as those of a newer version might be.
    for object in &mut objects {
        if ["CloudCluster", "Action"].map(Value::from).contains(&object["spec"]["names"]["kind"]) {
            let schema = &mut object["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            schema["properties"]["spec"] =
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            // Rules of the whole object name fields of the spec.
            schema.as_object_mut().expect("a schema").remove("x-kubernetes-validations");
        }
    }
    objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "banyan-system"}}));
    apply(&cloud.client_admin().unwrap(), &objects).await.unwrap();
    // What this version does not know: an own site, a peer, and what a person says.
    let site = |name: &str| {
        json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "CloudCluster",
            "metadata": {"name": name, "namespace": "banyan-system"},
            "spec": {"residency": ["US", "MARS"]}})
    };
    let action = json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "Action",
        "metadata": {"name": "newer", "namespace": "banyan-system"},
        "spec": {"target": {"kind": "CanaryRollout", "name": "app"}, "verb": "leap"}});
    apply(&cloud.client_admin().unwrap(), &[site("lease-test"), site("peer"), action]).await.unwrap();
    cloud
}

/// That it is told of what this version cannot read.
async fn unreadable_is_told(cloud: &Cloud, kind: &str, name: &str, words: &str) {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("banyan.dev", "v1alpha1", kind));
    let client = cloud.client_admin().unwrap();
    let api: Api<DynamicObject> = Api::namespaced_with(client, "banyan-system", &resource);
    until(&format!("{kind} {name} says that it cannot be read"), async || {
        let object = api.get(name).await.ok()?;
        let conditions = object.data.pointer("/status/conditions")?.as_array()?.clone();
        let stalled = conditions.into_iter().find(|condition| condition["type"] == "Stalled")?;
        let told = stalled["reason"] == "Unreadable" && stalled["message"].as_str()?.contains(words);
        told.then_some(())
    })
    .await;
}

#[tokio::test]
async fn leadership_passes_on_at_sigterm_after_a_kill_and_after_a_partition() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cloud = cloud().await;
    let leases: Api<Lease> = Api::namespaced(cloud.client_admin().unwrap(), "banyan-system");

    let a = Replica::start(&cloud, "a");
    a.until_leading(Duration::from_secs(20)).await;
    let b = Replica::start(&cloud, "b");
    b.until_standing_by().await;
    // A value that it does not know keeps no operator from becoming ready.
    a.until("ready", Duration::from_secs(20), async || {
        a.get("/readyz").await == Some((200, "leading\n".into()))
    })
    .await;
    for (kind, name, words) in [
        ("CloudCluster", "lease-test", "MARS"),
        ("CloudCluster", "peer", "MARS"),
        ("Action", "newer", "leap"),
    ] {
        unreadable_is_told(&cloud, kind, name, words).await;
    }
    // Every replica answers /sites.
    let sites = b.get("/sites").await.expect("an answer");
    assert!(sites.0 == 200 && sites.1.contains("lease-test"), "{sites:?}");

    // Idle: the leader's renewals, and nothing else but watches.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mark = cloud.audit_mark();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let audit = cloud.audit_since(mark).unwrap();
    assert_eq!(audit.not_idle(), Vec::<&banyan::sandbox::audit::Request>::new());
    let renewals =
        audit.requests.iter().filter(|r| (r.verb.as_str(), r.resource.as_str()) == ("update", "leases"));
    assert!((3..=5).contains(&renewals.count()), "{:?}", audit.counts());
    assert!(audit.requests.iter().all(|request| request.user_agent.starts_with("banyan/")));

    // SIGTERM: the work ends, the Lease goes back, and the other takes over long before the claim would have expired.
    a.signal(Signal::Term);
    let took = b.until_leading(Duration::from_secs(8)).await;
    assert_eq!(a.code(Duration::from_secs(5)).await, 0);
    eprintln!("after SIGTERM the second leads after {took:?}");
    let holder = leases.get("banyan").await.unwrap().spec.unwrap().holder_identity.unwrap();
    assert!(holder.starts_with("b_"), "{holder}");

    // SIGKILL: the claim has to expire.
    let c = Replica::start(&cloud, "c");
    c.until_standing_by().await;
    b.signal(Signal::Kill);
    let took = c.until_leading(Duration::from_secs(15)).await;
    eprintln!("after SIGKILL the second leads after {took:?}");

    // The API server falls silent: the leader ends by itself rather than act on a claim that may be gone.
    let d = Replica::start(&cloud, "d");
    d.until_standing_by().await;
    cloud.signal(Part::ApiServer, Signal::Stop).unwrap();
    assert_eq!(c.code(Duration::from_secs(16)).await, 1);
    let log = std::fs::read_to_string(&c.log).unwrap();
    assert!(log.contains("banyan: lost the leader Lease: it could not be renewed for 10s"), "{log}");
    assert_eq!(d.get("/healthz").await, Some((200, "ok\n".into())), "a standby waits for the API server");
    cloud.signal(Part::ApiServer, Signal::Cont).unwrap();
    let took = d.until_leading(Duration::from_secs(15)).await;
    eprintln!("after the API server is back the second leads after {took:?}");

    // The one that leads alone gives the Lease back too, and holds nobody up.
    d.signal(Signal::Term);
    assert_eq!(d.code(Duration::from_secs(5)).await, 0);
    assert_eq!(leases.get("banyan").await.unwrap().spec.unwrap().holder_identity, None);
    cloud.kill().unwrap();
}

#[tokio::test]
async fn one_that_cannot_start_says_why_and_what_to_do() {
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_banyan"))
            .arg("run")
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        error.lines().find(|line| line.starts_with("banyan: ")).unwrap_or(&error).to_owned()
    };
    let missing = run(&["--site=a", "--kubeconfig=/nowhere/config"]);
    assert!(missing.contains("/nowhere/config") && missing.contains("--kubeconfig"), "{missing}");

    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    let cloud = &pair().await.unwrap().aws;
    std::fs::write(&kubeconfig, cloud.kubeconfig_operator().unwrap()).unwrap();
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("--listen={}", taken.local_addr().unwrap());
    let error = run(&["--site=a", &kubeconfig, &listen]);
    assert!(error.contains("cannot listen on 127.0.0.1") && error.contains("--listen"), "{error}");
    let error = run(&["--site=a", &kubeconfig, "--otlp-endpoint=collector:4317"]);
    assert!(error.contains("--otlp-endpoint http://collector:4318"), "{error}");
}
