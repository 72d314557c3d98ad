//! The child's way from clone3 to execve. It shares the parent's memory and runs on a borrowed stack, so it makes
//! raw system calls only: no allocation, no libc, no panic, no lock. All it needs lies ready in a [`Plan`].

use std::ffi::{CStr, c_char, c_void};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use crate::error::Stage;
use crate::sys::{MOVE_MOUNT_F_EMPTY_PATH, raw};
use crate::template::{PROC_FLAGS, PROC_OPTIONS};

/// `_LINUX_CAPABILITY_VERSION_3`
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// Highest signal number.
const LAST_SIGNAL: usize = 64;
/// Exit status of a child that did not come to execve, as shells have it.
const NOT_EXECUTED: usize = 127;

/// Everything the child needs, borrowed from the parent that waits for it.
pub(crate) struct Plan<'a> {
    pub hostname: Option<&'a CStr>,
    pub own_network: bool,
    /// A detached tmpfs for /tmp.
    pub tmp: RawFd,
    /// In a PID namespace of its own: /proc is of that.
    pub own_proc: bool,
    pub work_dir: &'a CStr,
    /// For 0, 1 and 2; all three are above 2.
    pub stdio: [RawFd; 3],
    /// Of the limit of open files only what makes room for it.
    pub rlimits: &'a [(u32, libc::rlimit64)],
    /// Last of all, so that the listener is not refused its place in the parent's table.
    pub nofile: Option<&'a libc::rlimit64>,
    /// Those that the spawning thread has not dropped already.
    pub bounding: &'a [u32],
    /// Bit set of the ambient capabilities.
    pub ambient: u64,
    pub uid: u32,
    pub gid: u32,
    /// The parent's pid as the child must see it; 0 in a PID namespace of its own.
    pub parent: i32,
    /// The Landlock ruleset, when there is one.
    pub landlock: Option<RawFd>,
    pub filter: libc::sock_fprog,
    /// Of seccomp(2).
    pub filter_flags: u32,
    pub binary: &'a CStr,
    pub argv: *const *const c_char,
    pub envp: *const *const c_char,
    pub report: &'a Report,
}

/// How far the child came. Plain memory instead of a pipe: parent and child share it, the parent looks only when
/// the child has executed or ended, and there is nothing to be inherited or read halfway.
#[derive(Default)]
pub(crate) struct Report {
    pub stage: AtomicU32,
    /// Which of several objects of the stage.
    pub index: AtomicU32,
    /// Not 0 = failed.
    pub errno: AtomicI32,
    /// The number in the parent's descriptor table that the filter's listener got; 0 = none yet.
    pub listener: AtomicI32,
}

