//! The gateway: operator API over HTTPS, enrollment, and the way to the agents over WireGuard.
//! A library as well, so that tests of other packages can start one in their own process.

#![deny(unsafe_code)]

pub mod admin_key;
mod adopt;
mod agent;
mod alarms;
pub mod api;
pub mod config;
mod custody;
mod data_folder;
pub mod enrollment;
mod failures;
mod guard;
mod health;
pub mod invite;
mod leave;
pub mod listener;
mod look;
pub mod mesh;
pub mod node_config;
pub mod overlay;
mod peers;
mod recovery;
pub mod registry;
mod server;
mod state;
pub mod store;
mod tls;
pub mod token;

pub use config::Config;
pub use server::{Running, StartError, open_registry, start};
