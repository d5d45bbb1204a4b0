//! The clients of one group on one parent topic: who holds which lite topics, and which of them may have something.
//!
//! ```text
//!   arrival, redelivery ─► ready(L) ─┬► the list of each client that holds L
//!                                    └► one list for those together that hold all
//!   poll of a client ◄── next ── its own list, then the common one
//! ```
//!
//! A lite topic on a list is looked at by one poll, which takes it off first: what arrives during the look puts it on
//! again, so nothing is missed, and who has nothing ready looks at nothing. Pure but for the bells, which wake a poll each.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use access::{LiteTopic, Refusal};
use tokio::sync::Notify;

/// Wakes one poll. A ring that nobody hears is heard by the next who listens.
pub(super) type Bell = Arc<Notify>;

/// What a client holds: lite topics by name, or all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) names: HashSet<LiteTopic>,
    pub(crate) all: bool,
}

/// In the place of a name: all lite topics of a parent.
pub(super) const ALL: &str = "*";

impl Holding {
    /// The lite topics of these names.
    pub(crate) fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Refusal> {
        let mut holding = Self::default();
        for name in names {
            if name == ALL {
                holding.all = true;
            } else {
                holding.names.insert(LiteTopic::parse(name)?);
            }
        }
        Ok(holding)
    }

    /// What counts for the quota.
    pub(crate) fn len(&self) -> usize {
        self.names.len() + usize::from(self.all)
    }
}

/// Lite topics in their turn, each once.
#[derive(Debug, Default)]
struct Ready {
    turn: VecDeque<LiteTopic>,
    listed: HashSet<LiteTopic>,
}

impl Ready {
    fn put(&mut self, lite: &LiteTopic) {
        if self.listed.insert(lite.clone()) {
            self.turn.push_back(lite.clone());
        }
    }

    fn put_first(&mut self, lite: &LiteTopic) {
        if self.listed.insert(lite.clone()) {
            self.turn.push_front(lite.clone());
        }
    }

    fn take(&mut self) -> Option<LiteTopic> {
        let lite = self.turn.pop_front()?;
        self.listed.remove(&lite);
        Some(lite)
    }

    fn clear(&mut self) {
        self.turn.clear();
        self.listed.clear();
    }
}

#[derive(Debug, Default)]
struct Member {
    holds: Holding,
    ready: Ready,
    bell: Bell,
    /// Polls under way. Who holds nothing is forgotten with the last.
    polls: usize,
    /// The last poll that brought something, by its attempt id, and of which lite topics.
    last: Option<(u64, Vec<LiteTopic>)>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Board {
    members: HashMap<Arc<str>, Member>,
    holders: HashMap<LiteTopic, Vec<Arc<str>>>,
    /// How many hold all.
    of_all: usize,
    for_all: Ready,
    bell_for_all: Bell,
    closed: bool,
}

impl Board {
    /// What a client holds.
    pub(super) fn holds(&self, client: &str) -> Option<&Holding> {
        self.members.get(client).map(|member| &member.holds)
    }

    /// The client holds `wanted` from now on, and nothing else. `existing` tells all lite topics there are, and is asked if
    /// somebody begins to hold all. What is new to the client may have something, so it is ready.
    pub(super) fn hold(&mut self, client: &str, wanted: Holding, existing: impl FnOnce() -> Vec<LiteTopic>) {
        let id = self.member(client);
        let member = self.members.get_mut(&id).expect("it was made just now");
        let before = std::mem::replace(&mut member.holds, wanted);
        for lite in member.holds.names.difference(&before.names) {
            member.ready.put(lite);
            self.holders.entry(lite.clone()).or_default().push(Arc::clone(&id));
        }
        if before.all != member.holds.all {
            // Its polls must listen to other bells.
            member.bell.notify_waiters();
        }
        member.bell.notify_one();
        for lite in before.names.difference(&member.holds.names) {
            unlist(&mut self.holders, lite, &id);
        }
        match (before.all, member.holds.all) {
            (false, true) => {
                self.of_all += 1;
                if self.of_all == 1 {
                    existing().iter().for_each(|lite| self.for_all.put(lite));
                }
                self.bell_for_all.notify_one();
            }
            (true, false) => self.one_less_holds_all(),
            (true, true) | (false, false) => {}
        }
        self.tidy(&id);
    }

