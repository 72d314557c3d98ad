//! A directory of policies: what is good starts in order, what is bad stays down alone, and what we ship is good.

use std::fs;
use std::path::Path;

use orama_policy::{Sets, Variables, load_dir};
use tempfile::TempDir;

fn policy(name: &str, uid: u32, extra: &str) -> String {
    format!(
        "version = 1\nname = \"{name}\"\nbinary = \"/opt/{name}\"\nuser = {{ uid = {uid} }}\n{extra}\n\
         [seccomp]\nmode = \"audit\"\n"
    )
}

fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    for (name, content) in files {
        fs::write(dir.path().join(name), content).expect("write");
    }
    dir
}

fn check(files: &[(&str, &[u8])], started: &[&str], refused: &[(&str, &str)]) {
    let dir = directory(files);
    let loaded = load_dir(dir.path()).expect("readable");
    let names: Vec<&str> = loaded.policies.iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(names, started);
    assert_eq!(loaded.refused.len(), refused.len(), "{:?}", loaded.refused);
    for (got, (service, reason)) in loaded.refused.iter().zip(refused) {
        assert_eq!(got.service, *service);
        assert!(got.reason.contains(reason), "{} in {}", reason, got.reason);
    }
}

#[test]
fn a_bad_file_takes_only_itself_down() {
    check(
        &[
            ("a.toml", policy("a", 1, "order = 2").as_bytes()),
            ("b.toml", b"this is not toml"),
            ("c.toml", b"# ok\n# \xff\xfe"),
            ("d.toml", b""),
            ("e.toml", &vec![b'#'; (1 << 20) + 1]),
            ("f.toml", policy("f", 2, "order = 1").as_bytes()),
            ("notes.txt", b"not looked at"),
        ],
        &["f", "a"],
        &[
            ("b", "b.toml:1:"),
            ("c", "c.toml:2:3: not UTF-8 at byte 7"),
            ("d", "d.toml:1:1: the file is empty"),
            ("e", "e.toml:1:1: larger than 1048576 bytes"),
        ],
    );
}

#[test]
fn names_and_uids_are_used_once() {
    check(
        &[
            ("a.toml", policy("a", 1, "").as_bytes()),
            ("b.toml", policy("a", 2, "").as_bytes()),
            ("c.toml", policy("c", 1, "").as_bytes()),
        ],
        &["a"],
        &[
            ("c", "c.toml:4:10: uid 1 is already taken by service `a`"),
            ("b", "b.toml:2:1: name `a` is already taken by "),
        ],
    );
    // The file that is named after the service is the service's, whatever sorts before it; and no refused file
    // stands for a service that runs.
    check(
        &[
            ("a.toml", policy("same", 1, "").as_bytes()),
            ("same.toml", policy("same", 2, "").as_bytes()),
            ("b.toml", policy("other", 3, "").as_bytes()),
            ("other.toml", b"not toml"),
        ],
        &["other", "same"],
        &[("other.toml", "other.toml:1:"), ("a", "a.toml:2:1: name `same` is already taken by ")],
    );
}

#[test]
fn dependencies_decide_the_order_and_slips_in_them_are_refused() {
    check(
        &[
            ("a.toml", policy("a", 1, "after = [\"b\"]").as_bytes()),
            ("b.toml", policy("b", 2, "after = [\"c\"]").as_bytes()),
            ("c.toml", policy("c", 3, "").as_bytes()),
            ("d.toml", policy("d", 4, "after = [\"bad\"]").as_bytes()),
            ("bad.toml", b"x"),
            ("e.toml", policy("e", 5, "after = [\"nowhere\"]").as_bytes()),
            ("l1.toml", policy("loop-one", 6, "after = [\"loop-two\"]").as_bytes()),
            ("l2.toml", policy("loop-two", 7, "after = [\"loop-one\"]").as_bytes()),
        ],
        &["c", "b", "a", "d"],
        &[
            ("bad", "bad.toml:1:"),
            ("e", "e.toml:5:1: `after` names a service `nowhere` without a policy"),
            ("loop-one", "l1.toml:5:1: `after` is a cycle: loop-one -> loop-two -> loop-one"),
            ("loop-two", "l2.toml:5:1: `after` is a cycle: loop-two -> loop-one -> loop-two"),
        ],
    );
}

#[test]
fn a_missing_directory_is_an_error_and_a_missing_set_is_the_policys() {
    assert!(load_dir(Path::new("/no/such/directory")).is_err());
    let text = policy("a", 1, "") + "sets = [\"base\"]\n";
    check(&[("a.toml", text.as_bytes())], &[], &[("a", "unknown set `base`")]);
}

#[test]
fn the_policies_we_ship_are_good() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let loaded = load_dir(&dir).expect("policies");
    assert_eq!(loaded.refused, []);
    let names: Vec<&str> = loaded.policies.iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(names, ["vault-guardian", "rqlite", "olric", "ipfs", "ipfs-cluster", "gateway", "coredns"]);
    let variables = Variables { node_id: "node-1".to_owned(), wg_ip: "10.0.0.4".parse().expect("address") };
    assert_eq!(
        loaded.policies[1].expand_args(&variables),
        [
            "-node-id",
            "node-1",
            "-http-addr",
            "10.0.0.4:4001",
            "-raft-addr",
            "10.0.0.4:4002",
            "/opt/orama/.orama/data/rqlite"
        ]
    );
    for policy in &loaded.policies {
        let data = format!("/opt/orama/.orama/data/{}", policy.name);
        // The guardian runs before the volume is open, so it has nothing there.
        let expected = (policy.name != "vault-guardian").then_some(data.as_str());
        assert_eq!(policy.data_dir().and_then(|path| path.to_str()), expected);
        assert!(policy.seccomp.allow.iter().all(|rule| !rule.why.is_empty()));
    }
}

#[test]
fn every_set_we_ship_is_good_and_used_by_nobody_is_fine() {
    let sets = Sets::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/sets"));
    let names: Vec<&str> = sets.names().collect();
    assert_eq!(names, ["base", "files", "fsync", "gossip", "interfaces", "network", "transfer"]);
    for name in names {
        let rules = sets.get(name).expect("listed").unwrap_or_else(|reason| panic!("{reason}"));
        assert!(!rules.is_empty(), "{name}");
    }
}
