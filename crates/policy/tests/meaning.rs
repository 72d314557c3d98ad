//! What policies are said to mean: verdicts, explanations, differences, scores. The rules are the shipped sets'.

use orama_policy::{Answer, Call, Direction, Policy, Sets, Sysno, diff, explain, explain_call, score};

const BASE: &str = r#"version = 1
name = "probe"
binary = "/opt/probe"
user = { uid = 2001 }

[filesystem]
writable = ["/data/probe"]

[seccomp]
mode = "enforce"
sets = ["base", "network"]

[[seccomp.deny]]
syscalls = ["io_uring_setup"]
errno = "ENOSYS"
why = "probed for"
"#;

fn parse(text: &str) -> Policy {
    Policy::parse("p.toml", text, &Sets::builtin()).unwrap_or_else(|error| panic!("{error}"))
}

fn call(sysno: Sysno, args: &[u64]) -> Call {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    Call::new(u32::try_from(sysno.id()).expect("number"), all)
}

#[test]
fn verdicts_name_the_rule_or_the_nearest_one() {
    let policy = parse(BASE);
    let said = |call: Call| policy.seccomp.judge(&call).to_string();
    assert!(said(call(Sysno::read, &[])).starts_with("allowed by sets/base.toml:"));
    assert!(said(call(Sysno::socket, &[2, 1, 0])).starts_with("allowed by sets/network.toml:"));
    assert_eq!(said(call(Sysno::io_uring_setup, &[])), "denied by p.toml:13: probed for");
    assert_eq!(said(call(Sysno::mount, &[])), "no rule names it");
    // Raw over IPv4: only the type is wrong, so it is the rules for IPv4 that came nearest.
    let near = said(call(Sysno::socket, &[2, 3, 1]));
    assert!(near.ends_with("allows it only when type is SOCK_STREAM"), "{near}");
    let near = said(call(Sysno::clone, &[17]));
    assert!(near.ends_with("only when flags with CLONE_THREAD and without CLONE_NEW_ANY"), "{near}");
    assert!(said(call(Sysno::clone3, &[])).starts_with("ENOSYS in every sandbox"));
    assert!(said(Call::new(0x4000_0001, [0; 6])).starts_with("another architecture"));
    assert!(said(Call::new(4000, [0; 6])).starts_with("no rule names it"));
    let audit = parse(&BASE.replace("enforce", "audit"));
    assert!(audit.seccomp.judge(&call(Sysno::mount, &[])).runs());
    assert!(!audit.seccomp.judge(&call(Sysno::io_uring_setup, &[])).runs());
    assert!(!audit.seccomp.judge(&call(Sysno::clone3, &[])).runs());
}

#[test]
fn a_call_is_explained_by_its_lines() {
    let policy = parse(BASE);
    let answer = |name: &str| explain_call(&policy, name).map(|explained| explained.answer);
    assert_eq!(answer("read"), Ok(Answer::Always));
    assert_eq!(answer("socket"), Ok(Answer::Sometimes));
    assert_eq!(answer("mount"), Ok(Answer::Never));
    assert_eq!(answer("io_uring_setup"), Ok(Answer::Denied));
    assert_eq!(answer("clone3"), Ok(Answer::Absent));
    assert_eq!(answer("sokcet"), Err("did you mean `socket`?".to_owned()));
    let socket = explain_call(&policy, "socket").expect("a call");
    assert_eq!(socket.signature, "socket(domain, type, protocol)");
    assert_eq!(socket.rules[0].when.as_deref(), Some("domain is AF_INET, type is SOCK_STREAM"));
    assert_eq!(socket.rules[0].set.as_deref(), Some("network"));
    assert_eq!(socket.otherwise, "is not executed, and ends the process (SIGSYS)");
}

