//! Single values of a policy file: names, absolute paths, numbers in range, templates.

use std::ops::{Range, RangeInclusive};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::spanned::Spanned;

use crate::error::{Report, did_you_mean};
use crate::names;
use crate::template::{Template, TemplateError, Variable};

/// Most entries in any list of a policy.
pub(crate) const MAX_ENTRIES: usize = 256;
/// Longest time that a policy may ask for, in seconds (one day).
const MAX_SECONDS: u64 = 86_400;
/// Longest path in bytes (PATH_MAX of the kernel, without the NUL).
const MAX_PATH: usize = 4095;
/// Trees that the sandbox makes itself: nothing of the host's is shown there.
const RESERVED: [&str; 4] = ["/proc", "/sys", "/dev", "/tmp"];

/// The entries of a list, of which too many are an error at the first one too many.
pub(crate) fn bounded<'l>(
    report: &mut Report<'_>,
    list: &'l [Spanned<String>],
    field: &str,
) -> impl Iterator<Item = &'l Spanned<String>> + use<'l> {
    if let Some(extra) = list.get(MAX_ENTRIES) {
        report.add(extra.span(), format!("more than {MAX_ENTRIES} entries in `{field}`"));
    }
    list.iter().take(MAX_ENTRIES)
}

/// Lower-case letters, digits and inner dashes: it becomes a host name, a cgroup and a file name.
pub(crate) fn service_name(report: &mut Report<'_>, field: &str, text: &Spanned<String>) -> String {
    let name = text.get_ref();
    let good = name.len() <= 32
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && !name.ends_with('-');
    if !good {
        let what = format!(
            "`{field}` must be 1 to 32 lower-case letters, digits and inner dashes, starting with a letter"
        );
        report.add(text.span(), what);
    }
    name.clone()
}

/// An absolute path without `.`, `..`, doubled or trailing slashes.
fn path(report: &mut Report<'_>, field: &str, text: &Spanned<String>) -> PathBuf {
    let written = text.get_ref();
    let path = PathBuf::from(written);
    let wrong = if written.contains('\0') {
        Some("contains a NUL byte")
    } else if written.len() > MAX_PATH {
        Some("is too long")
    } else if !path.is_absolute() {
        Some("must be absolute")
    } else if path.components().any(|part| part == Component::ParentDir) {
        Some("must not contain `..`")
    } else if written == "/" {
        Some("must not be the root")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        report.add(text.span(), format!("`{field}` {wrong}"));
        return path;
    }
    // Path comparison forgives what bytes do not; one spelling per path keeps diffs and messages honest.
    let plain: PathBuf = path.components().collect();
    if plain.as_os_str() != path.as_os_str() {
        let hint = format!("write `{}`", plain.display());
        report.add_with(text.span(), format!("`{field}` is not in its plain spelling"), hint);
    }
    plain
}

/// A path of the host that the service sees.
pub(crate) fn shown_path(report: &mut Report<'_>, field: &str, text: &Spanned<String>) -> PathBuf {
    let path = path(report, field, text);
    if let Some(reserved) = RESERVED.iter().find(|reserved| path.starts_with(Path::new(reserved))) {
        let what = format!("`{field}` cannot be below {reserved}: the sandbox makes its own");
        report.add(text.span(), what);
    }
    path
}

pub(crate) fn number(
    report: &mut Report<'_>,
    field: &str,
    value: &Option<Spanned<i64>>,
    range: RangeInclusive<u64>,
    default: u64,
) -> u64 {
    let Some(value) = value else { return default };
    match u64::try_from(*value.get_ref()) {
        Ok(number) if range.contains(&number) => number,
        _ => {
            let (low, high) = range.into_inner();
            report.add(value.span(), format!("`{field}` must be {low} to {high}"));
            default
        }
    }
}

pub(crate) fn seconds(
    report: &mut Report<'_>,
    field: &str,
    value: &Option<Spanned<i64>>,
    default: u64,
) -> Duration {
    Duration::from_secs(number(report, field, value, 1..=MAX_SECONDS, default))
}

/// Looks a word up in a closed list, or says which words there are.
pub(crate) fn one_of<T: Copy>(
    report: &mut Report<'_>,
    what: &str,
    list: &[(&'static str, T)],
    word: &Spanned<String>,
) -> Option<T> {
    let found = names::find(list, word.get_ref());
    if found.is_none() {
        let known = || list.iter().map(|(name, _)| *name);
        let hint = did_you_mean(word.get_ref(), known())
            .unwrap_or_else(|| format!("known: {}", known().collect::<Vec<_>>().join(", ")));
        report.add_with(word.span(), format!("unknown {what} `{}`", word.get_ref()), hint);
    }
    found
}

pub(crate) fn template(report: &mut Report<'_>, text: &Spanned<String>, has_data: bool) -> Template {
    match Template::parse(text.get_ref()) {
        Ok(template) => {
            if template.uses(Variable::Data) && !has_data {
                report.add(text.span(), "`${data}` is the first writable path, and there is none");
            }
            template
        }
        Err(error) => {
            template_error(report, text.span(), error);
            Template::default()
        }
    }
}

fn template_error(report: &mut Report<'_>, span: Range<usize>, error: TemplateError) {
    // The opening quote stands before the text; with escapes in it the column is only near.
    let at = |offset: usize| (span.start + 1 + offset).min(span.end)..span.end;
    match error {
        TemplateError::Unclosed { at: offset } => {
            report.add(at(offset), "`${` without `}`");
        }
        TemplateError::Nul { at: offset } => report.add(at(offset), "contains a NUL byte"),
        TemplateError::Unknown { at: offset, name } => {
            let known = Variable::ALL.map(|(known, _)| known);
            let hint = did_you_mean(&name, known.into_iter())
                .unwrap_or_else(|| format!("known: {}", known.join(", ")));
            report.add_with(at(offset), format!("unknown variable `${{{name}}}`"), hint);
        }
    }
}
