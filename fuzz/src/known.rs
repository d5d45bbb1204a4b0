//! What exists on the server that is tried: names to call it with, and what it gave out.

/// Of each kind so many are remembered; a newer one takes the place of an older one.
const MOST: usize = 12;

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Known {
    pub(crate) topics: Vec<String>,
    pub(crate) groups: Vec<String>,
    /// Lite topics below the topics of type LITE.
    pub(crate) lites: Vec<String>,
    /// About now on the server's clock, Unix seconds: what is to be delivered later, is that much later.
    pub(crate) now_seconds: i64,
    pub(crate) receipts: Vec<Given>,
    pub(crate) transactions: Vec<Given>,
    pub(crate) recalls: Vec<Given>,
    pub(crate) ids: Vec<Given>,
    told: usize,
}

/// A handle or an id, and what it was given out for.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// As clients get it.
    pub token: String,
    /// The topic, as the caller named it.
    pub topic: String,
    /// The group, where it is about one.
    pub group: String,
    /// The lite topic, where it is of one.
    pub lite: Option<String>,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A receipt handle.
    Receipt,
    /// A transaction id.
    Transaction,
    /// A recall handle.
    Recall,
    /// A message id.
    Id,
}

impl Known {
    /// Names that exist, and about now; nothing was given out yet. A topic takes messages of the type that it is named for.
    #[must_use]
    pub fn new(topics: &[&str], groups: &[&str], lites: &[&str], now_seconds: i64) -> Self {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let (topics, groups, lites) = (own(topics), own(groups), own(lites));
        let [receipts, transactions, recalls, ids] = [const { Vec::new() }; 4];
        Self { topics, groups, lites, now_seconds, receipts, transactions, recalls, ids, told: 0 }
    }

    /// The server gave this out.
    pub fn given(&mut self, kind: Kind, given: Given) {
        if given.token.is_empty() {
            return;
        }
        let told = self.told;
        self.told += 1;
        let list = match kind {
            Kind::Receipt => &mut self.receipts,
            Kind::Transaction => &mut self.transactions,
            Kind::Recall => &mut self.recalls,
            Kind::Id => &mut self.ids,
        };
        match list.len() {
            ..MOST => list.push(given),
            _ => list[told % MOST] = given,
        }
    }

    pub(crate) fn of(&self, kind: Kind) -> &[Given] {
        match kind {
            Kind::Receipt => &self.receipts,
            Kind::Transaction => &self.transactions,
            Kind::Recall => &self.recalls,
            Kind::Id => &self.ids,
        }
    }
}
