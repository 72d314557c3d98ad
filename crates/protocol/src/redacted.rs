//! A string that must not be printed: bearer tokens and keys on their way through a wire type.

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// Text that is wiped on drop and prints as `[redacted]`. Call [`Redacted::expose`] to read it.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Redacted(String);

impl Redacted {
    /// Takes over the text; the caller's buffer becomes ours, so nothing is copied.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Redacted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Drop for Redacted {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_text() {
        assert_eq!(format!("{:?}", Redacted::new("hunter2".into())), "[redacted]");
    }
}
