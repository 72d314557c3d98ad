//! What `check` finds beside errors, each with its line, column and code; and what it does not cry about.

use orama_policy::{Finding, MAX_FILE_BYTES, Sets, Severity, Source, lint};

const GOOD: &str = r#"version = 1
name = "probe"
binary = "/opt/probe"
arguments = ["--listen", "${wg_ip}:8080"]
user = { uid = 2001 }

[filesystem]
writable = ["/data/probe"]

[seccomp]
mode = "enforce"
sets = ["base", "network"]
"#;

fn source(file: &str, text: impl Into<Vec<u8>>) -> Source {
    Source { file: file.to_owned(), bytes: text.into(), sets: Sets::builtin(), set: None }
}

fn short(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|one| format!("{}:{} {}", one.line, one.column, one.code)).collect()
}

fn found(text: &str) -> Vec<String> {
    short(&lint(&[source("p.toml", text)]))
}

/// Replaces `from` in the good profile and expects exactly these findings.
fn check(from: &str, to: &str, expect: &[&str]) {
    assert!(GOOD.contains(from), "{from}");
    assert_eq!(found(&GOOD.replacen(from, to, 1)), expect, "{from} -> {to}");
}

/// Adds a section, which begins in line 13.
fn check_section(section: &str, expect: &[&str]) {
    assert_eq!(found(&format!("{GOOD}{section}")), expect, "{section}");
}

fn rule(line: &str) -> String {
    format!("[[seccomp.allow]]\n{line}\nwhy = \"x\"\n")
}

#[test]
fn nothing_is_found_in_a_good_profile_nor_in_those_in_use() {
    assert_eq!(found(GOOD), [""; 0]);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("policies") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            sources.push(source(&path.display().to_string(), std::fs::read(&path).expect("readable")));
        }
    }
    let wrong: Vec<Finding> =
        lint(&sources).into_iter().filter(|one| one.severity != Severity::Note).collect();
    assert!(sources.len() >= 7 && wrong.is_empty(), "{wrong:?}");
}

#[test]
fn sets_that_add_nothing() {
    check("\"network\"]", "\"network\", \"gossip\"]", &[]);
    let mut sets = Sets::builtin();
    let all = "version = 1\nname = \"all\"\n[[allow]]\nsyscalls = [\"fsync\", \"fdatasync\", \"msync\", \"sync_file_range\"]\nwhy = \"x\"";
    sets.insert("all", "all.toml", all);
    let text = GOOD.replace("\"network\"]", "\"network\", \"fsync\", \"all\"]");
    let both = Source { sets, ..source("p.toml", text) };
    assert_eq!(short(&lint(&[both])), ["12:28 unused-set", "12:37 unused-set"]);
}

#[test]
fn rules_that_others_make_pointless() {
    check_section(&rule("syscalls = [\"getpid\"]"), &["14:13 shadowed-rule"]);
    check_section(&rule("syscalls = [\"getpid\", \"fsync\"]"), &["14:13 shadowed-rule"]);
    check_section(&rule("syscalls = [\"fsync\"]"), &[]);
    // The conditions look like a restriction, and are none.
    check_section(
        &rule("syscalls = [\"read\"]\narguments = [{ index = 0, value = 3 }]"),
        &["14:13 no-effect"],
    );
    // The set allows it by a mask, the rule by a value that the mask covers.
    check_section(
        &rule(
            "syscalls = [\"socket\"]\narguments = [{ index = 0, value = \"AF_INET\" }, { index = 1, value = \"SOCK_STREAM|SOCK_CLOEXEC\" }]",
        ),
        &["14:13 shadowed-rule"],
    );
    check_section(&rule("syscalls = [\"socket\"]\narguments = [{ index = 0, value = \"AF_UNIX\" }]"), &[]);
    // Of two equal rules the second is one too many; two halves make a third rule pointless.
    let twice = rule("syscalls = [\"fsync\"]").repeat(2);
    check_section(&twice, &["17:13 shadowed-rule"]);
    let half = |value| {
        rule(&format!(
            "syscalls = [\"fsync\"]\narguments = [{{ index = 0, op = \"masked_eq\", mask = 4, value = {value} }}]"
        ))
    };
    let third = rule("syscalls = [\"fsync\"]\narguments = [{ index = 0, value = 77 }]");
    check_section(&format!("{}{}{third}", half(0), half(4)), &["22:13 shadowed-rule"]);
}

