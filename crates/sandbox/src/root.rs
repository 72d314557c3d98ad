//! What the service sees as its file system: one private read-only root with mount points, and detached mounts
//! to be put on them. Everything is built here in the parent; the child only moves them into place.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::socket::sockopt::PassCred;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mknodat, stat};
use nix::unistd::symlinkat;
use orama_policy::{Device, Readiness, Spec};

use crate::error::{PrepareError, SpawnError, Stage};
use crate::landlock::Rights;
use crate::sys::{self, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};

/// What a program may read of /etc without being listed: names, hosts, zone, certificates; no secrets.
const PUBLIC_ETC: [&str; 7] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/localtime",
    "/etc/ssl/certs",
];
/// Where a dynamic program's loader and libraries lie.
const LIBRARIES: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"];
/// The root holds directories and empty files only; this bounds a slip, in bytes.
const ROOT_BYTES: &CStr = c"1m";
/// Smallest page of a tmpfs inode budget: one inode per this many bytes of /tmp.
const TMP_BYTES_PER_INODE: u64 = 4096;

/// Where a service finds its notification socket.
pub(crate) const NOTIFY_SOCKET: &str = "/run/notify/socket";

/// Where the contents of a writable path lie on this machine.
pub(crate) fn backing(below: Option<&Path>, path: &Path) -> PathBuf {
    below.map_or_else(|| path.to_owned(), |below| below.join(relative(path)))
}

/// Where a program is shown: in its place, unless the sandbox has something of its own over that. Policies cannot
/// name such a path; who tries out a fresh build can.
pub(crate) fn binary_place(binary: &Path) -> PathBuf {
    let covered = ["/tmp", "/dev", "/proc"].iter().any(|own| binary.starts_with(own));
    match binary.file_name().filter(|_| covered) {
        Some(name) => Path::new("/usr/local/bin").join(name),
        None => binary.to_owned(),
    }
}

/// Something of the host's at a place in the new root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub path: PathBuf,
    /// The path relative to the new root.
    place: CString,
    /// On this machine; nearly always the same as the path.
    source: PathBuf,
    rights: Rights,
    /// No component may be a symlink: for everything that a policy names.
    strict: bool,
}

