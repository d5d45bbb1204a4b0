//! Where clients reach this broker that come by another listener than `internal`: read from a file, and again when it changes.
//!
//! The file is YAML, a list of `host:port` for each listener, by the ordinals of members: `external: ["10.0.0.1:30081", ""]`.
//! Nothing between the quotes: not known yet. `{node}` in a host is the address of the machine that the broker runs on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use access::{ListenerName, route};
use proto::control;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the file is looked at: an address of a load balancer takes minutes to come.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// By listener.
pub(crate) type Addresses = BTreeMap<ListenerName, control::Endpoints>;

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) addresses: Addresses,
    /// What is wrong with entries, a sentence each. They count as not known.
    wrong: Vec<String>,
}

/// The file, and who reads it.
#[derive(Clone, Debug)]
pub(crate) struct AddressFile {
    pub(crate) path: PathBuf,
    pub(crate) ordinal: u32,
    /// The machine's address.
    pub(crate) node: Option<String>,
}

impl AddressFile {
    /// What it says now; the sentence says why it says nothing.
    pub(crate) fn read(&self) -> Result<Listed, String> {
        let said = |error: String| format!("{}: {error}", self.path.display());
        let text = std::fs::read_to_string(&self.path).map_err(|error| said(error.to_string()))?;
        self.parse(&text).map_err(said)
    }

    fn parse(&self, text: &str) -> Result<Listed, String> {
        let entries: Option<BTreeMap<String, serde_yaml::Value>> = serde_yaml::from_str(text)
            .map_err(|error| format!("must be a list of addresses for each listener: {error}"))?;
        let mut listed = Listed::default();
        for (name, addresses) in entries.unwrap_or_default() {
            match self.entry(&name, addresses) {
                Ok(Some((name, endpoints))) => drop(listed.addresses.insert(name, endpoints)),
                Ok(None) => {}
                Err(sentence) => listed.wrong.push(format!("the listener {name:?}: {sentence}")),
            }
        }
        Ok(listed)
    }

    /// Where this broker is reached by one listener; nothing where that is not known yet.
    fn entry(
        &self,
        name: &str,
        addresses: serde_yaml::Value,
    ) -> Result<Option<(ListenerName, control::Endpoints)>, String> {
        let name = ListenerName::parse(name)?;
        let addresses: Vec<String> = serde_yaml::from_value(addresses)
            .map_err(|error| format!("must be a list of addresses: {error}"))?;
        match addresses.into_iter().nth(self.ordinal as usize).filter(|address| !address.is_empty()) {
            Some(address) => Ok(Some((name, self.endpoints(&address)?))),
            None => Ok(None),
        }
    }

    fn endpoints(&self, address: &str) -> Result<control::Endpoints, String> {
        let wrong = || format!("the address {address:?} must be host:port, such as 10.0.0.1:30081");
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let mut host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.contains("{node}") {
            let node = self.node.as_deref().ok_or("{node} is not known: set the variable NODE_IP")?;
            host = host.replace("{node}", node);
        }
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(route::endpoints(&host, port))
    }

    /// Looks at the file until the stop, and tells what changed.
    pub(crate) async fn keep_fresh(self, told: watch::Sender<Addresses>, stop: CancellationToken) {
        let mut complaints = Vec::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        while stop.run_until_cancelled(look.tick()).await.is_some() {
            let this = self.clone();
            let read = tokio::task::spawn_blocking(move || this.read()).await;
            let wrong = match read.expect("reading addresses does not panic") {
                Ok(Listed { addresses, wrong }) => {
                    if told.send_if_modified(|now| std::mem::replace(now, addresses.clone()) != addresses) {
                        tracing::info!(?addresses, "clients of other listeners are told new addresses");
                    }
                    wrong
                }
                Err(error) => vec![format!("{error}: the last addresses stay")],
            };
            for problem in wrong.iter().filter(|problem| !complaints.contains(*problem)) {
                tracing::warn!(problem, "an address of a listener cannot be told");
            }
            complaints = wrong;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(ordinal: u32, node: Option<&str>, text: &str) -> Result<Listed, String> {
        AddressFile { path: PathBuf::new(), ordinal, node: node.map(str::to_owned) }.parse(text)
    }

    fn parse(ordinal: u32, node: Option<&str>, text: &str) -> Vec<(String, String, u32)> {
        let address = |(name, endpoints): (ListenerName, control::Endpoints)| {
            let control::Address { host, port } = endpoints.addresses.into_iter().next().unwrap();
            (name.to_string(), host, port)
        };
        listed(ordinal, node, text).unwrap().addresses.into_iter().map(address).collect()
    }

    #[test]
    fn each_member_takes_its_own_address() {
        let text = "a: ['h0:1', 'h1:2']\nb: ['{node}:3', '']\nc: ['[fd00::1]:4']";
        let own = |name: &str, host: &str, port| (name.to_owned(), host.to_owned(), port);
        assert_eq!(
            parse(0, Some("10.0.0.9"), text),
            [own("a", "h0", 1), own("b", "10.0.0.9", 3), own("c", "fd00::1", 4)]
        );
        assert_eq!(parse(1, None, text), [own("a", "h1", 2)], "what is not known is left out");
        assert_eq!(parse(0, None, ""), []);
    }

    #[test]
    fn a_mistake_says_what_to_change_and_withholds_its_own_address_only() {
        let check = |wrong: &str, part: &str| {
            let listed = listed(0, None, &format!("before: ['h:1']\n{wrong}\nz: ['h:2']")).unwrap();
            let told: Vec<_> = listed.addresses.keys().map(ListenerName::as_str).collect();
            assert_eq!(told, ["before", "z"], "{wrong}");
            let [problem] = &listed.wrong[..] else { panic!("{wrong}: {:?}", listed.wrong) };
            assert!(problem.contains(part), "{part}: {problem}");
        };
        check("c: h:1", "list of addresses");
        check("c: ['h']", "the listener \"c\": the address \"h\" must be host:port");
        check("c: ['h:0']", "host:port");
        check("c: [':1']", "host:port");
        check("C: ['h:1']", "lower-case");
        check("c: ['{node}:1']", "NODE_IP");
        assert!(listed(0, None, "- a").unwrap_err().contains("list of addresses"));
    }
}
