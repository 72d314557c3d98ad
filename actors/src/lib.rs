//! The actors of the agent: what each one owns, the messages it takes, and the pure machines that decide.
//! They know no syscall and no wire format of their own: those are in `crates/`, behind the ports of
//! [`ports`]. Where actors start and who gets which address is the agent binary's business.

#![forbid(unsafe_code)]

pub mod boot;
pub mod custody;
pub mod enroll;
pub mod facts;
pub mod health;
pub mod held;
pub mod ports;
pub mod refusals;
pub mod registry;
pub mod service;
pub mod services;
pub mod supervise;
pub mod unlock;
pub mod update;
pub mod wg;

/// An error with its causes on one line, for consoles, status and logs.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
