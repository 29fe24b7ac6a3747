//! A simulated hypervisor in a file.
