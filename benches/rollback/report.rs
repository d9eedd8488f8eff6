//! What was measured, as a table.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::replay::Bare;

/// How to read the table.
const PAGE: &str = include_str!("page.md");

/// Times of many.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Times, in any order.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// From a moment until others.
    pub fn since(began: Instant, ended: impl Iterator<Item = Instant>) -> Self {
        Self::of(ended.map(|at| at.saturating_duration_since(began)).collect())
    }

    /// The time within which that share of them lies, 0 to 1.
    pub fn quantile(&self, share: f64) -> Duration {
        let place = ((self.0.len() as f64 * share).ceil() as usize).clamp(1, self.0.len().max(1)) - 1;
        self.0.get(place).copied().unwrap_or_default()
    }

    /// From the shortest to the longest.
    pub fn spread(&self) -> Duration {
        self.quantile(1.0).saturating_sub(self.quantile(0.0))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// What happened while all rollouts held.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// For how long, in seconds.
    pub seconds: u64,
    /// Questions to Prometheus.
    pub questions: usize,
    /// Requests to the API server but for watches and the Lease.
    pub requests: usize,
    /// CPU of the operator.
    pub cpu: Duration,
    /// Its memory, in bytes.
    pub resident: u64,
}

/// All that was measured with one number of rollouts.
#[derive(Clone, Debug, Default)]
pub struct Column {
    /// How many rollouts.
    pub rollouts: u32,
    /// Until all FinServices had been changed.
    pub applied: Duration,
    /// From the first change until the first step stood.
    pub first_step: Times,
    /// From the making of each pod of a canary until it was Ready.
    pub pods_start: Times,
    /// A bare loop of the same writes.
    pub first_step_floor: Bare,
    /// Writes that the first step took, by verb and resource.
    pub first_step_kinds: BTreeMap<(String, String), usize>,
    /// Writes that it took.
    pub first_step_requests: usize,
    /// While all held.
    pub held: Held,
    /// From an abort until weight zero stood.
    pub abort: Times,
    /// From bad counters until weight zero stood.
    pub rollback: Times,
    /// When Prometheus was asked for the second time after the counters had turned bad.
    pub second_look: Option<Duration>,
    /// A bare loop of the same routes.
    pub floor: Duration,
    /// The operator's memory at the end, in bytes.
    pub resident: u64,
}

/// The table.
#[derive(Debug, Default)]
pub struct Report {
    /// One for each number of rollouts.
    pub columns: Vec<Column>,
}

