//! Listens to the kernel's audit records, as the agent's violation reporter will: the kernel log drops most.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// AUDIT_NLGRP_READLOG as a bit of `nl_groups`.
const READLOG: u32 = 1;
/// Size of `struct nlmsghdr`.
const HEADER: usize = 16;

pub struct Listener {
    socket: OwnedFd,
}

impl Listener {
    pub fn new() -> Listener {
        // SAFETY: plain system calls on a descriptor of our own; sockaddr_nl is plain data.
        unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            let fd = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_AUDIT);
            assert!(fd >= 0, "audit socket: {}", io::Error::last_os_error());
            let mut address: libc::sockaddr_nl = std::mem::zeroed();
            address.nl_family = libc::AF_NETLINK as u16;
            address.nl_groups = READLOG;
            let size = size_of::<libc::sockaddr_nl>() as u32;
            let bound = libc::bind(fd, std::ptr::from_ref(&address).cast(), size);
            assert_eq!(bound, 0, "audit group: {}", io::Error::last_os_error());
            Listener { socket: OwnedFd::from_raw_fd(fd) }
        }
    }

    /// The first seccomp record with both texts in it.
    pub fn wait_for(&mut self, first: &str, second: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut buffer = [0; 16 * 1024];
        while Instant::now() < deadline {
            // SAFETY: the buffer is ours and as long as stated.
            let length =
                unsafe { libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            match usize::try_from(length) {
                Ok(length) if length > HEADER => {
                    let text = String::from_utf8_lossy(&buffer[HEADER..length]).into_owned();
                    if text.contains(first) && text.contains(second) {
                        return text;
                    }
                }
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        panic!("no audit record with{first}and{second}");
    }
}
