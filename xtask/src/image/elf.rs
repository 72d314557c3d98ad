//! What an ELF program asks of its loader, read with `readelf`.

use std::path::Path;

use super::tool::{ToolError, run, tool};

#[derive(Debug, PartialEq, Eq)]
pub struct Elf {
    /// The program loader, absent in static programs and libraries.
    pub interpreter: Option<String>,
    /// Names of shared libraries (DT_NEEDED).
    pub needed: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    #[error("cannot read the program headers")]
    Readelf(#[from] ToolError),
}

pub fn read(path: &Path) -> Result<Elf, ElfError> {
    Ok(parse(&run(tool("readelf").args(["--wide", "--program-headers", "--dynamic"]).arg(path))?))
}

fn parse(text: &str) -> Elf {
    let between = |line: &str, before: &str| -> Option<String> {
        let (_, rest) = line.split_once(before)?;
        Some(rest.split_once(']')?.0.trim().to_owned())
    };
    Elf {
        interpreter: text.lines().find_map(|line| between(line, "[Requesting program interpreter:")),
        needed: text
            .lines()
            .filter(|line| line.contains("(NEEDED)"))
            .filter_map(|line| between(line, "Shared library: ["))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_names_its_loader_and_libraries() {
        let elf = read("/usr/sbin/cryptsetup".as_ref()).unwrap();
        assert_eq!(elf.interpreter.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        assert!(elf.needed.iter().any(|name| name == "libcryptsetup.so.12"), "{elf:?}");
    }

    #[test]
    fn what_is_no_elf_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "#!/bin/sh\n").unwrap();
        assert!(read(file.path()).is_err());
    }
}
