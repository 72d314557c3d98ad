//! The program that the host tests start in the sandbox. Does one thing per start and prints what it found.
//! Not part of any image.

mod refused;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

/// Longest life of anything that waits to be killed, in seconds: a failed test must not leave processes behind.
const LIFETIME: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["report"] => report(),
        ["look", paths @ ..] => paths.iter().for_each(|path| print(path, look(path))),
        ["write", paths @ ..] => {
            paths.iter().for_each(|path| print(path, fs::write(path, "x").map(|()| 1)));
        }
        ["rename", from, to] => print("rename", fs::rename(from, to).map(|()| 0)),
        ["connect", address] => print("connect", std::net::TcpStream::connect(address).map(|_| 0)),
        ["listen", address] => print("listen", std::net::TcpListener::bind(address).map(|_| 0)),
        ["abstract", name] => print("abstract", connect_abstract(name).map(|()| 0)),
        ["notify", message] => notify(message),
        ["exec", path] => print("exec", std::process::Command::new(path).status().map(|_| 0)),
        ["fill", path] => fill(path),
        ["thread"] => println!("thread {}", std::thread::spawn(|| "ran").join().expect("thread")),
        ["fork"] => fork_until_refused(),
        ["eat", bytes] => eat(bytes.parse().expect("bytes")),
        ["daemonize"] => daemonize(),
        ["sleep"] => sleep(LIFETIME),
        ["hardened-sleep"] => {
            // SAFETY: ignoring a signal has no preconditions.
            unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
            println!("deaf");
            sleep(LIFETIME);
        }
        ["exit", code] => return ExitCode::from(code.parse::<u8>().expect("code")),
        ["syscall", numbers @ ..] => numbers.iter().for_each(|number| syscall(number)),
        ["hostile"] => hostile(),
        ["int80"] => int80(),
        ["refused", "threads", threads, count] => refused::threads(number(threads), number(count)),
        ["refused", "flood"] => refused::flood(),
        ["refused", "timed", count] => refused::timed(number(count)),
        ["refused", "preempted", count] => refused::preempted(number(count)),
        ["refused", "deaf", how] => refused::deaf(how),
        ["refused", "in-child"] => refused::in_child(),
        ["refused", "dying", count] => refused::dying(number(count)),
        other => panic!("unknown order {other:?}"),
    }
    ExitCode::SUCCESS
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

fn print(what: &str, outcome: io::Result<usize>) {
    match outcome {
        Ok(count) => println!("{what} ok {count}"),
        Err(error) => println!("{what} errno {}", error.raw_os_error().unwrap_or(-1)),
    }
    io::stdout().flush().expect("flush");
}

/// Reads a file or lists a directory.
fn look(path: &str) -> io::Result<usize> {
    if fs::metadata(path)?.is_dir() { Ok(fs::read_dir(path)?.count()) } else { Ok(fs::read(path)?.len()) }
}

fn report() {
    let status = fs::read_to_string("/proc/self/status").expect("own status");
    for line in status.lines() {
        let (key, value) = line.split_once(':').expect("key: value");
        println!("{key}={}", value.split_whitespace().collect::<Vec<_>>().join(","));
    }
    let name = fs::read_to_string("/proc/self/comm").expect("own name");
    println!("comm={}", name.trim());
    // SAFETY: utsname is plain data that uname fills.
    let uts = unsafe {
        let mut uts: libc::utsname = std::mem::zeroed();
        libc::uname(&mut uts);
        uts
    };
    let node: Vec<u8> = uts.nodename.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
    println!("hostname={}", String::from_utf8_lossy(&node));
    println!("cwd={}", std::env::current_dir().expect("cwd").display());
    println!("args={}", std::env::args().skip(1).collect::<Vec<_>>().join(","));
    for (name, value) in std::env::vars() {
        println!("env.{name}={value}");
    }
    let mut fds: Vec<u32> = fs::read_dir("/proc/self/fd")
        .expect("own descriptors")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().parse().expect("number"))
        .collect();
    fds.sort_unstable();
    println!("fds={}", fds.len());
    let mut death = 0;
    // SAFETY: PR_GET_PDEATHSIG stores an int there.
    unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &mut death) };
    println!("death_signal={death}");
    let mut root: Vec<String> = fs::read_dir("/")
        .expect("root")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    root.sort_unstable();
    println!("root={}", root.join(","));
    let mut dev: Vec<String> = fs::read_dir("/dev")
        .expect("dev")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    dev.sort_unstable();
    println!("dev={}", dev.join(","));
    let pids = fs::read_dir("/proc")
        .expect("proc")
        .filter(|entry| {
            let name = entry.as_ref().expect("entry").file_name();
            name.to_string_lossy().parse::<u32>().is_ok()
        })
        .count();
    println!("visible_processes={pids}");
}

fn connect_abstract(name: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    std::os::unix::net::UnixStream::connect_addr(&address).map(drop)
}

/// sd_notify(3).
fn notify(message: &str) {
    let path = std::env::var("NOTIFY_SOCKET").expect("NOTIFY_SOCKET");
    let socket = std::os::unix::net::UnixDatagram::unbound().expect("socket");
    socket.send_to(message.as_bytes(), path).expect("send");
}

