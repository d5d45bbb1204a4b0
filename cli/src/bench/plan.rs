//! What a load is: the arguments, checked.

use std::time::Duration;

use proto::v2;

use super::cpu;
use super::schedule::Schedule;
use super::stamp::Stamp;
use crate::args::{BenchCommand, DelayLoad, FlowLoad, LoadArgs, ReceiveArgs, SendArgs};
use crate::failure::Failure;

/// Each has a list of what it holds, and polls go to one topic each.
const MOST_RECEIVED_TOPICS: u64 = 1000;

/// A load.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The name of the scenario.
    pub(crate) scenario: &'static str,
    /// The topics, in turn.
    pub(crate) topics: Vec<String>,
    /// Clients that send, and as many that receive.
    pub(crate) connections: usize,
    /// Stop after so many messages.
    pub(crate) count: Option<u64>,
    /// How long is measured, unless there is a count.
    pub(crate) duration: Duration,
    /// The server's process, whose CPU time is told.
    pub(crate) pid: Option<u32>,
    /// What is sent; nothing when a backlog is consumed.
    pub(crate) sending: Option<Sending>,
    /// How it is received; not at all if only sending counts.
    pub(crate) receiving: Option<Receiving>,
}

/// How messages are sent.
#[derive(Debug, Clone)]
pub(crate) struct Sending {
    /// What they are.
    pub(crate) kind: Kind,
    /// When they are.
    pub(crate) schedule: Schedule,
    /// Sends under way on each connection, at most.
    pub(crate) in_flight: usize,
    /// Bytes of a body.
    pub(crate) bytes: usize,
}

/// What messages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing special.
    Normal,
    /// In order within a message group: one for each send under way.
    Fifo,
    /// For later.
    Delay(Duration),
    /// Visible when their transaction is committed.
    Transaction,
}

/// How messages are received.
#[derive(Debug, Clone)]
pub(crate) struct Receiving {
    /// The consumer group.
    pub(crate) group: String,
    /// Polls under way on each connection.
    pub(crate) polls: usize,
    /// Messages of an answer, at most.
    pub(crate) batch: i32,
    /// How long they stay hidden.
    pub(crate) invisible: Duration,
    /// How long to wait for the last ones.
    pub(crate) patience: Duration,
}

impl Kind {
    /// As the protocol calls it.
    pub(crate) fn message_type(self) -> v2::MessageType {
        match self {
            Self::Normal => v2::MessageType::Normal,
            Self::Fifo => v2::MessageType::Fifo,
            Self::Delay(_) => v2::MessageType::Delay,
            Self::Transaction => v2::MessageType::Transaction,
        }
    }

    /// As `gantry topic create --type` calls it.
    pub(crate) fn topic_type(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Fifo => "fifo",
            Self::Delay(_) => "delay",
            Self::Transaction => "transaction",
        }
    }

    /// How long after its sending a message is due.
    pub(crate) fn delay(self) -> Duration {
        if let Self::Delay(delay) = self { delay } else { Duration::ZERO }
    }
}

impl Plan {
    /// Checks the arguments of a scenario other than `idle`.
    pub(crate) fn of(command: &BenchCommand) -> Result<Self, Failure> {
        let flow = |scenario, flow: &FlowLoad, kind| {
            Self::new(scenario, &flow.load, Some((&flow.send, kind)), Some(&flow.receive))
        };
        match command {
            BenchCommand::Produce(args) => {
                Self::new("produce", &args.load, Some((&args.send, Kind::Normal)), None)
            }
            BenchCommand::Consume(args) => Self::new("consume", &args.load, None, Some(&args.receive)),
            BenchCommand::EndToEnd(args) => flow("end-to-end", args, Kind::Normal),
            BenchCommand::Fifo(args) => flow("fifo", args, Kind::Fifo),
            BenchCommand::Transaction(args) => flow("transaction", args, Kind::Transaction),
            BenchCommand::Delay(DelayLoad { load, send, receive, delay, send_only }) => {
                let receive = (!send_only).then_some(receive);
                Self::new("delay", load, Some((send, Kind::Delay(*delay))), receive)
            }
            BenchCommand::Idle(_) => Err(Failure::usage("idle clients follow no plan")),
        }
    }

