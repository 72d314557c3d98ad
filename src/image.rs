//! What the running image says of itself: its version, and the slot and root hash it was verified with.

use std::path::Path;
use std::sync::Arc;

use orama_slots::cmdline::{self, Booted, ReadCommandLineError};

/// Part of the verified root.
const OS_RELEASE: &str = "/etc/os-release";

pub struct Image {
    /// `IMAGE_VERSION` of os-release.
    pub version: Arc<str>,
    pub booted: Booted,
}

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("reading {OS_RELEASE}")]
    Release(#[source] std::io::Error),
    #[error("{OS_RELEASE} has no IMAGE_VERSION")]
    NoVersion,
    #[error("the kernel command line does not say which image was verified")]
    CommandLine(#[source] ReadCommandLineError),
}

/// Reads both; a node that does not know what it runs does not start.
pub fn read() -> Result<Image, ImageError> {
    let release = std::fs::read_to_string(Path::new(OS_RELEASE)).map_err(ImageError::Release)?;
    let version = version_in(&release).ok_or(ImageError::NoVersion)?.into();
    Ok(Image { version, booted: cmdline::read().map_err(ImageError::CommandLine)? })
}

fn version_in(release: &str) -> Option<&str> {
    let value = release.lines().find_map(|line| line.strip_prefix("IMAGE_VERSION="))?;
    Some(value.trim_matches('"')).filter(|version| !version.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_found_with_and_without_quotes() {
        assert_eq!(version_in("ID=oramaos\nIMAGE_VERSION=\"1.2.3\"\n"), Some("1.2.3"));
        assert_eq!(version_in("IMAGE_VERSION=1.2.3~rc1"), Some("1.2.3~rc1"));
        assert_eq!(version_in("VERSION=1\n"), None);
        assert_eq!(version_in("IMAGE_VERSION=\"\""), None);
    }
}
