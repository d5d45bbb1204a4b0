//! What a connected consumer is asked over its Telemetry stream. Each question has a nonce, and the answer brings it back.
//!
//! | client | its stack | verify a message |
//! |---|---|---|
//! | Java | OK, all threads | a push consumer: what its listener said; others: NOT_IMPLEMENTED |
//! | Go | OK, all goroutines | NOT_IMPLEMENTED |
//! | Node | OK, "mock stack" | NOT_IMPLEMENTED, with the command itself in the place of the result |
//! | C++, C# | as their versions can | NOT_IMPLEMENTED, UNSUPPORTED |
//! | Python, Rust | silence | silence |
//!
//! Nobody waits longer than [`ANSWER_WITHIN`], and no more than [`MOST_QUESTIONS`] wait. A question ends with the stream that it
//! went over, and with whoever asked. An answer that nobody waits for, or from another than was asked, is dropped.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use access::client::{Language, Version};
use access::{GroupName, TopicName, status};
use parking_lot::Mutex;
use proto::v2::telemetry_command::Command;
use proto::v2::{
    Code, DigestType, PrintThreadStackTraceCommand, ReconnectEndpointsCommand, Status, TelemetryCommand,
    ThreadStackTrace, VerifyMessageCommand, VerifyMessageResult,
};
use store::Record;
use tokio::sync::oneshot;

use super::connections::Clients;
use super::convert;

/// How long a client may take to answer. The listener of a push consumer runs meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Questions to all clients that wait for an answer.
const MOST_QUESTIONS: usize = 32;
/// Of what a client says to its refusal.
const LONGEST_SENTENCE: usize = 200;

/// A consumer of a group, as far as it told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Consumer {
    pub(crate) id: String,
    pub(crate) language: Language,
    pub(crate) version: Version,
    /// It has a Telemetry stream.
    pub(crate) connected: bool,
}

impl fmt::Display for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {} ({} {})", self.id, self.language, self.version)
    }
}

/// Why a question has no answer; a sentence for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("no client {client} consumes for group {group} at this broker now")]
    NotHere { group: GroupName, client: String },
    #[error(
        "{0} has no Telemetry stream at this broker now: clients open theirs again by themselves, try again"
    )]
    NotConnected(Consumer),
    #[error("{MOST_QUESTIONS} questions to clients wait for their answers already: try again")]
    TooMany,
    #[error("{0} does not read what it is told: try again, or look at its process")]
    Full(Consumer),
    #[error("the stream of {0} ended before it answered: try again")]
    Gone(Consumer),
    #[error(
        "{0} did not answer within {s} s: {why}", s = ANSWER_WITHIN.as_secs(), why = silence(.0.language)
    )]
    Silent(Consumer),
    #[error("{client} cannot do this: it answered {answer}")]
    Refused { client: Consumer, answer: String },
}

fn silence(language: Language) -> &'static str {
    match language {
        Language::Python | Language::Rust => "clients in this language never do",
        Language::Other => "it may be stuck, or its client never does",
        _ => "it may be stuck, or its listener takes longer",
    }
}

/// What a client said in answer to a question.
type Said = (Option<Status>, Command);

/// The questions that wait for their answers. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Questions {
    /// Answers to a process that was here before are none.
    life: u64,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    count: u64,
    /// By nonce: who was asked.
    asked: HashMap<String, (String, oneshot::Sender<Said>)>,
}

/// A question that waits; it ends when this is dropped.
struct Question<'a> {
    questions: &'a Questions,
    nonce: String,
    answer: oneshot::Receiver<Said>,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.questions.waiting.lock().asked.remove(&self.nonce);
    }
}

impl Default for Questions {
    fn default() -> Self {
        Self { life: RandomState::new().hash_one(0_u8), waiting: Arc::default() }
    }
}

impl Questions {
    /// A nonce that no command had before.
    fn nonce(&self, waiting: &mut Waiting) -> String {
        waiting.count += 1;
        format!("{:016x}-{}", self.life, waiting.count)
    }

