//! A file a command: gather, then print.

pub mod bench;
pub mod check;
pub mod client;
pub mod completions;
pub mod consume;
pub mod dev;
pub mod failover;
pub mod group;
pub mod man;
pub mod message;
pub mod operate;
pub mod produce;
pub mod status;
pub mod store;
pub mod topic;
pub mod version;

use crate::failure::Failure;

/// What somebody manages is changed where it is declared, or the manager would change it back. `what` is typed behind `gantry`.
pub(crate) fn refuse_owned(what: &str, name: &str, owner: &str, kind: &str) -> Result<(), Failure> {
    match owner {
        "" => Ok(()),
        owner => Err(Failure::failed(format!("{what} {name} is managed by {owner}"))
            .next(format!("change the {kind} resource instead: kubectl gantry {what} -n NAMESPACE …"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_managed_is_refused() {
        assert!(refuse_owned("topic", "orders", "", "Topic").is_ok());
        let refused = refuse_owned("topic", "orders", "shop/orders/1", "Topic").unwrap_err().to_string();
        assert!(refused.contains("topic orders is managed by shop/orders/1"), "{refused}");
        assert!(refused.contains("change the Topic resource instead: kubectl gantry topic"), "{refused}");
    }
}
