//! Files, directories and sockets that are not the service's. The bait is a folder of the test's, open to everybody
//! outside: only the sandbox stands in the way.

use std::fs::{self, File};
use std::io;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::process::Command;

use super::Attempt;

fn read(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    if fs::metadata(path)?.is_dir() { fs::read_dir(path).map(drop) } else { fs::read(path).map(drop) }
}

fn write(path: impl AsRef<Path>) -> io::Result<()> {
    File::options().write(true).open(&path).or_else(|_| File::create(&path)).map(drop)
}

fn own() -> String {
    std::env::var("DATA").unwrap_or_default()
}

/// Through calls that the profile allows.
pub const ALL: &[Attempt] = &[
    ("read_others_data", |bait| read(format!("{bait}/secret"))),
    ("list_others_data", |bait| read(bait)),
    ("read_shadow", |_| read("/etc/shadow")),
    ("read_root_home", |_| read("/root")),
    ("read_environ_of_init", |_| read("/proc/1/environ")),
    ("read_root_of_init", |_| read("/proc/1/root/etc")),
    ("read_memory_of_parent", |_| {
        // SAFETY: no arguments.
        let parent = unsafe { nix::libc::getppid() };
        read(format!("/proc/{parent}/mem"))
    }),
    ("read_kcore", |_| read("/proc/kcore")),
    ("read_kallsyms", |_| read("/proc/kallsyms")),
    ("read_proc_sys", |_| read("/proc/sys/kernel/core_pattern")),
    ("write_core_pattern", |_| write("/proc/sys/kernel/core_pattern")),
    ("write_sysrq", |_| write("/proc/sysrq-trigger")),
    ("read_sys", |_| read("/sys/kernel")),
    ("read_cgroup", |_| read("/sys/fs/cgroup")),
    ("read_dev_mem", |_| read("/dev/mem")),
    ("read_kmsg", |_| read("/dev/kmsg")),
    ("read_disks", |_| read("/dev/vda")),
    ("write_passwd", |_| write("/etc/passwd")),
    ("write_usr", |_| write("/usr/evil")),
    ("write_root", |_| write("/evil")),
    ("write_dev", |_| write("/dev/evil")),
    ("write_own_binary", |_| write(std::env::current_exe()?)),
    ("write_own_uid_map", |_| fs::write("/proc/self/uid_map", "0 0 1")),
    ("write_own_oom_score", |_| fs::write("/proc/self/oom_score_adj", "-1000")),
    ("climb_out_of_data", |_| read(format!("{}/../../../../../../etc/shadow", own()))),
    ("climb_out_of_proc_root", |_| read("/proc/self/root/../../etc/shadow")),
    ("climb_out_of_cwd", |bait| read(format!("/proc/self/cwd/../{bait}/secret"))),
    ("symlink_out", |bait| {
        let link = format!("{}/link", own());
        let _left_by_an_earlier_run = fs::remove_file(&link);
        symlink(format!("{bait}/secret"), &link)?;
        read(link)
    }),
    ("hardlink_out", |_| fs::hard_link("/etc/passwd", format!("{}/passwd", own()))),
    ("rename_out", |_| {
        fs::write(format!("{}/file", own()), "x")?;
        fs::rename(format!("{}/file", own()), "/tmp/file")
    }),
    ("execute_from_data", |_| {
        let copy = format!("{}/copy", own());
        copy_itself(&copy)?;
        exec(&copy)
    }),
    ("execute_from_tmp", |_| {
        copy_itself("/tmp/copy")?;
        exec("/tmp/copy")
    }),
    ("execute_shell", |_| exec("/bin/sh")),
    ("abstract_socket", |_| {
        let address = SocketAddr::from_abstract_name("orama-bait")?;
        UnixStream::connect_addr(&address).map(drop)
    }),
    ("named_socket", |bait| UnixStream::connect(format!("{bait}/socket")).map(drop)),
    ("forbidden_port", |_| {
        let port = std::env::var("BAIT_PORT").unwrap_or_default();
        TcpStream::connect(format!("127.0.0.1:{port}")).map(drop)
    }),
    ("inherited_descriptors", |_| match descriptors() {
        // Three streams and the listing itself.
        0..=4 => Err(io::Error::from_raw_os_error(nix::libc::EBADF)),
        _ => Ok(()),
    }),
];

/// By plain reads and writes: std's copy uses calls that the profile does not have.
fn copy_itself(to: &str) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let program = fs::read(std::env::current_exe()?)?;
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o755).open(to)?;
    // A start of it is as good as all of it where the space is short: it is not to be executed at all.
    file.write_all(&program[..program.len().min(512 * 1024)])
}

/// execve without a fork: it ends this process when it works, which the test sees.
fn exec(program: &str) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    Err(Command::new(program).arg("list").exec())
}

pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Takes all it can get: bytes in /tmp and in its own folder, and open files.
pub fn hoard(folder: &str) {
    // Writing beyond the limit raises a signal that would end the story here.
    // SAFETY: ignoring a signal has no preconditions.
    unsafe { nix::libc::signal(nix::libc::SIGXFSZ, nix::libc::SIG_IGN) };
    for place in ["/tmp/hoard", &format!("{folder}/hoard")] {
        let (written, error) = fill(place);
        println!("{} {written} {error}", if place.starts_with("/tmp") { "tmp" } else { "data" });
    }
    let mut open = Vec::new();
    let error = loop {
        match File::open("/dev/null") {
            Ok(file) => open.push(file),
            Err(error) => break error.raw_os_error().unwrap_or(-1),
        }
    };
    println!("files {} {error}", open.len());
}

fn fill(path: &str) -> (u64, i32) {
    use std::io::Write;
    let mut written = 0;
    let block = vec![1; 64 * 1024];
    let mut file = match File::create(path) {
        Ok(file) => file,
        Err(error) => return (0, error.raw_os_error().unwrap_or(-1)),
    };
    loop {
        match file.write(&block) {
            Ok(0) => return (written, 0),
            Ok(count) => written += count as u64,
            Err(error) => return (written, error.raw_os_error().unwrap_or(-1)),
        }
        // 64 MiB are more than any limit of the test.
        if written > 64 << 20 {
            return (written, 0);
        }
    }
}
