//! `orama node refusals`: what the profiles of a node's services did not allow, and the patches that would.

use orama_protocol::refusals::{Refusal, Refusals};

use super::Node;
use crate::failure::Failure;
use crate::gateway::{self, CallError, Gateway};
use crate::output::Output;
use crate::text::{printable, printable_lines, table};

/// Longest call or rule that is shown, characters; `--json` has all of it.
const WORDS: usize = 160;

pub fn run(node: &Node, service: Option<&str>, gateway: &Gateway, output: &Output) -> Result<(), Failure> {
    let answer = ask(node, service, gateway);
    let (body, refusals) =
        answer.map_err(|error| error.into_failure(&format!("cannot get the refusals of {node}")))?;
    output.pass(&body, || render(&refusals));
    Ok(())
}

/// The answer as received, and read.
fn ask(node: &Node, service: Option<&str>, gateway: &Gateway) -> Result<(Vec<u8>, Refusals), CallError> {
    let service = service.map(|name| format!("&service={name}")).unwrap_or_default();
    let path = format!("/v1/node/refusals?{}{service}", node.query());
    let body = gateway.get(&path)?;
    let refusals = gateway::decode(&path, &body)?;
    Ok((body, refusals))
}

fn render(answer: &Refusals) -> String {
    if answer.refusals.is_empty() {
        return "no system call was refused\n".to_owned();
    }
    let rows: Vec<Vec<String>> = answer.refusals.iter().map(row).collect();
    let mut shown = table(&["SERVICE", "COUNT", "ACTION", "LAST SEEN", "PROFILE LINE", "CALL"], &rows);
    for (service, calls) in &answer.unlisted {
        shown.push_str(&format!(
            "{}: {calls} more calls of kinds that are not listed\n",
            printable(service, 32)
        ));
    }
    for (service, patch) in &answer.patches {
        shown.push_str(&format!(
            "\n# What would allow them, for the end of the profile of {}:\n",
            printable(service, 32)
        ));
        shown.push_str(printable_lines(patch).trim_end());
        shown.push('\n');
    }
    shown
}

fn row(refusal: &Refusal) -> Vec<String> {
    vec![
        printable(&refusal.service, 32),
        refusal.count.to_string(),
        printable(&refusal.action, 32),
        printable(&refusal.last_seen, 32),
        refusal.rule.as_deref().map_or_else(|| "none names it".to_owned(), |rule| printable(rule, WORDS)),
        printable(&refusal.call, WORDS),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_and_the_patches() {
        let refusal = Refusal {
            service: "rqlite".into(),
            syscall: "socket".into(),
            number: 41,
            args: [16, 3, 0, 0, 0, 0],
            call: "socket(AF_NETLINK, SOCK_RAW, 0)\u{1b}[31m".into(),
            action: "killed".into(),
            count: 3,
            first_seen: "2026-01-01T00:00:00Z".into(),
            last_seen: "2026-01-01T00:00:09Z".into(),
            rule: None,
            patch: String::new(),
        };
        let answer = Refusals {
            refusals: vec![refusal],
            unlisted: [("rqlite".to_owned(), 7)].into(),
            patches: [("rqlite".to_owned(), "[[seccomp.allow]]\nsyscalls = [\"socket\"]\n".to_owned())]
                .into(),
        };
        assert_eq!(
            render(&answer),
            "\
SERVICE  COUNT  ACTION  LAST SEEN             PROFILE LINE   CALL
rqlite   3      killed  2026-01-01T00:00:09Z  none names it  socket(AF_NETLINK, SOCK_RAW, 0) [31m
rqlite: 7 more calls of kinds that are not listed

# What would allow them, for the end of the profile of rqlite:
[[seccomp.allow]]
syscalls = [\"socket\"]
"
        );
        assert_eq!(render(&Refusals::default()), "no system call was refused\n");
    }
}
