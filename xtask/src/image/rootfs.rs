//! The root file system: lays out the tree that `listing` allows, packs it as SquashFS and appends the
//! verity hash tree. The list of what may be in it lives in `listing`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::BUILD_TIME;
use super::elf::{self, ElfError};
use super::inputs::ImageOptions;
use super::listing::{FOLDERS, LIBRARY_FOLDER, LINKS};
use super::manifest::hex;
use super::tool::{ToolError, run, tool};

const BLOCK_BYTES: u64 = 4096;

/// Programs of the build machine that an image carries, and where.
const DEBIAN_PROGRAMS: [(&str, &str); 2] =
    [("/usr/sbin/cryptsetup", "usr/sbin/cryptsetup"), ("/usr/sbin/mke2fs", "usr/sbin/mkfs.ext4")];

/// Loaded by name at run time, so no program lists it as needed.
const LOADED_BY_NAME: [&str; 1] = ["libgcc_s.so.1"];

/// Configuration that is the same on every node, below image/ and below /etc/orama/.
const SERVICE_FILES: [&str; 2] = ["coredns/Corefile", "olric/olric.yaml"];

const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

const HOST_LIBRARY_FOLDERS: [&str; 2] = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"];

const OS_RELEASE: &str = include_str!("../../../image/os-release");

#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    #[error("cannot copy {} to {}", from.display(), to.display())]
    Copy { from: PathBuf, to: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no program we can ship", path.display())]
    Program { path: PathBuf, source: ElfError },
    #[error("no library {name} on this machine")]
    NoLibrary { name: String },
    #[error("cannot pack the tree")]
    Pack(#[source] ToolError),
    #[error("cannot make the hash tree")]
    Verity(#[source] ToolError),
    #[error("veritysetup named no root hash")]
    NoRootHash,
}

/// What goes in beside the fixed files.
pub struct Tree<'a> {
    pub options: &'a ImageOptions,
    pub agent: &'a Path,
    pub binaries: &'a [PathBuf],
}

/// A packed root file system and what opens it.
pub struct Verified {
    pub root_hash: String,
    pub salt: String,
    pub data_blocks: u64,
    /// Packed size of everything but /opt/orama/bin.
    pub bytes_without_services: u64,
}

/// The text of /etc/os-release and of the UKI's .osrel section. systemd-boot sorts by IMAGE_VERSION.
pub fn os_release(version: &str) -> String {
    OS_RELEASE.replace("@VERSION@", version)
}

/// Packs the tree into `to` with its hash tree behind.
pub fn make(tree: &Tree<'_>, work: &Path, to: &Path) -> Result<Verified, RootfsError> {
    let root = work.join("rootfs");
    tree.lay_out(&root)?;
    let bare = work.join("without-services.squashfs");
    pack(&root, &bare, &["-e", "opt/orama/bin"])?;
    let bytes_without_services = size(&bare)?;
    Ok(Verified { bytes_without_services, ..pack_and_hash(&root, to)? })
}

/// Packs a tree as it is.
pub(super) fn pack_and_hash(root: &Path, to: &Path) -> Result<Verified, RootfsError> {
    pack(root, to, &[])?;
    let bytes = fs::read(to).map_err(|source| RootfsError::Read { path: to.into(), source })?;
    let (root_hash, salt) = append_hash_tree(to, &bytes)?;
    let data_blocks = bytes.len() as u64 / BLOCK_BYTES;
    Ok(Verified { root_hash, salt, data_blocks, bytes_without_services: bytes.len() as u64 })
}

impl Tree<'_> {
    fn lay_out(&self, root: &Path) -> Result<(), RootfsError> {
        for folder in [""].iter().chain(FOLDERS) {
            let path = root.join(folder);
            let made = fs::create_dir_all(&path)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
            made.map_err(|source| RootfsError::Write { path, source })?;
        }
        for (link, target) in LINKS {
            let path = root.join(link);
            symlink(target, &path).map_err(|source| RootfsError::Write { path, source })?;
        }
        self.programs(root)?;
        self.configuration(root)
    }

    fn programs(&self, root: &Path) -> Result<(), RootfsError> {
        install_program(self.agent, &root.join("sbin/orama-agent"))?;
        for binary in self.binaries {
            install_program(
                binary,
                &root.join("opt/orama/bin").join(binary.file_name().unwrap_or_default()),
            )?;
        }
        let mut wanted: BTreeSet<String> = LOADED_BY_NAME.map(String::from).into();
        for (from, to) in DEBIAN_PROGRAMS {
            let elf = install_program(from.as_ref(), &root.join(to))?;
            wanted.extend(elf.needed);
            if let Some(loader) = elf.interpreter {
                install(loader.as_ref(), &root.join(loader.trim_start_matches('/')), 0o755)?;
            }
        }
        install_libraries(wanted, &root.join(LIBRARY_FOLDER))
    }

    fn configuration(&self, root: &Path) -> Result<(), RootfsError> {
        let fixed = self.options.workspace.join("image");
        for name in ["passwd", "group", "hosts"] {
            install(&fixed.join(name), &root.join("etc").join(name), 0o644)?;
        }
        install(CERTIFICATES.as_ref(), &root.join(CERTIFICATES.trim_start_matches('/')), 0o644)?;
        let os_release_path = root.join("etc/os-release");
        write(&os_release_path, &os_release(&self.options.version))?;
        let orama = root.join("etc/orama");
        install(&self.options.agent_toml_file(), &orama.join("agent.toml"), 0o644)?;
        let gateway = self.options.gateway_toml.clone();
        let gateway =
            gateway.unwrap_or_else(|| self.options.workspace.join("cluster/gateway/node-gateway.toml"));
        install(&gateway, &orama.join("gateway.toml"), 0o644)?;
        if let Some(authority) = &self.options.gateway_ca {
            install(authority, &orama.join("gateway-ca.pem"), 0o644)?;
        }
        for file in SERVICE_FILES {
            install(&fixed.join(file), &orama.join(file), 0o644)?;
        }
        let policies = self.options.policies_folder();
        install_policies(&policies, &orama.join("policies"))?;
        install_policies(&policies.join("sets"), &orama.join("policies/sets"))
    }
}

