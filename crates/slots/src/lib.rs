//! What a node knows about the disk it booted from: its four partitions, the slot and verity root named
//! on the kernel command line, and the boot counter in the name of the booted UKI.
//! It does not open dm-verity, does not touch the data volume and writes nothing but that one file name.
#![forbid(unsafe_code)]

pub mod boot_count;
pub mod cmdline;
pub mod disk;
mod efivar;

pub use efivar::EfiVarError;

/// One of the two root file system partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    A,
    B,
}

impl Slot {
    /// The letter on the kernel command line and in the partition name.
    pub fn letter(self) -> char {
        match self {
            Slot::A => 'a',
            Slot::B => 'b',
        }
    }

    /// The slot an update is written to while this one runs.
    pub fn standby(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.letter())
    }
}