fn fill(path: &str) {
    let mut file = fs::File::create(path).expect("create");
    let block = vec![0; 64 * 1024];
    let mut written = 0usize;
    // A hundred MiB at most.
    for _ in 0..1600 {
        match file.write(&block) {
            Ok(count) => written += count,
            Err(error) => {
                println!("written {written} errno {}", error.raw_os_error().unwrap_or(-1));
                return;
            }
        }
    }
    println!("written {written}");
}

fn fork_until_refused() {
    let mut children = Vec::new();
    let mut errno = 0;
    for _ in 0..400 {
        // SAFETY: single-threaded; the child only sleeps and exits.
        match unsafe { libc::fork() } {
            0 => {
                sleep(LIFETIME);
                // SAFETY: ends the child, which has nothing to clean up.
                unsafe { libc::_exit(0) }
            }
            -1 => {
                errno = io::Error::last_os_error().raw_os_error().unwrap_or(-1);
                break;
            }
            pid => children.push(pid),
        }
    }
    println!("forks={} errno={errno}", children.len());
    for pid in children {
        // SAFETY: our own children.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
        }
    }
}

fn eat(bytes: usize) {
    let mut memory = vec![0u8; bytes];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    std::hint::black_box(&memory);
    println!("eaten");
}

/// Leaves a process of another session behind and stays until it is told to go.
fn daemonize() {
    // SAFETY: single-threaded; parent and children only sleep.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            if libc::fork() == 0 {
                println!("daemon");
                sleep(LIFETIME);
            }
            libc::_exit(0);
        }
    }
    sleep(LIFETIME);
}

fn syscall(number: &str) {
    let id: i64 = number.parse().expect("number");
    // SAFETY: all arguments are zero: no pointer that the kernel would write to is valid.
    let result = unsafe { libc::syscall(id, 0, 0, 0, 0, 0, 0) };
    print(number, if result < 0 { Err(io::Error::last_os_error()) } else { Ok(0) });
}

fn hostile() {
    let call = |name: &str, result: i64| {
        print(name, if result < 0 { Err(io::Error::last_os_error()) } else { Ok(0) });
    };
    let text = c"/tmp".as_ptr();
    // SAFETY: every pointer is null or a C string; nothing of ours is changed by what should be refused anyway.
    unsafe {
        call("mount", libc::syscall(libc::SYS_mount, text, text, c"tmpfs".as_ptr(), 0, 0));
        call("umount", libc::syscall(libc::SYS_umount2, text, libc::MNT_DETACH));
        call("pivot_root", libc::syscall(libc::SYS_pivot_root, text, text));
        call("chroot", libc::syscall(libc::SYS_chroot, text));
        call("ptrace", libc::syscall(libc::SYS_ptrace, libc::PTRACE_ATTACH, 1, 0, 0));
        call("module", libc::syscall(libc::SYS_init_module, 0, 0, text));
        call("finit_module", libc::syscall(libc::SYS_finit_module, 0, text, 0));
        call("kexec", libc::syscall(libc::SYS_kexec_load, 0, 0, 0, 0));
        call("unshare_user", libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER));
        call("clone_user", libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0));
        call("clone3", libc::syscall(libc::SYS_clone3, 0, 0));
        call("setns", libc::syscall(libc::SYS_setns, 0, 0));
        call("bpf", libc::syscall(libc::SYS_bpf, 0, 0, 0));
        call("keyctl", libc::syscall(libc::SYS_keyctl, 0, -3, 1));
        call("perf", libc::syscall(libc::SYS_perf_event_open, 0, 0, -1, -1, 0));
        call("userfaultfd", libc::syscall(libc::SYS_userfaultfd, 0));
        call("io_uring", libc::syscall(libc::SYS_io_uring_setup, 1, 0));
        call("packet_socket", libc::syscall(libc::SYS_socket, libc::AF_PACKET, libc::SOCK_RAW, 0));
        call("raw_socket", libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_RAW, 1));
        call("netlink_socket", libc::syscall(libc::SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, 0));
        call("kill_init", libc::syscall(libc::SYS_kill, 1, libc::SIGTERM));
        call("setuid", libc::syscall(libc::SYS_setuid, 0));
        call("sethostname", libc::syscall(libc::SYS_sethostname, text, 4));
        call("reboot", libc::syscall(libc::SYS_reboot, 0, 0, 0, 0));
        call("mknod", libc::syscall(libc::SYS_mknod, c"/tmp/disk".as_ptr(), libc::S_IFBLK | 0o666, 0xfe00));
    }
    print("set_id", fs::DirBuilder::new().mode(0o6777).create("/tmp/set-id").map(|()| 0));
}

/// getpid of the 32-bit table.
fn int80() {
    let result: i32;
    // SAFETY: int 0x80 with a call that takes no arguments.
    unsafe { core::arch::asm!("int 0x80", inlateout("eax") 20 => result, options(nostack)) };
    println!("int80 {result}");
}
