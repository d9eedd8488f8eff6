//! What was measured, as a table.

use std::time::{Duration, Instant};

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
    /// From the first pod of a canary until the last was Ready.
    pub pods_ready: Duration,
    /// Writes that it took.
    pub first_step_requests: usize,
    /// The same first step in a bare loop, from the first write until the last weight.
    pub bare: Duration,
    /// Writes of that loop.
    pub bare_writes: usize,
    /// While all held.
    pub held: Held,
    /// From an abort until weight zero stood.
    pub abort: Times,
    /// From bad counters until weight zero stood.
    pub rollback: Times,
    /// From bad counters until they were first asked for.
    pub read_after: Duration,
    /// From there until weight zero stood.
    pub from_read: Times,
    /// From there until the API server had answered the write, by its own log.
    pub answered: Times,
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
        add("of these, the pods' own start (first made to last Ready)", &|c| seconds(c.pods_ready));
        add("writes until then, a rollout", &|c| per(c.first_step_requests, c.rollouts));
        add("floor: the same in a bare loop, with its pods' start (writes a rollout)", &|c| {
            format!("{} ({})", seconds(c.bare), per(c.bare_writes, c.rollouts))
        });
        add("the last first step over that floor", &|c| over(c.first_step.quantile(1.0), c.bare));
        add("questions to Prometheus while all hold, a second", &|c| {
            format!("{:.2}", c.held.questions as f64 / c.held.seconds.max(1) as f64)
        });
        add("requests to the API server while all hold, a minute and rollout", &|c| {
            let minutes = c.held.seconds.max(1) as f64 / 60.0;
            format!("{:.2}", c.held.requests as f64 / minutes / f64::from(c.rollouts))
        });
        add("CPU of the operator while all hold", &|c| {
            format!("{:.1} %", 100.0 * c.held.cpu.as_secs_f64() / c.held.seconds.max(1) as f64)
        });
        add("abort to weight 0, all others in analysis: median / p99 / last", &|c| three(&c.abort));
        add("bad counters readable to weight 0, all at once: median / p99 / last", &|c| three(&c.rollback));
        add("of these, until the next look", &|c| seconds(c.read_after));
        add("from that look to weight 0: median / p99 / last", &|c| three(&c.from_read));
        add("the same by the API server's log of requests: median / p99 / last", &|c| three(&c.answered));
        add("the last of these over the floor", &|c| over(c.answered.quantile(1.0), c.floor));
        add("how many went back", &|c| c.rollback.len().to_string());
        add("floor: the same routes in a bare loop", &|c| seconds(c.floor));
        add("from the first that is back to the last", &|c| seconds(c.rollback.spread()));
        add("the same over the floor, as the watch sees it", &|c| over(c.rollback.spread(), c.floor));
        add("memory of the operator while all hold / at the end", &|c| {
            format!("{} / {} MB", c.held.resident >> 20, c.resident >> 20)
        });
        rows.join("\n")
    }

    /// The page: how to read it, and the table.
    pub fn markdown(&self) -> String {
        PAGE.replace("{{table}}", &self.table())
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

fn over(time: Duration, floor: Duration) -> String {
    format!("{:.2} ×", time.as_secs_f64() / floor.as_secs_f64().max(1e-9))
}

fn three(times: &Times) -> String {
    let of = |share| seconds(times.quantile(share));
    format!("{} / {} / {}", of(0.5), of(0.99), of(1.0))
}

fn per(count: usize, rollouts: u32) -> String {
    format!("{:.1}", count as f64 / f64::from(rollouts))
}
