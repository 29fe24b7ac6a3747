//! The kernel's structures and ioctl numbers for Xen's devices, and Xen's codes. No code: `tests/headers.rs` compares all
//! of it with the C headers.

use rustix::ioctl::{Direction, Opcode, opcode};

/// Xen's ioctls say that nothing goes in or out, and have a size all the same.
const fn number<T>(group: u8, number: u8) -> Opcode {
    opcode::from_components(Direction::None, group, number, size_of::<T>())
}

/// `/dev/xen/evtchn` (Linux's `xen/evtchn.h`).
pub mod evtchn {
    use rustix::ioctl::Opcode;

    use super::number;

    /// A remote domain's port that is to be bound; the call gives the local port.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct BindInterdomain {
        /// The other domain.
        pub remote_domain: u32,
        /// Its port.
        pub remote_port: u32,
    }

    /// A domain that may bind a new port of ours; the call gives the local port.
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
        /// Its number.
        pub port: u32,
    }

    /// The one domain that the descriptor may have to do with from then on.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct Restrict {
        /// Its number.
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
    /// `IOCTL_EVTCHN_RESET`: forgets what fired and was not read.
    pub const RESET: Opcode = number::<()>(b'E', 5);
    /// `IOCTL_EVTCHN_RESTRICT_DOMID`.
    pub const RESTRICT_DOMID: Opcode = number::<Restrict>(b'E', 6);
}

/// `/dev/xen/gntdev` (Linux's `xen/gntdev.h`).
pub mod gntdev {
    use std::ffi::c_void;

    use rustix::ioctl::Opcode;

    use super::number;

    /// Grants that are to be mapped: one here, though the kernel would take more.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct MapGrantRef {
        /// How many.
        pub count: u32,
        /// Nothing.
        pub pad: u32,
        /// Out: the offset for mmap.
        pub index: u64,
        /// Whose page.
        pub domid: u32,
        /// Which.
        pub gref: u32,
    }

    /// Grants that are no longer to be mapped.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct UnmapGrantRef {
        /// The offset that was given.
        pub index: u64,
        /// How many.
        pub count: u32,
        /// Nothing.
        pub pad: u32,
    }

    /// One end of a copy: memory of this process or of another domain.
    #[derive(Clone, Copy)]
    #[repr(C)]
    pub union CopyEnd {
        /// An address in this process.
        pub virt: *mut c_void,
        /// A place in a page of another domain.
        pub foreign: Foreign,
    }

    /// A place in a page of another domain.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct Foreign {
        /// Which page.
        pub gref: u32,
        /// Where in it, in bytes.
        pub offset: u16,
        /// Whose page.
        pub domid: u16,
    }

    /// One copy.
    #[derive(Clone, Copy)]
    #[repr(C)]
    pub struct CopySegment {
        /// From where.
        pub source: CopyEnd,
        /// To where.
        pub dest: CopyEnd,
        /// How many bytes.
        pub len: u16,
        /// Which of both ends is in another domain.
        pub flags: u16,
        /// Out: a code of [`super::status`].
        pub status: i16,
    }

    /// Some copies.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct GrantCopy {
        /// How many.
        pub count: u32,
        /// The first of them.
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

    /// Pages of our own for another domain: one here, though the kernel would give more.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct AllocGref {
        /// Who may have it.
        pub domid: u16,
        /// Whether it may be written.
        pub flags: u16,
        /// How many.
        pub count: u32,
        /// Out: the offset for mmap.
        pub index: u64,
        /// Out: what the other domain calls it.
        pub gref: u32,
    }

    /// Pages that are given back.
    #[derive(Debug, Clone, Copy)]
    #[repr(C)]
    pub struct DeallocGref {
        /// The offset that was given.
        pub index: u64,
        /// How many.
        pub count: u32,
    }

    /// The other domain may write too (`GNTALLOC_FLAG_WRITABLE`).
    pub const WRITABLE: u16 = 1;

    /// `IOCTL_GNTALLOC_ALLOC_GREF`.
    pub const ALLOC_GREF: Opcode = number::<AllocGref>(b'G', 5);
    /// `IOCTL_GNTALLOC_DEALLOC_GREF`.
    pub const DEALLOC_GREF: Opcode = number::<DeallocGref>(b'G', 6);
}

/// How a grant operation went (`GNTST_*`, Xen's `grant_table.h`).
pub mod status {
    /// All codes with their names, from 0 downwards.
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
