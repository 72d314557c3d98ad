//! `orama mesh`: a WireGuard interface on this machine, for the hosts that stand around the nodes.
//! Owns flags and the foreground loop; the interface and the control socket are orama-mesh's.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Mutex;

use clap::{Args, Subcommand};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use orama_mesh::control::{Server, ServerConfig};
use orama_mesh::{Backend, Interface, InterfaceStatus, Ipv4Prefix, UpError, WgConfig};
use orama_protocol::WIREGUARD_PORT;
use serde::Deserialize;

use crate::failure::{Exit, Failure};
use crate::output::Output;

mod key_file;

/// Longest configuration file of `mesh serve`, in bytes.
const CONFIG_LIMIT_BYTES: u64 = 64 * 1024;

#[derive(Subcommand)]
pub enum MeshCommand {
    /// Brings up a WireGuard interface and lets a gateway manage its peers; runs in the foreground.
    ///
    /// Needs CAP_NET_ADMIN. Ends on SIGINT or SIGTERM and removes the interface.
    Serve(ServeArgs),
    /// Prints the public key of a key file; makes the file (mode 0600) if it does not exist.
    Key {
        /// File with the WireGuard private key, base64.
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
    },
}

#[derive(Args)]
pub struct ServeArgs {
    /// TOML file with what the other flags say: interface, backend, control, control_gid, key_file,
    /// addresses, listen_port.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["interface", "kernel", "userspace", "control",
        "control_gid", "key_file", "address", "listen_port"])]
    config: Option<PathBuf>,
    /// Name of the interface [default: orama0].
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Use the kernel's WireGuard or fail. Without --kernel and --userspace: the kernel's if it has one.
    #[arg(long, conflicts_with = "userspace")]
    kernel: bool,
    /// Run WireGuard in this process.
    #[arg(long)]
    userspace: bool,
    /// Unix socket through which the gateway changes peers.
    #[arg(long, value_name = "SOCKET", required_unless_present = "config")]
    control: Option<PathBuf>,
    /// Group that may use the control socket besides root.
    #[arg(long, value_name = "GID")]
    control_gid: Option<u32>,
    /// File with the WireGuard private key; made with mode 0600 if it does not exist.
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    key_file: Option<PathBuf>,
    /// Address of the interface, for example 10.0.0.1/24; may be repeated, the first is the source address.
    #[arg(long, value_name = "IP/PREFIX", required_unless_present = "config")]
    address: Vec<Ipv4Prefix>,
    /// UDP port [default: 51820].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    listen_port: Option<u16>,
}

/// The same as the flags, from a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServeFile {
    interface: Option<String>,
    backend: Option<BackendName>,
    control: PathBuf,
    control_gid: Option<u32>,
    key_file: PathBuf,
    addresses: Vec<String>,
    listen_port: Option<u16>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BackendName {
    Auto,
    Kernel,
    Userspace,
}

struct Settings {
    interface: String,
    backend: BackendName,
    control: PathBuf,
    control_gid: Option<u32>,
    key_file: PathBuf,
    addresses: Vec<Ipv4Prefix>,
    listen_port: u16,
}

pub fn run(command: MeshCommand, output: &Output) -> Result<(), Failure> {
    match command {
        MeshCommand::Serve(args) => serve(&settings(args)?, output),
        MeshCommand::Key { key_file } => {
            let key = key_file::load_or_make(&key_file)?;
            let public = key.public().to_string();
            output.answer(&serde_json::json!({ "public_key": public }), &public);
            Ok(())
        }
    }
}

fn settings(args: ServeArgs) -> Result<Settings, Failure> {
    let file = match &args.config {
        Some(path) => read_config(path)?,
        None => ServeFile {
            interface: args.interface,
            backend: match (args.kernel, args.userspace) {
                (true, _) => Some(BackendName::Kernel),
                (_, true) => Some(BackendName::Userspace),
                (false, false) => None,
            },
            control: args.control.unwrap_or_default(),
            control_gid: args.control_gid,
            key_file: args.key_file.unwrap_or_default(),
            addresses: args.address.iter().map(Ipv4Prefix::to_string).collect(),
            listen_port: args.listen_port,
        },
    };
    let mut addresses = Vec::new();
    for text in &file.addresses {
        let address = text.parse().map_err(|error| {
            Failure::new(Exit::Usage, format!("address {text:?}: {error}")).next("write it as 10.0.0.1/24")
        })?;
        addresses.push(address);
    }
    if addresses.is_empty() {
        return Err(Failure::new(Exit::Usage, "the interface has no address").next("give at least one"));
    }
    Ok(Settings {
        interface: file.interface.unwrap_or_else(|| "orama0".to_owned()),
        backend: file.backend.unwrap_or(BackendName::Auto),
        control: file.control,
        control_gid: file.control_gid,
        key_file: file.key_file,
        addresses,
        listen_port: file.listen_port.unwrap_or(WIREGUARD_PORT),
    })
}

