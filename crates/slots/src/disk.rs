//! Finds the disk this machine booted from and its four partitions, by GPT partition name.
//! Device names (vda, sda, nvme0n1) are never trusted to mean anything. Opens nothing for writing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::Slot;
use crate::efivar::{EFIVARS, EfiVarError, loader_string};

mod gpt;

/// GPT partition names of an OramaOS disk, in partition order.
pub const PARTITION_NAMES: [&str; 4] = ["ESP", "orama-rootfs-a", "orama-rootfs-b", "orama-data"];

/// A uevent file is a few hundred bytes; sysfs never gives more than a page.
const UEVENT_LIMIT_BYTES: u64 = 4096;

/// Block devices we look at before we call the machine unreasonable.
const DEVICES_LIMIT: usize = 4096;

/// The disk we booted from. All paths are device nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootDisk {
    pub disk: PathBuf,
    pub esp: PathBuf,
    pub rootfs_a: PathBuf,
    pub rootfs_b: PathBuf,
    pub data: PathBuf,
}

/// Why the boot disk is not known.
#[derive(Debug, thiserror::Error)]
pub enum FindDiskError {
    #[error("cannot read {}", path.display())]
    Sysfs { path: PathBuf, source: io::Error },
    #[error("{} is not a block device uevent: {what}", path.display())]
    Uevent { path: PathBuf, what: &'static str },
    #[error("more than {DEVICES_LIMIT} block devices")]
    TooManyDevices,
    #[error("no disk carries the partitions {}", PARTITION_NAMES.join(", "))]
    NoDisk,
    #[error("several disks carry our partitions and the firmware does not say which one was booted: {}", disks.join(", "))]
    Ambiguous { disks: Vec<String> },
    #[error("several disks carry our partitions and the booted partition id {id}: {}", disks.join(", "))]
    Clones { id: String, disks: Vec<String> },
    #[error("firmware booted from partition {id}, which is on none of our disks: {}", disks.join(", "))]
    BootedElsewhere { id: String, disks: Vec<String> },
    #[error("disk {disk} has two partitions named {name}")]
    DoubledName { disk: String, name: String },
    #[error("cannot read the partition table of {}", device.display())]
    Table { device: PathBuf, source: gpt::TableError },
    #[error("cannot tell which partition the firmware booted from")]
    Variable(#[from] EfiVarError),
}

impl BootDisk {
    /// Looks at the running machine.
    pub fn find() -> Result<BootDisk, FindDiskError> {
        Self::find_in(Path::new("/sys/class/block"), Path::new("/dev"), Path::new(EFIVARS))
    }

    /// [`find`](Self::find) with the three places named: sysfs block class, device nodes, efivarfs.
    pub fn find_in(block_class: &Path, dev: &Path, efivars: &Path) -> Result<BootDisk, FindDiskError> {
        let disks = candidates(read_partitions(block_class)?)?;
        let booted = loader_string(efivars, "LoaderDevicePartUUID")?;
        let chosen = match booted {
            Some(id) => booted_disk(&disks, &id.to_ascii_lowercase(), dev)?,
            None => only_disk(&disks)?,
        };
        let names = &disks[chosen];
        let node = |name: &str| dev.join(&names[name]);
        let [esp, rootfs_a, rootfs_b, data] = PARTITION_NAMES.map(node);
        Ok(BootDisk { disk: dev.join(chosen), esp, rootfs_a, rootfs_b, data })
    }

    /// The root file system partition of a slot.
    pub fn rootfs(&self, slot: Slot) -> &Path {
        match slot {
            Slot::A => &self.rootfs_a,
            Slot::B => &self.rootfs_b,
        }
    }
}

/// A partition with one of our names.
#[derive(Debug, PartialEq, Eq)]
struct Partition {
    disk: String,
    device: String,
    name: String,
}

/// Disk name → our partition names → device names.
type Disks = BTreeMap<String, BTreeMap<String, String>>;

fn read_partitions(block_class: &Path) -> Result<Vec<Partition>, FindDiskError> {
    let sysfs = |path: &Path| {
        let path = path.to_path_buf();
        move |source| FindDiskError::Sysfs { path, source }
    };
    let mut found = Vec::new();
    for (count, entry) in fs::read_dir(block_class).map_err(sysfs(block_class))?.enumerate() {
        if count == DEVICES_LIMIT {
            return Err(FindDiskError::TooManyDevices);
        }
        let folder = entry.map_err(sysfs(block_class))?.path();
        let uevent = folder.join("uevent");
        let text = match read_bounded(&uevent) {
            Ok(text) => text,
            // A device may vanish between the listing and the reading.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(FindDiskError::Sysfs { path: uevent, source }),
        };
        let Some((device, name)) =
            parse_uevent(&text).map_err(|what| FindDiskError::Uevent { path: uevent.clone(), what })?
        else {
            continue;
        };
        // The class folder holds links into the device tree, where a partition lies below its disk.
        let real = folder.canonicalize().map_err(sysfs(&folder))?;
        let disk = real.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let Some(disk) = disk.filter(|disk| is_device_name(disk)) else {
            return Err(FindDiskError::Uevent { path: uevent, what: "no parent disk" });
        };
        found.push(Partition { disk: disk.into(), device, name });
    }
    Ok(found)
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(UEVENT_LIMIT_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Device and partition name when this is a partition with one of our names.
fn parse_uevent(text: &str) -> Result<Option<(String, String)>, &'static str> {
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.split_once('=').filter(|(name, _)| *name == key))
            .map(|(_, value)| value)
    };
    let Some(name) = value("PARTNAME").filter(|name| PARTITION_NAMES.contains(name)) else {
        return Ok(None);
    };
    if value("DEVTYPE") != Some("partition") {
        return Err("a partition name on something that is not a partition");
    }
    match value("DEVNAME") {
        Some(device) if is_device_name(device) => Ok(Some((device.into(), name.into()))),
        _ => Err("no usable DEVNAME"),
    }
}

fn is_device_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The disks that carry all four names.
fn candidates(partitions: Vec<Partition>) -> Result<Disks, FindDiskError> {
    let mut disks = Disks::new();
    let mut doubled = Vec::new();
    for Partition { disk, device, name } in partitions {
        if disks.entry(disk.clone()).or_default().insert(name.clone(), device).is_some() {
            doubled.push((disk, name));
        }
    }
    // "ESP" alone is a common name: a disk counts as ours only with all four.
    disks.retain(|_, names| names.len() == PARTITION_NAMES.len());
    match doubled.into_iter().find(|(disk, _)| disks.contains_key(disk)) {
        Some((disk, name)) => Err(FindDiskError::DoubledName { disk, name }),
        None if disks.is_empty() => Err(FindDiskError::NoDisk),
        None => Ok(disks),
    }
}

fn only_disk(disks: &Disks) -> Result<&str, FindDiskError> {
    let mut names = disks.keys();
    match (names.next(), names.next()) {
        (Some(disk), None) => Ok(disk),
        _ => Err(FindDiskError::Ambiguous { disks: disks.keys().cloned().collect() }),
    }
}

/// The firmware names the ESP by partition id. Kernels before 6.9 do not show that id in sysfs, so the
/// partition tables of the candidates are read.
fn booted_disk<'a>(disks: &'a Disks, id: &str, dev: &Path) -> Result<&'a str, FindDiskError> {
    let mut matching = Vec::new();
    for disk in disks.keys() {
        let device = dev.join(disk);
        let ids = gpt::partition_ids(&device).map_err(|source| FindDiskError::Table { device, source })?;
        if ids.iter().any(|other| other == id) {
            matching.push(disk);
        }
    }
    let owned = |names: Vec<&String>| names.into_iter().cloned().collect();
    match matching.as_slice() {
        [disk] => Ok(disk),
        [] => Err(FindDiskError::BootedElsewhere { id: id.into(), disks: owned(disks.keys().collect()) }),
        _ => Err(FindDiskError::Clones { id: id.into(), disks: owned(matching) }),
    }
}

#[cfg(test)]
mod tests;
