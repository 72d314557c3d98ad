//! The steps of an image with the real tools on tiny inputs: the same bytes from the same inputs, other
//! bytes from others, and no stranger gets through. A whole image is compared in tests/host_image.rs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::kernel::{Kernel, Module};
use super::manifest::hex;
use super::{disk, initramfs, listing, rootfs, uki};
use sha2::{Digest, Sha256};

/// FAT keeps times in steps of two seconds: builds closer together could agree by luck.
const BETWEEN_BUILDS: Duration = Duration::from_millis(2100);

struct Built {
    root_hash: String,
    uki: String,
    disk: String,
}

fn digest(path: &Path) -> String {
    hex(&Sha256::digest(fs::read(path).unwrap()))
}

/// A tree that the listing accepts, with `text` in one of its files.
fn tree(at: &Path, text: &str) -> PathBuf {
    let root = at.join("root");
    for folder in ["etc", "sbin", "usr/sbin"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (path, mode) in [
        ("sbin/orama-agent", 0o755),
        ("usr/sbin/cryptsetup", 0o755),
        ("usr/sbin/mkfs.ext4", 0o755),
        ("etc/os-release", 0o644),
    ] {
        fs::write(root.join(path), text).unwrap();
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    for folder in ["", "etc", "sbin", "usr", "usr/sbin"] {
        fs::set_permissions(root.join(folder), fs::Permissions::from_mode(0o755)).unwrap();
    }
    root
}

fn build(text: &str) -> Built {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let squashfs = at("rootfs.squashfs");
    let verified = rootfs::pack_and_hash(&tree(folder.path(), text), &squashfs).unwrap();
    listing::check(&squashfs).unwrap();
    fs::write(at("vmlinuz"), "not a kernel").unwrap();
    fs::write(at("a.ko"), "not a module").unwrap();
    let kernel = Kernel {
        vmlinuz: at("vmlinuz"),
        release: "6.1.0".into(),
        modules: vec![Module { path: at("a.ko"), optional: false }],
        notes: Vec::new(),
    };
    initramfs::make(&at("vmlinuz"), &kernel, None, &at("initrd")).unwrap();
    let cmdline = format!("orama.verity={}", verified.root_hash);
    let parts =
        uki::Parts { os_release: "ID=oramaos\n", cmdline: &cmdline, kernel: &kernel, initrd: &at("initrd") };
    uki::make(&parts, folder.path(), &at("uki.efi")).unwrap();
    let contents = disk::Contents { version: "1.0", rootfs: &squashfs, uki: &at("uki.efi"), data_mib: 32 };
    disk::make(&contents, &at("disk.img")).unwrap();
    Built { root_hash: verified.root_hash, uki: digest(&at("uki.efi")), disk: digest(&at("disk.img")) }
}

#[test]
fn the_same_inputs_give_the_same_bytes_and_others_do_not() {
    let first = build("one");
    sleep(BETWEEN_BUILDS);
    let second = build("one");
    assert_eq!(first.root_hash, second.root_hash);
    assert_eq!(first.uki, second.uki);
    assert_eq!(first.disk, second.disk);
    let other = build("two");
    assert_ne!(first.root_hash, other.root_hash);
    assert_ne!(first.uki, other.uki);
    assert_ne!(first.disk, other.disk);
}

#[test]
fn a_shell_or_a_set_id_program_in_the_packed_tree_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = tree(folder.path(), "x");
    fs::write(root.join("sbin/sh"), "x").unwrap();
    fs::set_permissions(root.join("usr/sbin/cryptsetup"), fs::Permissions::from_mode(0o4755)).unwrap();
    let squashfs = folder.path().join("rootfs.squashfs");
    rootfs::pack_and_hash(&root, &squashfs).unwrap();
    let error = listing::check(&squashfs).unwrap_err().to_string();
    assert!(error.contains("/sbin/sh: not in the list"), "{error}");
    assert!(error.contains("/usr/sbin/cryptsetup: set-id bit"), "{error}");
}