    /// A question to this client. `None`: too many wait.
    fn begin(&self, client: &str) -> Option<Question<'_>> {
        let mut waiting = self.waiting.lock();
        if waiting.asked.len() >= MOST_QUESTIONS {
            return None;
        }
        let (sender, answer) = oneshot::channel();
        let nonce = self.nonce(&mut waiting);
        waiting.asked.insert(nonce.clone(), (client.to_owned(), sender));
        Some(Question { questions: self, nonce, answer })
    }

    /// What a client says in return to a command.
    pub(super) fn answered(&self, client: &str, TelemetryCommand { status, command }: TelemetryCommand) {
        let nonce = match &command {
            Some(
                Command::ThreadStackTrace(ThreadStackTrace { nonce, .. })
                | Command::VerifyMessageResult(VerifyMessageResult { nonce })
                | Command::VerifyMessageCommand(VerifyMessageCommand { nonce, .. }),
            ) => nonce,
            _ => "",
        };
        let mut waiting = self.waiting.lock();
        let was_asked = waiting.asked.get(nonce).is_some_and(|(asked, _)| asked == client);
        let asked = if was_asked { waiting.asked.remove(nonce) } else { None };
        drop(waiting);
        match (asked, command) {
            // An error: whoever asked has just gone.
            (Some((_, waits)), Some(command)) => drop(waits.send((status, command))),
            _ => tracing::debug!(client, "a client answers what nobody waits for"),
        }
    }
}

impl Clients {
    /// What the threads of a client do now, in its own words.
    pub(crate) async fn stack_of(&self, group: &GroupName, client: &str) -> Result<String, Unanswered> {
        let print = |nonce| Command::PrintThreadStackTraceCommand(PrintThreadStackTraceCommand { nonce });
        match self.ask(group, client, print).await? {
            (_, (Some(status), Command::ThreadStackTrace(ThreadStackTrace { thread_stack_trace, .. })))
                if status.code == Code::Ok as i32 =>
            {
                Ok(thread_stack_trace.unwrap_or_default())
            }
            (client, (status, _)) => Err(refused(client, status)),
        }
    }

    /// Whether the client's listener takes this message, which it is given for that.
    pub(crate) async fn verify(
        &self,
        group: &GroupName,
        client: &str,
        topic: &TopicName,
        record: Record,
    ) -> Result<bool, Unanswered> {
        let mut message = convert::stored(record, topic.to_resource(), DigestType::Md5);
        if let Some(system) = &mut message.system_properties {
            // Listeners look at it, and none expects 0.
            system.delivery_attempt = Some(1);
        }
        let verify =
            |nonce| Command::VerifyMessageCommand(VerifyMessageCommand { nonce, message: Some(message) });
        match self.ask(group, client, verify).await? {
            (_, (Some(status), Command::VerifyMessageResult(_))) if status.code == Code::Ok as i32 => {
                Ok(true)
            }
            (_, (Some(status), Command::VerifyMessageResult(_)))
                if status.code == Code::FailedToConsumeMessage as i32 =>
            {
                Ok(false)
            }
            (client, (status, _)) => Err(refused(client, status)),
        }
    }

    /// Tells consumers of a group, or one of them, to connect anew; answers who was told.
    ///
    /// A broker never does so by itself. When it stops or another is the primary, it ends streams and connections, and every
    /// client connects anew. Told before that, Node opens its stream once more to the process that ends, and listens no more to
    /// errors of the old one; Java (up to 5.2.1) and Go only note that they were told.
    pub(crate) fn reconnect(&self, group: &GroupName, client: Option<&str>) -> Vec<String> {
        let consumers = self.consumers_of(group).into_iter().map(|consumer| consumer.id);
        let meant = consumers.filter(|id| client.is_none_or(|client| client == id));
        let told = meant.filter(|id| {
            let nonce = self.questions.nonce(&mut self.questions.waiting.lock());
            let command = Command::ReconnectEndpointsCommand(ReconnectEndpointsCommand { nonce });
            self.reach(group, id).is_ok_and(|(_, commands)| commands.try_send(told_so(command)).is_ok())
        });
        told.collect()
    }

