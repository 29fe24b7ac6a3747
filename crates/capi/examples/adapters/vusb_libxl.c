/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include "vusb_libxl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const vusb *handle;
static const char *prefix = "";

void vusb_libxl_use(const vusb *with, const char *address_prefix)
{
    handle = with;
    prefix = address_prefix == NULL ? "" : address_prefix;
}

int vusb_libxl_error(int result)
{
    switch (result) {
    case VUSB_DONE:
    case VUSB_ALREADY: return 0;
    case VUSB_E_USAGE: return ERROR_INVAL;
    case VUSB_E_NOT_FOUND: return ERROR_NOTFOUND;
    case VUSB_E_BUSY: return ERROR_LOCK_FAIL;
    case VUSB_E_NO_ROOM: return ERROR_INVAL;
    case VUSB_E_UNREACHABLE: return ERROR_NOT_READY;
    case VUSB_E_TIMED_OUT: return ERROR_TIMEDOUT;
    case VUSB_E_NOT_IMPLEMENTED: return ERROR_NI;
    default: return ERROR_FAIL;
    }
}

/* Logs failures, as libxl does. The adapter has no logger, so they go to standard error. */
static int finish(const char *what, int result, vusb_error *error)
{
    if (result < 0)
        fprintf(stderr, "libvusb: error: %s: %s\n", what, vusb_error_message(error));
    vusb_error_free(error);
    return vusb_libxl_error(result);
}

/*
 * Ends a call as the caller requested: by returning the result, or by a callback. The callback is
 * called before the function returns, which libxl allows too. Events are not supported: they belong
 * to libxl's own queue.
 */
static int end(libxl_ctx *ctx, int rc, const libxl_asyncop_how *how)
{
    if (how == NULL || how->callback == NULL)
        return rc;
    how->callback(ctx, rc, how->u.for_callback);
    return 0;
}

static int refused(const libxl_asyncop_how *how)
{
    if (how != NULL && how->callback == NULL)
        return ERROR_NI;
    return handle == NULL ? ERROR_NOT_READY : 0;
}

#define DOMAIN(place, domid)                                                          \
    char place[4096];                                                                 \
    if (snprintf(place, sizeof place, "%s%u", prefix, (unsigned)(domid)) >= (int)sizeof place) \
        return ERROR_INVAL

static int to_vusb(const libxl_device_usbctrl *from, vusb_controller *to)
{
    vusb_controller_init(to);
    switch (from->type) {
    case LIBXL_USBCTRL_TYPE_AUTO: to->type = VUSB_TYPE_AUTO; break;
    case LIBXL_USBCTRL_TYPE_PV:
    case LIBXL_USBCTRL_TYPE_QUSB: to->type = VUSB_TYPE_PV; break;
    case LIBXL_USBCTRL_TYPE_DEVICEMODEL: to->type = VUSB_TYPE_EMULATED; break;
    default: return ERROR_INVAL;
    }
    to->index = from->devid;
    to->usbversion = from->version;
    to->numports = from->ports;
    if (from->backend_domname != NULL) {
        to->backend = strdup(from->backend_domname);
        return to->backend == NULL ? ERROR_NOMEM : 0;
    }
    if (from->backend_domid != 0 && from->backend_domid != (libxl_domid)-1) {
        char text[16];
        snprintf(text, sizeof text, "%u", (unsigned)from->backend_domid);
        to->backend = strdup(text);
        return to->backend == NULL ? ERROR_NOMEM : 0;
    }
    return 0;
}

static int from_vusb(const vusb_controller *from, libxl_device_usbctrl *to)
{
    to->type = from->type == VUSB_TYPE_PV ? LIBXL_USBCTRL_TYPE_PV : LIBXL_USBCTRL_TYPE_DEVICEMODEL;
    to->devid = from->index;
    to->version = from->usbversion;
    to->ports = from->numports;
    free(to->backend_domname);
    to->backend_domname = from->backend == NULL ? NULL : strdup(from->backend);
    return from->backend != NULL && to->backend_domname == NULL ? ERROR_NOMEM : 0;
}

