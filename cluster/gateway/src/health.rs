//! Health reports of the agents that use this gateway as their local one: the last of each, in memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use orama_protocol::agent::HealthReport;

/// Reports kept: one agent reports to its local gateway, so more than a few is somebody's mistake.
const REPORTS: usize = 64;
/// Agents report every 30 s; after three missed reports the last one says nothing.
const FRESH: Duration = Duration::from_secs(100);

#[derive(Default)]
pub struct HealthReports {
    last: Mutex<HashMap<String, (Instant, HealthReport)>>,
}

impl HealthReports {
    /// False when the table is full of other nodes' fresh reports.
    pub fn record(&self, report: HealthReport, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= REPORTS && !last.contains_key(&report.node_id) {
            last.retain(|_, (at, _)| now.duration_since(*at) < FRESH);
            if last.len() >= REPORTS {
                return false;
            }
        }
        last.insert(report.node_id.clone(), (now, report));
        true
    }

    pub fn fresh(&self, now: Instant) -> Vec<HealthReport> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = last.values().filter(|(at, _)| now.duration_since(*at) < FRESH);
        let mut reports: Vec<HealthReport> = fresh.map(|(_, report)| report.clone()).collect();
        reports.sort_by(|left, right| left.node_id.cmp(&right.node_id));
        reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_report_counts_until_it_is_stale_and_the_table_is_bounded() {
        let reports = HealthReports::default();
        let start = Instant::now();
        let report = |node: usize, uptime| HealthReport {
            node_id: format!("node-{node}"),
            version: "1".into(),
            uptime_seconds: uptime,
            services: Default::default(),
            healthy: true,
            timestamp: "2026-01-01T00:00:00Z".into(),
        };
        assert!(reports.record(report(1, 1), start));
        assert!(reports.record(report(1, 2), start));
        assert_eq!(reports.fresh(start).iter().map(|report| report.uptime_seconds).collect::<Vec<_>>(), [2]);
        assert!(reports.fresh(start + FRESH).is_empty());
        for node in 2..=REPORTS {
            assert!(reports.record(report(node, 1), start));
        }
        assert!(!reports.record(report(1000, 1), start));
        assert!(reports.record(report(1000, 1), start + FRESH));
    }
}
