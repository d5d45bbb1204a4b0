//! The loads of `gantry bench`, each to the topic of its name.

/// A load, and what its table is called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Scenario and topic.
    pub(crate) name: &'static str,
    /// In words.
    pub(crate) title: &'static str,
    words: &'static [&'static str],
}

const fn load(name: &'static str, title: &'static str, words: &'static [&'static str]) -> Load {
    Load { name, title, words }
}

/// The open loop whose length can be chosen.
const LONG: &str = "paced";

/// With asynchronous flush.
pub(crate) const ASYNC: [Load; 8] = [
    load("closed", "Send, 1 KiB, async flush, 4 connections × 32 in flight", &["produce"]),
    load("one", "Send, one in flight", &["produce", "--connections=1", "--in-flight=1"]),
    load(LONG, "Send at 5,000 a second, open loop", &["produce", "--rate=5000"]),
    load("paced-10000", "Send at 10,000 a second, open loop", &["produce", "--rate=10000"]),
    load("paced-20000", "Send at 20,000 a second, open loop", &["produce", "--rate=20000"]),
    load(
        "batched",
        "Send, 32 messages a request, 4 connections × 8 in flight",
        &["produce", "--batch=32", "--in-flight=8"],
    ),
    load(
        "flow",
        "End to end at 1,000 a second, open loop, from the intended time of sending to receipt",
        &["end-to-end", "--rate=1000"],
    ),
    load("flow-5000", "End to end at 5,000 a second, open loop", &["end-to-end", "--rate=5000"]),
];

/// With synchronous flush.
pub(crate) const SYNC: [Load; 4] = [
    load("sync", "Sync flush: send, 4 connections × 32 in flight", &["produce"]),
    load("sync-one", "Sync flush: send, one in flight", &["produce", "--connections=1", "--in-flight=1"]),
    load("sync-paced", "Sync flush: send at 5,000 a second, open loop", &["produce", "--rate=5000"]),
    load("sync-256", "Sync flush: send, 8 connections × 32 in flight", &["produce", "--connections=8"]),
];

impl Load {
    /// What `gantry bench` is told; `open_loop_seconds` are for the one that may be longer.
    pub(crate) fn arguments(&self, seconds: u64, open_loop_seconds: u64) -> Vec<String> {
        let seconds = if self.name == LONG { open_loop_seconds } else { seconds };
        let (scenario, more) = self.words.split_first().expect("a load has a scenario");
        let own = [*scenario, self.name].into_iter().chain(more.iter().copied()).map(str::to_owned);
        own.chain([format!("--duration={seconds}s"), "--warm-up=2s".to_owned()]).collect()
    }

    /// Whether messages are received as well.
    pub(crate) fn receives(&self) -> bool {
        self.words.first() == Some(&"end-to-end")
    }

    /// Whether the rate is given: then it is no race.
    pub(crate) fn is_paced(&self) -> bool {
        self.words.iter().any(|word| word.starts_with("--rate="))
    }

    /// The latency that is told.
    pub(crate) fn latency(&self) -> &'static str {
        if self.receives() { "end to end" } else { "send" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_goes_to_the_topic_of_its_name() {
        let [_, one, long, ..] = ASYNC;
        let expected =
            ["produce", "one", "--connections=1", "--in-flight=1", "--duration=5s", "--warm-up=2s"];
        assert_eq!(one.arguments(5, 600), expected);
        assert_eq!(long.arguments(5, 600)[3], "--duration=600s");
    }

    #[test]
    fn what_is_paced_or_received_is_known_by_its_words() {
        let named = |name| ASYNC.iter().chain(&SYNC).find(|load| load.name == name).unwrap();
        assert!(named("sync-paced").is_paced() && !named("sync-256").is_paced());
        assert_eq!((named("flow-5000").latency(), named("one").latency()), ("end to end", "send"));
    }
}
