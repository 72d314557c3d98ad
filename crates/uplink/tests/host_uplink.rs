//! The uplink against a real kernel and a real DHCP server, in network namespaces that each test makes itself.
//! Needs root and dnsmasq; fails when either is missing.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use futures_util::TryStreamExt;
use nix::sched::{CloneFlags, unshare};
use orama_uplink::{Mode, StaticConfig, UplinkConfig, UplinkStatus, bring_up};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkFlags;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::sync::watch;

/// Runs a test on a thread in a new network namespace, on a current_thread runtime as actix has it.
fn in_namespace<T: Send + 'static>(test: impl AsyncFnOnce(Handle) -> T + Send + 'static) -> T {
    assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("cannot make a network namespace");
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            test(handle).await
        })
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn index(handle: &Handle, name: &str) -> u32 {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    links.try_next().await.unwrap().unwrap().header.index
}

async fn is_up(handle: &Handle, name: &str) -> bool {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    links.try_next().await.unwrap().unwrap().header.flags.contains(LinkFlags::Up)
}

/// `address/prefix` of every IPv4 address of an interface.
async fn addresses(handle: &Handle, name: &str) -> Vec<String> {
    let index = index(handle, name).await;
    let messages: Vec<_> =
        handle.address().get().set_link_index_filter(index).execute().try_collect().await.unwrap();
    let text = |message: rtnetlink::packet_route::address::AddressMessage| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) if address.is_ipv4() => {
                Some(format!("{address}/{}", message.header.prefix_len))
            }
            _ => None,
        })
    };
    messages.into_iter().filter_map(text).collect()
}

/// `destination via gateway` of every IPv4 route of the main table that has a gateway, sorted.
async fn routes(handle: &Handle) -> Vec<String> {
    let messages: Vec<_> = handle
        .route()
        .get(RouteMessageBuilder::<Ipv4Addr>::new().build())
        .execute()
        .try_collect()
        .await
        .unwrap();
    let mut routes = Vec::new();
    for message in messages.iter().filter(|message| message.header.address_family == AddressFamily::Inet) {
        let mut destination = Ipv4Addr::UNSPECIFIED;
        let mut gateway = None;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
                RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
                _ => {}
            }
        }
        if let Some(gateway) = gateway {
            routes.push(format!("{destination}/{} via {gateway}", message.header.destination_prefix_length));
        }
    }
    routes.sort();
    routes
}

/// Waits for a status that passes, 40 s at most.
async fn wait_for(
    status: &mut watch::Receiver<UplinkStatus>,
    passes: impl Fn(&UplinkStatus) -> bool,
) -> UplinkStatus {
    let wait = async { status.wait_for(|status| passes(status)).await.unwrap().clone() };
    match tokio::time::timeout(Duration::from_secs(40), wait).await {
        Ok(found) => found,
        Err(_) => panic!("still: {}", *status.borrow()),
    }
}

fn fixed(address: &str, gateway: Option<&str>, dns: &[&str]) -> UplinkConfig {
    let mode = Mode::Static(StaticConfig {
        address: address.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        dns: dns.iter().map(|server| server.parse().unwrap()).collect(),
    });
    UplinkConfig { interface: Some("up0".into()), mode }
}

#[test]
fn a_static_address_is_applied_and_replaced() {
    in_namespace(async |handle| {
        let folder = tempfile::tempdir().unwrap();
        let resolv_conf = folder.path().join("orama/resolv.conf");
        handle.link().add(LinkVeth::new("up0", "far0").build()).execute().await.unwrap();
        assert!(!is_up(&handle, "lo").await);
        let (task, mut status) = bring_up(
            fixed("192.0.2.10/24", Some("192.0.2.1"), &["192.0.2.53", "9.9.9.9"]),
            resolv_conf.clone(),
        );
        let task = tokio::spawn(task);
        let up = wait_for(&mut status, |status| matches!(status, UplinkStatus::Up(_))).await;
        assert_eq!(up.to_string(), "up0 has 192.0.2.10/24, gateway 192.0.2.1");
        assert!(is_up(&handle, "lo").await);
        assert_eq!(addresses(&handle, "up0").await, ["192.0.2.10/24"]);
        assert_eq!(routes(&handle).await, ["0.0.0.0/0 via 192.0.2.1"]);
        let resolver = std::fs::read_to_string(&resolv_conf).unwrap();
        assert!(resolver.ends_with("nameserver 192.0.2.53\nnameserver 9.9.9.9\n"), "{resolver}");

        // A restart finds its own work and does not stumble over it; a gateway outside the network is on the link.
        task.abort();
        let (task, mut status) = bring_up(fixed("192.0.2.10/24", Some("198.51.100.1"), &[]), resolv_conf);
        tokio::spawn(task);
        wait_for(&mut status, |status| matches!(status, UplinkStatus::Up(_))).await;
        assert_eq!(addresses(&handle, "up0").await, ["192.0.2.10/24"]);
        assert_eq!(routes(&handle).await, ["0.0.0.0/0 via 198.51.100.1"]);
    });
}

