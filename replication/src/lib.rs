//! Who is primary in a broker group, what is confirmed, and from where a member follows: the rules, without a network, a
//! disk or a clock. `docs/decisions/0012-replication.md` says them in words.
//!
//! ```text
//!   what a member sees                                    what it is to do
//!   the Lease, answers to swaps  ─┐                   ┌─► Order::Swap        ask for this Lease
//!   the stream from the primary  ─┼─►    Member    ───┼─► Order::Follow, Freeze, Reign, StepDown
//!   followers, how far they are  ─┤   (election,      └─► confirmed(), may_send()
//!   the passing of time          ─┘     reign.rs)
//! ```
//!
//! The broker drives one with Kubernetes and gRPC, the simulation with everything that can go wrong.

#![forbid(unsafe_code)]

mod election;
mod history;
mod ids;
mod lease;
mod planted;
mod reign;
mod settings;

pub use election::{Doubt, Found, Member, Order, Role, Stream, SwapOutcome, Why};
pub use history::{History, Start, Way};
pub use ids::{Epoch, Has, MemberId, Now, Ordinal, StoreId};
pub use lease::{InSync, Lease, LeaseError, Seen, Version};
pub use planted::Bug;
#[cfg(feature = "planted-bugs")]
pub use planted::plant;
pub use reign::{Refusal, Standing};
pub use settings::{Mode, Settings};
