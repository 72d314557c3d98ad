//! Looks for bytes in large files: disks and dumps of a machine's memory. By Python, whose search is quick in every build.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Reads needles in hex, one a line, and prints where each begins, the first few.
const SEARCH: &str = "import mmap, sys
with open(sys.argv[1], 'rb') as file:
    memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for line in sys.stdin:
        needle, places = bytes.fromhex(line), []
        at = memory.find(needle)
        while at >= 0 and len(places) < 16:
            places.append(at)
            at = memory.find(needle, at + 1)
        print(*places)
";

#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    #[error("searching {path}")]
    Run {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("searching {path}: {what}")]
    Failed { path: PathBuf, what: String },
}

/// Where each needle begins in the file, at most 16 places each. Needles go over standard input: they are secrets.
pub fn places(path: &Path, needles: &[&[u8]]) -> Result<Vec<Vec<u64>>, SearchError> {
    let run = |source| SearchError::Run { path: path.to_owned(), source };
    let failed = |what: String| SearchError::Failed { path: path.to_owned(), what };
    let mut python = Command::new("python3");
    python.args(["-c", SEARCH]).arg(path);
    python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = python.spawn().map_err(run)?;
    if let Some(mut stdin) = child.stdin.take() {
        for needle in needles {
            let hex: String = needle.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(stdin, "{hex}").map_err(run)?;
        }
    }
    let output = child.wait_with_output().map_err(run)?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: Vec<Vec<u64>> = text
        .lines()
        .map(|line| line.split_whitespace().filter_map(|place| place.parse().ok()).collect())
        .collect();
    if found.len() == needles.len() { Ok(found) } else { Err(failed(format!("answered {text:?}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_place_and_nothing_else() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"needle in a hay\xff\x00stack, and a needle").unwrap();
        let found = places(file.path(), &[b"needle", b"hay\xff\x00", b"gold"]).unwrap();
        assert_eq!(found, [vec![0, 30], vec![12], vec![]]);
        assert!(places(Path::new("/no/such/file"), &[b"x"]).is_err());
    }
}