#[test]
fn what_is_missing_is_reported_and_tried_again() {
    in_namespace(async |handle| {
        let folder = tempfile::tempdir().unwrap();
        // Virtual interfaces are no uplink unless they are named.
        handle.link().add(LinkVeth::new("eth0", "eth1").build()).execute().await.unwrap();
        let (task, mut status) = bring_up(UplinkConfig::default(), folder.path().join("a"));
        tokio::spawn(task);
        let retrying = wait_for(&mut status, |status| matches!(status, UplinkStatus::Retrying { .. })).await;
        assert_eq!(retrying.to_string(), "there is no ethernet interface after 1 try, next in 1 s");

        let (task, mut status) = bring_up(fixed("192.0.2.10/24", None, &[]), folder.path().join("b"));
        tokio::spawn(task);
        let retrying = wait_for(&mut status, |status| matches!(status, UplinkStatus::Retrying { .. })).await;
        assert_eq!(retrying.to_string(), "there is no interface up0 after 1 try, next in 1 s");
        handle.link().add(LinkVeth::new("up0", "far0").build()).execute().await.unwrap();
        wait_for(&mut status, |status| matches!(status, UplinkStatus::Up(_))).await;
        assert_eq!(addresses(&handle, "up0").await, ["192.0.2.10/24"]);
    });
}

/// A DHCP server at the other end of a veth pair, in a namespace of its own. Ends when it is dropped.
struct Server {
    commands: mpsc::Sender<Option<Vec<String>>>,
    acknowledged: mpsc::Receiver<String>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Makes the pair: `up0` here, `srv0` with 10.99.0.1/24 there. Nothing serves yet.
    async fn prepare(handle: &Handle) -> Self {
        let dnsmasq = Path::new("/usr/sbin/dnsmasq");
        assert!(dnsmasq.exists(), "dnsmasq is missing: install the Debian package dnsmasq-base");
        let (commands, inbox) = mpsc::channel::<Option<Vec<String>>>();
        let (acks, acknowledged) = mpsc::channel();
        let (namespace, made) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            namespace.send(File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
            let mut running: Option<Child> = None;
            while let Ok(Some(arguments)) = inbox.recv() {
                stop(&mut running);
                address_of_the_server();
                running = Some(serve(&arguments, acks.clone()));
            }
            stop(&mut running);
        });
        let namespace = made.recv().unwrap();
        handle.link().add(LinkVeth::new("up0", "srv0").build()).execute().await.unwrap();
        let move_there = LinkMessageBuilder::<LinkUnspec>::new()
            .index(index(handle, "srv0").await)
            .setns_by_fd(std::os::fd::AsRawFd::as_raw_fd(&namespace))
            .build();
        handle.link().set(move_there).execute().await.unwrap();
        Self { commands, acknowledged, thread: Some(thread) }
    }

    /// (Re)starts dnsmasq with these options besides its usual ones.
    fn serve(&self, folder: &Path, options: &[&str]) {
        let mut arguments: Vec<String> = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--interface=srv0",
            "--bind-interfaces",
            "--user=root",
            "--dhcp-authoritative",
            "--log-facility=-",
            "--no-ping",
            // Renew after 3 s: dnsmasq takes no smaller T1, and no lease shorter than 2 minutes.
            "--dhcp-option=option:T1,3",
            "--dhcp-option=option:T2,60",
        ]
        .map(String::from)
        .into();
        arguments.push(format!("--dhcp-leasefile={}", folder.join("leases").display()));
        arguments.push(format!("--pid-file={}", folder.join("pid").display()));
        arguments.extend(options.iter().map(ToString::to_string));
        self.commands.send(Some(arguments)).unwrap();
    }

    /// How often the server gave or renewed a lease since the last call.
    fn acknowledgements(&self) -> usize {
        self.acknowledged.try_iter().filter(|line| line.contains("DHCPACK")).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.commands.send(None);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn stop(running: &mut Option<Child>) {
    if let Some(mut child) = running.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn address_of_the_server() {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        let index = index(&handle, "srv0").await;
        let address = Ipv4Addr::new(10, 99, 0, 1).into();
        handle.address().add(index, address, 24).replace().execute().await.unwrap();
        let up = LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build();
        handle.link().set(up).execute().await.unwrap();
    });
}

