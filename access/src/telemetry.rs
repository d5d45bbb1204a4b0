//! The Telemetry stream of a client: its settings answered, commands brought to it, ended at a stop.

use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use proto::v2::telemetry_command::Command;
use proto::v2::{Settings, TelemetryCommand};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::client::{ClientIdentity, Language};
use crate::status::Refusal;

/// What the server has to say to a client. In boxes: a channel keeps room for 32, and thousands of clients hear nothing.
pub type Commands = mpsc::Receiver<Box<TelemetryCommand>>;

/// Who answers for the server.
pub trait Desk: Send + Sync + 'static {
    /// The answer to a client's settings. A refusal ends the stream, but that of a client in Node.
    fn settings(&self, client: &ClientIdentity, settings: Settings) -> Result<TelemetryCommand, Refusal>;

    /// What a client says in return to a command of the server.
    fn reported(&self, client: &ClientIdentity, command: TelemetryCommand);
}

/// The server's side of one stream. It ends with the client's side, at `stop`, and after a refusal; dropping it tells
/// nobody but `on_end`, which is dropped with it. When a newer stream takes its commands it goes on answering: a client
/// may have several, and would open anew what is closed.
pub fn session<D: Desk, Inbound, OnEnd: Send>(
    client: ClientIdentity,
    inbound: Inbound,
    commands: Commands,
    desk: Arc<D>,
    stop: CancellationToken,
    on_end: OnEnd,
) -> impl Stream<Item = Result<TelemetryCommand, Status>> + Send
where
    Inbound: Stream<Item = Result<TelemetryCommand, Status>> + Send + Unpin,
{
    let session = Session { client, inbound, commands, desk, stop, ended: false, _on_end: on_end };
    stream::unfold(session, Session::next)
}

struct Session<D, Inbound, OnEnd> {
    client: ClientIdentity,
    inbound: Inbound,
    commands: Commands,
    desk: Arc<D>,
    stop: CancellationToken,
    ended: bool,
    _on_end: OnEnd,
}

impl<D: Desk, Inbound, OnEnd: Send> Session<D, Inbound, OnEnd>
where
    Inbound: Stream<Item = Result<TelemetryCommand, Status>> + Send + Unpin,
{
    async fn next(mut self) -> Option<(Result<TelemetryCommand, Status>, Self)> {
        while !self.ended {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                Some(command) = self.commands.recv() => return Some((Ok(*command), self)),
                said = self.inbound.next() => match said {
                    // Ended or broken by the client: whoever it is has a newer stream, or will have one.
                    None | Some(Err(_)) => return None,
                    Some(Ok(said)) => {
                        if let Some(answer) = self.hear(said) {
                            self.ended = answer.is_err();
                            return Some((answer, self));
                        }
                    }
                },
            }
        }
        None
    }

    fn hear(&self, said: TelemetryCommand) -> Option<Result<TelemetryCommand, Status>> {
        match said.command {
            Some(Command::Settings(settings)) => {
                Some(self.desk.settings(&self.client, settings).or_else(|refusal| {
                    tracing::info!(client = self.client.id, %refusal, "settings refused");
                    match self.client.language {
                        // At the end of the stream it would open the next one, silently and for ever.
                        Language::Node => {
                            Ok(TelemetryCommand { status: Some(refusal.status(&self.client)), command: None })
                        }
                        _ => Err(refusal.on_stream()),
                    }
                }))
            }
            Some(_) => {
                self.desk.reported(&self.client, said);
                None
            }
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use proto::v2::settings::PubSub;
    use proto::v2::{Code, Publishing, ThreadStackTrace};

    use super::*;
    use crate::filter::Filters;
    use crate::settings::{self, Facts, GroupFacts};

    #[derive(Default)]
    struct Answers {
        reports: Mutex<Vec<TelemetryCommand>>,
    }

    impl Desk for Answers {
        fn settings(&self, client: &ClientIdentity, settings: Settings) -> Result<TelemetryCommand, Refusal> {
            let facts = Facts { max_body_bytes: 9, group: GroupFacts::default() };
            Ok(settings::answer(client, settings, &facts, &Filters::new(9))?.command)
        }
        fn reported(&self, _: &ClientIdentity, command: TelemetryCommand) {
            self.reports.lock().push(command);
        }
    }

    fn says(settings: Settings) -> Result<TelemetryCommand, Status> {
        Ok(TelemetryCommand { status: None, command: Some(Command::Settings(settings)) })
    }

    fn producer() -> Settings {
        Settings { pub_sub: Some(PubSub::Publishing(Publishing::default())), ..Settings::default() }
    }

    type Said = Result<TelemetryCommand, Status>;

    fn open(
        inbound: impl Stream<Item = Said> + Send + Unpin,
    ) -> (
        impl Stream<Item = Said> + Unpin,
        mpsc::Sender<Box<TelemetryCommand>>,
        CancellationToken,
        Arc<Answers>,
    ) {
        let (commands, to_client) = mpsc::channel(1);
        let (desk, stop) = (Arc::new(Answers::default()), CancellationToken::new());
        let session = session(ClientIdentity::default(), inbound, to_client, desk.clone(), stop.clone(), ());
        (Box::pin(session), commands, stop, desk)
    }

    #[tokio::test]
    async fn every_settings_is_answered_and_reports_are_passed_on() {
        let trace = TelemetryCommand {
            status: None,
            command: Some(Command::ThreadStackTrace(ThreadStackTrace::default())),
        };
        let said = [says(producer()), Ok(trace.clone()), Ok(TelemetryCommand::default()), says(producer())];
        let (session, _commands, _stop, desk) = open(stream::iter(said));
        let answers: Vec<Said> = session.collect().await;
        assert_eq!(answers.len(), 2);
        assert!(answers.into_iter().all(|answer| answer.unwrap().status.unwrap().code() == Code::Ok));
        assert_eq!(*desk.reports.lock(), [trace]);
    }

    #[tokio::test]
    async fn bad_settings_end_the_stream_with_an_error() {
        let (session, _commands, _stop, _desk) =
            open(stream::iter([says(Settings::default()), says(producer())]));
        let answers: Vec<Said> = session.collect().await;
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].as_ref().unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[tokio::test]
    async fn a_client_in_node_is_told_what_is_bad_in_its_settings() {
        let client = ClientIdentity { language: Language::Node, ..ClientIdentity::default() };
        let (_commands, to_client) = mpsc::channel(1);
        let said = stream::iter([says(Settings::default()), says(producer())]);
        let desk = Arc::new(Answers::default());
        let session = session(client, said, to_client, desk, CancellationToken::new(), ());
        let answers: Vec<TelemetryCommand> = session.map(Result::unwrap).collect().await;
        let codes: Vec<Code> = answers.iter().map(|answer| answer.status.as_ref().unwrap().code()).collect();
        assert_eq!(codes, [Code::BadRequest, Code::Ok]);
        assert_eq!(answers[0].command, None);
    }

    #[tokio::test]
    async fn commands_reach_the_client_and_a_stop_ends_its_stream() {
        let (mut session, commands, stop, _desk) = open(stream::pending());
        commands.send(Box::default()).await.unwrap();
        assert_eq!(session.next().await.unwrap().unwrap(), TelemetryCommand::default());
        stop.cancel();
        assert!(session.next().await.is_none());
    }

    #[tokio::test]
    async fn a_session_whose_commands_go_elsewhere_still_answers() {
        let (session, commands, _stop, _desk) = open(stream::iter([says(producer())]));
        drop(commands);
        assert_eq!(session.collect::<Vec<Said>>().await.len(), 1);
    }
}
