//! What the operator must keep of a node that no gateway knows: how to reach it and with which keys. One file a
//! node, `orama/nodes/<node id>.toml` in the configuration folder, mode 0600, replaced as a whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use orama_mesh::{Ipv4Prefix, PrivateKey, PublicKey};
use orama_protocol::Redacted;
use orama_wallet::Address;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::bounded;
use crate::connection::config_folder;
use crate::failure::{Exit, Failure};

/// Longest file, bytes; a real one has about 600.
const LIMIT_BYTES: u64 = 16 * 1024;
const VERSION: u32 = 1;

/// The file's content. No Debug: it holds keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    version: u32,
    pub node_id: String,
    /// Where the node is reached from outside the overlay.
    pub node_ip: Ipv4Addr,
    pub wg_ip: Ipv4Addr,
    pub wireguard_port: u16,
    /// Of the node.
    pub wireguard_public_key: PublicKey,
    pub owner: Address,
    /// Of the owner's wallet, secp256k1 in hex; recovered from its signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_public_key: Option<String>,
    /// Absent while an enrollment is not answered yet.
    pub agent_token: Option<Redacted>,
    operator: Operator,
    /// Only in files that `--recovery` made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<SealedKey>,
}

/// The volume key, sealed to the owner's wallet.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedKey {
    /// UUID of the volume that it opens.
    pub volume: String,
    /// Hex.
    pub sealed_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operator {
    wireguard_private_key: Redacted,
    /// With prefix.
    address: String,
}

impl NodeFile {
    pub fn new(
        node_ip: Ipv4Addr,
        address: Ipv4Prefix,
        wireguard: (PublicKey, u16),
        owner: Address,
        operator: (&PrivateKey, Ipv4Prefix),
    ) -> Self {
        let (wireguard_public_key, wireguard_port) = wireguard;
        let mut key = operator.0.to_base64();
        Self {
            version: VERSION,
            node_id: orama_protocol::node_id(address.address()),
            node_ip,
            wg_ip: address.address(),
            wireguard_port,
            wireguard_public_key,
            owner,
            owner_public_key: None,
            agent_token: None,
            operator: Operator {
                wireguard_private_key: Redacted::new(std::mem::take(&mut *key)),
                address: operator.1.to_string(),
            },
            recovery: None,
        }
    }

    /// A file of its own, wherever the operator wants it. Never over another file: that may be the only key of another node.
    pub fn write_to(&self, path: &Path) -> Result<(), Failure> {
        Self::refuse_unwritable(path)?;
        let text = self.to_text(path)?;
        replace(path, text.as_bytes()).map_err(|error| failed(path, "cannot write", &error))
    }

    /// Tries what [`NodeFile::write_to`] will do, while a failure still costs nothing.
    pub fn refuse_unwritable(path: &Path) -> Result<(), Failure> {
        if path.symlink_metadata().is_ok() {
            let what =
                format!("there is a file {} already, which may be the key of another node", path.display());
            return Err(Failure::new(Exit::Usage, what).next("name another file"));
        }
        let draft = draft_of(path);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|_| fs::remove_file(&draft))
            .map_err(|error| failed(path, "cannot write", &error))
    }

    fn to_text(&self, path: &Path) -> Result<Zeroizing<String>, Failure> {
        // Its own buffer holds the keys and is wiped; what the serializer leaves behind is this process's memory.
        toml::to_string(self)
            .map(Zeroizing::new)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot write {}: {error}", path.display())))
    }

    pub fn operator_key(&self) -> Result<PrivateKey, Failure> {
        PrivateKey::from_base64(self.operator.wireguard_private_key.expose())
            .map_err(|error| self.wrong(&format!("operator.wireguard_private_key: {error}")))
    }

    pub fn operator_address(&self) -> Result<Ipv4Prefix, Failure> {
        let text = &self.operator.address;
        text.parse().map_err(|error| self.wrong(&format!("operator.address {text:?}: {error}")))
    }

    pub fn token(&self) -> Result<&Redacted, Failure> {
        self.agent_token.as_ref().ok_or_else(|| {
            self.wrong("it has no agent_token: the enrollment that began it was never answered")
                .next("enrol the node again")
        })
    }

    pub fn endpoint(&self) -> SocketAddr {
        (self.node_ip, self.wireguard_port).into()
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::new(Exit::Usage, format!("file of {}: {what}", self.node_id))
    }
}

/// A file of a node, wherever it lies.
pub fn read_path(path: &Path) -> Result<NodeFile, Failure> {
    let found = fs::metadata(path).map_err(|error| failed(path, "cannot read", &error))?;
    if found.permissions().mode() & 0o077 != 0 {
        let mode = found.permissions().mode() & 0o7777;
        let what = format!("{} may be read by others (mode {mode:04o})", path.display());
        return Err(Failure::new(Exit::Usage, what).next(format!("chmod 600 {}", path.display())));
    }
    let text =
        bounded::read_secret(path, LIMIT_BYTES).map_err(|error| failed(path, "cannot read", &error))?;
    let file: NodeFile = toml::from_str(&text).map_err(|error| {
        // The parser's own words repeat the line, which may be that of a key.
        let place = error.span().map(|span| text[..span.start].lines().count().max(1)).unwrap_or(1);
        let what = format!("{} is no file of a node: see line {place}", path.display());
        Failure::new(Exit::Usage, what)
    })?;
    if file.version != VERSION {
        let what = format!("{} is of version {}, this command reads {VERSION}", path.display(), file.version);
        return Err(Failure::new(Exit::Usage, what));
    }
    Ok(file)
}

