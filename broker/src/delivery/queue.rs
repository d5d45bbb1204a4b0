//! One group on one queue: how far it is, what it holds, what falls due.
//!
//! ```text
//!      done, or in flights     ahead: done or in flight before its turn (handles from before a crash)
//!   ├──────────────────────────┤ · · ─ ─ ·
//!   start                      cursor                             end of the queue
//! ```
//!
//! Below the cursor an offset is in `flights`, or it is done. `due` lists when each flight
//! becomes visible again. For an ordered group a lane (message group) lists its first flight only, so
//! that nothing overtakes it; a flight with attempt 0 waits behind its lane and was never delivered.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::offsets::Progress;

/// How many acknowledged deliveries with a changed handle are remembered, to refuse their older handles.
const REMEMBERED_HANDLES: usize = 64;

/// Unix milliseconds.
pub(super) type Millis = i64;

/// A message that was delivered and not acknowledged, or that waits behind its lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flight {
    /// How often it was delivered; 0: it waits behind its lane.
    pub(super) attempt: u32,
    /// Which delivery this is, unique in the group on the topic.
    pub(super) stamp: u64,
    /// How often the handle of this delivery was exchanged.
    pub(super) change: u16,
    /// When it may be delivered again.
    pub(super) visible_at: Millis,
    /// The message group, of ordered groups.
    pub(super) lane: u64,
    /// Which poll holds it (its attempt id), of ordered groups; 0: none.
    pub(super) poll: u64,
    /// Who keeps it by being online.
    pub(super) renewal: Option<Renewal>,
    /// The next delivery repeats this attempt's number.
    pub(super) suspended: bool,
}

/// A delivery that stays invisible while its client is online.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Renewal {
    pub(super) client: Arc<str>,
    /// Not beyond this.
    pub(super) until: Millis,
}

/// What an alignment took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Aligned {
    /// How many messages were neither done nor will be.
    pub(super) messages: u64,
    /// Which polls held them.
    pub(super) polls: Vec<u64>,
}

#[derive(Clone, Debug, Default)]
struct Lane {
    offsets: BTreeSet<u64>,
    /// Its entry in `due`.
    listed: Option<(Millis, u64)>,
}

/// The state of one group on one queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    cursor: u64,
    flights: BTreeMap<u64, Flight>,
    due: BTreeSet<(Millis, u64)>,
    ahead: BTreeSet<u64>,
    /// `Some` for ordered groups.
    lanes: Option<HashMap<u64, Lane>>,
    /// The end of the queue when this state was loaded: handles from before are for offsets below it.
    loaded_end: u64,
    changed: VecDeque<(u64, u64)>,
    /// Something is different from what was last written to the disk.
    touched: bool,
    /// And from what was last noted.
    unnoted: bool,
}

impl Queue {
    pub(super) fn new(ordered: bool) -> Self {
        Self { lanes: ordered.then(HashMap::new), ..Self::default() }
    }

    /// A queue as it was kept, which now reaches from `bounds.start` to `bounds.end`. What lies beyond the
    /// end was lost with the tail of the log, and other messages will take its offsets. What lies before the start is
    /// forgotten, and told, by the next poll.
    pub(super) fn load(
        cursor: u64,
        flights: impl IntoIterator<Item = (u64, Flight)>,
        ahead: impl IntoIterator<Item = u64>,
        bounds: &Range<u64>,
        ordered: bool,
    ) -> Self {
        let mut queue = Self {
            cursor: cursor.min(bounds.end),
            ahead: ahead.into_iter().filter(|offset| *offset < bounds.end).collect(),
            loaded_end: bounds.end,
            ..Self::new(ordered)
        };
        for (offset, flight) in flights {
            if offset < bounds.end {
                queue.insert(offset, flight);
            }
        }
        queue.touched = false;
        queue.unnoted = false;
        queue
    }

    /// Whether something changed since the last call.
    pub(super) fn take_touched(&mut self) -> bool {
        std::mem::take(&mut self.touched)
    }

    /// Whether something changed since the last call.
    pub(super) fn take_unnoted(&mut self) -> bool {
        std::mem::take(&mut self.unnoted)
    }

    /// Whether something changed since it was last taken to be written.
    pub(super) fn is_touched(&self) -> bool {
        self.touched
    }

