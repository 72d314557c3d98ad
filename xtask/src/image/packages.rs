//! The programs and files that building and booting an image needs, and the Debian packages they come in.
//! Says what is missing; installing is the set-up command's work.

use std::path::{Path, PathBuf};

/// Something that must exist on the machine.
#[derive(Debug, Clone, Copy)]
pub struct Required {
    pub what: Need,
    /// Debian 12 package.
    pub package: &'static str,
}

#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// A program on the path or in an administrator's folder.
    Program(&'static str),
    File(&'static str),
}

/// A [`Required`] that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub name: String,
    pub package: &'static str,
}

/// What `cargo xtask image` runs or copies.
pub const FOR_BUILDING: &[Required] = &[
    program("apt-get", "apt"),
    program("depmod", "kmod"),
    program("dpkg", "dpkg"),
    program("gcc", "gcc"),
    program("mcopy", "mtools"),
    program("mkfs.vfat", "dosfstools"),
    program("mksquashfs", "squashfs-tools"),
    program("objcopy", "binutils"),
    program("qemu-img", "qemu-utils"),
    program("readelf", "binutils"),
    program("sfdisk", "fdisk"),
    program("veritysetup", "cryptsetup-bin"),
    program("zstd", "zstd"),
    file("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
    file("/usr/lib/systemd/boot/efi/linuxx64.efi.stub", "systemd-boot-efi"),
    file("/usr/lib/systemd/boot/efi/systemd-bootx64.efi", "systemd-boot-efi"),
    file("/usr/lib/x86_64-linux-gnu/libc.a", "libc6-dev"),
    file("/usr/sbin/cryptsetup", "cryptsetup-bin"),
    file("/usr/sbin/mke2fs", "e2fsprogs"),
];

const fn program(name: &'static str, package: &'static str) -> Required {
    Required { what: Need::Program(name), package }
}

const fn file(path: &'static str, package: &'static str) -> Required {
    Required { what: Need::File(path), package }
}

/// What building an image lacks on this machine.
pub fn missing() -> Vec<Missing> {
    missing_of(FOR_BUILDING)
}

fn missing_of(required: &[Required]) -> Vec<Missing> {
    required
        .iter()
        .filter_map(|Required { what, package }| {
            let (there, name) = match *what {
                Need::Program(name) => (find_program(name).is_some(), name),
                Need::File(path) => (Path::new(path).exists(), path),
            };
            if there { None } else { Some(Missing { name: name.to_owned(), package }) }
        })
        .collect()
}

/// Where a program is: the path, then the administrator's folders, which many users' paths lack.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// One sentence that names the missing things and what to install.
pub fn describe(missing: &[Missing]) -> String {
    let names: Vec<&str> = missing.iter().map(|missing| missing.name.as_str()).collect();
    let mut packages: Vec<&str> = missing.iter().map(|missing| missing.package).collect();
    packages.sort_unstable();
    packages.dedup();
    format!("missing {}: install the Debian packages {}", names.join(", "), packages.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let wanted =
            [program("ls", "coreutils"), program("no-such-program", "nosuch"), file("/no/such", "nosuch")];
        let missing = missing_of(&wanted);
        assert_eq!(missing.len(), 2);
        assert_eq!(
            describe(&missing),
            "missing no-such-program, /no/such: install the Debian packages nosuch"
        );
    }
}
