/*
 * vusb.h - USB for virtual machines, for programs in C and C++.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The library has two layers:
 *
 *   1. vusb_call and vusb_watch take and return JSON. Methods, parameters, replies and errors are
 *      exactly those of the Varlink interface io.github.vusb.Manager.
 *   2. vusb_controller_* and vusb_device_* are the same operations with structures.
 *
 * A function that can fail returns VUSB_DONE, VUSB_ALREADY or a negative VUSB_E_*, and takes a
 * place for an error as its last parameter. The place may be NULL. Otherwise it is set: to NULL on
 * success, and on failure to an error, which the caller releases with vusb_error_free.
 *
 * Memory: strings in structures, lists, and JSON that the library returns are allocated with
 * malloc. Parameters remain the caller's. A pointer that is described as "or NULL" may be NULL;
 * NULL elsewhere is an error (VUSB_E_USAGE), and so is a string that is not UTF-8. Places for
 * results are set to NULL, 0 or (a descriptor) -1 before anything else.
 *
 * Threads: any number of threads may use a handle at once. A call blocks its thread until it is
 * done, its deadline passes, or it is cancelled. A call that changes a domain holds the lock of
 * that domain, which the command vusb and vusbd respect too. A structure that is passed as "io"
 * must not be used by another thread during the call.
 *
 * The library prints nothing, installs no signal handlers, and reads no configuration from the
 * environment. SIGPIPE is blocked in the calling thread during a call. All file descriptors are
 * close-on-exec. After fork, the child must not use a handle, but may exec or _exit.
 */

#ifndef VUSB_H
#define VUSB_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Results. The codes of failures are the exit codes of the command vusb, negated. */

#define VUSB_DONE 0                /* done */
#define VUSB_ALREADY 1             /* the request was already fulfilled, or there is no event */
#define VUSB_E_FAILED (-1)         /* it failed */
#define VUSB_E_USAGE (-2)          /* the request is invalid */
#define VUSB_E_NOT_FOUND (-3)      /* no such domain, controller, device or file */
#define VUSB_E_BUSY (-4)           /* in use, claimed or locked */
#define VUSB_E_DENIED (-5)         /* refused by a rule or a protection */
#define VUSB_E_NO_ROOM (-6)        /* no free port, or none that takes the speed */
#define VUSB_E_UNREACHABLE (-7)    /* the hypervisor cannot be reached */
#define VUSB_E_TIMED_OUT (-8)      /* it took too long */
#define VUSB_E_NOT_IMPLEMENTED (-9) /* this hypervisor, or this process, cannot do it */
#define VUSB_E_INTERNAL (-100)     /* a bug in libvusb, which was caught */

/* Errors */

typedef struct vusb_error vusb_error;

/* The code of the result; 0 if error is NULL. */
int vusb_error_code(const vusb_error *error);

/* What happened and why; "" if error is NULL. Valid until the error is released. */
const char *vusb_error_message(const vusb_error *error);

/*
 * What to do, in one or several lines; NULL if there is no advice. Valid until the error is
 * released.
 */
const char *vusb_error_hint(const vusb_error *error);

/*
 * The error as in the interface: {"error": NAME, "parameters": {...}}; "{}" if error is NULL.
 * After a failed change, parameters.view.failed lists the steps that were undone. Valid until the
 * error is released.
 */
const char *vusb_error_json(const vusb_error *error);

/* Releases an error, or NULL. */
void vusb_error_free(vusb_error *error);

/* The exit code of a program that ends with this result: 0 to 9. */
int vusb_exit_code(int result);

/* Releases a string that vusb_call or vusb_events_next returned, or NULL. */
void vusb_free(void *memory);

/* The version of the library: "0.1.0". Static. */
const char *vusb_version(void);

/* The handle */

typedef struct vusb vusb;

/*
 * Locations, as absolute paths. A structure of zeros is the default. NULL means: records in
 * /var/lib/vusb for root, otherwise in /run/user/UID/vusb; claims in /run/vusb/claims; rules in
 * /usr/lib/vusb/rules.d and /etc/vusb/rules.d; the machine's own devices.
 *
 * The library does not read the environment, so for users other than root, the default for the
 * records is not that of the command vusb ($XDG_STATE_HOME/vusb or ~/.local/state/vusb). To share
 * records with the command, set state_dir.
 */