#[repr(C)]
struct KernelSigaction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// Runs the plan at `data`; never returns.
///
/// # Safety
/// To be started by `clone3_onto_stack` with CLONE_VM, CLONE_VFORK, CLONE_FILES, CLONE_CLEAR_SIGHAND and a mount
/// namespace, without CLONE_FS or CLONE_SIGHAND, all signals blocked; `data` points to a valid [`Plan`] whose
/// owner waits. The descriptor table is the parent's until `finish` leaves it: nothing may be closed or replaced
/// in it before, but what the child itself has opened.
pub(crate) unsafe extern "C" fn run(data: *mut c_void) -> ! {
    // SAFETY: the caller's obligation.
    let plan = unsafe { &*data.cast::<Plan<'_>>() };
    // SAFETY: this is the child, in its own namespaces, alone with its plan.
    unsafe {
        isolate(plan);
        complete_root(plan);
        limit(plan);
        drop_privileges(plan);
        finish(plan)
    }
}

/// One step: records it, makes the call, ends the child when it fails.
///
/// # Safety
/// As for [`raw`].
unsafe fn step(plan: &Plan<'_>, stage: Stage, index: usize, number: i64, args: [usize; 6]) -> usize {
    plan.report.stage.store(stage as u32, Ordering::Relaxed);
    plan.report.index.store(index as u32, Ordering::Relaxed);
    // SAFETY: the caller's obligation.
    let result = unsafe { raw(number, args) };
    if result < 0 {
        fail(plan, result.wrapping_neg() as i32);
    }
    result as usize
}

fn fail(plan: &Plan<'_>, errno: i32) -> ! {
    plan.report.errno.store(errno, Ordering::Release);
    loop {
        // SAFETY: exit_group takes no pointer and does not return.
        unsafe { raw(libc::SYS_exit_group, [NOT_EXECUTED, 0, 0, 0, 0, 0]) };
    }
}

/// Session, signals, host name, network.
///
/// # Safety
/// Only in the child.
unsafe fn isolate(plan: &Plan<'_>) {
    // SAFETY: every pointer is to a live object of the plan, a constant or a local of the size the call expects.
    unsafe {
        step(plan, Stage::Session, 0, libc::SYS_setsid, [0; 6]);
        step(plan, Stage::Session, 0, libc::SYS_umask, [0o077, 0, 0, 0, 0, 0]);
        // CLEAR_SIGHAND keeps what is ignored ignored, and Rust programs ignore SIGPIPE.
        let default = KernelSigaction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
        let action = std::ptr::from_ref(&default) as usize;
        let mut signal = 1;
        while signal <= LAST_SIGNAL {
            // KILL and STOP refuse; nothing else can.
            raw(libc::SYS_rt_sigaction, [signal, action, 0, 8, 0, 0]);
            signal = signal.wrapping_add(1);
        }
        if let Some(name) = plan.hostname {
            let args = [name.as_ptr() as usize, name.count_bytes(), 0, 0, 0, 0];
            step(plan, Stage::Hostname, 0, libc::SYS_sethostname, args);
        }
        if plan.own_network {
            let domain =
                [libc::AF_INET as usize, (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as usize, 0, 0, 0, 0];
            let socket = step(plan, Stage::Loopback, 0, libc::SYS_socket, domain);
            let up = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
            let request =
                InterfaceRequest { name: *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0", flags: up, rest: [0; 22] };
            let request = std::ptr::from_ref(&request) as usize;
            let args = [socket, libc::SIOCSIFFLAGS as usize, request, 0, 0, 0];
            step(plan, Stage::Loopback, 0, libc::SYS_ioctl, args);
            step(plan, Stage::Loopback, 0, libc::SYS_close, [socket, 0, 0, 0, 0, 0]);
        }
    }
}

/// Completes the copy of the template's mount namespace, whose root is root and working directory already.
///
/// # Safety
/// Only in the child.
unsafe fn complete_root(plan: &Plan<'_>) {
    // SAFETY: as in `isolate`.
    unsafe {
        let tmp = c"/tmp".as_ptr() as usize;
        let empty = c"".as_ptr() as usize;
        let args = [plan.tmp as usize, empty, libc::AT_FDCWD as usize, tmp, MOVE_MOUNT_F_EMPTY_PATH, 0];
        step(plan, Stage::AttachTmp, 0, libc::SYS_move_mount, args);
        if plan.own_proc {
            let (proc, place) = (c"proc".as_ptr() as usize, c"/proc".as_ptr() as usize);
            let flags = PROC_FLAGS.bits() as usize;
            let args = [proc, place, proc, flags, PROC_OPTIONS.as_ptr() as usize, 0];
            step(plan, Stage::Proc, 0, libc::SYS_mount, args);
        }
        let work_dir = plan.work_dir.as_ptr() as usize;
        step(plan, Stage::WorkDir, 0, libc::SYS_chdir, [work_dir, 0, 0, 0, 0, 0]);
    }
}

/// Resource limits.
///
/// # Safety
/// Only in the child.
unsafe fn limit(plan: &Plan<'_>) {
    // SAFETY: as in `isolate`.
    unsafe {
        for (index, (resource, limit)) in plan.rlimits.iter().enumerate() {
            let args = [0, *resource as usize, std::ptr::from_ref(limit) as usize, 0, 0, 0];
            step(plan, Stage::Rlimit, index, libc::SYS_prlimit64, args);
        }
    }
}

/// From root to the service's user with its ambient capabilities and nothing else.
///
/// # Safety
/// Only in the child.
unsafe fn drop_privileges(plan: &Plan<'_>) {
    let prctl = |option: i32, a: usize, b: usize| [option as usize, a, b, 0, 0, 0];
    let granted = |capability: u32| plan.ambient & 1u64.wrapping_shl(capability) != 0;
    // SAFETY: as in `isolate`.
    unsafe {
        for capability in plan.bounding.iter().filter(|capability| !granted(**capability)) {
            let args = prctl(libc::PR_CAPBSET_DROP, *capability as usize, 0);
            step(plan, Stage::BoundingSet, *capability as usize, libc::SYS_prctl, args);
        }
        // Else setresuid would empty the permitted set that the ambient one is taken from.
        step(plan, Stage::KeepCaps, 0, libc::SYS_prctl, prctl(libc::PR_SET_KEEPCAPS, 1, 0));
        step(plan, Stage::Groups, 0, libc::SYS_setgroups, [0; 6]);
        let (uid, gid) = (plan.uid as usize, plan.gid as usize);
        step(plan, Stage::Gid, 0, libc::SYS_setresgid, [gid, gid, gid, 0, 0, 0]);
        step(plan, Stage::Uid, 0, libc::SYS_setresuid, [uid, uid, uid, 0, 0, 0]);
        let header = [CAPABILITY_VERSION, 0];
        let (low, high) = (plan.ambient as u32, plan.ambient.wrapping_shr(32) as u32);
        // effective, permitted, inheritable; low words, then high words
        let sets = [low, low, low, high, high, high];
        let args = [header.as_ptr() as usize, sets.as_ptr() as usize, 0, 0, 0, 0];
        step(plan, Stage::Capset, 0, libc::SYS_capset, args);
        for capability in plan.bounding.iter().filter(|capability| granted(**capability)) {
            let args = prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as usize, *capability as usize);
            step(plan, Stage::Ambient, *capability as usize, libc::SYS_prctl, args);
        }
        // Only here: setresuid clears it.
        let args = prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize, 0);
        step(plan, Stage::DeathSignal, 0, libc::SYS_prctl, args);
        if raw(libc::SYS_getppid, [0; 6]) != plan.parent as isize {
            // The parent was gone before its death could be signalled.
            fail(plan, libc::ESRCH);
        }
    }
}

/// The last things, each of which takes away the means for what came before.
///
/// # Safety
/// Only in the child.
unsafe fn finish(plan: &Plan<'_>) -> ! {
    // SAFETY: as in `isolate`; argv and envp are null-terminated arrays of C strings.
    unsafe {
        let none = 0u64;
        let mask = std::ptr::from_ref(&none) as usize;
        let args = [libc::SIG_SETMASK as usize, mask, 0, 8, 0, 0];
        step(plan, Stage::Signals, 0, libc::SYS_rt_sigprocmask, args);
        let args = [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0, 0];
        step(plan, Stage::NoNewPrivs, 0, libc::SYS_prctl, args);
        if let Some(ruleset) = plan.landlock {
            let args = [ruleset as usize, 0, 0, 0, 0, 0];
            step(plan, Stage::Landlock, 0, libc::SYS_landlock_restrict_self, args);
        }
        let filter = std::ptr::from_ref(&plan.filter) as usize;
        let args = [libc::SECCOMP_SET_MODE_FILTER as usize, plan.filter_flags as usize, filter, 0, 0, 0];
        let listener = step(plan, Stage::Seccomp, 0, libc::SYS_seccomp, args);
        plan.report.listener.store(listener as i32, Ordering::Release);
        // From here on only calls of `orama_policy::always`: nobody listens yet, and the parent waits for us.
        // A table of its own, in which execve closes everything but the three streams.
        let flags = (libc::CLOSE_RANGE_UNSHARE | libc::CLOSE_RANGE_CLOEXEC) as usize;
        step(plan, Stage::CloseFds, 0, libc::SYS_close_range, [3, u32::MAX as usize, flags, 0, 0, 0]);
        for (target, fd) in plan.stdio.iter().enumerate() {
            step(plan, Stage::Stdio, target, libc::SYS_dup3, [*fd as usize, target, 0, 0, 0, 0]);
        }
        if let Some(limit) = plan.nofile {
            let limit = std::ptr::from_ref(limit) as usize;
            let args = [0, libc::RLIMIT_NOFILE as usize, limit, 0, 0, 0];
            step(plan, Stage::Nofile, 0, libc::SYS_prlimit64, args);
        }
        let args = [plan.binary.as_ptr() as usize, plan.argv as usize, plan.envp as usize, 0, 0, 0];
        step(plan, Stage::Exec, 0, libc::SYS_execve, args);
    }
    // execve has not failed and has not happened: cannot be.
    fail(plan, libc::ENOEXEC)
}
