//! Mounts and unmounts the filesystem of the volume, and reads the mount table to know what is done already.
//! Does not know LUKS.

use std::io;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// What is mounted on top at a path: the device number (`major:minor`) and the source.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    pub device_number: String,
    pub source: String,
}

pub(crate) fn mounted_at(root: &Path) -> io::Result<Option<Mounted>> {
    let root = match root.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(find(&String::from_utf8_lossy(&table), &root.to_string_lossy()))
}

/// The last line wins: it is the mount on top. Format: proc_pid_mountinfo(5).
fn find(table: &str, root: &str) -> Option<Mounted> {
    table.lines().rev().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(2);
        let (device_number, point) = (fields.next()?, fields.nth(1)?);
        let source = after.split(' ').nth(1)?;
        (unescape(point) == root)
            .then(|| Mounted { device_number: device_number.to_owned(), source: source.to_owned() })
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Mounts an ext4. `nosuid,nodev`: nothing on the volume may grant a privilege. `noatime`: reading must not write.
/// `errors=remount-ro`: a broken filesystem must not get worse. `usrquota`: limits hold, and are not only counted.
pub(crate) fn mount_ext4(device: &Path, root: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    mount(Some(device), root, Some("ext4"), flags, Some("errors=remount-ro,usrquota"))?;
    Ok(())
}

/// Never lazily: a volume that is still in use must not be closed under its users.
pub(crate) fn unmount(root: &Path) -> io::Result<()> {
    umount2(root, MntFlags::UMOUNT_NOFOLLOW)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_on_top_is_found() {
        let table = "21 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n\
                     30 21 0:25 / /opt/orama/.orama rw - tmpfs tmpfs rw\n\
                     31 30 254:0 / /opt/orama/.orama rw,nosuid,nodev master:1 - ext4 /dev/mapper/orama-data rw\n\
                     32 21 0:26 / /mnt/with\\040space rw - tmpfs none rw\n";
        let mounted = find(table, "/opt/orama/.orama").unwrap();
        assert_eq!(
            (mounted.device_number.as_str(), mounted.source.as_str()),
            ("254:0", "/dev/mapper/orama-data")
        );
        assert_eq!(find(table, "/mnt/with space").unwrap().source, "none");
        assert_eq!(find(table, "/opt"), None);
    }
}