/// The folder with one file a node.
pub struct NodeFiles {
    folder: PathBuf,
}

impl NodeFiles {
    pub fn of_this_user() -> Result<Self, Failure> {
        Ok(Self { folder: config_folder()?.join("nodes") })
    }

    #[cfg(test)]
    fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub fn path(&self, node_id: &str) -> PathBuf {
        self.folder.join(format!("{node_id}.toml"))
    }

    /// None: there is no file of this node.
    pub fn read(&self, node_id: &str) -> Result<Option<NodeFile>, Failure> {
        let path = self.path(node_id);
        if matches!(fs::metadata(&path), Err(error) if error.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        let file = read_path(&path)?;
        if file.node_id != node_id {
            let what = format!("{} is of {}", path.display(), file.node_id);
            return Err(Failure::new(Exit::Usage, what));
        }
        Ok(Some(file))
    }

    /// Every file that can be read; of others only that they are there.
    pub fn all(&self) -> Result<Vec<NodeFile>, Failure> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&self.folder, "cannot list", &error)),
        };
        let mut files = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(node_id) = name.to_str().and_then(|name| name.strip_suffix(".toml")) else { continue };
            if let (false, Some(file)) = (node_id.starts_with('.'), self.read(node_id)?) {
                files.push(file);
            }
        }
        Ok(files)
    }

    /// Replaces the file: a crash leaves the old one or the new one.
    pub fn write(&self, file: &NodeFile) -> Result<PathBuf, Failure> {
        let path = self.path(&file.node_id);
        let text = file.to_text(&path)?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.and_then(|()| replace(&path, text.as_bytes()))
            .map_err(|error| failed(&path, "cannot write", &error))?;
        Ok(path)
    }

    /// After an enrollment that came to nothing.
    pub fn remove(&self, node_id: &str) -> Result<(), Failure> {
        let path = self.path(node_id);
        fs::remove_file(&path).map_err(|error| failed(&path, "cannot remove", &error))
    }
}

fn draft_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    path.with_file_name(format!(".{name}.{}.new", std::process::id()))
}

/// A crash leaves the old file or the new one.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = draft_of(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file
        .write_all(content)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&draft, path))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        // Gone already when the rename went through.
        let _ = fs::remove_file(&draft);
    }
    written
}

fn failed(path: &Path, doing: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Usage, format!("{doing} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> NodeFile {
        let operator = PrivateKey::generate();
        let node = PrivateKey::generate().public();
        NodeFile::new(
            Ipv4Addr::new(192, 0, 2, 7),
            "10.0.0.1/24".parse().unwrap(),
            (node, 51820),
            Address::from_bytes([7; 20]),
            (&operator, "10.0.0.254/24".parse().unwrap()),
        )
    }

    #[test]
    fn written_and_read_with_a_private_mode() {
        let folder = tempfile::tempdir().unwrap();
        let files = NodeFiles::at(&folder.path().join("nodes"));
        assert!(files.read("node-10.0.0.1").unwrap().is_none());
        assert!(files.all().unwrap().is_empty());
        let mut file = file();
        let path = files.write(&file).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(files.read("node-10.0.0.1").unwrap().unwrap().token().is_err());

        file.agent_token = Some(Redacted::new("ab".repeat(32)));
        files.write(&file).unwrap();
        let again = files.read("node-10.0.0.1").unwrap().unwrap();
        assert_eq!(again.token().unwrap().expose(), "ab".repeat(32));
        assert_eq!(*again.operator_key().unwrap().expose(), *file.operator_key().unwrap().expose());
        assert_eq!(again.endpoint().to_string(), "192.0.2.7:51820");
        assert_eq!(files.all().unwrap().len(), 1);
        let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "a draft was left behind: {left:?}");
    }

    #[test]
    fn a_file_that_others_can_read_or_that_is_none_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let files = NodeFiles::at(folder.path());
        let path = files.write(&file()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = files.read("node-10.0.0.1").err().unwrap().to_string();
        assert!(error.contains("0640") && error.contains("chmod 600"), "{error}");

        fs::write(&path, "version = 1\nagent_token = s3cret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = files.read("node-10.0.0.1").err().unwrap().to_string();
        assert!(error.contains("line") && !error.contains("s3cret"), "{error}");
        fs::write(&path, [b'#'; 20_000]).unwrap();
        assert!(files.read("node-10.0.0.1").err().unwrap().to_string().contains("longer than"));
    }

    #[test]
    fn a_recovery_file_is_written_once_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept.toml");
        let mut file = file();
        file.recovery = Some(SealedKey { volume: "v".into(), sealed_key: "aa".into() });
        file.write_to(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = read_path(&path).unwrap();
        assert_eq!(again.recovery.unwrap().sealed_key, "aa");
        let error = file.write_to(&path).err().unwrap().to_string();
        assert!(error.contains("already"), "{error}");
        assert!(NodeFile::refuse_unwritable(&folder.path().join("nowhere/file")).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a draft was left behind");
        assert!(read_path(&folder.path().join("other")).is_err());
    }
}
