//! The search on fixture trees that look like sysfs, /dev and efivarfs.

use std::fs;
use std::os::unix::fs::symlink;

use super::gpt::tests::disk_with;
use super::*;
use crate::efivar::tests::store;

struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    fn new() -> Machine {
        let root = tempfile::tempdir().unwrap();
        for folder in ["class", "devices", "dev", "efi"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        Machine { root }
    }

    /// A disk whose partitions carry these names; the n-th partition id is `id` with n as its last byte.
    fn disk(self, disk: &str, joint: &str, id: u8, names: &[&str]) -> Machine {
        let real = self.root.path().join("devices").join(disk);
        fs::create_dir(&real).unwrap();
        fs::write(real.join("uevent"), format!("MAJOR=254\nMINOR=0\nDEVNAME={disk}\nDEVTYPE=disk\n"))
            .unwrap();
        symlink(&real, self.root.path().join("class").join(disk)).unwrap();
        let mut ids = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let device = format!("{disk}{joint}{}", index + 1);
            let real = real.join(&device);
            fs::create_dir(&real).unwrap();
            let uevent =
                format!("DEVNAME={device}\nDEVTYPE=partition\nPARTN={}\nPARTNAME={name}\n", index + 1);
            fs::write(real.join("uevent"), uevent).unwrap();
            symlink(&real, self.root.path().join("class").join(&device)).unwrap();
            let mut raw = [id; 16];
            raw[15] = index as u8;
            ids.push(raw);
        }
        fs::write(self.root.path().join("dev").join(disk), disk_with(&ids)).unwrap();
        self
    }

    fn booted(self, id: &str) -> Machine {
        store(&self.root.path().join("efi"), "LoaderDevicePartUUID", id);
        self
    }

    fn find(&self) -> Result<BootDisk, FindDiskError> {
        let root = self.root.path();
        BootDisk::find_in(&root.join("class"), &root.join("dev"), &root.join("efi"))
    }

    fn found(&self) -> String {
        self.find().unwrap().disk.file_name().unwrap().to_str().unwrap().to_owned()
    }
}

#[test]
fn the_only_disk_with_our_names_is_found_whatever_its_driver() {
    for (disk, joint) in [("vda", ""), ("sda", ""), ("nvme0n1", "p")] {
        let machine =
            Machine::new().disk(disk, joint, 7, &PARTITION_NAMES).disk("sdz", "", 8, &["ESP", "debian"]);
        let found = machine.find().unwrap();
        let dev = machine.root.path().join("dev");
        assert_eq!(found.disk, dev.join(disk));
        assert_eq!(found.esp, dev.join(format!("{disk}{joint}1")));
        assert_eq!(found.rootfs(Slot::A), dev.join(format!("{disk}{joint}2")));
        assert_eq!(found.rootfs(Slot::B), dev.join(format!("{disk}{joint}3")));
        assert_eq!(found.data, dev.join(format!("{disk}{joint}4")));
    }
}

#[test]
fn partition_order_does_not_matter() {
    let machine =
        Machine::new().disk("vda", "", 7, &["orama-data", "orama-rootfs-b", "ESP", "orama-rootfs-a"]);
    assert!(machine.find().unwrap().data.ends_with("vda1"));
    assert!(machine.find().unwrap().rootfs_a.ends_with("vda4"));
}

#[test]
fn the_firmware_decides_between_two() {
    let two =
        || Machine::new().disk("vda", "", 0x11, &PARTITION_NAMES).disk("vdb", "", 0x22, &PARTITION_NAMES);
    assert!(matches!(two().find(), Err(FindDiskError::Ambiguous { disks }) if disks == ["vda", "vdb"]));
    assert_eq!(two().booted("22222222-2222-2222-2222-222222222200").found(), "vdb");
    assert_eq!(two().booted("11111111-1111-1111-1111-111111111100").found(), "vda");
    assert!(matches!(
        two().booted("33333333-3333-3333-3333-333333333300").find(),
        Err(FindDiskError::BootedElsewhere { .. })
    ));
}

#[test]
fn firmware_letters_may_be_upper_case() {
    let machine = Machine::new().disk("vda", "", 0xab, &PARTITION_NAMES);
    assert_eq!(machine.booted("ABABABAB-ABAB-ABAB-ABAB-ABABABABAB00").found(), "vda");
}

#[test]
fn a_cloned_disk_is_named_not_guessed() {
    let machine =
        Machine::new().disk("vda", "", 0x11, &PARTITION_NAMES).disk("vdb", "", 0x11, &PARTITION_NAMES);
    let error = machine.booted("11111111-1111-1111-1111-111111111100").find().unwrap_err();
    assert!(matches!(&error, FindDiskError::Clones { .. }));
    assert!(error.to_string().ends_with("vda, vdb"), "{error}");
}

#[test]
fn a_single_disk_that_was_not_booted_is_refused() {
    let machine = Machine::new().disk("vda", "", 0x11, &PARTITION_NAMES);
    assert!(matches!(
        machine.booted("99999999-1111-1111-1111-111111111100").find(),
        Err(FindDiskError::BootedElsewhere { .. })
    ));
}

#[test]
fn missing_and_doubled_partitions_are_refused() {
    assert!(matches!(
        Machine::new().disk("vda", "", 1, &PARTITION_NAMES[..3]).find(),
        Err(FindDiskError::NoDisk)
    ));
    let names = ["ESP", "orama-rootfs-a", "orama-rootfs-b", "orama-data", "orama-data"];
    assert!(matches!(
        Machine::new().disk("vda", "", 1, &names).find(),
        Err(FindDiskError::DoubledName { name, .. }) if name == "orama-data"
    ));
}

#[test]
fn a_device_name_cannot_leave_dev() {
    let text = "DEVNAME=../etc/passwd\nDEVTYPE=partition\nPARTNAME=orama-data\n";
    assert_eq!(parse_uevent(text), Err("no usable DEVNAME"));
}
