//! The GPT disk: four named partitions, systemd-boot and the UKI on the ESP, the root file system in slot
//! A. Written as a sparse file with ids that follow from the contents.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sha2::{Digest, Sha256};

use super::BUILD_TIME;
use super::manifest::hex;
use super::tool::{ToolError, run, tool};

const BOOT_LOADER: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
const LOADER_CONF: &str = include_str!("../../../image/loader.conf");

/// In MiB. The ESP holds the UKIs of two versions (about 17 MiB each) with room for larger kernels; a slot
/// holds the root file system with all services the product plans, about 100 MiB packed.
const FIRST_MIB: u64 = 1;
const ESP_MIB: u64 = 96;
const SLOT_MIB: u64 = 128;
/// Room for the backup partition table.
const LAST_MIB: u64 = 1;

const SECTORS_PER_MIB: u64 = 2048;

/// With 1 KiB clusters the ESP has more than the 65525 that make a FAT32; by default it would have fewer.
const SECTORS_PER_CLUSTER: &str = "2";

/// UEFI and the Discoverable Partitions Specification.
const TYPE_ESP: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
const TYPE_ROOT_X86_64: &str = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
const TYPE_LUKS: &str = "CA7D7CCB-63ED-4C53-861C-1742536059CC";

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("root file system of {bytes} bytes does not fit into a slot of {SLOT_MIB} MiB")]
    SlotTooSmall { bytes: u64 },
    #[error("image of {bytes} bytes does not fit twice on a boot partition of {ESP_MIB} MiB")]
    EspTooSmall { bytes: u64 },
    #[error("cannot write the partition table")]
    Table(#[source] ToolError),
    #[error("cannot make the boot partition")]
    Esp(#[source] ToolError),
    #[error("cannot convert to qcow2")]
    Convert(#[source] ToolError),
}

/// What goes onto the disk.
pub struct Contents<'a> {
    pub version: &'a str,
    pub rootfs: &'a Path,
    pub uki: &'a Path,
    pub data_mib: u32,
}

/// Writes the disk to `to`. It appears under its name only when it is complete.
pub fn make(contents: &Contents<'_>, to: &Path) -> Result<(), DiskError> {
    let fresh = to.with_extension("img.new");
    let seed = seed(contents)?;
    let data_mib = u64::from(contents.data_mib);
    let total_mib = FIRST_MIB + ESP_MIB + 2 * SLOT_MIB + data_mib + LAST_MIB;
    let written = |source| DiskError::Write { path: fresh.clone(), source };
    let file = File::create(&fresh).map_err(written)?;
    file.set_len(total_mib << 20).map_err(written)?;
    drop(file);
    write_table(&fresh, &partition_script(&seed, data_mib))?;
    write_esp(contents, &fresh, &seed)?;
    write_slot(contents.rootfs, &fresh)?;
    fs::rename(&fresh, to).map_err(|source| DiskError::Write { path: to.into(), source })
}

/// The same disk as qcow2, beside it.
pub fn to_qcow2(disk: &Path) -> Result<PathBuf, DiskError> {
    let to = disk.with_extension("qcow2");
    run(tool("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).args([disk, &to]))
        .map_err(DiskError::Convert)?;
    Ok(to)
}

/// A version 4 UUID that is a function of what it is for and of the contents.
pub fn uuid_from(purpose: &str, seed: &str) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(format!("{purpose}:{seed}"))[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

fn seed(contents: &Contents<'_>) -> Result<String, DiskError> {
    let mut hash = Sha256::new();
    for path in [contents.rootfs, contents.uki] {
        let bytes = fs::read(path).map_err(|source| DiskError::Read { path: path.into(), source })?;
        hash.update(Sha256::digest(bytes));
    }
    Ok(hex(&hash.finalize()))
}

fn partition_script(seed: &str, data_mib: u64) -> String {
    let mut script = format!(
        "label: gpt\nlabel-id: {}\nunit: sectors\nfirst-lba: {SECTORS_PER_MIB}\n",
        uuid_from("disk", seed)
    );
    let mut start_mib = FIRST_MIB;
    let kinds = [
        (TYPE_ESP, ESP_MIB),
        (TYPE_ROOT_X86_64, SLOT_MIB),
        (TYPE_ROOT_X86_64, SLOT_MIB),
        (TYPE_LUKS, data_mib),
    ];
    for (name, (kind, mib)) in orama_slots::disk::PARTITION_NAMES.into_iter().zip(kinds) {
        let (start, size) = (start_mib * SECTORS_PER_MIB, mib * SECTORS_PER_MIB);
        let uuid = uuid_from(name, seed);
        script.push_str(&format!("start={start}, size={size}, type={kind}, uuid={uuid}, name=\"{name}\"\n"));
        start_mib += mib;
    }
    script
}

fn write_table(disk: &Path, script: &str) -> Result<(), DiskError> {
    let path = disk.with_extension("sfdisk");
    fs::write(&path, script).map_err(|source| DiskError::Write { path: path.clone(), source })?;
    let input = File::open(&path).map_err(|source| DiskError::Read { path: path.clone(), source })?;
    run(tool("sfdisk")
        .args(["--quiet", "--no-tell-kernel", "--no-reread"])
        .arg(disk)
        .stdin(Stdio::from(input)))
    .map_err(DiskError::Table)?;
    fs::remove_file(&path).map_err(|source| DiskError::Write { path, source })
}

fn write_esp(contents: &Contents<'_>, disk: &Path, seed: &str) -> Result<(), DiskError> {
    let uki_bytes = fs::metadata(contents.uki)
        .map_err(|source| DiskError::Read { path: contents.uki.into(), source })?
        .len();
    if uki_bytes * 2 > (ESP_MIB - 2) << 20 {
        return Err(DiskError::EspTooSmall { bytes: uki_bytes });
    }
    let loader_conf = disk.with_extension("loader.conf");
    fs::write(&loader_conf, LOADER_CONF)
        .map_err(|source| DiskError::Write { path: loader_conf.clone(), source })?;
    let esp = |command: &mut std::process::Command| {
        // mtools takes the times of files and folders from here.
        run(command.env("SOURCE_DATE_EPOCH", BUILD_TIME.to_string())).map(|_| ()).map_err(DiskError::Esp)
    };
    let volume_id = &uuid_from("fat", seed)[..8];
    let offset = FIRST_MIB * SECTORS_PER_MIB;
    let blocks = (ESP_MIB * 1024).to_string();
    esp(tool("mkfs.vfat")
        .args(["-F", "32", "-s", SECTORS_PER_CLUSTER, "-n", "ORAMA-ESP", "-i", volume_id, "--invariant"])
        .arg(format!("--offset={offset}"))
        .args([disk.as_os_str(), blocks.as_ref()]))?;
    let inside = format!("{}@@{FIRST_MIB}M", disk.display());
    esp(tool("mmd").args(["-i", &inside, "::EFI", "::EFI/BOOT", "::EFI/Linux", "::loader"]))?;
    // Three tries, then the other entry boots; a node that comes up well takes the counter away.
    let uki_name = format!("::EFI/Linux/oramaos-{}+3.efi", contents.version);
    for (from, to) in [
        (Path::new(BOOT_LOADER), "::EFI/BOOT/BOOTX64.EFI"),
        (&loader_conf, "::loader/loader.conf"),
        (contents.uki, &uki_name),
    ] {
        esp(tool("mcopy").args(["-i", &inside]).arg(from).arg(to))?;
    }
    fs::remove_file(&loader_conf).map_err(|source| DiskError::Write { path: loader_conf, source })
}

fn write_slot(rootfs: &Path, disk: &Path) -> Result<(), DiskError> {
    let read = |source| DiskError::Read { path: rootfs.into(), source };
    let mut contents = Vec::new();
    File::open(rootfs).map_err(read)?.read_to_end(&mut contents).map_err(read)?;
    if contents.len() as u64 > SLOT_MIB << 20 {
        return Err(DiskError::SlotTooSmall { bytes: contents.len() as u64 });
    }
    let written = |source| DiskError::Write { path: disk.into(), source };
    let mut file = OpenOptions::new().write(true).open(disk).map_err(written)?;
    file.seek(SeekFrom::Start((FIRST_MIB + ESP_MIB) << 20)).map_err(written)?;
    file.write_all(&contents).map_err(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_the_contents_and_differ_by_purpose() {
        assert_eq!(uuid_from("disk", "x"), uuid_from("disk", "x"));
        assert_ne!(uuid_from("disk", "x"), uuid_from("disk", "y"));
        assert_ne!(uuid_from("disk", "x"), uuid_from("ESP", "x"));
        assert_eq!(&uuid_from("disk", "x")[14..15], "4");
    }

    #[test]
    fn partitions_follow_each_other_without_a_gap() {
        let script = partition_script("seed", 256);
        assert!(script.contains("start=2048, size=196608"), "{script}");
        assert!(script.contains("start=198656, size=262144"), "{script}");
        assert!(script.contains("start=460800, size=262144"), "{script}");
        assert!(script.contains("start=722944, size=524288"), "{script}");
        assert!(script.contains("name=\"orama-data\""), "{script}");
    }
}