fn read_config(path: &std::path::Path) -> Result<ServeFile, Failure> {
    let text = crate::bounded::read_text(path, CONFIG_LIMIT_BYTES)
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot read {}: {error}", path.display())))?;
    toml::from_str(&text).map_err(|error| {
        Failure::new(Exit::Usage, format!("{}: {}", path.display(), error.to_string().trim()))
    })
}

fn serve(settings: &Settings, output: &Output) -> Result<(), Failure> {
    if !output.json() {
        log_to_stderr();
    }
    let signals = take_signals()?;
    let config = WgConfig {
        private_key: Some(key_file::load_or_make(&settings.key_file)?),
        addresses: settings.addresses.clone(),
        listen_port: Some(settings.listen_port),
        peers: Vec::new(),
    };
    let (interface, backend) = bring_up(settings, &config, output)?;
    drop(config);
    let tunnel = Mutex::new(interface);
    let served = serve_until_signal(settings, &tunnel, backend, &signals, output);
    let interface = tunnel.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let removed = interface.down().map_err(|error| Failure::because(Exit::Failed, &error));
    served.and(removed)
}

/// Peers come and go while it runs: who watches the terminal or the journal sees them. Records of the `log` crate
/// stay out, because the WireGuard library's go down to netlink messages with keys in them.
fn log_to_stderr() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
}

/// SIGINT and SIGTERM come through a descriptor from here on, also for the threads that are yet to start.
fn take_signals() -> Result<SignalFd, Failure> {
    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGINT);
    wanted.add(Signal::SIGTERM);
    wanted
        .thread_block()
        .and_then(|()| SignalFd::new(&wanted))
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot take over SIGINT and SIGTERM: {error}")))
}

fn bring_up(
    settings: &Settings,
    config: &WgConfig,
    output: &Output,
) -> Result<(Interface, Backend), Failure> {
    let up =
        |backend| Interface::up(&settings.interface, config, backend).map(|interface| (interface, backend));
    let result = match settings.backend {
        BackendName::Kernel => up(Backend::Kernel),
        BackendName::Userspace => up(Backend::Userspace),
        BackendName::Auto => match up(Backend::Kernel) {
            Err(UpError::NoKernelSupport(..)) => {
                output.progress("this kernel has no WireGuard: running it in this process");
                up(Backend::Userspace)
            }
            other => other,
        },
    };
    result.map_err(|error| {
        let next = match &error {
            UpError::Permission(..) => "run it as root or with CAP_NET_ADMIN",
            UpError::NoKernelSupport(..) => "use --userspace, or leave --kernel out",
            UpError::NameTaken(_) => "choose another --interface, or end the process that has it",
            _ => "see whether the port or the interface is in use, then try again",
        };
        Failure::because(Exit::Failed, &error).next(next)
    })
}

fn serve_until_signal(
    settings: &Settings,
    tunnel: &Mutex<Interface>,
    backend: Backend,
    signals: &SignalFd,
    output: &Output,
) -> Result<(), Failure> {
    let server = Server::bind(&ServerConfig {
        path: &settings.control,
        group: settings.control_gid,
        allowed_uids: None,
    })
    .map_err(|error| Failure::because(Exit::Failed, &error))?;
    let status = tunnel
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .read()
        .map_err(|error| Failure::because(Exit::Failed, &error))?;
    announce(settings, &status, backend, output);
    server
        .serve(tunnel, signals.as_fd())
        .map_err(|error| Failure::new(Exit::Failed, format!("control socket failed: {error}")))?;
    output.progress(&format!("removing {}", settings.interface));
    Ok(())
}

/// The one line on stdout that a script waits for: printed when interface and socket are both there.
fn announce(settings: &Settings, status: &InterfaceStatus, backend: Backend, output: &Output) {
    let backend = match backend {
        Backend::Kernel => "kernel",
        Backend::Userspace => "userspace",
    };
    let addresses: Vec<String> = status.addresses.iter().map(Ipv4Prefix::to_string).collect();
    output.answer_line(
        &serde_json::json!({
            "ready": true,
            "interface": status.name,
            "backend": backend,
            "public_key": status.public_key,
            "listen_port": status.listen_port,
            "addresses": addresses,
            "control": settings.control,
        }),
        &format!(
            "{} is up ({backend}): public key {}, UDP port {}, {}, control socket {}",
            status.name,
            status.public_key,
            status.listen_port,
            addresses.join(" "),
            settings.control.display()
        ),
    );
}
