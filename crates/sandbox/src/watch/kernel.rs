//! The ioctls of a seccomp listener and what else the watcher asks of the kernel. Layouts and numbers are those of
//! linux/seccomp.h.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// `struct seccomp_data`: what a filter decides by.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SeccompData {
    pub number: i32,
    pub arch: u32,
    pub instruction_pointer: u64,
    pub args: [u64; 6],
}

/// `struct seccomp_notif`
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Notification {
    pub id: u64,
    pub pid: u32,
    flags: u32,
    pub data: SeccompData,
}

/// `struct seccomp_notif_resp`
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// What a waiting call is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The kernel makes it, with the arguments that were reported: they are in registers.
    Continue,
    Errno(u32),
}

const NOTIF_RECV: libc::Ioctl = 0xc050_2100; // _IOWR('!', 0, struct seccomp_notif)
const NOTIF_SEND: libc::Ioctl = 0xc018_2101; // _IOWR('!', 1, struct seccomp_notif_resp)
const NOTIF_ID_VALID: libc::Ioctl = 0x4008_2102; // _IOW('!', 2, __u64)
const FLAG_CONTINUE: u32 = 1;

const _: () = assert!(size_of::<Notification>() == 80 && size_of::<Response>() == 24);

/// The next waiting call; `None` when its process has died meanwhile.
pub(super) fn receive(listener: BorrowedFd<'_>) -> Option<Notification> {
    // Must be zero, and is.
    let mut notification = Notification::default();
    // SAFETY: the listener is a seccomp descriptor and the kernel fills exactly this structure. It does not block:
    // poll has just said that one is waiting, and nobody else takes from this listener.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, std::ptr::from_mut(&mut notification)) };
    (result == 0).then_some(notification)
}

/// Answers a call. A call whose process has died needs none: that is no error.
pub(super) fn reply(listener: BorrowedFd<'_>, id: u64, reply: Reply) {
    let (error, flags) = match reply {
        Reply::Continue => (0, FLAG_CONTINUE),
        Reply::Errno(errno) => (-(errno as i32), 0),
    };
    let mut response = Response { id, value: 0, error, flags };
    // SAFETY: the kernel reads exactly this structure.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, std::ptr::from_mut(&mut response)) };
}

/// Whether the call still waits: its pid is then still that of the process that made it.
pub(super) fn waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    let mut id = id;
    // SAFETY: the kernel reads eight bytes.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_ID_VALID, std::ptr::from_mut(&mut id)) == 0 }
}

/// Answers everything with this error until no process uses the filter any more.
pub(crate) fn refuse_all(listener: BorrowedFd<'_>, errno: u32) {
    loop {
        let mut polled = [libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        poll(&mut polled, None);
        match polled[0].revents {
            0 => {}
            events if events & libc::POLLIN != 0 => {
                if let Some(notification) = receive(listener) {
                    reply(listener, notification.id, Reply::Errno(errno));
                }
            }
            _ => return,
        }
    }
}

/// poll(2), for at most `patience`. Interrupted or failed is as good as nothing ready: the caller polls again.
pub(super) fn poll(polled: &mut [libc::pollfd], patience: Option<Duration>) {
    let timeout = patience.map_or(-1, |patience| i32::try_from(patience.as_millis()).unwrap_or(i32::MAX));
    // SAFETY: a slice of pollfd of this length.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) };
    if result < 0 {
        polled.iter_mut().for_each(|polled| polled.revents = 0);
    }
}

/// A hold on a process by the pid of its main thread.
pub(super) fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Reads a process's memory up to the first page that is not there; returns how much.
pub(super) fn read_memory(pid: u32, address: u64, buffer: &mut [u8]) -> usize {
    const PAGE: u64 = 4096;
    let Some(end) = address.checked_add(buffer.len() as u64) else { return 0 };
    // One piece a page: a piece that cannot be read whole is not read at all.
    let mut pieces: Vec<libc::iovec> = Vec::new();
    let mut at = address;
    while at < end {
        let next = ((at / PAGE + 1) * PAGE).min(end);
        pieces.push(libc::iovec { iov_base: at as *mut libc::c_void, iov_len: (next - at) as usize });
        at = next;
    }
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: `local` is our buffer; the other side's addresses are only looked up in the other process.
    let count = unsafe {
        libc::process_vm_readv(pid as i32, &local, 1, pieces.as_ptr(), pieces.len() as libc::c_ulong, 0)
    };
    usize::try_from(count).unwrap_or(0)
}