    /// Clients that do nothing: only where the topic is counts.
    pub(crate) fn idle(topic: &str) -> Self {
        Self {
            scenario: "idle",
            topics: vec![topic.to_owned()],
            connections: 0,
            count: None,
            duration: Duration::ZERO,
            pid: None,
            sending: None,
            receiving: None,
        }
    }

    fn new(
        scenario: &'static str,
        load: &LoadArgs,
        send: Option<(&SendArgs, Kind)>,
        receive: Option<&ReceiveArgs>,
    ) -> Result<Self, Failure> {
        let LoadArgs { topic, topics, connections, duration, count, report: _, pid, client: _ } = load;
        let topics = match topics {
            Some(many) if receive.is_some() && *many > MOST_RECEIVED_TOPICS => {
                return Err(Failure::usage(format!("--topics {many} are too many to receive from"))
                    .next(format!("take at most {MOST_RECEIVED_TOPICS}, or `gantry bench produce`")));
            }
            Some(many) => (1..=*many).map(|number| format!("{topic}-{number}")).collect(),
            None => vec![topic.clone()],
        };
        if duration.is_zero() && count.is_none() {
            return Err(Failure::usage("--duration 0 measures nothing").next("take a second at least"));
        }
        let sending = send.map(|(send, kind)| sending(send, kind, *duration, *count)).transpose()?;
        let receiving = receive.map(|receive| Receiving {
            group: receive.group.clone(),
            polls: receive.polls as usize,
            batch: receive.receive_batch.cast_signed(),
            invisible: receive.invisible,
            patience: receive.patience,
        });
        if pid.is_some_and(|pid| cpu::time(pid).is_none()) {
            return Err(Failure::usage("--pid names no process of this machine"));
        }
        let (connections, count, duration, pid) = (*connections as usize, *count, *duration, *pid);
        Ok(Self { scenario, topics, connections, count, duration, pid, sending, receiving })
    }
}

fn sending(send: &SendArgs, kind: Kind, duration: Duration, count: Option<u64>) -> Result<Sending, Failure> {
    let SendArgs { rate, in_flight, size, batch, warm_up } = *send;
    if size < Stamp::LEN as u64 {
        return Err(Failure::usage(format!("--size {size} is too small")).next(format!(
            "a body begins with a stamp of {} bytes, by which messages are told apart",
            Stamp::LEN
        )));
    }
    if kind == Kind::Transaction && batch > 1 {
        return Err(Failure::usage("a transaction has one message").next("leave --batch out"));
    }
    let bytes = usize::try_from(size).ok().filter(|bytes| *bytes <= 64 << 20);
    let bytes = bytes.ok_or_else(|| Failure::usage("--size is larger than any server takes"))?;
    let schedule = Schedule { rate, batch: batch.into(), count, warm_up, duration };
    Ok(Sending { kind, schedule, in_flight: in_flight as usize, bytes })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn plan(arguments: &str) -> Result<Plan, Failure> {
        let cli = Cli::try_parse_from(["gantry", "bench"].into_iter().chain(arguments.split_whitespace()));
        let Command::Bench { command } = cli.unwrap().command else { panic!("this is bench") };
        Plan::of(&command)
    }

    #[test]
    fn a_scenario_sends_receives_or_does_both() {
        let check = |arguments, sends, receives| {
            let plan = plan(arguments).unwrap();
            assert_eq!((plan.sending.is_some(), plan.receiving.is_some()), (sends, receives), "{arguments}");
        };
        check("produce t", true, false);
        check("consume t", false, true);
        check("end-to-end t", true, true);
        check("fifo t", true, true);
        check("transaction t", true, true);
        check("delay t", true, true);
        check("delay t --send-only", true, false);
    }

    #[test]
    fn topics_are_numbered_from_1() {
        assert_eq!(plan("produce t --topics 3").unwrap().topics, ["t-1", "t-2", "t-3"]);
        assert_eq!(plan("produce t").unwrap().topics, ["t"]);
    }

    #[test]
    fn what_cannot_be_is_said_with_what_to_change() {
        let check = |arguments, expected: &str| {
            let failure = plan(arguments).unwrap_err().to_string();
            assert!(failure.contains(expected), "{failure}");
        };
        check("produce t --size 31", "stamp of 32 bytes");
        check("produce t --size 1Gi", "larger than any server takes");
        check("produce t --duration 0s", "measures nothing");
        check("transaction t --batch 2", "one message");
        check("consume t --pid 4294967295", "no process");
        check("consume t --topics 5000", "at most 1000");
    }
}
