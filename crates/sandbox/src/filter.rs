//! Seccomp rules -> BPF programs, in the order in which the child installs them.
//!
//! The kernel runs all programs of a task and takes the strictest answer, so what an earlier program answers
//! with an errno must be allowed by the later ones.

use std::collections::BTreeMap;

use orama_policy::{Action, Comparison, Condition, Mode, Rule, Seccomp, Sysno};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use crate::error::PrepareError;

/// BPF_MAXINSNS of the kernel.
const MAX_INSTRUCTIONS: usize = 4096;

/// What runs whatever the policy says: the exec of the service itself, and ends and signal returns, which no
/// recording sees and without which an error path becomes a riddle.
const ALWAYS: [Sysno; 7] = [
    Sysno::execve,
    Sysno::exit,
    Sysno::exit_group,
    Sysno::rt_sigreturn,
    Sysno::restart_syscall,
    Sysno::gettid,
    Sysno::tgkill,
];

/// One program and whether its refusals are to be logged (SECCOMP_FILTER_FLAG_LOG).
pub(crate) struct Program {
    pub instructions: BpfProgram,
    pub log: bool,
}

/// All programs of a policy; the main one last.
pub(crate) fn compile(seccomp: &Seccomp) -> Result<Vec<Program>, PrepareError> {
    let mut programs = vec![Program { instructions: gate(), log: false }];
    let mut by_errno: BTreeMap<u32, BTreeMap<i64, Vec<SeccompRule>>> = BTreeMap::new();
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in &seccomp.allow {
        add(&mut rules, rule)?;
    }
    // Unconditional: they never come this far, or must come through.
    for number in ALWAYS.iter().chain([&Sysno::clone3]) {
        rules.insert(i64::from(number.id()), Vec::new());
    }
    for denial in &seccomp.deny {
        for number in &denial.syscalls {
            by_errno.entry(denial.errno).or_default().insert(i64::from(number.id()), Vec::new());
            rules.insert(i64::from(number.id()), Vec::new());
        }
    }
    for (errno, denied) in by_errno {
        let instructions = program(denied, SeccompAction::Allow, SeccompAction::Errno(errno))?;
        programs.push(Program { instructions, log: false });
    }
    let mismatch = match (seccomp.mode, seccomp.default_action) {
        (Mode::Audit, _) => SeccompAction::Log,
        (Mode::Enforce, Action::Kill) => SeccompAction::KillProcess,
        (Mode::Enforce, Action::Errno(errno)) => SeccompAction::Errno(errno),
    };
    programs.push(Program { instructions: program(rules, mismatch, SeccompAction::Allow)?, log: true });
    Ok(programs)
}

fn add(rules: &mut BTreeMap<i64, Vec<SeccompRule>>, rule: &Rule) -> Result<(), PrepareError> {
    for number in &rule.syscalls {
        let number = i64::from(number.id());
        // An empty list means "always": it swallows the conditional alternatives, whichever comes first.
        if rule.conditions.is_empty() {
            rules.insert(number, Vec::new());
            continue;
        }
        let conditions = rule.conditions.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
        let alternative = SeccompRule::new(conditions).map_err(backend)?;
        match rules.get_mut(&number) {
            Some(alternatives) if alternatives.is_empty() => {}
            Some(alternatives) => alternatives.push(alternative),
            None => {
                rules.insert(number, vec![alternative]);
            }
        }
    }
    Ok(())
}

fn condition(condition: &Condition) -> Result<SeccompCondition, PrepareError> {
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
    SeccompCondition::new(condition.index, length, operator, condition.value).map_err(backend)
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    mismatch: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, PrepareError> {
    let filter = SeccompFilter::new(rules, mismatch, matched, TargetArch::x86_64).map_err(backend)?;
    let program = BpfProgram::try_from(filter).map_err(backend)?;
    if program.len() > MAX_INSTRUCTIONS {
        return Err(PrepareError::FilterTooLarge { instructions: program.len(), limit: MAX_INSTRUCTIONS });
    }
    Ok(program)
}

fn backend(source: seccompiler::BackendError) -> PrepareError {
    PrepareError::Filter { source }
}

/// The program before all others: a foreign architecture and x32 kill the process in every mode, and clone3,
/// whose flags lie in memory where no filter can look, does not exist, so that libraries fall back to clone.
fn gate() -> BpfProgram {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const DATA_NR: u32 = 0; // offsets in struct seccomp_data
    const DATA_ARCH: u32 = 4;
    const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
    const X32_BIT: u32 = 0x4000_0000;
    let op = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        op(LOAD, 0, 0, DATA_ARCH),
        op(EQUAL, 0, 5, AUDIT_ARCH_X86_64),
        op(LOAD, 0, 0, DATA_NR),
        op(AT_LEAST, 3, 0, X32_BIT),
        op(EQUAL, 0, 1, Sysno::clone3.id() as u32),
        op(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        op(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ]
}
