//! Growth on a real block device: the kernel must know the new size at once. Needs root and loop devices.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use orama_volume::{Growth, grow_data_partition};

const MIB: u64 = 1 << 20;

fn run(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{program}: {error}: install the Debian packages fdisk, mount and util-linux")
        });
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?} failed");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A loop device that is given back when the test ends, however it ends.
struct Loop(String);

impl Loop {
    /// Partitions that the kernel was told about outlive the device that is detached; the next one gets them.
    fn forget_partitions(&self) {
        for number in ["1", "2"] {
            // Usually there is none, and addpart says so when one could not be removed.
            let _ = Command::new("/usr/bin/delpart").args([&self.0, number]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.forget_partitions();
        let _ = Command::new("/usr/sbin/losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
fn the_kernel_knows_the_new_size_at_once() {
    assert!(nix::unistd::geteuid().is_root(), "this test makes a loop device: run it as root");
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.img");
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(32 * MIB).unwrap();
    let layout = "label: gpt\nsize=8MiB, name=orama-rootfs-a\nname=orama-data\n";
    run("/usr/sbin/sfdisk", &["--quiet", image.to_str().unwrap()], layout);
    file.set_len(96 * MIB).unwrap();
    let device = Loop(run("/usr/sbin/losetup", &["--find", "--show", image.to_str().unwrap()], ""));
    device.forget_partitions();
    // Not --partscan: a kernel may be built without GPT and still have partitions that it is told about.
    let (rootfs, data) = (["1", "2048", "16384"], ["2", "18432", "45056"]);
    for partition in [rootfs, data] {
        let [number, start, length] = partition;
        run("/usr/bin/addpart", &[&device.0, number, start, length], "");
    }
    let name = device.0.strip_prefix("/dev/").unwrap();
    let size = |partition: u32| {
        let path = format!("/sys/block/{name}/{name}p{partition}/size");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        text.trim().parse::<u64>().unwrap() * 512
    };
    let (other, before) = (size(1), size(2));
    let grown = grow_data_partition(Path::new(&device.0), 2).unwrap();
    let Growth::Grown { from_bytes, to_bytes } = grown else { panic!("not grown") };
    assert_eq!((from_bytes, to_bytes), (before, size(2)), "the table says one thing, the kernel another");
    assert_eq!(to_bytes, (96 - 1 - 9) * MIB);
    assert_eq!(size(1), other);
    assert_eq!(grow_data_partition(Path::new(&device.0), 2).unwrap(), Growth::AlreadyFull);
}
