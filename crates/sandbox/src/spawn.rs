//! One start: builds the mounts and the plan, makes the child, reads how far it came.
//!
//! All starts happen on one thread that lives as long as the process, because the death signal of a child fires
//! when the *thread* that made it ends, and callers sit on pools whose threads come and go.

use std::ffi::{CString, c_char, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::cgroup::Cgroup;
use crate::child::{self, Plan, Report};
use crate::error::{SpawnError, Stage};
use crate::prepare::{Prepared, Streams};
use crate::running::Running;
use crate::sys::{self, CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP, CloneArgs};
use crate::template::Template;
use crate::watch::Listener;
use nix::sys::socket::{MsgFlags, recv};
use orama_policy::Capability;

/// For the child's few frames, unoptimized ones included, in bytes; a guard page lies below.
const STACK_BYTES: usize = 64 * 1024;
const PAGE_BYTES: usize = 4096;
/// How long processes of an earlier start, killed already, may take to die before they fail the next start.
const LEFTOVERS_PATIENCE: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce() + Send>;

/// Runs `job` on the spawning thread and waits for its result.
pub(crate) fn on_spawner<T: Send>(job: impl FnOnce() -> T + Send) -> Result<T, SpawnError> {
    static SPAWNER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let gone = || SpawnError::parent(Stage::Nothing, None, io::Error::other("the spawning thread is gone"));
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        let spawner = std::thread::Builder::new().name("sandbox".to_owned());
        // Without the thread the sender is of no use, and every start says so.
        let _none_left = spawner.spawn(move || jobs.into_iter().for_each(|job| job()));
        Mutex::new(sender)
    });
    let mut result = None;
    let slot = &mut result;
    let (done, finished) = channel();
    let job: Box<dyn FnOnce() + Send + '_> = Box::new(move || {
        // A panic must not take the thread with it: all running services would die.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
        *slot = outcome.ok();
        // Nobody listening means that the caller is gone, and with it the interest.
        let _unheard = done.send(());
    });
    // SAFETY: only the lifetime is changed. The job borrows from this frame, and this function does not return
    // before the job has run or has been dropped: a failed send drops it with its error, and `recv` returns only
    // when `done`, which the job owns, has been used or dropped.
    let job: Job = unsafe { std::mem::transmute(job) };
    spawner.lock().unwrap_or_else(PoisonError::into_inner).send(job).map_err(|_| gone())?;
    finished.recv().map_err(|_| gone())?;
    result.ok_or_else(gone)
}

