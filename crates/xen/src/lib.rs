//! Xen from userspace: xenstore, event channels, grant tables.
//!
//! | module | talks to | purpose |
//! |---|---|---|
//! | [`store`] | xenstored's socket or `/dev/xen/xenbus` | reading, writing and watching xenstore |
//! | [`evtchn`] | `/dev/xen/evtchn` | notifying another domain and being notified |
//! | [`grant`] | `/dev/xen/gntdev` | mapping another domain's pages, and copying to and from them |
//! | [`gntalloc`] | `/dev/xen/gntalloc` | granting own pages to another domain, as a frontend does |
//! | [`usb`] | nothing | the xenstore contract of USB controllers: paths, keys and values |
//! | [`abi`] | nothing | the kernel's structures and ioctl numbers; a test compares them with the C headers |
//!
//! Each of the first four can also be made from a file descriptor that a privileged process opened
//! and passed on. Pages are 4 KiB: a kernel with larger pages (some ARM kernels) is not supported,
//! and mapping a page fails with an error that says so.

pub mod abi;
mod device;
mod domain;
pub mod evtchn;
pub mod gntalloc;
pub mod grant;
mod page;
mod state;
pub mod store;
pub mod usb;

pub use device::DeviceError;
pub use domain::{DomId, NotADomain};
pub use page::{PAGE_BYTES, PAGE_WORDS, SharedPage};
pub use state::{NotAState, State};
