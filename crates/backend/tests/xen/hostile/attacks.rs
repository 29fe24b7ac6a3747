//! The expected outcome of each attack of `examples/hostile-frontend`.

/// How an attack ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    /// The backend closes the controller, and its reason contains this text.
    Dropped(&'static str),
    /// The backend answers the requests, and continues to serve the guest.
    Served,
    /// Either, depending on timing.
    Either,
}

use Expected::{Dropped, Either, Served};

const NO_RINGS: Expected = Dropped("no usable ring references");
const UNUSABLE: Expected = Dropped("the guest's rings cannot be used");
const INDEX: Expected = Dropped("the guest announced requests up to number");
const MEMORY: Expected = Dropped("cannot access the guest's memory: Xen refused a grant");

/// All attacks, with their variants.
pub(super) const ATTACKS: &[(&str, Expected)] = &[
    ("urb-index-17", INDEX),
    ("urb-index-half", INDEX),
    ("urb-index-back", INDEX),
    ("connect-index-17", INDEX),
    ("connect-index-half", INDEX),
    ("connect-index-none", Served),
    ("port-0", Dropped("port 0")),
    ("port-31", Served),
    ("segments-17", Dropped("17 segments")),
    ("segments-65535", Dropped("65535 segments")),
    ("past-the-page", Dropped("a bad segment")),
    ("far-past-the-page", Dropped("a bad segment")),
    ("endpoint-0", Dropped("endpoint 0")),
    ("no-room", Served),
    ("empty-segments", Served),
    ("duplicate-id", Dropped("request id 3")),
    ("address-0", Served),
    ("set-address-128", Served),
    ("set-address-65535", Served),
    ("no-such-endpoint", Served),
    ("unlink-itself", Served),
    ("unlink-all", Served),
    ("configure-often", Served),
    ("configure-and-address", Served),
    ("reset-often", Served),
    ("any-control", Served),
    ("any-request", Served),
    ("grants-never-given", MEMORY),
    ("grants-revoked", MEMORY),
    ("grants-read-only", MEMORY),
    ("one-page-for-all", Served),
    ("packets-invalid", Served),
    ("packets-129", Served),
    ("packets-none", Dropped("no packets")),
    ("packets-short-table", Dropped("but a table of only")),
    ("packets-change", Served),
    ("scribble", INDEX),
    ("flip-bytes", Either),
    ("flip-lengths", Served),
    ("nodes 0", NO_RINGS),
    ("nodes 1", NO_RINGS),
    ("nodes 2", NO_RINGS),
    ("nodes 3", NO_RINGS),
    ("nodes 4", NO_RINGS),
    ("nodes 5", NO_RINGS),
    ("nodes 6", NO_RINGS),
    ("nodes 7", UNUSABLE),
    ("nodes 8", UNUSABLE),
    ("nodes 9", UNUSABLE),
    // The first request also grants credit for an event.
    ("nodes 10", Either),
    ("nodes 11", INDEX),
    ("nodes 12", UNUSABLE),
    ("nodes 13", UNUSABLE),
    ("nodes 14", UNUSABLE),
    ("nodes 15", UNUSABLE),
    ("nodes-change", Either),
    ("states", Served),
    ("states-garbage", Served),
    ("states-gone", Served),
    ("reconnect-often", Served),
    ("channel-closed", Served),
    ("event-flood", Served),
    ("event-flood-with-requests", Served),
    ("index-oscillates", Either),
];
