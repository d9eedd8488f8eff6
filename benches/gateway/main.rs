//! How many requests the sandbox's gateway carries, and what its programs take for that: `cargo bench --bench gateway`.
//!
//! The numbers are the machine's. They say how much load a scenario may send.

#[path = "../../tests/traffic/runner.rs"]
mod runner;
// Not all that scenarios do is measured.
#[allow(dead_code)]
#[path = "../../tests/traffic/world.rs"]
mod world;

use std::process::ExitCode;
use std::time::Instant;

use banyan::sandbox::Part;
use banyan::sandbox::traffic::gateway::Program;
use banyan::sandbox::traffic::{Load, LoadOptions, PrometheusServer};
use runner::scenarios;
use world::World;

fn main() -> ExitCode {
    let scenarios = scenarios![Alone: how_much_it_carries];
    runner::main(&scenarios)
}

async fn how_much_it_carries(world: &World) {
    let space = world.pair("carries", [90, 10]).await;
    // As fast as they are answered, so many at once.
    let began = Instant::now();
    let options = LoadOptions { at_once: 64, ..space.load().at(1e9) };
    let tally = Load::exactly(options, 10_000).await.expect("a load");
    assert_eq!((tally.sent, tally.answered(), tally.failed()), (10_000, 10_000, 0), "{tally}");
    println!("{:.0} requests/s: {tally}", 10_000.0 / began.elapsed().as_secs_f64());
    for (name, megabytes) in memory(world) {
        println!("{name}: {megabytes} MB");
    }
}

/// Memory of the processes, in megabytes: what runs beside tests.
fn memory(world: &World) -> Vec<(&'static str, u64)> {
    let resident = |pid: Option<u32>| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.unwrap_or_default()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1024
    };
    vec![
        ("kube-apiserver", resident(world.cloud.pid(Part::ApiServer))),
        ("contour", resident(world.gateway.pid(Program::Contour))),
        ("envoy", resident(world.gateway.pid(Program::Envoy))),
        ("prometheus", resident(world.prometheus.as_ref().and_then(PrometheusServer::pid))),
        ("load and pods", resident(Some(std::process::id()))),
    ]
}