typedef struct vusb_options {
    const char *state_dir;  /* the records, or NULL */
    const char *claims_dir; /* the claims, or NULL */
    const char *rules_dir;  /* the only folder of rule files, or NULL */
    const char *host_root;  /* the root below which the devices of this machine are read, or NULL */
    const void *reserved[4]; /* NULL */
} vusb_options;

/* Creates a handle; options may be NULL. Nothing is opened or written. vusb_close releases *out. */
int vusb_open(const vusb_options *options, vusb **out, vusb_error **error);

/* Releases a handle, or NULL. No call may be using it. */
void vusb_close(vusb *handle);

/* How a call is carried out */

#define VUSB_DRY_RUN 1u    /* report what would be done, and change nothing */
#define VUSB_FORCE 2u      /* override refusals, as --force does */
#define VUSB_NOW 4u        /* libvirt domains: only change the running guest */
#define VUSB_NEXT 8u       /* libvirt domains: only change what the guest starts with next */
#define VUSB_WHEN_THERE 16u /* accept an absent host device; it is attached once it is there */

typedef struct vusb_cancel vusb_cancel;

/* A structure of zeros is the default, as is NULL in its place. */
typedef struct vusb_how {
    unsigned int flags;        /* VUSB_DRY_RUN and so on */
    int wait_ms;               /* the limit of a single wait in milliseconds; 0 is 10000 */
    int deadline_ms;           /* limit of the whole call, in ms; 0 is thirty single waits */
    const char *folder;        /* absolute; relative paths start here; NULL is the current folder */
    const vusb_cancel *cancel; /* cancels the call, or NULL */
} vusb_how;

/*
 * A value that cancels calls from another thread. The step under way is finished, and then undone
 * together with the steps before it. The call fails with VUSB_E_FAILED; its message is "cancelled",
 * or gives that as the reason.
 */
vusb_cancel *vusb_cancel_new(void);

/* Cancels all calls that use the value, now and later. Not for signal handlers. */
void vusb_cancel_trigger(vusb_cancel *cancel);

/* Releases the value, or NULL. Calls that use it already are not affected. */
void vusb_cancel_free(vusb_cancel *cancel);

/* Layer 1: JSON */

/*
 * Calls a method, such as "AddDevice" or "io.github.vusb.Manager.AddDevice". json_in is an object
 * with its parameters, or NULL. *json_out is the reply; for a method that replies several times
 * ("more"), an array of its replies. json_out may be NULL. vusb_free releases *json_out.
 *
 * `how` gives the defaults for the fields of the parameter "options" of the method.
 *
 * The work is done in this process, as by the command vusb without vusbd. Answer, LiftHolds,
 * Metrics, Reload and Watch are about the state of vusbd, and fail with VUSB_E_NOT_IMPLEMENTED.
 */
int vusb_call(const vusb *handle, const char *method, const char *json_in, const vusb_how *how,
              char **json_out, vusb_error **error);

typedef struct vusb_events vusb_events;

/*
 * Watches for guests that start and end. json_in is NULL or {"guests": ["SCHEME:FOLDER", ...]} with
 * additional folders to watch, as absolute paths. The folders of the hypervisors and of recorded
 * guests are always watched.
 *
 * *fd is a descriptor to poll for reading; fd may be NULL. It stays the same, belongs to *out, and
 * must only be polled. When it is readable, call vusb_events_next until it returns VUSB_ALREADY.
 * Guests that already run are reported first. vusb_events_close releases *out.
 */
int vusb_watch(const vusb *handle, const char *json_in, vusb_events **out, int *fd, vusb_error **error);

/*
 * The next event, without waiting for one: VUSB_DONE with *json_out set to {"event": {"number": N,
 * "event": "guest-started", "domain": ADDRESS, "text": TEXT}}, as in a reply of Watch, but without
 * the time; or VUSB_ALREADY with NULL. Events are guest-started, guest-ended, and failing: a
 * hypervisor cannot be reached at the moment. vusb_free releases *json_out.
 */
int vusb_events_next(vusb_events *events, char **json_out, vusb_error **error);

