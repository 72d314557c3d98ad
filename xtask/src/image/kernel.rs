//! The kernel of an image: Debian's cloud kernel, fetched as a package and unpacked, never installed here,
//! and the modules that a node needs, in the order in which they load.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::hex;
use super::tool::{ToolError, run, tool};

/// The pinned kernel. To move it: `apt-cache depends linux-image-cloud-amd64` names the package of today,
/// `apt-cache show` its version and SHA256; set the three here, build, and run the VM tests.
const PACKAGE: &str = "linux-image-6.1.0-56-cloud-amd64";
const VERSION: &str = "6.1.192-2";
const SHA256: &str = "e7d02b943971edcb8790e256c02cfab3bca6c3d37c1bf25392a57c71300615ee";

/// What Debian says is its newest cloud kernel; used when the mirror no longer has the pinned one.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// Modules that every node needs. Their dependencies come from modules.dep.
const REQUIRED: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "dm-verity",
    "squashfs",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "dm-crypt",
    "xts",
    // XTS is built on it where the CPU has no AES instructions.
    "ecb",
    "virtio_net",
    "wireguard",
    // Disk limits of services: ext4 loads it when the data volume is mounted.
    "quota_v2",
];

/// Modules for hardware or firmware that a machine may lack: they refuse to load there.
const OPTIONAL: &[&str] =
    &["efivarfs", "virtio_scsi", "sd_mod", "virtio_rng", "aesni-intel", "qemu_fw_cfg", "softdog", "i6300esb"];

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("cannot use {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot fetch a kernel package (is the package list up to date? `apt-get update`)")]
    Fetch(#[source] ToolError),
    #[error("{META_PACKAGE} names no kernel package")]
    Meta,
    #[error("{} has SHA-256 {found}, not the pinned {SHA256}", path.display())]
    Digest { path: PathBuf, found: String },
    #[error("cannot unpack the kernel package")]
    Unpack(#[source] ToolError),
    #[error("kernel package has no {what}")]
    Incomplete { what: &'static str },
    #[error("{} does not hold exactly one name", folder.display())]
    NotOne { folder: PathBuf },
    #[error("kernel has no module {name}")]
    NoModule { name: String },
}

/// An unpacked kernel.
pub struct Kernel {
    pub vmlinuz: PathBuf,
    /// What `uname -r` will say.
    pub release: String,
    /// In load order.
    pub modules: Vec<Module>,
    /// What a builder should know.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    pub path: PathBuf,
    pub optional: bool,
}

/// Fetches and unpacks the kernel unless the cache has it, and resolves the modules.
pub fn prepare(cache: &Path) -> Result<Kernel, KernelError> {
    let folder = cache.join("kernel");
    create(&folder)?;
    let (package, notes) = fetch(&folder)?;
    let tree = unpacked(&package)?;
    let release = only_name_in(&tree.join("lib/modules"))?;
    let modules_folder = tree.join("lib/modules").join(&release);
    let vmlinuz = tree.join("boot").join(format!("vmlinuz-{release}"));
    if !vmlinuz.is_file() {
        return Err(KernelError::Incomplete { what: "boot/vmlinuz" });
    }
    let read = |name: &str| {
        let path = modules_folder.join(name);
        fs::read_to_string(&path).map_err(|source| KernelError::File { path, source })
    };
    let modules = resolve(&read("modules.dep")?, &read("modules.builtin")?, REQUIRED, OPTIONAL)?
        .into_iter()
        .map(|module| Module { path: modules_folder.join(module.path), ..module })
        .collect();
    Ok(Kernel { vmlinuz, release, modules, notes })
}

fn create(path: &Path) -> Result<(), KernelError> {
    fs::create_dir_all(path).map_err(|source| KernelError::File { path: path.into(), source })
}

/// The pinned package, or with a note the one that apt offers.
fn fetch(folder: &Path) -> Result<(PathBuf, Vec<String>), KernelError> {
    let pinned = folder.join(format!("{PACKAGE}_{VERSION}_amd64.deb"));
    if !pinned.is_file() {
        match download(folder, &format!("{PACKAGE}={VERSION}"), &pinned) {
            Err(KernelError::Fetch(_)) => return fetch_offered(folder),
            other => other?,
        }
    }
    let bytes = fs::read(&pinned).map_err(|source| KernelError::File { path: pinned.clone(), source })?;
    match hex(&Sha256::digest(bytes)) {
        found if found == SHA256 => Ok((pinned, Vec::new())),
        found => Err(KernelError::Digest { path: pinned, found }),
    }
}

fn fetch_offered(folder: &Path) -> Result<(PathBuf, Vec<String>), KernelError> {
    let depends = run(tool("apt-cache").args(["depends", META_PACKAGE])).map_err(KernelError::Fetch)?;
    let package = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .ok_or(KernelError::Meta)?;
    let show =
        run(tool("apt-cache").args(["show", "--no-all-versions", package])).map_err(KernelError::Fetch)?;
    let version = show.lines().find_map(|line| line.strip_prefix("Version: ")).ok_or(KernelError::Meta)?;
    let path = folder.join(format!("{package}_{version}_amd64.deb"));
    if !path.is_file() {
        download(folder, &format!("{package}={version}"), &path)?;
    }
    let note = format!(
        "kernel {PACKAGE} {VERSION} is pinned but no longer offered; {package} {version} was used, so this \
         image differs from one built with the pin"
    );
    Ok((path, vec![note]))
}

/// Fetches one package as `to`. apt checks the archive's signature; a download cut short never gets the name.
fn download(folder: &Path, package: &str, to: &Path) -> Result<(), KernelError> {
    let fresh = folder.join("download");
    let _ = fs::remove_dir_all(&fresh);
    create(&fresh)?;
    run(tool("apt-get").current_dir(&fresh).args(["--quiet", "download", package]))
        .map_err(KernelError::Fetch)?;
    let fetched = fresh.join(only_name_in(&fresh)?);
    fs::rename(&fetched, to).map_err(|source| KernelError::File { path: to.into(), source })
}

/// The package's tree with modules.dep in it. A half unpacked tree is never seen: it gets its name last.
fn unpacked(package: &Path) -> Result<PathBuf, KernelError> {
    let tree = package.with_extension("tree");
    if tree.is_dir() {
        return Ok(tree);
    }
    let fresh = package.with_extension("unpacking");
    let _ = fs::remove_dir_all(&fresh);
    run(tool("dpkg").arg("-x").arg(package).arg(&fresh)).map_err(KernelError::Unpack)?;
    let release = only_name_in(&fresh.join("lib/modules"))?;
    if !fresh.join("lib/modules").join(&release).join("modules.dep").exists() {
        run(tool("depmod").arg("-b").arg(&fresh).arg(&release)).map_err(KernelError::Unpack)?;
    }
    fs::rename(&fresh, &tree).map_err(|source| KernelError::File { path: tree.clone(), source })?;
    Ok(tree)
}

fn only_name_in(folder: &Path) -> Result<String, KernelError> {
    let entries = fs::read_dir(folder).map_err(|source| KernelError::File { path: folder.into(), source })?;
    let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name),
        _ => Err(KernelError::NotOne { folder: folder.into() }),
    }
}

