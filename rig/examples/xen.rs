//! An interactive Xen machine, controlled by the lines of standard input:
//!
//! | line | effect |
//! |---|---|
//! | `{"driver": ..., "id": ID}` | plugs a USB device into dom0 |
//! | `unplug ID` | unplugs it |
//! | `create NAME [LINE]` | creates a PV guest, with this line in its configuration |
//! | `create-pvh`, `create-hvm` | the same for a PVH or HVM guest; requires `--hardware` |
//! | `destroy NAME` | destroys a guest |
//! | `NAME: COMMAND` | runs a shell command in a guest |
//! | anything else | runs as a shell command in dom0 |
//!
//! With `--ready`, a guest is running from the start. Any other argument is a program for dom0's
//! `/bin`, or `ID=IMAGE` for a disk image.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::time::{Duration, Instant};
use vusb_rig::xen::{GuestKind, READY_GUEST, XenGuest, XenHost};

/// The limit of one command.
const LIMIT: Duration = Duration::from_secs(600);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut builder = XenHost::builder();
    for argument in std::env::args().skip(1) {
        builder = match argument.split_once('=') {
            Some((id, image)) => builder.drive(id, Path::new(image)),
            None if argument == "--ready" => builder.ready_guest(),
            None if argument == "--hardware" => builder.hardware_guests(),
            None => builder.binary(Path::new(&argument)),
        };
    }
    let start = Instant::now();
    let host = builder.start()?;
    println!("[started after {:?}]", start.elapsed());
    let mut guests = BTreeMap::new();
    if std::env::args().any(|argument| argument == "--ready") {
        guests.insert(READY_GUEST.to_owned(), host.ready_guest()?);
    }
    for line in std::io::stdin().lock().lines() {
        let start = Instant::now();
        if let Err(error) = run_line(&host, &mut guests, &line?) {
            println!("{error}");
        }
        println!("[{:?}]", start.elapsed());
    }
    Ok(())
}

fn run_line(
    host: &XenHost,
    guests: &mut BTreeMap<String, XenGuest>,
    line: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let kinds = [
        ("create ", GuestKind::Pv),
        ("create-pvh ", GuestKind::Pvh),
        ("create-hvm ", GuestKind::Hvm),
    ];
    for (word, kind) in kinds {
        if let Some(rest) = line.strip_prefix(word) {
            let (name, config) = rest.split_once(' ').unwrap_or((rest, ""));
            let guest = host.new_guest(name).kind(kind).config(config).start()?;
            guests.insert(name.to_owned(), guest);
            return Ok(());
        }
    }
    if let Some(guest) = line.strip_prefix("destroy ").and_then(|name| guests.remove(name)) {
        return Ok(guest.destroy()?);
    }
    if let Some(id) = line.strip_prefix("unplug ") {
        return Ok(host.unplug(id)?);
    }
    if line.starts_with('{') {
        let device: Value = serde_json::from_str(line)?;
        host.plug(device)?;
        return Ok(());
    }
    let guest = line.split_once(": ").and_then(|(name, rest)| Some((guests.get(name)?, rest)));
    let out = match guest {
        Some((guest, command)) => guest.sh(command, LIMIT)?,
        None => host.sh(line, LIMIT)?,
    };
    println!("{}[{}]", out.text, out.code);
    Ok(())
}
