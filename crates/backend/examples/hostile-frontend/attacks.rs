//! The list of attacks.

mod iso;
mod memory;
mod nodes;
mod requests;
mod rings;
mod states;

use crate::frontend::Failure;
use requests::{many, one};

/// One attack.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// The default for COUNT: how often the attack repeats its action, or for how many seconds.
    count: u32,
    act: fn(u32) -> Result<String, Failure>,
}

const fn attack(name: &'static str, count: u32, act: fn(u32) -> Result<String, Failure>) -> Attack {
    Attack { name, count, act }
}

/// The bits of the port in word 1 of a request, `pipe`.
const PORT: u32 = 0x1f;

/// All attacks, in the order in which the test runs them.
pub(crate) const ALL: [Attack; 49] = [
    // Impossible indexes.
    attack("urb-index-17", 17, rings::urb_index),
    attack("urb-index-half", 1 << 31, rings::urb_index),
    attack("urb-index-back", u32::MAX, rings::urb_index),
    attack("connect-index-17", 512 + 17, rings::connect_index),
    attack("connect-index-half", 1 << 31, rings::connect_index),
    attack("connect-index-none", 0, rings::connect_index),
    // Requests that no correct driver sends.
    attack("port-0", 1, |_| one(|it| it.0[1] &= !PORT)),
    attack("port-31", 1, |_| one(|it| it.0[1] |= PORT)),
    attack("segments-17", 1, |_| one(|it| it.0[0] = it.0[0] & 0xffff | 17 << 16)),
    attack("segments-65535", 1, |_| one(|it| it.0[0] |= 0xffff << 16)),
    attack("past-the-page", 1, |_| one(|it| it.0[6] = 1 | 4096 << 16)),
    attack("far-past-the-page", 1, |_| one(|it| it.0[6] = u32::MAX)),
    attack("endpoint-0", 1, |_| one(|it| it.0[1] |= 3 << 30)),
    attack("no-room", 1, |_| one(|it| it.0[4] |= 0xffff << 16)),
    attack("empty-segments", 1, |_| requests::empty_segments()),
    attack("duplicate-id", 2, requests::duplicate),
    attack("address-0", 1, |_| requests::address_0()),
    attack("set-address-128", 128, requests::set_address),
    attack("set-address-65535", 65535, requests::set_address),
    attack("no-such-endpoint", 1, |_| requests::no_such_endpoint()),
    attack("unlink-itself", 1, |_| requests::unlink_itself()),
    attack("unlink-all", 1 << 13, requests::unlink_all),
    attack("configure-often", 24, |count| many(count, requests::configure)),
    attack("configure-and-address", 1000, requests::configure_and_address),
    attack("reset-often", 4, requests::reset_often),
    attack("any-control", 200, |count| many(count, requests::any_control)),
    attack("any-request", 400, |count| many(count, requests::any_request)),
    // Memory.
    attack("grants-never-given", 1, |_| memory::never_given()),
    attack("grants-revoked", 1, |_| memory::revoked()),
    attack("grants-read-only", 1, |_| memory::read_only()),
    attack("one-page-for-all", 1, |_| memory::one_page()),
    // Isochronous packet tables.
    attack("packets-invalid", 1, |_| iso::invalid_packets()),
    attack("packets-129", 129, iso::packets),
    attack("packets-none", 0, iso::packets),
    attack("packets-short-table", 128, iso::packets),
    attack("packets-change", 200, iso::change),
    // Rings that change while they are read.
    attack("scribble", 3, rings::scribble),
    attack("flip-bytes", 200, rings::flip_bytes),
    attack("flip-lengths", 400, rings::flip_lengths),
    // Nodes in xenstore.
    attack("nodes", 0, nodes::invalid),
    attack("nodes-change", 3, nodes::change),
    attack("states", 200, states::change_states),
    attack("states-garbage", 1, |_| states::garbage()),
    attack("states-gone", 1, |_| states::gone()),
    attack("reconnect-often", 5, states::reconnect_often),
    attack("channel-closed", 1, |_| states::channel_closed()),
    // Events.
    attack("event-flood", 4, rings::event_flood),
    attack("event-flood-with-requests", 4, rings::event_flood_with_requests),
    attack("index-oscillates", 4, rings::oscillate),
];

/// Runs one attack.
pub(crate) fn run(name: &str, count: Option<u32>) -> Result<String, Failure> {
    let attack = ALL.iter().find(|it| it.name == name);
    let attack = attack.ok_or_else(|| Failure::NoAttack(name.to_owned()))?;
    (attack.act)(count.unwrap_or(attack.count))
}
