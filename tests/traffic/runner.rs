//! Runs scenarios inside a network namespace and reports as cargo's own runner does.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use banyan::sandbox::traffic::{TrafficTools, namespace};
use banyan::sandbox::{CloudOptions, pair};
use banyan::terminal::progress::Progress;
use futures::future::LocalBoxFuture;
use futures::{FutureExt, StreamExt};

use crate::world::World;

/// How long one scenario may take. It only ends what hangs.
const LIMIT: Duration = Duration::from_secs(300);
/// How many scenarios run side by side in a cloud where they do not disturb each other: most of their time they wait. On a busy
/// machine more of them fail requests of each other, which is an outage to every one of them.
const AT_ONCE: usize = 4;

/// A test that wants real requests.
pub struct Scenario {
    /// Its name, which says what is so.
    pub name: &'static str,
    /// What it runs beside.
    pub group: Group,
    /// What it does; it panics where that is not so.
    pub run: for<'a> fn(&'a World) -> LocalBoxFuture<'a, ()>,
}

/// Scenarios of a group share an operator, since only one may lead. One group runs after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The operator reads what the gateway counts. Scenarios that need no operator are here, too.
    Gateway,
    /// The operator reads what pods count.
    Pods,
    /// A scenario that stops what others need. The operator reads what the gateway counts.
    Alone,
}

/// Scenarios of a group out of async functions that take a `&World`.
macro_rules! scenarios {
    ($group:ident: $($name:ident),+ $(,)?) => {
        vec![$($crate::runner::Scenario {
            name: stringify!($name),
            group: $crate::runner::Group::$group,
            run: |world| Box::pin($name(world)),
        }),+]
    };
}
pub(crate) use scenarios;

/// What cargo's own runner understands and people use, as far as it means something here.
struct Options {
    list: bool,
    exact: bool,
    filters: Vec<String>,
    skip: Vec<String>,
}

impl Options {
    fn read(mut args: impl Iterator<Item = String>) -> Self {
        let mut options = Self { list: false, exact: false, filters: Vec::new(), skip: Vec::new() };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--list" => options.list = true,
                "--exact" => options.exact = true,
                "--skip" => options.skip.extend(args.next()),
                "--test-threads" | "--format" | "--color" | "-Z" => drop(args.next()),
                flag if flag.starts_with('-') => {}
                filter => options.filters.push(filter.to_owned()),
            }
        }
        options
    }

    fn wants(&self, name: &str) -> bool {
        let fits = |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        (self.filters.is_empty() || self.filters.iter().any(fits)) && !self.skip.iter().any(fits)
    }
}

/// Runs the scenarios that the arguments ask for.
pub fn main(scenarios: &[Scenario]) -> ExitCode {
    let options = Options::read(std::env::args().skip(1));
    let (wanted, others): (Vec<&Scenario>, Vec<&Scenario>) =
        scenarios.iter().partition(|scenario| options.wants(scenario.name));
    if options.list {
        wanted.iter().for_each(|scenario| println!("{}: test", scenario.name));
        return ExitCode::SUCCESS;
    }
    if wanted.is_empty() {
        // Nothing is built or started for that.
        println!("\nrunning 0 tests\n\n{}\n", summary(0, 0, others.len(), Duration::ZERO));
        return ExitCode::SUCCESS;
    }
    if !namespace::inside() {
        let why = match prepare() {
            // It comes back only with what stands in the way.
            Ok(()) => namespace::enter(&[]).err().map(|error| error.to_string()).unwrap_or_default(),
            Err(why) => why,
        };
        // Who runs all checks must not take for done what was left out.
        return if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            println!("test result: FAILED. {why}");
            ExitCode::FAILURE
        } else {
            println!("skipped: {why}");
            ExitCode::SUCCESS
        };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(all(&wanted, others.len()))
}

/// Builds and downloads outside, where there is a network.
fn prepare() -> Result<(), String> {
    namespace::possible().map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let progress = Progress::stderr();
    let prepared = runtime.block_on(async {
        let supervisor = pair::supervisor(progress.clone()).await?;
        pair::prepare(supervisor.clone(), progress.clone()).await?;
        tokio::task::spawn_blocking(move || {
            let tools = TrafficTools::obtain(&supervisor, &progress);
            // This process goes on as another program, which knows nothing of this supervisor.
            supervisor.shutdown(Duration::from_secs(10)).and(tools.map(drop))
        })
        .await
        .expect("no panic")
    });
    prepared.map_err(|error: banyan::sandbox::Error| error.to_string())
}

async fn all(wanted: &[&Scenario], left_out: usize) -> ExitCode {
    println!("\nrunning {} tests", wanted.len());
    let began = Instant::now();
    // Two clouds halve the time: most of it is waited for.
    let (one, other) = tokio::join!(
        in_cloud(CloudOptions::aws(), wanted, &[Group::Gateway, Group::Alone]),
        in_cloud(CloudOptions::gcp(), wanted, &[Group::Pods]),
    );
    let failed = [one, other].concat();
    if !failed.is_empty() {
        println!("\nfailures:");
        failed.iter().for_each(|name| println!("    {name}"));
    }
    println!("\n{}\n", summary(wanted.len() - failed.len(), failed.len(), left_out, began.elapsed()));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the scenarios of these groups, one group after the other, in a cloud of their own; the names of those that fail.
async fn in_cloud(options: CloudOptions, wanted: &[&Scenario], groups: &[Group]) -> Vec<&'static str> {
    let mut failed = Vec::new();
    if !wanted.iter().any(|scenario| groups.contains(&scenario.group)) {
        return failed;
    }
    let began = Instant::now();
    let world = World::start(options).await;
    println!("(a cloud, a gateway and a Prometheus in {:.1} s)", began.elapsed().as_secs_f64());
    for group in groups {
        let of_group: Vec<&Scenario> =
            wanted.iter().copied().filter(|scenario| scenario.group == *group).collect();
        if of_group.is_empty() {
            continue;
        }
        world.begin(*group != Group::Pods).await;
        let at_once = if *group == Group::Alone { 1 } else { AT_ONCE };
        let runs = futures::stream::iter(of_group).map(|scenario| run(scenario, &world));
        failed.extend(
            runs.buffer_unordered(at_once).filter_map(async |failed| failed).collect::<Vec<_>>().await,
        );
        world.end().await;
    }
    world.page().await;
    if !failed.is_empty() {
        world.explain();
    }
    world.stop().await;
    failed
}

/// Runs one scenario; its name if it fails.
async fn run(scenario: &Scenario, world: &World) -> Option<&'static str> {
    let began = Instant::now();
    let run = AssertUnwindSafe((scenario.run)(world)).catch_unwind();
    // A panic has told of itself on standard error.
    let result = match tokio::time::timeout(LIMIT, run).await {
        Ok(Ok(())) => "ok",
        Ok(Err(_)) => "FAILED",
        Err(_) => "FAILED: it takes too long",
    };
    println!("test {} ... {result} ({:.1} s)", scenario.name, began.elapsed().as_secs_f64());
    if scenario.group == Group::Alone {
        world.calm();
    }
    (result != "ok").then_some(scenario.name)
}

fn summary(passed: usize, failed: usize, left_out: usize, took: Duration) -> String {
    let result = if failed == 0 { "ok" } else { "FAILED" };
    format!(
        "test result: {result}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {left_out} filtered out; \
         finished in {:.2}s",
        took.as_secs_f64()
    )
}
