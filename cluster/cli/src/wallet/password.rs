//! A password from a file, from stdin, or typed on the terminal without being shown. Never from an argument.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::bounded;
use crate::failure::{Exit, Failure};

/// Longest password, bytes.
const LIMIT_BYTES: usize = 1024;

/// One newline at the end does not belong to the password; other white space does.
pub fn read(file: Option<&Path>, keystore: &Path) -> Result<Zeroizing<String>, Failure> {
    let limit = LIMIT_BYTES as u64;
    let read = match file {
        Some(path) if path == Path::new("-") => bounded::read_secret_from(io::stdin().lock(), limit)
            .map_err(|error| format!("cannot read the password from stdin: {error}")),
        Some(path) => bounded::read_secret(path, limit)
            .map_err(|error| format!("cannot read the password file {}: {error}", path.display())),
        None => prompt(keystore).map_err(|error| format!("cannot ask for the password: {error}")),
    };
    let mut password = read.map_err(|what| {
        Failure::new(Exit::Usage, what).next("give a file with --password-file FILE, or - for stdin")
    })?;
    if password.ends_with('\n') {
        password.pop();
    }
    if password.ends_with('\r') {
        password.pop();
    }
    Ok(password)
}

fn prompt(keystore: &Path) -> io::Result<Zeroizing<String>> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    write!(terminal, "password of {}: ", keystore.display())?;
    terminal.flush()?;
    let shown = tcgetattr(&terminal)?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&terminal, SetArg::TCSAFLUSH, &hidden)?;
    let line = read_line(&mut terminal);
    let restored = tcsetattr(&terminal, SetArg::TCSAFLUSH, &shown);
    writeln!(terminal)?;
    restored?;
    line
}

fn read_line(terminal: &mut std::fs::File) -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT_BYTES));
    let mut one = Zeroizing::new([0]);
    while terminal.read(&mut *one)? == 1 && one[0] != b'\n' {
        if bytes.len() == LIMIT_BYTES {
            return Err(io::Error::other(format!("longer than {LIMIT_BYTES} bytes")));
        }
        bytes.push(one[0]);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| io::Error::other("not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}
