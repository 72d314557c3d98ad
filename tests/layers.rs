//! The rules of the house that a compiler does not hold: who may depend on whom, where unsafe code lives,
//! how files begin. Reads manifests and sources as text; ARCHITECTURE.md explains the rules.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every file with unsafe code, and nothing else. A new entry needs a reason that no safe call would do.
const UNSAFE_FILES: [&str; 21] = [
    "actors/examples/unlock_latency/link.rs", // the ioctl that makes a TUN device
    "cluster/gateway/src/listener.rs",        // takes over the descriptor of socket activation
    "cluster/gateway/tests/program.rs",       // hands that descriptor to the program under test
    "cluster/cli/hostile/calls.rs",           // calls that must not work in a sandbox
    "cluster/cli/hostile/files.rs",           // getppid and a signal, as above
    "crates/initramfs/src/dm.rs",             // device-mapper ioctls
    "crates/initramfs/src/modules.rs",        // finit_module
    "crates/keyshare/src/page.rs",            // the locked page of the volume key
    "crates/mesh/src/userspace.rs",           // the signal mask around the userspace backend
    "crates/sandbox/probe/main.rs",           // does in a sandbox what must not work there
    "crates/sandbox/probe/refused.rs",        // refused calls, signals, forks
    "crates/sandbox/src/child.rs",            // between clone and exec
    "crates/sandbox/src/spawn.rs",            // clone3
    "crates/sandbox/src/sys.rs",              // system calls that nix does not have
    "crates/sandbox/src/trial.rs",            // a traced child with made-up calls
    "crates/sandbox/src/watch/kernel.rs", // ioctls of a seccomp listener, memory of the process that waits
    "crates/volume/src/grow.rs",          // ioctls of block devices
    "qemu-tests/abuser/src/main.rs",      // does what no service should
    "qemu-tests/src/net.rs",              // pre_exec: children enter a namespace
    "src/pid1/memory.rs",                 // mallopt
    "src/pid1/watchdog.rs",               // the watchdog's ioctl
];

/// Workspace crates that programs around the node may use.
const FOR_CLUSTER: [&str; 7] = [
    "orama-http",
    "orama-protocol",
    "orama-keyshare",
    "orama-mesh",
    "orama-policy",
    "orama-sandbox",
    "orama-wallet",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    /// The agent: the root package.
    Agent,
    Actors,
    Crates,
    Cluster,
    /// qemu-tests and xtask: they look at the product from outside.
    Tools,
}

/// What the actors' tests run in their own process; never a dependency of the actors themselves.
const FOR_ACTOR_TESTS: &str = "vault-guardian";

struct Package {
    name: String,
    layer: Layer,
    manifest: toml::Table,
}

impl Package {
    /// Names of all dependencies of any kind.
    fn dependencies(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            if let Some(table) = self.manifest.get(section).and_then(toml::Value::as_table) {
                names.extend(table.keys().cloned());
            }
        }
        names
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn packages() -> Vec<Package> {
    let manifest = |folder: &Path| -> toml::Table {
        let path = folder.join("Cargo.toml");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let workspace = manifest(root());
    let members = workspace["workspace"]["members"].as_array().expect("workspace members").clone();
    let mut found = Vec::new();
    for member in members {
        let member = member.as_str().expect("member is text").to_owned();
        let folder = root().join(&member);
        let layer = match member.as_str() {
            "." => Layer::Agent,
            "actors" => Layer::Actors,
            "qemu-tests" | "qemu-tests/abuser" | "xtask" => Layer::Tools,
            other if other.starts_with("crates/") => Layer::Crates,
            other if other.starts_with("cluster/") => Layer::Cluster,
            other => panic!("{other} is in no layer: ARCHITECTURE.md says which there are"),
        };
        let manifest = manifest(&folder);
        let name = manifest["package"]["name"].as_str().expect("package name").to_owned();
        found.push(Package { name, layer, manifest });
    }
    found
}

/// Every Rust file of the repository, by path from the root.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["src", "tests", "actors", "crates", "cluster", "qemu-tests", "xtask"]
        .map(|name| root().join(name))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.expect("folder entry").path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("below the root").display().to_string();
                found.push((name, std::fs::read_to_string(&path).expect("source is text")));
            }
        }
    }
    found.sort();
    assert!(found.len() > 50, "only {} sources found: this test looks in the wrong place", found.len());
    found
}

/// The text without comments, and with the insides of string literals blanked.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut in_string = false;
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '\\' if in_string => {
                    characters.next();
                }
                '"' => in_string = !in_string,
                '\'' if !in_string => {
                    // A quote as a character literal: '"' or '\"'.
                    let mut ahead = characters.clone();
                    let first = ahead.next();
                    let quoted = first == Some('"') || (first == Some('\\') && ahead.next() == Some('"'));
                    if quoted {
                        characters = ahead;
                    }
                }
                '/' if !in_string && characters.peek() == Some(&'/') => break,
                other if !in_string => out.push(other),
                _ => {}
            }
        }
        out.push('\n');
    }
    out
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|character: char| !character.is_alphanumeric() && character != '_').any(|found| found == word)
}

