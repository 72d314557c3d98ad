//! What somebody with the disk in hand can do to a machine that is off: find partitions, flip bytes, cut the
//! LUKS2 header out, look into it with cryptsetup, edit its tokens and put it back. Needs no root.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde::Deserialize;

use crate::process::search_path;

/// Bytes of a sector, as sfdisk counts.
const SECTOR_BYTES: u64 = 512;
/// Header, metadata and key slots all end before this; cryptsetup wants some payload behind them.
const HEADER_BYTES: u64 = 64 << 20;
/// Type of the token with the early state.
const TOKEN_TYPE: &str = "orama-node";

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("{what} {path}")]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("running {program}")]
    Run {
        program: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("{program} failed ({status}): {output}")]
    Failed { program: &'static str, status: ExitStatus, output: String },
    #[error("{program} answered what cannot be read")]
    Answer {
        program: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("{path} has no partition {name:?}")]
    NoPartition { path: PathBuf, name: String },
    #[error("the header of {path} has no {TOKEN_TYPE} token")]
    NoToken { path: PathBuf },
    #[error("the {TOKEN_TYPE} token in {path} is not as documented: {what}")]
    Token { path: PathBuf, what: String },
}

/// Where a partition lies in a disk image, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub length: u64,
}

#[derive(Deserialize)]
struct Listing {
    partitiontable: Table,
}

#[derive(Deserialize)]
struct Table {
    partitions: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    start: u64,
    size: u64,
    #[serde(default)]
    name: String,
}

/// Finds a partition by its GPT name.
pub fn partition(disk: &Path, name: &str) -> Result<Extent, DiskError> {
    let mut command = Command::new("sfdisk");
    command.env("PATH", search_path()).arg("--json").arg(disk);
    let output = run("sfdisk", command, &[])?;
    let listing: Listing =
        serde_json::from_slice(&output).map_err(|source| DiskError::Answer { program: "sfdisk", source })?;
    let found = listing.partitiontable.partitions.into_iter().find(|entry| entry.name == name);
    let entry =
        found.ok_or_else(|| DiskError::NoPartition { path: disk.to_owned(), name: name.to_owned() })?;
    Ok(Extent { offset: entry.start * SECTOR_BYTES, length: entry.size * SECTOR_BYTES })
}

/// Inverts the lowest bit of one byte of the disk.
pub fn flip_bit(disk: &Path, offset: u64) -> Result<(), DiskError> {
    let file = open(disk)?;
    let mut byte = [0_u8];
    file.read_exact_at(&mut byte, offset)
        .and_then(|()| file.write_all_at(&[byte[0] ^ 1], offset))
        .and_then(|()| file.sync_all())
        .map_err(|source| DiskError::File { what: "flipping a bit of", path: disk.to_owned(), source })
}

/// A LUKS2 header in a file of its own, cut out of a disk.
pub struct Header {
    path: PathBuf,
    extent: Extent,
}

