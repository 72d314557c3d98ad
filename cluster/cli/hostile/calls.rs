//! System calls that no service has any business with.

use std::io;

use nix::libc;

use super::Attempt;

/// Turns a raw result into an outcome.
fn result(value: libc::c_long) -> io::Result<()> {
    if value < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A call with up to six plain numbers.
macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {
        |_| {
            // SAFETY: numbers, null pointers and C strings only; what succeeds changes at most this process.
            result(unsafe { libc::syscall(libc::$number $(, $argument)*) })
        }
    };
}

/// socket(2).
macro_rules! socket {
    ($domain:expr, $kind:expr, $protocol:expr) => {
        call!(SYS_socket, $domain, $kind, $protocol)
    };
}

const TIOCSTI: libc::c_long = 0x5412;
const TIOCLINUX: libc::c_long = 0x541c;

/// Through calls that the filter must refuse.
pub const ALL: &[Attempt] = &[
    ("mount", call!(SYS_mount, c"none".as_ptr(), c"/tmp".as_ptr(), c"tmpfs".as_ptr(), 0, 0)),
    ("umount", call!(SYS_umount2, c"/tmp".as_ptr(), libc::MNT_DETACH)),
    ("fsopen", call!(SYS_fsopen, c"tmpfs".as_ptr(), 0)),
    ("open_tree", call!(SYS_open_tree, libc::AT_FDCWD, c"/".as_ptr(), 1)),
    ("pivot_root", call!(SYS_pivot_root, c"/tmp".as_ptr(), c"/tmp".as_ptr())),
    ("chroot", call!(SYS_chroot, c"/tmp".as_ptr())),
    ("ptrace_attach", call!(SYS_ptrace, libc::PTRACE_ATTACH, 1, 0, 0)),
    ("ptrace_traceme", call!(SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0)),
    ("process_vm_readv", call!(SYS_process_vm_readv, 1, 0, 0, 0, 0, 0)),
    ("process_vm_writev", call!(SYS_process_vm_writev, 1, 0, 0, 0, 0, 0)),
    ("pidfd_getfd", call!(SYS_pidfd_getfd, 0, 0, 0)),
    ("kcmp", call!(SYS_kcmp, 1, 1, 0, 0, 0)),
    ("init_module", call!(SYS_init_module, 0, 0, c"".as_ptr())),
    ("finit_module", call!(SYS_finit_module, 0, c"".as_ptr(), 0)),
    ("delete_module", call!(SYS_delete_module, c"dummy".as_ptr(), 0)),
    ("kexec_load", call!(SYS_kexec_load, 0, 0, 0, 0)),
    ("bpf", call!(SYS_bpf, 0, 0, 0)),
    ("perf_event_open", call!(SYS_perf_event_open, 0, 0, -1, -1, 0)),
    ("userfaultfd", call!(SYS_userfaultfd, 0)),
    ("io_uring_setup", call!(SYS_io_uring_setup, 1, 0)),
    ("keyctl", call!(SYS_keyctl, 0, -3, 1)),
    ("add_key", call!(SYS_add_key, c"user".as_ptr(), c"x".as_ptr(), c"x".as_ptr(), 1, -3)),
    ("request_key", call!(SYS_request_key, c"user".as_ptr(), c"x".as_ptr(), 0, -3)),
    ("open_by_handle_at", call!(SYS_open_by_handle_at, libc::AT_FDCWD, 0, 0)),
    ("name_to_handle_at", call!(SYS_name_to_handle_at, libc::AT_FDCWD, c"/".as_ptr(), 0, 0, 0)),
    ("fanotify_init", call!(SYS_fanotify_init, 0, 0)),
    ("seccomp_own_filter", call!(SYS_seccomp, 1, 8, 0)),
    ("unshare_user", call!(SYS_unshare, libc::CLONE_NEWUSER)),
    ("unshare_mount", call!(SYS_unshare, libc::CLONE_NEWNS)),
    ("clone_user", call!(SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0)),
    ("setns", call!(SYS_setns, 0, 0)),
    ("packet_socket", socket!(libc::AF_PACKET, libc::SOCK_RAW, 0)),
    ("raw_socket", socket!(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
    ("raw6_socket", socket!(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_RAW)),
    ("netlink_socket", socket!(libc::AF_NETLINK, libc::SOCK_RAW, 0)),
    ("vsock_socket", socket!(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    ("alg_socket", socket!(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)),
    ("tiocsti", call!(SYS_ioctl, 0, TIOCSTI, c"x".as_ptr())),
    ("tioclinux", call!(SYS_ioctl, 0, TIOCLINUX, c"\x02".as_ptr())),
    // The upper half of an int is garbage to the kernel, and must be to the filter.
    ("tiocsti_high_bits", call!(SYS_ioctl, 0, TIOCSTI | 1 << 40, c"x".as_ptr())),
    ("iopl", call!(SYS_iopl, 3)),
    ("ioperm", call!(SYS_ioperm, 0, 1, 1)),
    ("setuid", call!(SYS_setuid, 0)),
    ("setgid", call!(SYS_setgid, 0)),
    ("setgroups", call!(SYS_setgroups, 0, 0)),
    ("capset", call!(SYS_capset, 0, 0)),
    ("sethostname", call!(SYS_sethostname, c"evil".as_ptr(), 4)),
    ("reboot", call!(SYS_reboot, 0, 0, 0, 0)),
    ("swapon", call!(SYS_swapon, c"/tmp".as_ptr(), 0)),
    ("acct", call!(SYS_acct, c"/tmp".as_ptr())),
    ("quotactl", call!(SYS_quotactl, 0, 0, 0, 0)),
    ("settimeofday", call!(SYS_settimeofday, 0, 0)),
    ("clock_settime", call!(SYS_clock_settime, 0, 0)),
    ("syslog", call!(SYS_syslog, 3, 0, 0)),
    ("mknod", call!(SYS_mknod, c"/tmp/disk".as_ptr(), libc::S_IFBLK | 0o666, 0x0801)),
    ("personality", call!(SYS_personality, 0x0040_0000)),
    ("modify_ldt", call!(SYS_modify_ldt, 0, 0, 0)),
    ("memfd_create", call!(SYS_memfd_create, c"x".as_ptr(), 0)),
    ("set_others_limits", call!(SYS_prlimit64, 1, libc::RLIMIT_CORE, 0, 0)),
    ("kill_everybody", call!(SYS_kill, -1, libc::SIGTERM)),
    ("clone3", call!(SYS_clone3, 0, 0)),
    // These two pass the filter of every profile: the kernel's own checks must hold.
    ("tgkill_init", call!(SYS_tgkill, 1, 1, libc::SIGTERM)),
    ("raise_own_nofile", |_| {
        let limit = libc::rlimit { rlim_cur: 1 << 19, rlim_max: 1 << 19 };
        // SAFETY: the structure is valid.
        result(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }.into())
    }),
];

/// getpid of the x32 table.
pub fn x32() {
    // SAFETY: no arguments.
    let value = unsafe { libc::syscall(0x4000_0000 | libc::SYS_getpid) };
    println!("survived with {value}");
}

/// getpid of the 32-bit table.
pub fn int80() {
    let value: i32;
    // SAFETY: no arguments.
    unsafe { core::arch::asm!("int 0x80", inlateout("eax") 20 => value, options(nostack)) };
    println!("survived with {value}");
}

fn ignore_everything() {
    for signal in 1..=64 {
        // SAFETY: ignoring signals has no preconditions; KILL and STOP refuse.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Leaves a process in a session of its own behind, deaf to all signals, and ends.
pub fn outlive() {
    ignore_everything();
    // SAFETY: single-threaded; the children only sleep.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            if libc::fork() == 0 {
                println!("left behind");
                std::thread::sleep(super::LIFETIME);
            }
            libc::_exit(0);
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
}

/// Ignores every request to stop.
pub fn deaf() {
    ignore_everything();
    println!("deaf");
    std::thread::sleep(super::LIFETIME);
}

/// Closes its output and goes on until it is told to stop.
pub fn mute() {
    // SAFETY: closing descriptors that nothing uses afterwards.
    unsafe {
        libc::close(1);
        libc::close(2);
    }
    std::thread::sleep(super::LIFETIME);
}
