//! The kernel's structures and ioctl numbers for Xen's devices, and Xen's status codes. Only
//! definitions: `tests/headers.rs` compares all of them with the C headers.

use rustix::ioctl::{Direction, Opcode, opcode};

/// Xen's ioctl numbers contain no direction, but do contain a size.
const fn number<T>(group: u8, number: u8) -> Opcode {
    opcode::from_components(Direction::None, group, number, size_of::<T>())
}

/// `/dev/xen/evtchn` (Linux's `xen/evtchn.h`).
pub mod evtchn {
    use rustix::ioctl::Opcode;

    use super::number;

    /// A remote domain's port to bind; the call returns the local port.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct BindInterdomain {
        /// The other domain.
        pub remote_domain: u32,
        /// Its port.
        pub remote_port: u32,
    }

    /// The domain that may bind a new local port; the call returns that port.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct BindUnbound {
        /// The other domain.
        pub remote_domain: u32,
    }

    /// A local port.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct LocalPort {
        /// The port's number.
        pub port: u32,
    }

    /// The only domain that the descriptor may use from then on.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct Restrict {
        /// The domain's id.
        pub domid: u16,
    }

    /// `IOCTL_EVTCHN_BIND_INTERDOMAIN`.
    pub const BIND_INTERDOMAIN: Opcode = number::<BindInterdomain>(b'E', 1);
    /// `IOCTL_EVTCHN_BIND_UNBOUND_PORT`.
    pub const BIND_UNBOUND_PORT: Opcode = number::<BindUnbound>(b'E', 2);
    /// `IOCTL_EVTCHN_UNBIND`.
    pub const UNBIND: Opcode = number::<LocalPort>(b'E', 3);
    /// `IOCTL_EVTCHN_NOTIFY`.
    pub const NOTIFY: Opcode = number::<LocalPort>(b'E', 4);
    /// `IOCTL_EVTCHN_RESET`: clears the buffer of ports that fired.
    pub const RESET: Opcode = number::<()>(b'E', 5);
    /// `IOCTL_EVTCHN_RESTRICT_DOMID`.
    pub const RESTRICT_DOMID: Opcode = number::<Restrict>(b'E', 6);
}

/// `/dev/xen/gntdev` (Linux's `xen/gntdev.h`).
pub mod gntdev {
    use std::ffi::c_void;

    use rustix::ioctl::Opcode;

    use super::number;

    /// Grants to map: one here, although the kernel accepts more.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct MapGrantRef {
        /// Number of grants.
        pub count: u32,
        /// Padding.
        pub pad: u32,
        /// Output: the offset for mmap.
        pub index: u64,
        /// The domain that granted the page.
        pub domid: u32,
        /// Its grant reference.
        pub gref: u32,
    }

    /// Grants to unmap.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct UnmapGrantRef {
        /// The offset that mapping returned.
        pub index: u64,
        /// Number of grants.
        pub count: u32,
        /// Padding.
        pub pad: u32,
    }

    /// One end of a copy: memory of this process or of another domain.
    #[derive(Clone, Copy)]
    #[repr(C)]
    pub union CopyEnd {
        /// An address in this process.
        pub virt: *mut c_void,
        /// A position in a page of another domain.
        pub foreign: Foreign,
    }

    /// A position in a page of another domain.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct Foreign {
        /// The page's grant reference.
        pub gref: u32,
        /// Offset in the page, in bytes.
        pub offset: u16,
        /// The domain that granted the page.
        pub domid: u16,
    }

    /// One copy.
    #[derive(Clone, Copy)]
    #[repr(C)]
    pub struct CopySegment {
        /// The source.
        pub source: CopyEnd,
        /// The destination.
        pub dest: CopyEnd,
        /// Length in bytes.
        pub len: u16,
        /// Which end is in another domain.
        pub flags: u16,
        /// Output: a code of [`super::status`].
        pub status: i16,
    }

    /// A list of copies.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct GrantCopy {
        /// Number of copies.
        pub count: u32,
        /// The first copy.
        pub segments: *mut CopySegment,
    }

    /// The source is in another domain (`GNTCOPY_source_gref`, Xen's `grant_table.h`).
    pub const SOURCE_GREF: u16 = 1 << 0;
    /// The destination is in another domain (`GNTCOPY_dest_gref`).
    pub const DEST_GREF: u16 = 1 << 1;

    /// `IOCTL_GNTDEV_MAP_GRANT_REF`.
    pub const MAP_GRANT_REF: Opcode = number::<MapGrantRef>(b'G', 0);
    /// `IOCTL_GNTDEV_UNMAP_GRANT_REF`.
    pub const UNMAP_GRANT_REF: Opcode = number::<UnmapGrantRef>(b'G', 1);
    /// `IOCTL_GNTDEV_GRANT_COPY`.
    pub const GRANT_COPY: Opcode = number::<GrantCopy>(b'G', 8);
}

/// `/dev/xen/gntalloc` (Linux's `xen/gntalloc.h`).
pub mod gntalloc {
    use rustix::ioctl::Opcode;

    use super::number;

    /// Own pages to grant to another domain: one here, although the kernel accepts more.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct AllocGref {
        /// The domain that may use the page.
        pub domid: u16,
        /// [`WRITABLE`] or 0.
        pub flags: u16,
        /// Number of pages.
        pub count: u32,
        /// Output: the offset for mmap.
        pub index: u64,
        /// Output: the grant reference.
        pub gref: u32,
    }

    /// Pages to free.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct DeallocGref {
        /// The offset that allocation returned.
        pub index: u64,
        /// Number of pages.
        pub count: u32,
    }

    /// The other domain may also write (`GNTALLOC_FLAG_WRITABLE`).
    pub const WRITABLE: u16 = 1;

    /// `IOCTL_GNTALLOC_ALLOC_GREF`.
    pub const ALLOC_GREF: Opcode = number::<AllocGref>(b'G', 5);
    /// `IOCTL_GNTALLOC_DEALLOC_GREF`.
    pub const DEALLOC_GREF: Opcode = number::<DeallocGref>(b'G', 6);
}

/// The result of a grant operation (`GNTST_*`, Xen's `grant_table.h`).
pub mod status {
    /// All codes with their names, in descending order.
    pub const NAMES: [(i16, &str); 14] = [
        (0, "okay"),
        (-1, "general_error"),
        (-2, "bad_domain"),
        (-3, "bad_gntref"),
        (-4, "bad_handle"),
        (-5, "bad_virt_addr"),
        (-6, "bad_dev_addr"),
        (-7, "no_device_space"),
        (-8, "permission_denied"),
        (-9, "bad_page"),
        (-10, "bad_copy_arg"),
        (-11, "address_too_big"),
        (-12, "eagain"),
        (-13, "no_space"),
    ];
}