/// Two rules that together leave nothing out are `always`.
#[test]
fn halves_make_a_whole() {
    let half = |value: u32| {
        format!(
            "[[seccomp.allow]]\nsyscalls = [\"fsync\"]\nwhy = \"x\"\n\
             arguments = [{{ index = 0, op = \"masked_eq\", mask = 1, value = {value} }}]\n"
        )
    };
    let policy = parse(&format!("{BASE}{}{}", half(0), half(1)));
    assert_eq!(explain_call(&policy, "fsync").expect("a call").answer, Answer::Always);
}

#[test]
fn an_explanation_names_what_matters() {
    let text: String = explain(&parse(BASE))
        .iter()
        .flat_map(|section| section.lines.iter().map(|line| format!("{}: {}\n", section.title, line.text)))
        .collect();
    for expected in [
        "Program: as user 2001 and group 2001, in no other group",
        "Files: may change /data/probe (its data and working directory)",
        "Network: may use TCP and UDP over IPv4 and IPv6",
        "Rights: no capabilities: nothing of root's powers",
        "Limits: no limit of memory",
        "System calls: a call that nothing below allows is not executed, and ends the process (SIGSYS)",
        "Denied:   io_uring_setup: fails with ENOSYS, in every mode, unrecorded",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let none = explain(&parse(&BASE.replace(", \"network\"", "")));
    assert!(none.iter().any(|section| section.lines.iter().any(|line| line.text == "may open no sockets")));
}

/// What was gained and lost between the base and a changed one.
fn check(from: &str, to: &str, gained: &[&str], lost: &[&str]) {
    assert!(BASE.contains(from), "{from}");
    let (old, new) = (parse(BASE), parse(&BASE.replacen(from, to, 1)));
    let list = |old: &Policy, new: &Policy, direction: Direction| -> Vec<String> {
        let changes = diff(old, new).into_iter().filter(|change| change.direction == direction);
        changes.map(|change| change.text).collect()
    };
    assert_eq!(list(&old, &new, Direction::Gained), gained, "{from} -> {to}");
    assert_eq!(list(&old, &new, Direction::Lost), lost, "{from} -> {to}");
    // The other way round is the same with the sides changed, but for the wording of what is bounded.
    assert_eq!(list(&new, &old, Direction::Gained).len(), lost.len());
    assert_eq!(list(&new, &old, Direction::Lost).len(), gained.len());
}

#[test]
fn differences_are_of_meaning() {
    check("2001", "2002", &[], &[]);
    check("\"base\", \"network\"", "\"network\", \"base\"", &[], &[]);
    check("\"network\"]", "\"network\", \"fsync\"]", &["fsync fdatasync msync sync_file_range"], &[]);
    check("enforce", "audit", &["a call outside the rules: ends the process -> runs and is recorded"], &[]);
    check(
        "mode = \"enforce\"",
        "mode = \"enforce\"\ndefault_action = \"errno\"",
        &["a call outside the rules: ends the process -> fails with EPERM"],
        &[],
    );
    check("/data/probe", "/data/probe/sub", &[], &["may change /data/probe"]);
    check("[\"/data/probe\"]", "[\"/data/probe\"]\nreadable = [\"/etc/x\"]", &["may read /etc/x"], &[]);
    check("[seccomp]", "[cgroup]\npids = 5\n[seccomp]", &[], &["processes and threads: no limit -> 5"]);
    check("[seccomp]", "[rlimits]\nnofile = 20000\n[seccomp]", &["open files: 16384 -> 20000"], &[]);
    check(
        "[seccomp]",
        "[namespaces]\nipc = false\n[seccomp]",
        &["shares System V IPC with the rest of the machine"],
        &[],
    );
    check(
        "[seccomp]",
        "[landlock]\ntcp_bind = [80]\n[seccomp]",
        &[],
        &["may listen on TCP ports other than [80]"],
    );
    check(
        "[seccomp]",
        "[landlock]\nmode = \"off\"\n[seccomp]",
        &["Landlock: as far as the kernel has it -> off"],
        &[],
    );
    check(
        "[seccomp]",
        "[capabilities]\nambient = [\"CAP_NET_ADMIN\"]\n[seccomp]",
        &["CAP_NET_ADMIN (the network's configuration)"],
        &[],
    );
    // What a denial takes away, and what it gives back.
    check("io_uring_setup", "connect", &[], &["connect"]);
}

#[test]
fn argument_rules_are_compared_as_sets() {
    let with = |rules: &str| parse(&BASE.replace("[[seccomp.deny]]", &format!("{rules}\n[[seccomp.deny]]")));
    let rule =
        |arguments: &str| format!("[[seccomp.allow]]\nsyscalls = [\"fsync\"]\nwhy = \"x\"\n{arguments}\n");
    let none = with("");
    let one = with(&rule("arguments = [{ index = 0, value = 3 }]"));
    let few = with(&rule("arguments = [{ index = 0, op = \"lt\", value = 8 }]"));
    let pair = with(&format!(
        "{}{}",
        rule("arguments = [{ index = 0, op = \"lt\", value = 4 }]"),
        rule("arguments = [{ index = 0, op = \"masked_eq\", mask = 0xffff_fffc, value = 4 }]")
    ));
    let all = with(&rule(""));
    let more = |old: &Policy, new: &Policy| {
        diff(old, new).iter().any(|change| change.direction == Direction::Gained)
    };
    for (smaller, larger) in [(&none, &one), (&one, &few), (&few, &all)] {
        assert!(more(smaller, larger) && !more(larger, smaller));
    }
    // 0 to 7, said in two ways.
    assert!(!more(&few, &pair) && !more(&pair, &few));
}

#[test]
fn scores_follow_what_is_open() {
    let tenths = |text: &str| score(&parse(text)).tenths();
    let base = tenths(BASE);
    let wider = [
        BASE.replace("enforce", "audit"),
        BASE.replace("mode = \"enforce\"", "mode = \"enforce\"\ndefault_action = \"errno\""),
        BASE.replace("[seccomp]", "[capabilities]\nambient = [\"CAP_NET_ADMIN\"]\n[seccomp]"),
        BASE.replace("[\"/data/probe\"]", "[\"/data/probe\", \"/var\"]"),
        BASE.replace("[seccomp]", "[landlock]\nmode = \"off\"\n[seccomp]"),
        format!("{BASE}[[seccomp.allow]]\nsyscalls = [\"bpf\"]\nwhy = \"x\"\n"),
        format!("{BASE}[[seccomp.allow]]\nsyscalls = [\"fork\"]\nwhy = \"x\"\n"),
        format!("{BASE}[[seccomp.allow]]\nsyscalls = [\"ioctl\"]\nwhy = \"x\"\n"),
    ];
    for text in &wider {
        assert!(tenths(text) > base, "{text}");
    }
    let tighter = BASE.replace(
        "[seccomp]",
        "[cgroup]\nmemory_bytes = 1048576\npids = 4\n[landlock]\ntcp_bind = [1]\ntcp_connect = []\n[seccomp]",
    );
    assert!(tenths(&tighter) < base);
    // Nothing in reach, and nothing to be had.
    let shut = "version = 1\nname = \"shut\"\nbinary = \"/opt/x\"\nuser = { uid = 1 }\n\
        namespaces = { pid = true, net = true }\nlandlock = { mode = \"require\" }\n\
        cgroup = { memory_bytes = 1048576, pids = 1, cpu_quota_percent = 1 }\nseccomp = { mode = \"enforce\" }\n";
    assert_eq!(tenths(shut), 0);
    let audit = score(&parse(&wider[0]));
    assert!(audit.exposure() > 5.0, "{}", audit.exposure());
    assert!(
        audit.checks.iter().all(|check| check.openness == 0 || check.remedy.is_some() || check.openness <= 2)
    );
}
