//! The services of this image: profiles that loaded, and those that did not, which stay down and say why. One bad
//! file never takes another service with it.

use std::path::Path;
use std::sync::Arc;

use orama_actors::facts::Facts;
use orama_actors::service::ServicePlan;
use orama_actors::services::{RefusedService, Roster};
use orama_policy::Policy;

/// Reads the profiles of `folder`. Refused ones become alarms. Only a folder that cannot be listed is an error.
pub fn load(folder: &Path, facts: &Facts) -> std::io::Result<(Vec<Arc<Policy>>, Roster)> {
    let loaded = orama_policy::load_dir(folder)?;
    let policies: Vec<Arc<Policy>> = loaded.policies.into_iter().map(Arc::new).collect();
    let refused = loaded.refused.into_iter().map(|refused| {
        facts.raise_alarm(&format!("service {}: policy refused: {}", refused.service, refused.reason));
        RefusedService { name: refused.service, reason: refused.reason }
    });
    let roster = Roster {
        refused: refused.collect(),
        plans: policies.iter().map(|policy| Arc::new(ServicePlan::from_policy(policy))).collect(),
    };
    Ok((policies, roster))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use orama_actors::ports::Console;
    use orama_actors::registry::Registry;
    use orama_actors::service::SandboxLauncher;
    use orama_actors::service::launch::LaunchThread;
    use orama_actors::services::{ServicesActor, supervise_services};
    use orama_actors::supervise::{INTENSITY, supervise};

    use super::*;

    struct Silent;

    impl Console for Silent {
        fn line(&self, _: &str) {}
    }

    fn profile(name: &str, uid: u32, more: &str) -> Vec<u8> {
        format!(
            "version = 1\nname = \"{name}\"\nbinary = \"/opt/orama/bin/{name}\"\n{more}\n[user]\nuid = {uid}\n\
             [seccomp]\nmode = \"enforce\"\nsets = [\"base\"]\n"
        )
        .into_bytes()
    }

    /// Every kind of bad file beside the profiles that we ship: name, content, and what status begins and goes on
    /// with.
    fn bad() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
        let deep = [b"x = ".as_slice(), &b"[".repeat(100_000)].concat();
        let cut = profile("cut", 2000, "")[..60].to_vec();
        vec![
            ("empty", Vec::new(), ":1:1: ", "empty"),
            ("huge", vec![b'#'; (1 << 20) + 1], ":1:1: ", "larger than"),
            ("nested", deep, ":1:", ""),
            ("latin", b"version = 1\nname = \"caf\xe9\"\n".to_vec(), ":2:12: ", "not UTF-8"),
            ("cut", cut, ":", ""),
            ("unknown", profile("unknown", 2001, "colour = \"red\""), ":4:1: ", "colour"),
            ("limits", profile("limits", 2002, "[cgroup]\npids = 0"), ":5:8: ", "pids"),
            (
                "relative",
                profile("relative", 2003, "[filesystem]\nwritable = [\"data\"]"),
                ":5:13: ",
                "must be absolute",
            ),
            ("escape", profile("escape", 2004, "[filesystem]\nwritable = [\"/a/../etc\"]"), ":5:13: ", ".."),
            ("root", profile("root", 0, ""), ":6:7: ", "uid"),
            ("twin", profile("rqlite", 2005, ""), ":2:1: ", "already taken by"),
            (
                "same-uid",
                profile("same-uid", 1001, ""),
                ":6:1: ",
                "uid 1001 is already taken by service `rqlite`",
            ),
            ("loop-a", profile("loop-a", 2006, "after = [\"loop-b\"]"), ":4:1: ", "cycle"),
            ("loop-b", profile("loop-b", 2007, "after = [\"loop-a\"]"), ":4:1: ", "cycle"),
            ("lonely", profile("lonely", 2008, "after = [\"rqlit\"]"), ":4:1: ", "rqlite"),
            (
                "no-set",
                {
                    let text = String::from_utf8(profile("no-set", 2009, "")).unwrap();
                    text.replace("base", "bass").into_bytes()
                },
                ":9:9: ",
                "bass",
            ),
        ]
    }

    #[actix_web::test]
    async fn every_kind_of_bad_file_takes_only_its_own_service_down() {
        let folder = tempfile::tempdir().unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        fs::create_dir(folder.path().join("sets")).unwrap();
        for place in ["", "sets"] {
            for entry in fs::read_dir(shipped.join(place)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    fs::copy(&path, folder.path().join(place).join(path.file_name().unwrap())).unwrap();
                }
            }
        }
        for (name, content, _, _) in bad() {
            fs::write(folder.path().join(format!("{name}.toml")), content).unwrap();
        }
        fs::create_dir(folder.path().join("folder.toml")).unwrap();
        let registry = Registry::default();
        let (policies, roster) = load(folder.path(), &registry.facts).unwrap();
        assert_eq!(roster.plans.len(), 7, "all that we ship load: {:?}", roster.refused);
        let launcher = SandboxLauncher::new(policies, registry.facts.clone()).unwrap();
        let launch = LaunchThread::start(Arc::new(launcher), folder.path()).unwrap();
        let console: Arc<dyn Console> = Arc::new(Silent);
        let links = supervise_services(&registry, &roster, &launch, &console, |gave_up| panic!("{gave_up}"));
        let (roster, owned) = (Arc::new(roster), registry.clone());
        drop(supervise(
            "services",
            &registry.services,
            &registry.restarts,
            INTENSITY,
            |_| (),
            move |_| ServicesActor::new(owned.clone(), roster.clone(), launch.clone(), links.clone()),
        ));
        while registry.facts.services().len() < 7 + bad().len() + 1 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let services = registry.facts.services();
        for (name, _, place, what) in bad() {
            let status = &services[name];
            let begin = format!("{}{place}", folder.path().join(format!("{name}.toml")).display());
            assert_eq!(status.state, "refused", "{name}");
            assert!(
                status.reason.starts_with(&begin),
                "{name}: {:?} does not begin with {begin}",
                status.reason
            );
            assert!(status.reason.contains(what), "{name}: {}", status.reason);
        }
        assert!(services["folder"].reason.contains("not a regular file"));
        for name in orama_protocol::agent::LOG_SERVICES.iter().filter(|name| **name != "agent") {
            assert_eq!(services[*name].state, "waiting", "{name}: {}", services[*name].reason);
        }
        let alarms = registry.facts.node().alarms;
        assert_eq!(alarms.iter().filter(|alarm| alarm.contains("policy refused")).count(), bad().len() + 1);
    }
}