/* Ends the watch and closes its descriptor. NULL is ignored. */
void vusb_events_close(vusb_events *events);

/* Layer 2: controllers */

#define VUSB_TYPE_AUTO 0
#define VUSB_TYPE_PV 1
#define VUSB_TYPE_EMULATED 2

/*
 * A controller. Each field may be left open, as vusb_controller_init does. Strings are NULL or
 * allocated with malloc; vusb_controller_dispose releases them.
 */
typedef struct vusb_controller {
    char *name;     /* such as "hci0" or "pv0"; NULL: chosen */
    int type;       /* VUSB_TYPE_PV or VUSB_TYPE_EMULATED; VUSB_TYPE_AUTO: chosen */
    int usbversion; /* 1, 2 or 3; 0: chosen */
    int numports;   /* 1 to the model's maximum; 0: chosen */
    int index;      /* 0 to 4095, the bus of the addresses on it; -1: chosen */
    char *model;    /* such as "qemu-xhci"; NULL: chosen */
    char *backend;  /* pv only: the backend domain, by name or id; NULL: domain 0 */
    char *state;    /* in a list: "present", "missing", "broken", "unknown" or "configured" */
} vusb_controller;

/* Leaves all fields open, whatever they contain. */
void vusb_controller_init(vusb_controller *controller);

/* Releases the contents, not the structure, and leaves all fields open. NULL is ignored. */
void vusb_controller_dispose(vusb_controller *controller);

/* Adds a controller to the domain. On success, what was open in *io is filled in. */
int vusb_controller_add(const vusb *handle, const char *domain, vusb_controller *io,
                        const vusb_how *how, vusb_error **error);

/* Removes a controller without devices. It is identified by name, or else by index. */
int vusb_controller_remove(const vusb *handle, const char *domain, const vusb_controller *which,
                           const vusb_how *how, vusb_error **error);

/* Removes a controller together with its devices, without waiting for the guest's consent. */
int vusb_controller_destroy(const vusb *handle, const char *domain, const vusb_controller *which,
                            const vusb_how *how, vusb_error **error);

/* Lists the controllers of the domain. vusb_controller_list_free releases *list. */
int vusb_controller_list(const vusb *handle, const char *domain, vusb_controller **list, size_t *count,
                         const vusb_how *how, vusb_error **error);

/* Releases a list with this many controllers, or NULL. */
void vusb_controller_list_free(vusb_controller *list, size_t count);

/* Layer 2: devices */

/* A device. Strings are NULL or allocated with malloc; vusb_device_dispose releases them. */
typedef struct vusb_device {
    char *name;       /* its name in the domain; NULL: chosen */
    char *what;       /* what it is, as for `vusb device add`: "0781:5581", "storage:FILE" */
    char *controller; /* the controller, by name or index; NULL: by bus */
    char *port;       /* the port, such as "1" or "2.1" behind a hub; NULL: chosen */
    int bus;          /* the index of the controller; -1: chosen */
    char *state;      /* in a list: "attached", "absent", "offered", "configured", "missing",
                         "suspended" or "unknown" */
} vusb_device;

/* Leaves all fields open, whatever they contain. */
void vusb_device_init(vusb_device *device);

/* Releases the contents, not the structure, and leaves all fields open. NULL is ignored. */
void vusb_device_dispose(vusb_device *device);

/*
 * Attaches a device to the domain. `what` is required. A controller is added first if there is none
 * with a free port for it. On success, what was open in *io is filled in.
 */
int vusb_device_add(const vusb *handle, const char *domain, vusb_device *io, const vusb_how *how,
                    vusb_error **error);

/*
 * Detaches a device. It is identified by name, else by controller (or bus) and port, else by
 * `what`.
 */
int vusb_device_remove(const vusb *handle, const char *domain, const vusb_device *which,
                       const vusb_how *how, vusb_error **error);

/* Lists the devices of the domain. vusb_device_list_free releases *list. */
int vusb_device_list(const vusb *handle, const char *domain, vusb_device **list, size_t *count,
                     const vusb_how *how, vusb_error **error);

/* Releases a list with this many devices, or NULL. */
void vusb_device_list_free(vusb_device *list, size_t count);

#ifdef __cplusplus
}
#endif

#endif /* VUSB_H */
