//! Exercises a real USB device through usbfs and prints each check. `tests/real_usbfs.rs` runs it
//! in a guest.
//!
//! ```text
//! usbfs inquiry 2-1     USB stick: requests, bulk transfers, halts, resets, return to its driver
//! usbfs unplug 1-3      serial adapter: transfers that are discarded, dropped, and ended by an unplug
//! usbfs sound 1-2       sound card: isochronous transfers
//! usbfs users 2-1       USB stick with the disk sda: what the library reports about its users
//! ```
//!
//! It unbinds the device's driver for a moment: do not run it on a disk that is in use.

use std::error::Error;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use vusb_host::uevent::{Action, Event, Uevents};
use vusb_host::usbfs::{
    Buffer, BufferPool, Completion, Flags, Gone, Kind, Packet, Status, SubmitError, Urb, UsbFs,
};
use vusb_host::{Host, HostDevice, Protection};

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
        ["users", bus_id] => users(&find(bus_id)?),
        _ => Err("usage: usbfs inquiry|unplug|sound|users BUSID".into()),
    }
}

fn find(bus_id: &str) -> Result<HostDevice> {
    let devices = Host::system().devices()?;
    let found = devices.into_iter().find(|device| device.bus_id.to_string() == bus_id);
    Ok(found.ok_or("no such device")?)
}

/// What the library reports about a stick with the disk sda while the stick is free, while its disk
/// is in use, and while a program uses the stick.
fn users(found: &HostDevice) -> Result<()> {
    let host = Host::system();
    check(host.device_of_node(Path::new("/dev/sda"))? == *found, "its disk leads to it")?;
    check(found.is_authorized, "it is authorized")?;
    check(found.used_by.is_none(), "no program uses it")?;
    check(host.exclusive_use(found).is_empty(), "its disk is not in use")?;
    let exclusive = i32::try_from(OFlags::EXCL.bits())?;
    let disk = File::options().read(true).custom_flags(exclusive).open("/dev/sda")?;
    let busy = host.exclusive_use(found);
    println!("{busy:?}");
    check(matches!(&busy[..], [Protection::BusyDisk { .. }]), "its disk is in use")?;
    drop(disk);
    check(host.exclusive_use(found).is_empty(), "its disk is free again")?;

    let device = UsbFs::open(&found.node())?;
    check(
        find(&found.bus_id.to_string())?.used_by.is_none(),
        "a program that only has its node open does not count",
    )?;
    device.disconnect_claim(0)?;
    let used_by = find(&found.bus_id.to_string())?.used_by.ok_or("no program uses it")?;
    println!("{used_by}");
    let pids: Vec<u32> = used_by.processes().iter().map(|it| it.pid).collect();
    check(pids == [std::process::id()], "this program uses it")?;
    device.release(0)?;
    check(find(&found.bus_id.to_string())?.used_by.is_none(), "no program uses it any more")?;

    let sysfs = Path::new("/sys/bus/usb/devices").join(found.bus_id.to_string());
    std::fs::write(sysfs.join("authorized"), "0")?;
    let blocked = find(&found.bus_id.to_string())?;
    check(blocked.protection == [Protection::Unauthorized], "it is not authorized")?;
    std::fs::write(sysfs.join("authorized"), "1")?;
    check(find(&found.bus_id.to_string())?.is_authorized, "it is authorized again")
}

fn check(holds: bool, what: &str) -> Result<()> {
    println!("{} {what}", if holds { "ok" } else { "NOT" });
    if holds { Ok(()) } else { Err(what.into()) }
}

fn filled(buffers: &BufferPool, offset: usize, data: &[u8]) -> Result<Buffer> {
    let mut buffer = buffers.take().ok_or("all buffers are in use")?;
    buffer.set_range(offset, data.len())?;
    buffer.data_mut().copy_from_slice(data);
    Ok(buffer)
}

fn urb(kind: Kind, endpoint: u8, buffer: Buffer) -> Urb {
    Urb { kind, endpoint, flags: Flags::default(), buffer }
}

fn submit(device: &mut UsbFs, urb: Urb, token: u64) -> Result<()> {
    device.submit(urb, token).map_err(|(error, _)| error.into())
}

fn ready(device: &UsbFs) -> Result<PollFlags> {
    let mut fds = [PollFd::new(device, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec { tv_sec: 20, tv_nsec: 0 }))?;
    let [fd] = &fds;
    Ok(fd.revents())
}

