use super::*;

const PROFILE: &str = r#"version = 1
name = "probe"
binary = "/opt/probe"
user = { uid = 2001 }

[seccomp]
mode = "enforce"

[[seccomp.allow]]
syscalls = ["read"]
why = "reads"
"#;

fn seen(call: Sysno, args: &[u64], count: u64) -> Observed {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    Observed { call: Call::new(u32::try_from(call.id()).expect("number"), all), count }
}

fn parse(text: &str) -> Policy {
    Policy::parse("p.toml", text, &Sets::none()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn nothing_missing_is_nothing_to_add() {
    assert_eq!(patch(&parse(PROFILE), &[seen(Sysno::read, &[1], 9), seen(Sysno::exit, &[], 1)]), "");
}

#[test]
fn the_patch_is_as_documented() {
    let mut open = seen(Sysno::openat, &[0xffff_ff9c, 1, 0], 2);
    open.call.texts[1] = Some("/etc/hosts".to_owned());
    let calls = [
        seen(Sysno::socket, &[16, 3 | 0x80000, 0], 4),
        seen(Sysno::socket, &[16, 3, 0], 1),
        open,
        seen(Sysno::ioctl, &[1, 0xdead], 1),
        seen(Sysno::ptrace, &[16, 1], 1),
    ];
    let text = patch(&parse(PROFILE), &calls);
    assert_eq!(
        text,
        r##"# The set `interfaces` would allow 1 of the calls below.
# Add a set to `sets` in [seccomp] and learn again, and fewer rules are left to explain.

# 2 × openat(AT_FDCWD, "/etc/hosts", O_RDONLY)
[[seccomp.allow]]
syscalls = ["openat"]
why = "learned: to open and look at files"

# 1 × ioctl(1, 0xdead, NULL)
[[seccomp.allow]]
syscalls = ["ioctl"]
arguments = [{ index = 1, value = 0xdead }]
why = "learned: ioctl with 0xdead"

# 4 × socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, 0)
# 1 × socket(AF_NETLINK, SOCK_RAW, 0)
[[seccomp.allow]]
syscalls = ["socket"]
arguments = [{ index = 0, value = "AF_NETLINK" }, { index = 1, op = "masked_eq", mask = 0xf, value = "SOCK_RAW" }, { index = 2, value = 0 }]
why = "learned: socket with AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, 0"

# 1 × ptrace(PTRACE_ATTACH, 1, NULL, NULL)
# No rule is written for ptrace: it looks into and changes other processes.
# If the service lives without it, let it fail quietly:
#   [[seccomp.deny]]
#   syscalls = ["ptrace"]
#   errno = "ENOSYS"
#   why = "…"
"##
    );
}

/// Whatever was seen: the profile with its patch parses, and allows all of it that a rule may be written for.
#[test]
fn a_patched_profile_allows_what_was_seen() {
    for call in Sysno::iter() {
        for value in [0u64, 1, 2, 0x7e03_0000, u64::from(u32::MAX)] {
            let observed = seen(call, &[value; 6], 1);
            let patched = format!("{PROFILE}\n{}", patch(&parse(PROFILE), std::slice::from_ref(&observed)));
            let policy = parse(&patched);
            let verdict = policy.seccomp.judge(&observed.call);
            let dangerous = danger(call).is_some();
            let namespace = observed.call.makes_namespace();
            let expect = !dangerous && !namespace && call != Sysno::clone3;
            assert_eq!(verdict.runs(), expect, "{call} {value:#x}: {verdict}");
        }
    }
}

#[test]
fn sets_that_would_help_are_named() {
    let calls =
        [Sysno::bind, Sysno::listen, Sysno::accept4, Sysno::getsockname].map(|call| seen(call, &[], 1));
    let text = patch(&parse(PROFILE), &calls);
    assert!(text.starts_with("# The set `network` would allow 4 of the calls below.\n"), "{text}");
}
