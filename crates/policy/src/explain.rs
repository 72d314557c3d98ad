//! What a policy means, in plain words: for the author who wants to know what a service may do, and for the reader of
//! a refusal who wants to know which line is behind it.

mod call;
mod rights;

pub use call::{Answer, CallExplanation, RuleExplanation, explain_call};

use std::time::Duration;

use crate::spec::{Liveness, Probe, Readiness, Restart, Rlimit, Spec};
use crate::{Policy, names};

/// Sentences on one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub title: &'static str,
    pub lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    /// Of a rule: why it is there, and the line of the profile or set that says so.
    pub why: Option<String>,
    pub origin: Option<String>,
}

impl Line {
    fn plain(text: impl Into<String>) -> Line {
        Line { text: text.into(), why: None, origin: None }
    }
}

/// The whole policy, section by section.
pub fn explain(policy: &Policy) -> Vec<Section> {
    let spec: &Spec = policy;
    let plain =
        |title, lines: Vec<String>| Section { title, lines: lines.into_iter().map(Line::plain).collect() };
    let mut sections = vec![
        plain("Program", program(spec)),
        plain("Life", life(spec)),
        plain("Files", rights::files(spec)),
        plain("Network", rights::network(spec)),
        plain("Rights", rights::rights(spec)),
        plain("Limits", limits(spec)),
    ];
    sections.extend(rights::calls(spec));
    sections
}

fn program(spec: &Spec) -> Vec<String> {
    let words = spec.args.iter().map(ToString::to_string).map(|word| shell_word(&word));
    let command = std::iter::once(spec.binary.display().to_string()).chain(words).collect::<Vec<_>>();
    let environment: Vec<String> =
        spec.env.iter().map(|(name, value)| format!("{name}={}", shell_word(&value.to_string()))).collect();
    let mut lines = vec![
        format!("runs {}", command.join(" ")),
        format!("as user {} and group {}, in no other group", spec.uid, spec.gid),
        match environment.is_empty() {
            true => "with an empty environment".to_owned(),
            false => format!("with the environment {}, and nothing else", environment.join(" ")),
        },
    ];
    if spec.namespaces.uts {
        lines.push(format!("on a machine that it sees as called `{}`", spec.hostname));
    }
    lines
}

/// Readable as one word; it is not meant for a shell.
fn shell_word(text: &str) -> String {
    let shown = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if shown.is_empty() || shown.contains(' ') { format!("'{shown}'") } else { shown }
}

fn life(spec: &Spec) -> Vec<String> {
    let mut lines = Vec::new();
    if !spec.after.is_empty() {
        lines.push(format!("starts when {} ready", listed_are(&spec.after)));
    }
    for step in &spec.prepare {
        let words: Vec<String> = step.args.iter().map(|word| shell_word(&word.to_string())).collect();
        let unless = match &step.unless_exists {
            Some(path) => format!(", unless {path} exists"),
            None => String::new(),
        };
        let time = time(step.timeout);
        lines.push(format!("before each start: `{}`{unless} (at most {time})", words.join(" ")));
    }
    lines.push(match &spec.readiness {
        Readiness::None => "counts as ready as soon as it has been executed".to_owned(),
        Readiness::Probe { probe, timeout } => {
            format!("is ready when {}; not within {} is a failed start", answers(probe), time(*timeout))
        }
        Readiness::Notify { timeout } => {
            format!("is ready when it says so (sd_notify); not within {} is a failed start", time(*timeout))
        }
    });
    if let Some(Liveness { probe, interval, timeout, failures }) = &spec.liveness {
        let question = format!("asked every {} whether {}", time(*interval), answers(probe));
        lines.push(format!("is {question} within {}; {failures} times not is a restart", time(*timeout)));
    }
    let Restart { initial, maximum, intensity, window } = spec.restart;
    lines.push(format!(
        "is restarted when it ends: after {}, then twice that each time up to {}; more than {intensity} times in {} \
         and it stays down",
        time(initial),
        time(maximum),
        time(window)
    ));
    if let Some(signal) = spec.reload {
        lines.push(format!("reads its configuration again on {}", signal.name()));
    }
    let signal = spec.stop.signal.name();
    lines.push(format!(
        "is stopped by {signal}, and killed with all its children {} later",
        time(spec.stop.grace)
    ));
    lines
}

fn answers(probe: &Probe) -> String {
    match probe {
        Probe::Tcp(address) => format!("{address} accepts a connection"),
        Probe::Http(url) => format!("{url} answers 2xx"),
    }
}

fn limits(spec: &Spec) -> Vec<String> {
    let (group, mut lines) = (&spec.cgroup, Vec::new());
    lines.push(match group.memory_bytes {
        Some(bytes) => format!("{} of memory, no swap; beyond that the whole service is killed", size(bytes)),
        None => "no limit of memory".to_owned(),
    });
    lines.push(match group.pids {
        Some(pids) => format!("{pids} processes and threads"),
        None => "no limit of processes and threads".to_owned(),
    });
    let cpu = match group.cpu_quota_percent {
        Some(percent) => format!("at most {percent} % of one CPU"),
        None => "as much CPU as there is".to_owned(),
    };
    lines.push(match group.cpu_weight {
        Some(weight) => format!("{cpu}, with weight {weight} (100 is usual) when there is not enough"),
        None => cpu,
    });
    if let Some(weight) = group.io_weight {
        lines.push(format!("disk with weight {weight} (100 is usual) when there is not enough"));
    }
    if let Some(bytes) = spec.filesystem.disk_bytes {
        lines.push(format!("{} on the data volume", size(bytes)));
    }
    lines.extend(spec.limits.iter().map(|limit| match *limit {
        Rlimit::Nofile(files) => format!("{files} open files"),
        Rlimit::Nproc(processes) => format!("{processes} processes and threads of its user"),
        Rlimit::CoreBytes(0) => "no core dumps".to_owned(),
        Rlimit::CoreBytes(bytes) => format!("core dumps up to {}", size(bytes)),
        Rlimit::MemlockBytes(bytes) => format!("{} of locked memory", size(bytes)),
        Rlimit::FsizeBytes(bytes) => format!("files up to {}", size(bytes)),
        Rlimit::StackBytes(bytes) => format!("{} of stack", size(bytes)),
    }));
    lines
}

/// `rqlite is`, `rqlite and olric are`.
fn listed_are(names: &[String]) -> String {
    match names {
        [one] => format!("{one} is"),
        _ => format!("{} are", listed(names)),
    }
}

/// `a, b and c`.
fn listed<T: AsRef<str>>(words: &[T]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            format!(
                "{} and {}",
                first.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", "),
                last.as_ref()
            )
        }
    }
}

fn time(span: Duration) -> String {
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    match (seconds, millis) {
        (0, millis) => format!("{millis} ms"),
        (seconds, 0) if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        (seconds, 0) if seconds % 60 == 0 => format!("{} min", seconds / 60),
        (seconds, 0) => format!("{seconds} s"),
        (seconds, millis) => format!("{seconds}.{:03} s", millis).replace("00 s", " s").replace("0 s", " s"),
    }
}

pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

/// What a refused call meets.
pub(crate) fn consequence(policy: &Spec) -> String {
    use crate::Consequence;
    match policy.seccomp.consequence() {
        Consequence::Runs => "is recorded and runs all the same (mode audit)".to_owned(),
        Consequence::Killed => "is not executed, and ends the process (SIGSYS)".to_owned(),
        Consequence::Errno(errno) => format!("is not executed, and fails with {}", names::errno_name(errno)),
    }
}
