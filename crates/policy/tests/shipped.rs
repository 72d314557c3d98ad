//! The profiles we ship, against the table of the deployment guide: who runs as whom, where it may write, and which
//! calls it has beyond the ordinary ones. What is not in the table is as important as what is.

use std::collections::BTreeSet;
use std::path::Path;

use orama_policy::{Action, Mode, Policy, Readiness, load_dir};

/// Calls that the guide hands out one service at a time.
const HANDED_OUT: [&str; 6] = ["fsync", "fdatasync", "sendmmsg", "recvmmsg", "sendfile", "splice"];
const DURABLE: [&str; 2] = ["fsync", "fdatasync"];

struct Row {
    service: &'static str,
    uid: u32,
    /// From the guide.
    extra: &'static [&'static str],
    /// What it keeps on disk must survive a loss of power too, though the guide's table does not say so.
    durable: bool,
    /// Has a folder on the volume. What runs before the volume is open has none.
    data: bool,
}

const TABLE: [Row; 7] = [
    Row { service: "rqlite", uid: 1001, extra: &DURABLE, durable: true, data: true },
    Row { service: "olric", uid: 1002, extra: &["sendmmsg", "recvmmsg"], durable: false, data: true },
    Row { service: "ipfs", uid: 1003, extra: &["sendfile", "splice"], durable: true, data: true },
    Row { service: "ipfs-cluster", uid: 1004, extra: &[], durable: true, data: true },
    Row { service: "gateway", uid: 1005, extra: &["sendfile", "splice"], durable: true, data: true },
    Row { service: "coredns", uid: 1006, extra: &["sendmmsg", "recvmmsg"], durable: false, data: true },
    Row { service: "vault-guardian", uid: 1007, extra: &[], durable: false, data: false },
];

fn shipped() -> Vec<Policy> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let loaded = load_dir(&folder).expect("policies");
    assert_eq!(loaded.refused, []);
    loaded.policies
}

fn may_call(policy: &Policy, name: &str) -> bool {
    policy.seccomp.allow.iter().any(|rule| rule.syscalls.iter().any(|call| call.name() == name))
}

#[test]
fn the_table_of_the_guide_holds_literally() {
    let policies = shipped();
    assert_eq!(policies.len(), TABLE.len());
    for row in &TABLE {
        let policy = policies.iter().find(|policy| policy.name == row.service).expect(row.service);
        assert_eq!(policy.uid, row.uid, "{}", row.service);
        let data = format!("/opt/orama/.orama/data/{}", row.service);
        let writable: Vec<_> =
            policy.filesystem.writable.iter().map(|path| path.display().to_string()).collect();
        let expected: Vec<String> = row.data.then_some(data).into_iter().collect();
        assert_eq!(writable, expected, "{}", row.service);
        let expected: BTreeSet<&str> =
            row.extra.iter().chain(DURABLE.iter().filter(|_| row.durable)).copied().collect();
        let got: BTreeSet<&str> = HANDED_OUT.into_iter().filter(|name| may_call(policy, name)).collect();
        assert_eq!(got, expected, "{}", row.service);
    }
}

#[test]
fn everybody_is_enforced_limited_and_far_from_the_kernel() {
    for policy in shipped() {
        let name = &policy.name;
        assert_eq!(policy.seccomp.mode, Mode::Enforce, "{name}");
        assert_eq!(policy.seccomp.default_action, Action::Kill, "{name}");
        assert!(policy.cgroup.memory_bytes.is_some() && policy.cgroup.pids.is_some(), "{name}");
        assert!(policy.readiness != Readiness::None && policy.liveness.is_some(), "{name}");
        for call in ["ptrace", "mount", "bpf", "io_uring_setup", "keyctl", "unshare", "setns", "kexec_load"] {
            assert!(!may_call(&policy, call), "{name} may call {call}");
        }
        for call in ["init_module", "perf_event_open", "userfaultfd", "fork", "vfork", "kill", "chroot"] {
            assert!(!may_call(&policy, call), "{name} may call {call}");
        }
    }
}
