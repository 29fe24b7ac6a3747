/* Guests that start and end, in a loop around poll; and descriptors that no child inherits. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

/* How many descriptors are checked, and which of them were open before the library was used. */
#define DESCRIPTORS 256
static int inherited[DESCRIPTORS];

/* Waits for the event, and checks that it is about the guest. */
static void wait_for(vusb_events *events, int fd, const char *kind, const char *guest)
{
    for (;;) {
        struct pollfd one = {fd, POLLIN, 0};
        char *json = NULL;
        vusb_error *error = NULL;
        CHECK(poll(&one, 1, 30000) == 1);
        int result = vusb_events_next(events, &json, &error);
        CHECK(result >= 0);
        int found = json != NULL && strstr(json, kind) != NULL && strstr(json, guest) != NULL;
        CHECK((json == NULL) == (result == VUSB_ALREADY));
        vusb_free(json);
        if (found)
            return;
    }
}

int main(int count, char **words)
{
    char json[4096], file[4096], vm[4096];
    vusb_events *events = NULL;
    int fd = -1;
    vusb_controller hci;
    CHECK(count == 2);
    for (int other = 0; other < DESCRIPTORS; other++)
        inherited[other] = fcntl(other, F_GETFD) != -1;
    vusb *v = open_in(words[1]);
    CHECK(snprintf(json, sizeof json, "{\"guests\": [\"sim:%s/guests\"]}", words[1]) > 0);
    CHECK(snprintf(vm, sizeof vm, "sim:%s/guests/vm", words[1]) > 0);
    EXPECT(VUSB_DONE, vusb_watch(v, json, &events, &fd, &error));
    CHECK(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    for (int other = 0; other < DESCRIPTORS; other++) {
        int flags = fcntl(other, F_GETFD);
        CHECK(inherited[other] || flags == -1 || (flags & FD_CLOEXEC) != 0);
    }
    vusb_controller_init(&hci);
    EXPECT(VUSB_DONE, vusb_controller_add(v, vm, &hci, NULL, &error));
    wait_for(events, fd, "guest-started", vm);
    CHECK(unlink(join(file, sizeof file, vm + 4, "")) == 0);
    wait_for(events, fd, "guest-ended", vm);
    /* The handle may be closed before the watch. */
    vusb_close(v);
    vusb_events_close(events);
    CHECK(fcntl(fd, F_GETFD) == -1);
    vusb_controller_dispose(&hci);
    return 0;
}
