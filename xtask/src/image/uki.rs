//! The unified kernel image: systemd's stub with command line, kernel and initramfs as further sections.
//! Decides the kernel's command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::kernel::Kernel;
use super::rootfs::Verified;
use super::tool::{ToolError, run, tool};

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// Sections start on page boundaries behind the stub's own.
const SECTION_ALIGNMENT_BYTES: u64 = 4096;

/// What every node boots with. `panic`: a panicked kernel reboots after ten seconds, long enough to read
/// why. The serial console comes last, which makes it /dev/console. `loglevel`: warnings and worse. `init_on_free`: a
/// key went to cryptsetup through a pipe, whose pages are the kernel's, and only the kernel can wipe them.
const FIXED_WORDS: &str = "panic=10 init_on_free=1 loglevel=5 console=tty0 console=ttyS0,115200";

#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot read the sections of {STUB}")]
    Sections,
    #[error("cannot put the image together")]
    Objcopy(#[from] ToolError),
}

/// What goes into an image.
pub struct Parts<'a> {
    pub os_release: &'a str,
    pub cmdline: &'a str,
    pub kernel: &'a Kernel,
    pub initrd: &'a Path,
}

/// An image built here is always for slot A: it is what a disk is first written with.
pub fn command_line(root: &Verified) -> String {
    let Verified { root_hash, salt, data_blocks, .. } = root;
    format!("orama.slot=a orama.verity={root_hash}:{salt}:{data_blocks} {FIXED_WORDS}")
}

/// Writes the image to `to`; `work` is a folder for its sections.
pub fn make(parts: &Parts<'_>, work: &Path, to: &Path) -> Result<(), UkiError> {
    let section = |name: &str, contents: &str| -> Result<PathBuf, UkiError> {
        let path = work.join(format!("section.{name}"));
        match fs::write(&path, contents) {
            Ok(()) => Ok(path),
            Err(source) => Err(UkiError::Write { path, source }),
        }
    };
    let sections = [
        (".osrel", section("osrel", parts.os_release)?),
        (".cmdline", section("cmdline", parts.cmdline)?),
        (".uname", section("uname", &parts.kernel.release)?),
        (".linux", parts.kernel.vmlinuz.clone()),
        (".initrd", parts.initrd.to_path_buf()),
    ];
    let mut address = end_of_sections(&run(tool("objdump").args(["-h", STUB]))?).ok_or(UkiError::Sections)?;
    let mut objcopy = tool("objcopy");
    for (name, path) in &sections {
        address = address.next_multiple_of(SECTION_ALIGNMENT_BYTES);
        objcopy.arg("--add-section").arg(format!("{name}={}", path.display()));
        objcopy.arg("--change-section-vma").arg(format!("{name}={address:#x}"));
        let metadata = fs::metadata(path).map_err(|source| UkiError::Read { path: path.clone(), source })?;
        address += metadata.len();
    }
    // Keeping the date of the stub keeps the time in its PE header too; otherwise that is the time of the build.
    run(objcopy.arg("--preserve-dates").arg(STUB).arg(to))?;
    Ok(())
}

/// Where the last section of `objdump -h` ends.
fn end_of_sections(text: &str) -> Option<u64> {
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    text.lines()
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            match columns.as_slice() {
                [index, _, size, address, ..] if index.parse::<u32>().is_ok() => {
                    Some(number(address)? + number(size)?)
                }
                _ => None,
            }
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_stub_is_the_end_of_its_last_section() {
        let text = "Idx Name Size VMA LMA File off Algn\n\
             0 .text 0000bff0 0000000000004000 0000000000004000 00000400 2**4\n\
             \u{20}CONTENTS, ALLOC, LOAD, READONLY, CODE\n\
             1 .sdmagic 00000034 0000000000019100 0000000000019100 00011200 2**2\n";
        assert_eq!(end_of_sections(text), Some(0x19134));
        assert_eq!(end_of_sections("nothing"), None);
    }

    #[test]
    fn the_command_line_is_what_the_initramfs_reads() {
        let root = Verified {
            root_hash: "ab".repeat(32),
            salt: "cd".repeat(32),
            data_blocks: 1234,
            bytes_without_services: 0,
        };
        let booted = orama_slots::cmdline::parse(&command_line(&root)).unwrap();
        assert_eq!(booted.slot, orama_slots::Slot::A);
        assert_eq!(booted.verity.root_hash, root.root_hash);
        assert_eq!(booted.verity.data_blocks, 1234);
    }
}
