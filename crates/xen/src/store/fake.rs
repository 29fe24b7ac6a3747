//! A xenstored in this process, for tests.
