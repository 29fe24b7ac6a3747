//! Tables of domains, of this machine's devices, of the models, and of rules; and the trees of
//! domains.
//!
//! A table has no lines and no colours. Columns are two spaces apart, and the first row is a header
//! in capitals, so that both people and `awk` can read it.

mod domains;
mod host;
mod layout;
mod models;
mod rules;
mod tree;

pub(crate) use domains::{all, controllers, devices, domain, planned, recorded};
pub(crate) use host::host;
pub(crate) use models::{models, models_of};
pub(crate) use rules::{event, explained, rules};
pub(crate) use tree::{Lines, tree, trees};
