//! A service that does, by its argument, one thing that no service should. It runs on nodes of the scenario
//! `sandbox_abuse`, one profile per abuse, and says in its log what it did. What it may not reach is the test's part.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let abuse = std::env::args().nth(1).unwrap_or_default();
    println!("{abuse} begins");
    match abuse.as_str() {
        "forks" => forks(),
        "memory" => memory(),
        "disk" => disk(),
        "deaf" => deaf(),
        "daemon" => return daemon(),
        "mute" => mute(),
        "flood" => flood(),
        "kill" => refused(),
        "foreign" => foreign(),
        other => eprintln!("there is no abuse {other:?}"),
    }
    ExitCode::FAILURE
}

fn rest() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// The child's pid in the parent, 0 in the child, negative when there is none.
fn fork() -> i32 {
    // SAFETY: no pointers. This program has one thread, so the child's memory is whole.
    unsafe { libc::fork() }
}

/// As many processes as there can be, and then more.
fn forks() -> ! {
    loop {
        if fork() < 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn memory() -> ! {
    let mut all = Vec::new();
    loop {
        all.push(vec![1u8; 1 << 20]);
        // Slow enough for the serial console, quick enough for the test.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Fills its folder, then tries again and again.
fn disk() -> ! {
    let block = vec![7u8; 64 * 1024];
    let mut told = false;
    for number in 0u64.. {
        let file = OpenOptions::new().create(true).append(true).open(format!("fill-{}", number % 8));
        if let Err(error) = file.and_then(|mut file| file.write_all(&block)) {
            if !told {
                println!("the disk is full: {error}");
                told = true;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    rest()
}

/// Ignores its stop signal, and so does a process that it sends away.
fn deaf() -> ! {
    // SAFETY: SIG_IGN is no function of ours; the call keeps nothing.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    if fork() == 0 {
        // SAFETY: no pointers.
        unsafe { libc::setsid() };
    }
    rest()
}

/// Leaves two processes behind in sessions of their own, as daemons do, and ends well.
fn daemon() -> ExitCode {
    for _ in 0..2 {
        if fork() == 0 {
            // SAFETY: no pointers.
            unsafe { libc::setsid() };
            rest();
        }
    }
    ExitCode::SUCCESS
}

fn mute() -> ! {
    for descriptor in [1, 2] {
        // SAFETY: nothing of this program writes to them any more, and no object owns them.
        unsafe { libc::close(descriptor) };
    }
    rest()
}

/// A netlink socket, which no profile here allows.
fn refused() {
    // SAFETY: no pointers.
    let result = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) };
    if result >= 0 {
        println!("the socket was made");
    }
}

fn flood() -> ! {
    loop {
        refused();
    }
}

/// A system call of 32-bit x86.
fn foreign() {
    const GETPID: i32 = 20;
    // SAFETY: getpid takes nothing and touches no memory; `int 0x80` clobbers rax and nothing else of ours, and the
    // 64-bit kernel entry saves the rest (r8 to r11 are declared as clobbered because it zeroes them).
    unsafe {
        core::arch::asm!(
            "int 0x80",
            inlateout("eax") GETPID => _,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
        );
    }
    println!("a 32-bit system call came back");
}
