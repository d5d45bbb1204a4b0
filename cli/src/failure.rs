//! How a command fails: what went wrong, what to do next, and the exit code.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | refused or failed |
//! | 2 | wrong arguments |
//! | 3 | the topic, group or resource does not exist |
//! | 4 | the server, or the Kubernetes API, cannot be reached |
//! | 5 | time ran out before everything asked for had happened |

use std::process::ExitCode;

use tonic::Code;

/// Why a command ends with an exit code other than 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    what: String,
    next: Option<String>,
    exit: Exit,
}

/// The exit codes; see the table of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Refused or failed.
    Failed = 1,
    /// Wrong arguments; clap uses the same code.
    Usage = 2,
    /// The thing does not exist.
    NotFound = 3,
    /// Nobody answers.
    Unreachable = 4,
    /// Time ran out.
    TimedOut = 5,
}

impl Failure {
    /// A failure with one of the exit codes.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { what: what.into(), next: None, exit }
    }

    /// Refused or failed.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Exit::Failed, what)
    }

    /// The arguments do not fit together.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// The thing does not exist.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, what)
    }

    /// Nobody answers.
    pub fn unreachable(what: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, what)
    }

    /// Time ran out.
    pub fn timed_out(what: impl Into<String>) -> Self {
        Self::new(Exit::TimedOut, what)
    }

    /// Adds what the user can do about it.
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// A control-plane call that failed; `doing` reads like "create topic orders on broker-a".
    pub fn from_status(doing: &str, status: &tonic::Status) -> Self {
        let exit = match status.code() {
            Code::NotFound => Exit::NotFound,
            Code::Unavailable => Exit::Unreachable,
            Code::DeadlineExceeded => Exit::TimedOut,
            _ => Exit::Failed,
        };
        Self::new(exit, format!("cannot {doing}: {}", status.message()))
    }

    /// What went wrong.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Says it on stderr and gives the exit code.
    pub fn report(self) -> ExitCode {
        eprintln!("{self}");
        ExitCode::from(self.exit as u8)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "error: {}", self.what)?;
        match &self.next {
            Some(next) => write!(f, "\n  next: {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_and_what_next() {
        let failure = Failure::not_found("topic orders does not exist").next("gantry topic create orders");
        assert_eq!(
            failure.to_string(),
            "error: topic orders does not exist\n  next: gantry topic create orders"
        );
    }

    #[test]
    fn a_status_keeps_its_message_and_chooses_the_exit_code() {
        let check = |code, exit| {
            let failure = Failure::from_status("delete topic a", &tonic::Status::new(code, "because"));
            assert_eq!(failure.exit(), exit);
            assert_eq!(failure.to_string(), "error: cannot delete topic a: because");
        };
        check(Code::NotFound, Exit::NotFound);
        check(Code::Unavailable, Exit::Unreachable);
        check(Code::DeadlineExceeded, Exit::TimedOut);
        check(Code::FailedPrecondition, Exit::Failed);
        check(Code::InvalidArgument, Exit::Failed);
    }
}
