//! What the kernel says about an open mapping, read from sysfs: names are only trusted with the volume's UUID.
//! Opens and closes nothing.

use std::io;
use std::path::{Path, PathBuf};

/// Longest sysfs attribute that is read, in bytes.
const ATTRIBUTE_LIMIT_BYTES: u64 = 256;

/// An active device-mapper device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// `CRYPT-LUKS2-<32 hex>-<name>` for a volume that cryptsetup opened.
    pub dm_uuid: String,
    /// `major:minor`.
    pub device_number: String,
}

impl Mapping {
    /// Whether this is the opened form of the LUKS2 volume with this UUID.
    pub fn is_volume(&self, uuid: [u8; 16], name: &str) -> bool {
        self.dm_uuid == format!("CRYPT-LUKS2-{}-{name}", crate::uuid::hex(&uuid))
    }
}

/// The mapping of this name, by `<sysfs>/block/dm-*/dm/name`.
pub(crate) fn find(sysfs: &Path, name: &str) -> io::Result<Option<Mapping>> {
    let blocks = match std::fs::read_dir(sysfs.join("block")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    for entry in blocks {
        let block = entry?;
        if !block.file_name().to_string_lossy().starts_with("dm-") {
            continue;
        }
        match read_mapping(&block.path(), name) {
            // A device that goes away while we look is not ours: ours is closed by nobody else.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(None) => {}
            other => return other,
        }
    }
    Ok(None)
}

fn read_mapping(block: &Path, name: &str) -> io::Result<Option<Mapping>> {
    if attribute(&block.join("dm/name"))? != name {
        return Ok(None);
    }
    Ok(Some(Mapping {
        dm_uuid: attribute(&block.join("dm/uuid"))?,
        device_number: attribute(&block.join("dev"))?,
    }))
}

fn attribute(path: &PathBuf) -> io::Result<String> {
    let mut text = String::new();
    io::Read::read_to_string(
        &mut io::Read::take(std::fs::File::open(path)?, ATTRIBUTE_LIMIT_BYTES),
        &mut text,
    )?;
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_mapping_by_name_and_knows_the_volume_by_uuid() {
        let sysfs = tempfile::tempdir().unwrap();
        for (device, name, uuid) in [
            ("dm-0", "root", "CRYPT-VERITY-00"),
            ("dm-1", "orama-data", "CRYPT-LUKS2-000102030405060708090a0b0c0d0e0f-orama-data"),
        ] {
            let dm = sysfs.path().join("block").join(device).join("dm");
            std::fs::create_dir_all(&dm).unwrap();
            std::fs::write(dm.join("name"), format!("{name}\n")).unwrap();
            std::fs::write(dm.join("uuid"), format!("{uuid}\n")).unwrap();
            std::fs::write(dm.parent().unwrap().join("dev"), "254:1\n").unwrap();
        }
        std::fs::create_dir_all(sysfs.path().join("block/vda")).unwrap();
        let mapping = find(sysfs.path(), "orama-data").unwrap().unwrap();
        let uuid = std::array::from_fn(|index| index as u8);
        assert!(mapping.is_volume(uuid, "orama-data"));
        assert!(!mapping.is_volume([0; 16], "orama-data"));
        assert_eq!(mapping.device_number, "254:1");
        assert_eq!(find(sysfs.path(), "other").unwrap(), None);
    }
}
