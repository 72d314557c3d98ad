//! What only PID 1 does: the first mounts, kernel settings, collecting orphans, the watchdog, the last sync.
//! Owns no policy: when to reboot is the boot actor's decision, this file only carries it out.

pub mod hardening;
pub mod memory;
pub mod mounts;
pub mod orphans;
pub mod power;
pub mod watchdog;