#[test]
fn dependencies_point_downwards() {
    let packages = packages();
    let layer_of =
        |name: &str| packages.iter().find(|package| package.name == name).map(|package| package.layer);
    for package in &packages {
        for dependency in package.dependencies() {
            let Some(below) = layer_of(&dependency) else { continue };
            let shipped = package.manifest.get("dependencies").and_then(|table| table.get(&dependency));
            if package.layer == Layer::Actors && dependency == FOR_ACTOR_TESTS && shipped.is_none() {
                continue;
            }
            let allowed = match package.layer {
                Layer::Agent => matches!(below, Layer::Actors | Layer::Crates),
                Layer::Actors | Layer::Crates => below == Layer::Crates,
                Layer::Cluster => FOR_CLUSTER.contains(&dependency.as_str()),
                Layer::Tools => matches!(below, Layer::Crates | Layer::Tools),
            };
            assert!(
                allowed,
                "{} ({:?}) must not depend on {dependency} ({below:?})",
                package.name, package.layer
            );
        }
    }
}

/// The one crate below the actors that is about actix-web: bounds that all our servers put around it.
const HTTP: &str = "crates/http/";

#[test]
fn no_crate_below_the_actors_names_actix() {
    let crates = packages().into_iter().filter(|package| package.layer == Layer::Crates);
    for package in crates.filter(|package| package.name != "orama-http") {
        for dependency in package.dependencies() {
            assert!(!dependency.starts_with("actix"), "{} depends on {dependency}", package.name);
        }
    }
    for (path, text) in sources() {
        if path.starts_with("crates/") && !path.starts_with(HTTP) {
            let code = code(&text);
            let named = ["actix", "actix_rt", "actix_web"].iter().find(|name| has_word(&code, name));
            assert!(named.is_none(), "{path} names {named:?}");
        }
    }
}

#[test]
fn wire_types_are_never_messages() {
    for (path, text) in sources() {
        if path.starts_with("actors/") || path.starts_with("src/") {
            let code = code(&text);
            let bad = code.lines().find(|line| line.contains("impl Message for orama_protocol"));
            assert!(bad.is_none(), "{path}: {bad:?}");
        }
    }
}

#[test]
fn unsafe_code_is_where_the_list_says() {
    let mut with_unsafe = BTreeSet::new();
    for (path, text) in sources() {
        if has_word(&code(&text), "unsafe") {
            with_unsafe.insert(path);
        }
    }
    let listed: BTreeSet<String> = UNSAFE_FILES.iter().map(|path| (*path).to_owned()).collect();
    let new: Vec<_> = with_unsafe.difference(&listed).collect();
    assert!(new.is_empty(), "unsafe code outside the listed files: {new:?}");
    let stale: Vec<_> = listed.difference(&with_unsafe).collect();
    assert!(stale.is_empty(), "listed, but without unsafe code: {stale:?}");
}

#[test]
fn every_unsafe_file_explains_itself() {
    for path in UNSAFE_FILES {
        let text = std::fs::read_to_string(root().join(path)).expect("listed file");
        assert!(text.contains("SAFETY:"), "{path} has unsafe code and no SAFETY comment");
    }
}

#[test]
fn every_file_says_what_it_owns() {
    for (path, text) in sources() {
        // What a file beside the code with this name owns, the name says: its tests.
        if path.ends_with("_tests.rs") || path.ends_with("/tests.rs") {
            continue;
        }
        // Diagrams and examples in fences do not count: they are read at a glance.
        let mut in_fence = false;
        let mut head = 0;
        for line in text.lines().take_while(|line| line.starts_with("//!")) {
            if line.starts_with("//! ```") {
                in_fence = !in_fence;
            } else if !in_fence {
                head += 1;
            }
        }
        assert!((1..=8).contains(&head), "{path} begins with {head} lines of //!, not 1 to 8");
    }
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    for (path, _) in sources() {
        let stem = Path::new(&path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        for word in ["util", "utils", "common", "manager", "helper", "helpers", "misc"] {
            assert!(!stem.split('_').any(|part| part == word), "{path}: name the file after what it owns");
        }
    }
}

#[test]
fn comments_and_strings_are_not_code() {
    assert!(!has_word(&code("let a = \"unsafe\"; // unsafe\n/// unsafe\n"), "unsafe"));
    assert!(!has_word(&code("#![forbid(unsafe_code)]"), "unsafe"));
    assert!(has_word(&code("let quote = '\"'; unsafe { f() }"), "unsafe"));
    assert!(has_word(&code("let text = \"a\\\"b\"; unsafe { f() }"), "unsafe"));
}
