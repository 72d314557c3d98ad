//! Our compiler against seccompiler's, over all profiles of the repository: every call number and the edges of
//! every argument rule, run by an interpreter that shares nothing with the product's.

use std::collections::BTreeMap;
use std::path::Path;

use orama_policy::{Call, Comparison, Condition, Policy, Rule, Seccomp, Sysno, Verdict, always, load_dir};
use orama_sandbox::{Answer, Filter, SeccompData};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

const X86_64: u32 = 0xc000_003e;
/// Stands for "refused": seccompiler does not know listeners.
const REFUSED: u32 = 0x0005_0001;

/// Runs a classic BPF program over the bytes of struct seccomp_data.
fn interpret(program: &[(u16, u8, u8, u32)], bytes: &[u8; 64]) -> u32 {
    let mut accumulator = 0u32;
    let mut next = 0usize;
    // No loops in BPF: every instruction at most once.
    for _ in 0..=program.len() {
        let (code, yes, no, k) = program[next];
        next += 1;
        let jump = |hit: bool| usize::from(if hit { yes } else { no });
        match code {
            0x20 => accumulator = u32::from_ne_bytes(bytes[k as usize..][..4].try_into().expect("a word")),
            0x54 => accumulator &= k,
            0x05 => next += k as usize,
            0x15 => next += jump(accumulator == k),
            0x25 => next += jump(accumulator > k),
            0x35 => next += jump(accumulator >= k),
            0x45 => next += jump(accumulator & k != 0),
            0x06 => return k,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
    panic!("a loop")
}

fn bytes(data: &SeccompData) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..4].copy_from_slice(&data.number.to_ne_bytes());
    bytes[4..8].copy_from_slice(&data.arch.to_ne_bytes());
    bytes[8..16].copy_from_slice(&data.instruction_pointer.to_ne_bytes());
    for (index, argument) in data.args.iter().enumerate() {
        bytes[16 + 8 * index..][..8].copy_from_slice(&argument.to_ne_bytes());
    }
    bytes
}

fn ours(filter: &Filter, data: &SeccompData) -> Answer {
    let program: Vec<_> = filter.instructions().iter().map(|op| (op.code, op.jt, op.jf, op.k)).collect();
    let value = interpret(&program, &bytes(data));
    match value & 0xffff_0000 {
        0x7fff_0000 => Answer::Allow,
        0x0005_0000 => Answer::Errno(value & 0xffff),
        0x7fc0_0000 => Answer::Refuse,
        0x8000_0000 => Answer::Kill,
        other => panic!("unknown return value {other:#x}"),
    }
}

/// The same profile through seccompiler: what is allowed, else what is denied with an errno, else refused.
struct Reference {
    allow: BpfProgram,
    deny: BTreeMap<u32, BpfProgram>,
}

impl Reference {
    fn new(seccomp: &Seccomp) -> Reference {
        let mut allowed: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for rule in always().iter().chain(&seccomp.allow) {
            add(&mut allowed, rule);
        }
        let mut denied: BTreeMap<u32, BTreeMap<i64, Vec<SeccompRule>>> = BTreeMap::new();
        let is_always = |call: &Sysno| {
            always().iter().any(|rule| rule.conditions.is_empty() && rule.syscalls.contains(call))
        };
        for denial in &seccomp.deny {
            for call in denial.syscalls.iter().filter(|call| !is_always(call)) {
                denied.entry(denial.errno).or_default().insert(i64::from(call.id()), Vec::new());
            }
        }
        let clone3 = i64::from(Sysno::clone3.id());
        denied.entry(libc::ENOSYS as u32).or_default().insert(clone3, Vec::new());
        let compile = |rules, mismatch, matched| -> BpfProgram {
            let filter = SeccompFilter::new(rules, mismatch, matched, TargetArch::x86_64).expect("rules");
            BpfProgram::try_from(filter).expect("program")
        };
        let refused = SeccompAction::Errno(REFUSED & 0xffff);
        Reference {
            allow: compile(allowed, refused, SeccompAction::Allow),
            deny: denied
                .into_iter()
                .map(|(errno, rules)| {
                    (errno, compile(rules, SeccompAction::Allow, SeccompAction::Errno(errno)))
                })
                .collect(),
        }
    }

