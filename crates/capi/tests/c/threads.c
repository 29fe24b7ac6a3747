/* Eight threads on one handle: half on domains of their own, half on one domain. */
#include "check.h"
#include <pthread.h>

static vusb *handle;
static const char *folder;

static void *work(void *argument)
{
    int number = (int)(size_t)argument;
    char vm[4096];
    CHECK(snprintf(vm, sizeof vm, "sim:%s/vm%d", folder, number < 4 ? number : 9) > 0);
    for (int round = 0; round < 3; round++) {
        vusb_device tablet, *list = NULL;
        size_t count = 0;
        char name[32];
        CHECK(snprintf(name, sizeof name, "t%d", number) > 0);
        vusb_device_init(&tablet);
        tablet.what = copy_of("tablet");
        tablet.name = copy_of(name);
        EXPECT(VUSB_DONE, vusb_device_add(handle, vm, &tablet, NULL, &error));
        EXPECT(VUSB_DONE, vusb_device_list(handle, vm, &list, &count, NULL, &error));
        CHECK(count >= 1);
        vusb_device_list_free(list, count);
        EXPECT(VUSB_E_NOT_FOUND, vusb_call(handle, "Describe", "{\"domain\": \"no\"}", NULL, NULL, &error));
        EXPECT(VUSB_DONE, vusb_device_remove(handle, vm, &tablet, NULL, &error));
        vusb_device_dispose(&tablet);
    }
    return NULL;
}

int main(int count, char **words)
{
    pthread_t threads[8];
    CHECK(count == 2);
    folder = words[1];
    handle = open_in(folder);
    for (size_t i = 0; i < 8; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    for (size_t i = 0; i < 8; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    vusb_close(handle);
    return 0;
}
