//! `gantry dev` as an application's developer meets it: with the official clients, with their mistakes, through sudden
//! deaths, with transactions, with messages for later, with lite topics, and when they look for a message.

mod clients;
mod deaths;
mod delay;
mod features;
mod find;
mod lite;
mod mistakes;
mod transactions;
