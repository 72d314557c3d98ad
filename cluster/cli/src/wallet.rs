//! The owner's wallet at the operator's side: the program `rw` when there is one, else a keystore file. Signs
//! statements and opens sealed keys. Never shows a key; whose wallet it is, the signatures tell.

mod password;
mod rw;

use std::path::{Path, PathBuf};

use clap::Args;
use orama_wallet::{Keystore, SecretKey, Signature, keystore, open, opened_key, sealed_from_text};
use zeroize::Zeroizing;

use crate::bounded;
use crate::failure::{Exit, Failure};

#[derive(Args)]
pub struct WalletArgs {
    /// Keystore file (Web3 Secret Storage version 3) of the owner's wallet, instead of the program rw.
    #[arg(long, value_name = "FILE", conflicts_with = "rw")]
    keystore: Option<PathBuf>,
    /// File with the keystore's password, `-` for stdin; asked for on the terminal when absent.
    #[arg(long, value_name = "FILE", requires = "keystore")]
    password_file: Option<PathBuf>,
    /// The wallet's program [default: rw from PATH].
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "rw")]
    rw: Option<PathBuf>,
}

pub enum Wallet {
    Program(PathBuf),
    Keystore(SecretKey),
}

impl Wallet {
    /// Finds the wallet; a keystore is opened at once, so that a wrong password stops a command before it began.
    pub fn find(args: &WalletArgs) -> Result<Self, Failure> {
        match (&args.keystore, &args.rw) {
            (Some(path), _) => open_keystore(path, args.password_file.as_deref()).map(Self::Keystore),
            (None, Some(program)) => rw::find(program).map(Self::Program).ok_or_else(|| {
                Failure::new(Exit::Usage, format!("there is no program {}", program.display()))
                    .next("give its path with --rw PATH, or a keystore with --keystore FILE")
            }),
            (None, None) => rw::find(Path::new("rw")).map(Self::Program).ok_or_else(|| {
                Failure::new(Exit::Usage, "no wallet: the program rw is not in PATH")
                    .next("give its path with --rw PATH, or a keystore with --keystore FILE")
            }),
        }
    }

    /// personal_sign over exactly this text.
    pub fn sign(&self, text: &str) -> Result<Signature, Failure> {
        match self {
            Self::Program(program) => rw::sign(program, text),
            Self::Keystore(key) => Ok(key.sign(text)),
        }
    }

    /// The volume key in what was sealed to this wallet.
    pub fn open_key(&self, sealed: &str) -> Result<Zeroizing<[u8; 32]>, Failure> {
        match self {
            Self::Program(program) => rw::decrypt(program, sealed),
            Self::Keystore(key) => {
                let failed = |error: &dyn std::error::Error| {
                    let cause = Failure::because(Exit::Failed, error);
                    Failure::new(Exit::Failed, format!("the sealed key does not open: {}", cause.what()))
                        .next("use the wallet that enrolled this node")
                };
                let sealed = sealed_from_text(sealed).map_err(|error| failed(&error))?;
                let opened = open(key, &sealed).map_err(|error| failed(&error))?;
                opened_key(&opened).map_err(|error| failed(&error))
            }
        }
    }
}

fn open_keystore(path: &Path, password_file: Option<&Path>) -> Result<SecretKey, Failure> {
    let wrong = |error: &dyn std::error::Error| {
        let cause = Failure::because(Exit::Usage, error);
        Failure::new(Exit::Usage, format!("keystore {}: {}", path.display(), cause.what()))
    };
    let text = bounded::read_text(path, keystore::FILE_LIMIT_BYTES as u64).map_err(|error| wrong(&error))?;
    let keystore = Keystore::parse(text.as_bytes()).map_err(|error| wrong(&error))?;
    let password = password::read(password_file, path)?;
    keystore.open(password.as_bytes()).map_err(|error| wrong(&error))
}
