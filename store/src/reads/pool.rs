//! Fetches that must wait for the disk, in a queue with a bound, and the threads that take them from it.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

use super::Then;
use super::gather::Gather;

pub(super) type Job = (Box<Gather>, Then);

/// Why a fetch is not taken.
#[derive(Clone, Copy)]
pub(super) enum Refused {
    /// Enough wait already.
    Full,
    Stopped,
    /// Nobody would take it from the queue.
    NoThreads,
}

pub(super) struct Pool {
    state: Mutex<State>,
    bell: Condvar,
    most_waiting: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    started: bool,
    stopped: bool,
}

impl Pool {
    pub(super) fn new(most_waiting: usize) -> Self {
        Self { state: Mutex::default(), bell: Condvar::new(), most_waiting }
    }

    pub(super) fn start(&self) {
        self.state.lock().started = true;
    }

    /// Gives back what it does not take.
    pub(super) fn submit(&self, job: Job) -> Result<(), (Refused, Job)> {
        let mut state = self.state.lock();
        if state.waiting.len() >= self.most_waiting {
            state.waiting.retain(|(gather, _)| gather.is_awaited());
        }
        let refused = match &*state {
            State { stopped: true, .. } => Refused::Stopped,
            State { started: false, .. } => Refused::NoThreads,
            State { waiting, .. } if waiting.len() >= self.most_waiting => Refused::Full,
            State { .. } => {
                state.waiting.push_back(job);
                self.bell.notify_one();
                return Ok(());
            }
        };
        Err((refused, job))
    }

    /// Waits for a fetch; `None`: stop.
    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            self.bell.wait_while(&mut state, |state| state.waiting.is_empty() && !state.stopped);
            if state.stopped {
                return None;
            }
            if let Some(job) = state.waiting.pop_front().filter(|(gather, _)| gather.is_awaited()) {
                return Some(job);
            }
        }
    }

    /// Takes no more; returns those that wait.
    pub(super) fn stop(&self) -> VecDeque<Job> {
        let mut state = self.state.lock();
        state.stopped = true;
        self.bell.notify_all();
        std::mem::take(&mut state.waiting)
    }
}
