//! Talks to a real USB device through usbfs, and says what it sees. `tests/real_usbfs.rs` runs it in a guest.
//!
//! ```text
//! usbfs inquiry 2-1     a USB stick: requests, bulk transfers, halts, resets, and back to its driver
//! usbfs unplug 1-3      a serial adapter: transfers in flight that are discarded, dropped, and pulled out
//! usbfs sound 1-2       a sound card: isochronous transfers
//! ```
//!
//! It takes the device from its driver for a moment: do not run it on a disk that is in use.

use std::error::Error;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vusb_host::uevent::{Action, Event, Uevents};
use vusb_host::usbfs::{
    Buffer, Buffers, Done, Flags, Gone, Kind, Packet, Refused, Status, Urb, UsbFs,
};
use vusb_host::{Host, HostDevice};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const LIMIT: Duration = Duration::from_secs(20);
const IN: u8 = 0x81;
const OUT: u8 = 0x02;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words {
        ["inquiry", bus_id] => inquiry(&find(bus_id)?),
        ["unplug", bus_id] => unplug(&find(bus_id)?),
        ["sound", bus_id] => sound(&find(bus_id)?),
        _ => Err("usage: usbfs inquiry|unplug|sound BUSID".into()),
    }
}

fn find(bus_id: &str) -> Result<HostDevice> {
    let devices = Host::system().devices()?;
    let found = devices.into_iter().find(|device| device.bus_id.to_string() == bus_id);
    Ok(found.ok_or("there is no such device")?)
}

fn check(holds: bool, what: &str) -> Result<()> {
    println!("{} {what}", if holds { "ok" } else { "NOT" });
    if holds { Ok(()) } else { Err(what.into()) }
}

fn buffer(buffers: &Buffers, offset: usize, data: &[u8]) -> Result<Buffer> {
    let mut buffer = buffers.take().ok_or("all buffers are in use")?;
    buffer.set_range(offset, data.len())?;
    buffer.data_mut().copy_from_slice(data);
    Ok(buffer)
}

fn urb(kind: Kind, endpoint: u8, buffer: Buffer) -> Urb {
    Urb { kind, endpoint, flags: Flags::default(), buffer }
}

fn submit(device: &mut UsbFs, urb: Urb, token: u64) -> Result<()> {
    device.submit(urb, token).map_err(|(refused, _)| refused.into())
}

fn ready(device: &UsbFs) -> Result<PollFlags> {
    let mut fds = [PollFd::new(device, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec { tv_sec: 20, tv_nsec: 0 }))?;
    let [fd] = &fds;
    Ok(fd.revents())
}

/// The next URB that is finished.
fn next(device: &mut UsbFs) -> Result<Done> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if let Some(done) = device.reap()? {
            return Ok(done);
        }
        ready(device)?;
    }
    Err("nothing was finished in time".into())
}

/// A command block wrapper (USB mass storage, bulk-only transport, section 5.1) with an INQUIRY for 36 bytes.
fn wrapper(tag: u32) -> [u8; 31] {
    let mut block = [0; 31];
    let head = [*b"USBC", tag.to_le_bytes(), 36u32.to_le_bytes(), [0x80, 0, 6, 0x12]].concat();
    let tail = [0, 0, 0, 36, 0];
    for (to, from) in block.iter_mut().zip(head.iter().chain(&tail)) {
        *to = *from;
    }
    block
}

/// INQUIRY with all three transfers in flight at once: what the disk says it is.
fn ask(device: &mut UsbFs, buffers: &Buffers, tag: u32) -> Result<String> {
    submit(device, urb(Kind::Bulk, OUT, buffer(buffers, 100, &wrapper(tag))?), 1)?;
    submit(device, urb(Kind::Bulk, IN, buffer(buffers, 4000, &[0; 36])?), 2)?;
    let again = urb(Kind::Bulk, IN, buffer(buffers, 0, &[0; 13])?);
    let in_use = device.submit(again, 2).map_err(|(refused, urb)| (refused, urb.buffer));
    let Err((Refused::TokenInUse(2), status)) = in_use else {
        return Err("a token was taken twice".into());
    };
    submit(device, urb(Kind::Bulk, IN, status), 3)?;
    check(device.in_flight() == 3, "three transfers are in flight")?;
    let mut text = String::new();
    for _ in 0..3 {
        let done = next(device)?;
        check(
            done.status == Status::Ok,
            &format!("transfer {} of {} bytes", done.token, done.actual_length),
        )?;
        let data = done.buffer.data().get(..done.actual_length).unwrap_or_default();
        match done.token {
            2 => text = String::from_utf8_lossy(data.get(8..32).unwrap_or_default()).into_owned(),
            3 => {
                check(data.starts_with(b"USBS") && data.last() == Some(&0), "the disk is content")?;
            }
            _ => {}
        }
    }
    check(text.contains("QEMU"), &format!("the disk is {text:?}"))?;
    Ok(text)
}

