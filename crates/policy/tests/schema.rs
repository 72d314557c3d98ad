//! docs/policy.schema.json is what the types say, accepts every profile in use, and draws the same bounds as the parser.

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use orama_policy::{Mode, Policy, Sets, Source, lint, schema};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn validator() -> Validator {
    jsonschema::validator_for(&schema()).expect("a valid schema")
}

fn to_json(text: &str) -> Value {
    let value: toml::Value = toml::from_str(text).expect("TOML");
    serde_json::to_value(value).expect("JSON")
}

const GOOD: &str = r#"version = 1
name = "probe"
binary = "/opt/probe"
user = { uid = 2001 }
filesystem = { writable = ["/data/probe"] }

[seccomp]
mode = "enforce"
"#;

#[test]
fn the_file_in_docs_is_the_generated_one() {
    let path = root().join("docs/policy.schema.json");
    let written = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let generated = format!("{:#}\n", schema());
    assert!(
        written == generated,
        "write it anew: cargo run -p orama -- policy schema > docs/policy.schema.json"
    );
}

#[test]
fn every_profile_in_use_and_the_documented_one_validate() {
    let validator = validator();
    let mut count = 0;
    for entry in fs::read_dir(root().join("policies")).expect("policies") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let profile = to_json(&fs::read_to_string(&path).expect("text"));
            let errors: Vec<String> =
                validator.iter_errors(&profile).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
            count += 1;
        }
    }
    assert!(count >= 2, "only {count} profiles found: this test looks in the wrong place");
}

/// Every section, in force, and nothing for `check` to say; and every field of the schema has its place in the text.
#[test]
fn the_documentation_is_complete() {
    let document = fs::read_to_string(root().join("docs/policies.md")).expect("docs/policies.md");
    let head = "```toml\n# A complete example: every section, most fields.\n";
    let (_, rest) = document.split_once(head).expect("the example");
    let (example, _) = rest.split_once("```").expect("its end");
    let policy =
        Policy::parse("example", example, &Sets::builtin()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(policy.seccomp.mode, Mode::Enforce);
    let source = Source {
        file: "example".to_owned(),
        bytes: example.as_bytes().to_vec(),
        sets: Sets::builtin(),
        set: None,
    };
    let warnings: Vec<_> = lint(&[source]).into_iter().filter(|one| one.code != "errno").collect();
    assert!(warnings.is_empty(), "{warnings:?}");
    let example = to_json(example);
    assert!(validator().is_valid(&example));
    let schema = schema();
    for field in schema["properties"].as_object().expect("properties").keys() {
        assert!(example.get(field).is_some(), "the example has no `{field}`");
    }
    let definitions = schema["definitions"].as_object().expect("definitions");
    let fields = definitions.values().filter_map(|definition| definition["properties"].as_object());
    for field in fields.flat_map(|fields| fields.keys()) {
        let named = [format!("`{field}`"), format!("[[seccomp.{field}]]")];
        assert!(named.iter().any(|name| document.contains(name.as_str())), "nothing is said of `{field}`");
    }
}

#[test]
fn what_an_author_gets_wrong_is_refused_by_both() {
    let validator = validator();
    assert!(validator.is_valid(&to_json(GOOD)));
    for (from, to) in [
        ("name", "nmae"),
        ("mode = \"enforce\"", "mode = \"enforced\""),
        ("mode = \"enforce\"", "mode = \"enforce\"\ndefault_action = \"log\""),
        ("mode = \"enforce\"", "mode = \"enforce\"\nsets = [1]"),
        ("mode = \"enforce\"", "mode = \"enforce\"\nallow = [{ syscalls = [\"fsycn\"], why = \"x\" }]"),
        ("mode = \"enforce\"", "mode = \"enforce\"\nallow = [{ syscalls = [], why = \"x\" }]"),
        ("mode = \"enforce\"", "mode = \"enforce\"\nallow = [{ syscalls = [\"read\"] }]"),
        ("2001", "0"),
        ("version = 1", "version = 2"),
        ("\"/opt/probe\"", "\"probe\""),
        ("[seccomp]", "[capabilities]\nambient = [\"CAP_SYS_ADMIN\"]\n[seccomp]"),
        ("[seccomp]", "[stop]\nsignal = \"SIGKILL\"\n[seccomp]"),
        ("[seccomp]", "[landlock]\ntcp_bind = [0]\n[seccomp]"),
        ("[seccomp]", "[landlock]\nmode = \"on\"\n[seccomp]"),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert!(!validator.is_valid(&to_json(&text)), "the schema takes {to}");
        assert!(Policy::parse("p.toml", &text, &Sets::builtin()).is_err(), "the parser takes {to}");
    }
}

/// Every number with bounds: the parser takes both ends and refuses what lies beyond.
#[test]
fn bounds_are_those_of_the_parser() {
    let schema = schema();
    let mut count = 0;
    let sections = schema["properties"].as_object().expect("properties");
    for (section, value) in sections {
        let reference = value["$ref"].as_str().or_else(|| value["allOf"][0]["$ref"].as_str());
        let Some(reference) = reference else { continue };
        let definition = schema.pointer(reference.trim_start_matches('#')).expect("definition");
        for (field, value) in definition["properties"].as_object().expect("fields") {
            let (Some(low), Some(high)) = (value["minimum"].as_i64(), value["maximum"].as_i64()) else {
                continue;
            };
            for (number, good) in [(low, true), (high, true), (low - 1, false), (high + 1, false)] {
                let parsed = Policy::parse("p.toml", &with(section, field, number), &Sets::none());
                assert_eq!(parsed.is_ok(), good, "{section}.{field} = {number}: {parsed:?}");
            }
            count += 1;
        }
    }
    assert!(count >= 20, "only {count} bounded numbers found");
}

/// The good profile with one number in it, and whatever else that section needs.
fn with(section: &str, field: &str, number: i64) -> String {
    let rest = match (section, field) {
        ("readiness" | "liveness", _) => "tcp = \"127.0.0.1:1\"\n",
        ("restart", "initial_ms") => "maximum_ms = 3600000\n",
        ("restart", "maximum_ms") => "initial_ms = 10\n",
        ("user", "gid") => "uid = 2001\n",
        ("filesystem", _) => "writable = [\"/data/probe\"]\n",
        _ => "",
    };
    let line = |line: &&str| !line.starts_with(section) || line.starts_with("[");
    let base: String = GOOD.lines().filter(line).map(|line| format!("{line}\n")).collect();
    format!("{base}\n[{section}]\n{field} = {number}\n{rest}")
}
