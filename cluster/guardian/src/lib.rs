//! Vault-guardian: keeps secrets (key shares) for nodes and gives them back, over the V2 secrets API.
//! Owns the API, sessions, limits and the store of files; knows nothing of what the secrets mean. A library so
//! that tests elsewhere can start a real guardian in their own process.

#![forbid(unsafe_code)]

mod api;
mod auth;
mod clock;
mod config;
mod error;
mod names;
mod rate;
mod record;
mod server;
mod store;

pub use clock::Clock;
pub use config::{Config, ConfigError, FileConfig, StorePlace};
pub use names::{Identity, SecretName};
pub use record::{Record, RecordError};
pub use server::{ServeError, serve};
pub use store::{
    AgentError, AgentStore, DeleteError, FactsError, FileStore, ListError, OpenStoreError, PutError,
    ReadError, Store,
};
