//! Tries calls against a compiled filter in throw-away children and says what the kernel did. Nothing that the
//! filter allows is executed: a second filter hands it to this process as tracer, which skips it.
//!
//! Needs no privileges. One child serves many calls; a call that kills it costs a new one.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use crate::filter::Filter;
use crate::spawn::listener_flags;
use crate::sys::{checked, raw};
use crate::watch::kernel;

/// One call to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    pub number: u32,
    pub args: [u64; 6],
    /// Through the 32-bit entry, where numbers mean other calls.
    pub int80: bool,
}

/// What the kernel did with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// It would have been executed.
    Allow,
    Errno(u32),
    /// Handed to the listener, so to the watcher.
    Refuse,
    Kill,
}

/// What skipped and refused calls return here: no errors of the kernel's.
const SKIPPED: i64 = -4001;
const REFUSED: u32 = 4000;
/// Calls for one child.
const BATCH: usize = 4096;

/// What parent and child share while a batch runs.
#[repr(C)]
struct Shared {
    listener: AtomicI64,
    next: AtomicUsize,
    results: [AtomicI64; BATCH],
}

struct Mapping(*mut Shared);

impl Mapping {
    fn new() -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, of zeroes, which are valid atomics.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Shared>(), protection, flags, -1, 0) };
        if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Mapping(base.cast())) }
    }

    fn get(&self) -> &Shared {
        // SAFETY: the mapping lives as long as self, and all access is atomic.
        unsafe { &*self.0 }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping of this size; `get` borrows from self.
        unsafe { libc::munmap(self.0.cast(), size_of::<Shared>()) };
    }
}

/// What the kernel does with each of the calls, in their order.
pub fn attempt(filter: &Filter, attempts: &[Attempt]) -> io::Result<Vec<Did>> {
    let mut done = Vec::with_capacity(attempts.len());
    while done.len() < attempts.len() {
        let rest = &attempts[done.len()..];
        done.extend(batch(filter, &rest[..rest.len().min(BATCH)])?);
    }
    Ok(done)
}

/// What one child gets done; at least one call.
fn batch(filter: &Filter, attempts: &[Attempt]) -> io::Result<Vec<Did>> {
    let mapping = Mapping::new()?;
    let shared = mapping.get();
    let policy = filter.fprog();
    // BPF_RET | BPF_K: a tracer decides about everything that the policy's filter allows.
    let mut trace = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_TRACE }];
    let guard = libc::sock_fprog { len: 1, filter: trace.as_mut_ptr() };
    let flags = listener_flags();
    // SAFETY: fork without libc's handlers; the child goes straight into `child`, which makes raw calls only.
    let pid = checked(unsafe { raw(libc::SYS_fork, [0; 6]) })? as i32;
    if pid == 0 {
        // SAFETY: this is the child; everything it is given is its own copy, but for the shared mapping.
        unsafe { child(&policy, &guard, flags, attempts, shared) };
    }
    let killed = Traced { pid, reaped: Cell::new(false) }.serve(shared)?;
    let count = if killed { shared.next.load(Ordering::Acquire) } else { attempts.len() };
    let mut done: Vec<Did> =
        shared.results[..count].iter().map(|result| did(result.load(Ordering::Acquire))).collect();
    if killed {
        done.push(Did::Kill);
    }
    Ok(done)
}

fn did(result: i64) -> Did {
    match result {
        SKIPPED => Did::Allow,
        other if other == -i64::from(REFUSED) => Did::Refuse,
        other => Did::Errno(u32::try_from(-other).unwrap_or(0)),
    }
}

/// Installs both filters and makes the calls.
///
/// # Safety
/// Only in a forked child; the programs and attempts must be valid.
unsafe fn child(
    policy: &libc::sock_fprog,
    guard: &libc::sock_fprog,
    flags: u32,
    attempts: &[Attempt],
    shared: &Shared,
) -> ! {
    // SAFETY: pointers to live objects of the kinds that the calls expect. The calls to be tried get made-up
    // arguments, but none of them is executed: the guard is in place and the tracer skips them.
    unsafe {
        raw(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0, 0]);
        raw(libc::SYS_ptrace, [libc::PTRACE_TRACEME as usize, 0, 0, 0, 0, 0]);
        core::arch::asm!("int3");
        let install = |program: &libc::sock_fprog, flags: u32| {
            let program = std::ptr::from_ref(program) as usize;
            raw(libc::SYS_seccomp, [libc::SECCOMP_SET_MODE_FILTER as usize, flags as usize, program, 0, 0, 0])
        };
        let guarded = install(guard, 0);
        let listener = if guarded == 0 { install(policy, flags) } else { guarded };
        shared.listener.store(listener as i64, Ordering::Release);
        core::arch::asm!("int3");
        let mut index = 0;
        while index < attempts.len() {
            let attempt = &attempts[index];
            shared.next.store(index, Ordering::Release);
            let args = attempt.args.map(|argument| argument as usize);
            let result = match attempt.int80 {
                true => int80(attempt.number),
                false => raw(i64::from(attempt.number), args) as i64,
            };
            shared.results[index].store(result, Ordering::Release);
            index = index.wrapping_add(1);
        }
        loop {
            core::arch::asm!("int3");
        }
    }
}

