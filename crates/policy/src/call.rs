//! One system call with its arguments, and how people read it.

use syscalls::Sysno;

/// What a service asked of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// As the kernel saw it: x32 calls have bit 30.
    pub number: u32,
    pub args: [u64; 6],
    /// What pointer arguments pointed at, where somebody read it: paths, socket addresses.
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

    /// The call's name, or its number when it has none.
    pub fn name(&self) -> String {
        self.sysno().map_or_else(|| format!("syscall_{:#x}", self.number), |known| known.name().to_owned())
    }

    pub fn shape(&self) -> Shape {
        Shape { number: self.number, arguments: Vec::new() }
    }

    /// As strace would write it: `openat(AT_FDCWD, "/etc/shadow", O_RDONLY)`.
    pub fn describe(&self) -> String {
        let arguments: Vec<String> = self.args.iter().map(|argument| format!("{argument:#x}")).collect();
        format!("{}({})", self.name(), arguments.join(", "))
    }
}

/// Which arguments of a call are NUL-terminated paths.
pub fn path_arguments(_number: u32) -> &'static [u8] {
    &[]
}
