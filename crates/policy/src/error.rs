//! Where a policy is wrong and what would mend it: byte spans to lines, nearest names for suggestions.

use std::fmt;
use std::ops::Range;

use crate::MAX_FILE_BYTES;

/// One thing that is wrong with a policy or set file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    pub file: String,
    /// 1-based; 1 when the whole file is meant.
    pub line: u32,
    /// 1-based, in characters.
    pub column: u32,
    /// How many characters of that line are meant; at least 1.
    pub width: u32,
    pub what: String,
    pub suggestion: Option<String>,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}: {}", self.file, self.line, self.column, self.what)?;
        match &self.suggestion {
            Some(suggestion) => write!(out, " ({suggestion})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for PolicyError {}

/// Collects the errors of one file.
pub(crate) struct Report<'a> {
    file: &'a str,
    text: &'a str,
    errors: Vec<(usize, PolicyError)>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        Report { file, text, errors: Vec::new() }
    }

    pub(crate) fn file(&self) -> &'a str {
        self.file
    }

    pub(crate) fn line(&self, at: usize) -> u32 {
        position(self.text, at).0
    }

    pub(crate) fn add(&mut self, span: Range<usize>, what: impl Into<String>) {
        self.push(span, what.into(), None);
    }

    pub(crate) fn add_with(&mut self, span: Range<usize>, what: impl Into<String>, hint: String) {
        self.push(span, what.into(), Some(hint));
    }

    fn push(&mut self, span: Range<usize>, what: String, suggestion: Option<String>) {
        let (line, column) = position(self.text, span.start);
        let width = width(self.text, &span);
        let error = PolicyError { file: self.file.to_owned(), line, column, width, what, suggestion };
        self.errors.push((span.start, error));
    }

    /// The errors in the order of the text; `Ok` when there are none.
    pub(crate) fn finish(mut self) -> Result<(), Vec<PolicyError>> {
        if self.errors.is_empty() {
            return Ok(());
        }
        self.errors.sort_by_key(|(start, _)| *start);
        Err(self.errors.into_iter().map(|(_, error)| error).collect())
    }
}

/// Parses a whole file into `T`, turning the TOML crate's error into ours.
pub(crate) fn deserialize<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T, PolicyError> {
    let whole = |what: String| PolicyError {
        file: file.to_owned(),
        line: 1,
        column: 1,
        width: 1,
        what,
        suggestion: None,
    };
    if text.len() > MAX_FILE_BYTES {
        return Err(whole(format!("{} bytes, at most {MAX_FILE_BYTES} are read", text.len())));
    }
    if text.trim().is_empty() {
        return Err(whole("the file is empty".to_owned()));
    }
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let (line, column) = position(text, span.start);
        let message = error.message().replace('\n', ", ");
        let suggestion = unknown_field_hint(&message);
        let what = match (&suggestion, message.split_once(", expected one of")) {
            (Some(_), Some((head, _))) => head.to_owned(),
            _ => message,
        };
        PolicyError { file: file.to_owned(), line, column, width: width(text, &span), what, suggestion }
    })
}

/// How many characters of its first line a span has.
pub(crate) fn width(text: &str, span: &Range<usize>) -> u32 {
    let inside = text.get(span.start..span.end.min(text.len())).unwrap_or("");
    let count = inside.lines().next().unwrap_or("").chars().count();
    u32::try_from(count).unwrap_or(1).max(1)
}

/// 1-based line and column (in characters) of a byte offset.
pub(crate) fn position(text: &str, offset: usize) -> (u32, u32) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// serde lists the known names in its message; the nearest of them is what the author meant.
fn unknown_field_hint(message: &str) -> Option<String> {
    let rest =
        message.strip_prefix("unknown field `").or_else(|| message.strip_prefix("unknown variant `"))?;
    let (wrong, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    did_you_mean(wrong, known.iter().copied())
        .or_else(|| (!known.is_empty()).then(|| format!("known: {}", known.join(", "))))
}

/// `did you mean …?` when a known name is near enough to be a slip.
pub(crate) fn did_you_mean<'n>(wrong: &str, known: impl Iterator<Item = &'n str>) -> Option<String> {
    let (distance, best) = known.map(|name| (distance(wrong, name), name)).min()?;
    (distance <= 1 + best.len() / 4).then(|| format!("did you mean `{best}`?"))
}

/// Levenshtein distance; a name of an author's file is cut at 64 bytes to bound the work.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<u8> = left.bytes().take(64).collect();
    let right: Vec<u8> = right.bytes().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        assert_eq!(position("ab\ncäd", 0), (1, 1));
        assert_eq!(position("ab\ncäd", 6), (2, 3));
        assert_eq!(position("ab", 99), (1, 3));
    }

    #[test]
    fn a_slip_gets_its_nearest_name_and_nonsense_gets_none() {
        let known = ["fsync", "fdatasync", "socket"];
        let hint = |wrong| did_you_mean(wrong, known.iter().copied());
        assert_eq!(hint("fsycn").as_deref(), Some("did you mean `fsync`?"));
        assert_eq!(hint("zzzzzzzz"), None);
    }
}
