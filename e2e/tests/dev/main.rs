//! `gantry dev` as an application's developer meets it: with the official clients, with their mistakes, through sudden
//! deaths, with transactions, and when they look for a message.

mod clients;
mod deaths;
mod find;
mod mistakes;
mod transactions;
