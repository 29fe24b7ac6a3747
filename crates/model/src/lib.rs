//! stub
pub mod address;
pub mod device;
pub mod models;
pub mod name;
pub mod selector;
pub mod speed;
