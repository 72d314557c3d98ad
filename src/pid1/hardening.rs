//! Kernel settings that close what a node never needs. Applied after the initramfs has loaded every module.
//! A setting that this kernel does not have is reported, not fatal.

use std::fs;
use std::path::Path;

/// Path below /proc/sys, value, and why.
const SETTINGS: [(&str, &str, &str); 15] = [
    ("kernel/modules_disabled", "1", "every module was loaded by the initramfs; nothing may add code later"),
    ("kernel/kexec_load_disabled", "1", "a new kernel comes through a verified boot only"),
    ("kernel/sysrq", "0", "the console must not be a way around the agent"),
    ("kernel/kptr_restrict", "2", "kernel addresses help only an exploit"),
    ("kernel/dmesg_restrict", "1", "services must not read the kernel log"),
    ("kernel/yama/ptrace_scope", "3", "nobody debugs a process on a node"),
    ("kernel/unprivileged_bpf_disabled", "1", "no service loads BPF"),
    ("kernel/perf_event_paranoid", "3", "no service profiles the kernel"),
    ("kernel/core_pattern", "/dev/null", "a core dump could hold a key"),
    ("fs/suid_dumpable", "0", "same"),
    ("kernel/panic_on_oops", "1", "a damaged kernel must reboot, not limp"),
    ("user/max_user_namespaces", "0", "no service gains capabilities in a namespace of its own"),
    ("net/ipv4/conf/all/rp_filter", "1", "an overlay address must arrive through the tunnel"),
    ("net/ipv4/conf/all/accept_redirects", "0", "routes come from the agent"),
    ("net/ipv4/tcp_syncookies", "1", "port 9999 is open to the world while the node enrols"),
];

/// Applies every setting below `root` (normally `/proc/sys`) and returns what could not be set.
pub fn apply(root: &Path) -> Vec<String> {
    let mut missed = Vec::new();
    for (name, value, why) in SETTINGS {
        if let Err(error) = fs::write(root.join(name), value) {
            missed.push(format!("kernel setting {name}={value} not applied ({why}): {error}"));
        }
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_the_kernel_lacks_is_named() {
        let root = std::env::temp_dir().join(format!("orama-hardening-{}", std::process::id()));
        fs::create_dir_all(root.join("kernel")).unwrap();
        fs::write(root.join("kernel/sysrq"), "176").unwrap();
        let missed = apply(&root);
        assert_eq!(fs::read_to_string(root.join("kernel/sysrq")).unwrap(), "0");
        assert!(missed.iter().any(|line| line.contains("user/max_user_namespaces")), "{missed:?}");
        fs::remove_dir_all(&root).unwrap();
    }
}
