//! A flipped bit in the root file system: the kernel stops, and there is never a running node.

use std::sync::Arc;
use std::time::Duration;

use qemu_tests::artifacts::{Artifacts, Image};
use qemu_tests::disk;
use qemu_tests::net::Namespace;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::BOOT_LIMIT;
use qemu_tests::vm::{Machine, PANIC};

#[test]
fn one_flipped_bit_in_the_first_block_is_a_panic() {
    boots_into_a_panic("verity-first-block", u64::MAX);
}

/// Wherever the blocks lie that a boot reads: one flipped bit in every MiB hits them.
#[test]
fn flipped_bits_all_over_the_root_are_a_panic() {
    boots_into_a_panic("verity-all-over", 1 << 20);
}

fn boots_into_a_panic(name: &str, every_bytes: u64) {
    let artifacts = Artifacts::from_environment().or_fail();
    let folder = artifacts.run_folder(name).or_fail();
    let network = Arc::new(Namespace::create().or_fail());
    let mut machine = Machine::new(network, &folder, &artifacts.image(Image::Small).or_fail()).or_fail();
    let rootfs = disk::partition(&machine.disk(), "orama-rootfs-a").or_fail();
    let mut offset = 0;
    while offset < rootfs.length {
        disk::flip_bit(&machine.disk(), rootfs.offset + offset).or_fail();
        offset = offset.saturating_add(every_bytes);
    }
    machine.power_on().or_fail();
    let line = machine.wait_for(PANIC, BOOT_LIMIT).or_fail();
    assert!(line.contains("verity"), "the panic is not about dm-verity: {line}");
    // panic=10: whatever still lives would speak in this time.
    std::thread::sleep(Duration::from_secs(5));
    let lines = machine.console().lines_from(0).or_fail();
    for never in ["is PID 1", "phase running", "registration code", "phase enrolling"] {
        assert!(!lines.iter().any(|line| line.contains(never)), "{never:?} after a damaged root");
    }
}
