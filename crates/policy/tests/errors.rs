//! What is wrong in a policy is named with file, line, column and, where it can be guessed, what was meant.

use orama_policy::{MAX_FILE_BYTES, Policy, Sets};

const GOOD: &str = r#"version = 1
name = "probe"
binary = "/opt/probe"
arguments = ["-a", "${node_id}"]
user = { uid = 2001 }

[filesystem]
writable = ["/data/probe"]

[seccomp]
mode = "enforce"
sets = ["base"]
"#;

fn sets() -> Sets {
    let mut sets = Sets::none();
    sets.insert(
        "base",
        "base.toml",
        "version = 1\nname = \"base\"\n[[allow]]\nsyscalls = [\"read\"]\nwhy = \"x\"",
    );
    sets.insert("broken", "broken.toml", "version = 1\nname = \"broken\"\nallows = 1");
    sets
}

fn errors(text: &str) -> Vec<String> {
    match Policy::check("p.toml", text, &sets()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

/// Replaces `from` in the good policy and expects exactly this error.
fn check(from: &str, to: &str, expect: &str) {
    assert!(GOOD.contains(from), "{from}");
    assert_eq!(errors(&GOOD.replacen(from, to, 1)), [expect], "{from} -> {to}");
}

/// Adds a section and expects exactly this error.
fn check_section(section: &str, expect: &str) {
    assert_eq!(errors(&format!("{GOOD}{section}")), [expect], "{section}");
}

#[test]
fn the_good_one_is_good_and_has_the_documented_defaults() {
    let policy = Policy::parse("p.toml", GOOD, &sets()).expect("good");
    assert_eq!((policy.uid, policy.gid, policy.order), (2001, 2001, 100));
    assert_eq!(policy.hostname, "probe");
    assert_eq!(policy.stop.grace.as_secs(), 10);
    assert_eq!((policy.restart.initial.as_millis(), policy.restart.maximum.as_millis()), (500, 30_000));
    assert_eq!((policy.restart.intensity, policy.restart.window.as_secs()), (5, 300));
    assert_eq!(policy.filesystem.tmp_bytes, 64 << 20);
    assert_eq!(policy.filesystem.devices.len(), 5);
    assert!(
        policy.namespaces.uts && policy.namespaces.ipc && !policy.namespaces.pid && !policy.namespaces.net
    );
    assert_eq!(policy.seccomp.allow[0].origin.set.as_deref(), Some("base"));
}

#[test]
fn slips_get_a_suggestion() {
    check("arguments", "argumetns", "p.toml:4:1: unknown field `argumetns` (did you mean `arguments`?)");
    check("\"base\"", "\"bsae\"", "p.toml:12:9: unknown set `bsae` (did you mean `base`?)");
    check("${node_id}", "${nodeid}", "p.toml:4:21: unknown variable `${nodeid}` (did you mean `node_id`?)");
    check("enforce", "enforced", "p.toml:11:8: unknown mode `enforced` (did you mean `enforce`?)");
    check_section(
        "[[seccomp.allow]]\nsyscalls = [\"fsycn\"]\nwhy = \"x\"\n",
        "p.toml:14:13: unknown syscall `fsycn` (did you mean `fsync`?)",
    );
    check_section(
        "[capabilities]\nambient = [\"CAP_NET_BIND_SERVIC\"]\n",
        "p.toml:14:12: unknown capability `CAP_NET_BIND_SERVIC` (did you mean `CAP_NET_BIND_SERVICE`?)",
    );
    check_section(
        "[stop]\nsignal = \"SIGTREM\"\n",
        "p.toml:14:10: unknown signal `SIGTREM` (did you mean `SIGTERM`?)",
    );
}

#[test]
fn what_would_break_the_box_is_refused() {
    check("2001", "0", "p.toml:5:16: `uid` is 0: a service never runs as root");
    check("2001", "2001, gid = 0", "p.toml:5:28: `gid` is 0: a service never runs as root");
    check("2001", "-1", "p.toml:5:16: `uid` must be 1 to 65533");
    check("2001", "4294967295", "p.toml:5:16: `uid` must be 1 to 65533");
    check("\"/data/probe\"", "\"data\"", "p.toml:8:13: `writable` must be absolute");
    check("\"/data/probe\"", "\"/data/../etc\"", "p.toml:8:13: `writable` must not contain `..`");
    let root = errors(&GOOD.replace("/data/probe", "/"));
    assert_eq!(root.last().map(String::as_str), Some("p.toml:8:13: `writable` must not be the root"));
    check(
        "\"/data/probe\"",
        "\"/data//probe/\"",
        "p.toml:8:13: `writable` is not in its plain spelling (write `/data/probe`)",
    );
    check(
        "\"/data/probe\"",
        "\"/proc/sys\"",
        "p.toml:8:13: `writable` cannot be below /proc: the sandbox makes its own",
    );
    check(
        "\"/data/probe\"",
        "\"/data\", \"/data/probe\"",
        "p.toml:8:22: `/data/probe` already lies inside writable `/data`",
    );
    check(
        "writable = [\"/data/probe\"]",
        "writable = [\"/data\"]\nreadable = [\"/data/x\"]",
        "p.toml:9:13: `/data/x` lies inside writable `/data`",
    );
    check(
        "\"/data/probe\"",
        "\"/opt\"",
        "p.toml:3:10: the service could replace its binary, which lies in writable `/opt`",
    );
    check("\"/opt/probe\"", "\"probe\"", "p.toml:3:10: `binary` must be absolute");
    check_section(
        "[namespaces]\nmount = false\n",
        "p.toml:14:9: the mount namespace cannot be turned off: [filesystem] needs it",
    );
    check(
        "user =",
        "environment = { LD_PRELOAD = \"x\" }\nuser =",
        "p.toml:5:17: `LD_PRELOAD` cannot be an environment variable here",
    );
}

#[test]
fn impossible_values_are_refused() {
    check("version = 1", "version = 2", "p.toml:1:11: `version` must be 1");
    check(
        "\"probe\"",
        "\"Probe\"",
        "p.toml:2:8: `name` must be 1 to 32 lower-case letters, digits and inner dashes, starting with a letter",
    );
    check_section("[cgroup]\npids = 0\n", "p.toml:14:8: `pids` must be 1 to 4194304");
    check_section("[cgroup]\ncpu_weight = 20000\n", "p.toml:14:14: `cpu_weight` must be 1 to 10000");
    check_section(
        "[cgroup]\nmemory_bytes = 1\n",
        "p.toml:14:16: `memory_bytes` must be 1048576 to 1125899906842624",
    );
    check_section(
        "[restart]\ninitial_ms = 1000\nmaximum_ms = 500\n",
        "p.toml:15:14: `maximum_ms` is below `initial_ms` (1000)",
    );
    check_section("[readiness]\n", "p.toml:13:1: give exactly one of `tcp`, `http` and `notify = true`");
    check_section(
        "[readiness]\ntcp = \"somewhere\"\n",
        "p.toml:14:7: `somewhere` is not an address and port (as in 127.0.0.1:6001 or ${wg_ip}:4001)",
    );
    check_section(
        "[liveness]\nhttp = \"https://127.0.0.1:1/\"\n",
        "p.toml:14:8: only http:// addresses can be probed",
    );
    check_section(
        "[[seccomp.allow]]\nsyscalls = [\"socket\"]\nwhy = \"\"\n",
        "p.toml:15:7: `why` must say why, in 1 to 400 bytes",
    );
    check_section(
        "[[seccomp.allow]]\nsyscalls = [\"socket\"]\nwhy = \"x\"\narguments = [{ index = 6, value = 1 }]\n",
        "p.toml:16:24: `index` must be 0 to 5",
    );
    check_section(
        "[[seccomp.allow]]\nsyscalls = [\"socket\"]\nwhy = \"x\"\narguments = [{ index = 0, value = 0x1_0000_0000 }]\n",
        "p.toml:16:14: the value needs more than 32 bits (add bits = 64)",
    );
    check_section(
        "[[seccomp.allow]]\nsyscalls = [\"clone\"]\nwhy = \"x\"\n\
         arguments = [{ index = 0, op = \"masked_eq\", mask = 1, value = 2 }]\n",
        "p.toml:16:14: the value has bits outside the mask: it can never match",
    );
    check(
        "\"base\"]",
        "\"broken\"]",
        "p.toml:12:9: set is broken: broken.toml:3:1: unknown field `allows` (did you mean `allow`?)",
    );
}

#[test]
fn every_error_is_found_in_one_go_and_in_order() {
    let text = GOOD.replace("2001", "0").replace("\"/opt/probe\"", "\"x\"").replace("\"base\"", "\"no\"");
    let lines: Vec<String> =
        errors(&text).iter().map(|e| e.split(' ').next().expect("place").to_owned()).collect();
    assert_eq!(lines, ["p.toml:3:10:", "p.toml:5:16:", "p.toml:12:9:"]);
}

#[test]
fn odd_files_are_refused_without_trouble() {
    assert_eq!(errors(""), ["p.toml:1:1: the file is empty"]);
    assert_eq!(errors(" \n\n"), ["p.toml:1:1: the file is empty"]);
    let huge = format!("{GOOD}#{}", "x".repeat(MAX_FILE_BYTES));
    assert_eq!(errors(&huge), [format!("p.toml:1:1: {} bytes, at most 1048576 are read", huge.len())]);
    for deep in [
        format!("{GOOD}x = {}", "[".repeat(100_000)),
        format!("{GOOD}x = {}{}", "{a=".repeat(100_000), "}".repeat(100_000)),
        format!("[{}]", vec!["a"; 100_000].join(".")),
    ] {
        assert_eq!(errors(&deep).len(), 1);
    }
    let twice = errors(&GOOD.replace("[filesystem]", "name = \"again\"\n[filesystem]"));
    assert_eq!(twice.len(), 1, "{twice:?}");
    assert!(errors("version = 1").iter().any(|error| error.contains("missing field `name`")));
    let many = format!("after = {:?}\n{GOOD}", vec!["a"; 300]);
    assert!(errors(&many)[0].contains("more than 256 entries in `after`"));
}

proptest::proptest! {
    /// Whatever an editor leaves behind: never a panic, and an error always has its place in the text.
    #[test]
    fn damaged_policies_never_panic(at in 0..GOOD.len(), cut in 0..40usize, insert in "\\PC{0,12}") {
        let end = (at + cut).min(GOOD.len());
        let text = format!("{}{insert}{}", &GOOD[..at], &GOOD[end..]);
        if let Err(errors) = Policy::check("p.toml", &text, &sets()) {
            proptest::prop_assert!(!errors.is_empty());
            for error in errors {
                proptest::prop_assert!(error.line >= 1 && (error.line as usize) <= text.lines().count() + 1);
                proptest::prop_assert!(error.column >= 1);
            }
        }
    }
}
