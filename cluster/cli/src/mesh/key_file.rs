//! The file that holds a WireGuard private key: made once with mode 0600, refused when others may read it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use orama_mesh::PrivateKey;

use crate::failure::{Exit, Failure};

/// A key is 44 characters and a newline.
const FILE_LIMIT_BYTES: u64 = 128;

pub fn load_or_make(path: &Path) -> Result<PrivateKey, Failure> {
    match fs::metadata(path) {
        Ok(found) => load(path, found.permissions().mode()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot make {}: {error}", path.display()))),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn load(path: &Path, mode: u32) -> Result<PrivateKey, Failure> {
    if mode & 0o077 != 0 {
        let what = format!("{} may be read by others (mode {:04o})", path.display(), mode & 0o7777);
        return Err(Failure::new(Exit::Usage, what).next(format!("chmod 600 {}", path.display())));
    }
    let text =
        crate::bounded::read_secret(path, FILE_LIMIT_BYTES).map_err(|error| unreadable(path, &error))?;
    PrivateKey::from_base64(text.trim()).map_err(|error| {
        Failure::new(Exit::Usage, format!("{} does not hold a WireGuard key: {error}", path.display()))
    })
}

/// Written under another name and linked into place, so that a crash leaves no half key and a race no two.
fn make(path: &Path) -> io::Result<PrivateKey> {
    let key = PrivateKey::generate();
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file
        .write_all(key.to_base64().as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    written?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()?;
    Ok(key)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Usage, format!("cannot read {}: {error}", path.display()))
}
