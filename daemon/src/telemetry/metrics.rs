//! The numbers of the process: a fixed set, without a lock, printed as Prometheus text.
//!
//! A metric is a variant of [`Counter`], [`Gauge`] or [`Histogram`]; its name ends with its unit.
//! Whoever counts holds a [`Metrics`]; what another owner already counts (rows, bytes on disk) is
//! [set](Metrics::set) when the numbers are asked for.

mod names;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edgeward_base::clock::Clock;

use crate::tasks::Tasks;

pub use names::{Counter, Gauge, Histogram};

use names::Name;

/// Upper bounds of the buckets in microseconds: from an inline prediction to the request timeout.
const BOUNDS: [u64; 16] = [
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    30_000_000,
    300_000_000,
];

/// All numbers of the process. A clone is another handle to the same ones.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    cells: Arc<Cells>,
}

#[derive(Debug, Default)]
struct Cells {
    counters: [AtomicU64; Counter::ALL.len()],
    gauges: [AtomicU64; Gauge::ALL.len()],
    histograms: [Buckets; Histogram::ALL.len()],
}

#[derive(Debug, Default)]
struct Buckets {
    /// One per bound, and one for what is above all of them.
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Metrics {
    /// Numbers that are all zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts `by` more.
    pub fn add(&self, counter: Counter, by: u64) {
        if let Some(cell) = self.cells.counters.get(counter as usize) {
            cell.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Takes over a count that another owner keeps. It must never go back.
    pub fn take_over(&self, counter: Counter, count: u64) {
        if let Some(cell) = self.cells.counters.get(counter as usize) {
            cell.fetch_max(count, Ordering::Relaxed);
        }
    }

    /// Sets a gauge, in the unit of its name.
    pub fn set(&self, gauge: Gauge, value: u64) {
        if let Some(cell) = self.cells.gauges.get(gauge as usize) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Adds one duration to a histogram.
    pub fn observe(&self, histogram: Histogram, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(buckets) = self.cells.histograms.get(histogram as usize) {
            if let Some(count) = buckets.counts.get(bucket) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            buckets.micros.fetch_add(micros, Ordering::Relaxed);
        }
    }

    /// What the process uses of the machine.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let gauges = &self.cells.gauges;
        let processor = gauges.get(Gauge::ProcessorPercent as usize);
        let memory = resident_bytes().zip(memory_bytes());
        let share = |(used, all): (u64, u64)| used.saturating_mul(100).checked_div(all);
        Usage {
            processor_percent: processor.map_or(0, |percent| percent.load(Ordering::Relaxed)),
            memory_percent: memory.and_then(share).unwrap_or(0),
        }
    }

    /// Sets what the operating system and the list of tasks know about the process.
    pub fn sample_process(&self, clock: &dyn Clock, tasks: &Tasks) {
        self.set(Gauge::UptimeSeconds, clock.monotonic().as_secs());
        self.set(Gauge::RunningTasks, count(tasks.running().len()));
        self.take_over(Counter::TaskFailures, count(tasks.failures().len()));
        if let Some(bytes) = resident_bytes() {
            self.set(Gauge::ResidentBytes, bytes);
        }
    }

    /// All numbers in Prometheus's text format, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut page = Page::default();
        for (counter, cell) in Counter::ALL.iter().zip(&self.cells.counters) {
            page.sample(counter.name(), "counter", cell.load(Ordering::Relaxed));
        }
        for (gauge, cell) in Gauge::ALL.iter().zip(&self.cells.gauges) {
            page.sample(gauge.name(), "gauge", cell.load(Ordering::Relaxed));
        }
        for (histogram, buckets) in Histogram::ALL.iter().zip(&self.cells.histograms) {
            page.histogram(histogram.name(), buckets);
        }
        page.text
    }
}

/// What the process uses of the machine, in per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Of all processors, in the last ten seconds.
    pub processor_percent: u64,
    /// Of the machine's memory.
    pub memory_percent: u64,
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}

fn resident_bytes() -> Option<u64> {
    stated("/proc/self/status", "VmRSS:")
}

fn memory_bytes() -> Option<u64> {
    stated("/proc/meminfo", "MemTotal:")
}

/// What the kernel states in kilobytes: `VmRSS:  12345 kB`.
fn stated(file: &str, what: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(what))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[derive(Default)]
struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    fn sample(&mut self, name: Name, kind: &str, value: u64) {
        self.head(name, kind);
        let label = match name.label {
            Some((key, word)) => format!("{{{key}=\"{word}\"}}"),
            None => String::new(),
        };
        self.line(format_args!("{}{label} {value}", name.family));
    }

    fn histogram(&mut self, name: Name, buckets: &Buckets) {
        self.head(name, "histogram");
        let family = name.family;
        let mut total = 0;
        for (number, count) in buckets.counts.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let bound = match BOUNDS.get(number) {
                Some(micros) => seconds(*micros),
                None => "+Inf".to_owned(),
            };
            self.line(format_args!("{family}_bucket{{le=\"{bound}\"}} {total}"));
        }
        let sum = seconds(buckets.micros.load(Ordering::Relaxed));
        self.line(format_args!("{family}_sum {sum}"));
        self.line(format_args!("{family}_count {total}"));
    }

    /// The comments before the first sample of a family.
    fn head(&mut self, name: Name, kind: &str) {
        if self.family != name.family {
            self.family = name.family;
            self.line(format_args!("# HELP {} {}", name.family, name.help));
            self.line(format_args!("# TYPE {} {kind}", name.family));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.text.push_str(&line.to_string());
        self.text.push('\n');
    }
}

/// Microseconds as seconds, in decimal digits without loss.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
