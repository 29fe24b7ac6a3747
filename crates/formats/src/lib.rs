//! Text to model and back.
//!
//! | module | format |
//! |---|---|
//! | [`spec`] | this project's own spec, in TOML |
//!
//! All of it works on text that is handed in and handed back: nothing here opens a file. Text comes from people and from
//! other tools and may be anything; what cannot be read is answered with a [`FormatError`] that shows the place.

#![forbid(unsafe_code)]

mod error;
pub mod spec;

pub use error::FormatError;
