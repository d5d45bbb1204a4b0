//! What the two front doors, name server and broker, share in speaking to clients.

#![forbid(unsafe_code)]
