//! One system call with its arguments, and how people read it. The tables are in `table`; reading a caller's
//! memory is the sandbox's business.

pub(crate) mod classes;
pub(crate) mod table;

use syscalls::Sysno;

use crate::rules::namespace_flags;
use table::{Kind, arguments};

/// Longest text shown of one argument, in characters.
const SHOWN_TEXT: usize = 120;

/// What a service asked of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// As the kernel saw it: x32 calls have bit 30.
    pub number: u32,
    pub args: [u64; 6],
    /// What pointer arguments pointed at, where somebody read it: paths, and socket addresses such as
    /// `10.0.0.1:53` or `/run/x.sock`.
    pub texts: [Option<String>; 6],
}

/// What of a call makes it another kind of call: the arguments by which rules tell calls apart. Two calls of one
/// shape need the same rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    pub number: u32,
    /// Index and value.
    pub arguments: Vec<(u8, u64)>,
}

impl Call {
    pub fn new(number: u32, args: [u64; 6]) -> Call {
        Call { number, args, texts: Default::default() }
    }

    /// `None` for numbers that are no call of this architecture.
    pub fn sysno(&self) -> Option<Sysno> {
        Sysno::new(usize::try_from(self.number).ok()?)
    }

    /// Whether it would make a namespace, which no profile can allow.
    pub fn makes_namespace(&self) -> bool {
        let flags = self.sysno().and_then(namespace_flags);
        flags.is_some_and(|flags| self.args[0] & flags != 0)
    }

    /// The call's name, or its number when it has none.
    pub fn name(&self) -> String {
        match self.sysno() {
            Some(known) => known.name().to_owned(),
            None if self.number & crate::verdict::X32_BIT != 0 => {
                format!("x32_{}", Call::new(self.number & !crate::verdict::X32_BIT, self.args).name())
            }
            None => format!("syscall_{}", self.number),
        }
    }

    /// See [`Shape`]: the domain and type of a socket, the request of an ioctl, the option of a prctl …
    /// What calls like it are for, in plain words: `use sockets`.
    pub fn purpose(&self) -> &'static str {
        self.sysno().map_or("no call of this architecture", |known| classes::Class::of(known).title())
    }

    pub fn shape(&self) -> Shape {
        let telling = self.sysno().map_or(&[][..], telling);
        let arguments = telling.iter().map(|(index, mask)| (*index, self.args[usize::from(*index)] & mask));
        Shape { number: self.number, arguments: arguments.collect() }
    }

    /// As strace would write it: `openat(AT_FDCWD, "/etc/shadow", O_RDONLY)`.
    pub fn describe(&self) -> String {
        let Some(known) = self.sysno() else {
            let arguments: Vec<String> = self.args.iter().map(|value| plain(*value)).collect();
            return format!("{}({})", self.name(), arguments.join(", "));
        };
        let shown = self.shown_arguments(known);
        let arguments: Vec<String> = (0..shown).map(|index| self.show(known, index)).collect();
        format!("{known}({})", arguments.join(", "))
    }

    /// How many arguments mean something: open has a mode only when it may create.
    fn shown_arguments(&self, known: Sysno) -> usize {
        /// O_CREAT, and the bit of __O_TMPFILE.
        const CREATES: u64 = 0x40 | 0x40_0000;
        let all = arguments(known).len();
        match known {
            Sysno::open if self.args[1] & CREATES == 0 => 2,
            Sysno::openat if self.args[2] & CREATES == 0 => 3,
            // Of the calls through futex, fcntl and prctl most have no use for the last ones.
            Sysno::futex => 3,
            Sysno::fcntl if matches!(self.args[1], 1 | 3 | 9 | 11 | 1025 | 1032 | 1034) => 2,
            Sysno::prctl => match self.args[0] {
                // What only asks: PR_GET_DUMPABLE, PR_GET_KEEPCAPS, PR_GET_SECCOMP, PR_GET_NO_NEW_PRIVS …
                3 | 7 | 21 | 27 | 30 | 39 | 42 => 1,
                // PR_SET_SECCOMP, PR_SET_MM, PR_CAP_AMBIENT; PR_SET_VMA has five.
                22 | 35 | 47 => 3,
                0x5356_4d41 => 5,
                _ => 2,
            },
            _ => all,
        }
        .min(all)
    }

    /// One argument as in [`Call::describe`].
    pub(crate) fn show(&self, known: Sysno, index: usize) -> String {
        let value = self.args[index];
        let low = value & u64::from(u32::MAX);
        let kind = arguments(known).get(index).map_or(Kind::Plain, |argument| argument.kind);
        match kind {
            Kind::Path | Kind::Text | Kind::Address => match &self.texts[index] {
                Some(text) => quoted(text),
                None => pointer(value),
            },
            // The kernel reads these as C's int: the upper half is the caller's garbage.
            #[allow(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
            Kind::Fd | Kind::Int => (low as u32).cast_signed().to_string(),
            Kind::Dirfd if low == AT_FDCWD => "AT_FDCWD".to_owned(),
            #[allow(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
            Kind::Dirfd => (low as u32).cast_signed().to_string(),
            Kind::Size => value.to_string(),
            Kind::Pointer => pointer(value),
            Kind::Mode => format!("{low:#o}").replace("0o", "0"),
            Kind::Named(names) => names.show(low),
            Kind::SocketOption => {
                let level = self.args[index.saturating_sub(1)] & u64::from(u32::MAX);
                table::socket_options(level).map_or_else(|| plain(low), |names| names.show(low))
            }
            Kind::Plain => plain(value),
        }
    }
}

