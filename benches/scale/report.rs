//! What was measured, as one table.

use std::collections::BTreeMap;
use std::ops::Sub;
use std::time::Duration;

use banyan::finservice::children::Kind;

use crate::floor::Round;

/// The most that all writes may take, as a multiple of the floor.
const MOST_RATIO: f64 = 1.3;
const MIB: f64 = 1024.0 * 1024.0;

/// All that was measured with one number of FinServices.
#[derive(Debug, Default)]
pub struct Column {
    /// How many.
    pub services: u32,
    /// Children of each FinService by kind.
    pub writes: BTreeMap<Kind, usize>,
    /// The floor, before and after.
    pub floors: Vec<Round>,
    /// Until all FinServices were applied.
    pub applied: Duration,
    /// Until all children and first statuses were written, from the first FinService on.
    pub written: Duration,
    /// CPU used in that time.
    pub written_cpu: Cpu,
    /// The operator's requests until all were Ready, by verb and resource.
    pub requests: BTreeMap<(String, String), usize>,
    /// Its reconciles until then.
    pub reconciles: usize,
    /// At rest after that.
    pub idle: Idle,
    /// From a change to its write.
    pub changes: Vec<Duration>,
    /// From a change by hand to its repair.
    pub repairs: Vec<Duration>,
    /// From the start of a process to leading with its caches filled.
    pub starts: Vec<Duration>,
    /// From the start of a process until it has looked at each FinService.
    pub looked: Vec<Duration>,
    /// CPU of each of these processes until they came to rest.
    pub start_cpu: Vec<Duration>,
    /// CPU of the API server and etcd until its caches were filled.
    pub start_served: Vec<Duration>,
    /// The same lists in a bare loop, before each.
    pub reads: Vec<Duration>,
    /// Resident memory of each then, in bytes.
    pub start_memory: Vec<u64>,
    /// The most that was ever resident in any, in bytes.
    pub start_peak: u64,
    /// Writes of all of them.
    pub start_writes: usize,
    /// At rest after a restart.
    pub idle_restarted: Option<Idle>,
}

/// The operator at rest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Idle {
    /// CPU used.
    pub cpu: Duration,
    /// Requests other than watches and the Lease's.
    pub requests: usize,
    /// Resident memory at its end, in bytes.
    pub resident: u64,
}

/// CPU that has been used, by whom.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// The operator.
    pub operator: Duration,
    /// The API server and etcd.
    pub control_plane: Duration,
    /// The program that measures.
    pub bench: Duration,
    /// All processes of the machine.
    pub machine: Duration,
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            operator: self.operator.saturating_sub(before.operator),
            control_plane: self.control_plane.saturating_sub(before.control_plane),
            bench: self.bench.saturating_sub(before.bench),
            machine: self.machine.saturating_sub(before.machine),
        }
    }
}

impl Cpu {
    /// CPU that had nothing to do with the measurement.
    fn others(self) -> Duration {
        self.machine.saturating_sub(self.operator + self.control_plane + self.bench)
    }
}

/// The table: a column for each number of FinServices.
pub struct Report {
    /// Writes under way at once.
    concurrency: u16,
    /// The columns.
    pub columns: Vec<Column>,
}

/// A row: what, and for each column the figure.
struct Row {
    what: String,
    goal: &'static str,
    cells: Vec<Cell>,
}

struct Cell {
    text: String,
    /// Whether it meets its goal; `None` where there is none.
    met: Option<bool>,
}

impl Cell {
    fn plain(text: String) -> Self {
        Self { text, met: None }
    }

    fn judged(text: String, met: bool) -> Self {
        Self { text, met: Some(met) }
    }
}

impl Column {
    /// The mean time of the rounds, scaled to the number of FinServices. An API server becomes slower as it fills: one round
    /// is on the empty one, one on the full one, and the operator's run goes from the one to the other.
    fn floor(&self, of: impl Fn(&Round) -> Duration) -> f64 {
        let scaled = self.floors.iter().map(|round| self.scaled(round, &of));
        scaled.sum::<f64>() / self.floors.len() as f64
    }