fn install(from: &Path, to: &Path, mode: u32) -> Result<(), RootfsError> {
    fs::copy(from, to)
        .and_then(|_| fs::set_permissions(to, fs::Permissions::from_mode(mode)))
        .map_err(|source| RootfsError::Copy { from: from.into(), to: to.into(), source })
}

fn write(path: &Path, text: &str) -> Result<(), RootfsError> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o644)))
        .map_err(|source| RootfsError::Write { path: path.into(), source })
}

/// A script would need an interpreter that an image does not have: only ELF files are programs.
fn install_program(from: &Path, to: &Path) -> Result<elf::Elf, RootfsError> {
    let elf = elf::read(from).map_err(|source| RootfsError::Program { path: from.into(), source })?;
    install(from, to, 0o755)?;
    Ok(elf)
}

/// The libraries and, in turn, theirs. The loader itself is listed as a library by some of them.
fn install_libraries(mut wanted: BTreeSet<String>, folder: &Path) -> Result<(), RootfsError> {
    let mut done = BTreeSet::new();
    while let Some(name) = wanted.pop_first() {
        if name.starts_with("ld-linux") || !done.insert(name.clone()) {
            continue;
        }
        let found = HOST_LIBRARY_FOLDERS
            .iter()
            .map(|folder| Path::new(folder).join(&name))
            .find(|path| path.is_file());
        let Some(path) = found else {
            return Err(RootfsError::NoLibrary { name });
        };
        install(&path, &folder.join(&name), 0o644)?;
        wanted.extend(elf::read(&path).map_err(|source| RootfsError::Program { path, source })?.needed);
    }
    Ok(())
}

/// All `*.toml` of a folder; no folder means none.
fn install_policies(from: &Path, to: &Path) -> Result<(), RootfsError> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|source| RootfsError::Read { path: from.into(), source })?,
    };
    for entry in entries {
        let path = entry.map_err(|source| RootfsError::Read { path: from.into(), source })?.path();
        if path.is_file() && path.extension().is_some_and(|extension| extension == "toml") {
            install(&path, &to.join(path.file_name().unwrap_or_default()), 0o644)?;
        }
    }
    Ok(())
}

/// mksquashfs pads to 4096 bytes, which are verity's blocks too.
fn pack(root: &Path, to: &Path, more: &[&str]) -> Result<(), RootfsError> {
    let time = BUILD_TIME.to_string();
    let mut mksquashfs = tool("mksquashfs");
    // Level 15 packs within one percent of 19 in a third of the time. It refuses to have times given twice.
    mksquashfs.env_remove("SOURCE_DATE_EPOCH").arg(root).arg(to);
    mksquashfs.args(["-comp", "zstd", "-Xcompression-level", "15", "-b", "131072"]);
    mksquashfs.args(["-all-root", "-noappend", "-no-xattrs", "-no-progress", "-quiet"]);
    mksquashfs.args(["-all-time", &time, "-mkfs-time", &time]).args(more);
    run(&mut mksquashfs).map(|_| ()).map_err(RootfsError::Pack)
}

fn size(path: &Path) -> Result<u64, RootfsError> {
    fs::metadata(path)
        .map(|metadata| metadata.len())
        .map_err(|source| RootfsError::Read { path: path.into(), source })
}

/// Root hash and salt. The salt is the hash of the file system: it differs between images and is the same
/// for the same one.
fn append_hash_tree(path: &Path, squashfs: &[u8]) -> Result<(String, String), RootfsError> {
    let salt = hex(&Sha256::digest(squashfs));
    let blocks = squashfs.len() as u64 / BLOCK_BYTES;
    let uuid = super::disk::uuid_from("verity", &salt);
    let text = run(tool("veritysetup")
        .arg("format")
        .args([path, path])
        .arg(format!("--data-blocks={blocks}"))
        .arg(format!("--hash-offset={}", blocks * BLOCK_BYTES))
        .args(["--data-block-size=4096", "--hash-block-size=4096", "--hash=sha256"])
        .args([format!("--salt={salt}"), format!("--uuid={uuid}")]))
    .map_err(RootfsError::Verity)?;
    let hash = text.lines().find_map(|line| line.strip_prefix("Root hash:")).map(str::trim);
    match hash {
        Some(hash) if hash.len() == 64 => Ok((hash.to_owned(), salt)),
        _ => Err(RootfsError::NoRootHash),
    }
}