#[test]
fn rules_that_open_too_much() {
    check_section(&rule("syscalls = [\"mount\"]"), &["14:13 dangerous-call"]);
    check_section(
        &rule("syscalls = [\"io_uring_setup\", \"bpf\"]"),
        &["14:13 dangerous-call", "14:31 dangerous-call"],
    );
    check_section(&rule("syscalls = [\"ioctl\"]"), &["14:13 unconditional"]);
    check(
        "sets = [\"base\", \"network\"]",
        "sets = [\"base\"]\nallow = [{ syscalls = [\"socket\"], why = \"x\" }]",
        &["13:24 unconditional"],
    );
    let text = GOOD.replace("[\"base\", \"network\"]", "[]") + &rule("syscalls = [\"mmap\"]");
    assert_eq!(found(&text), ["14:13 writable-code"]);
    let narrow =
        rule("syscalls = [\"mmap\"]\narguments = [{ index = 2, op = \"masked_eq\", mask = 6, value = 2 }]");
    assert_eq!(found(&(GOOD.replace("[\"base\", \"network\"]", "[]") + &narrow)), [""; 0]);
    check_section(
        "[[seccomp.allow]]\nsyscalls = [\"fsync\"]\nwhy = \"learned: to make writes durable\"\n",
        &["15:7 unexplained"],
    );
}

#[test]
fn denials_against_rules() {
    let deny = "[[seccomp.deny]]\nsyscalls = [\"fsync\"]\nerrno = \"EPERM\"\nwhy = \"x\"\n";
    check_section(deny, &[]);
    check_section(&(rule("syscalls = [\"fsync\"]") + deny), &["17:13 denied-and-allowed"]);
    check_section(&deny.repeat(2), &["18:13 shadowed-rule"]);
    // A set is shortened that way, and that is its use.
    check_section(&deny.replace("fsync", "connect"), &[]);
    check_section(&deny.replace("fsync", "execve"), &["14:13 invalid"]);
}

#[test]
fn capabilities_nobody_needs() {
    let with = |name: &str| format!("[capabilities]\nambient = [\"{name}\"]\n");
    check_section(&with("CAP_NET_BIND_SERVICE"), &["14:12 capability-without-need"]);
    let low = GOOD.replace(":8080", ":80");
    assert_eq!(found(&(low.clone() + &with("CAP_NET_BIND_SERVICE"))), [""; 0]);
    assert_eq!(
        found(&(low.replace(", \"network\"", "") + &with("CAP_NET_BIND_SERVICE"))),
        ["14:12 capability-without-need"]
    );
    for name in ["CAP_IPC_LOCK", "CAP_NET_RAW", "CAP_SYS_NICE", "CAP_NET_BROADCAST"] {
        check_section(&with(name), &["14:12 capability-without-need"]);
    }
    check_section(&(with("CAP_IPC_LOCK") + &rule("syscalls = [\"mlock\"]")), &[]);
    let packet = rule("syscalls = [\"socket\"]\narguments = [{ index = 0, value = \"AF_PACKET\" }]");
    check_section(&(with("CAP_NET_RAW") + &packet), &[]);
}

#[test]
fn fields_that_contradict_each_other() {
    check("enforce", "audit", &["11:8 audit"]);
    check("mode = \"enforce\"", "mode = \"enforce\"\ndefault_action = \"errno\"", &["12:18 errno"]);
    check_section("[liveness]\ntcp = \"${wg_ip}:8080\"\n", &["13:1 liveness-without-readiness"]);
    check_section(
        "[readiness]\ntcp = \"${wg_ip}:8080\"\n[landlock]\ntcp_bind = [80]\n",
        &["13:1 unreachable-probe"],
    );
    check_section(
        "[readiness]\ntcp = \"${wg_ip}:8080\"\n[namespaces]\nnet = true\n",
        &["13:1 unreachable-probe"],
    );
    check_section("[readiness]\nnotify = true\n[namespaces]\nnet = true\n", &[]);
    check("[\"/data/probe\"]", "[\"/data/probe\"]\nreadable = [\"/data\"]", &["8:13 writable-in-readable"]);
    check(
        "[\"/data/probe\"]",
        "[\"/data/probe\"]\nreadable = [\"/etc/a\", \"/etc/a/b\"]",
        &["9:23 shown-twice"],
    );
}

