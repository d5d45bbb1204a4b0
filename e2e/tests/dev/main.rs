//! `gantry dev` as an application's developer meets it: with the official clients, with their mistakes, through sudden
//! deaths, with transactions, with messages for later, with lite topics, when they look for a message, and when they ask a
//! client what it does.

mod clients;
mod deaths;
mod delay;
mod features;
mod find;
mod lite;
mod mistakes;
mod questions;
mod transactions;

macro_rules! tests {
    ($($scenario:literal $file:ident::$test:ident: $($client:ident)+, cannot $($without:ident)*;)+) => {$(
        mod $test {
            $(
                #[test]
                fn $client() -> anyhow::Result<()> {
                    crate::$file::$test(e2e::clients::Language::$client)
                }
            )+
        }
    )+};
}

// A test for each scenario with each client: `order::Go`.
e2e::suite!(tests);