fn serve(arguments: &[String], lines: mpsc::Sender<String>) -> Child {
    let mut child = Command::new("/usr/sbin/dnsmasq")
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            println!("{line}");
            let _ = lines.send(line);
        }
    });
    child
}

#[test]
fn a_lease_is_waited_for_taken_renewed_and_changed() {
    in_namespace(async |handle| {
        let folder = tempfile::tempdir().unwrap();
        let resolv_conf = folder.path().join("resolv.conf");
        let server = Server::prepare(&handle).await;
        let config = UplinkConfig { interface: Some("up0".into()), mode: Mode::Dhcp };
        let (task, mut status) = bring_up(config, resolv_conf.clone());
        tokio::spawn(task);
        // The other end is down: no link, so there is nobody to ask.
        let retrying = wait_for(&mut status, |status| matches!(status, UplinkStatus::Retrying { .. })).await;
        assert_eq!(retrying.to_string(), "no link on up0 after 1 try, next in 1 s");

        // A server that answers nobody: the link comes up, the answer does not.
        server.serve(folder.path(), &["--dhcp-range=10.99.0.50,static,255.255.255.0,2m"]);
        let silent = |status: &UplinkStatus| status.to_string().starts_with("no DHCP answer on up0 after ");
        wait_for(&mut status, silent).await;

        server.serve(
            folder.path(),
            &[
                "--dhcp-range=10.99.0.50,10.99.0.50,255.255.255.0,2m",
                "--dhcp-option=option:router,10.99.0.9",
                "--dhcp-option=option:dns-server,10.99.0.53",
                "--dhcp-option=option:mtu,1450",
                "--dhcp-option=option:classless-static-route,0.0.0.0/0,10.99.0.1,198.51.100.0/24,10.99.0.2",
            ],
        );
        wait_for(&mut status, |status| matches!(status, UplinkStatus::Up(_))).await;
        assert_eq!(addresses(&handle, "up0").await, ["10.99.0.50/24"]);
        assert_eq!(routes(&handle).await, ["0.0.0.0/0 via 10.99.0.1", "198.51.100.0/24 via 10.99.0.2"]);
        assert!(std::fs::read_to_string(&resolv_conf).unwrap().ends_with("\nnameserver 10.99.0.53\n"));
        let lease = status.borrow_and_update().lease().cloned().unwrap();
        assert_eq!((lease.gateway, lease.mtu), (Some(Ipv4Addr::new(10, 99, 0, 1)), Some(1450)));

        server.acknowledgements();
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert!(server.acknowledgements() >= 1, "the lease was not renewed");
        assert!(!status.has_changed().unwrap(), "a renewal without a change was reported as one");

        // The same server gives the same address, with another way out.
        server.serve(
            folder.path(),
            &["--dhcp-range=10.99.0.50,10.99.0.50,255.255.255.0,2m", "--dhcp-option=option:router,10.99.0.9"],
        );
        let gateway = Ipv4Addr::new(10, 99, 0, 9);
        wait_for(&mut status, |status| status.lease().is_some_and(|lease| lease.gateway == Some(gateway)))
            .await;
        assert_eq!(routes(&handle).await, ["0.0.0.0/0 via 10.99.0.9"]);
        assert_eq!(addresses(&handle, "up0").await, ["10.99.0.50/24"]);
    });
}
