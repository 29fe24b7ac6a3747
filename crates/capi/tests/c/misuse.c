/* NULL for every parameter, text that is not UTF-8, values out of range: errors, never crashes. */
#include "check.h"

#define BAD_UTF8 "sim:/\xff\xfe"

static void null_handle(void)
{
    vusb_controller c, *cs = NULL;
    vusb_device d, *ds = NULL;
    vusb_events *events = NULL;
    size_t n = 0;
    char *reply = NULL;
    int fd = -1;
    vusb_controller_init(&c);
    vusb_device_init(&d);
    EXPECT(VUSB_E_USAGE, vusb_call(NULL, "GetAccess", NULL, NULL, &reply, &error));
    EXPECT(VUSB_E_USAGE, vusb_watch(NULL, NULL, &events, &fd, &error));
    EXPECT(VUSB_E_USAGE, vusb_events_next(NULL, &reply, &error));
    EXPECT(VUSB_E_USAGE, vusb_controller_add(NULL, "sim:/x", &c, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_controller_remove(NULL, "sim:/x", &c, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_controller_destroy(NULL, "sim:/x", &c, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_controller_list(NULL, "sim:/x", &cs, &n, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_device_add(NULL, "sim:/x", &d, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_device_remove(NULL, "sim:/x", &d, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_device_list(NULL, "sim:/x", &ds, &n, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_open(NULL, NULL, &error));
}

static void null_and_bad_parameters(vusb *v, const char *vm)
{
    vusb_controller c, *cs = NULL;
    vusb_device d, *ds = NULL;
    vusb_events *events = NULL;
    size_t n = 0;
    char *reply = NULL;
    const char *texts[] = {NULL, BAD_UTF8, ""};
    vusb_controller_init(&c);
    vusb_device_init(&d);
    c.index = 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *text = texts[i];
        /* Without a place for the error. */
        CHECK(vusb_call(v, text, NULL, NULL, &reply, NULL) == VUSB_E_USAGE);
        CHECK(vusb_controller_add(v, text, &c, NULL, NULL) < 0);
        CHECK(vusb_controller_remove(v, text, &c, NULL, NULL) < 0);
        CHECK(vusb_controller_destroy(v, text, &c, NULL, NULL) < 0);
        CHECK(vusb_controller_list(v, text, &cs, &n, NULL, NULL) < 0);
        CHECK(vusb_device_add(v, text, &d, NULL, NULL) < 0);
        CHECK(vusb_device_remove(v, text, &d, NULL, NULL) < 0);
        CHECK(vusb_device_list(v, text, &ds, &n, NULL, NULL) < 0);
    }
    EXPECT(VUSB_E_USAGE, vusb_call(v, "Describe", "{\"domain\": \"\xff\"}", NULL, &reply, &error));
    EXPECT(VUSB_E_USAGE, vusb_call(v, "Describe", "[]", NULL, &reply, &error));
    EXPECT(VUSB_E_USAGE, vusb_controller_add(v, vm, NULL, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_controller_remove(v, vm, NULL, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_controller_destroy(v, vm, NULL, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_controller_list(v, vm, NULL, &n, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_controller_list(v, vm, &cs, NULL, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_device_add(v, vm, NULL, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_device_add(v, vm, &d, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_device_remove(v, vm, NULL, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_device_remove(v, vm, &d, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_device_list(v, vm, NULL, &n, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_device_list(v, vm, &ds, NULL, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_watch(v, NULL, NULL, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_watch(v, "{\"guests\": 1}", &events, NULL, &error));
    EXPECT(VUSB_E_USAGE, vusb_watch(v, "{\"guests\": [\"sim:relative\"]}", &events, NULL, &error));
    EXPECT(VUSB_E_NOT_FOUND, vusb_watch(v, "{\"guests\": [\"nosuch:/run\"]}", &events, NULL, &error));
    CHECK(events == NULL);
}

static void values_out_of_range(vusb *v, const char *vm)
{
    const int numbers[] = {-2147483647 - 1, -2, 4, 256, 4096, 65536, 2147483647};
    vusb_controller c;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        vusb_controller_init(&c);
        c.type = numbers[i];
        EXPECT(VUSB_E_USAGE, vusb_controller_add(v, vm, &c, NULL, &error));
        vusb_controller_init(&c);
        c.usbversion = numbers[i];
        EXPECT(VUSB_E_USAGE, vusb_controller_add(v, vm, &c, NULL, &error));
        if (numbers[i] != 4) {
            vusb_controller_init(&c);
            c.numports = numbers[i];
            EXPECT(VUSB_E_USAGE, vusb_controller_add(v, vm, &c, NULL, &error));
            vusb_controller_init(&c);
            c.index = numbers[i];
            if (numbers[i] != 256) {
                EXPECT(VUSB_E_USAGE, vusb_controller_add(v, vm, &c, NULL, &error));
            }
        }
    }
    vusb_controller_init(&c);
    c.name = copy_of("\xff");
    EXPECT(VUSB_E_USAGE, vusb_controller_add(v, vm, &c, NULL, &error));
    vusb_controller_dispose(&c);
    c.model = copy_of("flux-capacitor");
    EXPECT(VUSB_E_USAGE, vusb_controller_add(v, vm, &c, NULL, &error));
    vusb_controller_dispose(&c);
}

static void null_is_released(void)
{
    vusb_close(NULL);
    vusb_free(NULL);
    vusb_error_free(NULL);
    vusb_cancel_free(NULL);
    vusb_cancel_trigger(NULL);
    vusb_events_close(NULL);
    vusb_controller_init(NULL);
    vusb_controller_dispose(NULL);
    vusb_controller_list_free(NULL, 3);
    vusb_device_init(NULL);
    vusb_device_dispose(NULL);
    vusb_device_list_free(NULL, 3);
    CHECK(vusb_error_code(NULL) == 0 && vusb_error_hint(NULL) == NULL);
    CHECK(strcmp(vusb_error_message(NULL), "") == 0 && strcmp(vusb_error_json(NULL), "{}") == 0);
}

int main(int count, char **words)
{
    char vm[4096];
    vusb_options options;
    vusb *other = NULL;
    CHECK(count == 2);
    null_handle();
    null_is_released();
    memset(&options, 0, sizeof options);
    options.state_dir = "relative";
    EXPECT(VUSB_E_USAGE, vusb_open(&options, &other, &error));
    options.state_dir = NULL;
    options.reserved[3] = "x";
    EXPECT(VUSB_E_USAGE, vusb_open(&options, &other, &error));
    CHECK(other == NULL);
    vusb *v = open_in(words[1]);
    join(vm, sizeof vm, "sim:", words[1]);
    strcat(vm, "/vm");
    null_and_bad_parameters(v, vm);
    values_out_of_range(v, vm);
    vusb_close(v);
    return 0;
}
