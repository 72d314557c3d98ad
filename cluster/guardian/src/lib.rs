//! Vault-guardian: keeps secrets (key shares) for nodes and gives them back, over the V2 secrets API.
//! Owns the API, sessions, limits, the store of files and when shares of disk keys go out. A library so
//! that tests elsewhere can start a real guardian in their own process.

#![forbid(unsafe_code)]

mod api;
mod auth;
mod clock;
mod config;
mod error;
mod names;
mod operator;
mod rate;
mod record;
mod release;
mod server;
mod store;

pub use clock::Clock;
pub use config::{Config, ConfigError, FileConfig, Overrides, StorePlace};
pub use names::{Identity, SecretName};
pub use record::{Record, RecordError};
pub use release::{FactsProblem, RestoreError, Rules};
pub use server::{ServeError, serve};
pub use store::{
    AgentError, AgentStore, DeleteError, FactsError, FileStore, ListError, OpenStoreError, PutError,
    ReadError, Store,
};
