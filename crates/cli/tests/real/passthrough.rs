//! A real USB device of a real machine, given to a guest: the machine is itself a guest, whose devices an outer QEMU plugs and
//! unplugs.
