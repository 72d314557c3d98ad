//! Seccomp rules -> one BPF program: a table of what each call meets, then a binary search over it. The kernel runs
//! the program for every call number when it is installed, so its depth is what a start pays for.

mod assemble;
mod interpret;

use std::collections::BTreeMap;

use orama_policy::{Condition, Rule, Seccomp, Sysno, always};

use crate::error::PrepareError;
use crate::watch::SeccompData;
use assemble::Leaf;

/// BPF_MAXINSNS of the kernel.
const MAX_INSTRUCTIONS: usize = 4096;

/// A compiled program.
#[derive(Debug, Clone)]
pub struct Filter {
    instructions: Vec<libc::sock_filter>,
}

/// What a filter does with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Allow,
    Errno(u32),
    /// Left to whoever holds the listener.
    Refuse,
    /// A foreign architecture: killed by the kernel in every mode.
    Kill,
}

impl Filter {
    /// The filter of a policy. What it refuses goes to the listener in every mode: the watcher knows the mode.
    pub fn compile(seccomp: &Seccomp) -> Result<Filter, PrepareError> {
        Filter::assemble(&table(seccomp))
    }

    /// Sends every call to the listener but those that the child makes before it is the service, when nobody
    /// listens yet.
    pub(crate) fn tracing() -> Result<Filter, PrepareError> {
        let mut leaves = BTreeMap::new();
        for rule in always().iter().filter(|rule| rule.syscalls.iter().any(|call| BEFORE_EXEC.contains(call)))
        {
            allow(&mut leaves, rule, |call| BEFORE_EXEC.contains(&call));
        }
        Filter::assemble(&leaves)
    }

    fn assemble(leaves: &BTreeMap<u32, Leaf>) -> Result<Filter, PrepareError> {
        let instructions = assemble::program(leaves);
        if instructions.len() > MAX_INSTRUCTIONS {
            return Err(PrepareError::FilterTooLarge {
                instructions: instructions.len(),
                limit: MAX_INSTRUCTIONS,
            });
        }
        Ok(Filter { instructions })
    }

    /// What the kernel wants to be given; valid as long as the filter.
    pub(crate) fn fprog(&self) -> libc::sock_fprog {
        libc::sock_fprog {
            len: self.instructions.len() as u16,
            filter: self.instructions.as_ptr().cast_mut(),
        }
    }

    /// The instructions, for whoever installs them by other means.
    pub fn instructions(&self) -> &[libc::sock_filter] {
        &self.instructions
    }

    /// Runs the program as the kernel would.
    pub fn answer(&self, data: &SeccompData) -> Answer {
        let value = interpret::run(&self.instructions, data);
        match value & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_ALLOW => Answer::Allow,
            libc::SECCOMP_RET_ERRNO => Answer::Errno(value & libc::SECCOMP_RET_DATA),
            libc::SECCOMP_RET_USER_NOTIF => Answer::Refuse,
            _ => Answer::Kill,
        }
    }
}

/// The calls that the child makes between the filter and the service's first instruction.
const BEFORE_EXEC: [Sysno; 4] = [Sysno::close_range, Sysno::dup3, Sysno::prlimit64, Sysno::execve];

/// What each call of the profile meets. A call that is not in the table is refused.
fn table(seccomp: &Seccomp) -> BTreeMap<u32, Leaf> {
    let mut leaves = BTreeMap::new();
    for rule in &seccomp.allow {
        allow(&mut leaves, rule, |_| true);
    }
    for denial in seccomp.deny.iter().rev() {
        for call in &denial.syscalls {
            leaves.insert(number(*call), Leaf::Errno(denial.errno));
        }
    }
    for rule in always() {
        allow(&mut leaves, rule, |_| true);
    }
    // Its flags lie in memory where no filter can look; libraries fall back to clone.
    leaves.insert(number(Sysno::clone3), Leaf::Errno(libc::ENOSYS as u32));
    leaves
}

fn number(call: Sysno) -> u32 {
    call.id() as u32
}

/// Adds a rule for those of its calls that are wanted: an unconditional one swallows the others of its call.
fn allow(leaves: &mut BTreeMap<u32, Leaf>, rule: &Rule, wanted: impl Fn(Sysno) -> bool) {
    for call in rule.syscalls.iter().copied().filter(|call| wanted(*call)) {
        let alternative: Vec<Condition> = rule.conditions_of(call).into_owned();
        if alternative.is_empty() {
            leaves.insert(number(call), Leaf::Allow);
            continue;
        }
        match leaves.get_mut(&number(call)) {
            Some(Leaf::Allow) => {}
            Some(Leaf::AllowIf(alternatives)) => alternatives.push(alternative),
            // What the sandbox needs cannot be denied, and a denied call cannot be allowed: a profile is refused
            // for the first, and lint tells of the second, where the denial wins.
            Some(Leaf::Errno(_)) => {}
            None => {
                leaves.insert(number(call), Leaf::AllowIf(vec![alternative]));
            }
        }
    }
}
