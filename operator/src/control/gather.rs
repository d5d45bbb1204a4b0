//! Questions that come at the same time go in one call, as the broker's own writes and flushes do.

use std::sync::Mutex;

use tokio::sync::oneshot;
use tonic::Status;

/// So many questions go in one call. With the longest names and owners they stay far below the 4 MiB of a message.
const MOST_TOGETHER: usize = 500;

type Answered<A> = oneshot::Sender<Result<A, Status>>;

/// Gathers questions of one kind to one broker while a call is under way. A question that comes alone waits for nothing.
pub(super) struct Gather<Q, A> {
    /// Those that are in no call yet, oldest first. No more than there are callers.
    waiting: Mutex<Vec<(Q, Answered<A>)>>,
    /// Held by whoever calls for all who wait.
    pen: tokio::sync::Mutex<()>,
}

impl<Q, A> Default for Gather<Q, A> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), pen: tokio::sync::Mutex::default() }
    }
}

impl<Q, A> Gather<Q, A> {
    /// The answer to `question`. `call` is given at most [`MOST_TOGETHER`] questions and answers each, in their order.
    ///
    /// # Errors
    /// What `call` fails with, for all who were in it. `UNAVAILABLE` where the caller of a call was dropped during it.
    pub(super) async fn ask<C, F>(&self, question: Q, call: C) -> Result<A, Status>
    where
        C: Fn(Vec<Q>) -> F,
        F: Future<Output = Result<Vec<A>, Status>>,
    {
        let (answered, mut answer) = oneshot::channel();
        self.lock().push((question, answered));
        loop {
            let pen = tokio::select! {
                biased;
                answer = &mut answer => {
                    return answer.unwrap_or_else(|_| Err(Status::unavailable("the call was given up")));
                }
                pen = self.pen.lock() => pen,
            };
            let (questions, callers): (Vec<Q>, Vec<Answered<A>>) = self.take().into_iter().unzip();
            // Nobody waits: the answer came just now.
            if questions.is_empty() {
                continue;
            }
            let asked = questions.len();
            match call(questions).await {
                Ok(answers) if answers.len() == asked => {
                    callers
                        .into_iter()
                        .zip(answers)
                        .for_each(|(caller, answer)| drop(caller.send(Ok(answer))));
                }
                outcome => {
                    let wrong = || Status::internal(format!("{asked} questions have not as many answers"));
                    let failure = outcome.err().unwrap_or_else(wrong);
                    callers.into_iter().for_each(|caller| drop(caller.send(Err(failure.clone()))));
                }
            }
            drop(pen);
        }
    }

    fn take(&self) -> Vec<(Q, Answered<A>)> {
        let mut waiting = self.lock();
        let together = waiting.len().min(MOST_TOGETHER);
        waiting.drain(..together).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Q, Answered<A>)>> {
        self.waiting.lock().expect("no panic while the lock is held")
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::{join, join_all};
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn what_comes_during_a_call_goes_together_in_the_next() {
        let gather = Gather::<usize, usize>::default();
        let sizes = Mutex::new(Vec::new());
        let (begun, go_on) = (Notify::new(), Notify::new());
        let call = |questions: Vec<usize>| async {
            sizes.lock().unwrap().push(questions.len());
            if questions == [0] {
                begun.notify_one();
                go_on.notified().await;
            }
            Ok(questions.into_iter().map(|question| question * 2).collect())
        };
        let first = gather.ask(0, &call);
        let others = async {
            begun.notified().await;
            let others = join_all((1..=MOST_TOGETHER + 3).map(|question| gather.ask(question, &call)));
            let free = async {
                // The others are polled first, and are all waiting by then.
                go_on.notify_one();
            };
            join(others, free).await.0
        };
        let (first, others) = join(first, others).await;
        assert_eq!(first.unwrap(), 0);
        let others: Vec<usize> = others.into_iter().map(Result::unwrap).collect();
        assert_eq!(others, (1..=MOST_TOGETHER + 3).map(|question| question * 2).collect::<Vec<_>>());
        assert_eq!(*sizes.lock().unwrap(), [1, MOST_TOGETHER, 3]);
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_who_were_in_the_call_and_to_no_other() {
        let gather = Gather::<usize, usize>::default();
        let calls = AtomicUsize::new(0);
        let call = |questions: Vec<usize>| {
            ready(match calls.fetch_add(1, Ordering::Relaxed) {
                0 => Err(Status::unavailable("not now")),
                1 => Ok(Vec::new()),
                _ => Ok(questions),
            })
        };
        assert_eq!(gather.ask(1, &call).await.unwrap_err().message(), "not now");
        assert_eq!(gather.ask(2, &call).await.unwrap_err().code(), tonic::Code::Internal);
        assert_eq!(gather.ask(3, &call).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn who_is_dropped_during_a_call_leaves_nobody_waiting() {
        let gather = Gather::<usize, usize>::default();
        let mut dropped = Box::pin(gather.ask(1, |_| pending()));
        assert!(futures::poll!(&mut dropped).is_pending());
        let mut waits = Box::pin(gather.ask(2, |questions| ready(Ok(questions))));
        assert!(futures::poll!(&mut waits).is_pending());
        drop(dropped);
        assert_eq!(waits.await.unwrap(), 2);
    }
}
