//! `GET /v1/agent/metrics`: the node in Prometheus' text format. Labels come from profiles, from the kernel's table
//! of system calls and from our own words, so their number is bounded; see `orama_actors::refusals`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use actix_web::{HttpResponse, web};
use orama_actors::boot::machine::Phase;
use orama_actors::facts::Facts;
use orama_actors::ports::Usage;
use orama_actors::refusals::Counter;
use orama_protocol::agent::ServiceStatus;
use orama_sandbox::CGROUP_BASE;

use super::{Node, refuse};
use crate::console::uptime_seconds;
use crate::facts;

/// What Prometheus asks for (exposition formats, text version).
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// All states of a service, so that a state that is not shows as 0.
const STATES: [&str; 9] =
    ["waiting", "preparing", "starting", "running", "backoff", "stopping", "stopped", "failed", "refused"];

/// Everything that is told, gathered before any text is made.
struct Snapshot {
    version: String,
    phase: Phase,
    alarms: usize,
    uptime_seconds: f64,
    rss_bytes: u64,
    panics: BTreeMap<String, u32>,
    services: BTreeMap<String, ServiceStatus>,
    usage: BTreeMap<String, Usage>,
    refusals: Vec<Counter>,
}

pub async fn metrics(node: web::Data<Node>) -> HttpResponse {
    // Reads control files and quotas of every service.
    match web::block(move || gather(&node)).await {
        Ok(snapshot) => HttpResponse::Ok().content_type(CONTENT_TYPE).body(render(&snapshot)),
        Err(error) => refuse(503, error.to_string()),
    }
}

fn gather(node: &Node) -> Snapshot {
    let facts = &node.registry.facts;
    let known = facts.node();
    let services = facts.services();
    let panics = node.registry.restarts.read().into_iter().map(|(name, panics)| (name, panics.count));
    Snapshot {
        version: node.version.to_string(),
        phase: known.phase,
        alarms: known.alarms.len(),
        uptime_seconds: uptime_seconds(),
        rss_bytes: facts::rss_bytes(),
        panics: panics.collect(),
        usage: services.keys().filter_map(|name| Some((name.clone(), usage(facts, name)?))).collect(),
        services,
        refusals: facts.refusals().counters(),
    }
}

/// Of its run, or what is left in the box of one that does not run: 0 unless something outlived its stop.
fn usage(facts: &Facts, service: &str) -> Option<Usage> {
    if let Some(run) = facts.run(service) {
        return Some(run.child.usage());
    }
    let processes =
        std::fs::read_to_string(Path::new(CGROUP_BASE).join(service).join("cgroup.procs")).ok()?;
    Some(Usage { pids: u64::try_from(processes.lines().count()).ok(), ..Usage::default() })
}

fn render(snapshot: &Snapshot) -> String {
    let mut page = Page::default();
    page.family("orama_agent_info", "gauge", "The image's version.");
    page.sample(&[("version", &snapshot.version)], 1);
    page.family("orama_node_phase", "gauge", "1 for the phase that the node is in.");
    page.sample(&[("phase", snapshot.phase.name())], 1);
    page.family("orama_node_uptime_seconds", "gauge", "Since the kernel started.");
    page.sample(&[], format_args!("{:.0}", snapshot.uptime_seconds));
    page.family("orama_node_alarms", "gauge", "Alarms that need a person.");
    page.sample(&[], snapshot.alarms);
    page.family("orama_agent_resident_bytes", "gauge", "Resident memory of the agent.");
    page.sample(&[], snapshot.rss_bytes);
    page.family("orama_actor_restarts_total", "counter", "Actors made anew after a panic.");
    for (actor, count) in &snapshot.panics {
        page.sample(&[("actor", actor)], count);
    }
    services(&mut page, &snapshot.services);
    boxes(&mut page, &snapshot.usage);
    let help = "System calls that the profile did not allow, by what became of them.";
    page.family("orama_service_refusals_total", "counter", help);
    for Counter { service, syscall, action, count } in &snapshot.refusals {
        page.sample(&[("service", service), ("syscall", syscall), ("action", action)], count);
    }
    page.text
}

fn services(page: &mut Page, services: &BTreeMap<String, ServiceStatus>) {
    page.family("orama_service_state", "gauge", "1 for the state that the service is in, 0 for the others.");
    for (name, service) in services {
        for state in STATES {
            page.sample(&[("service", name), ("state", state)], u8::from(service.state == state));
        }
    }
    page.family("orama_service_healthy", "gauge", "1 when the service runs and is ready.");
    for (name, service) in services {
        page.sample(&[("service", name)], u8::from(service.healthy));
    }
    page.family("orama_service_restarts_total", "counter", "Since the agent started.");
    for (name, service) in services {
        page.sample(&[("service", name)], service.restarts);
    }
    page.family("orama_service_uptime_seconds", "gauge", "Since its main process was started.");
    for (name, service) in services {
        if let Some(seconds) = service.uptime_seconds {
            page.sample(&[("service", name)], seconds);
        }
    }
}

fn boxes(page: &mut Page, usage: &BTreeMap<String, Usage>) {
    type Gauge = (&'static str, &'static str, fn(&Usage) -> Option<u64>);
    let gauges: [Gauge; 4] = [
        ("orama_service_memory_bytes", "Memory of its control group.", |usage| usage.memory_bytes),
        ("orama_service_processes", "Processes and threads.", |usage| usage.pids),
        ("orama_service_disk_bytes", "What its uid owns on the data volume.", |usage| usage.disk_bytes),
        ("orama_service_disk_limit_bytes", "What its uid may own there.", |usage| usage.disk_limit_bytes),
    ];
    for (family, help, value) in gauges {
        page.family(family, "gauge", help);
        for (name, usage) in usage {
            if let Some(value) = value(usage) {
                page.sample(&[("service", name)], value);
            }
        }
    }
    // Gauges, because the kernel counts from zero again with each start.
    page.family("orama_service_oom_kills", "gauge", "Processes killed for want of memory, this run.");
    for (name, usage) in usage {
        page.sample(&[("service", name)], usage.oom_kills);
    }
    page.family("orama_service_forks_refused", "gauge", "Processes not made because of the limit, this run.");
    for (name, usage) in usage {
        page.sample(&[("service", name)], usage.forks_refused);
    }
}

/// Text in the exposition format. Families and samples come in turn.
#[derive(Default)]
struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(self.family);
        for (index, (name, value)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{name}=\"{}\"", escaped(value));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }
}

/// A label's value: backslash, quote and line feed are what the format escapes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.family("x_total", "counter", "Help.");
        page.sample(&[("a", "q\"b\\c\nd"), ("b", "")], 3);
        page.sample(&[], 1.5);
        let expect = "# HELP x_total Help.\n# TYPE x_total counter\nx_total{a=\"q\\\"b\\\\c\\nd\",b=\"\"} 3\nx_total 1.5\n";
        assert_eq!(page.text, expect);
    }
}
