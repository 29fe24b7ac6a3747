//! The client against a peer that follows a script, on a real Unix socket.
//!
//! | file | about |
//! |---|---|
//! | `peer` | the peer: a thread that runs a test's script |
//! | `connecting` | sockets that are missing, stale, full or silent; the greeting |
//! | `commands` | answers, refusals, pipelines, late answers |
//! | `events` | events before, between and after answers; floods |
//! | `failures` | peers that close, hang, send slowly or send garbage |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod commands;
mod connecting;
mod events;
mod failures;
mod peer;