fn inquiry(found: &HostDevice) -> Result<()> {
    let mut device = UsbFs::open(&found.node())?;
    println!("{} at {}: {:?}", found, found.node().display(), device.capabilities()?);
    check(device.speed()? == found.speed, "its speed is what sysfs says")?;
    check(device.driver(0)?.as_deref() == Some("usb-storage"), "its driver has it")?;
    check(device.claim(0).is_err(), "what a driver has is not claimed")?;
    device.disconnect_claim(0)?;
    device.disconnect_claim(0)?;
    check(device.driver(0)?.as_deref() == Some("usbfs"), "it was taken from its driver")?;
    let other = UsbFs::open(&found.node())?;
    check(other.disconnect_claim(0).is_err(), "it is not taken from another program")?;
    drop(other);

    let buffers = Buffers::new(8192, 4);
    descriptors(&mut device, &buffers, found)?;
    let first = ask(&mut device, &buffers, 1)?;
    stall(&mut device, &buffers)?;
    overflow(&mut device, &buffers)?;

    device.set_interface(0, 0)?;
    device.clear_halt(IN)?;
    check(ask(&mut device, &buffers, 2)? == first, "it answers after its halts are cleared")?;
    let slow = device.handle().clone();
    let reset = std::thread::spawn(move || slow.reset());
    reset.join().map_err(|_| "the thread has panicked")??;
    check(device.driver(0)?.as_deref() == Some("usb-storage"), "a reset gives it to its driver")?;
    device.disconnect_claim(0)?;
    check(ask(&mut device, &buffers, 3)? == first, "it answers after a reset")?;
    check(device.set_configuration(1).is_err(), "what is claimed is not configured")?;
    let (hub, port) = Host::system().hub(found).ok_or("it hangs on no hub")?;
    let hub = UsbFs::open(&hub)?;
    hub.claim_port(port)?;
    device.reset()?;
    check(device.driver(0)?.is_none(), "a reset gives it to nobody while its port is claimed")?;
    device.claim(0)?;
    check(ask(&mut device, &buffers, 5)? == first, "it answers")?;
    device.release(0)?;
    device.set_configuration(0)?;
    device.set_configuration(1)?;
    check(device.driver(0)?.is_none(), "nor does a configuration")?;
    device.claim(0)?;
    check(ask(&mut device, &buffers, 6)? == first, "it answers")?;
    check(!device.connect(0)?, "nor can it be given back")?;
    hub.release_port(port)?;
    device.claim(0)?;
    device.release(0)?;
    device.set_configuration(1)?;
    device.disconnect_claim(0)?;
    check(ask(&mut device, &buffers, 4)? == first, "it answers after it is configured")?;

    drop(device);
    check(all(&buffers) == 4, "all buffers are back")?;
    let device = UsbFs::open(&found.node())?;
    check(device.driver(0)?.is_none(), "a dropped device is nobody's")?;
    check(device.connect(0)?, "its driver takes it back")?;
    check(device.connect(0)?, "and has it when it is given back twice")?;
    check(device.driver(0)?.as_deref() == Some("usb-storage"), "its driver has it again")
}

/// How many buffers can be taken.
fn all(buffers: &Buffers) -> usize {
    let taken: Vec<Buffer> = std::iter::from_fn(|| buffers.take()).collect();
    taken.len()
}

