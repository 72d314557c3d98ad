//! What is tried: every call number there is, the edges of every argument rule, and the ways around the filter.

use orama_policy::{Call, Comparison, Condition, Policy, Sysno, Verdict, always};
use orama_sandbox::trial::{Attempt, Did};

/// Numbers behind the last call that are tried too: a newer kernel has calls there.
const BEYOND: u32 = 64;
/// uretprobe and uprobe: newer kernels let them past every filter, as they are made by trampolines that the kernel
/// puts into programs under a probe, and end whoever else makes them (kernel/seccomp.c, `seccomp_uprobe_exception`).
pub const EXEMPT: [u32; 2] = [335, 336];
/// A call of the x32 architecture carries this bit.
const X32_BIT: u32 = 0x4000_0000;
/// getpid of the 32-bit table.
const INT80_GETPID: u32 = 20;

/// One attempt and what the profile says of it.
pub struct Case {
    pub class: &'static str,
    pub attempt: Attempt,
    pub expected: Did,
}

impl Case {
    pub fn call(&self) -> Call {
        Call::new(self.attempt.number, self.attempt.args)
    }

    /// For people.
    pub fn words(&self) -> String {
        match self.attempt.int80 {
            true => format!("int 0x80, number {}", self.attempt.number),
            false => self.call().describe(),
        }
    }
}

/// All cases of a profile.
pub fn of(policy: &Policy) -> Vec<Case> {
    let mut cases = Vec::new();
    let last = Sysno::iter().map(|call| call.id() as u32).max().unwrap_or(0);
    for number in (0..=last + BEYOND).filter(|number| !EXEMPT.contains(number)) {
        let call = Call::new(number, [0; 6]);
        cases.push(native(policy, call.purpose(), number, [0; 6]));
    }
    for rule in policy.seccomp.allow.iter().chain(always()) {
        for call in &rule.syscalls {
            for args in edges(&rule.conditions_of(*call)) {
                cases.push(native(policy, "argument rules, at their edges", call.id() as u32, args));
            }
        }
    }
    cases.push(native(policy, "clone3, whose flags no filter can see", Sysno::clone3.id() as u32, [0; 6]));
    for number in [0, 1, 39, 59, 520] {
        cases.push(native(policy, "x32 calls", X32_BIT | number, [0; 6]));
    }
    for number in [INT80_GETPID, 1, 11] {
        cases.push(Case {
            class: "i386 calls (int 0x80)",
            attempt: Attempt { number, args: [0; 6], int80: true },
            expected: Did::Kill,
        });
    }
    cases
}

fn native(policy: &Policy, class: &'static str, number: u32, args: [u64; 6]) -> Case {
    let expected = match policy.seccomp.judge(&Call::new(number, args)) {
        Verdict::Always(_) | Verdict::Allowed(_) => Did::Allow,
        Verdict::Denied(denial) => Did::Errno(denial.errno),
        Verdict::Absent => Did::Errno(nix::errno::Errno::ENOSYS as u32),
        Verdict::Foreign => Did::Kill,
        Verdict::Refused { .. } => Did::Refuse,
    };
    Case { class, attempt: Attempt { number, args, int80: false }, expected }
}

/// Arguments that just match a rule, and for each of its conditions some that just do and some that just do not.
fn edges(conditions: &[Condition]) -> Vec<[u64; 6]> {
    let mut matching = [0; 6];
    for condition in conditions {
        matching[usize::from(condition.index)] = holding(condition);
    }
    let mut all = vec![matching];
    for condition in conditions {
        for value in around(condition) {
            let mut args = matching;
            args[usize::from(condition.index)] = value;
            all.push(args);
        }
    }
    all.dedup();
    all
}

/// A value for which the condition holds.
fn holding(condition: &Condition) -> u64 {
    match condition.comparison {
        Comparison::Eq | Comparison::Le | Comparison::Ge | Comparison::MaskedEq(_) => condition.value,
        Comparison::Ne | Comparison::Gt => condition.value.wrapping_add(1),
        Comparison::Lt => condition.value.wrapping_sub(1),
    }
}

fn around(condition: &Condition) -> Vec<u64> {
    let value = condition.value;
    let garbage = 1 << 32;
    let mut values = vec![
        0,
        value,
        value.wrapping_sub(1),
        value.wrapping_add(1),
        value ^ garbage,
        u64::from(u32::MAX),
        u64::MAX,
    ];
    if let Comparison::MaskedEq(mask) = condition.comparison {
        // One bit off inside the mask, and all bits outside it.
        values.extend((0..64).filter(|bit| mask >> bit & 1 == 1).map(|bit| value ^ (1 << bit)));
        values.push(value | !mask);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_lie_on_both_sides() {
        let policy = orama_policy::Policy::parse(
            "test",
            "version = 1\nname = \"x\"\nbinary = \"/x\"\nuser = { uid = 7000 }\n[seccomp]\nmode = \"enforce\"\n\
             [[seccomp.allow]]\nsyscalls = [\"socket\"]\nwhy = \"test\"\n\
             arguments = [{ index = 0, value = 2 }, { index = 1, op = \"masked_eq\", mask = 0xf, value = 1 }]\n",
            &orama_policy::Sets::none(),
        )
        .expect("policy");
        let rules: Vec<Case> =
            of(&policy).into_iter().filter(|case| case.class.starts_with("argument rules")).collect();
        let sockets = || rules.iter().filter(|case| case.attempt.number == 41);
        assert!(sockets().any(|case| case.expected == Did::Allow));
        assert!(sockets().any(|case| case.expected == Did::Refuse));
        // The upper half of an int is the caller's garbage.
        let garbage = sockets().find(|case| case.attempt.args[0] == 2 | 1 << 32).expect("garbage");
        assert_eq!(garbage.expected, Did::Allow);
    }
}
