/* Prints the sizes, offsets and values of the header, for the comparison with the Rust types. */
#include <stddef.h>
#include <stdio.h>
#include <vusb.h>

#define SIZE(type) printf(#type " %zu\n", sizeof(type))
#define FIELD(type, field) printf(#type "." #field " %zu\n", offsetof(type, field))
#define VALUE(name) printf(#name " %ld\n", (long)(name))

int main(void)
{
    SIZE(vusb_options);
    FIELD(vusb_options, state_dir);
    FIELD(vusb_options, claims_dir);
    FIELD(vusb_options, rules_dir);
    FIELD(vusb_options, host_root);
    FIELD(vusb_options, reserved);
    SIZE(vusb_how);
    FIELD(vusb_how, flags);
    FIELD(vusb_how, wait_ms);
    FIELD(vusb_how, deadline_ms);
    FIELD(vusb_how, folder);
    FIELD(vusb_how, cancel);
    SIZE(vusb_controller);
    FIELD(vusb_controller, name);
    FIELD(vusb_controller, type);
    FIELD(vusb_controller, usbversion);
    FIELD(vusb_controller, numports);
    FIELD(vusb_controller, index);
    FIELD(vusb_controller, model);
    FIELD(vusb_controller, backend);
    FIELD(vusb_controller, state);
    SIZE(vusb_device);
    FIELD(vusb_device, name);
    FIELD(vusb_device, what);
    FIELD(vusb_device, controller);
    FIELD(vusb_device, port);
    FIELD(vusb_device, bus);
    FIELD(vusb_device, state);
    VALUE(VUSB_DONE);
    VALUE(VUSB_ALREADY);
    VALUE(VUSB_E_INTERNAL);
    VALUE(VUSB_DRY_RUN);
    VALUE(VUSB_FORCE);
    VALUE(VUSB_NOW);
    VALUE(VUSB_NEXT);
    VALUE(VUSB_WHEN_THERE);
    VALUE(VUSB_TYPE_AUTO);
    VALUE(VUSB_TYPE_PV);
    VALUE(VUSB_TYPE_EMULATED);
    VALUE(VUSB_E_FAILED);
    VALUE(VUSB_E_USAGE);
    VALUE(VUSB_E_NOT_FOUND);
    VALUE(VUSB_E_BUSY);
    VALUE(VUSB_E_DENIED);
    VALUE(VUSB_E_NO_ROOM);
    VALUE(VUSB_E_UNREACHABLE);
    VALUE(VUSB_E_TIMED_OUT);
    VALUE(VUSB_E_NOT_IMPLEMENTED);
    return 0;
}