/// Starts the service; see [`Prepared::spawn`].
pub(crate) fn start(prepared: &Prepared, argv: &[CString], given: Streams) -> Result<Running, SpawnError> {
    let cgroup_failed = |source| {
        SpawnError::parent(Stage::Cgroup, Some(prepared.cgroup.path().display().to_string()), source)
    };
    if !emptied(&prepared.cgroup).map_err(cgroup_failed)? {
        let pids = prepared.cgroup.pids().map_err(cgroup_failed)?;
        let source = io::Error::from_raw_os_error(libc::EBUSY);
        return Err(SpawnError::parent(Stage::Leftovers, Some(format!("{pids:?}")), source));
    }
    // Opened each time: another `Prepared` of the service may have made it anew.
    let cgroup = prepared.cgroup.open().map_err(cgroup_failed)?;
    let mut template = prepared.template.lock().unwrap_or_else(PoisonError::into_inner);
    if !template.as_ref().is_some_and(|template| template.is_current(&prepared.view)) {
        *template = None;
        *template = Some(Template::build(&prepared.view, prepared.namespaces.pid)?);
    }
    let template = template.as_ref().ok_or_else(nothing)?;
    let tmp = prepared.view.build_tmp()?;
    let domain = prepared
        .fence
        .build(template.root.rights(&tmp))
        .map_err(|source| SpawnError::parent(Stage::BuildDomain, None, source))?;
    let notify = template.root.notify.as_ref().map(fresh).transpose();
    let notify = notify.map_err(|source| SpawnError::parent(Stage::Streams, None, source))?;
    let bounding = bounding_set().map_err(|source| SpawnError::parent(Stage::BoundingSet, None, source))?;
    let streams = |source| SpawnError::parent(Stage::Streams, None, source);
    let stdin = match given.stdin {
        Some(stdin) => stdin,
        None => File::open("/dev/null").map_err(streams)?.into(),
    };
    // Clear of 0 to 2, which the child overwrites one after the other.
    let stdio = [stdin, given.stdout, given.stderr].map(|fd| above_stdio(&fd));
    let [stdin, stdout, stderr] = stdio;
    let stdio = [stdin.map_err(streams)?, stdout.map_err(streams)?, stderr.map_err(streams)?];

    let argv = pointers(argv);
    let envp = pointers(&prepared.envp);
    let report = Report::default();
    let plan = Plan {
        hostname: prepared.hostname.as_deref(),
        own_network: prepared.namespaces.net,
        tmp: tmp.as_raw_fd(),
        own_proc: prepared.namespaces.pid,
        work_dir: &prepared.work_dir,
        stdio: stdio.each_ref().map(AsRawFd::as_raw_fd),
        rlimits: &prepared.rlimits,
        nofile: prepared.nofile.as_ref(),
        bounding,
        ambient: prepared.ambient,
        uid: prepared.uid,
        gid: prepared.gid,
        parent: if prepared.namespaces.pid { 0 } else { std::process::id() as i32 },
        landlock: domain.as_ref().map(AsRawFd::as_raw_fd),
        filter: prepared.filter.fprog(),
        filter_flags: listener_flags(),
        binary: &prepared.binary,
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        report: &report,
    };
    let (pid, pidfd) = clone(prepared, &plan, &cgroup, template)
        .map_err(|(stage, source)| SpawnError::parent(stage, None, source))?;
    // Whatever else has happened: the descriptor is in our table and nobody else's.
    let listener = report.listener.load(Ordering::Acquire);
    let listener = (listener > 0).then(|| Listener {
        // SAFETY: the child made it in the table that it shared with us and has left it there.
        fd: unsafe { OwnedFd::from_raw_fd(listener) },
        terms: Arc::clone(&prepared.terms),
    });
    let running = Running { pid, pidfd, cgroup: prepared.cgroup.clone(), listener, notify };
    match report.errno.load(Ordering::Acquire) {
        0 => Ok(running),
        errno => {
            // It has ended: reap it. Its exit status says no more than the report.
            let _status = running.wait_blocking();
            let stage = Stage::from_number(report.stage.load(Ordering::Relaxed));
            let object = prepared.object(stage, report.index.load(Ordering::Relaxed) as usize);
            Err(SpawnError::parent(stage, object, io::Error::from_raw_os_error(errno)))
        }
    }
}

/// With SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV where the kernel has it (Linux 5.19): a call that the watcher has
/// taken up is not torn out of its hands by signals, which Go sends itself all the time.
pub(crate) fn listener_flags() -> u32 {
    const WAIT_KILLABLE_RECV: u32 = 1 << 5;
    static FLAGS: OnceLock<u32> = OnceLock::new();
    *FLAGS.get_or_init(|| {
        let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
        let both = listener | WAIT_KILLABLE_RECV;
        // SAFETY: without a program nothing is installed: EFAULT from a kernel that knows the flags, else EINVAL.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, both, std::ptr::null::<c_void>())
        };
        let known = result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT);
        if known { both } else { listener }
    })
}

fn nothing() -> SpawnError {
    SpawnError::parent(Stage::Namespace, None, io::Error::other("there is no template"))
}

/// The notification socket without what an earlier start has left in it.
fn fresh(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut message = [0; 16];
    // It ends: nobody sends while nothing of the service runs.
    while recv(socket.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT).is_ok() {}
    socket.try_clone()
}

/// The capabilities that a policy can name. The spawning thread drops all others from its own bounding set, once,
/// so that its children need not: the set only matters at execve, and this thread makes none.
fn bounding_set() -> io::Result<&'static [u32]> {
    static REST: OnceLock<Vec<u32>> = OnceLock::new();
    if let Some(rest) = REST.get() {
        return Ok(rest);
    }
    // The kernel knows more or fewer than we were compiled with; the set must lose all of them.
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")?;
    let last: u32 = last.trim().parse().map_err(io::Error::other)?;
    let known: Vec<u32> = Capability::all().map(Capability::number).collect();
    for capability in (0..=last).filter(|capability| !known.contains(capability)) {
        // SAFETY: numbers only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(REST.get_or_init(|| known.into_iter().filter(|capability| *capability <= last).collect()))
}

