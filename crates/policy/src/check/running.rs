//! How a service is started, watched, reloaded: `[[prepare]]`, `[readiness]`, `[liveness]`, `[reload]`.

use std::ops::Range;

use crate::spanned::Spanned;

use crate::error::Report;
use crate::fields::{bounded, number, one_of, seconds, template};
use crate::names::Signal;
use crate::raw;
use crate::spec::{Filesystem, Liveness, Prepare, Probe, Readiness};
use crate::template::{Template, Variable};

/// Most `[[prepare]]` steps of a policy.
const MAX_STEPS: usize = 16;

pub(super) fn prepare(
    report: &mut Report<'_>,
    steps: &[Spanned<raw::Prepare>],
    filesystem: &Filesystem,
) -> Vec<Prepare> {
    if let Some(extra) = steps.get(MAX_STEPS) {
        report.add(extra.span(), format!("more than {MAX_STEPS} steps in `prepare`"));
    }
    let has_data = !filesystem.writable.is_empty();
    steps
        .iter()
        .take(MAX_STEPS)
        .map(|step| {
            let raw = step.get_ref();
            Prepare {
                args: bounded(report, &raw.arguments, "arguments")
                    .map(|text| template(report, text, has_data))
                    .collect(),
                unless_exists: raw.unless_exists.as_ref().map(|text| unless_exists(report, text, filesystem)),
                timeout: seconds(report, "timeout_seconds", &raw.timeout_seconds, 60),
            }
        })
        .collect()
}

/// Only what the step itself can make says anything about whether it has run.
fn unless_exists(report: &mut Report<'_>, text: &Spanned<String>, filesystem: &Filesystem) -> Template {
    let parsed = template(report, text, !filesystem.writable.is_empty());
    let written = text.get_ref();
    let below = |root: &str| written.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    let inside = below("${data}") || filesystem.writable.iter().any(|root| root.to_str().is_some_and(below));
    let plain = !written.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."));
    let foreign = [Variable::NodeId, Variable::WgIp].iter().any(|variable| parsed.uses(*variable));
    if !inside || !plain || foreign {
        report.add_with(
            text.span(),
            "`unless_exists` must name something below a writable path",
            "as in ${data}/config; of the variables only ${data} and ${name}".to_owned(),
        );
    }
    parsed
}

fn probe(
    report: &mut Report<'_>,
    whole: Range<usize>,
    tcp: &Option<Spanned<String>>,
    http: &Option<Spanned<String>>,
    has_data: bool,
) -> Option<Probe> {
    match (tcp, http) {
        (Some(address), None) => {
            address_shape(report, address, address.get_ref());
            Some(Probe::Tcp(template(report, address, has_data)))
        }
        (None, Some(url)) => {
            match url.get_ref().strip_prefix("http://") {
                Some(rest) => {
                    let authority = rest.split('/').next().unwrap_or("");
                    address_shape(report, url, authority);
                }
                None => report.add(url.span(), "only http:// addresses can be probed"),
            }
            Some(Probe::Http(template(report, url, has_data)))
        }
        _ => {
            report.add(whole, "give exactly one of `tcp` and `http`");
            None
        }
    }
}

/// `host:port`, where the host is an address, `localhost` or `${wg_ip}`.
fn address_shape(report: &mut Report<'_>, field: &Spanned<String>, authority: &str) {
    let plain = authority.replace("${wg_ip}", "127.0.0.1");
    let with_ip = plain.replacen("localhost:", "127.0.0.1:", 1);
    let port = with_ip.parse::<std::net::SocketAddr>().map(|address| address.port());
    if !matches!(port, Ok(1..)) {
        report.add_with(
            field.span(),
            format!("`{authority}` is not an address and port"),
            "as in 127.0.0.1:6001 or ${wg_ip}:4001".to_owned(),
        );
    }
}

pub(super) fn readiness(
    report: &mut Report<'_>,
    table: &Option<Spanned<raw::Readiness>>,
    has_data: bool,
) -> Readiness {
    let Some(table) = table else { return Readiness::None };
    let raw = table.get_ref();
    let timeout = seconds(report, "timeout_seconds", &raw.timeout_seconds, 60);
    match (&raw.notify, &raw.tcp, &raw.http) {
        (Some(notify), None, None) if *notify.get_ref() => return Readiness::Notify { timeout },
        (None, Some(_), None) | (None, None, Some(_)) => {}
        _ => {
            report.add(table.span(), "give exactly one of `tcp`, `http` and `notify = true`");
            return Readiness::None;
        }
    }
    match probe(report, table.span(), &raw.tcp, &raw.http, has_data) {
        Some(probe) => Readiness::Probe { probe, timeout },
        None => Readiness::None,
    }
}

pub(super) fn liveness(
    report: &mut Report<'_>,
    table: &Option<Spanned<raw::Liveness>>,
    has_data: bool,
) -> Option<Liveness> {
    let table = table.as_ref()?;
    let raw = table.get_ref();
    let interval = seconds(report, "interval_seconds", &raw.interval_seconds, 10);
    let timeout = seconds(report, "timeout_seconds", &raw.timeout_seconds, 5);
    let failures = number(report, "failures", &raw.failures, 1..=1000, 3) as u32;
    let probe = probe(report, table.span(), &raw.tcp, &raw.http, has_data)?;
    Some(Liveness { probe, interval, timeout, failures })
}

pub(super) fn reload(report: &mut Report<'_>, raw: &Option<raw::Reload>) -> Option<Signal> {
    one_of(report, "signal", &Signal::ALL, &raw.as_ref()?.signal)
}