    /// The lite topic is no more. Who held it by name?
    pub(super) fn forget(&mut self, lite: &LiteTopic) -> Vec<Arc<str>> {
        let holders = self.holders.remove(lite).unwrap_or_default();
        for id in &holders {
            if let Some(member) = self.members.get_mut(id) {
                member.holds.names.remove(lite);
            }
            self.tidy(id);
        }
        holders
    }

    /// The lite topic may have something: who holds it hears of it.
    pub(super) fn ready(&mut self, lite: &str) {
        if let Some((lite, holders)) = self.holders.get_key_value(lite) {
            for id in holders {
                let member = self.members.get_mut(id).expect("who holds something is a member");
                member.ready.put(lite);
                member.bell.notify_one();
            }
        }
        if self.of_all > 0
            && let Ok(lite) = LiteTopic::parse(lite)
        {
            self.for_all.put(&lite);
            self.bell_for_all.notify_one();
        }
    }

    /// Whether anybody holds the lite topic.
    pub(super) fn is_held(&self, lite: &str) -> bool {
        self.of_all > 0 || self.holders.contains_key(lite)
    }

    /// A poll of the client begins. With the attempt id of the last one it looks first where that one found something: its
    /// answer may be lost.
    pub(super) fn enter(&mut self, client: &str, poll: u64) {
        let id = self.member(client);
        let member = self.members.get_mut(&id).expect("it was made just now");
        member.polls += 1;
        if let Some((last, found)) = &member.last
            && poll != 0
            && poll == *last
        {
            found.iter().rev().for_each(|lite| member.ready.put_first(lite));
        }
    }

    /// What wakes a poll of the client; to be listened to before it looks.
    pub(super) fn bells(&self, client: &str) -> (Bell, Option<Bell>) {
        match self.members.get(client) {
            Some(member) => {
                (Arc::clone(&member.bell), member.holds.all.then(|| Arc::clone(&self.bell_for_all)))
            }
            None => (Bell::default(), None),
        }
    }

    /// A poll of the client ends. `found`: where, if it brings something.
    pub(super) fn exit(&mut self, client: &str, poll: u64, found: Vec<LiteTopic>) {
        let Some((id, _)) = self.members.get_key_value(client) else { return };
        let id = Arc::clone(id);
        let member = self.members.get_mut(&id).expect("it is there");
        member.polls -= 1;
        if poll != 0 && !found.is_empty() {
            member.last = Some((poll, found));
        }
        // What is left is for the next, who may wait already.
        if !member.ready.turn.is_empty() {
            member.bell.notify_one();
        }
        if !self.for_all.turn.is_empty() {
            self.bell_for_all.notify_one();
        }
        self.tidy(&id);
    }

    /// Takes the next lite topic off the lists of the client, for a look.
    pub(super) fn next(&mut self, client: &str) -> Option<LiteTopic> {
        let member = self.members.get_mut(client)?;
        while let Some(lite) = member.ready.take() {
            if member.holds.all || member.holds.names.contains(&lite) {
                return Some(lite);
            }
        }
        if member.holds.all {
            return self.for_all.take();
        }
        if !self.for_all.turn.is_empty() {
            // It may have heard a ring that was for others, when it held all.
            self.bell_for_all.notify_one();
        }
        None
    }

