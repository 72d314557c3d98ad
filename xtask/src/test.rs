//! `cargo xtask test`: every tier in one command, one table at the end, and a last line
//! `N passed, N failed`. A tier that cannot run counts as failed; nothing is skipped.

mod libtest;
mod tiers;

use std::time::{Duration, Instant};

use crate::setup::{self, SetupError};
use crate::workspace::{Workspace, WorkspaceError};

#[derive(clap::Args)]
pub struct Arguments {
    /// Which tier; `unit` needs no root, `host` and `vm` do.
    #[arg(value_enum, default_value_t = Tier::All)]
    tier: Tier,
    /// Only the host tests or VM scenarios with this in their name (`demo` is the README's demo).
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tier {
    /// Unit, property and model tests, and the rules of the house: plain `cargo test`.
    Unit,
    /// As root: real sandboxes, network namespaces, userspace WireGuard.
    Host,
    /// Real images in QEMU.
    Vm,
    /// rustfmt, clippy, and all of the above.
    All,
}

#[derive(Debug, thiserror::Error)]
pub enum TestError {
    #[error("setting up")]
    Setup(#[from] SetupError),
    #[error("finding the workspace")]
    Workspace(#[from] WorkspaceError),
}

/// Results of one test program, or of a step that counts as one test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

struct Row {
    tier: &'static str,
    name: String,
    count: Count,
    /// Why the row failed when no test says it: did not build, no root, killed after its time.
    note: String,
    took: Duration,
}

/// Collects rows as they come in and prints the closing table.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    fn add(&mut self, tier: &'static str, name: &str, started: Instant, count: Count, note: String) {
        if !note.is_empty() {
            println!("!! {tier} {name}: {note}");
        }
        self.rows.push(Row { tier, name: name.to_owned(), count, note, took: started.elapsed() });
    }

    fn append(&mut self, mut other: Self) {
        self.rows.append(&mut other.rows);
    }

    /// A step that is one test by itself.
    fn add_step(&mut self, tier: &'static str, name: &str, started: Instant, outcome: Result<(), String>) {
        let (passed, failed, note) = match outcome {
            Ok(()) => (1, 0, String::new()),
            Err(reason) => (0, 1, reason),
        };
        self.add(tier, name, started, Count { passed, failed, ignored: 0 }, note);
    }

    fn total(&self) -> Count {
        let mut total = Count::default();
        for row in &self.rows {
            total.passed += row.count.passed;
            total.failed += row.count.failed;
            total.ignored += row.count.ignored;
        }
        total
    }

    /// The table, then the one line that scripts read. True when nothing failed and something ran.
    fn close(&self) -> bool {
        println!("\n{:<6} {:<36} {:>7} {:>7} {:>8}", "tier", "what", "passed", "failed", "seconds");
        for row in &self.rows {
            let seconds = row.took.as_secs_f64();
            let Count { passed, failed, .. } = row.count;
            println!("{:<6} {:<36} {passed:>7} {failed:>7} {seconds:>8.1}  {}", row.tier, row.name, row.note);
        }
        let total = self.total();
        if total.ignored > 0 {
            println!("{} ignored", total.ignored);
        }
        println!("{} passed, {} failed", total.passed, total.failed);
        total.failed == 0 && total.passed > 0
    }
}

pub fn run(arguments: &Arguments) -> Result<bool, TestError> {
    setup::ensure()?;
    let workspace = Workspace::find()?;
    let mut report = Report::default();
    let wants = |tier: Tier| arguments.tier == tier || arguments.tier == Tier::All;
    if arguments.tier == Tier::All {
        tiers::style(&workspace, &mut report);
    }
    if wants(Tier::Unit) {
        tiers::unit(&workspace, &mut report);
    }
    let only = arguments.only.as_deref().unwrap_or("");
    if wants(Tier::Host) {
        tiers::host(&workspace, only, &mut report);
    }
    if wants(Tier::Vm) {
        tiers::vm(&workspace, only, &mut report);
        if "demo".contains(only) {
            tiers::demo(&workspace, &mut report);
        }
    }
    Ok(report.close())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_any_test_is_not_a_success() {
        assert!(!Report::default().close());
    }

    #[test]
    fn one_failure_fails_the_run() {
        let mut report = Report::default();
        report.add_step("unit", "a", Instant::now(), Ok(()));
        assert!(report.close());
        report.add_step("unit", "b", Instant::now(), Err("no root".into()));
        assert!(!report.close());
        assert_eq!(report.total(), Count { passed: 1, failed: 1, ignored: 0 });
    }
}
