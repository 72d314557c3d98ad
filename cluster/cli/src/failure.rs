//! How a command fails: an exit code by kind of failure, what happened to which thing, and what to do next.

use std::fmt;

/// Exit codes, as `orama --help` lists them. clap itself ends with 2 on a usage error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    Unauthorized = 4,
    NotFound = 5,
    Unfinished = 6,
}

/// The part of `orama --help` that explains [`Exit`].
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0  done
  1  the operation failed, or a node is not healthy
  2  the command line or a file it names is wrong
  3  the gateway or the node cannot be reached, or its TLS certificate is not trusted
  4  not authorized: API key or invite token missing, wrong, used or expired
  5  no such node, service or thing
  6  the operation was begun and was not finished when the wait ended";

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    what: String,
    next: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), next: None }
    }

    /// A failure whose text is the error and its causes.
    pub fn because(exit: Exit, error: &dyn std::error::Error) -> Self {
        let mut what = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            what.push_str(": ");
            what.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(exit, what)
    }

    /// Adds what the reader can do about it.
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// What happened, without what to do next.
    pub fn what(&self) -> &str {
        &self.what
    }

    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "error": self.what, "next": self.next, "exit_code": self.exit as u8 })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        match &self.next {
            Some(next) => write!(f, "\n  next: {next}"),
            None => Ok(()),
        }
    }
}
