//! Views that are kept up to date: the trees of `vusb watch`, and the page of `vusb web`.

pub(crate) mod changes;
mod folders;
pub(crate) mod last_known;
mod retry;
pub(crate) mod screen;
pub(crate) mod terminal;
