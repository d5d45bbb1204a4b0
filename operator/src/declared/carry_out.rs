//! Carries out what is decided about what one broker has.

use proto::control::Outcome;
use tonic::Status;

use super::{
    Failure,
    decide::{Decision, Live, Rules, Told, decide},
};

/// What came of it.
#[derive(Debug)]
pub enum Done {
    /// The broker has it as declared. Perhaps somebody else had changed it, and it was put right.
    AsDeclared {
        /// What they had made of it.
        reverted: Option<String>,
    },
    /// It differs, and stays so: what the broker has.
    Drifted(String),
}

/// Makes it so with `write` where the rules allow it; `write` is told whether only what nobody else has stamped may be written. `found` is
/// what the broker has, in words.
pub async fn carry_out<W: Future<Output = Result<Outcome, Status>>>(
    (rules, live, told): (Rules, Live, Told),
    found: Option<String>,
    write: impl FnOnce(bool) -> W,
) -> Result<Done, Failure> {
    let found = found.unwrap_or_else(|| "nothing of this name".to_owned());
    match decide(rules, live, told) {
        Decision::Leave => Ok(Done::AsDeclared { reverted: None }),
        Decision::Foreign => Err(Failure::Foreign(format!("the broker has {found}"))),
        Decision::Drifted => Ok(Done::Drifted(format!("the broker has {found}"))),
        Decision::Write { only_if_unowned, reverts } => {
            Failure::check(write(only_if_unowned).await?)?;
            let reverted = reverts.then(|| format!("the broker had {found}, and was put right"));
            Ok(Done::AsDeclared { reverted })
        }
    }
}
