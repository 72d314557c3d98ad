//! `[filesystem]` and `[landlock]`.

use std::path::PathBuf;

use crate::spanned::Spanned;

use crate::error::Report;
use crate::fields::{MAX_ENTRIES, bounded, number, one_of, shown_path};
use crate::names::Device;
use crate::raw;
use crate::spec::{Filesystem, Landlock, LandlockMode};

/// Size of the private /tmp unless the policy says otherwise, in bytes.
const DEFAULT_TMP_BYTES: u64 = 64 << 20;

pub(super) fn filesystem(report: &mut Report<'_>, raw: &raw::Filesystem) -> Filesystem {
    let writable: Vec<PathBuf> =
        bounded(report, &raw.writable, "writable").map(|text| shown_path(report, "writable", text)).collect();
    let readable: Vec<PathBuf> =
        bounded(report, &raw.readable, "readable").map(|text| shown_path(report, "readable", text)).collect();
    overlaps(report, raw, &writable, &readable);
    let devices = match &raw.devices {
        None => Device::ALL.map(|(_, device)| device).to_vec(),
        Some(list) => list
            .iter()
            .take(MAX_ENTRIES)
            .filter_map(|name| one_of(report, "device", &Device::ALL, name))
            .collect(),
    };
    let tmp_bytes = number(report, "tmp_bytes", &raw.tmp_bytes, 4096..=1 << 40, DEFAULT_TMP_BYTES);
    let disk_bytes =
        raw.disk_bytes.as_ref().map(|_| number(report, "disk_bytes", &raw.disk_bytes, 1 << 16..=1 << 50, 0));
    Filesystem { writable, readable, tmp_bytes, disk_bytes, devices }
}

/// What lies inside a writable path can be replaced by the service, with a symlink for instance: nothing of the
/// policy's may lie there.
fn overlaps(report: &mut Report<'_>, raw: &raw::Filesystem, writable: &[PathBuf], readable: &[PathBuf]) {
    for (index, (path, text)) in writable.iter().zip(&raw.writable).enumerate() {
        let outer = writable
            .iter()
            .enumerate()
            .find(|(other, outer)| path.starts_with(outer) && (path != *outer || *other < index));
        if let Some((_, outer)) = outer {
            let what = format!("`{}` already lies inside writable `{}`", path.display(), outer.display());
            report.add(text.span(), what);
        }
    }
    for (path, text) in readable.iter().zip(&raw.readable) {
        if let Some(outer) = writable.iter().find(|outer| path.starts_with(outer)) {
            let what = format!("`{}` lies inside writable `{}`", path.display(), outer.display());
            report.add(text.span(), what);
        }
    }
}

/// The words of `[landlock] mode`.
pub(crate) const LANDLOCK_MODES: [(&str, LandlockMode); 3] = [
    ("require", LandlockMode::Require),
    ("best_effort", LandlockMode::BestEffort),
    ("off", LandlockMode::Off),
];

pub(super) fn landlock(report: &mut Report<'_>, raw: &raw::Landlock) -> Landlock {
    let mode = raw.mode.as_ref().and_then(|word| one_of(report, "mode", &LANDLOCK_MODES, word));
    let mode = mode.unwrap_or(LandlockMode::BestEffort);
    let landlock = Landlock {
        mode,
        tcp_bind: ports(report, "tcp_bind", &raw.tcp_bind),
        tcp_connect: ports(report, "tcp_connect", &raw.tcp_connect),
    };
    let listed = raw.tcp_bind.as_ref().or(raw.tcp_connect.as_ref());
    if let (LandlockMode::Off, Some(word), Some(_)) = (mode, &raw.mode, listed) {
        report.add(word.span(), "ports are listed, and `mode = \"off\"` would ignore them");
    }
    landlock
}

fn ports(report: &mut Report<'_>, field: &str, list: &Option<Vec<Spanned<i64>>>) -> Option<Vec<u16>> {
    let list = list.as_ref()?;
    if let Some(extra) = list.get(MAX_ENTRIES) {
        report.add(extra.span(), format!("more than {MAX_ENTRIES} entries in `{field}`"));
    }
    let mut ports: Vec<u16> = Vec::new();
    for port in list.iter().take(MAX_ENTRIES) {
        let number = number(report, field, &Some(port.clone()), 1..=65_535, 1) as u16;
        if ports.contains(&number) {
            report.add(port.span(), format!("port {number} is listed twice"));
        }
        ports.push(number);
    }
    Some(ports)
}