/// What a service is shown, decided once: outer paths before inner ones.
#[derive(Debug)]
pub(crate) struct View {
    shown: Vec<Shown>,
    links: Vec<(PathBuf, PathBuf)>,
    devices: Vec<Device>,
    tmp_options: [(&'static CStr, CString); 5],
    notify: bool,
}

impl View {
    /// `binary` is what is started, mostly the policy's own, and is shown at [`binary_place`]; `data` as in
    /// [`backing`].
    pub(crate) fn new(
        spec: &Spec,
        binary: &Path,
        dynamic: bool,
        data: Option<&Path>,
    ) -> Result<View, PrepareError> {
        let mut view = View {
            shown: Vec::new(),
            links: Vec::new(),
            devices: spec.filesystem.devices.clone(),
            tmp_options: tmp_options(spec),
            notify: matches!(spec.readiness, Readiness::Notify { .. }),
        };
        let listed: BTreeSet<&PathBuf> =
            spec.filesystem.readable.iter().chain(&spec.filesystem.writable).collect();
        for path in PUBLIC_ETC.iter().map(Path::new) {
            if path.exists() && !listed.iter().any(|listed| *listed == path) {
                view.show(path, path, Rights::Read, false)?;
            }
        }
        for path in LIBRARIES.iter().map(Path::new).filter(|_| dynamic) {
            match fs::read_link(path) {
                Ok(target) => view.links.push((path.to_owned(), target)),
                Err(_) if path.exists() => view.show(path, path, Rights::Execute, false)?,
                Err(_) => {}
            }
        }
        for path in &spec.filesystem.readable {
            view.show(path, path, Rights::Read, true)?;
        }
        for path in &spec.filesystem.writable {
            view.show(path, &backing(data, path), Rights::Write, true)?;
        }
        view.show(&binary_place(binary), binary, Rights::Execute, false)?;
        view.shown.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(view)
    }

    fn show(&mut self, path: &Path, source: &Path, rights: Rights, strict: bool) -> Result<(), PrepareError> {
        let place = CString::new(relative(path).as_os_str().as_bytes());
        let place = place.map_err(|_| PrepareError::Nul { what: "a path" })?;
        self.shown.push(Shown { path: path.to_owned(), place, source: source.to_owned(), rights, strict });
        Ok(())
    }

    /// Device and inode of everything shown: when they are the same, a start may show the same mounts.
    pub(crate) fn objects(&self) -> Result<Vec<(u64, u64)>, SpawnError> {
        let of = |shown: &Shown| match stat(&shown.source) {
            Ok(status) => Ok((status.st_dev, status.st_ino)),
            Err(errno) => Err(shown.failed(errno.into())),
        };
        self.shown.iter().map(of).collect()
    }

    /// Builds the mounts of a template.
    pub(crate) fn build(&self) -> Result<Root, SpawnError> {
        let skeleton = |source| SpawnError::parent(Stage::BuildRoot, None, source);
        let root = sys::tmpfs(
            &[(c"mode", c"0755"), (c"size", ROOT_BYTES)],
            MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
        )
        .map_err(skeleton)?;
        for name in ["proc", "dev", "tmp"] {
            directories(root.as_fd(), Path::new(name)).map_err(skeleton)?;
        }
        let mut mounts = Vec::with_capacity(self.shown.len() + 1);
        let mut rights = Vec::with_capacity(self.shown.len() + 1);
        for shown in &self.shown {
            let (mount, status) = shown.clone_mount().map_err(|source| shown.failed(source))?;
            mount_point(root.as_fd(), &shown.path, &status).map_err(|source| shown.failed(source))?;
            rights.push((shown.rights, status.st_mode & libc::S_IFMT == libc::S_IFREG));
            mounts.push(mount);
        }
        for (place, target) in &self.links {
            link(root.as_fd(), place, target).map_err(skeleton)?;
        }
        let notify = match self.notify {
            true => Some(notify_socket(root.as_fd()).map_err(skeleton)?),
            false => None,
        };
        mounts.push(self.build_dev().map_err(|source| SpawnError::parent(Stage::BuildDev, None, source))?);
        rights.push((Rights::Devices, false));
        sys::set_mount_attributes(root.as_fd(), MOUNT_ATTR_RDONLY, 0).map_err(skeleton)?;
        Ok(Root { root, mounts, rights, notify })
    }

    /// The private /tmp of one start.
    pub(crate) fn build_tmp(&self) -> Result<OwnedFd, SpawnError> {
        let options: Vec<(&CStr, &CStr)> =
            self.tmp_options.iter().map(|(key, value)| (*key, value.as_c_str())).collect();
        sys::tmpfs(&options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
            .map_err(|source| SpawnError::parent(Stage::BuildTmp, None, source))
    }

    /// The places of [`Root::mounts`], relative to the new root and in the same order.
    pub(crate) fn places(&self) -> impl Iterator<Item = &CStr> {
        self.shown.iter().map(|shown| shown.place.as_c_str()).chain([c"dev"])
    }

    fn build_dev(&self) -> io::Result<OwnedFd> {
        let dev =
            sys::tmpfs(&[(c"mode", c"0755"), (c"size", ROOT_BYTES)], MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)?;
        for device in &self.devices {
            let mode = Mode::from_bits_truncate(0o666);
            mknodat(dev.as_fd(), device.name(), SFlag::S_IFCHR, mode, device_number(*device))?;
            // mknod goes through our umask.
            nix::sys::stat::fchmodat(
                dev.as_fd(),
                device.name(),
                mode,
                nix::sys::stat::FchmodatFlags::FollowSymlink,
            )?;
        }
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            symlinkat(target, dev.as_fd(), name)?;
        }
        sys::set_mount_attributes(dev.as_fd(), MOUNT_ATTR_RDONLY, 0)?;
        Ok(dev)
    }
}

impl Shown {
    fn failed(&self, source: io::Error) -> SpawnError {
        SpawnError::parent(Stage::ShowPath, Some(self.source.display().to_string()), source)
    }

    fn clone_mount(&self) -> io::Result<(OwnedFd, FileStat)> {
        let object = sys::open_path(&self.source, self.strict)?;
        let status = fstat(object.as_fd())?;
        let kind = status.st_mode & libc::S_IFMT;
        if kind != libc::S_IFDIR && kind != libc::S_IFREG {
            return Err(io::Error::other("neither a directory nor a regular file"));
        }
        let mount = sys::clone_mount(object.as_fd())?;
        let quiet = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
        let attributes = match self.rights {
            Rights::Execute => quiet | MOUNT_ATTR_RDONLY,
            Rights::Write => quiet | MOUNT_ATTR_NOEXEC,
            Rights::Read | Rights::Devices => quiet | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY,
        };
        sys::set_mount_attributes(mount.as_fd(), attributes, 0)?;
        Ok((mount, status))
    }
}

/// The mounts of a template; dropping them unmounts what was not moved.
pub(crate) struct Root {
    pub root: OwnedFd,
    pub mounts: Vec<OwnedFd>,
    /// For Landlock, of each mount, and whether it is a file.
    rights: Vec<(Rights, bool)>,
    /// The receiving end of [`NOTIFY_SOCKET`].
    pub notify: Option<OwnedFd>,
}

impl Root {
    /// What the Landlock domain of a start grants. Everything shown may be read: the root says so for all.
    pub(crate) fn rights<'a>(
        &'a self,
        tmp: &'a OwnedFd,
    ) -> impl Iterator<Item = (BorrowedFd<'a>, Rights, bool)> {
        let own = [(self.root.as_fd(), Rights::Read, false), (tmp.as_fd(), Rights::Write, false)];
        let shown = self.mounts.iter().zip(&self.rights).filter(|(_, (rights, _))| *rights != Rights::Read);
        shown.map(|(mount, (rights, is_file))| (mount.as_fd(), *rights, *is_file)).chain(own)
    }
}

/// Binds the notification socket in the new root. Its messages carry the sender's credentials.
fn notify_socket(root: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let place = relative(Path::new(NOTIFY_SOCKET));
    directories(root, place.parent().unwrap_or(Path::new("")))?;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // Before anything can be sent.
    setsockopt(&socket, PassCred, &true)?;
    // The root is mounted nowhere yet: its descriptor is the only way to it.
    let through = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd())).join(place);
    bind(socket.as_raw_fd(), &UnixAddr::new(&through)?)?;
    let mode = Mode::from_bits_truncate(0o666);
    nix::sys::stat::fchmodat(root, place, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)?;
    Ok(socket)
}