    fn scaled(&self, round: &Round, of: impl Fn(&Round) -> Duration) -> f64 {
        of(round).as_secs_f64() / f64::from(round.services) * f64::from(self.services)
    }

    fn floor_all(&self) -> f64 {
        self.floor(Round::all)
    }

    fn fastest_floor(&self) -> f64 {
        self.floors.iter().map(|round| self.scaled(round, Round::all)).fold(f64::NAN, f64::min)
    }

    /// The median of the bare reads, in seconds.
    fn floor_of_start(&self) -> f64 {
        median(&self.reads).as_secs_f64()
    }

    fn children(&self) -> usize {
        self.writes.values().sum()
    }

    /// Memory goal in bytes: 100 MB at 2 000 FinServices, 250 MB at 10 000.
    fn memory_goal(&self) -> Option<u64> {
        match self.services {
            0..=2_000 => Some(100_000_000),
            2_001..=10_000 => Some(250_000_000),
            _ => None,
        }
    }

    /// Goal of a cold start: 3 s at 2 000 FinServices, 10 s at 10 000.
    fn start_goal(&self) -> Option<Duration> {
        match self.services {
            0..=2_000 => Some(Duration::from_secs(3)),
            2_001..=10_000 => Some(Duration::from_secs(10)),
            _ => None,
        }
    }
}

impl Report {
    /// An empty table.
    pub fn new(concurrency: u16) -> Self {
        Self { concurrency, columns: Vec::new() }
    }

    fn row(&self, what: impl Into<String>, goal: &'static str, cell: impl Fn(&Column) -> Cell) -> Row {
        Row { what: what.into(), goal, cells: self.columns.iter().map(cell).collect() }
    }