    /// The group or the topic is no more.
    pub(super) fn close(&mut self) -> Vec<(LiteTopic, Vec<Arc<str>>)> {
        self.closed = true;
        self.members.values().for_each(|member| member.bell.notify_waiters());
        self.bell_for_all.notify_waiters();
        self.holders.drain().collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    fn member(&mut self, client: &str) -> Arc<str> {
        if let Some((id, _)) = self.members.get_key_value(client) {
            return Arc::clone(id);
        }
        let id: Arc<str> = client.into();
        self.members.insert(Arc::clone(&id), Member::default());
        id
    }

    fn one_less_holds_all(&mut self) {
        self.of_all -= 1;
        if self.of_all == 0 {
            self.for_all.clear();
        }
    }

    /// Forgets a member that neither holds anything nor polls.
    fn tidy(&mut self, id: &Arc<str>) {
        if self.members.get(id).is_some_and(|member| member.polls == 0 && member.holds.len() == 0) {
            self.members.remove(id);
        }
    }
}

fn unlist(holders: &mut HashMap<LiteTopic, Vec<Arc<str>>>, lite: &LiteTopic, id: &Arc<str>) {
    let Some(of_lite) = holders.get_mut(lite) else { return };
    of_lite.retain(|other| other != id);
    if of_lite.is_empty() {
        holders.remove(lite);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lite(name: &str) -> LiteTopic {
        LiteTopic::parse(name).unwrap()
    }

    /// `a b`, or `*`
    fn holding(names: &str) -> Holding {
        Holding::of(names.split_whitespace()).unwrap()
    }

    fn hold(board: &mut Board, client: &str, names: &str) {
        board.hold(client, holding(names), || vec![lite("a"), lite("b"), lite("c")]);
    }

    /// Everything that the client would look at, sorted.
    fn looks(board: &mut Board, client: &str) -> String {
        let mut seen: Vec<String> =
            std::iter::from_fn(|| board.next(client)).map(|lite| lite.to_string()).collect();
        seen.sort();
        seen.join(" ")
    }

    #[test]
    fn a_client_looks_at_what_is_ready_and_its_own_each_once() {
        let mut board = Board::default();
        hold(&mut board, "x", "a b");
        hold(&mut board, "y", "b c");
        assert_eq!(looks(&mut board, "x"), "a b", "what is new to it may have something");
        assert_eq!(looks(&mut board, "x"), "", "and then it has nothing to look at");
        looks(&mut board, "y");
        for name in ["b", "b", "c", "d"] {
            board.ready(name);
        }
        assert_eq!(looks(&mut board, "x"), "b");
        assert_eq!(looks(&mut board, "y"), "b c");
        assert!(board.is_held("a") && !board.is_held("d"));
    }

    #[test]
    fn what_is_held_again_is_not_new_and_what_is_let_go_is_not_looked_at() {
        let mut board = Board::default();
        hold(&mut board, "x", "a b");
        looks(&mut board, "x");
        board.ready("a");
        board.ready("b");
        hold(&mut board, "x", "b c");
        assert_eq!(looks(&mut board, "x"), "b c");
        hold(&mut board, "x", "b c");
        assert_eq!(looks(&mut board, "x"), "");
        board.ready("a");
        assert_eq!(looks(&mut board, "x"), "");
        hold(&mut board, "x", "");
        assert!(board.members.is_empty() && board.holders.is_empty(), "nothing is left of it");
    }

    #[test]
    fn those_that_hold_all_share_what_is_ready() {
        let mut board = Board::default();
        hold(&mut board, "x", "*");
        hold(&mut board, "y", "*");
        assert_eq!(looks(&mut board, "y"), "a b c", "what there is already");
        assert_eq!(looks(&mut board, "x"), "");
        board.ready("new");
        assert_eq!(looks(&mut board, "x"), "new");
        assert_eq!(looks(&mut board, "y"), "");
        board.ready("a");
        hold(&mut board, "x", "");
        hold(&mut board, "y", "");
        assert!(!board.is_held("a"));
        assert_eq!(looks(&mut board, "x"), "");
    }

    #[test]
    fn a_poll_with_the_attempt_id_of_the_last_looks_where_that_found_something() {
        let mut board = Board::default();
        hold(&mut board, "x", "a b");
        looks(&mut board, "x");
        board.enter("x", 7);
        board.exit("x", 7, vec![lite("a")]);
        board.enter("x", 8);
        assert_eq!(looks(&mut board, "x"), "");
        board.exit("x", 8, Vec::new());
        board.enter("x", 7);
        assert_eq!(looks(&mut board, "x"), "a");
        board.exit("x", 7, Vec::new());
    }

    #[test]
    fn who_only_polls_is_forgotten_when_it_ends() {
        let mut board = Board::default();
        board.enter("x", 0);
        board.enter("x", 0);
        hold(&mut board, "x", "");
        board.exit("x", 0, Vec::new());
        assert!(board.members.contains_key("x"));
        board.exit("x", 0, Vec::new());
        assert!(board.members.is_empty());
    }

    #[test]
    fn a_lite_topic_that_is_no_more_is_held_by_nobody() {
        let mut board = Board::default();
        hold(&mut board, "x", "a");
        hold(&mut board, "y", "a b");
        let mut holders = board.forget(&lite("a"));
        holders.sort();
        assert_eq!(holders, ["x".into(), "y".into()]);
        assert!(!board.is_held("a") && board.holds("x").is_none());
        assert_eq!(board.holds("y"), Some(&holding("b")));
    }
}
