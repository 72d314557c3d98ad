//! `[seccomp]` and the files of `sets/`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::raw::Text;
use crate::schema;
use crate::spanned::Spanned;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seccomp {
    /// What a call outside the rules meets: audit records it and lets it run, enforce the default action.
    #[schemars(schema_with = "schema::seccomp_mode")]
    pub mode: Text,
    /// In enforce: kill ends the process (SIGSYS), errno lets the call fail. Default kill.
    #[serde(default)]
    #[schemars(schema_with = "schema::default_action")]
    pub default_action: Option<Text>,
    /// With default_action = "errno". Default EPERM.
    #[serde(default)]
    #[schemars(schema_with = "schema::errno")]
    pub errno: Option<Text>,
    /// Named sets: files of sets/.
    #[serde(default)]
    #[schemars(schema_with = "schema::sets")]
    pub sets: Vec<Text>,
    /// Single rules.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub allow: Vec<Spanned<Allow>>,
    /// Calls that fail quietly in both modes. They win over allow.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub deny: Vec<Spanned<Deny>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Allow {
    /// x86-64 names.
    #[schemars(schema_with = "schema::syscalls")]
    pub syscalls: Vec<Text>,
    /// Why the service needs it.
    #[schemars(length(min = 1, max = 400))]
    pub why: Text,
    /// All must hold. Several rules for one call are alternatives; one without arguments allows it always.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub arguments: Vec<Spanned<Argument>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Argument {
    /// Which argument, from 0.
    #[schemars(range(min = 0, max = 5))]
    pub index: Spanned<i64>,
    /// Unsigned comparison; masked_eq compares the bits of mask. Default eq.
    #[serde(default)]
    #[schemars(schema_with = "schema::comparison")]
    pub op: Option<Text>,
    /// With op = "masked_eq": the bits that are compared.
    pub mask: Option<Spanned<Number>>,
    /// A number, a constant such as AF_INET, or several joined by |.
    pub value: Spanned<Number>,
    /// How much of the argument is looked at: ints are 32 bits. Default 32.
    #[serde(default)]
    #[schemars(schema_with = "schema::bits")]
    pub bits: Option<Spanned<i64>>,
}

/// An argument value: a number, or the name of a constant from the closed list in `names`.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Number {
    Integer(i64),
    Name(String),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deny {
    /// x86-64 names.
    #[schemars(schema_with = "schema::syscalls")]
    pub syscalls: Vec<Text>,
    /// What the call fails with.
    #[schemars(schema_with = "schema::errno")]
    pub errno: Text,
    /// Why the service can live without it.
    #[schemars(length(min = 1, max = 400))]
    pub why: Text,
}

/// A file in `sets/`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetFile {
    pub version: Spanned<i64>,
    pub name: Text,
    #[serde(default)]
    #[allow(dead_code, reason = "for readers of the file; the schema must know it")]
    pub description: String,
    #[serde(default)]
    pub allow: Vec<Spanned<Allow>>,
}
