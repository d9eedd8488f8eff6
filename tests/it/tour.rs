//! `banyan sandbox --tour`, as who uses it sees it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use banyan::sandbox::traffic::namespace;
use serde_json::Value;
use tokio::process::Command;

use crate::traffic::{processes_that_name, skipped};
use crate::world::{until, with_two_clouds};

/// How long a whole tour may take, with what it builds first. It only ends what hangs.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// A new folder, with the example of the tour under a policy that is shorter still.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().canonicalize().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/canary/checkout.yaml");
    let mut text = std::fs::read_to_string(example).unwrap();
    for (long, short) in [
        ("minHold: 10s", "minHold: 1s"),
        // A busy machine needs time for its verdicts.
        ("maxHold: 2m", "maxHold: 10m"),
        ("warmup: 5s", "warmup: 2s"),
        ("maxIncrease: \"5\"", "maxIncrease: \"10\""),
    ] {
        assert!(text.contains(long), "{long}");
        text = text.replace(long, short);
    }
    std::fs::create_dir(path.join("shop")).unwrap();
    std::fs::write(path.join("shop/checkout.yaml"), text).unwrap();
    (parent, path)
}

fn tour(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_banyan"));
    command
        .args(["sandbox", "--tour", "canary", "--examples", "shop"])
        .current_dir(folder)
        .kill_on_drop(true);
    command
}

async fn nothing_is_left(folder: &Path) {
    let sandbox = folder.join(".banyan/sandbox");
    until("its processes and its folder are gone", async || {
        (processes_that_name(&sandbox).is_empty() && !sandbox.exists()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_tour_promotes_a_good_release_and_rolls_back_a_bad_one() {
    let _turn = with_two_clouds().await;
    if let Err(error) = namespace::possible() {
        return skipped(error);
    }
    let (_guard, folder) = folder();
    let output = tokio::time::timeout(LIMIT, tour(&folder).args(["--output", "json"]).output());
    let output = output.await.expect("an end").unwrap();
    let (said, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    if errors.contains("goes on without real traffic") {
        return skipped(errors);
    }
    assert!(output.status.success(), "{said}\n{errors}");
    nothing_is_left(&folder).await;

    let events: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| -> Vec<&Value> { events.iter().filter(|event| event["event"] == kind).collect() };
    assert_eq!(of("step").len(), 4, "{said}");
    let ended: Vec<_> = of("ended").iter().map(|act| (&act["release"], &act["outcome"])).collect();
    assert_eq!(ended[0], (&"checkout:1.1.0".into(), &"Promoted".into()), "{said}");
    assert_eq!(ended[1], (&"checkout:1.2.0".into(), &"RolledBack".into()), "{said}");
    // The good one went through all steps; the bad one had the first alone.
    let asked: Vec<i64> = of("look").iter().map(|look| look["asked"].as_i64().unwrap()).collect();
    let mut turns = asked.clone();
    turns.dedup();
    // On a machine that is busy, the shortest of them may go by between two looks.
    let mut course = [0, 10, 50, 100, 0, 10, 0].iter();
    assert!(turns.iter().all(|turn| course.any(|weight| weight == turn)), "{turns:?}\n{said}");
    assert!(turns.starts_with(&[0, 10, 50]), "{turns:?}\n{said}");

    let summary = of("summary");
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no number in\n{said}"));
    let act = &summary[0]["acts"][1];
    let bad = &summary[0]["releases"][2];
    assert!(number(&act["failedUntilZero"]) > 0, "{said}");
    assert_eq!(
        number(&act["failedUntilZero"]) + number(&act["failedAfter"]),
        number(&bad["failed"]),
        "{said}"
    );
    assert!(act["toZero"].as_f64().unwrap() > 0.0, "{said}");
    // The gateway counted the same, but for what it forgot with the revision.
    let range = number(&act["failedUntilZero"])..=number(&bad["failed"]);
    assert!(range.contains(&number(&bad["gatewayFailed"])), "{said}");
    // No other request failed: the shifts cost none.
    assert_eq!(number(&summary[0]["failed"]), number(&bad["failed"]), "{said}");
}

#[tokio::test]
async fn a_tour_that_is_interrupted_leaves_nothing() {
    let _turn = with_two_clouds().await;
    if let Err(error) = namespace::possible() {
        return skipped(error);
    }
    let (_guard, folder) = folder();
    let (out, log) = (folder.join("out"), folder.join("log"));
    let mut command = tour(&folder)
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    while !read(&out).contains("2. checkout:1.1.0 takes over") {
        assert!(command.try_wait().unwrap().is_none(), "{}\n{}", read(&out), read(&log));
        if read(&log).contains("goes on without real traffic") {
            return skipped(read(&log));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let pid = command.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    assert!(!command.wait().await.unwrap().success());
    assert!(read(&log).contains("interrupted before the end of the tour"), "{}", read(&log));
    nothing_is_left(&folder).await;
}

#[tokio::test]
async fn without_a_network_namespace_the_tour_is_told_in_virtual_time() {
    let (_guard, folder) = folder();
    // Where no program is found, none makes a namespace.
    let output = tour(&folder).env("PATH", &folder).stdin(Stdio::null()).output().await.unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(errors.contains("goes on without real traffic"), "{errors}");
    for words in ["virtual time", "Promoted: checkout:1.1.0", "RolledBack: checkout:1.2.0"] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    nothing_is_left(&folder).await;
}
