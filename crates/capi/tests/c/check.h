/* What the tests of libvusb share. Each program gets its own folder. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vusb.h>

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                \
            exit(1);                                                                       \
        }                                                                                  \
    } while (0)

/* Checks the result of a call, and releases its error. */
#define EXPECT(code, call)                                                                 \
    do {                                                                                   \
        vusb_error *error = NULL;                                                          \
        int result = (call);                                                               \
        if (result != (code)) {                                                            \
            fprintf(stderr, "%s:%d: %s: %d: %s\n", __FILE__, __LINE__, #call, result,      \
                    vusb_error_message(error));                                            \
            exit(1);                                                                       \
        }                                                                                  \
        CHECK((error != NULL) == (result < 0));                                            \
        CHECK(vusb_error_code(error) == (result < 0 ? result : 0));                        \
        vusb_error_free(error);                                                            \
    } while (0)

static inline char *copy_of(const char *text)
{
    char *copy = (char *)malloc(strlen(text) + 1);
    CHECK(copy != NULL);
    return strcpy(copy, text);
}

static inline const char *join(char *place, size_t size, const char *start, const char *end)
{
    int length = snprintf(place, size, "%s%s", start, end);
    CHECK(length > 0 && (size_t)length < size);
    return place;
}

/* A handle whose files are all in the folder. */
static inline vusb *open_in(const char *folder)
{
    static char state[4096], claims[4096], rules[4096];
    vusb_options options;
    vusb *handle = NULL;
    memset(&options, 0, sizeof options);
    options.state_dir = join(state, sizeof state, folder, "/state");
    options.claims_dir = join(claims, sizeof claims, folder, "/claims");
    options.rules_dir = join(rules, sizeof rules, folder, "/rules");
    options.host_root = folder;
    EXPECT(VUSB_DONE, vusb_open(&options, &handle, &error));
    CHECK(handle != NULL);
    return handle;
}

#endif
