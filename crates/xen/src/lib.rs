//! Xen from userspace: xenstore, event channels, grant tables.
//!
//! | module | talks to | for |
//! |---|---|---|
//! | [`store`] | xenstored's socket or `/dev/xen/xenbus` | reading, writing and watching xenstore |
//! | [`evtchn`] | `/dev/xen/evtchn` | notifying another domain, and being notified |
//! | [`grant`] | `/dev/xen/gntdev` | mapping a page of another domain, copying to and from its pages |
//! | [`gntalloc`] | `/dev/xen/gntalloc` | pages of our own that another domain may map: a frontend's side |
//! | [`abi`] | nothing | the kernel's structures and ioctl numbers, compared with the C headers by a test |
//!
//! Each of them can also be made from a file descriptor that a privileged process opened and passed on. Pages are of
//! 4 KiB: a kernel with larger pages (some ARM kernels) is not supported, and says so when a page is mapped.

pub mod abi;
mod device;
mod domain;
pub mod evtchn;
pub mod gntalloc;
pub mod grant;
mod page;
mod state;
pub mod store;

pub use device::DeviceError;
pub use domain::{DomId, NotADomain};
pub use page::{PAGE_BYTES, PAGE_WORDS, SharedPage};
pub use state::{NotAState, State};
