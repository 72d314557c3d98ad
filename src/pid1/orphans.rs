//! Collects children that nobody waits for: processes whose parent died and that the kernel gave to PID 1.
//! Children that the agent started itself are left to their owners, which collect them by pidfd within
//! milliseconds; `waitpid(-1)` would steal their exit codes. A child counts as an orphan once it has been a
//! zombie in two scans in a row.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// Time between two scans. An owner has this long to collect its own child.
pub const SCAN_EVERY: Duration = Duration::from_secs(2);

/// A zombie, told apart from a later process with the same number by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Zombie {
    pub pid: i32,
    /// Clock ticks since boot, field 22 of /proc/PID/stat.
    pub started_ticks: u64,
}

/// Remembers the zombies of the previous scan.
#[derive(Debug, Default)]
pub struct Orphans {
    seen: BTreeSet<Zombie>,
}

impl Orphans {
    /// The zombies that were there in the last scan too: nobody wants them.
    pub fn scan(&mut self, now: BTreeSet<Zombie>) -> Vec<Zombie> {
        let orphans = now.intersection(&self.seen).copied().collect();
        self.seen = now;
        orphans
    }
}

/// Scans and collects once. Returns how many orphans were collected.
pub fn collect(orphans: &mut Orphans, proc_root: &Path, parent: i32) -> usize {
    let unwanted = orphans.scan(zombies_of(proc_root, parent));
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
    unwanted.iter().filter(|z| waitid(Id::Pid(Pid::from_raw(z.pid)), flags).is_ok()).count()
}

fn zombies_of(proc_root: &Path, parent: i32) -> BTreeSet<Zombie> {
    let Ok(entries) = fs::read_dir(proc_root) else { return BTreeSet::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| zombie_in(&stat, parent))
        .collect()
}

/// Reads one /proc/PID/stat line. The command name may hold spaces and brackets, so fields count from the last `)`.
fn zombie_in(stat: &str, parent: i32) -> Option<Zombie> {
    let pid = stat.split(' ').next()?.parse().ok()?;
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ');
    let (state, ppid) = (fields.next()?, fields.next()?.parse::<i32>().ok()?);
    // Fields 3 and 4 are consumed; field 22 is the 18th after them.
    let started_ticks = fields.nth(17)?.parse().ok()?;
    (state == "Z" && ppid == parent).then_some(Zombie { pid, started_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: i32, state: &str, ppid: i32, started: u64) -> String {
        format!("{pid} (a ) b) {state} {ppid} 1 1 0 -1 4228 0 0 0 0 0 0 0 0 20 0 1 0 {started} 0 0")
    }

    #[test]
    fn reads_state_parent_and_start_past_a_hostile_name() {
        assert_eq!(zombie_in(&stat(7, "Z", 1, 55), 1), Some(Zombie { pid: 7, started_ticks: 55 }));
        assert_eq!(zombie_in(&stat(7, "S", 1, 55), 1), None);
        assert_eq!(zombie_in(&stat(7, "Z", 3, 55), 1), None);
        assert_eq!(zombie_in("garbage", 1), None);
    }

    #[test]
    fn only_a_zombie_seen_twice_is_an_orphan() {
        let (a, b) = (Zombie { pid: 5, started_ticks: 1 }, Zombie { pid: 5, started_ticks: 2 });
        let mut orphans = Orphans::default();
        assert!(orphans.scan([a].into()).is_empty());
        assert!(orphans.scan([b].into()).is_empty(), "same number, another process");
        assert_eq!(orphans.scan([b].into()), [b]);
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "a child that nobody waits for is what is tested")]
    fn a_real_orphan_is_collected_and_an_owned_child_is_not_stolen() {
        let me = std::process::id() as i32;
        let mut owned = std::process::Command::new("/bin/true").spawn().unwrap();
        let mut orphans = Orphans::default();
        while zombies_of(Path::new("/proc"), me).is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // The first scan only notes it, so its owner still gets the exit code.
        assert_eq!(collect(&mut orphans, Path::new("/proc"), me), 0);
        assert!(owned.wait().unwrap().success());

        let forgotten = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = forgotten.id() as i32;
        while !zombies_of(Path::new("/proc"), me).iter().any(|z| z.pid == pid) {
            std::thread::sleep(Duration::from_millis(5));
        }
        collect(&mut orphans, Path::new("/proc"), me);
        assert_eq!(collect(&mut orphans, Path::new("/proc"), me), 1);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
