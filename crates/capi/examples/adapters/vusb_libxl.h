/*
 * libxl's functions for USB on top of libvusb: an example for a toolstack that adopts libvusb.
 *
 * The functions have the names and signatures of libxl.h, which this adapter is compiled against. A
 * program that is linked with it gets these instead of libxenlight's.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef VUSB_LIBXL_H
#define VUSB_LIBXL_H

#include <libxl.h>
#include <vusb.h>

/*
 * Sets the handle that the functions use, and the prefix that makes a domain ID an address of vusb,
 * such as "xen:" or "sim:/tmp/vm". Both remain the caller's. Must be called once, before the other
 * functions.
 */
void vusb_libxl_use(const vusb *handle, const char *address_prefix);

/* The libxl error that a result of libvusb stands for; 0 for success. */
int vusb_libxl_error(int result);

#endif