/// Waits for the next completion.
fn next(device: &mut UsbFs) -> Result<Completion> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if let Some(done) = device.reap()? {
            return Ok(done);
        }
        ready(device)?;
    }
    Err("no transfer completed in time".into())
}

/// A command block wrapper (USB mass storage, bulk-only transport, section 5.1) with an INQUIRY of
/// 36 bytes.
fn wrapper(tag: u32) -> [u8; 31] {
    let mut block = [0; 31];
    let head = [*b"USBC", tag.to_le_bytes(), 36u32.to_le_bytes(), [0x80, 0, 6, 0x12]].concat();
    let tail = [0, 0, 0, 36, 0];
    for (to, from) in block.iter_mut().zip(head.iter().chain(&tail)) {
        *to = *from;
    }
    block
}

/// Sends an INQUIRY with all three transfers in flight at once, and returns the disk's vendor and
/// product.
fn inquire(device: &mut UsbFs, buffers: &BufferPool, tag: u32) -> Result<String> {
    submit(device, urb(Kind::Bulk, OUT, filled(buffers, 100, &wrapper(tag))?), 1)?;
    submit(device, urb(Kind::Bulk, IN, filled(buffers, 4000, &[0; 36])?), 2)?;
    let again = urb(Kind::Bulk, IN, filled(buffers, 0, &[0; 13])?);
    let in_use = device.submit(again, 2).map_err(|(refused, urb)| (refused, urb.buffer));
    let Err((SubmitError::TokenInUse(2), status)) = in_use else {
        return Err("a token was accepted twice".into());
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
                check(
                    data.starts_with(b"USBS") && data.last() == Some(&0),
                    "the disk reports success",
                )?;
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
    check(device.speed()? == found.speed, "its speed is the one in sysfs")?;
    check(device.driver(0)?.as_deref() == Some("usb-storage"), "its driver is bound")?;
    check(device.claim(0).is_err(), "an interface with a driver cannot be claimed")?;
    device.disconnect_claim(0)?;
    device.disconnect_claim(0)?;
    check(device.driver(0)?.as_deref() == Some("usbfs"), "its driver was unbound")?;
    let other = UsbFs::open(&found.node())?;
    check(other.disconnect_claim(0).is_err(), "it cannot be taken from another program")?;
    drop(other);

    let buffers = BufferPool::new(8192, 4);
    descriptors(&mut device, &buffers, found)?;
    let first = inquire(&mut device, &buffers, 1)?;
    stall(&mut device, &buffers)?;
    short_read(&mut device, &buffers)?;

    device.set_interface(0, 0)?;
    device.clear_halt(IN)?;
    check(inquire(&mut device, &buffers, 2)? == first, "it responds after its halts were cleared")?;
    let slow = device.handle().clone();
    let reset = std::thread::spawn(move || slow.reset());
    reset.join().map_err(|_| "the thread has panicked")??;
    check(device.driver(0)?.as_deref() == Some("usb-storage"), "a reset binds its driver")?;
    device.disconnect_claim(0)?;
    check(inquire(&mut device, &buffers, 3)? == first, "it responds after a reset")?;
    check(device.set_configuration(1).is_err(), "it cannot be configured while it is claimed")?;
    let (hub, port) = Host::system().hub(found).ok_or("it has no hub")?;
    let hub = UsbFs::open(&hub)?;
    hub.claim_port(port)?;
    device.reset()?;
    check(device.driver(0)?.is_none(), "a reset binds no driver while its port is claimed")?;
    device.claim(0)?;
    check(inquire(&mut device, &buffers, 5)? == first, "it responds")?;
    device.release(0)?;
    device.set_configuration(0)?;
    device.set_configuration(1)?;
    check(device.driver(0)?.is_none(), "a configuration binds no driver either")?;
    device.claim(0)?;
    check(inquire(&mut device, &buffers, 6)? == first, "it responds")?;
    check(!device.connect(0)?, "no driver can be bound while its port is claimed")?;
    hub.release_port(port)?;
    device.claim(0)?;
    device.release(0)?;
    device.set_configuration(1)?;
    device.disconnect_claim(0)?;
    check(inquire(&mut device, &buffers, 4)? == first, "it responds after it was configured")?;

    drop(device);
    check(count_free(&buffers) == 4, "all buffers were returned")?;
    let device = UsbFs::open(&found.node())?;
    check(device.driver(0)?.is_none(), "a dropped device has no driver")?;
    check(device.connect(0)?, "its driver can be bound again")?;
    check(device.connect(0)?, "binding it again succeeds")?;
    check(device.driver(0)?.as_deref() == Some("usb-storage"), "its driver is bound again")
}

/// The number of buffers that can be taken.
fn count_free(buffers: &BufferPool) -> usize {
    let taken: Vec<Buffer> = std::iter::from_fn(|| buffers.take()).collect();
    taken.len()
}

/// Reads the device descriptor with a blocking call and with a URB, and compares it with sysfs.
fn descriptors(device: &mut UsbFs, buffers: &BufferPool, found: &HostDevice) -> Result<()> {
    let known = Host::system().raw_descriptors(found).ok_or("sysfs has no descriptors")?;
    let known = known.get(..18).ok_or("the descriptors are too short")?;
    let setup = [0x80, 6, 0, 1, 0, 0, 18, 0];
    let mut answer = [0; 18];
    let length = device.control(setup, &mut answer, LIMIT)?;
    check(length == 18 && answer == *known, "a request is answered")?;
    let unknown = device.control([0x80, 6, 0, 0x77, 0, 0, 18, 0], &mut answer, LIMIT);
    check(unknown.is_err_and(|it| it.errno() == -32), "an unknown request stalls")?;

    let data = [&setup[..], &[0; 18]].concat();
    submit(device, urb(Kind::Control, 0, filled(buffers, 0, &data)?), 7)?;
    let done = next(device)?;
    check(done.status == Status::Ok && done.actual_length == 18, "a control URB completes")?;
    check(done.buffer.data().get(8..) == Some(known), "the response follows the setup packet")?;
    let short = urb(Kind::Control, 0, filled(buffers, 0, &setup)?);
    let result = device.submit(short, 7).map_err(|(error, _)| error);
    check(
        result == Err(SubmitError::BufferTooSmall { need: 26, have: 8 }),
        "a buffer that is too small is refused",
    )?;
    let nowhere = device.submit(urb(Kind::Bulk, 0x8f, filled(buffers, 0, &[0; 8])?), 7);
    check(
        nowhere.is_err_and(|(it, _)| it == SubmitError::NoEndpoint),
        "a transfer to an unknown endpoint is refused",
    )
}

/// A disk that has not received a command stalls.
fn stall(device: &mut UsbFs, buffers: &BufferPool) -> Result<()> {
    submit(device, urb(Kind::Bulk, IN, filled(buffers, 0, &[0; 512])?), 5)?;
    let done = next(device)?;
    check((done.token, done.status) == (5, Status::Stalled), "it stalls")?;
    Ok(device.clear_halt(IN)?)
}

/// Puts `count` reads of a silent serial line in flight.
fn read_silent_line(device: &mut UsbFs, buffers: &BufferPool, count: u8) -> Result<()> {
    // The adapter may first report the line status.
    for _ in 0..10 {
        for token in (0..count).map(u64::from) {
            let Some(spare) = buffers.take() else { break };
            match device.submit(urb(Kind::Bulk, IN, spare), token) {
                Ok(()) | Err((SubmitError::TokenInUse(_), _)) => {}
                Err((error, _)) => return Err(error.into()),
            }
        }
        std::thread::sleep(Duration::from_millis(100));
        while device.reap()?.is_some() {}
        if device.in_flight() == usize::from(count) {
            return Ok(());
        }
    }
    Err("the line is not silent".into())
}

/// Discarded transfers end at once, and dropping the device returns their memory.
fn cancel(found: &HostDevice, buffers: &BufferPool) -> Result<()> {
    let mut device = UsbFs::open(&found.node())?;
    device.disconnect_claim(0)?;
    read_silent_line(&mut device, buffers, 2)?;
    device.discard(6);
    device.discard(1);
    device.discard(1);
    let done = device.reap()?.ok_or("the discarded transfer has not ended")?;
    check(
        (done.token, done.status) == (1, Status::Cancelled),
        "a discarded transfer is cancelled",
    )?;
    drop(done);
    check(device.in_flight() == 1 && device.reap()?.is_none(), "the other one is still in flight")?;
    device.release(0)?;
    let done = next(&mut device)?;
    check(
        (done.token, done.status) == (0, Status::Gone),
        &format!("releasing the interface ends it: {:?}", done.status),
    )?;
    device.disconnect_claim(0)?;
    read_silent_line(&mut device, buffers, 4)?;
    let handle = device.handle().clone();
    drop((device, done));
    check(count_free(buffers) == 8, "all buffers were returned")?;
    check(handle.driver(0)?.as_deref() == Some("usbfs"), "a handle keeps the interface claimed")
}

/// A read with `short_not_ok` that ends short, and a read of exactly the right length.
fn short_read(device: &mut UsbFs, buffers: &BufferPool) -> Result<()> {
    submit(device, urb(Kind::Bulk, OUT, filled(buffers, 0, &wrapper(8))?), 1)?;
    let flags = Flags { short_not_ok: true, zero_packet: true, iso_asap: true, ..Flags::default() };
    let short = Urb { flags, ..urb(Kind::Bulk, IN, filled(buffers, 0, &[0; 1024])?) };
    submit(device, short, 2)?;
    let (first, second) = (next(device)?, next(device)?);
    check(first.status == Status::Ok, "the command was sent")?;
    check(
        second.status == Status::ShortRead && second.actual_length == 36,
        "a short response is an error if requested",
    )?;
    submit(device, urb(Kind::Bulk, IN, filled(buffers, 0, &[0; 13])?), 3)?;
    check(next(device)?.status == Status::Ok, "and the endpoint still works")
}

/// Transfers in flight while the device is unplugged.
fn unplug(found: &HostDevice) -> Result<()> {
    let mut uevents = Uevents::listen()?;
    let buffers = BufferPool::new(4096, 8);
    cancel(found, &buffers)?;
    let mut device = UsbFs::open(&found.node())?;
    device.disconnect_claim(0)?;
    read_silent_line(&mut device, &buffers, 8)?;
    check(buffers.take().is_none(), "eight transfers are in flight")?;
    std::fs::write("/tmp/waiting", "")?;
    let mut seen = Vec::new();
    while device.in_flight() > 0 {
        let events = ready(&device)?;
        check(!events.is_empty(), &format!("epoll reports an event: {events:?}"))?;
        while let Ok(Some(done)) = device.reap() {
            println!("ok {}: {:?}, {} bytes", done.token, done.status, done.actual_length);
            seen.push(done.token);
        }
    }
    seen.sort_unstable();
    check(seen == [0, 1, 2, 3, 4, 5, 6, 7], "every transfer was reaped once")?;
    check(count_free(&buffers) == 8, "every buffer was returned")?;
    // A transfer can fail a moment before the hub reports that the device is gone.
    let deadline = Instant::now() + LIMIT;
    while !ready(&device)?.contains(PollFlags::ERR) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    check(matches!(device.reap(), Err(Gone)), "the device is gone")?;
    let late = device.submit(urb(Kind::Bulk, IN, filled(&buffers, 0, &[0; 8])?), 1);
    check(late.is_err_and(|(it, _)| it == SubmitError::Gone), "a new transfer is refused")?;
    check(device.reset().is_err_and(|it| it.errno() == -108), "a reset fails")?;
    while Instant::now() < deadline {
        let mut fds = [PollFd::from_borrowed_fd(uevents.as_fd(), PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 }))?;
        while let Some(event) = uevents.next()? {
            println!("ok event {event:?}");
            let gone = Event::Device { action: Action::Remove, bus_id: found.bus_id.clone() };
            if event == gone {
                return check(true, "the kernel reports the removal");
            }
        }
    }
    check(false, "the kernel reports the removal")
}