impl Report {
    /// The table, as Markdown.
    pub fn table(&self) -> String {
        let head = self.columns.iter().map(|column| format!("{} rollouts", column.rollouts));
        let mut rows = vec![row("", head), row("---", self.columns.iter().map(|_| "---".to_owned()))];
        let mut add = |name: &str, value: &dyn Fn(&Column) -> String| {
            rows.push(row(name, self.columns.iter().map(value)));
        };
        add("all FinServices changed, by the bench", &|c| seconds(c.applied));
        add("first 10 % step stands: median / p99 / last", &|c| three(&c.first_step));
        add("the pods' own start, each by itself: median / p99 / slowest", &|c| three(&c.pods_start));
        add("floor: the same writes in a bare loop, on fresh objects", &|c| {
            let Bare { took, writes, left_out } = c.first_step_floor;
            format!("{} ({writes} writes, {left_out} left out)", seconds(took))
        });
        add("last first step, over that floor × 1.5 and the slowest pod (goal: ≤ 1)", &|c| {
            let goal = c.first_step_floor.took.mul_f64(1.5) + c.pods_start.quantile(1.0);
            let ratio = c.first_step.quantile(1.0).as_secs_f64() / goal.as_secs_f64().max(0.001);
            format!("{ratio:.2} {}", mark(ratio <= 1.0))
        });
        add("writes until then, a rollout", &|c| per(c.first_step_requests, c.rollouts));
        add("· by kind", &|c| kinds(c));
        add("questions to Prometheus while all hold, a second", &|c| {
            let each = c.held.questions as f64 / c.held.seconds.max(1) as f64;
            // A tick at each end of the time may fall in or out of it.
            let one = c.held.questions.abs_diff(c.held.seconds as usize) <= 1;
            format!("{each:.2} (goal: 1 a tick) {}", mark(one))
        });
        add("requests to the API server while all hold, a minute and rollout", &|c| {
            let minutes = c.held.seconds.max(1) as f64 / 60.0;
            format!("{:.2}", c.held.requests as f64 / minutes / f64::from(c.rollouts))
        });
        add("CPU of the operator while all hold", &|c| {
            format!("{:.1} %", 100.0 * c.held.cpu.as_secs_f64() / c.held.seconds.max(1) as f64)
        });
        add("abort to weight 0, all others in analysis: median / p99 / last (goal: p99 < 100 ms)", &|c| {
            format!("{} {}", three(&c.abort), mark(c.abort.quantile(0.99) < Duration::from_millis(100)))
        });
        add(
            "bad counters readable to weight 0, all at once: median / p99 / last (goal: p99 < 1 s, last < 2 s, or 1.3 × floor)",
            &|c| {
                let longer = c.floor.mul_f64(1.3);
                let (p99, last) = (c.rollback.quantile(0.99), c.rollback.quantile(1.0));
                let met =
                    p99 < longer.max(Duration::from_secs(1)) && last < longer.max(Duration::from_secs(2));
                format!("{} {}", three(&c.rollback), mark(met))
            },
        );
        add("the second look at the bad counters, without which nobody may decide", &|c| {
            c.second_look.map_or("none".to_owned(), seconds)
        });
        add("from that second look to weight 0: median / p99 / last", &|c| {
            let look = c.second_look.unwrap_or_default();
            let since = c.rollback.0.iter().map(|time| time.saturating_sub(look)).collect();
            three(&Times::of(since))
        });
        add("how many went back", &|c| c.rollback.len().to_string());
        add("floor: the same routes in a bare loop", &|c| seconds(c.floor));
        add("from the first that is back to the last", &|c| seconds(c.rollback.spread()));
        add("the same over the floor", &|c| {
            format!("{:.2} ×", c.rollback.spread().as_secs_f64() / c.floor.as_secs_f64().max(1e-9))
        });
        add("memory of the operator while all hold / at the end", &|c| {
            let (held, end) = (c.held.resident as f64 / 1e6, c.resident as f64 / 1e6);
            format!("{held:.0} / {end:.0} MB (goal: < 80) {}", mark(held.max(end) < 80.0))
        });
        rows.join("\n")
    }

    /// The page: how to read it, and the table.
    pub fn markdown(&self) -> String {
        let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
        let page = PAGE.replace("{{table}}", &self.table());
        page.replace("{{machine}}", &machine()).replace("{{date}}", &date)
    }
}

fn row(name: &str, values: impl Iterator<Item = String>) -> String {
    let values: Vec<String> = values.collect();
    format!("| {name} | {} |", values.join(" | "))
}

fn seconds(time: Duration) -> String {
    match time.as_secs_f64() {
        short if short < 1.0 => format!("{:.0} ms", short * 1000.0),
        long => format!("{long:.1} s"),
    }
}

fn three(times: &Times) -> String {
    let of = |share| seconds(times.quantile(share));
    format!("{} / {} / {}", of(0.5), of(0.99), of(1.0))
}

fn per(count: usize, rollouts: u32) -> String {
    format!("{:.1}", count as f64 / f64::from(rollouts))
}

/// Whether a goal is met.
fn mark(met: bool) -> &'static str {
    if met { "✓" } else { "✗" }
}

/// Writes of the first step for each rollout.
fn kinds(column: &Column) -> String {
    let each = column.first_step_kinds.iter();
    let each =
        each.map(|((verb, resource), count)| format!("{verb} {resource} {}", per(*count, column.rollouts)));
    each.collect::<Vec<_>>().join(", ")
}

/// What this was measured on.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown CPU");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores ({})", model.trim_start_matches([' ', '\t', ':']).trim())
}