    fn answer(&self, data: &SeccompData) -> Answer {
        if data.arch != X86_64 || data.number as u32 & 0x4000_0000 != 0 {
            return Answer::Kill;
        }
        let run = |program: &BpfProgram| {
            let program: Vec<_> = program.iter().map(|op| (op.code, op.jt, op.jf, op.k)).collect();
            interpret(&program, &bytes(data))
        };
        let denied = self.deny.iter().find(|(_, program)| run(program) != 0x7fff_0000);
        match denied {
            Some((errno, _)) => Answer::Errno(*errno),
            None if run(&self.allow) == 0x7fff_0000 => Answer::Allow,
            None => Answer::Refuse,
        }
    }
}

fn add(rules: &mut BTreeMap<i64, Vec<SeccompRule>>, rule: &Rule) {
    for call in &rule.syscalls {
        let number = i64::from(call.id());
        let conditions: Vec<SeccompCondition> = rule.conditions_of(*call).iter().map(condition).collect();
        if conditions.is_empty() {
            rules.insert(number, Vec::new());
            continue;
        }
        let alternative = SeccompRule::new(conditions).expect("conditions");
        match rules.get_mut(&number) {
            Some(alternatives) if alternatives.is_empty() => {}
            Some(alternatives) => alternatives.push(alternative),
            None => {
                rules.insert(number, vec![alternative]);
            }
        }
    }
}

fn condition(condition: &Condition) -> SeccompCondition {
    let length = if condition.wide { SeccompCmpArgLen::Qword } else { SeccompCmpArgLen::Dword };
    let operator = match condition.comparison {
        Comparison::Eq => SeccompCmpOp::Eq,
        Comparison::Ne => SeccompCmpOp::Ne,
        Comparison::Lt => SeccompCmpOp::Lt,
        Comparison::Le => SeccompCmpOp::Le,
        Comparison::Gt => SeccompCmpOp::Gt,
        Comparison::Ge => SeccompCmpOp::Ge,
        Comparison::MaskedEq(mask) => SeccompCmpOp::MaskedEq(mask),
    };
    SeccompCondition::new(condition.index, length, operator, condition.value).expect("condition")
}

/// Every number with several arguments, and every edge of every rule.
fn inputs(seccomp: &Seccomp) -> Vec<SeccompData> {
    let data = |number: u32, arch, args| SeccompData {
        number: number as i32,
        arch,
        instruction_pointer: 0x7fff_1234_5678,
        args,
    };
    let mut inputs = Vec::new();
    for number in (0..=600).chain([0x3fff_ffff, 0x4000_0000, 0x4000_0001, 0x7fff_ffff, 0x8000_0000, u32::MAX])
    {
        for value in [0, 1, 2, 0xffff_ffff, u64::MAX] {
            inputs.push(data(number, X86_64, [value; 6]));
        }
        inputs.push(data(number, 0x4000_0003, [0; 6]));
    }
    for rule in always().iter().chain(&seccomp.allow) {
        let mut base = [0; 6];
        for condition in &rule.conditions {
            base[usize::from(condition.index)] = condition.value;
        }
        for call in &rule.syscalls {
            let number = call.id() as u32;
            inputs.push(data(number, X86_64, base));
            for condition in &rule.conditions {
                let value = condition.value;
                let bits = (0..64).map(|bit| value ^ (1 << bit));
                for edge in [value.wrapping_sub(1), value.wrapping_add(1), !value].into_iter().chain(bits) {
                    let mut args = base;
                    args[usize::from(condition.index)] = edge;
                    inputs.push(data(number, X86_64, args));
                }
            }
        }
    }
    inputs
}