/// The device descriptor, waited for and not, is what sysfs has.
fn descriptors(device: &mut UsbFs, buffers: &Buffers, found: &HostDevice) -> Result<()> {
    let known = Host::system().raw_descriptors(found).ok_or("sysfs has no descriptors")?;
    let known = known.get(..18).ok_or("they are too short")?;
    let setup = [0x80, 6, 0, 1, 0, 0, 18, 0];
    let mut answer = [0; 18];
    let moved = device.control(setup, &mut answer, LIMIT)?;
    check(moved == 18 && answer == *known, "a request is answered")?;
    let unknown = device.control([0x80, 6, 0, 0x77, 0, 0, 18, 0], &mut answer, LIMIT);
    check(unknown.is_err_and(|it| it.errno() == -32), "what it does not know it refuses")?;

    let data = [&setup[..], &[0; 18]].concat();
    submit(device, urb(Kind::Control, 0, buffer(buffers, 0, &data)?), 7)?;
    let done = next(device)?;
    check(done.status == Status::Ok && done.actual_length == 18, "an URB with a request is done")?;
    check(done.buffer.data().get(8..) == Some(known), "the answer lies behind the setup packet")?;
    let short = urb(Kind::Control, 0, buffer(buffers, 0, &setup)?);
    let refused = device.submit(short, 7).map_err(|(refused, _)| refused);
    check(
        refused == Err(Refused::BufferTooSmall { need: 26, have: 8 }),
        "too small a buffer is refused",
    )?;
    let nowhere = device.submit(urb(Kind::Bulk, 0x8f, buffer(buffers, 0, &[0; 8])?), 7);
    check(nowhere.is_err_and(|(it, _)| it == Refused::NoEndpoint), "no endpoint, no transfer")
}

/// A disk that was told nothing has nothing to say.
fn stall(device: &mut UsbFs, buffers: &Buffers) -> Result<()> {
    submit(device, urb(Kind::Bulk, IN, buffer(buffers, 0, &[0; 512])?), 5)?;
    let done = next(device)?;
    check((done.token, done.status) == (5, Status::Stalled), "it stalls")?;
    Ok(device.clear_halt(IN)?)
}

/// Transfers that wait for a word from a line that is silent: `count` of them, none of which is finished.
fn wait_on(device: &mut UsbFs, buffers: &Buffers, count: u8) -> Result<()> {
    // It may first tell how the line is.
    for _ in 0..10 {
        for token in (0..count).map(u64::from) {
            let Some(spare) = buffers.take() else { break };
            match device.submit(urb(Kind::Bulk, IN, spare), token) {
                Ok(()) | Err((Refused::TokenInUse(_), _)) => {}
                Err((refused, _)) => return Err(refused.into()),
            }
        }
        std::thread::sleep(Duration::from_millis(100));
        while device.reap()?.is_some() {}
        if device.in_flight() == usize::from(count) {
            return Ok(());
        }
    }
    Err("the line is never silent".into())
}

/// Discarded transfers are finished at once, and whoever drops the device has its memory back.
fn cancel(found: &HostDevice, buffers: &Buffers) -> Result<()> {
    let mut device = UsbFs::open(&found.node())?;
    device.disconnect_claim(0)?;
    wait_on(&mut device, buffers, 2)?;
    device.discard(6);
    device.discard(1);
    device.discard(1);
    let done = device.reap()?.ok_or("what was discarded is not finished")?;
    check((done.token, done.status) == (1, Status::Cancelled), "it was discarded")?;
    drop(done);
    check(device.in_flight() == 1 && device.reap()?.is_none(), "the other goes on")?;
    device.release(0)?;
    let done = next(&mut device)?;
    check(
        (done.token, done.status) == (0, Status::Gone),
        &format!("it ends with the claim: {:?}", done.status),
    )?;
    device.disconnect_claim(0)?;
    wait_on(&mut device, buffers, 4)?;
    let handle = device.handle().clone();
    drop((device, done));
    check(all(buffers) == 8, "all buffers are back")?;
    check(handle.driver(0)?.as_deref() == Some("usbfs"), "a handle keeps the claim")
}

/// A reader that expects less than a packet, and one that will not have a short one.
fn overflow(device: &mut UsbFs, buffers: &Buffers) -> Result<()> {
    submit(device, urb(Kind::Bulk, OUT, buffer(buffers, 0, &wrapper(8))?), 1)?;
    let flags = Flags { short_not_ok: true, zero_packet: true, iso_asap: true, ..Flags::default() };
    let short = Urb { flags, ..urb(Kind::Bulk, IN, buffer(buffers, 0, &[0; 1024])?) };
    submit(device, short, 2)?;
    let (first, second) = (next(device)?, next(device)?);
    check(first.status == Status::Ok, "the command was sent")?;
    check(
        second.status == Status::ShortRead && second.actual_length == 36,
        "a short answer is an error if asked for",
    )?;
    submit(device, urb(Kind::Bulk, IN, buffer(buffers, 0, &[0; 13])?), 3)?;
    check(next(device)?.status == Status::Ok, "and the endpoint goes on")
}

