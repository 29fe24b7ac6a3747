/* The verbs of the proposal of 2014, and the same operations as JSON, on a simulated hypervisor. */
#include "check.h"

static void add_and_remove(vusb *v, const char *vm)
{
    vusb_controller hci, *list = NULL;
    size_t count = 7;
    vusb_controller_init(&hci);
    hci.type = VUSB_TYPE_EMULATED;
    hci.usbversion = 3;
    hci.numports = 4;
    EXPECT(VUSB_DONE, vusb_controller_add(v, vm, &hci, NULL, &error));
    CHECK(strcmp(hci.name, "hci0") == 0 && hci.index == 0 && hci.numports == 4);
    CHECK(strcmp(hci.model, "nec-xhci") == 0 && hci.backend == NULL);
    EXPECT(VUSB_ALREADY, vusb_controller_add(v, vm, &hci, NULL, &error));

    vusb_device stick, *devices = NULL;
    vusb_device_init(&stick);
    stick.what = copy_of("tablet");
    EXPECT(VUSB_DONE, vusb_device_add(v, vm, &stick, NULL, &error));
    CHECK(strcmp(stick.controller, "hci0") == 0 && strcmp(stick.port, "1") == 0);
    CHECK(stick.bus == 0 && stick.name != NULL);
    EXPECT(VUSB_DONE, vusb_device_list(v, vm, &devices, &count, NULL, &error));
    CHECK(count == 1 && strcmp(devices[0].what, "tablet") == 0);
    CHECK(strcmp(devices[0].state, "attached") == 0);
    vusb_device_list_free(devices, count);

    EXPECT(VUSB_DONE, vusb_controller_list(v, vm, &list, &count, NULL, &error));
    CHECK(count == 1 && list[0].type == VUSB_TYPE_EMULATED && list[0].usbversion == 3);
    CHECK(strcmp(list[0].state, "present") == 0);
    vusb_controller_list_free(list, count);

    /* It has a device: only `destroy` removes it. */
    EXPECT(VUSB_E_BUSY, vusb_controller_remove(v, vm, &hci, NULL, &error));
    vusb_device which;
    vusb_device_init(&which);
    which.bus = 0;
    which.port = copy_of("1");
    EXPECT(VUSB_DONE, vusb_device_remove(v, vm, &which, NULL, &error));
    EXPECT(VUSB_E_NOT_FOUND, vusb_device_remove(v, vm, &which, NULL, &error));
    vusb_device_dispose(&which);
    EXPECT(VUSB_DONE, vusb_device_add(v, vm, &stick, NULL, &error));
    EXPECT(VUSB_DONE, vusb_controller_destroy(v, vm, &hci, NULL, &error));
    EXPECT(VUSB_DONE, vusb_controller_list(v, vm, &list, &count, NULL, &error));
    CHECK(count == 0 && list == NULL);
    vusb_controller_list_free(list, count);
    vusb_device_dispose(&stick);
    vusb_controller_dispose(&hci);
    CHECK(hci.name == NULL && hci.index == -1);
}

static void how(vusb *v, const char *vm)
{
    vusb_how how;
    vusb_controller hci, *list = NULL;
    size_t count = 0;
    memset(&how, 0, sizeof how);
    how.flags = VUSB_DRY_RUN;
    how.wait_ms = 1000;
    how.deadline_ms = 5000;
    how.cancel = vusb_cancel_new();
    vusb_controller_init(&hci);
    EXPECT(VUSB_DONE, vusb_controller_add(v, vm, &hci, &how, &error));
    CHECK(hci.numports == 15 && strcmp(hci.model, "qemu-xhci") == 0);
    EXPECT(VUSB_DONE, vusb_controller_list(v, vm, &list, &count, NULL, &error));
    CHECK(count == 0);
    how.flags = 0;
    vusb_cancel_trigger((vusb_cancel *)how.cancel);
    EXPECT(VUSB_E_FAILED, vusb_controller_add(v, vm, &hci, &how, &error));
    vusb_cancel_free((vusb_cancel *)how.cancel);
    how.cancel = NULL;
    how.flags = 1u << 20;
    EXPECT(VUSB_E_USAGE, vusb_controller_add(v, vm, &hci, &how, &error));
    how.flags = 0;
    how.wait_ms = -1;
    EXPECT(VUSB_E_USAGE, vusb_controller_add(v, vm, &hci, &how, &error));
    vusb_controller_dispose(&hci);
}

static void json(vusb *v, const char *vm)
{
    char text[8192], *reply = NULL;
    CHECK(snprintf(text, sizeof text, "{\"domain\": \"%s\", \"device\": \"tablet\"}", vm) > 0);
    EXPECT(VUSB_DONE, vusb_call(v, "AddDevice", text, NULL, &reply, &error));
    CHECK(strstr(reply, "\"at\":\"hci0:1\"") != NULL);
    vusb_free(reply);
    EXPECT(VUSB_DONE, vusb_call(v, "io.github.vusb.Manager.ListDomains", NULL, NULL, &reply, &error));
    CHECK(reply[0] == '[' && strstr(reply, vm) != NULL);
    vusb_free(reply);
    EXPECT(VUSB_DONE, vusb_call(v, "GetAccess", "{}", NULL, &reply, &error));
    CHECK(strstr(reply, "\"AddController\"") != NULL && strstr(reply, "\"Watch\"") == NULL);
    vusb_free(reply);
    EXPECT(VUSB_E_USAGE, vusb_call(v, "AddDevice", "{", NULL, &reply, &error));
    EXPECT(VUSB_E_USAGE, vusb_call(v, "AddDevice", "{\"dvice\": 1}", NULL, &reply, &error));
    EXPECT(VUSB_E_USAGE, vusb_call(v, "Fly", NULL, NULL, &reply, &error));
    EXPECT(VUSB_E_NOT_IMPLEMENTED, vusb_call(v, "Metrics", NULL, NULL, &reply, &error));
    CHECK(reply == NULL);

    vusb_error *error = NULL;
    CHECK(vusb_call(v, "Describe", "{\"domain\": \"nosuch\"}", NULL, NULL, &error) == VUSB_E_NOT_FOUND);
    CHECK(strstr(vusb_error_message(error), "nosuch") != NULL && vusb_error_hint(error) != NULL);
    CHECK(strstr(vusb_error_json(error), "\"error\":\"io.github.vusb.Manager.NotFound\"") != NULL);
    CHECK(vusb_exit_code(vusb_error_code(error)) == 3);
    vusb_error_free(error);
}

int main(int count, char **words)
{
    char vm[4096];
    CHECK(count == 2);
    CHECK(strcmp(vusb_version(), "0.1.0") == 0);
    vusb *v = open_in(words[1]);
    join(vm, sizeof vm, "sim:", words[1]);
    strcat(vm, "/vm");
    add_and_remove(v, vm);
    how(v, vm);
    json(v, vm);
    vusb_close(v);
    return 0;
}
