//! Xen from userspace: xenstore, event channels, grant tables.
