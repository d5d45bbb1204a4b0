//! `gantry store …`: a store's directory with no broker running. The store's own tools do the work; here is what they
//! found in words.

pub mod export;
pub mod import;
pub mod inspect;
mod lines;
mod progress;
pub mod verify;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod transfer_tests;

use std::path::Path;

use store::offline::{Error, Look};

use crate::failure::Failure;

/// Opens a stopped store to be looked at.
fn look(dir: &Path) -> Result<Look, Failure> {
    Look::open(dir).map_err(failed)
}

fn failed(error: Error) -> Failure {
    let text = crate::control::root_cause(&error);
    match &error {
        Error::InUse(_) => Failure::failed(error.to_string())
            .next("gantry store inspect works beside a running broker, and gantry status asks it"),
        Error::NoStore(_) => {
            Failure::not_found(error.to_string()).next("name the directory that has `commitlog` in it")
        }
        Error::NoRecord { .. } => Failure::not_found(error.to_string()),
        Error::Io { path, .. } => Failure::failed(format!("cannot read {}: {text}", path.display())),
    }
}