/// Load order for the wanted modules. What is built into the kernel needs no file; an optional module that
/// this kernel lacks is left out.
fn resolve(
    modules_dep: &str,
    builtin: &str,
    required: &[&str],
    optional: &[&str],
) -> Result<Vec<Module>, KernelError> {
    let mut order: Vec<Module> = Vec::new();
    let wanted = required.iter().map(|name| (*name, false)).chain(optional.iter().map(|name| (*name, true)));
    for (name, is_optional) in wanted {
        let Some((path, dependencies)) = modules_dep
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(path, _)| is_module(path, name))
        else {
            if is_optional || builtin.lines().any(|path| is_module(path, name)) {
                continue;
            }
            return Err(KernelError::NoModule { name: name.into() });
        };
        // modules.dep lists the module needed first last.
        for path in dependencies.split_whitespace().rev().chain([path]) {
            if !order.iter().any(|module| module.path == Path::new(path)) {
                order.push(Module { path: path.into(), optional: is_optional });
            }
        }
    }
    Ok(order)
}

/// Hyphen and underscore are the same in module names.
fn is_module(path: &str, name: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.strip_suffix(".ko").is_some_and(|stem| stem.replace('-', "_") == name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str =
        "k/a.ko: k/b.ko k/c_x.ko\nk/b.ko: k/c_x.ko\nk/c_x.ko:\nk/d.ko: k/c_x.ko k/e.ko\nk/e.ko:\n";

    fn names(required: &[&str], optional: &[&str]) -> Vec<String> {
        let mark = |module: Module| {
            let name = module.path.file_stem().unwrap().to_str().unwrap().to_owned();
            if module.optional { format!("?{name}") } else { name }
        };
        resolve(DEP, "k/built-in.ko\n", required, optional).unwrap().into_iter().map(mark).collect()
    }

    #[test]
    fn dependencies_come_first_and_once() {
        assert_eq!(names(&["a"], &[]), ["c_x", "b", "a"]);
        assert_eq!(names(&["b", "a", "c-x"], &[]), ["c_x", "b", "a"]);
    }

    #[test]
    fn what_only_an_optional_module_needs_is_optional() {
        assert_eq!(names(&["b"], &["d"]), ["c_x", "b", "?e", "?d"]);
    }

    #[test]
    fn only_required_modules_must_exist() {
        assert_eq!(names(&["built_in"], &["gone"]), [""; 0]);
        let error = resolve(DEP, "", &["gone"], &[]).unwrap_err();
        assert_eq!(error.to_string(), "kernel has no module gone");
    }
}
