//! What each attack of `examples/hostile-frontend` has to lead to.

/// How an attack ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    /// The backend closes the controller, and says these words.
    Dropped(&'static str),
    /// It answers what is to be answered, and goes on.
    Served,
    /// It depends on who is faster.
    Either,
}

use Expected::{Dropped, Either, Served};

const NOWHERE: Expected = Dropped("not where its rings are");
const UNUSABLE: Expected = Dropped("the guest's rings cannot be used");
const INDEX: Expected = Dropped("the guest announced requests up to number");
const MEMORY: Expected = Dropped("the guest's memory cannot be reached: Xen refused a grant");

/// All attacks, with their numbers where they have any.
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
    ("duplicate-id", Dropped("request number 3 again")),
    ("address-0", Served),
    ("set-address-128", Served),
    ("set-address-65535", Served),
    ("no-such-endpoint", Served),
    ("unlink-itself", Served),
    ("unlink-all", Served),
    ("configure-often", Served),
    ("configured-and-not", Served),
    ("reset-often", Served),
    ("any-control", Served),
    ("any-request", Served),
    ("grants-never-given", MEMORY),
    ("grants-revoked", MEMORY),
    ("grants-read-only", MEMORY),
    ("one-page-for-all", Served),
    ("packets-lie", Served),
    ("packets-129", Served),
    ("packets-none", Dropped("no packets")),
    ("packets-short-table", Dropped("describes them in")),
    ("packets-change", Served),
    ("scribble", Dropped("drop this controller")),
    ("flip-bytes", Either),
    ("flip-lengths", Served),
    ("nodes 0", NOWHERE),
    ("nodes 1", NOWHERE),
    ("nodes 2", NOWHERE),
    ("nodes 3", NOWHERE),
    ("nodes 4", NOWHERE),
    ("nodes 5", NOWHERE),
    ("nodes 6", NOWHERE),
    ("nodes 7", UNUSABLE),
    ("nodes 8", UNUSABLE),
    ("nodes 9", UNUSABLE),
    // The first request is an event's credit as well.
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
    ("comes-and-goes", Served),
    ("channel-closed", Served),
    ("bells", Served),
    ("bells-and-requests", Served),
    ("index-flutter", Either),
];
