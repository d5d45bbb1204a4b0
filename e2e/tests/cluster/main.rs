//! The main job on a real cluster: YAML in, messages through, and what the faults change about it.

mod brokers;
mod chaos;
mod clients;
mod disk;
mod faults;
mod outside;
mod replicas;
mod topics;
