//! What the watcher reads of a process whose call waits: its texts, and how it would take a SIGSYS.

use std::fs;
use std::io;
use std::net::SocketAddr;

use super::kernel;

/// Longest text read from a service, in bytes: for people to recognise, not to reconstruct.
const MAX_TEXT: usize = 512;

/// The NUL-terminated text at an address; `None` when nothing can be read there.
pub(super) fn text(pid: u32, address: u64) -> Option<String> {
    if address == 0 {
        return None;
    }
    let mut buffer = [0; MAX_TEXT];
    let count = kernel::read_memory(pid, address, &mut buffer);
    if count == 0 {
        return None;
    }
    let read = &buffer[..count];
    Some(match read.iter().position(|byte| *byte == 0) {
        Some(end) => String::from_utf8_lossy(&read[..end]).into_owned(),
        None => String::from_utf8_lossy(read).into_owned() + "…",
    })
}

/// A socket address in words; `None` when it cannot be read or is of no family with words for it.
pub(super) fn address(pid: u32, at: u64, length: u64) -> Option<String> {
    /// sizeof(struct sockaddr_un), the largest of the three.
    const MAX_ADDRESS: usize = 110;
    let mut buffer = [0; MAX_ADDRESS];
    let wanted = usize::try_from(length).ok()?.min(MAX_ADDRESS);
    let count = kernel::read_memory(pid, at, &mut buffer[..wanted]);
    address_in_words(&buffer[..count])
}

/// Of the bytes of a struct sockaddr.
fn address_in_words(bytes: &[u8]) -> Option<String> {
    let port = || Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
    match i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?)) {
        libc::AF_INET => {
            let address: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(SocketAddr::from((address, port()?)).to_string())
        }
        libc::AF_INET6 => {
            let address: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            Some(SocketAddr::from((address, port()?)).to_string())
        }
        libc::AF_UNIX => {
            let path = &bytes[2..];
            let (mark, path) = match path.split_first() {
                Some((0, name)) => ("@", name),
                _ => ("", path.split(|byte| *byte == 0).next().unwrap_or_default()),
            };
            Some(format!("{mark}{}", String::from_utf8_lossy(path)))
        }
        _ => None,
    }
}

/// The lines of /proc/PID/status that decide which signal ends a process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Disposition {
    /// The pid of the main thread.
    pub process: u32,
    /// SIGSYS is neither caught, ignored nor blocked, and the process is not the first of a PID namespace, which
    /// only SIGKILL reaches.
    pub dies_of_sigsys: bool,
}

pub(super) fn disposition(pid: u32) -> io::Result<Disposition> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse(&status).ok_or_else(|| io::Error::other("unreadable status"))
}

fn parse(status: &str) -> Option<Disposition> {
    const SIGSYS: u64 = 1 << (libc::SIGSYS - 1);
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let spared = |name: &str| Some(u64::from_str_radix(field(name)?, 16).ok()? & SIGSYS != 0);
    let is_init = field("NSpid")?.split_ascii_whitespace().next_back()? == "1";
    Some(Disposition {
        process: field("Tgid")?.parse().ok()?,
        dies_of_sigsys: !(is_init || spared("SigBlk")? || spared("SigIgn")? || spared("SigCgt")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(pids: &str, blocked: &str, ignored: &str, caught: &str) -> String {
        format!(
            "Name:\tx\nTgid:\t7\nPid:\t9\nNSpid:\t{pids}\nSigBlk:\t{blocked}\nSigIgn:\t{ignored}\nSigCgt:\t{caught}\n"
        )
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let check = |bytes: &[u8], words: Option<&str>| {
            assert_eq!(address_in_words(bytes).as_deref(), words, "{bytes:?}");
        };
        check(&[2, 0, 0, 53, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], Some("10.0.0.1:53"));
        let mut six = vec![10, 0, 0x1f, 0x90, 0, 0, 0, 0];
        six.extend(std::net::Ipv6Addr::LOCALHOST.octets());
        check(&six, Some("[::1]:8080"));
        check(b"\x01\x00/run/x.sock\0rest", Some("/run/x.sock"));
        check(b"\x01\x00\0bus", Some("@bus"));
        check(&[2, 0, 0], None);
        check(&[16, 0, 0, 0], None);
        check(&[], None);
    }

    #[test]
    fn sigsys_is_for_those_that_die_of_it() {
        let none = "0000000000000000";
        let sigsys = "0000000040000000";
        let others = "00000001bfffffff";
        let dies = |text: String| parse(&text).expect("a status").dies_of_sigsys;
        assert!(dies(status("9", none, others, others)));
        assert!(!dies(status("9", sigsys, none, none)));
        assert!(!dies(status("9", none, sigsys, none)));
        assert!(!dies(status("9", none, none, sigsys)));
        assert!(!dies(status("9\t1", none, none, none)));
        assert_eq!(parse(&status("9", none, none, none)).expect("a status").process, 7);
        assert_eq!(parse("Tgid: 1\n"), None);
    }
}
