/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include "vusb_libvirt.h"

#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What an element describes: a controller or a device. */
struct request {
    int is_controller;
    vusb_controller controller;
    vusb_device device;
};

virErrorNumber vusb_libvirt_error(int result)
{
    switch (result) {
    case VUSB_E_USAGE: return VIR_ERR_CONFIG_UNSUPPORTED;
    case VUSB_E_NOT_FOUND: return VIR_ERR_DEVICE_MISSING;
    case VUSB_E_BUSY: return VIR_ERR_OPERATION_INVALID;
    case VUSB_E_DENIED: return VIR_ERR_ACCESS_DENIED;
    case VUSB_E_NO_ROOM: return VIR_ERR_CONFIG_UNSUPPORTED;
    case VUSB_E_UNREACHABLE: return VIR_ERR_NO_CONNECT;
    case VUSB_E_TIMED_OUT: return VIR_ERR_OPERATION_TIMEOUT;
    case VUSB_E_NOT_IMPLEMENTED: return VIR_ERR_OPERATION_UNSUPPORTED;
    case VUSB_E_INTERNAL: return VIR_ERR_INTERNAL_ERROR;
    default: return VIR_ERR_OPERATION_FAILED;
    }
}

static int fail(virErrorPtr error, virErrorNumber code, const char *message)
{
    if (error != NULL) {
        memset(error, 0, sizeof *error);
        error->code = code;
        error->domain = VIR_FROM_DOMAIN;
        error->level = VIR_ERR_ERROR;
        error->message = strdup(message);
    }
    return -1;
}

static xmlNodePtr child(xmlNodePtr parent, const char *name)
{
    xmlNodePtr it = parent == NULL ? NULL : parent->children;
    while (it != NULL && (it->type != XML_ELEMENT_NODE || strcmp((const char *)it->name, name) != 0))
        it = it->next;
    return it;
}

/*
 * An attribute, which the caller frees; NULL if there is none. It is a copy: xmlFree need not be
 * free.
 */
static char *attribute(xmlNodePtr node, const char *name)
{
    xmlChar *text = node == NULL ? NULL : xmlGetNoNsProp(node, (const xmlChar *)name);
    char *copy = text == NULL ? NULL : strdup((const char *)text);
    xmlFree(text);
    return copy;
}

static int has(xmlNodePtr node, const char *name, const char *value)
{
    char *text = attribute(node, name);
    int same = text != NULL && strcmp(text, value) == 0;
    free(text);
    return same;
}

/* A number from 0 to 0xffff; `otherwise` if there is no attribute, and -2 if it is invalid. */
static int number(xmlNodePtr node, const char *name, int base, int otherwise)
{
    char *text = attribute(node, name), *end = NULL;
    if (text == NULL)
        return otherwise;
    long value = strtol(text, &end, base);
    int valid = end != text && *end == '\0' && value >= 0 && value <= 0xffff;
    free(text);
    return valid ? (int)value : -2;
}

static const char *read_controller(xmlNodePtr node, vusb_controller *controller)
{
    if (!has(node, "type", "usb"))
        return "only controllers of type usb are supported";
    controller->model = attribute(node, "model");
    controller->index = number(node, "index", 10, -1);
    controller->numports = number(node, "ports", 10, 0);
    return controller->index == -2 || controller->numports == -2 ? "a number is invalid" : NULL;
}

static const char *read_host_device(xmlNodePtr node, vusb_device *device)
{
    char text[32];
    xmlNodePtr source = child(node, "source"), address = child(source, "address");
    int vendor = number(child(source, "vendor"), "id", 16, -1);
    int product = number(child(source, "product"), "id", 16, -1);
    int bus = number(address, "bus", 0, -1), place = number(address, "device", 0, -1);
    if (!has(node, "type", "usb") || !has(node, "mode", "subsystem"))
        return "only host devices of type usb are supported";
    if (vendor == -2 || product == -2 || bus == -2 || place == -2)
        return "a number is invalid";
    if (bus >= 0 && place >= 0)
        snprintf(text, sizeof text, "%03d.%03d", bus, place);
    else if (vendor >= 0 && product >= 0)
        snprintf(text, sizeof text, "%04x:%04x", (unsigned)vendor, (unsigned)product);
    else
        return "the source names no device";
    device->what = strdup(text);
    return NULL;
}

static const char *read_disk(xmlNodePtr node, vusb_device *device)
{
    char *path = attribute(child(node, "source"), "file");
    if (path == NULL)
        path = attribute(child(node, "source"), "dev");
    if (path == NULL || !has(child(node, "target"), "bus", "usb")) {
        free(path);
        return "only disks with a file or block device and <target bus='usb'> are supported";
    }
    const char *options = child(node, "readonly") != NULL ? ",readonly" : "";
    size_t size = strlen("storage:") + strlen(path) + strlen(options) + 1;
    device->what = malloc(size);
    if (device->what != NULL)
        snprintf(device->what, size, "storage:%s%s", path, options);
    free(path);
    return device->what == NULL ? "out of memory" : NULL;
}

