//! Calls that a profile refuses, made in every way that could confuse whoever answers them.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The call that no profile of a test allows: acct(2), with a path, which does nothing that this probe may do.
pub fn refused() -> i32 {
    // SAFETY: the argument is a C string.
    match unsafe { libc::syscall(libc::SYS_acct, c"/tmp/refused".as_ptr()) } {
        0 => 0,
        _ => io::Error::last_os_error().raw_os_error().unwrap_or(-1),
    }
}

fn say(text: std::fmt::Arguments<'_>) {
    println!("{text}");
    io::stdout().flush().expect("flush");
}

/// `count` calls from each of `threads`; says with how many different errors they ended.
pub fn threads(threads: usize, count: usize) {
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            std::thread::spawn(move || {
                let mut errors: Vec<i32> = (0..count).map(|_| refused()).collect();
                errors.sort_unstable();
                errors.dedup();
                errors
            })
        })
        .collect();
    let mut errors: Vec<i32> =
        workers.into_iter().flat_map(|worker| worker.join().expect("worker")).collect();
    errors.sort_unstable();
    errors.dedup();
    say(format_args!("errors {errors:?}"));
}

/// Refused calls for ever, from several threads.
pub fn flood() {
    for _ in 0..4 {
        std::thread::spawn(|| {
            loop {
                refused();
            }
        });
    }
    say(format_args!("flooding"));
    std::thread::sleep(super::LIFETIME);
}

/// `count` calls one after the other, and how long they took.
pub fn timed(count: usize) {
    let begin = Instant::now();
    (0..count).for_each(|_| {
        refused();
    });
    say(format_args!("milliseconds {}", begin.elapsed().as_millis()));
}

static TICKS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn tick(_: libc::c_int) {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

/// Calls under a storm of signals with restarts, as the Go runtime makes them to preempt its threads.
pub fn preempted(count: usize) {
    // SAFETY: the handler only counts; the structures are filled as the calls expect.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = tick as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
        let interval = libc::timeval { tv_sec: 0, tv_usec: 50 };
        let timer = libc::itimerval { it_interval: interval, it_value: interval };
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
    }
    let mut errors: Vec<i32> = (0..count).map(|_| refused()).collect();
    // SAFETY: as above.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &std::mem::zeroed(), std::ptr::null_mut()) };
    errors.sort_unstable();
    errors.dedup();
    say(format_args!("errors {errors:?} signals {}", TICKS.load(Ordering::Relaxed) > 0));
}

/// What SIGSYS meets before the refused call is made.
pub fn deaf(how: &str) {
    extern "C" fn survive(_: libc::c_int) {}
    // SAFETY: the handler does nothing; the set is filled before it is used.
    unsafe {
        match how {
            "caught" => {
                let handler = survive as extern "C" fn(libc::c_int) as usize;
                libc::signal(libc::SIGSYS, handler);
            }
            "ignored" => {
                libc::signal(libc::SIGSYS, libc::SIG_IGN);
            }
            "blocked" => {
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&mut set);
                libc::sigaddset(&mut set, libc::SIGSYS);
                libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            }
            "default" => {}
            other => panic!("unknown way {other}"),
        }
    }
    let errno = refused();
    say(format_args!("survived with {errno}"));
}

/// The refused call in a forked child; says how the child ended.
pub fn in_child() {
    // SAFETY: single-threaded; the child makes one call and ends.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            refused();
            libc::_exit(0);
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        say(format_args!("child {child} status {status}"));
    }
}

/// Children that die by SIGKILL while their refused calls wait or are being answered.
pub fn dying(count: usize) {
    for _ in 0..count {
        // SAFETY: single-threaded; the child only makes calls until it is killed.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                loop {
                    refused();
                }
            }
            std::thread::sleep(Duration::from_micros(300));
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    }
    say(format_args!("last {}", refused()));
}
