//! Invalid ring references and event channels in xenstore.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use vusb_xen::State;
use vusb_xen::gntalloc::Shared;
use vusb_xen::store::{Nodes as _, Store};

use crate::frontend::{Failure, Frontend, TIMEOUT};
use crate::raw::Raw;

/// The grant for the guest's console, which Xen's toolstack has given to dom0 (Xen
/// `grant_table.h`).
const CONSOLE: &str = "0";

/// The values of the three nodes; `None` for the correct value.
type NodeValues = [Option<Vec<u8>>; 3];

/// Connects with the invalid nodes that have this number.
pub(crate) fn invalid(number: u32) -> Result<String, Failure> {
    let mut front = Frontend::prepare()?;
    let _ = front.connects.fill();
    let read_only = front.page(false)?;
    let foreign_page = foreign_page(&front)?;
    let values = invalid_values(&front, number, &read_only, &foreign_page)?;
    announce(&mut front, values)?;
    front.nodes.await_state(
        "the backend to connect",
        &[State::Connected, State::Closing, State::Closed],
    )?;
    Raw::from_frontend(front)?.verdict()
}

fn invalid_values(
    front: &Frontend,
    number: u32,
    read_only: &Shared,
    foreign_page: &Shared,
) -> Result<NodeValues, Failure> {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let all = |word: &str| [text(word), text(word), text(word)];
    let first = |word: &str| [text(word), None, None];
    Ok(match number {
        0 => all(""),
        1 => all("-1"),
        2 => all("4294967296"),
        3 => all("99999999999999999999999999999"),
        4 => all("7 "),
        5 => all(&"9".repeat(1500)),
        6 => [Some(vec![0xff, 0xfe, 0x80]), Some(vec![0xc3]), Some(vec![0])],
        7 => first("4294967295"),
        8 => first(&read_only.gref().to_string()),
        9 => first(&foreign_page.gref().to_string()),
        // Both rings in one page: the connection ring reads the indexes of the URB ring.
        10 => [None, text(&front.grefs[0].to_string()), None],
        11 => [text(&front.grefs[1].to_string()), text(&front.grefs[0].to_string()), None],
        12 => [None, None, text("0")],
        // The guest's own channel to xenstore, which is bound already.
        13 => [None, None, text("1")],
        14 => [None, None, text("4294967295")],
        15 => [None, text(CONSOLE), text("4095")],
        _ => return Err(Failure::NoAttack(format!("nodes {number}"))),
    })
}

/// A page that is granted to a domain other than the backend's.
fn foreign_page(front: &Frontend) -> Result<Shared, Failure> {
    let other = vusb_xen::DomId::new(front.nodes.backend.get() + 1).unwrap_or(front.nodes.backend);
    Ok(front.allocator.allocate(other, true)?)
}

fn announce(front: &mut Frontend, values: NodeValues) -> Result<(), Failure> {
    let [urbs, connects] = front.grefs;
    let real = [urbs.to_string(), connects.to_string(), front.channel.to_string()];
    let names = ["urb-ring-ref", "conn-ring-ref", "event-channel"];
    for ((name, real), value) in names.iter().zip(real).zip(values) {
        let path = format!("{}/{name}", front.nodes.frontend);
        front.nodes.store.write_bytes(&path, &value.unwrap_or_else(|| real.into_bytes()))?;
    }
    front.nodes.set_state(State::Connected)
}

/// Another thread rewrites the nodes as fast as it can while the backend reads them, this many
/// times.
pub(crate) fn change(rounds: u32) -> Result<String, Failure> {
    for _ in 1..rounds {
        let mut front = Frontend::prepare()?;
        let _ = front.connects.fill();
        announce_while_changing(&mut front)?;
        front.nodes.close()?;
    }
    let mut front = Frontend::prepare()?;
    let _ = front.connects.fill();
    announce_while_changing(&mut front)?;
    Raw::from_frontend(front)?.verdict()
}

fn announce_while_changing(front: &mut Frontend) -> Result<(), Failure> {
    let stop = AtomicBool::new(false);
    let frontend = front.nodes.frontend.clone();
    let real = front.grefs[0].to_string();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut store = Store::connect(TIMEOUT)?;
            while !stop.load(Relaxed) {
                store.write(&format!("{frontend}/urb-ring-ref"), &real)?;
            }
            Ok::<_, Failure>(())
        });
        std::thread::sleep(Duration::from_millis(50));
        let known = [State::Connected, State::Closing, State::Closed];
        // Not in a transaction: the other thread would make it fail.
        let done = announce(front, [None, None, None])
            .and_then(|()| front.nodes.await_state("the backend to react", &known));
        stop.store(true, Relaxed);
        writer.join().map_err(|_| Failure::Unexpected("a thread panicked".to_owned()))??;
        done.map(drop)
    })
}
