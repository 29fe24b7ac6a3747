//! The client against a peer that follows a script, on a real Unix socket.
//!
//! | file | about |
//! |---|---|
//! | `peer` | the peer: a thread that says and expects what a test tells it |
//! | `connecting` | sockets that are missing, dead, full or silent; the greeting |
//! | `commands` | answers, refusals, pipelines, answers that come late |
//! | `events` | events before, between and after answers; floods |
//! | `trouble` | peers that close, hang, drip or talk nonsense |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod commands;
mod connecting;
mod events;
mod peer;
mod trouble;