/// The 32-bit entry, without arguments.
fn int80(number: u32) -> i64 {
    let result: i32;
    // SAFETY: as for every call here: nothing is executed. The kernel preserves the other registers.
    unsafe {
        core::arch::asm!("int 0x80", inlateout("eax") number => result, options(nostack));
    }
    i64::from(result)
}

/// A traced child; killed and reaped when dropped, unless it has been reaped before.
struct Traced {
    pid: i32,
    reaped: Cell<bool>,
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.end();
    }
}

impl Traced {
    /// Lets it run to its end: true when a call killed it.
    fn serve(&self, shared: &Shared) -> io::Result<bool> {
        const SECCOMP_STOP: i32 = libc::SIGTRAP | (libc::PTRACE_EVENT_SECCOMP << 8);
        let mut breaks = 0;
        let mut answers: Option<std::thread::JoinHandle<()>> = None;
        let killed = loop {
            let status = self.wait()?;
            if self.reaped.get() {
                break libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS;
            }
            match status >> 8 {
                SECCOMP_STOP if breaks >= 2 => self.skip()?,
                // The filters are being installed.
                SECCOMP_STOP => {}
                libc::SIGTRAP => {
                    breaks += 1;
                    match breaks {
                        1 => {
                            let options = libc::PTRACE_O_TRACESECCOMP | libc::PTRACE_O_EXITKILL;
                            self.ptrace(libc::PTRACE_SETOPTIONS, 0, options as usize)?;
                        }
                        2 => answers = Some(self.answer(shared.listener.load(Ordering::Acquire))?),
                        _ => break false,
                    }
                }
                other => {
                    let at = shared.next.load(Ordering::Acquire);
                    return Err(io::Error::other(format!("the trial child stopped with {other} at {at}")));
                }
            }
            self.ptrace(libc::PTRACE_CONT, 0, 0)?;
        };
        self.end();
        if let Some(thread) = answers {
            // It ends with the child and cannot panic.
            let _ended = thread.join();
        }
        if breaks < 2 {
            return Err(io::Error::other("the trial child could not install the filters"));
        }
        Ok(killed)
    }

    fn wait(&self) -> io::Result<i32> {
        let mut status = 0;
        // SAFETY: our own child; status is valid for writing.
        let waited = unsafe { libc::waitpid(self.pid, &mut status, libc::__WALL) };
        if waited != self.pid {
            return Err(io::Error::last_os_error());
        }
        self.reaped.set(libc::WIFSIGNALED(status) || libc::WIFEXITED(status));
        Ok(status)
    }

    fn ptrace(&self, request: libc::c_uint, address: usize, data: usize) -> io::Result<()> {
        // SAFETY: none of the requests made here reads or writes memory of ours.
        match unsafe { libc::ptrace(request, self.pid, address, data) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The call that it stopped at is not made, and returns [`SKIPPED`].
    fn skip(&self) -> io::Result<()> {
        let at = |register: i32| register as usize * size_of::<usize>();
        self.ptrace(libc::PTRACE_POKEUSER, at(libc::ORIG_RAX), -1_isize as usize)?;
        self.ptrace(libc::PTRACE_POKEUSER, at(libc::RAX), SKIPPED as usize)
    }

    /// Answers what goes to its listener, until it has ended.
    fn answer(&self, listener: i64) -> io::Result<std::thread::JoinHandle<()>> {
        if listener < 0 {
            return Err(io::Error::from_raw_os_error(-listener as i32));
        }
        // SAFETY: no pointers; new descriptors that nobody else knows.
        let listener = unsafe {
            let process = checked(raw(libc::SYS_pidfd_open, [self.pid as usize, 0, 0, 0, 0, 0]))?;
            let process = OwnedFd::from_raw_fd(process as i32);
            let from = std::os::fd::AsRawFd::as_raw_fd(&process) as usize;
            let taken = checked(raw(libc::SYS_pidfd_getfd, [from, listener as usize, 0, 0, 0, 0]))?;
            OwnedFd::from_raw_fd(taken as i32)
        };
        std::thread::Builder::new()
            .name("trial".to_owned())
            .spawn(move || kernel::refuse_all(listener.as_fd(), REFUSED))
    }

    fn end(&self) {
        if self.reaped.replace(true) {
            return;
        }
        // SAFETY: our own child, which nobody has reaped, so the pid is its.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL);
        }
    }
}