    fn rows(&self) -> Vec<Row> {
        let per = |column: &Column, count: usize| format!("{:.2}", count as f64 / f64::from(column.services));
        let mut rows = vec![
            self.row("children of each FinService", "", |c| Cell::plain(c.children().to_string())),
            self.row("**writing all**", "", |_| Cell::plain(String::new())),
            self.row("from the first FinService applied to all children and statuses written", "", |c| {
                Cell::plain(seconds(c.written.as_secs_f64()))
            }),
            self.row("floor: the same applies in a bare loop, all of them", "", |c| {
                Cell::plain(seconds(c.floor_all()))
            }),
            self.row("ratio to that floor", "≤ 1.3", |c| {
                let ratio = c.written.as_secs_f64() / c.floor_all();
                Cell::judged(format!("{ratio:.2}"), ratio <= MOST_RATIO)
            }),
            self.row("ratio to its faster round alone", "", |c| {
                Cell::plain(format!("{:.2}", c.written.as_secs_f64() / c.fastest_floor()))
            }),
            self.row("floor: the children alone", "", |c| {
                Cell::plain(seconds(c.floor(|round| round.children)))
            }),
            self.row("ratio to the children alone", "", |c| {
                Cell::plain(format!("{:.2}", c.written.as_secs_f64() / c.floor(|round| round.children)))
            }),
            self.row("the slowest round of the floor took longer than the fastest by", "", |c| {
                Cell::plain(spread(c))
            }),
            self.row(
                "CPU meanwhile: operator / API server and etcd / bench / others on the machine",
                "",
                |c| {
                    let cpu = c.written_cpu;
                    let each = [cpu.operator, cpu.control_plane, cpu.bench, cpu.others()];
                    Cell::plain(each.map(|cpu| seconds(cpu.as_secs_f64())).join(" / "))
                },
            ),
            self.row("CPU of API server and etcd, as a multiple of that in the floor", "", |c| {
                let ratio = c.written_cpu.control_plane.as_secs_f64() / c.floor(|round| round.cpu);
                Cell::plain(format!("{ratio:.2}"))
            }),
            self.row("**requests for each FinService until it is Ready**", "", |c| {
                Cell::plain(per(c, c.requests.values().sum()))
            }),
        ];
        for verb in ["apply", "patch", "create", "update", "get", "list", "delete"] {
            let count = |c: &Column| -> usize {
                c.requests.iter().filter(|((have, _), _)| have == verb).map(|(_, count)| count).sum()
            };
            if self.columns.iter().any(|column| count(column) > 0) {
                rows.push(self.row(format!("· {verb}"), "", |c| Cell::plain(per(c, count(c)))));
            }
        }
        rows.extend([
            self.row("· of these, statuses", "", |c| {
                let statuses = c.requests.iter().filter(|((_, of), _)| of == "finservices/status");
                Cell::plain(per(c, statuses.map(|(_, count)| count).sum()))
            }),
            self.row("reconciles for each FinService until it is Ready", "", |c| {
                Cell::plain(per(c, c.reconciles))
            }),
            self.row("**at rest**", "", |_| Cell::plain(String::new())),
            self.row("requests other than watches and the Lease", "0", |c| {
                Cell::judged(c.idle.requests.to_string(), c.idle.requests == 0)
            }),
            self.row("CPU", "", |c| Cell::plain(seconds(c.idle.cpu.as_secs_f64()))),
            self.row("resident memory, after having written all", "", |c| {
                Cell::plain(megabytes(c.idle.resident))
            }),
            self.row("**a change of a FinService**, until its write is seen: p50 / p99", "", |c| {
                Cell::plain(quantiles(&c.changes))
            }),
            self.row(
                "**a child deleted or changed by hand**, until it is restored: p50 / p99",
                "≤ 1 s",
                |c| Cell::judged(quantiles(&c.repairs), quantile(&c.repairs, 0.99) <= Duration::from_secs(1)),
            ),
            self.row(
                "**a cold start**: from the process's start to leading with all caches filled, median",
                "3 s at 2 000, 10 s at 10 000",
                |c| {
                    let took = median(&c.starts);
                    let text = seconds(took.as_secs_f64());
                    match c.start_goal() {
                        Some(goal) => Cell::judged(text, took < goal),
                        None => Cell::plain(text),
                    }
                },
            ),
            self.row("each of them", "", |c| {
                let each = c.starts.iter().map(|took| format!("{:.1}", took.as_secs_f64()));
                Cell::plain(format!("{} s", each.collect::<Vec<_>>().join(", ")))
            }),
            self.row("floor: the same lists in a bare loop, thrown away, median", "", |c| {
                Cell::plain(seconds(c.floor_of_start()))
            }),
            self.row("ratio to that floor", "", |c| {
                Cell::plain(format!("{:.2}", median(&c.starts).as_secs_f64() / c.floor_of_start()))
            }),
            self.row("from there to having looked at each FinService, median", "", |c| {
                let took = median(&c.looked).saturating_sub(median(&c.starts));
                Cell::plain(seconds(took.as_secs_f64()))
            }),
            self.row("CPU of API server and etcd until the caches are filled, median", "", |c| {
                Cell::plain(seconds(median(&c.start_served).as_secs_f64()))
            }),
            self.row("CPU of the operator until at rest, median", "", |c| {
                Cell::plain(seconds(median(&c.start_cpu).as_secs_f64()))
            }),
            self.row("writes, nothing having changed", "0", |c| {
                Cell::judged(c.start_writes.to_string(), c.start_writes == 0)
            }),
            self.row("resident memory at rest after it, worst", "100 MB at 2 000, 250 MB at 10 000", |c| {
                let worst = c.start_memory.iter().copied().max().unwrap_or_default();
                match c.memory_goal() {
                    Some(goal) => Cell::judged(megabytes(worst), worst < goal),
                    None => Cell::plain(megabytes(worst)),
                }
            }),
            self.row("the same at its peak", "", |c| Cell::plain(megabytes(c.start_peak))),
            self.row("at rest after it: requests / CPU / resident memory", "0 requests", |c| {
                match c.idle_restarted {
                    Some(idle) => Cell::judged(
                        format!(
                            "{} / {} / {}",
                            idle.requests,
                            seconds(idle.cpu.as_secs_f64()),
                            megabytes(idle.resident)
                        ),
                        idle.requests == 0,
                    ),
                    None => Cell::plain("not measured".into()),
                }
            }),
        ]);
        rows
    }

