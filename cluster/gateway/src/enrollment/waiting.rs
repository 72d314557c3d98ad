//! Which nodes wait for an operator: bounded seats for sockets, and codes that name them.
//! Owns no socket; a code belongs to a seat and is gone with it.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orama_protocol::Redacted;
use orama_protocol::enroll::NodeConfig;
use orama_protocol::recovery::RecoveryRequest;
use tokio::sync::{mpsc, oneshot};

use super::code::Introduction;

/// Enrollment sockets at once: a fleet is enrolled in dozens, and each may hold a frame of 256 KiB.
pub const SEATS: usize = 256;
/// Of them from one address: several nodes may stand behind one NAT.
pub const SEATS_PER_ADDRESS: usize = 8;

/// What an operator's attempt says to a node's socket.
pub enum Call {
    Offer { config: Box<NodeConfig>, recovery: Option<RecoveryRequest>, answer: oneshot::Sender<Answer> },
    Register { node_id: String, public_key: String, sent: oneshot::Sender<()> },
    Abort { reason: String },
}

pub enum Answer {
    Accepted(Redacted),
    Refused(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSeat {
    #[error("too many nodes are waiting for enrollment")]
    All,
    #[error("too many nodes are waiting for enrollment from this address")]
    Address,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoClaim {
    Unknown,
    Busy,
}

#[derive(Default)]
pub struct WaitingNodes {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next_seat: u64,
    seats: HashMap<IpAddr, usize>,
    seated: usize,
    codes: HashMap<String, Entry>,
    /// Overlay addresses of attempts that are not in the store yet.
    pending: BTreeSet<Ipv4Addr>,
}

struct Entry {
    seat: u64,
    introduction: Introduction,
    calls: mpsc::Sender<Call>,
    claimed: bool,
}

impl WaitingNodes {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every critical section below leaves the tables consistent line by line.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn take_seat(self: &Arc<Self>, address: IpAddr) -> Result<Seat, NoSeat> {
        let mut inner = self.lock();
        if inner.seated >= SEATS {
            return Err(NoSeat::All);
        }
        let here = inner.seats.entry(address).or_default();
        if *here >= SEATS_PER_ADDRESS {
            return Err(NoSeat::Address);
        }
        *here += 1;
        inner.seated += 1;
        inner.next_seat += 1;
        Ok(Seat { nodes: Arc::clone(self), address, number: inner.next_seat, code: None })
    }

    /// Takes the node out of reach of other operators until the claim is dropped.
    pub fn claim(self: &Arc<Self>, code: &str) -> Result<Claim, NoClaim> {
        let mut inner = self.lock();
        let entry = inner.codes.get_mut(code).ok_or(NoClaim::Unknown)?;
        if entry.claimed {
            return Err(NoClaim::Busy);
        }
        entry.claimed = true;
        Ok(Claim {
            nodes: Arc::clone(self),
            seat: entry.seat,
            introduction: entry.introduction.clone(),
            calls: entry.calls.clone(),
        })
    }

    /// Whether a claim would find a node.
    pub fn knows(&self, code: &str) -> bool {
        self.lock().codes.contains_key(code)
    }

    /// Chooses an address that no other attempt holds, and holds it until the answer is dropped.
    pub fn hold_address(
        self: &Arc<Self>,
        choose: impl FnOnce(&BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr>,
    ) -> Option<HeldAddress> {
        let mut inner = self.lock();
        let address = choose(&inner.pending)?;
        inner.pending.insert(address);
        Some(HeldAddress { nodes: Arc::clone(self), address })
    }
}

/// One socket's place; dropping it frees the place and the code.
pub struct Seat {
    nodes: Arc<WaitingNodes>,
    address: IpAddr,
    number: u64,
    code: Option<String>,
}

impl Seat {
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Puts the node up under its code, in place of an earlier code of the same socket.
    pub fn announce(&mut self, introduction: Introduction, calls: mpsc::Sender<Call>) -> Result<(), String> {
        let nodes = Arc::clone(&self.nodes);
        let mut inner = nodes.lock();
        if self.withdraw_from(&mut inner) {
            // The attempt holds the earlier introduction: it must not meet the new one.
            return Err("an operator was enrolling the earlier code: make a new one".into());
        }
        let code = introduction.code.clone();
        if inner.codes.contains_key(&code) {
            return Err("this code is already waiting on another connection: make a new one".into());
        }
        let entry = Entry { seat: self.number, introduction, calls, claimed: false };
        inner.codes.insert(code.clone(), entry);
        self.code = Some(code);
        Ok(())
    }

    /// Takes the code off the list: the node is not waiting any more.
    pub fn withdraw(&mut self) {
        let nodes = Arc::clone(&self.nodes);
        self.withdraw_from(&mut nodes.lock());
    }

    /// True when an attempt held the node.
    fn withdraw_from(&mut self, inner: &mut Inner) -> bool {
        self.code.take().and_then(|code| inner.codes.remove(&code)).is_some_and(|entry| entry.claimed)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.withdraw();
        let mut inner = self.nodes.lock();
        inner.seated -= 1;
        if let Some(here) = inner.seats.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                inner.seats.remove(&self.address);
            }
        }
    }
}

/// An attempt's hold on a waiting node.
pub struct Claim {
    nodes: Arc<WaitingNodes>,
    seat: u64,
    pub introduction: Introduction,
    pub calls: mpsc::Sender<Call>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut inner = self.nodes.lock();
        // The code may belong to another socket by now.
        let entry = inner.codes.get_mut(&self.introduction.code).filter(|entry| entry.seat == self.seat);
        if let Some(entry) = entry {
            entry.claimed = false;
        }
    }
}

pub struct HeldAddress {
    nodes: Arc<WaitingNodes>,
    pub address: Ipv4Addr,
}

impl Drop for HeldAddress {
    fn drop(&mut self) {
        self.nodes.lock().pending.remove(&self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduction(code: &str) -> Introduction {
        Introduction {
            code: code.into(),
            wireguard_public_key: String::new(),
            wireguard_port: 1,
            version: String::new(),
            arch: String::new(),
        }
    }

    fn calls() -> mpsc::Sender<Call> {
        mpsc::channel(1).0
    }

    #[test]
    fn seats_are_bounded_and_come_back() {
        let nodes = Arc::new(WaitingNodes::default());
        let here = IpAddr::from([192, 0, 2, 1]);
        let mut seats: Vec<Seat> = (0..SEATS_PER_ADDRESS).map(|_| nodes.take_seat(here).unwrap()).collect();
        assert_eq!(nodes.take_seat(here).err(), Some(NoSeat::Address));
        seats.pop();
        seats.push(nodes.take_seat(here).unwrap());
        for number in SEATS_PER_ADDRESS..SEATS {
            seats.push(nodes.take_seat(IpAddr::from((number as u32).to_be_bytes())).unwrap());
        }
        assert_eq!(nodes.take_seat(IpAddr::from([192, 0, 2, 9])).err(), Some(NoSeat::All));
        seats.clear();
        assert!(nodes.lock().seats.is_empty());
        assert_eq!(nodes.lock().seated, 0);
    }

    #[test]
    fn a_code_has_one_owner_and_one_claim() {
        let nodes = Arc::new(WaitingNodes::default());
        let here = IpAddr::from([192, 0, 2, 1]);
        let mut first = nodes.take_seat(here).unwrap();
        let mut second = nodes.take_seat(here).unwrap();
        first.announce(introduction("AAAAAAAA"), calls()).unwrap();
        assert!(second.announce(introduction("AAAAAAAA"), calls()).is_err());
        let claim = nodes.claim("AAAAAAAA").unwrap();
        assert_eq!(nodes.claim("AAAAAAAA").err(), Some(NoClaim::Busy));
        drop(claim);
        let held = nodes.claim("AAAAAAAA").unwrap();
        assert!(first.announce(introduction("BBBBBBBB"), calls()).is_err(), "held by an attempt");
        drop(held);
        first.announce(introduction("BBBBBBBB"), calls()).unwrap();
        assert_eq!(nodes.claim("AAAAAAAA").err(), Some(NoClaim::Unknown));
        let stale = nodes.claim("BBBBBBBB").unwrap();
        drop(first);
        assert!(!nodes.knows("BBBBBBBB"));
        second.announce(introduction("BBBBBBBB"), calls()).unwrap();
        let fresh = nodes.claim("BBBBBBBB").unwrap();
        drop(stale);
        let busy = nodes.claim("BBBBBBBB").err();
        assert_eq!(busy, Some(NoClaim::Busy), "an old claim does not free another socket's node");
        drop(fresh);
        assert!(nodes.claim("BBBBBBBB").is_ok());
    }

    #[test]
    fn held_addresses_are_not_given_twice() {
        let nodes = Arc::new(WaitingNodes::default());
        let network: crate::overlay::Network = "10.0.0.0/24".parse().unwrap();
        let one = nodes.hold_address(|held| network.lowest_free(held)).unwrap();
        let two = nodes.hold_address(|held| network.lowest_free(held)).unwrap();
        assert_ne!(one.address, two.address);
        let first = one.address;
        drop(one);
        assert_eq!(nodes.hold_address(|held| network.lowest_free(held)).unwrap().address, first);
    }
}
