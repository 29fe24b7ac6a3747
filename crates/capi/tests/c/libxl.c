/* The adapter with libxl's signatures, on a simulated hypervisor. */
#define _POSIX_C_SOURCE 200809L
#include "../../examples/adapters/vusb_libxl.h"
#include "check.h"

static int called, code;

static void callback(libxl_ctx *ctx, int rc, void *for_callback)
{
    (void)ctx;
    CHECK(for_callback == &called);
    called++;
    code = rc;
}

int main(int count, char **words)
{
    char prefix[4096];
    int num = -1;
    libxl_ctx *ctx = NULL;
    libxl_device_usbctrl ctrl, *ctrls;
    libxl_device_usbdev dev, *devs;
    libxl_usbctrlinfo info;
    libxl_asyncop_how how;
    CHECK(count == 2);
    libxl_device_usbctrl_init(&ctrl);
    CHECK(libxl_device_usbctrl_add(ctx, 7, &ctrl, NULL) == ERROR_NOT_READY);
    vusb *v = open_in(words[1]);
    join(prefix, sizeof prefix, "sim:", words[1]);
    strcat(prefix, "/domain");
    vusb_libxl_use(v, prefix);

    ctrl.type = LIBXL_USBCTRL_TYPE_DEVICEMODEL;
    ctrl.version = 3;
    ctrl.ports = 4;
    CHECK(libxl_device_usbctrl_add(ctx, 7, &ctrl, NULL) == 0);
    CHECK(ctrl.devid == 0 && ctrl.ports == 4 && ctrl.type == LIBXL_USBCTRL_TYPE_DEVICEMODEL);
    CHECK(libxl_device_usbctrl_add(ctx, 7, &ctrl, NULL) == ERROR_DEVICE_EXISTS);
    memset(&how, 0, sizeof how);
    how.callback = callback;
    how.u.for_callback = &called;
    libxl_device_usbctrl second;
    libxl_device_usbctrl_init(&second);
    CHECK(libxl_device_usbctrl_add(ctx, 7, &second, &how) == 0);
    CHECK(called == 1 && code == 0 && second.devid == 1);
    how.callback = NULL;
    CHECK(libxl_device_usbctrl_add(ctx, 7, &second, &how) == ERROR_NI);
    second.devid = -1;
    second.version = 9;
    CHECK(libxl_device_usbctrl_add(ctx, 7, &second, NULL) == ERROR_INVAL);

    ctrls = libxl_device_usbctrl_list(ctx, 7, &num);
    CHECK(num == 2 && ctrls[0].version == 3 && ctrls[1].devid == 1);
    libxl_device_usbctrl_list_free(ctrls, num);
    libxl_usbctrlinfo_init(&info);
    CHECK(libxl_device_usbctrl_getinfo(ctx, 7, &ctrl, &info) == 0 && info.ports == 4);
    libxl_usbctrlinfo_dispose(&info);

    libxl_device_usbdev_init(&dev);
    libxl_device_usbdev_init_type(&dev, LIBXL_USBDEV_TYPE_HOSTDEV);
    dev.u.hostdev.hostbus = 1;
    dev.u.hostdev.hostaddr = 4;
    CHECK(libxl_device_usbdev_add(ctx, 7, &dev, NULL) == 0);
    CHECK(dev.ctrl == 0 && dev.port == 1);
    CHECK(libxl_device_usbdev_add(ctx, 7, &dev, NULL) == ERROR_DEVICE_EXISTS);
    devs = libxl_device_usbdev_list(ctx, 7, &num);
    CHECK(num == 1 && devs[0].ctrl == 0 && devs[0].port == 1);
    libxl_device_usbdev_list_free(devs, num);
    CHECK(libxl_device_usbdev_remove(ctx, 7, &dev, NULL) == 0);
    CHECK(libxl_device_usbdev_remove(ctx, 7, &dev, NULL) == ERROR_NOTFOUND);
    dev.u.hostdev.hostaddr = 99;
    dev.ctrl = -1;
    dev.port = 0;
    CHECK(libxl_device_usbdev_add(ctx, 7, &dev, NULL) == ERROR_NOTFOUND);
    dev.port = 1;
    CHECK(libxl_device_usbdev_add(ctx, 7, &dev, NULL) == ERROR_INVAL);

    CHECK(libxl_device_usbctrl_remove(ctx, 7, &ctrl, NULL) == 0);
    CHECK(libxl_device_usbctrl_destroy(ctx, 7, &ctrl, NULL) == ERROR_NOTFOUND);
    libxl_device_usbctrl_dispose(&ctrl);
    libxl_device_usbctrl_dispose(&second);
    libxl_device_usbdev_dispose(&dev);
    vusb_close(v);
    return 0;
}
