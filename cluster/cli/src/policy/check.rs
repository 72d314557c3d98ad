//! `orama policy check`: what is wrong with profiles and what is odd, shown where it stands.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use orama_policy::{Finding, MAX_FILE_BYTES, Severity, Source, lint};
use serde_json::json;

use super::SetsFrom;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::text::printable;

/// Longest source line shown, in characters.
const SHOWN_LINE: usize = 160;

#[derive(Args)]
#[command(after_help = "\
Examples:
  orama policy check policies                 every profile and set of a folder, and against each other
  orama policy check ledger.toml --strict     warnings fail too: for CI
  orama policy check --json policies          one object per finding: file, line, column, severity, code

Exit codes: 0 no errors (and with --strict no warnings), 1 errors, 2 a file or folder cannot be read.")]
pub struct CheckArgs {
    /// Profiles, or folders of them (with their `sets` folder). A node holds all of a folder at once, so names,
    /// uids, paths and dependencies are compared too.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Warnings fail too.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    sets: SetsFrom,
}

pub fn execute(args: &CheckArgs, output: &Output) -> Result<ExitCode, Failure> {
    let mut sources = Vec::new();
    for path in &args.files {
        for file in files_of(path)? {
            sources.push(source(&file, &args.sets)?);
        }
    }
    let findings = lint(&sources);
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let good = errors == 0 && (warnings == 0 || !args.strict);
    let profiles = sources.iter().filter(|source| source.set.is_none()).count();
    let summary = summary(profiles, sources.len() - profiles, errors, warnings);
    let answer = json!({
        "ok": good,
        "profiles": profiles,
        "errors": errors,
        "warnings": warnings,
        "findings": findings.iter().map(to_json).collect::<Vec<_>>(),
    });
    let mut human: String = findings.iter().map(|finding| shown(finding, &sources)).collect();
    human.push_str(&summary);
    output.answer(&answer, &human);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(Exit::Failed as u8) })
}

/// A file is itself; a folder is its profiles and then its sets.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::new(Exit::Usage, format!("{}: {error}", path.display()))
            .next("give profiles, or folders of profiles")
    };
    if !fs::metadata(path).map_err(|error| unreadable(path, &error))?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = toml_files(path).map_err(|error| unreadable(path, &error))?;
    let sets = path.join("sets");
    if sets.is_dir() {
        files.extend(toml_files(&sets).map_err(|error| unreadable(&sets, &error))?);
    }
    if files.is_empty() {
        return Err(unreadable(path, &"no *.toml in there"));
    }
    Ok(files)
}

fn toml_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn source(file: &Path, sets: &SetsFrom) -> Result<Source, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(Exit::Usage, format!("{}: {error}", file.display())).next("give files that can be read")
    };
    let is_file = fs::metadata(file).map_err(unreadable)?.is_file();
    if !is_file {
        return Err(unreadable(std::io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    let limit = MAX_FILE_BYTES as u64 + 1;
    File::open(file).map_err(unreadable)?.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    let in_sets = file.parent().and_then(Path::file_name).is_some_and(|name| name == "sets");
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    Ok(Source {
        file: file.display().to_string(),
        bytes,
        sets: sets.for_file(file)?,
        set: stem.filter(|_| in_sets),
    })
}

/// The finding, the line it is about with a mark under it, and what would help.
fn shown(finding: &Finding, sources: &[Source]) -> String {
    let Finding { file, line, column, message, .. } = finding;
    let mut text = format!(
        "{}:{line}:{column}: {}: {} [{}]\n",
        printable(file, 400),
        finding.severity.name(),
        printable(message, 1000),
        finding.code
    );
    let source = sources.iter().find(|source| source.file == *file);
    let written = source.and_then(|source| {
        let lines = String::from_utf8_lossy(&source.bytes);
        lines.lines().nth(*line as usize - 1).map(str::to_owned)
    });
    if let Some(written) = written.filter(|written| !written.trim().is_empty()) {
        text.push_str(&marked(&written, *line, *column, finding.width));
    }
    if let Some(suggestion) = &finding.suggestion {
        text.push_str(&format!("   = {}\n", printable(suggestion, 1000)));
    }
    text.push('\n');
    text
}

/// The source line with its number, and carets under what is meant; a long line is cut around them.
fn marked(written: &str, line: u32, column: u32, width: u32) -> String {
    let characters: Vec<char> = written.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let at = (column as usize - 1).min(characters.len());
    let from = at.saturating_sub(SHOWN_LINE / 2);
    let to = characters.len().min(from + SHOWN_LINE);
    let lead = if from > 0 { "…" } else { "" };
    let tail = if to < characters.len() { "…" } else { "" };
    let shown: String = characters[from..to].iter().collect();
    let number = line.to_string();
    let pad = " ".repeat(number.len());
    let gap = " ".repeat(at - from + lead.chars().count());
    let carets = "^".repeat((width as usize).min(to.saturating_sub(at)).max(1));
    format!(" {pad} |\n {number} | {lead}{shown}{tail}\n {pad} | {gap}{carets}\n")
}

fn to_json(finding: &Finding) -> serde_json::Value {
    json!({
        "file": finding.file,
        "line": finding.line,
        "column": finding.column,
        "width": finding.width,
        "severity": finding.severity.name(),
        "code": finding.code,
        "message": finding.message,
        "suggestion": finding.suggestion,
    })
}

fn summary(profiles: usize, sets: usize, errors: usize, warnings: usize) -> String {
    let count = |number: usize, what: &str| match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let mut looked_at = count(profiles, "profile");
    if sets > 0 {
        looked_at.push_str(&format!(" and {}", count(sets, "set")));
    }
    format!("{looked_at}: {}, {}", count(errors, "error"), count(warnings, "warning"))
}
