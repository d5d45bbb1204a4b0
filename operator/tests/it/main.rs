//! What the operator makes, and how it speaks with the API server.

mod golden;
mod server;
