//! Memory and CPU of this process, read when `/metrics` is asked for, under the names that every Prometheus
//! client library uses. Only on Linux; elsewhere these figures are left out.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Kernel clock ticks per second in `/proc/self/stat`: 100 on every Linux that Rust runs on, by its user ABI.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the kernel counts of this process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Memory that is resident, in bytes.
    pub resident_bytes: u64,
    /// CPU used so far, user and system, in seconds.
    pub cpu_seconds: f64,
    /// Threads.
    pub threads: u64,
}

/// This process's usage now; `None` where there is no `/proc`.
pub fn usage() -> Option<Usage> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    parse(&stat, &status)
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    // The name in parentheses may hold spaces and parentheses itself; after its end come state, ppid, ...
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(Usage {
        resident_bytes: kibibytes * 1024,
        cpu_seconds: ticks as f64 / TICKS_PER_SECOND,
        threads: fields.get(17)?.parse().ok()?,
    })
}

/// Puts [`usage`] on `/metrics`.
#[derive(Debug)]
pub struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let Some(usage) = usage() else { return Ok(()) };
        let memory = ConstGauge::new(i64::try_from(usage.resident_bytes).unwrap_or(i64::MAX));
        memory.encode(encoder.encode_descriptor(
            "process_resident_memory",
            "Resident memory",
            Some(&Unit::Bytes),
            memory.metric_type(),
        )?)?;
        let cpu = ConstCounter::new(usage.cpu_seconds);
        cpu.encode(encoder.encode_descriptor(
            "process_cpu",
            "CPU used, user and system",
            Some(&Unit::Seconds),
            cpu.metric_type(),
        )?)?;
        let threads = ConstGauge::new(i64::try_from(usage.threads).unwrap_or(i64::MAX));
        threads.encode(encoder.encode_descriptor(
            "process_threads",
            "Threads",
            None,
            threads.metric_type(),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read_even_with_an_odd_name() {
        let stat = "42 (ban) yan) S 1 42 42 0 -1 4194560 1500 0 0 0 250 50 0 0 20 0 7 0 100 1000000 2000";
        let status = "Name:\tbanyan\nVmPeak:\t  9 kB\nVmRSS:\t   2048 kB\nThreads:\t7\n";
        let expected = Usage { resident_bytes: 2 * 1024 * 1024, cpu_seconds: 3.0, threads: 7 };
        assert_eq!(parse(stat, status), Some(expected));
        assert_eq!(parse("", ""), None);
        assert_eq!(parse("42 (x) S", status), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_something() {
        let usage = usage().unwrap();
        assert!(usage.resident_bytes > 1024 * 1024 && usage.threads >= 1);
    }
}
