//! A whole image, built twice and listed: minutes of work, so plain `cargo test` leaves it out. Needs no
//! root, but the packages and toolchains that `cargo xtask image` names when they are missing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// FAT keeps times in steps of two seconds: builds closer together could agree by luck.
const BETWEEN_BUILDS: Duration = Duration::from_millis(2100);

fn image(out: &Path, more: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let status = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["image", "--data-mib", "32", "--out"])
        .arg(out)
        .args(more)
        .status()
        .unwrap();
    assert!(status.success(), "cargo xtask image failed");
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(out).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            files.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
    files
}

fn program(name: &str) -> PathBuf {
    ["/usr/bin", "/usr/sbin"]
        .map(|folder| Path::new(folder).join(name))
        .into_iter()
        .find(|path| path.exists())
        .unwrap()
}

#[test]
fn an_image_is_the_same_on_every_build_and_holds_nothing_but_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let first = image(&folder.path().join("first"), &[]);
    sleep(BETWEEN_BUILDS);
    let second = image(&folder.path().join("second"), &[]);
    let names: Vec<&String> = first.keys().collect();
    assert_eq!(names, second.keys().collect::<Vec<_>>());
    assert!(names.iter().any(|name| name.ends_with("-amd64.img")), "{names:?}");
    for (name, bytes) in &first {
        assert!(second[name] == *bytes, "{name} differs between two builds of the same inputs");
    }

    let agent = folder.path().join("agent.toml");
    fs::write(&agent, "[gateway]\nurl = \"https://other.example.com\"\nfingerprint = \"sha256:00\"\n")
        .unwrap();
    let other = image(&folder.path().join("other"), &["--agent-toml", agent.to_str().unwrap()]);
    assert!(
        other["rootfs.squashfs"] != first["rootfs.squashfs"],
        "the configuration did not reach the image"
    );
    assert!(other["cmdline"] != first["cmdline"], "another root file system has the same root hash");

    lists_nothing_unexpected(&folder.path().join("first/rootfs.squashfs"));
}

/// A second opinion on the list that the build checks: by name and mode, not by that list.
fn lists_nothing_unexpected(rootfs: &Path) {
    let output = Command::new(program("unsquashfs")).arg("-lln").arg(rootfs).output().unwrap();
    assert!(output.status.success());
    let listing = String::from_utf8(output.stdout).unwrap();
    let mut programs = Vec::new();
    for line in listing.lines().filter(|line| !line.is_empty()) {
        let mode = &line[..10];
        let path = line.split_once(" squashfs-root").expect("a path in every line").1;
        assert!(!mode.contains('s') && !mode.contains('S'), "set-id bit: {line}");
        assert!(matches!(&mode[..1], "d" | "-" | "l"), "neither folder, file nor link: {line}");
        assert!(mode.starts_with('l') || &mode[8..9] != "w", "writable by everybody: {line}");
        if mode.starts_with('-') && mode.contains('x') {
            programs.push(path.to_owned());
        }
    }
    programs.sort();
    assert_eq!(
        programs,
        [
            "/lib64/ld-linux-x86-64.so.2",
            "/opt/orama/bin/coredns",
            "/opt/orama/bin/ipfs",
            "/opt/orama/bin/ipfs-cluster-service",
            "/opt/orama/bin/olric-server",
            "/opt/orama/bin/orama-gateway",
            "/opt/orama/bin/rqlited",
            "/opt/orama/bin/vault-guardian",
            "/sbin/orama-agent",
            "/usr/sbin/cryptsetup",
            "/usr/sbin/mkfs.ext4",
        ]
    );
}
