//! A network of its own between two threads, with a delay: a TUN device in a namespace on each side, and threads that
//! carry every packet across after half a round trip. The kernels' TCP on both sides is the real one, so connections,
//! retransmissions and silence cost what they cost.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sched::{CloneFlags, unshare};

/// Largest packet of a TUN device with its usual MTU.
const PACKET_BYTES: usize = 1500;
const DEVICE: &str = "delayed0";
const NETWORK: &str = "10.77.0.0/24";
/// `TUNSETIFF` of linux/if_tun.h.
const TUNSETIFF: u64 = 0x4004_54ca;

nix::ioctl_write_ptr_bad!(set_interface, TUNSETIFF, libc::ifreq);

/// Time that a packet takes one way, shared by both directions.
#[derive(Clone, Default)]
pub struct Delay(Arc<AtomicU64>);

impl Delay {
    pub fn set_round_trip(&self, round_trip: Duration) {
        self.0.store(round_trip.as_nanos() as u64 / 2, Ordering::Relaxed);
    }

    fn one_way(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// Moves the calling thread, and the threads that it starts from now on, into a namespace with one device that has these
/// addresses of the network.
pub fn enter(addresses: &[Ipv4Addr]) -> io::Result<File> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| {
        io::Error::other(format!("a network namespace cannot be made ({error}): run this as root"))
    })?;
    let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: all-zero bytes are a valid ifreq: it is made of integers and a union of integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open, and the kernel reads one ifreq from the pointer, which lives until after the call.
    unsafe { set_interface(tun.as_raw_fd(), &request) }.map_err(io::Error::from)?;
    for address in addresses {
        ip(&["address", "add", &address.to_string(), "dev", DEVICE])?;
    }
    ip(&["link", "set", DEVICE, "up"])?;
    ip(&["route", "add", NETWORK, "dev", DEVICE])?;
    ip(&["link", "set", "lo", "up"])?;
    Ok(tun)
}

/// What is sent to this address of the calling thread's namespace vanishes from now on.
pub fn silence(address: Ipv4Addr) -> io::Result<()> {
    ip(&["address", "del", &format!("{address}/32"), "dev", DEVICE])
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("ip {}: {said}", arguments.join(" "))))
}

/// Carries packets in both directions for as long as the process lives.
pub fn join(one: &File, other: &File, delay: &Delay) -> io::Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        let (mut from, to, delay) = (from.try_clone()?, to.try_clone()?, delay.clone());
        let (send, receive) = channel::<(Instant, Vec<u8>)>();
        std::thread::spawn(move || {
            let mut packet = [0; PACKET_BYTES];
            while let Ok(length) = from.read(&mut packet) {
                let sent = send.send((Instant::now() + delay.one_way(), packet[..length].to_vec()));
                if sent.is_err() {
                    return;
                }
            }
        });
        std::thread::spawn(move || deliver(&receive, to));
    }
    Ok(())
}

fn deliver(packets: &Receiver<(Instant, Vec<u8>)>, mut to: File) {
    while let Ok((due, packet)) = packets.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A device that does not take a packet has lost it, as networks do.
        let _ = to.write(&packet);
    }
}
