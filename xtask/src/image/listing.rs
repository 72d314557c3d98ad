//! What a root file system may hold, path by path, and the check of a finished one. A file that is not
//! named here cannot be shipped by accident: adding one means adding it here, in sight of a reviewer.

use std::path::Path;

use super::tool::{ToolError, run, tool};

/// Folders, all 0755. Empty ones are mount points.
pub const FOLDERS: &[&str] = &[
    "boot",
    "dev",
    "etc",
    "etc/orama",
    "etc/orama/coredns",
    "etc/orama/olric",
    "etc/orama/policies",
    "etc/orama/policies/sets",
    "etc/ssl",
    "etc/ssl/certs",
    "lib",
    "lib/x86_64-linux-gnu",
    "lib64",
    "opt",
    "opt/orama",
    "opt/orama/.orama",
    "opt/orama/bin",
    "proc",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr",
    "usr/sbin",
];

/// Programs and the loader, all 0755.
pub const PROGRAMS: &[&str] = &[
    "lib64/ld-linux-x86-64.so.2",
    "opt/orama/bin/coredns",
    "opt/orama/bin/ipfs",
    "opt/orama/bin/ipfs-cluster-service",
    "opt/orama/bin/olric-server",
    "opt/orama/bin/orama-gateway",
    "opt/orama/bin/rqlited",
    "opt/orama/bin/vault-guardian",
    "sbin/orama-agent",
    "usr/sbin/cryptsetup",
    "usr/sbin/mkfs.ext4",
];

/// Plain files, all 0644.
pub const FILES: &[&str] = &[
    "etc/group",
    "etc/hosts",
    "etc/orama/agent.toml",
    "etc/orama/coredns/Corefile",
    "etc/orama/gateway-ca.pem",
    "etc/orama/gateway.toml",
    "etc/orama/olric/olric.yaml",
    "etc/os-release",
    "etc/passwd",
    "etc/ssl/certs/ca-certificates.crt",
];

/// Libraries of cryptsetup and mkfs.ext4, all 0644. libgcc_s is loaded by name when Argon2 starts threads.
pub const LIBRARIES: &[&str] = &[
    "libargon2.so.1",
    "libblkid.so.1",
    "libc.so.6",
    "libcom_err.so.2",
    "libcrypto.so.3",
    "libcryptsetup.so.12",
    "libdevmapper.so.1.02.1",
    "libe2p.so.2",
    "libext2fs.so.2",
    "libgcc_s.so.1",
    "libjson-c.so.5",
    "libm.so.6",
    "libpcre2-8.so.0",
    "libpopt.so.0",
    "libselinux.so.1",
    "libudev.so.1",
    "libuuid.so.1",
];

/// Where the libraries lie.
pub const LIBRARY_FOLDER: &str = "lib/x86_64-linux-gnu";

/// Links and their targets.
pub const LINKS: &[(&str, &str)] = &[("etc/resolv.conf", "/run/orama/resolv.conf")];

/// Folders whose `*.toml` files are policies, all 0644.
const POLICY_FOLDERS: [&str; 2] = ["etc/orama/policies", "etc/orama/policies/sets"];

/// Without these a node does not start, so their absence is as wrong as a stranger's presence.
const INDISPENSABLE: [&str; 4] =
    ["sbin/orama-agent", "usr/sbin/cryptsetup", "usr/sbin/mkfs.ext4", "etc/os-release"];

#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    #[error("cannot list the root file system")]
    List(#[from] ToolError),
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
}

/// Lists a finished root file system (the verity tree behind it does not matter) and refuses anything
/// that is not allowed above: other paths, other modes, other owners, set-id bits, devices.
pub fn check(squashfs: &Path) -> Result<(), ListingError> {
    check_text(&run(tool("unsquashfs").arg("-lln").arg(squashfs))?)
}

/// [`check`] for an image of tests, which has this one program more. No option of `cargo xtask image` leads here.
pub fn check_with(squashfs: &Path, program: &str) -> Result<(), ListingError> {
    let listing = run(tool("unsquashfs").arg("-lln").arg(squashfs))?;
    let path = format!(" squashfs-root/opt/orama/bin/{program}");
    let rest: Vec<&str> = listing.lines().filter(|line| !line.ends_with(&path)).collect();
    check_text(&rest.join("\n"))
}

/// [`check`] on the text of `unsquashfs -lln`.
pub fn check_text(listing: &str) -> Result<(), ListingError> {
    let mut refused = Vec::new();
    let mut seen = Vec::new();
    for line in listing.lines().filter(|line| !line.is_empty()) {
        match parse(line) {
            None => refused.push(format!("unreadable line {line:?}")),
            Some(entry) => {
                refused.extend(objection(&entry).map(|why| format!("/{}: {why}", entry.path)));
                seen.push(entry.path);
            }
        }
    }
    let missing = INDISPENSABLE.iter().filter(|path| !seen.contains(path));
    refused.extend(missing.map(|path| format!("/{path}: missing")));
    if refused.is_empty() { Ok(()) } else { Err(ListingError::Refused(refused)) }
}

struct Entry<'a> {
    mode: &'a str,
    owner: &'a str,
    path: &'a str,
    target: Option<&'a str>,
}

/// `-rwxr-xr-x 0/0     1234 2026-01-01 00:00 squashfs-root/sbin/x`, with ` -> target` after a link.
fn parse(line: &str) -> Option<Entry<'_>> {
    let (mode, rest) = line.split_once(char::is_whitespace)?;
    let (owner, rest) = rest.trim_start().split_once(char::is_whitespace)?;
    // The size, or two numbers for a device, then date and time; none of them can hold the root's name.
    let at = rest.find(" squashfs-root")?;
    let path = &rest[at + " squashfs-root".len()..];
    let (path, target) = match path.split_once(" -> ") {
        Some((path, target)) if mode.starts_with('l') => (path, Some(target)),
        _ => (path, None),
    };
    Some(Entry { mode, owner, path: path.trim_start_matches('/'), target })
}

