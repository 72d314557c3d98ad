//! The guardian over real HTTP on 127.0.0.1, spoken byte by byte so that nothing hides what is on the wire.

mod client;
mod crashes;
mod limits;
mod program;
mod release;
mod secrets;
mod sessions;
mod shares;
mod stores;
