//! `cargo xtask image`: the GPT disk image of a node, built without root, loop devices or device-mapper,
//! byte for byte the same from the same inputs. This file is the order of the steps and what they share;
//! it does not know how any of them works.

mod agent_toml;
mod disk;
mod elf;
mod initramfs;
mod inputs;
mod kernel;
pub mod listing;
mod manifest;
pub mod packages;
mod profiles;
mod programs;
mod rootfs;
mod services;
mod tool;
mod uki;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub use inputs::{ImageArguments, ImageOptions};
pub use manifest::Artifact;

/// Every time stamp in an image: 2026-01-01T00:00:00Z, in seconds since 1970.
const BUILD_TIME: u64 = 1_767_225_600;

/// The agent, the tools it runs and their libraries: what every node carries before any service.
const ROOTFS_WITHOUT_SERVICES_LIMIT_BYTES: u64 = 16 << 20;

/// A finished image and the parts it was made of.
#[derive(Debug, Clone)]
pub struct Image {
    pub version: String,
    /// Folder of everything below.
    pub folder: PathBuf,
    /// The GPT disk, raw and sparse.
    pub disk: PathBuf,
    pub qcow2: Option<PathBuf>,
    /// SquashFS with the verity tree behind it, as it lies in slot A.
    pub rootfs: PathBuf,
    pub root_hash: String,
    /// Kernel, initramfs and command line of the UKI, for booting without firmware (`-kernel`).
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub uki: PathBuf,
    pub cmdline: String,
    /// Static `orama`, `orama-gateway` and `vault-guardian` for the hosts around nodes.
    pub host_programs: Vec<PathBuf>,
    /// Sizes and digests, as in manifest.json.
    pub artifacts: Vec<Artifact>,
    /// What a builder should know, for example that the pinned kernel is gone.
    pub notes: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    Inputs(#[from] inputs::InputsError),
    #[error("{}", packages::describe(.0))]
    PackagesMissing(Vec<packages::Missing>),
    #[error("cannot build the programs of the image")]
    Programs(#[from] programs::ProgramsError),
    #[error("cannot tell which programs the profiles name")]
    Profiles(#[from] profiles::ProfilesError),
    #[error("cannot build the services of the image")]
    Services(#[from] services::ServicesError),
    #[error("cannot prepare the kernel")]
    Kernel(#[from] kernel::KernelError),
    #[error("cannot make the root file system")]
    Rootfs(#[from] rootfs::RootfsError),
    #[error("root file system holds what it must not")]
    Listing(#[from] listing::ListingError),
    #[error(
        "root file system without services has {bytes} bytes, more than {ROOTFS_WITHOUT_SERVICES_LIMIT_BYTES}"
    )]
    RootfsTooLarge { bytes: u64 },
    #[error("cannot make the initramfs")]
    Initramfs(#[from] initramfs::InitramfsError),
    #[error("cannot make the unified kernel image")]
    Uki(#[from] uki::UkiError),
    #[error("cannot make the disk")]
    Disk(#[from] disk::DiskError),
    #[error("cannot write the manifest")]
    Manifest(#[from] manifest::ManifestError),
    #[error("cannot prepare {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
}

/// `cargo xtask image`: builds and says what came out.
pub fn run(options: &ImageOptions) -> Result<(), ImageError> {
    let image = build(options)?;
    print!("{}", manifest::table(&image.artifacts));
    for note in &image.notes {
        println!("note: {note}");
    }
    println!("root hash {}", image.root_hash);
    for path in [Some(&image.disk), image.qcow2.as_ref()].into_iter().flatten() {
        println!("{}", path.display());
    }
    Ok(())
}

/// Builds the image that `options` describe. Unchanged programs and services are not built again.
pub fn build(options: &ImageOptions) -> Result<Image, ImageError> {
    let missing = packages::missing();
    if !missing.is_empty() {
        return Err(ImageError::PackagesMissing(missing));
    }
    options.validate()?;
    let out = options.out_folder();
    let work = out.join("work");
    prepare(&out, &work)?;
    let mut steps = Steps::start();

    let programs = programs::build(&options.workspace, &options.cache_folder())?;
    steps.done("programs");
    let wanted = profiles::programs(&options.policies_folder())?;
    let mut binaries = programs.service_binaries();
    binaries.retain(|path| wanted.contains(&profiles::program_name(path)));
    let for_tests = wanted.contains(programs::ABUSER);
    if for_tests {
        binaries.push(programs::build_abuser(&options.workspace, &options.cache_folder())?);
    }
    if options.with_services {
        binaries.extend(services::build(&options.workspace, &options.cache_folder(), &wanted)?);
        steps.done("services");
    }
    let kernel = kernel::prepare(&options.cache_folder())?;
    steps.done("kernel");

    let tree = rootfs::Tree { options, agent: &programs.agent, binaries: &binaries };
    let rootfs = out.join("rootfs.squashfs");
    let verified = rootfs::make(&tree, &work, &rootfs)?;
    match for_tests {
        true => listing::check_with(&rootfs, programs::ABUSER)?,
        false => listing::check(&rootfs)?,
    }
    if verified.bytes_without_services > ROOTFS_WITHOUT_SERVICES_LIMIT_BYTES {
        return Err(ImageError::RootfsTooLarge { bytes: verified.bytes_without_services });
    }
    steps.done("root file system");

    let initrd = out.join("initrd");
    initramfs::make(&programs.init, &kernel, None, &initrd)?;
    let cmdline = uki::command_line(&verified);
    let parts = uki::Parts {
        os_release: &rootfs::os_release(&options.version),
        cmdline: &cmdline,
        kernel: &kernel,
        initrd: &initrd,
    };
    let uki = out.join(format!("oramaos-{}.efi", options.version));
    uki::make(&parts, &work, &uki)?;
    let kernel_copy = out.join("kernel");
    copy(&kernel.vmlinuz, &kernel_copy)?;
    let cmdline_file = out.join("cmdline");
    fs::write(&cmdline_file, &cmdline).map_err(|source| ImageError::Folder { path: cmdline_file, source })?;
    steps.done("unified kernel image");

    let disk = out.join(format!("oramaos-v{}-amd64.img", options.version));
    let contents =
        disk::Contents { version: &options.version, rootfs: &rootfs, uki: &uki, data_mib: options.data_mib };
    disk::make(&contents, &disk)?;
    let qcow2 = if options.qcow2 { Some(disk::to_qcow2(&disk)?) } else { None };
    steps.done("disk");

    let mut notes = kernel.notes;
    if options.agent_toml.is_none() {
        notes.push(
            "built without --agent-toml: the image boots, but there is no gateway it could enrol with".into(),
        );
    }
    let mut image = Image {
        version: options.version.clone(),
        folder: out,
        disk,
        qcow2,
        rootfs,
        root_hash: verified.root_hash,
        kernel: kernel_copy,
        initrd,
        uki,
        cmdline,
        host_programs: programs.host_programs(),
        artifacts: Vec::new(),
        notes,
    };
    image.artifacts = manifest::write(&image, &binaries, &programs.agent, verified.bytes_without_services)?;
    Ok(image)
}

/// One service's program, built as for an image.
pub fn service_for_bench(workspace: &Path, target: &Path, binary: &str) -> Result<PathBuf, ImageError> {
    let built = services::build(workspace, &target.join("image/cache"), &[binary.to_owned()].into())?;
    built.into_iter().next().ok_or_else(|| ImageError::Folder {
        path: workspace.join("services"),
        source: io::Error::other(format!("no service has a program `{binary}`")),
    })
}

/// An initramfs that opens the data volume with `key` and powers off: what the boot benchmark compares a
/// node with. Boots with the kernel and command line of the image.
pub fn floor_initrd(options: &ImageOptions, key: &Path, to: &Path) -> Result<(), ImageError> {
    let init = programs::build_floor_init(&options.workspace, &options.cache_folder())?;
    let kernel = kernel::prepare(&options.cache_folder())?;
    initramfs::make(&init, &kernel, Some(key), to)?;
    Ok(())
}

fn prepare(out: &Path, work: &Path) -> Result<(), ImageError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| ImageError::Folder { path, source }
    };
    match fs::remove_dir_all(work) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(work)(error)),
        _ => {}
    }
    fs::create_dir_all(out).map_err(failed(out))?;
    fs::create_dir_all(work).map_err(failed(work))
}

fn copy(from: &Path, to: &Path) -> Result<(), ImageError> {
    fs::copy(from, to).map(|_| ()).map_err(|source| ImageError::Folder { path: to.into(), source })
}

/// Tells a builder where the time goes.
struct Steps {
    last: Instant,
}

impl Steps {
    fn start() -> Steps {
        Steps { last: Instant::now() }
    }

    fn done(&mut self, what: &str) {
        eprintln!("image: {what} in {:.1} s", self.last.elapsed().as_secs_f32());
        self.last = Instant::now();
    }
}

#[cfg(test)]
mod tests;