int libxl_device_usbctrl_add(libxl_ctx *ctx, uint32_t domid, libxl_device_usbctrl *usbctrl,
                             const libxl_asyncop_how *ao_how)
{
    DOMAIN(domain, domid);
    vusb_controller controller;
    vusb_error *error = NULL;
    int rc = refused(ao_how);
    if (rc != 0)
        return rc;
    rc = to_vusb(usbctrl, &controller);
    if (rc == 0) {
        int result = vusb_controller_add(handle, domain, &controller, NULL, &error);
        rc = finish("usbctrl_add", result, error);
        /* libxl has no result for "already done". */
        if (result == VUSB_ALREADY)
            rc = ERROR_DEVICE_EXISTS;
    }
    if (rc == 0)
        rc = from_vusb(&controller, usbctrl);
    vusb_controller_dispose(&controller);
    return end(ctx, rc, ao_how);
}

typedef int remove_verb(const vusb *, const char *, const vusb_controller *, const vusb_how *, vusb_error **);

static int remove_usbctrl(libxl_ctx *ctx, uint32_t domid, const libxl_device_usbctrl *usbctrl,
                          remove_verb *verb, const libxl_asyncop_how *ao_how)
{
    DOMAIN(domain, domid);
    vusb_controller which;
    vusb_error *error = NULL;
    int rc = refused(ao_how);
    if (rc != 0)
        return rc;
    vusb_controller_init(&which);
    which.index = usbctrl->devid;
    int result = verb(handle, domain, &which, NULL, &error);
    return end(ctx, finish("usbctrl_remove", result, error), ao_how);
}

/* libxl's function removes the devices too. */
int libxl_device_usbctrl_remove(libxl_ctx *ctx, uint32_t domid, libxl_device_usbctrl *usbctrl,
                                const libxl_asyncop_how *ao_how)
{
    return remove_usbctrl(ctx, domid, usbctrl, vusb_controller_destroy, ao_how);
}

int libxl_device_usbctrl_destroy(libxl_ctx *ctx, uint32_t domid, libxl_device_usbctrl *usbctrl,
                                 const libxl_asyncop_how *ao_how)
{
    return remove_usbctrl(ctx, domid, usbctrl, vusb_controller_destroy, ao_how);
}

libxl_device_usbctrl *libxl_device_usbctrl_list(libxl_ctx *ctx, uint32_t domid, int *num)
{
    char domain[4096];
    vusb_controller *list = NULL;
    vusb_error *error = NULL;
    size_t count = 0;
    (void)ctx;
    *num = 0;
    if (handle == NULL || snprintf(domain, sizeof domain, "%s%u", prefix, domid) >= (int)sizeof domain)
        return NULL;
    int result = vusb_controller_list(handle, domain, &list, &count, NULL, &error);
    if (finish("usbctrl_list", result, error) != 0 || count == 0)
        return NULL;
    libxl_device_usbctrl *all = calloc(count, sizeof *all);
    for (size_t i = 0; all != NULL && i < count; i++) {
        libxl_device_usbctrl_init(&all[i]);
        from_vusb(&list[i], &all[i]);
    }
    *num = all == NULL ? 0 : (int)count;
    vusb_controller_list_free(list, count);
    return all;
}

void libxl_device_usbctrl_list_free(libxl_device_usbctrl *list, int nr)
{
    for (int i = 0; i < nr; i++)
        libxl_device_usbctrl_dispose(&list[i]);
    free(list);
}

int libxl_device_usbctrl_getinfo(libxl_ctx *ctx, uint32_t domid, const libxl_device_usbctrl *usbctrl,
                                 libxl_usbctrlinfo *info)
{
    int count = 0, rc = ERROR_NOTFOUND;
    libxl_device_usbctrl *all = libxl_device_usbctrl_list(ctx, domid, &count);
    for (int i = 0; i < count; i++) {
        if (all[i].devid != usbctrl->devid)
            continue;
        info->type = all[i].type;
        info->devid = all[i].devid;
        info->version = all[i].version;
        info->ports = all[i].ports;
        rc = 0;
    }
    libxl_device_usbctrl_list_free(all, count);
    return rc;
}

