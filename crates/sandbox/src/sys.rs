//! System calls that neither libc nor nix wraps, in two forms: `raw*` for the child (no errno, no TLS, no
//! allocation) and checked ones for the parent. Numbers and layouts are those of the x86-64 Linux UAPI headers.

use std::ffi::{CStr, CString, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use crate::landlock::Handled;

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("the sandbox speaks x86-64 Linux system calls only");

pub(crate) const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
pub(crate) const OPEN_TREE_CLONE: u32 = 1;
pub(crate) const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
pub(crate) const FSMOUNT_CLOEXEC: u32 = 1;
pub(crate) const FSOPEN_CLOEXEC: u32 = 1;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
pub(crate) const MOVE_MOUNT_F_EMPTY_PATH: usize = 4;
pub(crate) const MOUNT_ATTR_RDONLY: u64 = 1;
pub(crate) const MOUNT_ATTR_NOSUID: u64 = 2;
pub(crate) const MOUNT_ATTR_NODEV: u64 = 4;
pub(crate) const MOUNT_ATTR_NOEXEC: u64 = 8;
const RESOLVE_NO_MAGICLINKS: u64 = 2;
const RESOLVE_NO_SYMLINKS: u64 = 4;
const WAIT_P_PIDFD: u32 = 3;

/// `struct clone_args`, version 2 (Linux 5.7).
#[repr(C, align(8))]
#[derive(Default)]
pub(crate) struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// One system call without any libc state: the result or `-errno`.
///
/// # Safety
/// The arguments must be what this system call accepts: pointers valid for what the kernel reads or writes there.
pub(crate) unsafe fn raw(number: i64, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the x86-64 system call convention; rcx and r11 are clobbered by it and declared so. What the call
    // does to memory is the caller's obligation.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    result
}

/// clone3 whose child runs `entry(data)` on the stack given in `args` and never returns here.
///
/// # Safety
/// `args` must name a stack of its own for the child, 16-byte aligned at its top and large enough for `entry`.
/// `entry` must not return or unwind. With CLONE_VM everything that the child touches must stay valid and
/// unchanged until it has executed or ended, which CLONE_VFORK guarantees for what the calling thread owns.
pub(crate) unsafe fn clone3_onto_stack(
    args: &mut CloneArgs,
    entry: unsafe extern "C" fn(*mut c_void) -> !,
    data: *mut c_void,
) -> isize {
    let result: isize;
    // SAFETY: in the parent the sequence is one system call and leaves all registers but the declared ones alone
    // and no stack is used. In the child rax is 0, rsp is the new stack, and the other registers are copies, so
    // r12 and r13 still hold data and entry; the call never returns, so nothing of the parent's frame is touched.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") std::ptr::from_mut(args),
            in("rsi") size_of::<CloneArgs>(),
            in("r12") data,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// Turns `-errno` into an error.
pub(crate) fn checked(result: isize) -> io::Result<usize> {
    if result < 0 { Err(io::Error::from_raw_os_error(-result as i32)) } else { Ok(result as usize) }
}

fn checked_fd(result: isize) -> io::Result<OwnedFd> {
    let fd = checked(result)? as RawFd;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// O_PATH of an absolute path; with `strict` no component may be a symlink.
pub(crate) fn open_path(path: &Path, strict: bool) -> io::Result<OwnedFd> {
    let flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    open_how(None, path, flags, if strict { RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS } else { 0 })
}

/// A directory by one name below another; symlinks are refused.
pub(crate) fn open_dir_at(dir: BorrowedFd<'_>, name: &Path) -> io::Result<OwnedFd> {
    let flags = (libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64;
    open_how(Some(dir), name, flags, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)
}

fn open_how(dir: Option<BorrowedFd<'_>>, path: &Path, flags: u64, resolve: u64) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let how = OpenHow { flags, mode: 0, resolve };
    let dir = dir.map_or(libc::AT_FDCWD, |dir| dir.as_raw_fd());
    // SAFETY: path and how live across the call and have the sizes given.
    checked_fd(unsafe {
        raw(
            libc::SYS_openat2,
            [
                dir as usize,
                path.as_ptr() as usize,
                std::ptr::from_ref(&how) as usize,
                size_of::<OpenHow>(),
                0,
                0,
            ],
        )
    })
}

/// A detached copy of the mount at `object`, without what is mounted below it.
pub(crate) fn clone_mount(object: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
    // SAFETY: an empty C string is a valid path.
    checked_fd(unsafe {
        raw(
            libc::SYS_open_tree,
            [object.as_raw_fd() as usize, c"".as_ptr() as usize, flags as usize, 0, 0, 0],
        )
    })
}

/// Adds and removes attributes of a mount that a descriptor stands for.
pub(crate) fn set_mount_attributes(mount: BorrowedFd<'_>, set: u64, clear: u64) -> io::Result<()> {
    let attr = MountAttr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    // SAFETY: attr lives across the call and has the size given; the path is an empty C string.
    checked(unsafe {
        raw(
            libc::SYS_mount_setattr,
            [
                mount.as_raw_fd() as usize,
                c"".as_ptr() as usize,
                libc::AT_EMPTY_PATH as usize,
                std::ptr::from_ref(&attr) as usize,
                size_of::<MountAttr>(),
                0,
            ],
        )
    })
    .map(drop)
}

/// Mounts what a descriptor stands for on a path, relative to a directory if there is one.
pub(crate) fn move_mount(mount: BorrowedFd<'_>, to: Option<BorrowedFd<'_>>, path: &CStr) -> io::Result<()> {
    let dir = to.map_or(libc::AT_FDCWD, |dir| dir.as_raw_fd()) as usize;
    let (from, empty) = (mount.as_raw_fd() as usize, c"".as_ptr() as usize);
    // SAFETY: both paths are C strings.
    checked(unsafe {
        raw(libc::SYS_move_mount, [from, empty, dir, path.as_ptr() as usize, MOVE_MOUNT_F_EMPTY_PATH, 0])
    })
    .map(drop)
}

/// A detached tmpfs with these options.
pub(crate) fn tmpfs(options: &[(&CStr, &CStr)], attributes: u64) -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string.
    let context = checked_fd(unsafe {
        raw(libc::SYS_fsopen, [c"tmpfs".as_ptr() as usize, FSOPEN_CLOEXEC as usize, 0, 0, 0, 0])
    })?;
    let configure = |command: u32, key: usize, value: usize| {
        let fd = context.as_raw_fd() as usize;
        // SAFETY: key and value are null or C strings that outlive the call.
        checked(unsafe { raw(libc::SYS_fsconfig, [fd, command as usize, key, value, 0, 0]) })
    };
    for (key, value) in options {
        configure(FSCONFIG_SET_STRING, key.as_ptr() as usize, value.as_ptr() as usize)?;
    }
    configure(FSCONFIG_CMD_CREATE, 0, 0)?;
    // SAFETY: no pointers.
    checked_fd(unsafe {
        raw(
            libc::SYS_fsmount,
            [context.as_raw_fd() as usize, FSMOUNT_CLOEXEC as usize, attributes as usize, 0, 0, 0],
        )
    })
}

/// Version of the kernel's Landlock; 0 when it has none.
pub(crate) fn landlock_abi() -> u32 {
    const VERSION: usize = 1; // LANDLOCK_CREATE_RULESET_VERSION
    // SAFETY: with this flag there is no structure to read.
    let result = unsafe { raw(libc::SYS_landlock_create_ruleset, [0, 0, VERSION, 0, 0, 0]) };
    u32::try_from(result).unwrap_or(0)
}

/// A new domain that denies what it handles. Fields that the kernel does not know must be zero.
pub(crate) fn landlock_ruleset(handled: &Handled) -> io::Result<OwnedFd> {
    let attr = std::ptr::from_ref(handled) as usize;
    // SAFETY: `struct landlock_ruleset_attr` of this size.
    checked_fd(unsafe { raw(libc::SYS_landlock_create_ruleset, [attr, size_of::<Handled>(), 0, 0, 0, 0]) })
}

/// Grants rights on a file, or on everything below a directory.
pub(crate) fn landlock_allow_path(
    domain: BorrowedFd<'_>,
    object: BorrowedFd<'_>,
    rights: u64,
) -> io::Result<()> {
    #[repr(C, packed)]
    struct PathBeneath {
        rights: u64,
        parent: i32,
    }
    const PATH_BENEATH: usize = 1; // LANDLOCK_RULE_PATH_BENEATH
    let rule = PathBeneath { rights, parent: object.as_raw_fd() };
    let args = [domain.as_raw_fd() as usize, PATH_BENEATH, std::ptr::from_ref(&rule) as usize, 0, 0, 0];
    // SAFETY: `struct landlock_path_beneath_attr`, which is packed, lives across the call.
    checked(unsafe { raw(libc::SYS_landlock_add_rule, args) }).map(drop)
}

/// Grants rights on a TCP port.
pub(crate) fn landlock_allow_port(domain: BorrowedFd<'_>, rights: u64, port: u16) -> io::Result<()> {
    const NET_PORT: usize = 2; // LANDLOCK_RULE_NET_PORT
    let rule = [rights, u64::from(port)];
    let args = [domain.as_raw_fd() as usize, NET_PORT, rule.as_ptr() as usize, 0, 0, 0];
    // SAFETY: `struct landlock_net_port_attr` is two words and lives across the call.
    checked(unsafe { raw(libc::SYS_landlock_add_rule, args) }).map(drop)
}

/// Sends a signal to the process that a pidfd stands for.
pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: no pointers but a null siginfo.
    checked(unsafe {
        raw(libc::SYS_pidfd_send_signal, [pidfd.as_raw_fd() as usize, signal as usize, 0, 0, 0, 0])
    })
    .map(drop)
}

/// waitid on a pidfd: `None` when `options` has WNOHANG and the process still runs. Retries when interrupted.
pub(crate) fn pidfd_wait(pidfd: BorrowedFd<'_>, options: i32) -> io::Result<Option<(i32, i32)>> {
    loop {
        // SAFETY: siginfo_t is plain data for which zero is valid; waitid fills it.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: info is valid for writing.
        let result = unsafe { libc::waitid(WAIT_P_PIDFD, pidfd.as_raw_fd() as u32, &mut info, options) };
        if result == 0 {
            // SAFETY: waitid has filled the child part of the union, or left it zero.
            let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
            return Ok((pid != 0).then_some((info.si_code, status)));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
