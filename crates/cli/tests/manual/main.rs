//! The command as a person meets it: each test is a page of its manual.
#![allow(clippy::unwrap_used, reason = "a test that cannot make its world should fail on the spot")]

mod controllers;
mod devices;
mod environment;
mod failures;
mod files;
mod guides;
mod help;
mod hosts;
mod interrupted;
mod json;
mod listing;
mod output;
mod plans;
mod qemu_args;
mod xen;