/// Waits for what was killed a moment ago; kills nothing, for it may be a service that runs well.
fn emptied(cgroup: &Cgroup) -> io::Result<bool> {
    let deadline = Instant::now() + LEFTOVERS_PATIENCE;
    while cgroup.is_populated()? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(true)
}

impl Prepared {
    /// What the child was at, in words.
    fn object(&self, stage: Stage, index: usize) -> Option<String> {
        match stage {
            Stage::WorkDir => Some(self.work_dir.to_string_lossy().into_owned()),
            Stage::Exec => Some(self.binary.to_string_lossy().into_owned()),
            Stage::Rlimit => self.rlimits.get(index).map(|(resource, _)| format!("number {resource}")),
            Stage::Uid => Some(self.uid.to_string()),
            Stage::Gid => Some(self.gid.to_string()),
            Stage::Stdio | Stage::BoundingSet | Stage::Ambient => Some(index.to_string()),
            _ => None,
        }
    }
}

/// A duplicate above the standard descriptors.
fn above_stdio(fd: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is a new descriptor that nobody else knows.
    let duplicate = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    if duplicate < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// The clone3 itself, with all signals of this thread blocked: a handler of ours must not run in the child, which
/// shares our memory.
fn clone(
    prepared: &Prepared,
    plan: &Plan<'_>,
    cgroup: &OwnedFd,
    template: &Template,
) -> Result<(i32, OwnedFd), (Stage, io::Error)> {
    let stack = Stack::map().map_err(|source| (Stage::Stack, source))?;
    let mut pidfd: RawFd = -1;
    let namespaces = &prepared.namespaces;
    let flag = |wanted: bool, flag: i32| if wanted { flag as u64 } else { 0 };
    let mut args = CloneArgs {
        // CLONE_FILES for the listener: made by the child, it lands in our table.
        flags: (libc::CLONE_VM
            | libc::CLONE_VFORK
            | libc::CLONE_FILES
            | libc::CLONE_PIDFD
            | libc::CLONE_NEWNS) as u64
            | CLONE_CLEAR_SIGHAND
            | CLONE_INTO_CGROUP
            | flag(namespaces.uts, libc::CLONE_NEWUTS)
            | flag(namespaces.ipc, libc::CLONE_NEWIPC)
            | flag(namespaces.pid, libc::CLONE_NEWPID)
            | flag(namespaces.net, libc::CLONE_NEWNET),
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.usable() as u64,
        stack_size: STACK_BYTES as u64,
        cgroup: cgroup.as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    // Its mounts are what the child gets a copy of.
    let away = template.enter().map_err(|source| (Stage::Namespace, source))?;
    let before = block_signals().map_err(|source| (Stage::Clone, source))?;
    let data = std::ptr::from_ref(plan).cast_mut().cast::<c_void>();
    // SAFETY: the stack is a mapping of its own, page-aligned and far larger than `child::run` needs; `run` does
    // not return or unwind; plan, stack and report outlive the child's use of them because CLONE_VFORK holds this
    // thread until the child has executed or ended. `run`'s own terms: the flags above, signals blocked.
    let result = unsafe { sys::clone3_onto_stack(&mut args, child::run, data) };
    restore_signals(&before);
    drop(away);
    let pid = sys::checked(result).map_err(|source| (Stage::Clone, source))?;
    // SAFETY: CLONE_PIDFD has stored a new descriptor there.
    Ok((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

fn block_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: sigset_t is plain data; both sets are valid for the calls.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        match libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before) {
            0 => Ok(before),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: a set that pthread_sigmask has filled; with it the call cannot fail.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}

/// A mapping with a guard page at its low end.
struct Stack {
    base: *mut c_void,
}

impl Stack {
    fn map() -> io::Result<Stack> {
        let size = STACK_BYTES + PAGE_BYTES;
        // SAFETY: a new anonymous mapping; its lowest page, which nobody uses yet, becomes inaccessible.
        unsafe {
            let base = libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            );
            if base == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let stack = Stack { base };
            if libc::mprotect(base, PAGE_BYTES, libc::PROT_NONE) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(stack)
        }
    }

    /// The lowest usable address.
    fn usable(&self) -> usize {
        self.base as usize + PAGE_BYTES
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of this size; the child has left it.
        unsafe { libc::munmap(self.base, STACK_BYTES + PAGE_BYTES) };
    }
}
