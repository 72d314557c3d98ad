//! A patch that cannot exceed a baseline: where the baseline allows a call on conditions, those conditions are the
//! rule, however few arguments a rule of ours would look at.

use orama_policy::{Comparison, Condition, Observed, Policy, Rule, Verdict, patch};

/// TOML to append to `policy` for calls that `baseline` allows.
pub fn within(policy: &Policy, baseline: &Policy, wanted: &[Observed]) -> String {
    let mut free = Vec::new();
    let mut bound: Vec<(&Rule, Vec<&Observed>)> = Vec::new();
    for seen in wanted {
        match baseline.seccomp.judge(&seen.call) {
            Verdict::Allowed(rule) if !rule.conditions.is_empty() => {
                match bound.iter_mut().find(|(known, _)| std::ptr::eq(*known, rule)) {
                    Some((_, calls)) => calls.push(seen),
                    None => bound.push((rule, vec![seen])),
                }
            }
            _ => free.push(seen.clone()),
        }
    }
    let mut text = patch(policy, &free);
    for (rule, calls) in bound {
        text.push('\n');
        let mut names: Vec<String> = Vec::new();
        for seen in calls {
            text.push_str(&format!("\n# {} × {}", seen.count, seen.call.describe().replace('\n', " ")));
            let name = format!("{:?}", seen.call.name());
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let conditions: Vec<String> = rule.conditions.iter().map(condition).collect();
        text.push_str(&format!(
            "\n[[seccomp.allow]]\nsyscalls = [{}]\narguments = [{}]\nwhy = {}\n",
            names.join(", "),
            conditions.join(", "),
            toml::Value::from(
                format!("as the baseline has it: {}", rule.why).chars().take(300).collect::<String>()
            ),
        ));
    }
    text
}

fn condition(condition: &Condition) -> String {
    let (operator, mask) = match condition.comparison {
        Comparison::Eq => ("eq", None),
        Comparison::Ne => ("ne", None),
        Comparison::Lt => ("lt", None),
        Comparison::Le => ("le", None),
        Comparison::Gt => ("gt", None),
        Comparison::Ge => ("ge", None),
        Comparison::MaskedEq(mask) => ("masked_eq", Some(mask)),
    };
    let mask = mask.map(|mask| format!(", mask = {mask:#x}")).unwrap_or_default();
    let bits = if condition.wide { ", bits = 64" } else { "" };
    format!(
        "{{ index = {}, op = \"{operator}\"{mask}, value = {:#x}{bits} }}",
        condition.index, condition.value
    )
}

#[cfg(test)]
mod tests {
    use orama_policy::{Call, Sets};

    use super::*;

    const HEAD: &str =
        "version = 1\nname = \"x\"\nbinary = \"/x\"\nuser = { uid = 7000 }\n[seccomp]\nmode = \"enforce\"\n";

    fn policy(rules: &str) -> Policy {
        let text = format!("{HEAD}{rules}");
        Policy::parse("test", &text, &Sets::builtin()).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn what_the_baseline_has_on_conditions_comes_with_them() {
        let baseline = policy("sets = [\"base\"]\n");
        let bare = policy("");
        // prlimit64 of the own process, clone of a thread, and a plain call.
        let wanted: Vec<Observed> =
            [(302, [0, 3, 0, 9, 0, 0]), (56, [0x3d_0f00, 0, 0, 0, 0, 0]), (9, [0; 6])]
                .map(|(number, args)| Observed { call: Call::new(number, args), count: 2 })
                .into();
        let text = within(&bare, &baseline, &wanted);
        let widened = policy(&text);
        for seen in &wanted {
            assert!(matches!(widened.seccomp.judge(&seen.call), Verdict::Allowed(_)), "{text}");
        }
        let others = Call::new(302, [1, 3, 0, 9, 0, 0]);
        assert!(matches!(widened.seccomp.judge(&others), Verdict::Refused { .. }), "{text}");
        let forks = Call::new(56, [17, 0, 0, 0, 0, 0]);
        assert!(matches!(widened.seccomp.judge(&forks), Verdict::Refused { .. }), "{text}");
    }
}
