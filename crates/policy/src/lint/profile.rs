//! Fields that contradict each other or do less than they look.

use crate::lint::{Findings, Profile, Severity};
use crate::rules::{Action, Mode};
use crate::spec::{Probe, Readiness};

pub(super) fn lint(list: &mut Findings<'_>, profile: &Profile<'_>) {
    paths(list, profile);
    probes(list, profile);
    mode(list, profile);
}

fn paths(list: &mut Findings<'_>, profile: &Profile<'_>) {
    let (filesystem, raw) = (&profile.policy.filesystem, &profile.raw.filesystem);
    for (path, text) in filesystem.writable.iter().zip(&raw.writable) {
        if let Some(outer) = filesystem.readable.iter().find(|outer| path.starts_with(outer)) {
            let what = format!("writable `{}` lies inside read-only `{}`", path.display(), outer.display());
            list.warn("writable-in-readable", text.span(), what, "list what is only read one by one");
        }
    }
    for (index, (path, text)) in filesystem.readable.iter().zip(&raw.readable).enumerate() {
        let outer = filesystem.readable.iter().enumerate().find(|(other, outer)| {
            *other != index && path.starts_with(outer) && (path != *outer || *other < index)
        });
        if let Some((_, outer)) = outer {
            let what = format!("`{}` is already shown by `{}`", path.display(), outer.display());
            list.warn("shown-twice", text.span(), what, "leave it out");
        }
    }
}

fn probes(list: &mut Findings<'_>, profile: &Profile<'_>) {
    let (policy, raw) = (&profile.policy, &profile.raw);
    if let (Some(liveness), Readiness::None) = (&raw.liveness, &policy.readiness) {
        list.warn(
            "liveness-without-readiness",
            liveness.span(),
            "liveness is probed from the first moment: a slow start counts as failures",
            "add [readiness], so that probing begins when the service is up",
        );
    }
    let ready = match &policy.readiness {
        Readiness::Probe { probe, .. } => {
            raw.readiness.as_ref().map(|table| (probe, table.span(), "readiness"))
        }
        Readiness::None | Readiness::Notify { .. } => None,
    };
    let alive = policy.liveness.as_ref().zip(raw.liveness.as_ref());
    let alive = alive.map(|(liveness, table)| (&liveness.probe, table.span(), "liveness"));
    for (probe, span, what) in ready.into_iter().chain(alive) {
        if policy.namespaces.net {
            let message = format!("the {what} probe cannot reach a service with a network of its own");
            list.warn(
                "unreachable-probe",
                span.clone(),
                message,
                "leave out `net = true`, or use `notify = true`",
            );
        }
        if let (Some(ports), Some(port)) = (&policy.landlock.tcp_bind, port(probe))
            && !ports.contains(&port)
        {
            let message = format!("the {what} probe asks port {port}, which [landlock] does not let it bind");
            list.warn("unreachable-probe", span, message, format!("add {port} to `tcp_bind`"));
        }
    }
}

/// The port that a probe asks.
fn port(probe: &Probe) -> Option<u16> {
    let (Probe::Tcp(address) | Probe::Http(address)) = probe;
    let text = address.to_string();
    let authority = text.strip_prefix("http://").unwrap_or(&text).split('/').next()?;
    authority.rsplit(':').next()?.parse().ok()
}

fn mode(list: &mut Findings<'_>, profile: &Profile<'_>) {
    let (seccomp, raw) = (&profile.policy.seccomp, &profile.raw.seccomp);
    if seccomp.mode == Mode::Audit {
        list.warn(
            "audit",
            raw.mode.span(),
            "mode audit protects nothing: calls outside the rules are recorded and run",
            "mode = \"enforce\" once no refusals are recorded any more",
        );
    }
    if let (Action::Errno(_), Some(action)) = (seccomp.default_action, &raw.default_action) {
        list.add(
            (Severity::Note, "errno"),
            action.span(),
            "a refused call fails and the service goes on: what it does then is up to it",
            "default_action = \"kill\" ends whoever makes a call that the service never makes",
        );
    }
}
