//! What the two front doors, name server and broker, share in speaking to clients.
//!
//! ```text
//!   TCP ─► listener (cap, TLS or plaintext by the first byte) ─► serving ─► client  (who calls)
//!                                                                        names   (topic, group: parsed once)
//!                                                                        settings (the answer on Telemetry)
//!                                                                        filter  (what a consumer wants, understood)
//!                                                                        status  (code and sentence)
//!                                                                        route   (queues as clients want them)
//!                                                                        ports   (listeners by name, and what each leads to)
//!                                                                        telemetry (a client's stream)
//!                                                                        transaction_id, recall_handle (which broker keeps it)
//!                                                                        hop     (to the front door that must answer)
//!   http: /livez /readyz /metrics      logging: levels that change while running
//!   yaml: configuration files          vital: the tasks of a process
//! ```
//!
//! Nothing here knows a topic, a route or a message. Everything that depends on the language of a
//! client is in [`client::Language`], [`settings`] and [`status`], with its reason.

#![forbid(unsafe_code)]

pub mod certificate;
pub mod client;
pub mod filter;
pub mod hop;
pub mod http;
pub mod listener;
pub mod logging;
pub mod names;
pub mod ports;
pub mod recall_handle;
pub mod route;
pub mod serving;
pub mod settings;
pub mod status;
pub mod telemetry;
pub mod transaction_id;
pub mod vital;
pub mod yaml;

pub use client::ClientIdentity;
pub use names::{GroupName, LiteTopic, TopicName};
pub use ports::ListenerName;
pub use recall_handle::RecallHandle;
pub use status::Refusal;
pub use transaction_id::TransactionId;
