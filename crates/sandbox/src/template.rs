//! The mount namespace of a service, put together once: each start copies it with one clone and adds a fresh /tmp.
//! A start would else build and move a dozen mounts, and detach all of the host's, which waits for every CPU.
//!
//! Only for the spawning thread, which has a root and working directory of its own to change.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{chroot, fchdir, pivot_root};

use crate::error::{SpawnError, Stage};
use crate::root::{Root, View};
use crate::sys;

/// A directory that every system has, over which the new root is mounted for a moment, in a namespace where
/// nobody else is.
const STAGING: &CStr = c"/tmp";
pub(crate) const PROC_OPTIONS: &CStr = c"subset=pid,hidepid=invisible";
pub(crate) const PROC_FLAGS: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// A service's namespace. Dropping it unmounts it, unless a start still uses a copy.
pub(crate) struct Template {
    namespace: OwnedFd,
    pub root: Root,
    /// Device and inode of everything shown, in the view's order.
    objects: Vec<(u64, u64)>,
}

/// Where the spawning thread lives between starts.
struct Home {
    namespace: File,
    root: OwnedFd,
}

/// The spawning thread gets a root and working directory apart from the other threads', and a way back home.
fn home() -> io::Result<&'static Home> {
    static HOME: OnceLock<Home> = OnceLock::new();
    if let Some(home) = HOME.get() {
        return Ok(home);
    }
    unshare(CloneFlags::CLONE_FS)?;
    let namespace = File::open("/proc/thread-self/ns/mnt")?;
    let root = sys::open_path(Path::new("/"), false)?;
    Ok(HOME.get_or_init(|| Home { namespace, root }))
}

/// Brings the thread home when dropped.
pub(crate) struct Away(&'static Home);

impl Drop for Away {
    fn drop(&mut self) {
        let back = || -> io::Result<()> {
            setns(&self.0.namespace, CloneFlags::CLONE_NEWNS)?;
            fchdir(&self.0.root)?;
            chroot(".")?;
            Ok(())
        };
        // Where it is now there is next to nothing: if this fails, every later start fails to find its paths.
        let _later_starts_fail = back();
    }
}

impl Template {
    /// Builds the namespace; the thread is home again afterwards.
    pub(crate) fn build(view: &View, own_proc: bool) -> Result<Template, SpawnError> {
        let at = |stage: Stage, object: Option<String>| {
            move |source: io::Error| SpawnError::parent(stage, object, source)
        };
        let home = home().map_err(at(Stage::Namespace, None))?;
        let objects = view.objects()?;
        let root = view.build()?;
        let _away = Away(home);
        unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| at(Stage::Namespace, None)(errno.into()))?;
        let none = None::<&CStr>;
        mount(none, c"/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .map_err(|errno| at(Stage::Private, None)(errno.into()))?;
        let staging = Some(STAGING.to_string_lossy().into_owned());
        sys::move_mount(root.root.as_fd(), None, STAGING).map_err(at(Stage::AttachRoot, staging))?;
        for (mounted, place) in root.mounts.iter().zip(view.places()) {
            let object = Some(format!("/{}", place.to_string_lossy()));
            sys::move_mount(mounted.as_fd(), Some(root.root.as_fd()), place)
                .map_err(at(Stage::AttachPath, object))?;
        }
        fchdir(&root.root).map_err(|errno| at(Stage::EnterRoot, None)(errno.into()))?;
        if !own_proc {
            mount(Some(c"proc"), c"proc", Some(c"proc"), PROC_FLAGS, Some(PROC_OPTIONS))
                .map_err(|errno| at(Stage::Proc, None)(errno.into()))?;
        }
        // Old root on top of the new one, then off: no directory for it is needed.
        let namespace = File::open("/proc/thread-self/ns/mnt").map_err(at(Stage::Namespace, None))?;
        pivot_root(".", ".").map_err(|errno| at(Stage::Pivot, None)(errno.into()))?;
        umount2(".", MntFlags::MNT_DETACH).map_err(|errno| at(Stage::DetachOld, None)(errno.into()))?;
        Ok(Template { namespace: namespace.into(), root, objects })
    }

    /// Whether everything shown is still what it was when this was built.
    pub(crate) fn is_current(&self, view: &View) -> bool {
        view.objects().is_ok_and(|objects| objects == self.objects)
    }

    /// Takes the thread into the namespace, at its root, until the result is dropped: a clone copies it.
    pub(crate) fn enter(&self) -> io::Result<Away> {
        let away = Away(home()?);
        setns(&self.namespace, CloneFlags::CLONE_NEWNS)?;
        Ok(away)
    }
}