fn tmp_options(spec: &Spec) -> [(&'static CStr, CString); 5] {
    let number = |value: u64| CString::new(value.to_string()).expect("digits have no NUL");
    let bytes = spec.filesystem.tmp_bytes;
    [
        (c"mode", CString::from(c"0700")),
        (c"uid", number(spec.uid.into())),
        (c"gid", number(spec.gid.into())),
        (c"size", number(bytes)),
        (c"nr_inodes", number((bytes / TMP_BYTES_PER_INODE).max(64))),
    ]
}

fn device_number(device: Device) -> libc::dev_t {
    // Linux's registered numbers of the memory devices (Documentation/admin-guide/devices.txt).
    libc::makedev(
        1,
        match device {
            Device::Null => 3,
            Device::Zero => 5,
            Device::Full => 7,
            Device::Random => 8,
            Device::Urandom => 9,
        },
    )
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Makes the empty file or directory to mount on, unless an outer mount will bring it.
fn mount_point(root: BorrowedFd<'_>, path: &Path, status: &FileStat) -> io::Result<()> {
    let place = relative(path);
    if status.st_mode & libc::S_IFMT == libc::S_IFDIR {
        return directories(root, place);
    }
    directories(root, place.parent().unwrap_or(Path::new("")))?;
    let flags = OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_RDONLY;
    openat(root, place, flags, Mode::from_bits_truncate(0o444))?;
    Ok(())
}

fn directories(root: BorrowedFd<'_>, place: &Path) -> io::Result<()> {
    let mut here = PathBuf::new();
    for component in place.components() {
        here.push(component);
        match nix::sys::stat::mkdirat(root, &here, Mode::from_bits_truncate(0o755)) {
            Ok(()) => {
                let mode = Mode::from_bits_truncate(0o755);
                nix::sys::stat::fchmodat(root, &here, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)?;
            }
            Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn link(root: BorrowedFd<'_>, place: &Path, target: &Path) -> io::Result<()> {
    let place = relative(place);
    directories(root, place.parent().unwrap_or(Path::new("")))?;
    match symlinkat(target, root, place) {
        // A path that the policy shows lies below it: that made a real directory here.
        Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