/// AT_FDCWD of linux/fcntl.h, as an unsigned int.
const AT_FDCWD: u64 = 0xffff_ff9c;

/// Which arguments of a call are NUL-terminated paths.
pub fn path_arguments(number: u32) -> &'static [u8] {
    const SETS: [&[u8]; 8] = [&[], &[0], &[1], &[0, 1], &[0, 2], &[1, 3], &[4], &[1, 2]];
    let call = Call::new(number, [0; 6]);
    let Some(known) = call.sysno() else { return &[] };
    let is_path = |index: &usize| arguments(known)[*index].kind == Kind::Path;
    let found: Vec<usize> = (0..arguments(known).len()).filter(is_path).collect();
    SETS.iter()
        .find(|set| set.iter().map(|index| usize::from(*index)).eq(found.iter().copied()))
        .copied()
        .unwrap_or(&[])
}

/// Which argument of a call is a socket address; its length is the next one.
pub fn address_argument(number: u32) -> Option<u8> {
    let known = Call::new(number, [0; 6]).sysno()?;
    let at = arguments(known).iter().position(|argument| argument.kind == Kind::Address)?;
    u8::try_from(at).ok()
}

/// The arguments that rules tell calls apart by, and which of their bits. Never paths, descriptors or process ids,
/// whose values are no property of the program.
pub(crate) fn telling(call: Sysno) -> &'static [(u8, u64)] {
    match call {
        // Of the type without SOCK_NONBLOCK and SOCK_CLOEXEC.
        Sysno::socket => &[(0, INT), (1, 0xf), (2, INT)],
        Sysno::socketpair | Sysno::unshare | Sysno::prctl | Sysno::arch_prctl => &[(0, INT)],
        Sysno::personality | Sysno::ptrace | Sysno::bpf | Sysno::keyctl => &[(0, INT)],
        Sysno::ioctl | Sysno::fcntl | Sysno::kill | Sysno::setns => &[(1, INT)],
        // CLONE_THREAD and all CLONE_NEW*: a thread, a process, or a namespace.
        Sysno::clone => &[(0, 0x7e03_0000)],
        // PROT_WRITE and PROT_EXEC.
        Sysno::mmap | Sysno::mprotect | Sysno::pkey_mprotect => &[(2, 6)],
        _ => &[],
    }
}

/// All bits of an int.
pub(crate) const INT: u64 = u32::MAX as u64;

fn pointer(value: u64) -> String {
    if value == 0 { "NULL".to_owned() } else { format!("{value:#x}") }
}

fn plain(value: u64) -> String {
    if value < 10 { value.to_string() } else { format!("{value:#x}") }
}

/// A caller's text on one line: it may hold anything.
fn quoted(text: &str) -> String {
    let mut shown = String::from("\"");
    for character in text.chars().take(SHOWN_TEXT) {
        match character {
            '"' | '\\' => shown.extend(['\\', character]),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown.push('"');
    if text.chars().nth(SHOWN_TEXT).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
#[path = "call/tests.rs"]
mod tests;
