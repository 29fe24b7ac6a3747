//! State changes that no correct driver makes, and frequent reconnects.

use vusb_xen::State;
use vusb_xen::store::Nodes as _;

use crate::frontend::{ControllerNodes, Failure, Frontend};
use crate::raw::{Random, Raw};

/// States that a guest might write: all valid ones, and some invalid ones.
const STATES: [&str; 9] = ["1", "4", "5", "6", "3", "2", "99", "", "4 "];

fn write(nodes: &mut ControllerNodes, state: &[u8]) -> Result<(), Failure> {
    Ok(nodes.store.write_bytes(&format!("{}/state", nodes.frontend), state)?)
}

/// Writes random states as fast as possible while the controller is in use, and then reconnects.
pub(crate) fn change_states(count: u32) -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let good = raw.good(1);
    raw.send(&good)?;
    let nodes = &mut raw.front.nodes;
    let mut random = Random(0xf1a9);
    for _ in 0..count {
        let state = STATES[random.below(9) as usize];
        write(nodes, state.as_bytes())?;
    }
    reconnect(raw)
}

/// States that are not text, too long, or not a number.
pub(crate) fn garbage() -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let nodes = &mut raw.front.nodes;
    for state in
        [&[0xff_u8, 0xfe, 0x80][..], &[0; 3], "vier".as_bytes(), &[b'4'; 2000], &[0xc3; 2000]]
    {
        write(nodes, state)?;
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    reconnect(raw)
}

/// Removes the state node, and makes the guest's state unreadable for all other domains.
pub(crate) fn gone() -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let nodes = &mut raw.front.nodes;
    let path = format!("{}/state", nodes.frontend);
    nodes.store.remove(&path)?;
    nodes.await_state("the backend to close", &[State::Closed])?;
    write(nodes, b"1")?;
    let perms = vusb_xen::store::Perms::private(nodes.store.own_domain()?);
    nodes.store.set_permissions(&path, &perms)?;
    nodes.await_state("the backend to accept a connection", &[State::InitWait])?;
    reconnect(raw)
}

/// Connects, sends requests, and closes without waiting, this many times.
pub(crate) fn reconnect_often(count: u32) -> Result<String, Failure> {
    for _ in 0..count {
        let mut raw = Raw::connect()?;
        let words: Vec<_> = (0..16).map(|id| raw.good(id)).collect();
        words.iter().for_each(|it| raw.put(it));
        raw.publish()?;
        write(&mut raw.front.nodes, b"6")?;
    }
    Raw::connect()?.verdict()
}

/// Closes the event channel while the backend has responses to send, and then reconnects.
pub(crate) fn channel_closed() -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let words: Vec<_> = (0..16).map(|id| raw.good(id)).collect();
    words.iter().for_each(|it| raw.put(it));
    raw.publish()?;
    raw.front.events.unbind(raw.front.channel)?;
    raw.wait_for_answers()?;
    reconnect(raw)
}

/// Closes the controller, connects again, and checks that this works.
fn reconnect(mut raw: Raw) -> Result<String, Failure> {
    raw.front.nodes.close()?;
    drop(raw);
    Raw::from_frontend(Frontend::connect()?)?.verdict()
}