/// Plays a tenth of a second of silence.
fn sound(found: &HostDevice) -> Result<()> {
    let mut device = UsbFs::open(&found.node())?;
    for interface in 0..2 {
        device.disconnect_claim(interface)?;
    }
    device.set_interface(1, 1)?;
    let buffers = BufferPool::new(65536, 4);
    let packets = || vec![Packet::new(192); 32];
    let flags = Flags { iso_asap: true, ..Flags::default() };
    let none = Urb { flags, ..urb(Kind::Iso(Vec::new()), 0x01, filled(&buffers, 0, &[0; 6144])?) };
    let result = device.submit(none, 0).map_err(|(error, _)| error);
    check(
        result == Err(SubmitError::PacketCount { count: 0 }),
        "a transfer without packets is refused",
    )?;
    let small = Urb { flags, ..urb(Kind::Iso(packets()), 0x01, filled(&buffers, 0, &[0; 6143])?) };
    let result = device.submit(small, 0).map_err(|(error, _)| error);
    check(
        result == Err(SubmitError::BufferTooSmall { need: 6144, have: 6143 }),
        "a buffer that is too small is refused",
    )?;
    for token in 0..3 {
        let data = filled(&buffers, 8, &[0; 6144])?;
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
        check(done.token == token && done.status == Status::Ok, "they complete in order")?;
        check(done.packets.len() == 32 && good == 32, "all packets were sent")?;
        check(done.actual_length == 6144 && done.error_count == 0, "all bytes were sent")?;
    }
    Ok(())
}
