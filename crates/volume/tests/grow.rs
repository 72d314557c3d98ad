//! Growth of the last partition on disk images, judged by sfdisk.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use orama_volume::{GrowError, Growth, TableError, grow_data_partition};

const MIB: u64 = 1 << 20;
/// The image's layout in small.
const LAYOUT: &str = "label: gpt\n\
    size=4MiB, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=ESP\n\
    size=8MiB, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=orama-rootfs-a\n\
    size=8MiB, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=orama-rootfs-b\n\
    type=CA7D7CCB-63ED-4C53-861C-1742536059CC, name=orama-data\n";

fn sfdisk(arguments: &[&str], disk: &Path, input: &str) -> (bool, String) {
    let program = Path::new("/usr/sbin/sfdisk");
    assert!(program.exists(), "sfdisk is missing: install the Debian package fdisk");
    let mut child = Command::new(program)
        .args(arguments)
        .arg(disk)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), said)
}

/// A disk image of 32 MiB on a disk of this size.
fn disk(size: u64) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    File::create(&path).unwrap().set_len(32 * MIB).unwrap();
    let (made, said) = sfdisk(&["--quiet"], &path, LAYOUT);
    assert!(made, "{said}");
    OpenOptions::new().write(true).open(&path).unwrap().set_len(size).unwrap();
    (folder, path)
}

/// Lines of `sfdisk --dump` that describe partitions.
fn partitions(disk: &Path) -> Vec<String> {
    let (_, dump) = sfdisk(&["--dump"], disk, "");
    dump.lines().filter(|line| line.contains("start=")).map(String::from).collect()
}

#[test]
fn the_last_partition_reaches_the_end_of_a_larger_disk() {
    for size in [33 * MIB, 40 * MIB + 512, 100 * MIB, 3 << 40] {
        let (_folder, path) = disk(size);
        let before = partitions(&path);
        let Ok(Growth::Grown { from_bytes, to_bytes }) = grow_data_partition(&path, 4) else {
            panic!("at {size}")
        };
        assert!(
            to_bytes > from_bytes && size - 21 * MIB - to_bytes < 2 * MIB,
            "{from_bytes} -> {to_bytes} at {size}"
        );
        let (sound, said) = sfdisk(&["--verify"], &path, "");
        assert!(sound && said.contains("No errors detected"), "at {size}: {said}");
        let after = partitions(&path);
        assert_eq!(before[..3], after[..3]);
        let sectors = format!("size={:>12},", to_bytes / 512);
        assert!(
            after[3].contains(&sectors) && after[3].contains("orama-data"),
            "{} lacks {sectors}",
            after[3]
        );
        assert!(matches!(grow_data_partition(&path, 4), Ok(Growth::AlreadyFull)));
    }
}

#[test]
fn the_second_copy_alone_gives_the_new_table_too() {
    let (_folder, path) = disk(64 * MIB);
    grow_data_partition(&path, 4).unwrap();
    let expect = partitions(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[512..1024].fill(0);
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(partitions(&path), expect);
}

#[test]
fn a_disk_of_the_images_size_is_left_alone() {
    let (_folder, path) = disk(32 * MIB);
    let before = std::fs::read(&path).unwrap();
    // sfdisk fills the last MiB up to the table, the growth would end at a MiB: nothing to gain.
    assert!(matches!(grow_data_partition(&path, 4), Ok(Growth::AlreadyFull)));
    assert!(before == std::fs::read(&path).unwrap());
}

#[test]
fn doubtful_tables_are_left_alone() {
    let check = |partition: u32, damage: &dyn Fn(&mut Vec<u8>), expect: fn(&TableError) -> bool| {
        let (_folder, path) = disk(64 * MIB);
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        match grow_data_partition(&path, partition) {
            Err(GrowError::Table { source, .. }) if expect(&source) => {}
            other => panic!("{other:?}"),
        }
        assert!(bytes == std::fs::read(&path).unwrap(), "a refused disk was written to");
    };
    check(3, &|_| {}, |error| *error == TableError::NotLast(3));
    check(5, &|_| {}, |error| *error == TableError::NoPartition(5));
    check(0, &|_| {}, |error| *error == TableError::NoPartition(0));
    check(4, &|bytes| bytes[512] = 0, |error| matches!(error, TableError::Broken(_)));
    check(4, &|bytes| bytes[512 + 48] ^= 1, |error| matches!(error, TableError::Broken(_)));
    check(4, &|bytes| bytes[1024 + 3 * 128 + 40] ^= 1, |error| matches!(error, TableError::Broken(_)));
    check(4, &|bytes| bytes[450] = 0x83, |error| matches!(error, TableError::Layout(_)));
    check(4, &|bytes| bytes.truncate(31 * MIB as usize), |error| {
        matches!(error, TableError::DiskTooSmall { .. })
    });
}
