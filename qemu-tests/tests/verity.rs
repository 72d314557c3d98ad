//! One flipped bit in the root file system: the kernel stops, and there is never a running node.

use std::time::Duration;

use qemu_tests::artifacts::{Artifacts, Image};
use qemu_tests::disk;
use qemu_tests::net::Namespace;
use qemu_tests::scenario::BOOT_LIMIT;
use qemu_tests::vm::{Machine, PANIC};

#[test]
fn a_flipped_bit_in_the_root_file_system_is_a_panic() {
    let artifacts = Artifacts::from_environment().unwrap();
    let folder = artifacts.run_folder("verity").unwrap();
    let network = std::sync::Arc::new(Namespace::create().unwrap());
    let mut machine = Machine::new(network, &folder, &artifacts.image(Image::Node).unwrap()).unwrap();
    let rootfs = disk::partition(&machine.disk(), "orama-rootfs-a").unwrap();
    // Every block that the agent needs is damaged, wherever it lies: the first blocks hold the superblock,
    // the rest one bit in each MiB.
    for offset in (0..rootfs.length).step_by(1 << 20) {
        disk::flip_bit(&machine.disk(), rootfs.offset + offset).unwrap();
    }
    machine.power_on().unwrap();
    let line = machine.wait_for(PANIC, BOOT_LIMIT).unwrap();
    // panic=10: what is alive would speak in this time.
    std::thread::sleep(Duration::from_secs(5));
    let lines = machine.console().lines_from(0).unwrap();
    for never in ["is PID 1", "phase running", "registration code", "phase enrolling"] {
        assert!(!lines.iter().any(|line| line.contains(never)), "{never:?} after a damaged root");
    }
    let verity = lines.iter().any(|line| line.contains("verity") && line.contains("corrupt"));
    assert!(verity || line.contains("verity"), "the panic is not about dm-verity: {line}");
}
