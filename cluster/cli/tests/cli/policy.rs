//! `orama policy`: exit codes and JSON, and docs/policies.md, whose profiles and outputs are the real ones.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::Orama;

const GOOD: &str = "version = 1\nname = \"probe\"\nbinary = \"/opt/probe\"\nuser = { uid = 2001 }\n\n\
    [seccomp]\nmode = \"enforce\"\nsets = [\"base\"]\n";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn check_tells_what_where_and_how_many() {
    let place = Orama::new();
    let good = place.file("good.toml", GOOD).display().to_string();
    let bad =
        place.file("bad.toml", &GOOD.replace("2001", "0").replace("base", "bsae")).display().to_string();
    let audit = place.file("audit.toml", &GOOD.replace("enforce", "audit")).display().to_string();
    let code = |arguments: &[&str]| place.run(arguments, "").code;
    assert_eq!(code(&["policy", "check", &good]), 0);
    assert_eq!(code(&["policy", "check", &bad]), 1);
    assert_eq!(code(&["policy", "check", &audit]), 0);
    assert_eq!(code(&["policy", "check", "--strict", &audit]), 1);
    assert_eq!(code(&["policy", "check", "/nowhere/x.toml"]), 2);
    assert_eq!(code(&["policy", "check"]), 2);
    let ran = place.run(&["policy", "check", "--json", &bad], "");
    let answer = json(&ran.out);
    assert_eq!((ran.code, &answer["ok"], &answer["errors"]), (1, &Value::Bool(false), &Value::from(2)));
    assert_eq!(answer["findings"][1]["line"], 8);
    assert_eq!(answer["findings"][1]["column"], 9);
    assert_eq!(answer["findings"][1]["suggestion"], "did you mean `base`?");
    // The same name and uid twice, and a file that is no text.
    let ran = place.run(&["policy", "check", &good, &audit], "");
    assert_eq!((ran.code, ran.out.matches("[used-twice]").count()), (1, 2), "{}", ran.out);
    let elf = place.file("elf.toml", "");
    std::fs::write(&elf, b"\x7fELF\xff\xfe").expect("written");
    let ran = place.run(&["policy", "check", &elf.display().to_string()], "");
    assert!(ran.code == 1 && ran.out.contains(":1:5: error: byte 0xff is not UTF-8"), "{}", ran.out);
}

/// A folder is its profiles, with its own sets, which are looked at too.
#[test]
fn a_folder_brings_its_sets() {
    let place = Orama::new();
    let profile = place.file("policies/probe.toml", &GOOD.replace("base", "own"));
    place.file(
        "policies/sets/own.toml",
        "version = 1\nname = \"own\"\n[[allow]]\nsyscalls = [\"read\"]\nwhy = \"x\"\n",
    );
    place.file("policies/sets/idle.toml", "version = 1\nname = \"busy\"\n");
    let folder = profile.parent().expect("folder").display().to_string();
    let ran = place.run(&["policy", "check", &folder], "");
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.contains("sets/idle.toml:2:8: error: set `busy` lies in a file called `idle.toml`"),
        "{}",
        ran.out
    );
    assert!(ran.out.ends_with("1 profile and 2 sets: 1 error, no warnings\n"), "{}", ran.out);
}

#[test]
fn diff_and_score_are_gates() {
    let place = Orama::new();
    let old = place.file("old.toml", GOOD).display().to_string();
    let new = place.file("new.toml", &GOOD.replace("\"base\"", "\"base\", \"fsync\"")).display().to_string();
    let code = |arguments: &[&str]| place.run(arguments, "").code;
    assert_eq!(code(&["policy", "diff", &old, &new]), 1);
    assert_eq!(code(&["policy", "diff", &new, &old]), 0);
    assert_eq!(code(&["policy", "diff", &old, &old]), 0);
    assert_eq!(code(&["policy", "diff", &old, "/nowhere.toml"]), 2);
    let answer = json(&place.run(&["policy", "diff", "--json", &old, &new], "").out);
    assert_eq!(answer["gained"][0]["text"], "fsync fdatasync msync sync_file_range");
    assert_eq!(answer["allows_more"], true);
    let exposure = json(&place.run(&["policy", "score", "--json", &old], "").out)["exposure"].as_f64();
    let exposure = exposure.expect("a number");
    assert!((0.0..5.0).contains(&exposure), "{exposure}");
    assert_eq!(code(&["policy", "score", &old, "--max", &exposure.to_string()]), 0);
    assert_eq!(code(&["policy", "score", &old, "--max", "0.1"]), 1);
    assert_eq!(code(&["policy", "score", &old, "--max", "11"]), 2);
}

#[test]
fn explain_knows_calls_by_name_only() {
    let place = Orama::new();
    let file = place.file("good.toml", GOOD).display().to_string();
    let ran = place.run(&["policy", "explain", &file, "--syscall", "raed"], "");
    assert_eq!((ran.code, ran.err.contains("did you mean `read`?")), (2, true), "{}", ran.err);
    let answer = json(&place.run(&["policy", "explain", "--json", &file, "--syscall", "clone"], "").out);
    assert_eq!(answer["allowed"], "sometimes");
    assert_eq!(answer["rules"][0]["set"], "base");
    let whole = json(&place.run(&["policy", "explain", "--json", &file], "").out);
    assert_eq!(whole["sections"][0]["title"], "Program");
}

/// Profiles in the document begin with `# NAME.toml`; commands in `console` blocks print what follows them. Runs
/// without root: run, learn and test stand in other blocks.
#[test]
fn the_document_shows_what_the_tools_print() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/policies.md");
    let document = std::fs::read_to_string(&path).expect("docs/policies.md");
    let place = Orama::new();
    let (mut commands, mut profiles) = (0, 0);
    let mut rest = document.as_str();
    while let Some((_, after)) = rest.split_once("\n```") {
        let (kind, after) = after.split_once('\n').expect("a fence ends its line");
        let (block, after) = after.split_once("\n```\n").expect("a block ends");
        rest = after;
        if let ("toml", Some(name)) =
            (kind, block.strip_prefix("# ").and_then(|text| text.split('\n').next()))
            && name.ends_with(".toml")
        {
            place.file(name, &format!("{block}\n"));
            profiles += 1;
        }
        if kind != "console" {
            continue;
        }
        let mut shown = String::new();
        for line in block.lines().filter_map(|line| line.strip_prefix("$ orama ")) {
            let arguments: Vec<&str> = line.split(' ').collect();
            let ran = place.run(&arguments, "");
            shown.push_str(&format!("$ orama {line}\n{}{}", ran.out, ran.err));
            commands += 1;
        }
        assert_eq!(block.trim_end(), shown.trim_end(), "docs/policies.md shows something else");
    }
    assert!(commands >= 6 && profiles >= 4, "{commands} commands and {profiles} profiles found");
}
