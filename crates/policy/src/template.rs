//! `${…}` in arguments, environment and probes. The list of variables is closed and checked when the policy is
//! parsed, so that expanding cannot fail on a node.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// What a template may refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// `${node_id}`
    NodeId,
    /// `${wg_ip}`: the node's overlay address, without prefix length.
    WgIp,
    /// `${name}`: the name of the service.
    Name,
    /// `${data}`: the first writable path of the policy.
    Data,
}

impl Variable {
    pub const ALL: [(&'static str, Variable); 4] = [
        ("node_id", Variable::NodeId),
        ("wg_ip", Variable::WgIp),
        ("name", Variable::Name),
        ("data", Variable::Data),
    ];
}

/// What a node knows about itself; the rest of the variables comes from the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variables {
    pub node_id: String,
    pub wg_ip: IpAddr,
}

/// A text with variables in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(Variable),
}

/// What is wrong with a template, at which byte of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TemplateError {
    Unclosed { at: usize },
    Unknown { at: usize, name: String },
    Nul { at: usize },
}

impl Template {
    /// `$$` is a dollar; a `$` before anything but `{` or `$` is itself.
    pub(crate) fn parse(text: &str) -> Result<Template, TemplateError> {
        if let Some(at) = text.find('\0') {
            return Err(TemplateError::Nul { at });
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut at = 0;
        while let Some(step) = text[at..].find('$') {
            plain.push_str(&text[at..at + step]);
            let dollar = at + step;
            let rest = &text[dollar + 1..];
            if let Some(inner) = rest.strip_prefix('{') {
                let Some(length) = inner.find('}') else {
                    return Err(TemplateError::Unclosed { at: dollar });
                };
                let name = &inner[..length];
                let Some((_, variable)) = Variable::ALL.iter().find(|(known, _)| *known == name) else {
                    return Err(TemplateError::Unknown { at: dollar, name: name.to_owned() });
                };
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(Piece::Variable(*variable));
                at = dollar + 2 + length + 1;
            } else {
                plain.push('$');
                at = dollar + 1 + usize::from(rest.starts_with('$'));
            }
        }
        plain.push_str(&text[at..]);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Template { pieces })
    }

    pub fn uses(&self, variable: Variable) -> bool {
        self.pieces.contains(&Piece::Variable(variable))
    }

    /// `data` is `None` only for policies that do not use `${data}`: `check` sees to that.
    pub(crate) fn expand(&self, variables: &Variables, name: &str, data: Option<&PathBuf>) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Variable(Variable::NodeId) => out.push_str(&variables.node_id),
                Piece::Variable(Variable::WgIp) => out.push_str(&variables.wg_ip.to_string()),
                Piece::Variable(Variable::Name) => out.push_str(name),
                Piece::Variable(Variable::Data) => {
                    out.push_str(&data.map(|path| path.to_string_lossy()).unwrap_or_default());
                }
            }
        }
        out
    }
}

impl fmt::Display for Template {
    /// As it was written.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.write_str(&text.replace("${", "$${"))?,
                Piece::Variable(variable) => {
                    let name = Variable::ALL.iter().find(|(_, known)| known == variable);
                    write!(out, "${{{}}}", name.map_or("", |(name, _)| name))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let variables = Variables { node_id: "n1".to_owned(), wg_ip: "10.0.0.4".parse().expect("address") };
        let data = PathBuf::from("/data/x");
        let template = Template::parse(text).expect("template");
        assert_eq!(template.expand(&variables, "x", Some(&data)), expect);
    }

    #[test]
    fn variables_are_filled_in() {
        check("", "");
        check("plain", "plain");
        check("${wg_ip}:4001", "10.0.0.4:4001");
        check("-n=${node_id}/${name}:${data}!", "-n=n1/x:/data/x!");
        check("$$ $x $${name}", "$ $x ${name}");
    }

    #[test]
    fn what_is_not_a_variable_is_refused() {
        assert_eq!(Template::parse("a${wg"), Err(TemplateError::Unclosed { at: 1 }));
        assert_eq!(
            Template::parse("${HOME}"),
            Err(TemplateError::Unknown { at: 0, name: "HOME".to_owned() })
        );
        assert_eq!(Template::parse("a\0"), Err(TemplateError::Nul { at: 1 }));
    }
}
