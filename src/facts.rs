//! Facts about the running machine for status: memory of the agent, processes with uid 0.
//! Read from /proc at each call; nothing is cached.

use std::fs;
use std::path::Path;

/// Flag of field 9 of /proc/PID/stat: a kernel thread (include/linux/sched.h).
const PF_KTHREAD: u64 = 0x0020_0000;

/// Resident set of this process, bytes; 0 when /proc cannot be read.
pub fn rss_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    let page_bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    pages * page_bytes as u64
}

/// How many processes below `proc_root` run with a real, effective, saved or file-system uid of 0.
/// Kernel threads are not counted.
pub fn root_processes(proc_root: &Path) -> u32 {
    let Ok(entries) = fs::read_dir(proc_root) else { return 0 };
    let processes = entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .filter(|entry| is_root_process(&entry.path()));
    processes.count() as u32
}

fn is_root_process(process: &Path) -> bool {
    let Ok(stat) = fs::read_to_string(process.join("stat")) else { return false };
    let Ok(status) = fs::read_to_string(process.join("status")) else { return false };
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    !is_kernel_thread(&stat) && uids.is_some_and(|uids| uids.split_whitespace().any(|uid| uid == "0"))
}

fn is_kernel_thread(stat: &str) -> bool {
    // Fields count from the last `)`: the command name may hold spaces and brackets. Field 9 is the 7th after it.
    let flags = stat.rfind(')').and_then(|end| stat.get(end + 2..)).and_then(|rest| rest.split(' ').nth(6));
    flags.and_then(|flags| flags.parse::<u64>().ok()).is_some_and(|flags| flags & PF_KTHREAD != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(root: &Path, pid: u32, flags: u64, uids: &str) {
        let folder = root.join(pid.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("stat"), format!("{pid} (x y) S 1 1 1 0 -1 {flags} 0 0")).unwrap();
        fs::write(folder.join("status"), format!("Name:\tx\nUid:\t{uids}\n")).unwrap();
    }

    #[test]
    fn counts_root_but_not_kernel_threads() {
        let root = std::env::temp_dir().join(format!("orama-facts-{}", std::process::id()));
        process(&root, 1, 0x0040_0100, "0\t0\t0\t0");
        process(&root, 2, PF_KTHREAD, "0\t0\t0\t0");
        process(&root, 300, 0x0040_0000, "1001\t1001\t1001\t1001");
        process(&root, 301, 0x0040_0000, "1001\t1001\t0\t1001");
        assert_eq!(root_processes(&root), 2);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn own_memory_is_known() {
        assert!(rss_bytes() > 100 * 1024);
    }
}
