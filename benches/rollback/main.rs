//! How fast many rollouts begin, are aborted, and are rolled back: `cargo bench --bench rollback -- --rollouts 500`.
//!
//! One run starts a cluster of its own (a real control plane, played nodes and pods), a Prometheus that this program
//! plays, and the operator as a process. All services are changed at once; all rollouts are held in analysis; some
//! are aborted; then all counters turn bad at once. Times are taken by a watch of the routes at the API server.

mod bare;
#[path = "../scale/floor.rs"]
#[allow(dead_code)]
mod floor;
#[path = "../scale/ground.rs"]
#[allow(dead_code)]
mod ground;
#[path = "../scale/operator.rs"]
#[allow(dead_code)]
mod operator;
#[path = "../../tests/support/prometheus.rs"]
mod prometheus;
mod report;
mod rollouts;
mod routes;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use ground::{Failure, Ground};
use jiff::Timestamp;
use operator::Operator;
use prometheus::Played;
use report::{Report, Times};
use rollouts::Rollouts;
use routes::Routes;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures how fast rollouts begin and end.
#[derive(Debug, Parser)]
struct Options {
    /// How many rollouts; several numbers give a column each, on a cluster each
    #[arg(long, value_delimiter = ',', default_value = "100", value_parser = clap::value_parser!(u32).range(2..=5000))]
    rollouts: Vec<u32>,
    /// Writes under way at once, of the floor and of the operator
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=512))]
    concurrency: u16,
    /// How long the operator is watched while all rollouts hold, in seconds; with less than 120, stable is not known yet
    /// when the counters turn bad
    #[arg(long, default_value_t = 120)]
    hold_seconds: u64,
    /// Time between two looks; 250ms is the shortest there is
    #[arg(long, default_value = "250ms")]
    interval: String,
    /// How many rollouts are aborted
    #[arg(long, default_value_t = 20)]
    aborts: u32,
    /// Write the table to this file as Markdown, with how to read it
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(all(&options)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rollback: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn all(options: &Options) -> Result<(), Failure> {
    let mut report = Report::default();
    for rollouts in &options.rollouts {
        report.columns.push(measure(options, *rollouts).await?);
        println!("{}", report.table());
    }
    if let Some(file) = &options.markdown {
        std::fs::write(file, report.markdown())?;
    }
    Ok(())
}

/// One column: all that is measured with that many rollouts.
async fn measure(options: &Options, count: u32) -> Result<report::Column, Failure> {
    let say = |what: &str| eprintln!("{count} rollouts: {what}");
    let concurrency = usize::from(options.concurrency);
    let ground = Ground::start(count, true).await?;
    let played = Played::start().await;
    let operator = Operator::start(&ground, "operator", options.concurrency).await?;
    let rollouts = Rollouts::new(&ground, count, concurrency);

    say("version 1 starts everywhere");
    rollouts.create(&played.url(), &options.interval).await?;
    rollouts.until_settled().await?;
    operator.until_quiet().await?;
    let mut column = report::Column { rollouts: count, ..report::Column::default() };

    say("version 2 everywhere at once");
    let routes = Routes::watch(&ground).await?;
    let mark = ground.cloud.audit_mark();
    let began = Instant::now();
    rollouts.change().await?;
    column.applied = began.elapsed();
    let first = routes.until(&rollouts, |weight| weight >= 10).await?;
    column.first_step = Times::since(began, first.values().copied());
    column.pods_ready = rollouts.pods_ready_within().await?;
    operator.until_quiet().await?;
    let audit = ground.cloud.audit_since(mark)?;
    column.first_step_requests = audit.writes().len();
    let bare = bare::Bare::record(&ground, &rollouts.revisions().await?, &audit).await?;

    say("all hold in analysis");
    let revisions = rollouts.revisions().await?;
    for (key, [stable, canary]) in &revisions {
        played.flow(&key.0, &key.1, stable, prometheus::Flow::of(900.0, 0.1));
        played.flow(&key.0, &key.1, canary, prometheus::Flow::of(100.0, 0.1));
    }
    // Warm: the first looks, and the verdicts that follow, have been written down.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (mark, asked, usage) = (ground.cloud.audit_mark(), played.asked(), operator.usage()?);
    tokio::time::sleep(Duration::from_secs(options.hold_seconds)).await;
    let after = operator.usage()?;
    column.held = report::Held {
        seconds: options.hold_seconds,
        questions: played.asked() - asked,
        requests: ground.cloud.audit_since(mark)?.not_idle().len(),
        cpu: after.cpu.saturating_sub(usage.cpu),
        resident: after.resident,
    };

    say("some are aborted");
    let aborted = options.aborts.min(count / 2);
    column.abort = rollouts.abort(&routes, aborted).await?;

    say("all counters turn bad");
    let mark = ground.cloud.audit_mark();
    let (bad_at, clock) = (Instant::now(), Timestamp::now());
    for (key, [_, canary]) in &revisions {
        played.flow(&key.0, &key.1, canary, prometheus::Flow::of(100.0, 20.0));
    }
    let zero = routes.until(&rollouts, |weight| weight == 0).await?;
    let failed: HashMap<&rollouts::Key, Instant> =
        zero.iter().filter(|(_, at)| **at >= bad_at).map(|(key, at)| (key, *at)).collect();
    column.rollback = Times::since(bad_at, failed.values().copied());
    let read_at = played.asked_after(bad_at).unwrap_or(bad_at);
    column.read_after = read_at - bad_at;
    column.from_read = Times::since(read_at, failed.values().copied());
    rollouts.until_rolled_back().await?;
    operator.until_quiet().await?;
    let audit = ground.cloud.audit_since(mark)?;
    column.answered = Times::of(rollouts::first_answers(&audit, failed.keys(), clock + (read_at - bad_at)));
    column.resident = operator.usage()?.resident;
    operator.stop().await?;

    say("the floor: the same routes in a bare loop");
    column.floor = rollouts.floor().await?;
    drop(played);
    say("the floor: the same first step in a bare loop");
    column.bare_writes = bare.writes;
    column.bare = bare.run(&ground, concurrency).await?;
    ground.stop().await?;
    Ok(column)
}
