//! `banyan sandbox --traffic`, as who uses it sees it: from outside of its network namespace.

use std::path::Path;
use std::time::Duration;

use banyan::sandbox::traffic::namespace;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::world::{until, with_two_clouds};

/// A FinService behind the sandbox's gateway.
const PLATFORM: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: banyan.dev/v1alpha1
kind: FinService
metadata: {name: app, namespace: shop}
spec:
  owner: team
  image: registry.example/app:1
  ports: [{name: http, port: 8080}]
  scale: {replicas: 2}
  mesh: {provider: GatewayAPI}
  ingress: {hosts: [app.example], gateway: projectcontour/public}
"#;

/// Says that a test is left out; who runs all checks must not take it for done.
pub fn skipped(why: impl std::fmt::Display) {
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
    println!("skipped: {why}");
}

/// Even if it is killed. That it leaves nothing after Ctrl-C is shown by an interrupted tour.
#[tokio::test]
async fn a_sandbox_with_traffic_is_reached_from_outside_and_leaves_nothing() {
    let _turn = with_two_clouds().await;
    if let Err(error) = namespace::possible() {
        return skipped(error);
    }
    let parent = tempfile::tempdir().unwrap();
    let parent = parent.path().canonicalize().unwrap();
    std::fs::create_dir(parent.join("platform")).unwrap();
    std::fs::write(parent.join("platform/app.yaml"), PLATFORM).unwrap();
    let log = parent.join("log");
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_banyan"))
        .args(["sandbox", "--traffic", "--examples", "platform"])
        .current_dir(&parent)
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    // Contour may have to be built first.
    while !said().contains("Ctrl-C ends all") {
        let ended = command.try_wait().unwrap();
        assert!(ended.is_none(), "{}", said());
        if said().contains("goes on without real traffic") {
            command.kill().await.unwrap();
            return skipped(said());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let sandbox = parent.join(".banyan/sandbox");
    let client = client(&sandbox.join("aws-us-east-1.kubeconfig")).await;
    client.apiserver_version().await.expect("the API server answers from outside");
    // A line of what it says is `  curl --header 'host: HOST' http://127.0.0.1:40001/    # aws-us-east-1-gateway`.
    let text = said();
    let line = text.lines().find(|line| line.ends_with("# aws-us-east-1-gateway")).expect("an address");
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).expect("an address");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = until("a pod answers from outside", async || {
        let answer = http.get(url).header("host", "app.example").send().await.ok()?;
        answer.status().is_success().then_some(answer)
    })
    .await;
    assert_eq!(answer.headers()["x-release"], "registry.example/app:1");

    let theirs = processes_that_name(&sandbox);
    assert!(theirs.len() > 10, "{theirs:?}");
    let pid = command.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "KILL", &pid]).status().unwrap().success());
    let status = command.wait().await.unwrap();
    assert!(!status.success(), "{status}\n{}", said());
    until("its processes and its folder are gone", async || {
        (processes_that_name(&sandbox).is_empty() && !sandbox.exists()).then_some(())
    })
    .await;
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::try_from(config).unwrap()
}

/// The processes whose arguments name a folder.
pub fn processes_that_name(folder: &Path) -> Vec<String> {
    let list = std::process::Command::new("ps").args(["-A", "-ww", "-o", "args="]).output().unwrap();
    let text = String::from_utf8_lossy(&list.stdout);
    text.lines().filter(|line| line.contains(folder.to_str().unwrap())).map(str::to_owned).collect()
}