fn compare(policy: &Policy) -> usize {
    let filter = Filter::compile(&policy.seccomp).expect("compiles");
    let reference = Reference::new(&policy.seccomp);
    let inputs = inputs(&policy.seccomp);
    for data in &inputs {
        let got = ours(&filter, data);
        assert_eq!(got, reference.answer(data), "{}: {data:?}", policy.name);
        assert_eq!(got, filter.answer(data), "{}: the product's interpreter on {data:?}", policy.name);
        if data.arch == X86_64 {
            let said = match policy.seccomp.judge(&Call::new(data.number as u32, data.args)) {
                Verdict::Always(_) | Verdict::Allowed(_) => Answer::Allow,
                Verdict::Denied(denial) => Answer::Errno(denial.errno),
                Verdict::Absent => Answer::Errno(libc::ENOSYS as u32),
                Verdict::Foreign => Answer::Kill,
                Verdict::Refused { .. } => Answer::Refuse,
            };
            assert_eq!(got, said, "{}: the profile's verdict on {data:?}", policy.name);
        }
    }
    inputs.len()
}

#[test]
fn every_profile_compiles_to_what_the_reference_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies");
    let loaded = load_dir(&folder).expect("policies");
    assert!(loaded.refused.is_empty(), "{:?}", loaded.refused);
    assert!(loaded.policies.len() >= 2);
    for policy in &loaded.policies {
        assert!(compare(policy) > 4000, "{}", policy.name);
    }
}

#[test]
fn every_comparison_in_both_widths_does_what_the_reference_does() {
    let mut text = "version = 1\nname = \"x\"\nbinary = \"/x\"\nuser = { uid = 7000 }\n[seccomp]\n\
                    mode = \"enforce\"\n[[seccomp.deny]]\nsyscalls = [\"bpf\"]\n\
                    errno = \"ENOSYS\"\nwhy = \"test\"\n[[seccomp.deny]]\nsyscalls = [\"acct\"]\n\
                    errno = \"EACCES\"\nwhy = \"test\"\n"
        .to_owned();
    let calls = ["ioctl", "socket", "kill", "mmap", "prctl", "fcntl", "madvise"];
    let operators = ["eq", "ne", "lt", "le", "gt", "ge", "masked_eq"];
    for (call, operator) in calls.iter().zip(operators) {
        let mask = if operator == "masked_eq" { ", mask = 0xff00ff00ff" } else { "" };
        for (bits, value, mask) in [
            (32, "0x80000010", mask.replace("0xff00ff00ff", "0x800000ff")),
            (64, "0x1200340056", mask.to_owned()),
        ] {
            text.push_str(&format!(
                "[[seccomp.allow]]\nsyscalls = [\"{call}\"]\nwhy = \"test\"\narguments = [{{ index = {index}, \
                 op = \"{operator}\", value = {value}, bits = {bits}{mask} }}, {{ index = 5, op = \"ge\", value = 1 }}]\n",
                index = bits / 32
            ));
        }
    }
    let policy =
        Policy::parse("test", &text, &orama_policy::Sets::none()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert!(compare(&policy) > 4000);
}

#[test]
fn a_rule_without_conditions_makes_processes_but_no_namespaces() {
    let text = "version = 1\nname = \"x\"\nbinary = \"/x\"\nuser = { uid = 7000 }\n[seccomp]\nmode = \"enforce\"\n\
                [[seccomp.allow]]\nsyscalls = [\"clone\", \"unshare\"]\nwhy = \"test\"\n";
    let policy = Policy::parse("test", text, &orama_policy::Sets::none()).unwrap();
    assert!(compare(&policy) > 3000);
    let filter = Filter::compile(&policy.seccomp).unwrap();
    let answer = |call: Sysno, flags: i32| {
        let args = [flags as u64, 0, 0, 0, 0, 0];
        ours(&filter, &SeccompData { number: call.id(), arch: X86_64, instruction_pointer: 0, args })
    };
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    for flag in namespaces {
        assert_eq!(answer(Sysno::clone, flag | libc::SIGCHLD), Answer::Refuse, "clone {flag:#x}");
        assert_eq!(answer(Sysno::unshare, flag), Answer::Refuse, "unshare {flag:#x}");
    }
    // CLONE_NEWTIME of linux/sched.h: in clone these bits are the exit signal.
    assert_eq!(answer(Sysno::unshare, 0x80), Answer::Refuse);
    assert_eq!(answer(Sysno::clone, libc::SIGCHLD), Answer::Allow);
    assert_eq!(answer(Sysno::unshare, libc::CLONE_FILES), Answer::Allow);
}
