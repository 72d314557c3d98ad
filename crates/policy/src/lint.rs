//! What is wrong with profile files and what is odd about them: errors as a node would refuse them, and lints, which
//! are warnings. Looks at texts only; whether a path exists is known where the service will run.

mod across;
mod needs;
mod profile;
mod seccomp;

use std::ops::Range;

use crate::error::{PolicyError, deserialize, position, width};
use crate::{MAX_FILE_BYTES, Policy, Sets, raw, sets};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A node refuses the service.
    Error,
    /// It works, and is probably not what was meant.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// One thing found in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Stable, for machines: `unused-set`. All errors that a node would refuse are `invalid`.
    pub code: &'static str,
    pub severity: Severity,
    pub file: String,
    /// 1-based, as is the column, in characters.
    pub line: u32,
    pub column: u32,
    /// How many characters of the line are meant.
    pub width: u32,
    pub message: String,
    pub suggestion: Option<String>,
}

/// One file to be looked at.
pub struct Source {
    /// Only used in messages.
    pub file: String,
    pub bytes: Vec<u8>,
    /// The sets that its names refer to.
    pub sets: Sets,
    /// It is a set, of this name, and not a profile.
    pub set: Option<String>,
}

/// Everything found in these files, each for itself and against each other, file by file in the order of the text.
pub fn lint(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut good = Vec::new();
    for source in sources {
        let mut list = Findings::new(&source.file, "");
        match text(source) {
            Err(error) => list.found.push(of_error(error)),
            Ok(text) => {
                list.text = text;
                if let Some(stem) = &source.set {
                    let errors = sets::check(stem, &source.file, text).err().unwrap_or_default();
                    list.found.extend(errors.into_iter().map(of_error));
                } else if let Some(profile) = one(&mut list, source, text) {
                    good.push(profile);
                }
            }
        }
        findings.push(list.found);
    }
    let places: Vec<&str> = sources.iter().map(|source| source.file.as_str()).collect();
    for finding in across::lint(&good) {
        if let Some(at) = places.iter().position(|file| *file == finding.file) {
            findings[at].push(finding);
        }
    }
    for list in &mut findings {
        list.sort_by_key(|finding| (finding.line, finding.column, finding.severity));
    }
    findings.concat()
}

/// A profile that parses, with what its text and spans are needed for.
struct Profile<'a> {
    file: &'a str,
    text: &'a str,
    raw: raw::File,
    policy: Policy,
}

fn one<'a>(list: &mut Findings<'a>, source: &'a Source, text: &'a str) -> Option<Profile<'a>> {
    let policy = match Policy::check(&source.file, text, &source.sets) {
        Ok(policy) => policy,
        Err(errors) => {
            list.found.extend(errors.into_iter().map(of_error));
            return None;
        }
    };
    let raw = deserialize(&source.file, text).ok()?;
    let profile = Profile { file: &source.file, text, raw, policy };
    profile::lint(list, &profile);
    needs::lint(list, &profile);
    seccomp::lint(list, &profile);
    Some(profile)
}

/// Bounded, and UTF-8, or where it is not.
fn text(source: &Source) -> Result<&str, PolicyError> {
    let error = |line, column, what| PolicyError {
        file: source.file.clone(),
        line,
        column,
        width: 1,
        what,
        suggestion: None,
    };
    if source.bytes.len() > MAX_FILE_BYTES {
        return Err(error(1, 1, format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    std::str::from_utf8(&source.bytes).map_err(|wrong| {
        let at = wrong.valid_up_to();
        let good = String::from_utf8_lossy(&source.bytes[..at]);
        let (line, column) = position(&good, at);
        let byte = source.bytes.get(at).copied().unwrap_or_default();
        PolicyError {
            suggestion: Some("save the file as UTF-8".to_owned()),
            ..error(line, column, format!("byte {byte:#04x} is not UTF-8"))
        }
    })
}

fn of_error(error: PolicyError) -> Finding {
    Finding {
        code: "invalid",
        severity: Severity::Error,
        file: error.file,
        line: error.line,
        column: error.column,
        width: error.width,
        message: error.what,
        suggestion: error.suggestion,
    }
}

/// Collects what is found in one file.
struct Findings<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<Finding>,
}

impl<'a> Findings<'a> {
    fn new(file: &'a str, text: &'a str) -> Self {
        Findings { file, text, found: Vec::new() }
    }

    fn add(
        &mut self,
        (severity, code): (Severity, &'static str),
        span: Range<usize>,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        let (line, column) = position(self.text, span.start);
        let suggestion = suggestion.into();
        self.found.push(Finding {
            code,
            severity,
            file: self.file.to_owned(),
            line,
            column,
            width: width(self.text, &span),
            message: message.into(),
            suggestion: (!suggestion.is_empty()).then_some(suggestion),
        });
    }

    fn warn(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        self.add((Severity::Warning, code), span, message, suggestion);
    }
}