impl Header {
    /// Copies the beginning of the partition `orama-data` to the file.
    pub fn cut_out(disk: &Path, to: &Path) -> Result<Self, DiskError> {
        let whole = partition(disk, "orama-data")?;
        let extent = Extent { offset: whole.offset, length: whole.length.min(HEADER_BYTES) };
        copy(disk, extent.offset, to, 0, extent.length)?;
        Ok(Self { path: to.to_owned(), extent })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the header back where it came from.
    pub fn put_back(&self, disk: &Path) -> Result<(), DiskError> {
        copy(&self.path, 0, disk, self.extent.offset, self.extent.length)
    }

    pub fn is_luks(&self) -> Result<bool, DiskError> {
        let mut command = cryptsetup();
        command.args(["isLuks", "--type", "luks2"]).arg(&self.path);
        let status = command.status().map_err(|source| DiskError::Run { program: "cryptsetup", source })?;
        Ok(status.success())
    }

    /// Whether this passphrase opens a key slot.
    pub fn opens_with(&self, passphrase: &[u8]) -> Result<bool, DiskError> {
        let mut command = cryptsetup();
        command.args(["open", "--test-passphrase", "--key-file", "-"]).arg(&self.path);
        match run("cryptsetup", command, passphrase) {
            Ok(_) => Ok(true),
            // 2: no permission, which is cryptsetup's word for a wrong passphrase.
            Err(DiskError::Failed { status, .. }) if status.code() == Some(2) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The token with the early state, as stored; none when the node is not enrolled.
    pub fn token(&self) -> Result<Option<serde_json::Value>, DiskError> {
        let Some(number) = self.token_number()? else { return Ok(None) };
        let mut command = cryptsetup();
        command.args(["token", "export", "--token-id", &number]).arg(&self.path);
        let output = run("cryptsetup", command, &[])?;
        serde_json::from_slice(&output)
            .map(Some)
            .map_err(|source| DiskError::Answer { program: "cryptsetup", source })
    }

    /// The early state inside the token, not authenticated.
    pub fn early_state(&self) -> Result<serde_json::Value, DiskError> {
        use base64::Engine;
        let token = self.token()?.ok_or_else(|| DiskError::NoToken { path: self.path.clone() })?;
        let bad = |what: String| DiskError::Token { path: self.path.clone(), what };
        let payload = token["payload"].as_str().ok_or_else(|| bad("no payload".into()))?;
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(payload)
            .map_err(|error| bad(format!("payload: {error}")))?;
        serde_json::from_slice(&bytes).map_err(|error| bad(format!("payload: {error}")))
    }

    /// Replaces the early state and keeps the old MAC: what an attacker without the key can do.
    pub fn forge_early_state(&self, state: &serde_json::Value) -> Result<(), DiskError> {
        use base64::Engine;
        let none = || DiskError::NoToken { path: self.path.clone() };
        let mut token = self.token()?.ok_or_else(none)?;
        let number = self.token_number()?.ok_or_else(none)?;
        token["payload"] = base64::engine::general_purpose::STANDARD.encode(state.to_string()).into();
        let mut command = cryptsetup();
        command.args(["token", "import", "--token-id", &number, "--token-replace", "--json-file", "-"]);
        command.arg(&self.path);
        run("cryptsetup", command, token.to_string().as_bytes()).map(drop)
    }

    fn token_number(&self) -> Result<Option<String>, DiskError> {
        let mut command = cryptsetup();
        command.args(["luksDump", "--dump-json-metadata"]).arg(&self.path);
        let output = run("cryptsetup", command, &[])?;
        let metadata: serde_json::Value = serde_json::from_slice(&output)
            .map_err(|source| DiskError::Answer { program: "cryptsetup", source })?;
        let Some(tokens) = metadata["tokens"].as_object() else { return Ok(None) };
        Ok(tokens.iter().find(|(_, token)| token["type"] == TOKEN_TYPE).map(|(number, _)| number.clone()))
    }
}

fn cryptsetup() -> Command {
    let mut command = Command::new("cryptsetup");
    command.env("PATH", search_path());
    // Locks are for devices that others use too.
    command.args(["--batch-mode", "--disable-locks"]);
    command
}

fn open(path: &Path) -> Result<File, DiskError> {
    OpenOptions::new().read(true).write(true).create(false).open(path).map_err(|source| DiskError::File {
        what: "opening",
        path: path.to_owned(),
        source,
    })
}

/// Copies a range; the target is made when it is not there.
fn copy(from: &Path, from_offset: u64, to: &Path, to_offset: u64, length: u64) -> Result<(), DiskError> {
    let reading = |source| DiskError::File { what: "reading", path: from.to_owned(), source };
    let writing = |source| DiskError::File { what: "writing", path: to.to_owned(), source };
    let source = File::open(from).map_err(reading)?;
    let target = OpenOptions::new().write(true).create(true).truncate(false).open(to).map_err(writing)?;
    let mut buffer = vec![0_u8; 1 << 20];
    let mut done = 0;
    while done < length {
        let part = usize::try_from(length - done).unwrap_or(buffer.len()).min(buffer.len());
        source.read_exact_at(&mut buffer[..part], from_offset + done).map_err(reading)?;
        target.write_all_at(&buffer[..part], to_offset + done).map_err(writing)?;
        done += part as u64;
    }
    target.sync_all().map_err(writing)
}

/// Runs a program to its end with the bytes on its standard input; returns its standard output.
fn run(program: &'static str, mut command: Command, input: &[u8]) -> Result<Vec<u8>, DiskError> {
    let failed = |source| DiskError::Run { program, source };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input) {
            // It ended without reading: its own message says why.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            other => other.map_err(failed)?,
        }
    }
    let mut stdout = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut stdout).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(DiskError::Failed { program, status: output.status, output: text });
    }
    Ok(stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of 64 MiB with one partition, and a LUKS2 header in it as provisioning makes it.
    fn disk(folder: &Path, key: &[u8]) -> PathBuf {
        let disk = folder.join("disk.img");
        File::create(&disk).unwrap().set_len(64 << 20).unwrap();
        let mut command = Command::new("sfdisk");
        command.arg("--quiet").arg(&disk);
        run("sfdisk", command, b"label: gpt\nstart=2048, size=100000, name=\"orama-data\"\n").unwrap();
        let volume = folder.join("volume");
        File::create(&volume).unwrap().set_len(40 << 20).unwrap();
        let mut command = cryptsetup();
        command.args([
            "luksFormat",
            "--type",
            "luks2",
            "--pbkdf",
            "pbkdf2",
            "--pbkdf-force-iterations",
            "1000",
        ]);
        command.args(["--key-file", "-"]).arg(&volume);
        run("cryptsetup", command, key).unwrap();
        copy(&volume, 0, &disk, 2048 * SECTOR_BYTES, 40 << 20).unwrap();
        disk
    }

    #[test]
    fn a_header_is_cut_out_read_forged_and_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let key = [7_u8; 32];
        let disk = disk(folder.path(), &key);
        let header = Header::cut_out(&disk, &folder.path().join("header")).unwrap();
        assert!(header.is_luks().unwrap());
        assert!(header.opens_with(&key).unwrap());
        assert!(!header.opens_with(&[8_u8; 32]).unwrap());
        assert!(header.token().unwrap().is_none());

        let mut command = cryptsetup();
        command.args(["token", "import", "--json-file", "-"]).arg(header.path());
        run(
            "cryptsetup",
            command,
            br#"{"type":"orama-node","keyslots":[],"version":1,"payload":"e30=","mac":"00"}"#,
        )
        .unwrap();
        header.forge_early_state(&serde_json::json!({"node_id": "x"})).unwrap();
        header.put_back(&disk).unwrap();
        let again = Header::cut_out(&disk, &folder.path().join("again")).unwrap();
        assert_eq!(again.early_state().unwrap()["node_id"], "x");
        assert_eq!(again.token().unwrap().unwrap()["mac"], "00");
    }

    #[test]
    fn a_flipped_bit_is_one_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, [1, 2, 3]).unwrap();
        flip_bit(&path, 1).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), [1, 3, 3]);
    }
}
