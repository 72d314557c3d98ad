//! The two words on the kernel command line that tell a node what it runs: `orama.slot` and `orama.verity`.
//! Other words are the kernel's and are passed over.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use crate::Slot;

/// COMMAND_LINE_SIZE of x86-64 (arch/x86/include/asm/setup.h), in bytes.
const COMMAND_LINE_LIMIT_BYTES: u64 = 2048;

/// Verity's own limit for a salt (dm-verity-target.c), in bytes.
const SALT_LIMIT_BYTES: usize = 256;

/// Bytes of a verity data block, and of a hash block, in our images.
pub const VERITY_BLOCK_BYTES: u64 = 4096;

/// Largest root file system we accept: 64 GiB in verity blocks. Keeps every size computation inside u64.
const DATA_BLOCKS_LIMIT: u64 = (64 << 30) / VERITY_BLOCK_BYTES;

/// Which slot was booted and what it must hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booted {
    pub slot: Slot,
    pub verity: VerityRoot,
}

/// Everything that dm-verity needs beside the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerityRoot {
    /// SHA-256 root of the hash tree, 64 lowercase hex digits.
    pub root_hash: String,
    /// Salt in lowercase hex digits; never empty.
    pub salt: String,
    /// Data blocks of [`VERITY_BLOCK_BYTES`]; the verity superblock follows, then the tree.
    pub data_blocks: u64,
}

/// Why the command line does not name a verified root.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    #[error("kernel command line has no {key}")]
    Missing { key: &'static str },
    #[error("kernel command line gives {key} twice")]
    Twice { key: &'static str },
    #[error("orama.slot on the kernel command line is neither a nor b")]
    Slot,
    #[error("orama.verity on the kernel command line is not <root hash>:<salt>:<data blocks>")]
    VerityShape,
    #[error("root hash in orama.verity is not 64 lowercase hex digits")]
    RootHash,
    #[error("salt in orama.verity is not 1 to {SALT_LIMIT_BYTES} bytes of lowercase hex digits")]
    Salt,
    #[error("data block count in orama.verity is not a number from 1 to {DATA_BLOCKS_LIMIT}")]
    DataBlocks,
}

/// Why the command line could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadCommandLineError {
    #[error("cannot read the kernel command line from {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("kernel command line is longer than {COMMAND_LINE_LIMIT_BYTES} bytes or not text")]
    Malformed,
    #[error("kernel command line does not name a verified root")]
    Parse(#[from] CommandLineError),
}

/// Reads and parses `/proc/cmdline`.
pub fn read() -> Result<Booted, ReadCommandLineError> {
    let path = PathBuf::from("/proc/cmdline");
    let mut bytes = Vec::new();
    let reading =
        File::open(&path).and_then(|file| file.take(COMMAND_LINE_LIMIT_BYTES + 1).read_to_end(&mut bytes));
    if let Err(source) = reading {
        return Err(ReadCommandLineError::Read { path, source });
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) if text.len() as u64 <= COMMAND_LINE_LIMIT_BYTES => text,
        _ => return Err(ReadCommandLineError::Malformed),
    };
    Ok(parse(&text)?)
}

/// Finds our two words. Doubled words are refused: which of them counts must never be a question of order.
pub fn parse(text: &str) -> Result<Booted, CommandLineError> {
    let slot = match word(text, "orama.slot")? {
        "a" => Slot::A,
        "b" => Slot::B,
        _ => return Err(CommandLineError::Slot),
    };
    Ok(Booted { slot, verity: verity(word(text, "orama.verity")?)? })
}

fn word<'a>(text: &'a str, key: &'static str) -> Result<&'a str, CommandLineError> {
    let mut values = text
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')));
    let value = values.next().ok_or(CommandLineError::Missing { key })?;
    match values.next() {
        None => Ok(value),
        Some(_) => Err(CommandLineError::Twice { key }),
    }
}

fn verity(value: &str) -> Result<VerityRoot, CommandLineError> {
    let mut parts = value.split(':');
    let (Some(root_hash), Some(salt), Some(blocks), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(CommandLineError::VerityShape);
    };
    if root_hash.len() != 64 || !is_lower_hex(root_hash) {
        return Err(CommandLineError::RootHash);
    }
    if salt.is_empty()
        || !salt.len().is_multiple_of(2)
        || salt.len() > 2 * SALT_LIMIT_BYTES
        || !is_lower_hex(salt)
    {
        return Err(CommandLineError::Salt);
    }
    // `parse` would take a leading plus sign.
    let plain = !blocks.is_empty() && blocks.bytes().all(|byte| byte.is_ascii_digit());
    match blocks.parse::<u64>() {
        Ok(count) if plain && (1..=DATA_BLOCKS_LIMIT).contains(&count) => {
            Ok(VerityRoot { root_hash: root_hash.into(), salt: salt.into(), data_blocks: count })
        }
        _ => Err(CommandLineError::DataBlocks),
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn our_words_are_found_among_the_kernels() {
        let booted =
            parse(&format!("panic=10 orama.slot=b quiet orama.verity={HASH}:a0b1:4711 console=ttyS0\n"))
                .unwrap();
        assert_eq!(booted.slot, Slot::B);
        assert_eq!(booted.verity.root_hash, HASH);
        assert_eq!(booted.verity.salt, "a0b1");
        assert_eq!(booted.verity.data_blocks, 4711);
    }

    #[test]
    fn every_deviation_has_its_own_error() {
        use CommandLineError::*;
        let check =
            |text: String, expected: CommandLineError| assert_eq!(parse(&text), Err(expected), "{text}");
        check(String::new(), Missing { key: "orama.slot" });
        check("orama.slot=a".into(), Missing { key: "orama.verity" });
        check("xorama.slot=a".into(), Missing { key: "orama.slot" });
        check(format!("orama.slot=a orama.slot=b orama.verity={HASH}:aa:1"), Twice { key: "orama.slot" });
        check(format!("orama.slot=c orama.verity={HASH}:aa:1"), Slot);
        check(format!("orama.slot=a orama.verity={HASH}:aa"), VerityShape);
        check(format!("orama.slot=a orama.verity={HASH}:aa:1:2"), VerityShape);
        check(format!("orama.slot=a orama.verity={}:aa:1", &HASH[1..]), RootHash);
        check(format!("orama.slot=a orama.verity={}:aa:1", HASH.to_uppercase()), RootHash);
        check(format!("orama.slot=a orama.verity={HASH}::1"), Salt);
        check(format!("orama.slot=a orama.verity={HASH}:abc:1"), Salt);
        check(format!("orama.slot=a orama.verity={HASH}:{}:1", "ab".repeat(257)), Salt);
        for blocks in ["", "0", "-1", "+1", "1x", "16777217", "99999999999999999999"] {
            check(format!("orama.slot=a orama.verity={HASH}:aa:{blocks}"), DataBlocks);
        }
    }
}
