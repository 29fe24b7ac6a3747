//! `vusb web`: a page with the picture of this machine and its guests.
//!
//! ```text
//!   browser                         this process
//!   GET /            ──▶ the page, its script and its style; they have no secret
//!   GET /events      ──▶ server-sent events: the picture after each change, and vusbd's questions
//!   POST /call       ──▶ explain, attach, detach, answer: as the commands do it, never with force
//! ```
//!
//! | threat | what prevents it |
//! |---|---|
//! | another machine | the server listens on 127.0.0.1, or at a socket with mode 0600 |
//! | another user of this machine | the token, 128 random bits, which only the address has |
//! | another page in the same browser | a header with the token; `Origin`, `Sec-Fetch-Site` |
//! | a name that is rebound to 127.0.0.1 | `Host` is checked |
//! | a device with markup in its name | strings stay text; no scripts but the page's own |
//! | a client that sends too much, too slowly, or too often | limits: see `http` and `server` |

mod calls;
mod http;
mod server;

pub(crate) use server::{ListenAt, serve};