    /// The table as Markdown, which reads well in a terminal too.
    pub fn table(&self) -> String {
        let mut lines = vec![vec![String::new(), "goal".to_owned()]];
        for column in &self.columns {
            lines[0].push(format!("{} FinServices", thousands(column.services)));
        }
        for row in self.rows() {
            let mut line = vec![row.what, row.goal.to_owned()];
            line.extend(row.cells.into_iter().map(|cell| match cell.met {
                Some(true) => format!("{} ✓", cell.text),
                Some(false) => format!("{} ✗", cell.text),
                None => cell.text,
            }));
            lines.push(line);
        }
        let width = |index: usize| lines.iter().map(|line| line[index].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
        let mut text = String::new();
        for (number, line) in lines.iter().enumerate() {
            for (cell, width) in line.iter().zip(&widths) {
                text += &format!("| {cell}{} ", " ".repeat(width - cell.chars().count()));
            }
            text += "|\n";
            if number == 0 {
                for width in &widths {
                    text += &format!("|{}", "-".repeat(width + 2));
                }
                text += "|\n";
            }
        }
        text
    }

    /// The whole page.
    pub fn markdown(&self) -> String {
        let kinds = self.columns.first().map(|column| {
            let each = column.writes.iter().map(|(kind, count)| match count {
                1 => kind.name().to_owned(),
                more => format!("{} ({more})", kind.name()),
            });
            each.collect::<Vec<_>>().join(", ")
        });
        let services: Vec<String> = self.columns.iter().map(|column| column.services.to_string()).collect();
        let round = self.columns.iter().flat_map(|column| &column.floors).map(|round| round.services).max();
        let missed: Vec<String> = self
            .rows()
            .iter()
            .flat_map(|row| {
                row.cells.iter().zip(&self.columns).map(move |(cell, column)| (row, cell, column))
            })
            .filter(|(_, cell, _)| cell.met == Some(false))
            .map(|(row, cell, column)| {
                let what = row.what.replace("**", "");
                format!(
                    "- {what}, with {} FinServices: {} (goal: {})",
                    thousands(column.services),
                    cell.text,
                    row.goal
                )
            })
            .collect();
        let missed = if missed.is_empty() { "None.".to_owned() } else { missed.join("\n") };
        include_str!("page.md")
            .replace("{{table}}", self.table().trim_end())
            .replace("{{machine}}", &machine())
            .replace("{{concurrency}}", &self.concurrency.to_string())
            .replace("{{services}}", &services.join(","))
            .replace("{{round}}", &round.unwrap_or_default().to_string())
            .replace("{{kinds}}", &kinds.unwrap_or_default())
            .replace("{{missed}}", &missed)
    }
}

/// What this machine is.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown CPU");
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = model.trim_start_matches([' ', '\t', ':']).trim();
    format!("{cores} cores ({model}), {:.0} GiB of memory", kibibytes as f64 / 1024.0 / 1024.0)
}

/// How much longer the slowest round of the floor took than the fastest.
fn spread(column: &Column) -> String {
    let each = |round: &Round| round.all().as_secs_f64() / f64::from(round.services);
    let slowest = column.floors.iter().map(each).fold(0.0, f64::max);
    let fastest = column.floors.iter().map(each).fold(f64::INFINITY, f64::min);
    format!("{:.0} %", (slowest / fastest - 1.0) * 100.0)
}

/// The middle, or the mean of the two in the middle: by rank alone the faster one would be taken. Zero of nothing.
fn median(of: &[Duration]) -> Duration {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
    (at(of.len().saturating_sub(1) / 2) + at(of.len() / 2)) / 2
}

/// The nearest-rank quantile; zero of nothing.
fn quantile(of: &[Duration], at: f64) -> Duration {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    let rank = (at * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn quantiles(of: &[Duration]) -> String {
    let milliseconds = |at| format!("{:.1} ms", quantile(of, at).as_secs_f64() * 1000.0);
    format!("{} / {}", milliseconds(0.5), milliseconds(0.99))
}

fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.2} s") } else { format!("{seconds:.1} s") }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB ({:.1} MiB)", bytes as f64 / 1e6, bytes as f64 / MIB)
}

fn thousands(number: u32) -> String {
    match number {
        0..=9_999 => number.to_string(),
        _ => format!("{} {:03}", number / 1000, number % 1000),
    }
}
