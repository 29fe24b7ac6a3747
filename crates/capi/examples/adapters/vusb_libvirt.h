/*
 * libvirt's calls that attach and detach a device, on top of libvusb: an example for a toolstack
 * that describes devices in libvirt's XML.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef VUSB_LIBVIRT_H
#define VUSB_LIBVIRT_H

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <vusb.h>

/*
 * As virDomainAttachDeviceFlags: `xml` is the element of one USB device or controller, `flags` are
 * virDomainDeviceModifyFlags. `domain` is an address of vusb. Returns 0, or -1 with the error in
 * *error, whose message the caller frees.
 *
 * Elements: <controller type='usb'>, <hostdev type='usb'>, <input bus='usb'>, <hub type='usb'>, and
 * <disk> of a file or a block device with <target bus='usb'>.
 */
int vusb_libvirt_attach(const vusb *handle, const char *domain, const char *xml, unsigned int flags,
                        virErrorPtr error);

/* As virDomainDetachDeviceFlags. A device is identified by its address, or else by what it is. */
int vusb_libvirt_detach(const vusb *handle, const char *domain, const char *xml, unsigned int flags,
                        virErrorPtr error);

/* The libvirt error that a result of libvusb stands for. */
virErrorNumber vusb_libvirt_error(int result);

#endif
