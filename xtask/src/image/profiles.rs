//! Which programs an image needs: those that its profiles name, and no others. Looks at one field of each file;
//! whether a profile is good is decided by who loads it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

#[derive(Debug, thiserror::Error)]
pub enum ProfilesError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
}

#[derive(Deserialize)]
struct Profile {
    binary: PathBuf,
}

/// File names of the programs that the profiles in `folder` start. A profile that is no TOML names none: its
/// service stays down on the node, and says why.
pub fn programs(folder: &Path) -> Result<BTreeSet<String>, ProfilesError> {
    let failed = |source| ProfilesError::Read { path: folder.into(), source };
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = fs::read(&path).map_err(|source| ProfilesError::Read { path, source })?;
            let profile = toml::from_str::<Profile>(&String::from_utf8_lossy(&text));
            names.extend(profile.ok().map(|profile| program_name(&profile.binary)));
        }
    }
    Ok(names)
}

/// The last part of a path.
pub fn program_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_adds_its_program_and_a_broken_one_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("a.toml", "binary = \"/opt/orama/bin/one\"\n[seccomp]\nmode = \"audit\"\n");
        write("b.toml", "binary = = \"/opt/orama/bin/two\"\n");
        write("c.txt", "binary = \"/opt/orama/bin/three\"\n");
        fs::create_dir(folder.path().join("sets")).unwrap();
        assert_eq!(programs(folder.path()).unwrap(), BTreeSet::from(["one".to_owned()]));
        assert!(programs(&folder.path().join("nowhere")).is_err());
    }

    #[test]
    fn the_profiles_we_ship_name_seven_programs() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        assert_eq!(programs(&folder).unwrap().len(), 7);
    }
}
