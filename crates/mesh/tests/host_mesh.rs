//! Two WireGuard interfaces in two network namespaces, over a veth pair. Needs root: it makes the namespaces.
//! Each interface lives in a helper process, this binary started again, because a userspace interface takes
//! over its process. Namespaces, links and sockets go with the helpers; nothing of the machine is touched.

#[path = "host_mesh/inner_process.rs"]
mod inner_process;
#[path = "host_mesh/peer_process.rs"]
mod peer_process;

use peer_process::{PeerProcess, connect_by_veth, ip};

fn main() {
    if std::env::args().nth(1).as_deref() == Some(inner_process::ARGUMENT) {
        inner_process::run();
        return;
    }
    assert!(nix::unistd::geteuid().is_root(), "host_mesh makes network namespaces: run it as root");
    assert!(std::path::Path::new("/dev/net/tun").exists(), "host_mesh needs /dev/net/tun");
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace of our own");

    type Scenario = (&'static str, fn());
    let scenarios: [Scenario; 5] = [
        ("userspace_tunnel_carries_tcp_and_removal_stops_it", userspace_tunnel),
        ("signals_still_end_a_process_with_a_userspace_interface", signals_still_work),
        ("an_existing_device_is_not_shared", existing_device_is_refused),
        ("host_addresses_alone_still_reach_the_overlay", host_addresses_reach_the_overlay),
        ("kernel_interface_is_made_adopted_and_removed_or_refused_in_words", kernel),
    ];
    for (name, scenario) in scenarios {
        println!("scenario {name} ...");
        scenario();
        println!("scenario {name} ... ok");
    }
    // As libtest says it, for whoever adds up the results; a scenario that fails ends the program before.
    println!("test result: ok. {} passed; 0 failed; 0 ignored", scenarios.len());
}

/// A and B with the addresses of the demo: A is a host with several, B a node.
fn pair(backend: &str) -> (PeerProcess, PeerProcess) {
    let (mut a, mut b) = (PeerProcess::start(), PeerProcess::start());
    connect_by_veth(&mut a, &mut b);
    let key_a = a.ask(&format!("up {backend} mesh-a 51820 10.0.0.1/24,10.0.0.11/24,10.0.0.12/24"));
    let key_b = b.ask(&format!("up {backend} mesh-b 51820 10.0.0.4/24"));
    assert_eq!(a.ask(&format!("peer {key_b} 192.168.77.2:51820 10.0.0.4/32")), "done");
    assert_eq!(
        b.ask(&format!("peer {key_a} 192.168.77.1:51820 10.0.0.1/32,10.0.0.11/32,10.0.0.12/32")),
        "done"
    );
    a.key = key_a;
    b.key = key_b;
    (a, b)
}

fn userspace_tunnel() {
    let (mut a, mut b) = pair("userspace");
    tunnel_works(&mut a, &mut b);

    // An update of a peer that is there: boringtun itself panics on it.
    for _ in 0..3 {
        assert_eq!(b.ask(&format!("peer {} 192.168.77.1:51820 10.0.0.1/32,10.0.0.12/32", a.key)), "done");
    }
    assert_eq!(b.ask("connect 10.0.0.12:7000"), "hello");
    assert_eq!(b.ask("connect 10.0.0.11:7000"), "failed", "the update took this address away");

    removal_stops_it(&mut a, &mut b);
    assert_eq!(b.ask("down"), "done");
    assert!(!b.ask("links").contains("mesh-b"), "down removes the link");
}

fn tunnel_works(a: &mut PeerProcess, b: &mut PeerProcess) {
    for address in ["10.0.0.1", "10.0.0.11"] {
        assert_eq!(a.ask(&format!("listen {address}:7000")), "done");
        assert_eq!(b.ask(&format!("connect {address}:7000")), "hello", "to {address}");
    }
    assert_eq!(a.ask("listen 10.0.0.12:7000"), "done");
    assert_eq!(b.ask("listen 10.0.0.4:7001"), "done");
    assert_eq!(a.ask("connect 10.0.0.4:7001"), "hello", "both ways");
    let status = b.ask("read");
    let expected = format!("{} 192.168.77.1:51820 3 handshake traffic", a.key);
    assert_eq!(status, format!("51820 10.0.0.4/24 {expected}"));
}

fn removal_stops_it(a: &mut PeerProcess, b: &mut PeerProcess) {
    let key = b.key.clone();
    assert_eq!(a.ask(&format!("remove {key}")), "done");
    assert_eq!(a.ask(&format!("remove {key}")), "done", "a second removal is success");
    assert_eq!(b.ask("connect 10.0.0.1:7000"), "failed", "a removed peer gets no answer");
    assert_eq!(a.ask("connect 10.0.0.4:7001"), "failed");
}

fn signals_still_work() {
    let mut a = PeerProcess::start();
    a.ask("up userspace mesh-a 51820 10.0.0.1/24");
    a.ends_by(nix::sys::signal::Signal::SIGTERM);
    let mut b = PeerProcess::start();
    b.ask("up userspace mesh-b 51820 10.0.0.1/24");
    b.ends_by(nix::sys::signal::Signal::SIGINT);
}

fn existing_device_is_refused() {
    let mut a = PeerProcess::start();
    ip(a.pid(), &["tuntap", "add", "mode", "tun", "multi_queue", "name", "mesh-a"]);
    let answer = a.ask("up userspace mesh-a 51820 10.0.0.1/24");
    assert_eq!(answer, "error: mesh-a exists and is not a WireGuard interface of this kind");
    let answer = a.ask("up kernel mesh-a 51820 10.0.0.1/24");
    assert_eq!(answer, "error: mesh-a exists and is not a WireGuard interface of this kind");
    assert!(a.ask("links").contains("mesh-a"), "somebody else's device is left alone");
}

fn host_addresses_reach_the_overlay() {
    let (mut a, mut b) = (PeerProcess::start(), PeerProcess::start());
    connect_by_veth(&mut a, &mut b);
    a.key = a.ask("up userspace mesh-a 51820 10.0.0.1/32,10.0.0.11/32");
    b.key = b.ask("up userspace mesh-b 51820 10.0.0.4/32");
    // Only A knows where B is: B learns A's endpoint from the handshake.
    assert_eq!(a.ask(&format!("peer {} 192.168.77.2:51820 10.0.0.4/32", b.key)), "done");
    assert_eq!(b.ask(&format!("peer {} - 10.0.0.1/32,10.0.0.11/32", a.key)), "done");
    assert_eq!(b.ask("listen 10.0.0.4:7001"), "done");
    assert_eq!(a.ask("connect 10.0.0.4:7001"), "hello");
    assert_eq!(a.ask("listen 10.0.0.11:7000"), "done");
    assert_eq!(b.ask("connect 10.0.0.11:7000"), "hello");
}

/// On a machine whose kernel has WireGuard this is the production path; on any other its refusal is.
fn kernel() {
    let mut probe = PeerProcess::start();
    let answer = probe.ask("up kernel mesh-a 51820 10.0.0.1/24");
    if answer.starts_with("error: ") {
        assert_eq!(
            answer,
            "error: this kernel has no WireGuard, cannot create mesh-a: Operation not supported (os error 95)"
        );
        assert!(!probe.ask("links").contains("mesh-a"));
        return;
    }
    let (mut a, mut b) = pair("kernel");
    tunnel_works(&mut a, &mut b);
    // The same agent, restarted: key, port and peers match, so the session goes on.
    assert_eq!(b.ask("drop"), "done");
    assert_eq!(
        b.ask(&format!(
            "adopt mesh-b 51820 10.0.0.4/24 {} 192.168.77.1:51820 10.0.0.1/32,10.0.0.11/32,10.0.0.12/32",
            a.key
        )),
        b.key
    );
    assert_eq!(b.ask("connect 10.0.0.12:7000"), "hello");
    assert!(b.ask("read").ends_with("3 handshake traffic"), "adopting does not end the session");
    // Another configuration: what is not in it goes.
    assert_eq!(b.ask("drop"), "done");
    assert_eq!(b.ask("adopt mesh-b 51821 10.0.0.5/32"), b.key);
    assert_eq!(b.ask("read"), "51821 10.0.0.5/32");
    assert_eq!(b.ask("drop"), "done");
    assert_eq!(
        b.ask(&format!("adopt mesh-b 51820 10.0.0.4/24 {} 192.168.77.1:51820 10.0.0.1/32", a.key)),
        b.key
    );
    assert_eq!(b.ask("connect 10.0.0.1:7000"), "hello");
    removal_stops_it(&mut a, &mut b);
    assert_eq!(b.ask("down"), "done");
    assert!(!b.ask("links").contains("mesh-b"));
}
