//! How a scenario ends when a step fails: with the error's own words and its causes, not with its structure.

/// `or_fail` on a result of the harness.
pub trait OrFail<T> {
    /// The value, or a panic that a person can read.
    fn or_fail(self) -> T;
}

impl<T, E: std::error::Error> OrFail<T> for Result<T, E> {
    #[track_caller]
    fn or_fail(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => {
                let mut text = error.to_string();
                let mut cause = error.source();
                while let Some(source) = cause {
                    text.push_str(": ");
                    text.push_str(&source.to_string());
                    cause = source.source();
                }
                panic!("{text}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "is not set: run `cargo xtask test vm`")]
    fn words_and_no_structure() {
        Err::<(), _>(crate::artifacts::ArtifactsError::Unset).or_fail();
    }
}