/// Transfers in flight while the device is pulled out.
fn unplug(found: &HostDevice) -> Result<()> {
    let mut uevents = Uevents::listen()?;
    let buffers = Buffers::new(4096, 8);
    cancel(found, &buffers)?;
    let mut device = UsbFs::open(&found.node())?;
    device.disconnect_claim(0)?;
    wait_on(&mut device, &buffers, 8)?;
    check(buffers.take().is_none(), "eight transfers are in flight")?;
    std::fs::write("/tmp/waiting", "")?;
    let mut seen = Vec::new();
    while device.in_flight() > 0 {
        let events = ready(&device)?;
        check(!events.is_empty(), &format!("there is something to reap: {events:?}"))?;
        while let Ok(Some(done)) = device.reap() {
            println!("ok {}: {:?}, {} bytes", done.token, done.status, done.actual_length);
            seen.push(done.token);
        }
    }
    seen.sort_unstable();
    check(seen == [0, 1, 2, 3, 4, 5, 6, 7], "every transfer came back once")?;
    check(all(&buffers) == 8, "every buffer came back")?;
    // A transfer can fail a moment before the hub tells that the device is gone.
    let deadline = Instant::now() + LIMIT;
    while !ready(&device)?.contains(PollFlags::ERR) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    check(matches!(device.reap(), Err(Gone)), "the device is gone")?;
    let late = device.submit(urb(Kind::Bulk, IN, buffer(&buffers, 0, &[0; 8])?), 1);
    check(late.is_err_and(|(it, _)| it == Refused::Gone), "nothing is taken any more")?;
    check(device.reset().is_err_and(|it| it.errno() == -108), "nor done")?;
    while Instant::now() < deadline {
        let mut fds = [PollFd::from_borrowed_fd(uevents.as_fd(), PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 }))?;
        while let Some(event) = uevents.next()? {
            println!("ok heard of {event:?}");
            let gone = Event::Device { action: Action::Remove, bus_id: found.bus_id.clone() };
            if event == gone {
                return check(true, "the kernel told that it was removed");
            }
        }
    }
    check(false, "the kernel told that it was removed")
}

/// A tenth of a second of silence.
fn sound(found: &HostDevice) -> Result<()> {
    let mut device = UsbFs::open(&found.node())?;
    for interface in 0..2 {
        device.disconnect_claim(interface)?;
    }
    device.set_interface(1, 1)?;
    let buffers = Buffers::new(65536, 4);
    let packets = || vec![Packet::new(192); 32];
    let flags = Flags { iso_asap: true, ..Flags::default() };
    let none = Urb { flags, ..urb(Kind::Iso(Vec::new()), 0x01, buffer(&buffers, 0, &[0; 6144])?) };
    let refused = device.submit(none, 0).map_err(|(refused, _)| refused);
    check(refused == Err(Refused::Packets { count: 0 }), "no packets are no transfer")?;
    let small = Urb { flags, ..urb(Kind::Iso(packets()), 0x01, buffer(&buffers, 0, &[0; 6143])?) };
    let refused = device.submit(small, 0).map_err(|(refused, _)| refused);
    check(
        refused == Err(Refused::BufferTooSmall { need: 6144, have: 6143 }),
        "too small a buffer is refused",
    )?;
    for token in 0..3 {
        let data = buffer(&buffers, 8, &[0; 6144])?;
        submit(&mut device, Urb { flags, ..urb(Kind::Iso(packets()), 0x01, data) }, token)?;
    }
    for token in 0..3 {
        let done = next(&mut device)?;
        let good =
            done.packets.iter().filter(|it| it.status == Status::Ok && it.actual_length == 192);
        let good = good.count();
        println!(
            "ok {}: {:?}, {} errors, {good} good packets",
            done.token, done.status, done.error_count
        );
        check(done.token == token && done.status == Status::Ok, "they are done in order")?;
        check(done.packets.len() == 32 && good == 32, "all packets were sent")?;
        check(done.actual_length == 6144 && done.error_count == 0, "and all bytes")?;
    }
    Ok(())
}
