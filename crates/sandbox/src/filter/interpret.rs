//! Runs a seccomp program as the kernel would: for tracing, where the decision is taken here, and for tests. Knows
//! the instructions that our assembler and seccompiler emit.

use libc::sock_filter;

use super::assemble::{ABOVE, AND, ANY_BIT, AT_LEAST, EQUAL, JUMP, LOAD, RETURN};
use crate::watch::SeccompData;

/// The return value; what the kernel would not have accepted kills.
pub(super) fn run(program: &[sock_filter], data: &SeccompData) -> u32 {
    let mut accumulator = 0u32;
    let mut at = 0;
    while let Some(instruction) = program.get(at) {
        at += 1;
        let k = instruction.k;
        let taken = |taken: bool| usize::from(if taken { instruction.jt } else { instruction.jf });
        match instruction.code {
            LOAD => match word(data, k) {
                Some(value) => accumulator = value,
                None => break,
            },
            AND => accumulator &= k,
            JUMP => at += k as usize,
            EQUAL => at += taken(accumulator == k),
            ABOVE => at += taken(accumulator > k),
            AT_LEAST => at += taken(accumulator >= k),
            ANY_BIT => at += taken(accumulator & k != 0),
            RETURN => return k,
            _ => break,
        }
    }
    libc::SECCOMP_RET_KILL_PROCESS
}

/// The 32-bit word at an offset of struct seccomp_data.
fn word(data: &SeccompData, offset: u32) -> Option<u32> {
    let half = |value: u64, high: bool| if high { (value >> 32) as u32 } else { value as u32 };
    let high = offset % 8 == 4;
    match offset {
        _ if !offset.is_multiple_of(4) => None,
        0 => Some(data.number as u32),
        4 => Some(data.arch),
        8 | 12 => Some(half(data.instruction_pointer, high)),
        _ => data.args.get((offset as usize - 16) / 8).map(|argument| half(*argument, high)),
    }
}