    /// It is to be written, and noted.
    pub(super) fn touch(&mut self) {
        self.touched = true;
        self.unnoted = true;
    }

    /// The next offset that was never looked at.
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The first offset that is not done.
    pub(super) fn progress(&self) -> u64 {
        self.flights.keys().next().copied().unwrap_or(self.cursor).min(self.cursor)
    }

    /// How far the group is with the message at `offset`.
    pub(super) fn progress_of(&self, offset: u64) -> Progress {
        match self.flights.get(&offset) {
            Some(Flight { attempt: 0, .. }) => Progress::Blocked,
            Some(flight) => Progress::InFlight {
                attempt: flight.attempt,
                visible_at: flight.visible_at,
                client: flight.renewal.as_ref().map(|renewal| Arc::clone(&renewal.client)),
            },
            None if offset >= self.cursor && !self.ahead.contains(&offset) => Progress::NotYet,
            None => Progress::Done,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn flight(&self, offset: u64) -> Option<&Flight> {
        self.flights.get(&offset)
    }

    pub(super) fn flights(&self) -> impl Iterator<Item = (u64, &Flight)> {
        self.flights.iter().map(|(offset, flight)| (*offset, flight))
    }

    pub(super) fn ahead(&self) -> impl ExactSizeIterator<Item = u64> {
        self.ahead.iter().copied()
    }

    /// Whether `offset` existed when this state was loaded.
    pub(super) fn existed_at_load(&self, offset: u64) -> bool {
        offset < self.loaded_end
    }

    /// The flight that falls due first, and when.
    pub(super) fn first_due(&self) -> Option<(Millis, u64)> {
        self.due.first().copied()
    }

    /// The flights that may be delivered now if `offset`, which is due, is delivered: itself, and in
    /// an ordered group what follows in its lane up to the first that is away.
    pub(super) fn run(&self, offset: u64, now: Millis, max: usize) -> Vec<u64> {
        let flight = self.flights.get(&offset).expect("a listed offset is in flight");
        match &self.lanes {
            None => vec![offset],
            Some(lanes) => {
                let lane = lanes.get(&flight.lane).expect("a flight of an ordered group is in its lane");
                let is_due =
                    |offset: &u64| self.flights.get(offset).is_some_and(|flight| flight.visible_at <= now);
                lane.offsets.iter().copied().take_while(is_due).take(max).collect()
            }
        }
    }

    /// Whether a new message of `lane` must wait: something of the lane is away or waiting that was not
    /// delivered just now, under `stamp`.
    pub(super) fn lane_is_blocked(&self, lane: u64, stamp: u64) -> bool {
        let Some(lanes) = &self.lanes else { return false };
        let last = lanes.get(&lane).and_then(|lane| lane.offsets.last());
        last.is_some_and(|last| self.flights.get(last).is_none_or(|flight| flight.stamp != stamp))
    }

    /// Moves the cursor over `offset`, which is at it or behind it. False: it is done or in flight already.
    pub(super) fn advance_over(&mut self, offset: u64) -> bool {
        debug_assert!(offset >= self.cursor, "the cursor only grows");
        self.touch();
        self.cursor = offset + 1;
        while self.ahead.first().is_some_and(|first| *first < offset) {
            self.ahead.pop_first();
        }
        !self.ahead.remove(&offset)
    }

    /// Adds or replaces a flight.
    pub(super) fn insert(&mut self, offset: u64, flight: Flight) {
        self.remove(offset);
        self.touch();
        let (visible_at, lane) = (flight.visible_at, flight.lane);
        self.flights.insert(offset, flight);
        match &mut self.lanes {
            None => {
                self.due.insert((visible_at, offset));
            }
            Some(lanes) => {
                lanes.entry(lane).or_default().offsets.insert(offset);
                self.relist(lane);
            }
        }
    }

    /// Adds a flight at or behind the cursor: the cursor will pass over it.
    pub(super) fn insert_ahead(&mut self, offset: u64, flight: Flight) {
        self.ahead.insert(offset);
        self.insert(offset, flight);
    }

    /// Marks an offset at or behind the cursor as done.
    pub(super) fn done_ahead(&mut self, offset: u64) {
        self.touch();
        self.ahead.insert(offset);
    }

    /// Whether an offset at or behind the cursor is done or in flight.
    pub(super) fn is_ahead(&self, offset: u64) -> bool {
        self.ahead.contains(&offset)
    }

    /// Takes a flight away: it is done.
    pub(super) fn remove(&mut self, offset: u64) -> Option<Flight> {
        let flight = self.flights.remove(&offset)?;
        self.touch();
        match &mut self.lanes {
            None => {
                self.due.remove(&(flight.visible_at, offset));
            }
            Some(lanes) => {
                if let Some(lane) = lanes.get_mut(&flight.lane) {
                    lane.offsets.remove(&offset);
                }
                self.relist(flight.lane);
            }
        }
        Some(flight)
    }

    /// Takes an acknowledged flight away, and remembers it if older handles of it are about.
    pub(super) fn acknowledge(&mut self, offset: u64) -> Option<Flight> {
        let flight = self.remove(offset)?;
        if flight.change > 0 {
            if self.changed.len() == REMEMBERED_HANDLES {
                self.changed.pop_front();
            }
            self.changed.push_back((offset, flight.stamp));
        }
        Some(flight)
    }

    /// Whether the delivery was acknowledged lately, with a handle that had been exchanged.
    pub(super) fn was_changed(&self, offset: u64, stamp: u64) -> bool {
        self.changed.contains(&(offset, stamp))
    }

    /// Changes a flight; the lists follow.
    pub(super) fn update(&mut self, offset: u64, change: impl FnOnce(&mut Flight)) {
        let Some(flight) = self.flights.get_mut(&offset) else { return };
        (self.touched, self.unnoted) = (true, true);
        let before = flight.visible_at;
        change(flight);
        let (after, lane) = (flight.visible_at, flight.lane);
        if self.lanes.is_some() {
            self.relist(lane);
        } else if before != after {
            self.due.remove(&(before, offset));
            self.due.insert((after, offset));
        }
    }

    /// Forgets what lies below `start`: retention has deleted it.
    pub(super) fn align(&mut self, start: u64) -> Aligned {
        let mut aligned = Aligned::default();
        if start > self.cursor {
            let ahead = self.ahead.range(self.cursor..start).count() as u64;
            aligned.messages = start - self.cursor - ahead;
            self.touch();
            self.cursor = start;
        }
        if self.flights.keys().next().is_some_and(|first| *first < start) {
            let gone: Vec<u64> = self.flights.range(..start).map(|(offset, _)| *offset).collect();
            for flight in gone.into_iter().filter_map(|offset| self.remove(offset)) {
                aligned.messages += 1;
                aligned.polls.push(flight.poll);
            }
        }
        while self.ahead.first().is_some_and(|first| *first < self.cursor) {
            self.ahead.pop_first();
        }
        aligned
    }

    /// Starts anew at `offset`.
    pub(super) fn reset(&mut self, offset: u64) {
        let ordered = self.lanes.is_some();
        *self = Self { cursor: offset, touched: true, unnoted: true, ..Self::new(ordered) };
    }

    /// Whether the queue keeps the order of lanes.
    pub(super) fn is_ordered(&self) -> bool {
        self.lanes.is_some()
    }

    /// Changes whether the queue keeps the order of lanes.
    pub(super) fn set_ordered(&mut self, ordered: bool) {
        if ordered == self.lanes.is_some() {
            return;
        }
        let flights = std::mem::take(&mut self.flights);
        self.due.clear();
        self.lanes = ordered.then(HashMap::new);
        for (offset, flight) in flights {
            self.insert(offset, flight);
        }
    }

    fn relist(&mut self, key: u64) {
        let Some(lane) = self.lanes.as_mut().and_then(|lanes| lanes.get_mut(&key)) else { return };
        let head = lane.offsets.first().map(|head| {
            let flight = self.flights.get(head).expect("what is in a lane is in flight");
            (flight.visible_at, *head)
        });
        if head != lane.listed {
            if let Some(listed) = lane.listed.take() {
                self.due.remove(&listed);
            }
            self.due.extend(head);
            lane.listed = head;
        }
        if head.is_none() {
            self.lanes.as_mut().expect("it has lanes").remove(&key);
        }
    }
}