int libxl_device_usbdev_add(libxl_ctx *ctx, uint32_t domid, libxl_device_usbdev *usbdev,
                            const libxl_asyncop_how *ao_how)
{
    DOMAIN(domain, domid);
    vusb_device device;
    vusb_error *error = NULL;
    char text[16];
    int rc = refused(ao_how);
    if (rc != 0)
        return rc;
    if (usbdev->type != LIBXL_USBDEV_TYPE_HOSTDEV || (usbdev->ctrl < 0 && usbdev->port > 0))
        return end(ctx, ERROR_INVAL, ao_how);
    vusb_device_init(&device);
    snprintf(text, sizeof text, "%03u.%03u", usbdev->u.hostdev.hostbus, usbdev->u.hostdev.hostaddr);
    device.what = strdup(text);
    device.bus = usbdev->ctrl;
    if (usbdev->port > 0) {
        snprintf(text, sizeof text, "%d", usbdev->port);
        device.port = strdup(text);
    }
    int result = vusb_device_add(handle, domain, &device, NULL, &error);
    rc = finish("usbdev_add", result, error);
    if (result == VUSB_ALREADY)
        rc = ERROR_DEVICE_EXISTS;
    if (rc == 0) {
        usbdev->ctrl = device.bus;
        usbdev->port = atoi(device.port);
    }
    vusb_device_dispose(&device);
    return end(ctx, rc, ao_how);
}

int libxl_device_usbdev_remove(libxl_ctx *ctx, uint32_t domid, libxl_device_usbdev *usbdev,
                               const libxl_asyncop_how *ao_how)
{
    DOMAIN(domain, domid);
    vusb_device which;
    vusb_error *error = NULL;
    char text[16];
    int rc = refused(ao_how);
    if (rc != 0)
        return rc;
    vusb_device_init(&which);
    which.bus = usbdev->ctrl;
    snprintf(text, sizeof text, "%d", usbdev->port);
    which.port = strdup(text);
    int result = vusb_device_remove(handle, domain, &which, NULL, &error);
    vusb_device_dispose(&which);
    return end(ctx, finish("usbdev_remove", result, error), ao_how);
}

/*
 * Only host devices, as in libxl. hostbus and hostaddr are 0 if vusb identifies the device by its
 * port or its ids, which survive a replug. libxl's callers pass ctrl and port to usbdev_remove.
 */
libxl_device_usbdev *libxl_device_usbdev_list(libxl_ctx *ctx, uint32_t domid, int *num)
{
    char domain[4096];
    vusb_device *list = NULL;
    vusb_error *error = NULL;
    size_t count = 0;
    (void)ctx;
    *num = 0;
    if (handle == NULL || snprintf(domain, sizeof domain, "%s%u", prefix, domid) >= (int)sizeof domain)
        return NULL;
    int result = vusb_device_list(handle, domain, &list, &count, NULL, &error);
    if (finish("usbdev_list", result, error) != 0 || count == 0)
        return NULL;
    libxl_device_usbdev *all = calloc(count, sizeof *all);
    for (size_t i = 0; all != NULL && i < count; i++) {
        unsigned bus = 0, address = 0;
        if (strncmp(list[i].what, "host:", 5) != 0)
            continue;
        libxl_device_usbdev *it = &all[(*num)++];
        libxl_device_usbdev_init(it);
        libxl_device_usbdev_init_type(it, LIBXL_USBDEV_TYPE_HOSTDEV);
        it->ctrl = list[i].bus;
        it->port = atoi(list[i].port);
        if (sscanf(list[i].what, "host:%3u.%3u", &bus, &address) == 2) {
            it->u.hostdev.hostbus = (uint8_t)bus;
            it->u.hostdev.hostaddr = (uint8_t)address;
        }
    }
    vusb_device_list_free(list, count);
    return all;
}

void libxl_device_usbdev_list_free(libxl_device_usbdev *list, int nr)
{
    for (int i = 0; i < nr; i++)
        libxl_device_usbdev_dispose(&list[i]);
    free(list);
}
