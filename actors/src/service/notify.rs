//! What a service says of itself in the way of sd_notify(3): datagrams of `NAME=value` lines on a socket that only it
//! can see. Owns receiving and reading them; what they mean for the service's phase is the machine's.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
use tokio::io::unix::AsyncFd;

/// Largest datagram that is looked at, bytes: systemd's own limit.
const DATAGRAM_BYTES: usize = 4096;
/// Most of a status text that is kept, characters.
const STATUS_CHARS: usize = 200;
/// Datagrams taken in one go; a service that sends more waits for [`PAUSE`].
const BATCH: usize = 16;
/// So that a service that floods its socket costs a few wake-ups a second and no more.
const PAUSE: Duration = Duration::from_millis(100);

/// What one or more datagrams said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub ready: bool,
    /// The last `STATUS=`.
    pub status: Option<String>,
}

impl Said {
    /// Adds one datagram. Names that are not ours to act on (STOPPING, RELOADING, WATCHDOG, …) are passed over.
    fn hear(&mut self, datagram: &[u8]) {
        for line in String::from_utf8_lossy(datagram).lines() {
            match line.split_once('=') {
                Some(("READY", "1")) => self.ready = true,
                Some(("STATUS", text)) => {
                    let text = text.trim().chars().filter(|c| !c.is_control()).take(STATUS_CHARS);
                    self.status = Some(text.collect());
                }
                Some(_) | None => {}
            }
        }
    }
}

/// The receiving end, watched.
pub struct Ear {
    socket: AsyncFd<OwnedFd>,
    /// Datagrams of other users are not the service's.
    uid: u32,
}

impl Ear {
    pub fn new(socket: BorrowedFd<'_>, uid: u32) -> std::io::Result<Self> {
        // Deprecated for types that may change their descriptor; see `run.rs`.
        #[expect(deprecated)]
        let socket = AsyncFd::new(socket.try_clone_to_owned()?)?;
        Ok(Self { socket, uid })
    }

    /// Waits until something was said.
    pub async fn listen(&self) -> std::io::Result<Said> {
        let mut said = Said::default();
        let mut heard = 0;
        loop {
            let mut guard = self.socket.readable().await?;
            while heard < BATCH {
                match guard.try_io(|socket| receive(socket.get_ref())) {
                    Ok(received) => {
                        let (datagram, uid) = received?;
                        heard += 1;
                        if uid == Some(self.uid) {
                            said.hear(&datagram);
                        }
                    }
                    Err(_would_block) => break,
                }
            }
            if heard >= BATCH {
                tokio::time::sleep(PAUSE).await;
            }
            if heard > 0 {
                return Ok(said);
            }
        }
    }
}

/// One datagram and who sent it. There is room for credentials only: descriptors that come along are closed by the
/// kernel.
fn receive(socket: &OwnedFd) -> std::io::Result<(Vec<u8>, Option<u32>)> {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let mut control = cmsg_space!(UnixCredentials);
    let (length, uid) = {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
        let uid = message.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.uid()),
            _ => None,
        });
        (message.bytes, uid)
    };
    buffer.truncate(length);
    Ok((buffer, uid))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use nix::sys::socket::{setsockopt, sockopt};

    use super::*;

    fn said(datagram: &[u8]) -> (bool, Option<String>) {
        let mut said = Said::default();
        said.hear(datagram);
        (said.ready, said.status)
    }

    #[test]
    fn datagrams_are_read_line_by_line() {
        assert_eq!(said(b"READY=1"), (true, None));
        assert_eq!(said(b"STATUS=loading 3 of 7\nREADY=1\n"), (true, Some("loading 3 of 7".into())));
        assert_eq!(said(b"STOPPING=1\nRELOADING=1\nMAINPID=1\nWATCHDOG=1\nFDSTORE=1"), (false, None));
        for nothing in [&b""[..], b"READY=0", b"READY", b" READY=1", b"ready=1", b"\xff\xfe=\n=1"] {
            assert_eq!(said(nothing), (false, None), "{nothing:?}");
        }
        assert_eq!(said(b"STATUS=\x1b[31m\xff").1.unwrap(), "[31m\u{fffd}");
        assert_eq!(said(&[b"STATUS=".as_slice(), &[b'x'; 4000]].concat()).1.unwrap().len(), STATUS_CHARS);
    }

    #[tokio::test]
    async fn only_the_service_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        setsockopt(&socket, sockopt::PassCred, &true).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let uid = nix::unistd::getuid().as_raw();
        let ear = Ear::new(socket.as_fd(), uid).unwrap();
        sender.set_nonblocking(true).unwrap();
        sender.send_to(b"STATUS=busy", &path).unwrap();
        sender.send_to(b"READY=1", &path).unwrap();
        assert_eq!(ear.listen().await.unwrap(), Said { ready: true, status: Some("busy".into()) });
        let stranger = Ear::new(socket.as_fd(), uid + 1).unwrap();
        sender.send_to(b"READY=1\nSTATUS=x", &path).unwrap();
        assert_eq!(stranger.listen().await.unwrap(), Said::default());
    }
}
