//! The built `orama` binary against a gateway played on 127.0.0.1: what it sends, what it prints, how it exits.

#[path = "cli/adopt.rs"]
mod adopt;
#[path = "cli/connection.rs"]
mod connection;
#[path = "cli/enroll.rs"]
mod enroll;
#[path = "cli/genesis.rs"]
mod genesis;
#[path = "cli/manage.rs"]
mod manage;
#[path = "cli/mesh.rs"]
mod mesh;
#[path = "cli/policy.rs"]
mod policy;
#[path = "cli/recovery.rs"]
mod recovery;
#[path = "cli/support.rs"]
mod support;
