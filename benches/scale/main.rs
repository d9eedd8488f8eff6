//! How the operator fares with many FinServices: `cargo bench --bench scale -- --services 1000`.
//!
//! One run starts a control plane of its own, measures the bare writes (the floor), then the operator
//! making the same, then the operator at rest, at a change, at a change by hand, and at a restart.
//! `docs/performance.md` has what it measured and how to read it.

mod changes;
mod floor;
mod ground;
mod operator;
mod reads;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use ground::{Failure, Ground};
use operator::Operator;
use report::{Column, Report};

// As the operator has it, so that the floor's loop is no slower for its allocator.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures the operator with many FinServices, beside a bare loop of the same writes.
#[derive(Debug, Parser)]
struct Options {
    /// How many FinServices; several numbers give a column each, on a control plane each
    #[arg(long, value_delimiter = ',', default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    services: Vec<u32>,
    /// Services of each round of the floor; the time is scaled to the number of FinServices
    #[arg(long, default_value_t = 500)]
    floor_services: u32,
    /// Writes under way at once, of the floor and of the operator
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=512))]
    concurrency: u16,
    /// How long the operator is watched at rest, in seconds
    #[arg(long, default_value_t = 60)]
    idle_seconds: u64,
    /// How many changes, and how many repairs, are timed
    #[arg(long, default_value_t = 100)]
    samples: usize,
    /// How many restarts are timed
    #[arg(long, default_value_t = 3)]
    restarts: usize,
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
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn all(options: &Options) -> Result<(), Failure> {
    let mut report = Report::new(options.concurrency);
    for services in &options.services {
        report.columns.push(measure(options, *services).await?);
        println!("{}", report.table());
    }
    if let Some(file) = &options.markdown {
        std::fs::write(file, report.markdown())?;
    }
    Ok(())
}

/// One column: all that is measured with that many FinServices.
async fn measure(options: &Options, services: u32) -> Result<Column, Failure> {
    let ground = Ground::start(services, false).await?;
    let mut column = Column { services, ..Column::default() };
    let concurrency = usize::from(options.concurrency);
    let round = options.floor_services.min(services);
    let recipe = floor::Recipe::of_service(ground.cloud.name())?;
    column.writes = recipe.kinds();

    // A first round that does not count: the API server compiles schemas and grows its heap in it.
    let few = round.min(50);
    floor::round(&ground, &recipe, "warm", few, concurrency).await?;
    floor::remove(&ground, &recipe, "warm", few, concurrency).await?;
    say(services, "floor, before");
    column.floors.push(floor::round(&ground, &recipe, "before", round, concurrency).await?);
    floor::remove(&ground, &recipe, "before", round, concurrency).await?;

    say(services, "the operator writes");
    let operator = Operator::start(&ground, "first", options.concurrency).await?;
    let cpu = ground.cpu(&operator);
    let began = Instant::now();
    ground.apply_all(concurrency).await?;
    column.applied = began.elapsed();
    operator.until_written(services, recipe.len()).await?;
    column.written = began.elapsed();
    column.written_cpu = ground.cpu(&operator) - cpu;
    say(services, &format!("all written after {:.1?}", column.written));
    ground.verify(&recipe).await?;

    say(services, "pods become Ready");
    ground.play_deployment_controller(concurrency).await?;
    operator.until_quiet().await?;
    ground.verify_ready().await?;
    column.requests = operator.requests().await?;
    column.reconciles = operator.reconciles().await?;

    say(services, "at rest");
    column.idle = at_rest(&ground, &operator, options.idle_seconds).await?;
    say(services, "changes");
    let eyes = changes::Eyes::open(&ground, &recipe).await?;
    column.changes = changes::change(&ground, &eyes, options.samples).await?;
    say(services, "repairs");
    column.repairs = changes::repair(&ground, &eyes, &recipe, options.samples).await?;
    drop(eyes);
    operator.until_quiet().await?;
    operator.stop().await?;

    for number in 0..options.restarts {
        say(services, "a restart");
        ground.until_calm().await;
        column.reads.push(reads::round(&ground).await?);
        ground.until_calm().await;
        let (mark, served) = (ground.cloud.audit_mark(), ground.control_plane_cpu());
        let operator = Operator::start(&ground, &format!("restart-{number}"), options.concurrency).await?;
        column.starts.push(operator.ready_after);
        column.start_served.push(ground.control_plane_cpu().saturating_sub(served));
        operator.until_reconciled(services).await?;
        column.looked.push(operator.began.elapsed());
        say(services, &format!("caches filled after {:.1?}", operator.ready_after));
        operator.until_quiet().await?;
        column.start_writes += ground.cloud.audit_since(mark)?.writes().len();
        let usage = operator.usage()?;
        column.start_cpu.push(usage.cpu);
        column.start_memory.push(usage.resident);
        column.start_peak = column.start_peak.max(usage.peak);
        if number + 1 == options.restarts {
            say(services, "at rest after the restart");
            column.idle_restarted = Some(at_rest(&ground, &operator, options.idle_seconds).await?);
        }
        operator.stop().await?;
    }
    // The last, since an operator that is started after it would find what it writes.
    say(services, "floor, after");
    column.floors.push(floor::round(&ground, &recipe, "after", round, concurrency).await?);
    ground.stop().await?;
    Ok(column)
}

/// Watches the operator do nothing.
async fn at_rest(ground: &Ground, operator: &Operator<'_>, seconds: u64) -> Result<report::Idle, Failure> {
    let mark = ground.cloud.audit_mark();
    let before = operator.usage()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = operator.usage()?;
    let audit = ground.cloud.audit_since(mark)?;
    Ok(report::Idle {
        cpu: after.cpu.saturating_sub(before.cpu),
        requests: audit.not_idle().len(),
        resident: after.resident,
    })
}

impl Ground {
    /// CPU that each process has used so far.
    fn cpu(&self, operator: &Operator<'_>) -> report::Cpu {
        let of = |pid| operator::usage(pid).map(|usage| usage.cpu).unwrap_or_default();
        report::Cpu {
            operator: of(operator.pid),
            control_plane: self.control_plane_cpu(),
            bench: of(std::process::id()),
            machine: operator::machine_busy(),
        }
    }
}

fn say(services: u32, what: &str) {
    eprintln!("{services} FinServices: {what}");
}
