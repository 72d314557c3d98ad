//! Harness for whole-product scenarios: a private network namespace, a small cluster in it, and real
//! OramaOS nodes in QEMU. Shared by the scenarios in tests/, by `cargo xtask demo` and by the benchmark.
//! Knows the product from outside only: programs, the wire and disks.

pub mod artifacts;
pub mod cluster;
pub mod disk;
pub mod dns;
pub mod fleet;
pub mod forward;
pub mod guardian_client;
pub mod http;
pub mod liar;
pub mod net;
pub mod node;
pub mod operator;
pub mod outcome;
pub mod pki;
pub mod process;
pub mod resp;
pub mod scenario;
pub mod search;
pub mod segment;
pub mod vm;
