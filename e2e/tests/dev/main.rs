//! `gantry dev` as an application's developer meets it: with the official clients, with their mistakes, and through sudden
//! deaths.

mod clients;
mod deaths;
mod mistakes;
