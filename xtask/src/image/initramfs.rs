//! The initramfs: /init, the modules with their list, and empty mount points, as a newc archive that is
//! the same on every build. See Documentation/driver-api/early-userspace/buffer-format.rst.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::BUILD_TIME;
use super::kernel::Kernel;
use super::tool::{ToolError, run, tool};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const SECRET: u32 = 0o100_400;

/// Where the verified root is mounted, and the mounts before it. /dev/console is opened by the kernel from
/// its own built-in archive.
const MOUNT_POINTS: [&str; 4] = ["dev", "newroot", "proc", "sys"];

#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot compress the archive")]
    Compress(#[from] ToolError),
}

/// Writes the initramfs to `to`. `volume_key` is for the benchmark's init only.
pub fn make(
    init: &Path,
    kernel: &Kernel,
    volume_key: Option<&Path>,
    to: &Path,
) -> Result<(), InitramfsError> {
    let read =
        |path: &Path| fs::read(path).map_err(|source| InitramfsError::Read { path: path.into(), source });
    let mut archive = Archive::default();
    for folder in MOUNT_POINTS {
        archive.add(folder, FOLDER, &[]);
    }
    archive.add("init", PROGRAM, &read(init)?);
    archive.add("lib", FOLDER, &[]);
    archive.add("lib/modules", FOLDER, &[]);
    let mut list = String::new();
    for module in &kernel.modules {
        let name = module.path.file_name().unwrap_or_default().to_string_lossy();
        let inside = format!("lib/modules/{name}");
        archive.add(&inside, FILE, &read(&module.path)?);
        let mark = if module.optional { "?" } else { "" };
        list.push_str(&format!("{mark}/{inside}\n"));
    }
    archive.add("modules.list", FILE, list.as_bytes());
    if let Some(key) = volume_key {
        archive.add("volume.key", SECRET, &read(key)?);
    }
    let plain = to.with_extension("cpio");
    fs::write(&plain, archive.finish())
        .map_err(|source| InitramfsError::Write { path: plain.clone(), source })?;
    run(tool("zstd").args(["-q", "-f", "-19", "--single-thread", "-o"]).arg(to).arg(&plain))?;
    fs::remove_file(&plain).map_err(|source| InitramfsError::Write { path: plain, source })
}

/// A newc archive in the order in which entries are added.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, contents: &[u8]) {
        self.entries += 1;
        let links = if mode == FOLDER { 2 } else { 1 };
        self.header(self.entries, mode, links, BUILD_TIME as u32, contents.len(), name);
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn finish(mut self) -> Vec<u8> {
        self.header(0, 0, 1, 0, 0, "TRAILER!!!");
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }

    /// Inode, mode, uid, gid, links, time, size, four device numbers, name length, checksum; then the name.
    fn header(&mut self, inode: u32, mode: u32, links: u32, time: u32, size: usize, name: &str) {
        let (size, name_size) = (size as u32, name.len() as u32 + 1);
        self.bytes.extend_from_slice(b"070701");
        for field in [inode, mode, 0, 0, links, time, size, 0, 0, 0, 0, name_size, 0] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_layout_the_kernel_reads() {
        let mut archive = Archive::default();
        archive.add("dev", FOLDER, &[]);
        archive.add("init", PROGRAM, b"12345");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 512, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("07070100000001000041ed000000000000000000000002"), "{text}");
        // 110 bytes of header and "dev\0" fill 116 with padding; the next header starts there.
        assert_eq!(&bytes[116..122], b"070701");
        assert_eq!(&bytes[116 + 54..116 + 62], b"00000005");
        assert_eq!(
            &bytes[116 + 110..116 + 121],
            b"init\0\0".iter().chain(b"12345").copied().collect::<Vec<_>>()
        );
        assert!(text.contains("TRAILER!!!"));
    }
}
