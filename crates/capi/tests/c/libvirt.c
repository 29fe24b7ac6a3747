/* The adapter for libvirt's XML, on a simulated hypervisor. */
#include "../../examples/adapters/vusb_libvirt.h"
#include "check.h"

static vusb *v;
static char vm[4096];

static void expect(int attach, const char *xml, unsigned int flags, int code)
{
    virError error = {0};
    int result = attach ? vusb_libvirt_attach(v, vm, xml, flags, &error)
                        : vusb_libvirt_detach(v, vm, xml, flags, &error);
    if (result != (code == 0 ? 0 : -1) || error.code != code) {
        fprintf(stderr, "%s: %d, %d, %s\n", xml, result, error.code, error.message);
        exit(1);
    }
    CHECK(code == 0 || (error.message != NULL && error.level == VIR_ERR_ERROR));
    free(error.message);
}

#define STICK                                                                             \
    "<hostdev mode='subsystem' type='usb'><source><vendor id='0x0781'/>"                  \
    "<product id='0x5581'/></source><address type='usb' bus='0' port='3'/></hostdev>"

int main(int count, char **words)
{
    CHECK(count == 2);
    v = open_in(words[1]);
    join(vm, sizeof vm, "sim:", words[1]);
    strcat(vm, "/vm");
    unsigned int both = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG;
    const char *controller = "<controller type='usb' index='0' model='qemu-xhci' ports='8'/>";
    expect(1, controller, 0, 0);
    expect(1, controller, 0, VIR_ERR_OPERATION_INVALID);
    expect(1, STICK, both, 0);
    expect(1, "<input type='tablet' bus='usb'/>", 0, 0);
    expect(1, "<hub type='usb'><address type='usb' bus='0' port='5'/></hub>", 0, 0);
    expect(1, "<input type='mouse' bus='usb'><address type='usb' bus='0' port='5.2'/></input>", 0, 0);
    expect(1, "<input type='mouse' bus='usb'><address type='usb' bus='0' port='5.2'/></input>", 0,
           VIR_ERR_OPERATION_INVALID);
    vusb_device *list = NULL;
    size_t length = 0;
    EXPECT(VUSB_DONE, vusb_device_list(v, vm, &list, &length, NULL, &error));
    CHECK(length == 4);
    vusb_device_list_free(list, length);

    /* A simulated guest has no stored configuration beside the running one. */
    expect(1, STICK, VIR_DOMAIN_AFFECT_CONFIG, VIR_ERR_OPERATION_UNSUPPORTED);
    expect(1, STICK, 1u << 20, VIR_ERR_INVALID_ARG);
    expect(1, NULL, 0, VIR_ERR_INVALID_ARG);
    expect(1, "<hostdev", 0, VIR_ERR_XML_ERROR);
    expect(1, "<interface type='user'/>", 0, VIR_ERR_CONFIG_UNSUPPORTED);
    expect(1, "<controller type='scsi'/>", 0, VIR_ERR_CONFIG_UNSUPPORTED);
    expect(1, "<controller type='usb' model='flux'/>", 0, VIR_ERR_CONFIG_UNSUPPORTED);
    expect(0, "<input type='keyboard' bus='usb'><address type='usb' bus='0' port='7'/></input>", 0,
           VIR_ERR_DEVICE_MISSING);

    expect(0, STICK, 0, 0);
    expect(0, STICK, 0, VIR_ERR_DEVICE_MISSING);
    expect(0, controller, 0, VIR_ERR_OPERATION_INVALID);
    expect(0, "<hub type='usb'><address type='usb' bus='0' port='5'/></hub>",
           VIR_DOMAIN_DEVICE_MODIFY_FORCE, 0);
    vusb_close(v);
    return 0;
}
