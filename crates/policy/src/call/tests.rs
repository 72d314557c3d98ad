use super::*;

fn check(call: Sysno, args: &[u64], texts: &[(usize, &str)], expect: &str) {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    let mut call = Call::new(u32::try_from(call.id()).expect("number"), all);
    for (index, text) in texts {
        call.texts[*index] = Some((*text).to_owned());
    }
    assert_eq!(call.describe(), expect);
}

const CWD: u64 = 0xffff_ffff_ffff_ff9c;

#[test]
fn calls_read_as_in_strace() {
    check(Sysno::socket, &[16, 3 | 0x80000, 0], &[], "socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, 0)");
    check(
        Sysno::openat,
        &[CWD, 0x7f00, 0],
        &[(1, "/etc/shadow")],
        "openat(AT_FDCWD, \"/etc/shadow\", O_RDONLY)",
    );
    check(
        Sysno::openat,
        &[CWD, 1, 0x80241, 0o644],
        &[(1, "a\"\n")],
        "openat(AT_FDCWD, \"a\\\"\\n\", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0644)",
    );
    check(Sysno::open, &[0x7ffe_0000, 2], &[], "open(0x7ffe0000, O_RDWR)");
    check(
        Sysno::mmap,
        &[0, 4096, 7, 0x22, u64::MAX, 0],
        &[],
        "mmap(NULL, 4096, PROT_READ|PROT_WRITE|PROT_EXEC, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)",
    );
    check(Sysno::mprotect, &[0x1000, 4096, 0], &[], "mprotect(0x1000, 4096, PROT_NONE)");
    check(
        Sysno::clone,
        &[0x1200011, 0, 0, 0, 0],
        &[],
        "clone(SIGCHLD|CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID, NULL, NULL, NULL, NULL)",
    );
    check(Sysno::unshare, &[0x1000_0000], &[], "unshare(CLONE_NEWUSER)");
    check(Sysno::prctl, &[4, 0], &[], "prctl(PR_SET_DUMPABLE, 0)");
    check(Sysno::prctl, &[15, 0x7000], &[], "prctl(PR_SET_NAME, 0x7000)");
    check(Sysno::ioctl, &[1, 0x5413, 0x7000], &[], "ioctl(1, TIOCGWINSZ, 0x7000)");
    check(Sysno::ioctl, &[1, 0xffff_ffff_4004_54ca, 0], &[], "ioctl(1, TUNSETIFF, NULL)");
    check(Sysno::ioctl, &[1, 0xdead, 0], &[], "ioctl(1, 0xdead, NULL)");
    check(Sysno::ptrace, &[16, 1, 0, 0], &[], "ptrace(PTRACE_ATTACH, 1, NULL, NULL)");
    check(Sysno::bpf, &[5, 0x7000, 148], &[], "bpf(BPF_PROG_LOAD, 0x7000, 148)");
    check(Sysno::keyctl, &[11, 1], &[], "keyctl(KEYCTL_READ, 1, 0, 0, 0)");
    check(Sysno::kill, &[u64::from(u32::MAX), 9], &[], "kill(-1, SIGKILL)");
    check(Sysno::fcntl, &[3, 1030, 0], &[], "fcntl(3, F_DUPFD_CLOEXEC, 0)");
    check(
        Sysno::setsockopt,
        &[3, 1, 15, 0x7000, 4],
        &[],
        "setsockopt(3, SOL_SOCKET, SO_REUSEPORT, 0x7000, 4)",
    );
    check(Sysno::setsockopt, &[3, 6, 1, 0x7000, 4], &[], "setsockopt(3, SOL_TCP, TCP_NODELAY, 0x7000, 4)");
    check(Sysno::setsockopt, &[3, 99, 1, 0x7000, 4], &[], "setsockopt(3, 0x63, 1, 0x7000, 4)");
    check(Sysno::connect, &[3, 0x7000, 16], &[(1, "10.0.0.1:53")], "connect(3, \"10.0.0.1:53\", 16)");
    check(
        Sysno::mount,
        &[0, 0x7000, 0, 0x5000, 0],
        &[(1, "/mnt")],
        "mount(NULL, \"/mnt\", NULL, MS_BIND|MS_REC, NULL)",
    );
    check(Sysno::getpid, &[], &[], "getpid()");
    check(Sysno::chmod, &[0x7000, 0o755], &[(0, "/x")], "chmod(\"/x\", 0755)");
}

#[test]
fn numbers_without_a_name_are_shown_as_such() {
    assert_eq!(Call::new(4000, [1, 0, 0, 0, 0, 255]).describe(), "syscall_4000(1, 0, 0, 0, 0, 0xff)");
    assert_eq!(Call::new(0x4000_0000, [1; 6]).name(), "x32_read");
    assert_eq!(Call::new(u32::MAX, [0; 6]).describe(), "x32_syscall_3221225471(0, 0, 0, 0, 0, 0)");
}

#[test]
fn paths_and_addresses_are_known_for_every_call() {
    for call in Sysno::iter() {
        let number = u32::try_from(call.id()).expect("number");
        let paths = arguments(call).iter().filter(|argument| argument.kind == Kind::Path).count();
        assert_eq!(path_arguments(number).len(), paths, "{call}");
    }
    let number = |call: Sysno| u32::try_from(call.id()).expect("number");
    assert_eq!(path_arguments(number(Sysno::openat)), [1]);
    assert_eq!(path_arguments(number(Sysno::renameat2)), [1, 3]);
    assert_eq!(path_arguments(4000), [0; 0]);
    assert_eq!(address_argument(number(Sysno::sendto)), Some(4));
    assert_eq!(address_argument(number(Sysno::accept)), None);
}

#[test]
fn calls_of_one_shape_need_one_rule() {
    let socket = |kind: u64| Call::new(41, [2, kind, 0, 0, 0, 0]).shape();
    assert_eq!(socket(1), socket(1 | 0x80800));
    assert_ne!(socket(1), socket(2));
    let read = |fd: u64| Call::new(0, [fd, 0x7000, fd, 0, 0, 0]).shape();
    assert_eq!(read(1), read(2));
    // The upper half of an int says nothing.
    assert_eq!(
        Call::new(16, [0, 0x5413, 0, 0, 0, 0]).shape(),
        Call::new(16, [9, 0xffff_ffff_0000_5413, 1, 0, 0, 0]).shape()
    );
}
