//! `gantry client …`: consumers, as the brokers that they are connected to know them, and what they say when they are asked.

pub mod list;
pub mod reconnect;
pub mod stack;
pub mod verify;

use tonic::{Code, Response, Status};

use crate::control::{Broker, Control, chosen};
use crate::failure::Failure;

/// The answer of the first of these brokers that has what is asked for, and the broker's name; `doing` reads like "ask a client".
async fn ask_first<T>(
    control: &Control,
    brokers: &[String],
    doing: &str,
    call: impl AsyncFn(&mut Broker) -> Result<Response<T>, Status>,
) -> Result<(String, T), Failure> {
    let mut refusals = Vec::new();
    for mut broker in chosen(control.primaries().await?, brokers)? {
        match call(&mut broker).await {
            Ok(answer) => return Ok((broker.label, answer.into_inner())),
            Err(status) if status.code() == Code::NotFound => {
                refusals.push(format!("{}: {}", broker.label, status.message()));
            }
            Err(status) => {
                return Err(Failure::from_status(&format!("{doing} over {}", broker.label), &status));
            }
        }
    }
    Err(not_connected(&refusals))
}

fn not_connected(refusals: &[String]) -> Failure {
    Failure::not_found(refusals.join("; "))
        .next("gantry client list GROUP shows which clients are connected, and to which brokers")
}
