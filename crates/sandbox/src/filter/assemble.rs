//! BPF code for a table of calls: the gate, a binary search over ranges of call numbers, argument comparisons.
//! Codes and offsets are those of linux/filter.h and struct seccomp_data.

use std::collections::BTreeMap;

use libc::sock_filter;
use orama_policy::{Comparison, Condition};

pub(super) const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub(super) const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
pub(super) const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
pub(super) const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub(super) const ABOVE: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
pub(super) const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub(super) const ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
pub(super) const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const DATA_NUMBER: u32 = 0;
const DATA_ARCH: u32 = 4;
/// Of argument 0; eight bytes each, the low word first.
const DATA_ARGS: u32 = 16;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// What a call outside the table meets: the holder of the listener decides.
const REFUSED: u32 = libc::SECCOMP_RET_USER_NOTIF;
/// A call of the x32 architecture.
const X32_BIT: u32 = 0x4000_0000;

/// What one call meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leaf {
    Allow,
    Errno(u32),
    /// Allowed when all conditions of one alternative hold, else refused.
    AllowIf(Vec<Vec<Condition>>),
}

fn op(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// The whole program.
pub(super) fn program(leaves: &BTreeMap<u32, Leaf>) -> Vec<sock_filter> {
    let mut code = vec![
        op(LOAD, 0, 0, DATA_ARCH),
        op(EQUAL, 1, 0, AUDIT_ARCH_X86_64),
        op(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        op(LOAD, 0, 0, DATA_NUMBER),
        op(ANY_BIT, 0, 1, X32_BIT),
        op(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    code.extend(search(&ranges(leaves)));
    code
}

/// From this number on until the next range begins; `None` = refused.
struct Range<'a> {
    from: u32,
    leaf: Option<&'a Leaf>,
}

/// Neighbours that meet the same share a range.
fn ranges(leaves: &BTreeMap<u32, Leaf>) -> Vec<Range<'_>> {
    let mut ranges = vec![Range { from: 0, leaf: None }];
    let mut next = 0;
    let mut begin = |from: u32, leaf| match ranges.last_mut() {
        Some(last) if last.leaf == leaf => {}
        Some(last) if last.from == from => last.leaf = leaf,
        _ => ranges.push(Range { from, leaf }),
    };
    for (number, leaf) in leaves {
        if *number > next {
            begin(next, None);
        }
        begin(*number, Some(leaf));
        next = number + 1;
    }
    begin(next, None);
    ranges
}

/// The call number is in the accumulator; every path ends in a return.
fn search(ranges: &[Range<'_>]) -> Vec<sock_filter> {
    if let [only] = ranges {
        return leaf(only.leaf);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let pivot = high[0].from;
    let (low, high) = (search(low), search(high));
    let mut code = match u8::try_from(low.len()) {
        Ok(over) => vec![op(AT_LEAST, over, 0, pivot)],
        // Too far for a conditional jump.
        Err(_) => vec![op(AT_LEAST, 0, 1, pivot), op(JUMP, 0, 0, low.len() as u32)],
    };
    code.extend(low);
    code.extend(high);
    code
}

fn leaf(leaf: Option<&Leaf>) -> Vec<sock_filter> {
    let errno = |errno: u32| libc::SECCOMP_RET_ERRNO | errno & libc::SECCOMP_RET_DATA;
    match leaf {
        None => vec![op(RETURN, 0, 0, REFUSED)],
        Some(Leaf::Allow) => vec![op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW)],
        Some(Leaf::Errno(number)) => vec![op(RETURN, 0, 0, errno(*number))],
        Some(Leaf::AllowIf(alternatives)) => {
            let mut code: Vec<sock_filter> = alternatives.iter().flat_map(|all| alternative(all)).collect();
            code.push(op(RETURN, 0, 0, REFUSED));
            code
        }
    }
}

/// Where a comparison goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// The instruction after this one.
    Here,
    /// The next condition.
    Holds,
    /// The next alternative.
    Fails,
}

/// Returns "allow" when all conditions hold, else runs on behind its end.
fn alternative(conditions: &[Condition]) -> Vec<sock_filter> {
    let steps: Vec<Vec<(u16, u32, To, To)>> = conditions.iter().map(condition).collect();
    let length: usize = steps.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Vec::with_capacity(length);
    for step in &steps {
        let end = code.len() + step.len();
        for (code_, k, yes, no) in step {
            // At most six conditions of at most five instructions: all jumps are short.
            let distance = |to: To| match to {
                To::Here => 0,
                To::Holds => (end - code.len() - 1) as u8,
                To::Fails => (length - code.len() - 1) as u8,
            };
            code.push(op(*code_, distance(*yes), distance(*no), *k));
        }
    }
    code.push(op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    code
}

/// One comparison as unsigned numbers; 64 bits as high word, then low word.
fn condition(condition: &Condition) -> Vec<(u16, u32, To, To)> {
    use To::{Fails, Here, Holds};
    let low_at = DATA_ARGS + 8 * u32::from(condition.index);
    let (low, high) = (condition.value as u32, (condition.value >> 32) as u32);
    let load = |offset| (LOAD, offset, Here, Here);
    let in_low: Vec<(u16, u32, To, To)> = match condition.comparison {
        Comparison::Eq => vec![(EQUAL, low, Holds, Fails)],
        Comparison::Ne => vec![(EQUAL, low, Fails, Holds)],
        Comparison::Gt => vec![(ABOVE, low, Holds, Fails)],
        Comparison::Le => vec![(ABOVE, low, Fails, Holds)],
        Comparison::Ge => vec![(AT_LEAST, low, Holds, Fails)],
        Comparison::Lt => vec![(AT_LEAST, low, Fails, Holds)],
        Comparison::MaskedEq(mask) => {
            vec![(AND, mask as u32, Here, Here), (EQUAL, low & mask as u32, Holds, Fails)]
        }
    };
    let in_high: Vec<(u16, u32, To, To)> = match condition.comparison {
        _ if !condition.wide => Vec::new(),
        Comparison::Eq => vec![(EQUAL, high, Here, Fails)],
        Comparison::Ne => vec![(EQUAL, high, Here, Holds)],
        Comparison::Gt | Comparison::Ge => vec![(ABOVE, high, Holds, Here), (EQUAL, high, Here, Fails)],
        Comparison::Lt | Comparison::Le => vec![(ABOVE, high, Fails, Here), (EQUAL, high, Here, Holds)],
        Comparison::MaskedEq(mask) => {
            let mask = (mask >> 32) as u32;
            vec![(AND, mask, Here, Here), (EQUAL, high & mask, Here, Fails)]
        }
    };
    let mut code = Vec::new();
    if condition.wide {
        code.push(load(low_at + 4));
        code.extend(in_high);
    }
    code.push(load(low_at));
    code.extend(in_low);
    code
}