fn objection(entry: &Entry<'_>) -> Option<String> {
    let Entry { mode, owner, path, target } = *entry;
    if owner != "0/0" {
        return Some(format!("owned by {owner}"));
    }
    if mode.bytes().skip(1).any(|bit| matches!(bit, b's' | b'S')) {
        return Some(format!("set-id bit in {mode}"));
    }
    let expected = if path.is_empty() || FOLDERS.contains(&path) {
        "drwxr-xr-x"
    } else if PROGRAMS.contains(&path) {
        "-rwxr-xr-x"
    } else if FILES.contains(&path) || is_library(path) || is_policy(path) {
        "-rw-r--r--"
    } else if let Some((_, expected)) = LINKS.iter().find(|(link, _)| *link == path) {
        if target != Some(expected) {
            return Some(format!("links to {}, not {expected}", target.unwrap_or("nothing")));
        }
        "lrwxrwxrwx"
    } else {
        return Some("not in the list of what an image may hold".into());
    };
    if mode == expected { None } else { Some(format!("mode {mode}, not {expected}")) }
}

fn is_library(path: &str) -> bool {
    let name = path.strip_prefix(LIBRARY_FOLDER).and_then(|rest| rest.strip_prefix('/'));
    name.is_some_and(|name| LIBRARIES.contains(&name))
}

fn is_policy(path: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    path.rsplit_once('/').is_some_and(|(folder, file)| {
        let stem = file.strip_suffix(".toml").unwrap_or_default();
        POLICY_FOLDERS.contains(&folder) && !stem.is_empty() && stem.bytes().all(known)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
drwxr-xr-x 0/0                40 2026-01-01 00:00 squashfs-root
drwxr-xr-x 0/0                40 2026-01-01 00:00 squashfs-root/etc
-rw-r--r-- 0/0               120 2026-01-01 00:00 squashfs-root/etc/os-release
-rw-r--r-- 0/0               120 2026-01-01 00:00 squashfs-root/etc/orama/policies/ipfs-cluster.toml
lrwxrwxrwx 0/0                22 2026-01-01 00:00 squashfs-root/etc/resolv.conf -> /run/orama/resolv.conf
-rw-r--r-- 0/0               120 2026-01-01 00:00 squashfs-root/lib/x86_64-linux-gnu/libc.so.6
-rwxr-xr-x 0/0          10000000 2026-01-01 00:00 squashfs-root/sbin/orama-agent
-rwxr-xr-x 0/0            225720 2026-01-01 00:00 squashfs-root/usr/sbin/cryptsetup
-rwxr-xr-x 0/0            141904 2026-01-01 00:00 squashfs-root/usr/sbin/mkfs.ext4
";

    fn refused(line: &str) -> String {
        check_text(&format!("{GOOD}{line}\n")).unwrap_err().to_string()
    }

    #[test]
    fn a_proper_root_passes() {
        check_text(GOOD).unwrap();
    }

    #[test]
    fn strangers_are_refused_by_name() {
        for path in [
            "bin/sh",
            "bin/busybox",
            "usr/bin/python3",
            "usr/sbin/cryptsetup.old",
            "lib/x86_64-linux-gnu/libevil.so",
            "lib/x86_64-linux-gnu/sub/libc.so.6",
            "etc/orama/policies/.toml",
            "etc/orama/policies/a b.toml",
            "etc/orama/policies/deep/er.toml",
            "etc/shadow",
        ] {
            let line = format!("-rwxr-xr-x 0/0 1 2026-01-01 00:00 squashfs-root/{path}");
            assert_eq!(refused(&line), format!("/{path}: not in the list of what an image may hold"));
        }
    }

    #[test]
    fn wrong_modes_owners_and_kinds_are_refused() {
        let at = "2026-01-01 00:00 squashfs-root";
        assert!(refused(&format!("-rwsr-xr-x 0/0 1 {at}/usr/sbin/cryptsetup")).contains("set-id"));
        assert!(refused(&format!("-rwxr-sr-x 0/0 1 {at}/usr/sbin/cryptsetup")).contains("set-id"));
        assert!(refused(&format!("-rwxrwxrwx 0/0 1 {at}/usr/sbin/cryptsetup")).contains("mode"));
        assert!(refused(&format!("-rwxr-xr-x 0/0 1 {at}/etc/passwd")).contains("mode"));
        assert!(refused(&format!("-rw-r--r-- 1000/0 1 {at}/etc/passwd")).contains("owned by 1000/0"));
        assert!(refused(&format!("crw-r--r-- 0/0 1, 3 {at}/dev/null")).contains("not in the list"));
        assert!(refused(&format!("drwxrwxrwt 0/0 1 {at}/tmp")).contains("mode"));
        assert!(
            refused(&format!("lrwxrwxrwx 0/0 1 {at}/etc/resolv.conf -> /tmp/x")).contains("links to /tmp/x")
        );
        assert!(refused("who knows what").contains("unreadable"));
    }

    #[test]
    fn a_root_without_an_agent_is_refused() {
        let error =
            check_text(&GOOD.replace("sbin/orama-agent", "sbin/orama-agens")).unwrap_err().to_string();
        assert!(error.contains("/sbin/orama-agent: missing"), "{error}");
    }
}
