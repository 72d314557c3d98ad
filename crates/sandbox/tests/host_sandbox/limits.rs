//! Limits for real. Where the machine's cgroup v2 hierarchy lacks a controller, the refusal must name it.

use std::fs;

use orama_sandbox::{Variables, prepare_in};

use crate::rig::{Rig, has_controller, killed_by};

#[test]
fn memory_and_process_limits_hold_or_their_controller_is_named() {
    let mut rig = Rig::new();
    rig.sections = "[cgroup]\npids = 20\n".to_owned();
    if has_controller("pids") {
        let outcome = rig.run(&["fork"]);
        let expected = format!("forks=19 errno={}", libc::EAGAIN);
        assert_eq!(outcome.stdout.trim(), expected, "{outcome:?}");
    } else {
        let error = rig.try_prepare(&["fork"]).expect_err("no such controller");
        assert!(error.to_string().starts_with("cgroup controller `pids` is not available in "), "{error}");
        assert!(error.to_string().ends_with(", and `pids` needs it"), "{error}");
    }
    let mut rig = Rig::new();
    rig.sections = format!("[cgroup]\nmemory_bytes = {}\n", 32 << 20);
    if has_controller("memory") {
        let outcome = rig.run(&["eat", &(128 << 20).to_string()]);
        assert_eq!(killed_by(outcome.status), Some(libc::SIGKILL), "{outcome:?}");
        assert_eq!(rig.run(&["eat", &(8 << 20).to_string()]).stdout, "eaten\n");
    } else {
        let error = rig.try_prepare(&["eat", "1"]).expect_err("no such controller");
        assert!(error.to_string().starts_with("cgroup controller `memory` is not available in "), "{error}");
    }
}

#[test]
fn a_base_outside_the_cgroup_hierarchy_is_refused_and_not_made() {
    let rig = Rig::new();
    let base = rig.folder.join("no-cgroup/orama");
    let variables = Variables { node_id: "node-7".to_owned(), wg_ip: "10.0.0.7".parse().expect("address") };
    let error = prepare_in(&base, &rig.policy(&["report"]), &variables).err().expect("refused");
    assert_eq!(error.to_string(), format!("{} is not in a cgroup v2 hierarchy", base.display()));
    assert!(!base.exists());
}

#[test]
fn rlimits_bound_forks_and_files() {
    let mut rig = Rig::new();
    rig.sections = "[rlimits]\nnproc = 12\nnofile = 64\nfsize_bytes = 65536\n".to_owned();
    assert_eq!(rig.run(&["fork"]).stdout.trim(), format!("forks=11 errno={}", libc::EAGAIN));
    assert_eq!(killed_by(rig.run(&["fill", "/tmp/big"]).status), Some(libc::SIGXFSZ));
}

#[test]
fn every_limit_arrives_in_the_kernel_or_names_its_controller() {
    let mut rig = Rig::new();
    rig.sections = "[cgroup]\nmemory_bytes = 67108864\npids = 30\ncpu_weight = 50\ncpu_quota_percent = 150\n\
                    io_weight = 200\n"
        .to_owned();
    if let Some(missing) = ["memory", "pids", "cpu", "io"].into_iter().find(|name| !has_controller(name)) {
        let error = rig.try_prepare(&["report"]).expect_err("no such controller").to_string();
        assert!(error.starts_with(&format!("cgroup controller `{missing}` is not available")), "{error}");
        return;
    }
    assert!(rig.run(&["report"]).status.success());
    for (file, expected) in [
        ("memory.max", "67108864"),
        ("memory.oom.group", "1"),
        ("pids.max", "30"),
        ("cpu.weight", "50"),
        ("cpu.max", "150000 100000"),
        ("io.weight", "default 200"),
    ] {
        let text = fs::read_to_string(rig.prepared().cgroup().path().join(file)).expect(file);
        assert_eq!(text.trim(), expected, "{file}");
    }
    // The same service with fewer limits must not keep the old ones.
    rig.sections.clear();
    rig.prepare(&["report"]);
    let pids = fs::read_to_string(rig.prepared().cgroup().path().join("pids.max")).expect("pids.max");
    assert_eq!(pids.trim(), "max");
}
