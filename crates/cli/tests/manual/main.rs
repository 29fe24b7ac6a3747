//! The command from the user's point of view: each test is a page of its manual.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its environment should fail")]

mod command_lines;
mod completion;
mod controllers;
mod conversions;
mod devices;
mod domains;
mod environment;
mod failures;
mod files;
mod guides;
mod help;
mod hosts;
mod interrupted;
mod json;
mod listing;
mod manager;
mod moving;
mod output;
mod plans;
mod proxmox;
mod qemu_args;
mod restoring;
mod rules;
mod several_devices;
mod starting;
mod through_daemon;
mod tree;
mod watching;
mod xen;
