/* Prints the numbers, sizes and offsets of <linux/usbdevice_fs.h> as lines of "NAME VALUE". */
#include <linux/usbdevice_fs.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define NUMBER(name) printf("%s %lu\n", #name, (unsigned long)(name))
#define SIZE(type) printf("sizeof %s %zu\n", #type, sizeof(struct type))
#define AT(type, field) printf("%s.%s %zu\n", #type, #field, offsetof(struct type, field))

int main(void)
{
	NUMBER(USBDEVFS_CONTROL);
	NUMBER(USBDEVFS_SETINTERFACE);
	NUMBER(USBDEVFS_SETCONFIGURATION);
	NUMBER(USBDEVFS_GETDRIVER);
	NUMBER(USBDEVFS_SUBMITURB);
	NUMBER(USBDEVFS_DISCARDURB);
	NUMBER(USBDEVFS_REAPURBNDELAY);
	NUMBER(USBDEVFS_CLAIMINTERFACE);
	NUMBER(USBDEVFS_RELEASEINTERFACE);
	NUMBER(USBDEVFS_IOCTL);
	NUMBER(USBDEVFS_RESET);
	NUMBER(USBDEVFS_CLEAR_HALT);
	NUMBER(USBDEVFS_CONNECT);
	NUMBER(USBDEVFS_CLAIM_PORT);
	NUMBER(USBDEVFS_RELEASE_PORT);
	NUMBER(USBDEVFS_GET_CAPABILITIES);
	NUMBER(USBDEVFS_DISCONNECT_CLAIM);
	NUMBER(USBDEVFS_DROP_PRIVILEGES);
	NUMBER(USBDEVFS_GET_SPEED);
	NUMBER(USBDEVFS_URB_TYPE_ISO);
	NUMBER(USBDEVFS_URB_TYPE_INTERRUPT);
	NUMBER(USBDEVFS_URB_TYPE_CONTROL);
	NUMBER(USBDEVFS_URB_TYPE_BULK);
	NUMBER(USBDEVFS_DISCONNECT_CLAIM_EXCEPT_DRIVER);
	NUMBER(USBDEVFS_URB_SHORT_NOT_OK);
	NUMBER(USBDEVFS_URB_ISO_ASAP);
	NUMBER(USBDEVFS_URB_BULK_CONTINUATION);
	NUMBER(USBDEVFS_URB_ZERO_PACKET);
	NUMBER(USBDEVFS_CAP_ZERO_PACKET);
	NUMBER(USBDEVFS_CAP_BULK_CONTINUATION);
	NUMBER(USBDEVFS_CAP_NO_PACKET_SIZE_LIM);
	NUMBER(USBDEVFS_CAP_BULK_SCATTER_GATHER);
	NUMBER(USBDEVFS_CAP_REAP_AFTER_DISCONNECT);
	NUMBER(USBDEVFS_CAP_DROP_PRIVILEGES);
	SIZE(usbdevfs_ctrltransfer);
	AT(usbdevfs_ctrltransfer, bRequestType);
	AT(usbdevfs_ctrltransfer, bRequest);
	AT(usbdevfs_ctrltransfer, wValue);
	AT(usbdevfs_ctrltransfer, wIndex);
	AT(usbdevfs_ctrltransfer, wLength);
	AT(usbdevfs_ctrltransfer, timeout);
	AT(usbdevfs_ctrltransfer, data);
	SIZE(usbdevfs_setinterface);
	AT(usbdevfs_setinterface, interface);
	AT(usbdevfs_setinterface, altsetting);
	SIZE(usbdevfs_getdriver);
	AT(usbdevfs_getdriver, interface);
	AT(usbdevfs_getdriver, driver);
	SIZE(usbdevfs_disconnect_claim);
	AT(usbdevfs_disconnect_claim, interface);
	AT(usbdevfs_disconnect_claim, flags);
	AT(usbdevfs_disconnect_claim, driver);
	SIZE(usbdevfs_ioctl);
	AT(usbdevfs_ioctl, ifno);
	AT(usbdevfs_ioctl, ioctl_code);
	AT(usbdevfs_ioctl, data);
	SIZE(usbdevfs_iso_packet_desc);
	AT(usbdevfs_iso_packet_desc, length);
	AT(usbdevfs_iso_packet_desc, actual_length);
	AT(usbdevfs_iso_packet_desc, status);
	SIZE(usbdevfs_urb);
	AT(usbdevfs_urb, type);
	AT(usbdevfs_urb, endpoint);
	AT(usbdevfs_urb, status);
	AT(usbdevfs_urb, flags);
	AT(usbdevfs_urb, buffer);
	AT(usbdevfs_urb, buffer_length);
	AT(usbdevfs_urb, actual_length);
	AT(usbdevfs_urb, start_frame);
	AT(usbdevfs_urb, number_of_packets);
	AT(usbdevfs_urb, error_count);
	AT(usbdevfs_urb, signr);
	AT(usbdevfs_urb, usercontext);
	AT(usbdevfs_urb, iso_frame_desc);
	return 0;
}
