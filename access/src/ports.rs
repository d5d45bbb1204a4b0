//! More ports for clients beside the one that a process always has, each a listener with a name.
//!
//! A client is told the addresses that brokers have at the listener of the name by which it came, so that it reaches them the
//! same way. The listener that is always there has no name here: in words it is `internal`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::listener::TlsMode;
use crate::yaml::Section;

/// In words, the listener that is always there.
pub const INTERNAL: &str = "internal";
/// As Kubernetes names ports.
const LONGEST_NAME: usize = 15;
/// A bound on listeners of one process.
pub const MOST: usize = 16;

/// The name of a listener that is not `internal`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerName(Arc<str>);

impl ListenerName {
    /// From its text; the sentence says what is wrong with it.
    ///
    /// # Errors
    /// When it is no name, or `internal`.
    pub fn parse(name: &str) -> Result<Self, String> {
        let sound = name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        if name.is_empty() || name.len() > LONGEST_NAME || !sound {
            return Err(format!("use 1 to {LONGEST_NAME} lower-case letters, digits and dashes"));
        }
        if name == INTERNAL {
            return Err(format!("the listener {INTERNAL} is clientListen: use another name"));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One more port for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: ListenerName,
    /// `listen`: where.
    pub listen: SocketAddr,
    /// `tls`: as the knob of that name. `None`: as that knob says.
    pub tls: Option<TlsMode>,
}

impl Port {
    /// The list `listeners` of a configuration.
    pub fn read_from(root: &mut Section<'_>, set: impl FnOnce(Vec<Self>)) {
        let mut ports = Vec::new();
        root.sections("listeners", &["name", "listen", "tls"], |section| {
            let (mut name, mut listen, mut tls) = (None, None, None);
            if !(section.has("name") && section.has("listen")) {
                section.problem("a listener needs both name and listen".to_owned());
            }
            section.parsed("name", ListenerName::parse, |parsed| name = Some(parsed));
            section.address("listen", |address| listen = Some(address));
            section.choice("tls", &TlsMode::NAMES, |mode| tls = Some(mode));
            ports.extend(name.zip(listen).map(|(name, listen)| Self { name, listen, tls }));
        });
        let names: BTreeSet<_> = ports.iter().map(|port| &port.name).collect();
        if names.len() < ports.len() {
            root.problem("two listeners have the same name: rename one".to_owned());
        }
        if ports.len() > MOST {
            root.problem(format!("there are {} listeners: use at most {MOST}", ports.len()));
        }
        set(ports);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn read(text: &str) -> Result<Vec<Port>, Vec<String>> {
        let mut ports = Vec::new();
        yaml::read(text, &["listeners"], |root| Port::read_from(root, |read| ports = read))?;
        Ok(ports)
    }

    #[test]
    fn a_listener_has_a_name_a_port_and_its_own_word_on_tls() {
        let ports = read(
            "listeners:\n- {name: external, listen: '0.0.0.0:8082', tls: required}\n- {name: b, listen: '0.0.0.0:1'}",
        );
        let [external, b] = &ports.unwrap()[..] else { panic!("two listeners") };
        assert_eq!((external.name.as_str(), external.listen.port()), ("external", 8082));
        assert_eq!((external.tls, b.tls), (Some(TlsMode::Required), None));
        assert_eq!(read("").unwrap(), []);
    }

    #[test]
    fn mistakes_say_what_to_change() {
        let check = |text: &str, part: &str| {
            let problems = read(text).unwrap_err();
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
        };
        check("listeners: external", "must be a list");
        check("listeners: [external]", "must be a list");
        check("listeners: [{name: external}]", "needs both name and listen");
        check("listeners: [{name: Ex, listen: '0.0.0.0:1'}]", "lower-case");
        check("listeners: [{name: internal, listen: '0.0.0.0:1'}]", "clientListen");
        check("listeners: [{name: a, listen: '0.0.0.0:1', tl: off}]", "did you mean tls?");
        check("listeners: [{name: a, listen: '0.0.0.0:1'}, {name: a, listen: '0.0.0.0:2'}]", "the same name");
    }
}
