//! Intervals and tables.

use std::fmt::Write;

/// Both ends of the exact 95 % interval (Clopper & Pearson 1934) of a chance of which `hits` of `runs` were seen.
pub fn interval(hits: u64, runs: u64) -> (f64, f64) {
    let tail = |p: f64, upper: bool| {
        // P(X ≤ hits) or P(X ≥ hits) under Binomial(runs, p), summed in logarithms.
        let (from, to) = if upper { (0, hits) } else { (hits, runs) };
        let mut log_choose = log_factorial(runs);
        log_choose -= log_factorial(from) + log_factorial(runs - from);
        let (mut sum, mut index) = (0.0, from);
        loop {
            let log = log_choose + index as f64 * p.ln() + (runs - index) as f64 * (-p).ln_1p();
            let term = log.exp();
            sum += term;
            if index >= to || (!upper && index > hits + 10 && term < sum * 1e-14) {
                return sum;
            }
            log_choose += ((runs - index) as f64).ln() - ((index + 1) as f64).ln();
            index += 1;
        }
    };
    let search = |upper: bool| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            let too_far = tail(middle, upper) < 0.025;
            if too_far == upper {
                high = middle;
            } else {
                low = middle;
            }
        }
        (low + high) / 2.0
    };
    (if hits == 0 { 0.0 } else { search(false) }, if hits == runs { 1.0 } else { search(true) })
}

fn log_factorial(n: u64) -> f64 {
    (2..=n).map(|value| (value as f64).ln()).sum()
}

/// The upper end of the interval.
pub fn upper(hits: u64, runs: u64) -> f64 {
    interval(hits, runs).1
}

/// The middle value; of an even number the upper of the two middle ones. Infinity stands for "never".
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A share in per cent.
pub fn percent(value: f64) -> String {
    let value = value * 100.0;
    if value == 0.0 || value >= 10.0 {
        format!("{value:.0} %")
    } else if value >= 0.095 {
        format!("{value:.1} %")
    } else {
        format!("{value:.2} %")
    }
}

/// "0.3 % (≤ 0.5 %)": the share seen and the upper end of its interval.
pub fn share(hits: u64, runs: u64) -> String {
    format!("{} (≤ {:.2} %)", percent(hits as f64 / runs as f64), upper(hits, runs) * 100.0)
}

/// A Markdown table.
pub fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    let mut line = |cells: &[String]| {
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    };
    line(head);
    line(&vec!["---".to_owned(); head.len()]);
    rows.iter().for_each(|row| line(row));
    out.push('\n');
    out
}

/// The words of a table's head.
pub fn words(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// One thing that the tables must show.
pub struct Target {
    /// What.
    pub what: String,
    /// The value found.
    pub found: f64,
    /// The value that it must not pass.
    pub limit: f64,
    /// Whether both are shares, printed in per cent.
    pub is_share: bool,
}

impl Target {
    /// Whether it is met.
    pub fn met(&self) -> bool {
        self.found <= self.limit
    }

    /// The row of the summary.
    pub fn row(&self) -> Vec<String> {
        let show = |value: f64| {
            if self.is_share { format!("{:.2} %", value * 100.0) } else { format!("{value:.2}") }
        };
        vec![
            self.what.clone(),
            show(self.limit),
            show(self.found),
            if self.met() { "met" } else { "**missed**" }.to_owned(),
        ]
    }
}
