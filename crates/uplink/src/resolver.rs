//! The resolver file: written whole or not at all, because services read it at any time.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Resolvers that a C library looks at (MAXNS of resolv.h).
const MAX_NAMESERVERS: usize = 3;

/// Search domains are left out: what a name means must not depend on who runs the DHCP server.
pub(crate) fn text(dns: &[Ipv4Addr]) -> String {
    let mut text = String::from("# written by orama-agent\n");
    for server in dns.iter().take(MAX_NAMESERVERS) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text
}

/// temp + fsync + rename; the folder is made when it is missing.
pub(crate) fn write(path: &Path, dns: &[Ipv4Addr]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(directory)?;
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary)?;
    file.write_all(text(dns).as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_servers_at_most_and_the_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/resolv.conf");
        let servers: Vec<Ipv4Addr> = (1..=5).map(|last| Ipv4Addr::new(192, 0, 2, last)).collect();
        write(&path, &servers).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "# written by orama-agent\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"
        );
        write(&path, &[]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "# written by orama-agent\n");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