#[test]
fn files_against_each_other() {
    let other = |text: &str| {
        GOOD.replace("name = \"probe\"", "name = \"other\"")
            .replace("2001", "2002")
            .replace("/data/probe", text)
    };
    let two = |second: String| {
        let findings = lint(&[source("a.toml", GOOD), source("b.toml", second)]);
        findings
            .iter()
            .map(|one| format!("{}:{}:{} {}", one.file, one.line, one.column, one.code))
            .collect::<Vec<_>>()
    };
    assert_eq!(two(other("/data/other")), [""; 0]);
    assert_eq!(two(other("/data/other").replace("2002", "2001")), ["b.toml:5:16 used-twice"]);
    assert_eq!(two(other("/data/other").replace("\"other\"", "\"probe\"")), ["b.toml:2:8 used-twice"]);
    assert_eq!(two(other("/data")), ["b.toml:8:13 used-twice"]);
    assert_eq!(two(other("/data/probe/sub")), ["b.toml:8:13 used-twice"]);
    assert_eq!(two(format!("after = [\"nobody\"]\n{}", other("/x"))), ["b.toml:1:10 unknown-dependency"]);
    let (first, second) =
        (format!("after = [\"other\"]\n{GOOD}"), format!("after = [\"probe\"]\n{}", other("/x")));
    let findings = lint(&[source("a.toml", first), source("b.toml", second)]);
    assert_eq!(short(&findings), ["1:10 cycle", "1:10 cycle"]);
    assert_eq!(findings[0].message, "`after` is a cycle: probe -> other -> probe");
}

/// Whatever is handed in: an error with its place, never a panic.
#[test]
fn odd_files() {
    let only = |bytes: Vec<u8>| {
        let findings = lint(&[source("p.toml", bytes)]);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].severity, Severity::Error);
        format!("{}:{} {}", findings[0].line, findings[0].column, findings[0].message)
    };
    assert_eq!(only(Vec::new()), "1:1 the file is empty");
    assert_eq!(only(b"version = 1\nname = \"a\xff\"".to_vec()), "2:10 byte 0xff is not UTF-8");
    assert_eq!(only(vec![b'#'; MAX_FILE_BYTES + 1]), "1:1 larger than 1048576 bytes");
    assert_eq!(only([b"\x7fELF".as_slice(), &[0, 1, 2, 255]].concat()), "1:8 byte 0xff is not UTF-8");
    assert!(only(format!("{GOOD}x = {}", "[".repeat(100_000)).into_bytes()).starts_with("13:"));
    assert!(only(b"]".to_vec()).starts_with("1:1 "));
    assert!(only(b"a = 1\r\nb = = 2\r\n".to_vec()).starts_with("2:5 "));
    let set = Source {
        set: Some("probe".to_owned()),
        ..source("sets/probe.toml", "version = 1\nname = \"other\"\n")
    };
    assert_eq!(short(&lint(&[set])), ["2:8 invalid"]);
}

/// Many rules for one call, each as hard to compare as they come: an answer, and soon.
#[test]
fn hard_rules_are_compared_in_bounded_time() {
    let hard: String = (0..128)
        .map(|at| {
            let arguments = format!(
                "{{ index = 0, op = \"ne\", value = {at} }}, {{ index = 1, op = \"lt\", value = 99{at} }}"
            );
            rule(&format!("syscalls = [\"fsync\"]\narguments = [{arguments}]"))
        })
        .collect();
    let begun = std::time::Instant::now();
    found(&format!("{GOOD}{hard}"));
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    let many = rule("syscalls = [\"fsync\"]").repeat(513);
    assert_eq!(found(&format!("{GOOD}{many}")), ["1549:1 invalid"]);
}
