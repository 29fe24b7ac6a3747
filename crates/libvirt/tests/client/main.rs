//! The client against a daemon that follows a script, on a real Unix socket.
//!
//! | file | about |
//! |---|---|
//! | `daemon` | the daemon: a thread that runs a test's script |
//! | `connecting` | sockets that are missing or stale; authentication |
//! | `calls` | replies, refusals, late replies, events in between, keepalive |
//! | `failures` | daemons that close, hang, or send garbage; reconnecting |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod calls;
mod connecting;
mod daemon;
mod failures;