    async fn ask(
        &self,
        group: &GroupName,
        client: &str,
        question: impl FnOnce(String) -> Command,
    ) -> Result<(Consumer, Said), Unanswered> {
        let (consumer, commands) = self.reach(group, client)?;
        let mut asked = self.questions.begin(client).ok_or(Unanswered::TooMany)?;
        if commands.try_send(told_so(question(asked.nonce.clone()))).is_err() {
            return Err(Unanswered::Full(consumer));
        }
        tokio::select! {
            biased;
            Ok(said) = &mut asked.answer => Ok((consumer, said)),
            () = commands.closed() => Err(Unanswered::Gone(consumer)),
            () = tokio::time::sleep(ANSWER_WITHIN) => Err(Unanswered::Silent(consumer)),
        }
    }
}

fn told_so(command: Command) -> Box<TelemetryCommand> {
    Box::new(TelemetryCommand { status: Some(status::ok()), command: Some(command) })
}

fn refused(client: Consumer, status: Option<Status>) -> Unanswered {
    let Status { code, message } = status.unwrap_or_default();
    let code = Code::try_from(code).map_or_else(|_| code.to_string(), |code| code.as_str_name().to_owned());
    let sentence: String = message.chars().take(LONGEST_SENTENCE).collect();
    let answer = if sentence.is_empty() { code } else { format!("{code}: {sentence}") };
    Unanswered::Refused { client, answer }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use access::client::ClientIdentity;
    use access::telemetry::Commands;
    use futures::future::{join_all, poll_immediate};

    use super::super::connections::Said;
    use super::*;

    fn group() -> GroupName {
        GroupName::parse("g").unwrap()
    }

    /// A consumer of group `g`, connected.
    fn consumer(clients: &Clients, id: &str, language: Language) -> Commands {
        let identity = ClientIdentity { id: id.to_owned(), language, ..ClientIdentity::default() };
        let now = Instant::now();
        clients.said(now, &identity, Said { group: Some(group()), ..Said::default() });
        clients.attach(now, &identity).0
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_answer_is_given_up_with_what_is_known_of_its_kind() {
        let clients = Clients::new(9);
        for (language, why) in [
            (Language::Python, "clients in this language never do"),
            (Language::Rust, "clients in this language never do"),
            (Language::Other, "it may be stuck, or its client never does"),
            (Language::Java, "it may be stuck, or its listener takes longer"),
        ] {
            let _stream = consumer(&clients, "a", language);
            let silent = clients.stack_of(&group(), "a").await.unwrap_err();
            assert_eq!(
                silent.to_string(),
                format!("client a ({language} 0.0.0) did not answer within 5 s: {why}")
            );
        }
        assert!(clients.questions.waiting.lock().asked.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_questions_wait_and_they_end_with_whoever_asked() {
        let clients = Clients::new(99);
        let names: Vec<String> = (0..=MOST_QUESTIONS).map(|n| n.to_string()).collect();
        let streams: Vec<_> = names.iter().map(|name| consumer(&clients, name, Language::Java)).collect();
        let group = group();
        let mut asked: Vec<_> = Vec::new();
        for name in &names[..MOST_QUESTIONS] {
            let mut question = Box::pin(clients.stack_of(&group, name));
            assert_eq!(poll_immediate(&mut question).await, None, "it waits");
            asked.push(question);
        }
        let more = clients.stack_of(&group, &names[MOST_QUESTIONS]);
        assert_eq!(more.await, Err(Unanswered::TooMany));
        asked.pop();
        let mut more = Box::pin(clients.stack_of(&group, &names[MOST_QUESTIONS]));
        assert_eq!(poll_immediate(&mut more).await, None, "there is room again");
        drop(streams);
        let gone = join_all(asked).await;
        assert!(gone.iter().all(|answer| matches!(answer, Err(Unanswered::Gone(_)))), "{gone:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_not_told_more() {
        let clients = Clients::new(9);
        let _stream = consumer(&clients, "a", Language::Java);
        while clients.reconnect(&group(), None) == ["a"] {}
        assert!(matches!(clients.stack_of(&group(), "a").await, Err(Unanswered::Full(_))));
    }
}