static const char *read_device(xmlNodePtr node, vusb_device *device)
{
    const char *name = (const char *)node->name, *wrong = NULL;
    if (strcmp(name, "hostdev") == 0)
        wrong = read_host_device(node, device);
    else if (strcmp(name, "disk") == 0)
        wrong = read_disk(node, device);
    else if (strcmp(name, "hub") == 0 && has(node, "type", "usb"))
        device->what = strdup("hub");
    else if (strcmp(name, "input") == 0 && has(node, "bus", "usb"))
        device->what = attribute(node, "type");
    else
        wrong = "this element is not supported";
    xmlNodePtr address = child(node, "address");
    if (wrong == NULL && address != NULL && !has(address, "type", "usb"))
        wrong = "the address is not of type usb";
    if (wrong == NULL) {
        device->bus = number(address, "bus", 0, -1);
        device->port = attribute(address, "port");
        if (device->bus == -2)
            wrong = "a number is invalid";
    }
    return wrong;
}

/* Reads an element. Returns what is wrong with it, or NULL; *code is the kind of the error. */
static const char *read_element(const char *xml, struct request *request, virErrorNumber *code)
{
    vusb_controller_init(&request->controller);
    vusb_device_init(&request->device);
    *code = VIR_ERR_INVALID_ARG;
    if (xml == NULL)
        return "the XML is NULL";
    *code = VIR_ERR_XML_ERROR;
    int options = XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING;
    xmlDocPtr document = xmlReadMemory(xml, (int)strlen(xml), "device.xml", NULL, options);
    xmlNodePtr root = document == NULL ? NULL : xmlDocGetRootElement(document);
    const char *wrong = "the XML cannot be parsed";
    if (root != NULL) {
        *code = VIR_ERR_CONFIG_UNSUPPORTED;
        request->is_controller = strcmp((const char *)root->name, "controller") == 0;
        wrong = request->is_controller ? read_controller(root, &request->controller)
                                       : read_device(root, &request->device);
    }
    xmlFreeDoc(document);
    return wrong;
}

/*
 * LIVE together with CONFIG is the default of vusb. Without both (the current state), it applies
 * too.
 */
static int read_flags(unsigned int flags, vusb_how *how)
{
    unsigned int both = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG;
    memset(how, 0, sizeof *how);
    if ((flags & ~(both | VIR_DOMAIN_DEVICE_MODIFY_FORCE)) != 0)
        return -1;
    if ((flags & both) == VIR_DOMAIN_AFFECT_LIVE)
        how->flags |= VUSB_NOW;
    if ((flags & both) == VIR_DOMAIN_AFFECT_CONFIG)
        how->flags |= VUSB_NEXT;
    if ((flags & VIR_DOMAIN_DEVICE_MODIFY_FORCE) != 0)
        how->flags |= VUSB_FORCE;
    return 0;
}

static int carry_out(const vusb *handle, const char *domain, const char *xml, unsigned int flags,
                     int attach, virErrorPtr error)
{
    struct request request = {0};
    vusb_how how;
    vusb_error *failure = NULL;
    virErrorNumber code;
    int result;
    if (read_flags(flags, &how) != 0)
        return fail(error, VIR_ERR_INVALID_ARG, "unsupported flags");
    const char *wrong = read_element(xml, &request, &code);
    if (wrong != NULL)
        result = fail(error, code, wrong);
    else if (request.is_controller)
        result = attach ? vusb_controller_add(handle, domain, &request.controller, &how, &failure)
                        : vusb_controller_remove(handle, domain, &request.controller, &how, &failure);
    else
        result = attach ? vusb_device_add(handle, domain, &request.device, &how, &failure)
                        : vusb_device_remove(handle, domain, &request.device, &how, &failure);
    if (failure != NULL)
        fail(error, vusb_libvirt_error(result), vusb_error_message(failure));
    /* libvirt refuses to attach what is already there. */
    if (wrong == NULL && attach && result == VUSB_ALREADY)
        result = fail(error, VIR_ERR_OPERATION_INVALID, "the domain already has it");
    vusb_error_free(failure);
    vusb_controller_dispose(&request.controller);
    vusb_device_dispose(&request.device);
    return result < 0 ? -1 : 0;
}

int vusb_libvirt_attach(const vusb *handle, const char *domain, const char *xml, unsigned int flags,
                        virErrorPtr error)
{
    return carry_out(handle, domain, xml, flags, 1, error);
}

int vusb_libvirt_detach(const vusb *handle, const char *domain, const char *xml, unsigned int flags,
                        virErrorPtr error)
{
    return carry_out(handle, domain, xml, flags, 0, error);
}
