/*
 * Gives a guest a USB 3 controller with four ports and a stick.
 *
 *     cc stick.c $(pkg-config --cflags --libs vusb) -o stick
 *     ./stick qemu:/run/web1.qmp stick.img
 */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vusb.h>

static int failed(const char *what, vusb_error *error)
{
    int code = vusb_exit_code(vusb_error_code(error));
    const char *hint = vusb_error_hint(error);
    fprintf(stderr, "%s: %s\n", what, vusb_error_message(error));
    if (hint != NULL)
        fprintf(stderr, "hint: %s\n", hint);
    vusb_error_free(error);
    return code;
}

int main(int count, char **words)
{
    if (count < 3) {
        fprintf(stderr, "usage: %s DOMAIN IMAGE [STATE-DIR]\n", words[0]);
        return 2;
    }
    vusb *handle = NULL;
    vusb_error *error = NULL;
    vusb_options options = {.state_dir = words[3]};
    int code = 0;

    if (vusb_open(&options, &handle, &error) < 0)
        return failed("open", error);

    vusb_controller hci;
    vusb_device stick;
    vusb_controller_init(&hci);
    vusb_device_init(&stick);
    hci.name = strdup("hci0");
    hci.usbversion = 3;
    hci.numports = 4;
    stick.what = malloc(strlen("storage:") + strlen(words[2]) + 1);
    strcat(strcpy(stick.what, "storage:"), words[2]);
    stick.controller = strdup("hci0");
    if (vusb_controller_add(handle, words[1], &hci, NULL, &error) < 0) {
        code = failed("controller", error);
    } else if (printf("%s (%s, %d ports)\n", hci.name, hci.model, hci.numports),
               vusb_device_add(handle, words[1], &stick, NULL, &error) < 0) {
        code = failed("stick", error);
    } else {
        printf("%s:%s\n", stick.controller, stick.port);
    }
    vusb_device_dispose(&stick);
    vusb_controller_dispose(&hci);
    vusb_close(handle);
    return code;
}
