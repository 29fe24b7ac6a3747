//! A correct frontend. It uses [`vusb_usbif::frontend`], which detects protocol violations by the
//! backend.

use vusb_usbif::Port;
use vusb_usbif::frontend::Answer;
use vusb_usbif::urb::{Direction, Kind, Segment, Segments, Setup, Status, Transfer};
use vusb_xen::State;
use vusb_xen::gntalloc::Shared;

use crate::frontend::{Failure, Frontend, TIMEOUT};

/// Size of a page in bytes.
const PAGE: usize = 4096;
/// Pages of a transfer: as many as one request can refer to.
const PAGES: usize = 16;
/// Block size of a stick in bytes.
const BLOCK: usize = 512;
/// The address that the frontend gives the device.
const ADDRESS: u8 = 7;
/// The wrappers of a command (CBW) and of its status (CSW) in USB Mass Storage Bulk-Only Transport
/// (sections 5.1 and 5.2): signature, and length in bytes.
const CBW: (&[u8; 4], usize) = (b"USBC", 31);
const CSW: (&[u8; 4], usize) = (b"USBS", 13);

/// Finds a stick, reads its first 64 KiB into a file, reports that, and runs until the toolstack
/// removes the controller.
pub(crate) fn run(file: &str) -> Result<String, Failure> {
    let front = Frontend::connect()?;
    let pages = (0..PAGES).map(|_| front.page(true)).collect::<Result<Vec<_>, _>>()?;
    let mut frontend = ReferenceFrontend { front, pages, port: Port::MAX, address: 0 };
    frontend.port = frontend.front.wait_for_device()?.0;
    let (id, stick) = frontend.enumerate()?;
    let data = frontend.read(&stick)?;
    std::fs::write(file, &data)?;
    println!("read {} bytes of {id}", data.len());
    let nodes = &mut frontend.front.nodes;
    nodes
        .await_state("the toolstack to remove the controller", &[State::Closing, State::Closed])?;
    nodes.close()?;
    Ok("closed cleanly".to_owned())
}

/// The bulk endpoint addresses of a stick, with the direction bit.
struct Stick {
    input: u8,
    output: u8,
}

struct ReferenceFrontend {
    front: Frontend,
    pages: Vec<Shared>,
    port: Port,
    address: u8,
}

impl ReferenceFrontend {
    fn enumerate(&mut self) -> Result<(String, Stick), Failure> {
        let device = self.descriptor(1, 18)?;
        let [_, _, _, _, _, _, _, _, v0, v1, p0, p1, ..] = device[..] else {
            return Err(Failure::Unexpected(format!("device descriptor {device:?}")));
        };
        let id =
            format!("{:04x}:{:04x}", u16::from_le_bytes([v0, v1]), u16::from_le_bytes([p0, p1]));
        // SET_ADDRESS and SET_CONFIGURATION (USB 2.0, table 9-4).
        self.control(setup(0x00, 5, ADDRESS.into(), 0))?;
        self.address = ADDRESS;
        let descriptors = self.descriptor(2, 255)?;
        let configuration = descriptors.get(5).copied().unwrap_or_default();
        self.control(setup(0x00, 9, configuration.into(), 0))?;
        // The previous user of the stick may have stopped in the middle of a command. Bulk-Only
        // Mass Storage Reset (section 3.1) cancels it.
        self.control(setup(0x21, 255, 0, 0))?;
        let bulk = |input: bool| {
            endpoints(&descriptors)
                .find(|(address, kind)| (address & 0x80 != 0) == input && *kind == 2)
                .map(|it| it.0)
        };
        let (Some(input), Some(output)) = (bulk(true), bulk(false)) else {
            return Err(Failure::Unexpected(format!("{id} is not a stick: {descriptors:?}")));
        };
        Ok((id, Stick { input, output }))
    }

    fn descriptor(&mut self, kind: u8, length: u16) -> Result<Vec<u8>, Failure> {
        let answer = self.control(setup(0x80, 6, u16::from(kind) << 8, length))?;
        Ok(self.data(answer.actual_length as usize))
    }

    /// Reads as much data as one request carries, with READ(10). A stick that was just plugged in
    /// fails its first command to report that (unit attention), so the command is repeated.
    fn read(&mut self, stick: &Stick) -> Result<Vec<u8>, Failure> {
        let blocks = u8::try_from(PAGES * PAGE / BLOCK).unwrap_or(u8::MAX);
        for _ in 0..8 {
            let read = [0x28, 0, 0, 0, 0, 0, 0, 0, blocks, 0];
            let data = self.command(stick, &read, PAGES * PAGE)?;
            if let Some(data) = data {
                return Ok(data);
            }
            // REQUEST SENSE clears the error.
            self.command(stick, &[0x03, 0, 0, 0, 18, 0], 18)?;
        }
        Err(Failure::Unexpected("the stick failed to read its first blocks".to_owned()))
    }

    /// Executes a command that reads; `None` if the stick reports an error.
    fn command(
        &mut self,
        stick: &Stick,
        command: &[u8],
        length: usize,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let mut wrapper = vec![0; CBW.1];
        wrapper[..4].copy_from_slice(CBW.0);
        wrapper[8..12].copy_from_slice(&u32::try_from(length).unwrap_or(0).to_le_bytes());
        wrapper[12] = 0x80;
        wrapper[14] = u8::try_from(command.len()).unwrap_or(0);
        wrapper[15..15 + command.len()].copy_from_slice(command);
        let _ = self.pages[0].copy_in(0, &wrapper);
        self.bulk(stick.output, CBW.1)?;
        let answer = self.bulk(stick.input, length)?;
        let data = self.data(answer.actual_length as usize);
        if answer.status != Status::Ok {
            // The endpoint is halted: CLEAR_FEATURE(ENDPOINT_HALT).
            self.control(Setup { index: stick.input.into(), ..setup(0x02, 1, 0, 0) })?;
        }
        self.bulk(stick.input, CSW.1)?;
        let status = self.data(CSW.1);
        if !status.starts_with(CSW.0) {
            return Err(Failure::Unexpected(format!("status {status:?}")));
        }
        Ok((status.last() == Some(&0)).then_some(data))
    }

    fn bulk(&mut self, endpoint: u8, length: usize) -> Result<Answer, Failure> {
        let direction = if endpoint & 0x80 == 0 { Direction::Out } else { Direction::In };
        self.exchange(Kind::Bulk, endpoint & 0x0f, direction, length)
    }

    fn control(&mut self, setup: Setup) -> Result<Answer, Failure> {
        let answer =
            self.exchange(Kind::Control(setup), 0, setup.direction(), setup.length.into())?;
        match answer.status {
            Status::Ok => Ok(answer),
            other => Err(Failure::Unexpected(format!("{other:?} to {setup:?}"))),
        }
    }

    fn exchange(
        &mut self,
        kind: Kind,
        endpoint: u8,
        direction: Direction,
        length: usize,
    ) -> Result<Answer, Failure> {
        let data = segments(&self.pages, length)?;
        let (port, address) = (self.port, self.address);
        let transfer =
            Transfer { port, address, endpoint, direction, kind, short_not_ok: false, data };
        let pushed = self.front.urbs.submit(&transfer)?;
        self.front.notify_if_due(pushed.notify)?;
        let deadline = std::time::Instant::now() + TIMEOUT;
        while std::time::Instant::now() < deadline {
            if let Some(answer) = self.front.urbs.take()? {
                return Ok(answer);
            }
            if !self.front.urbs.rearm() {
                self.front.sleep()?;
            }
        }
        Err(Failure::Timeout("an answer"))
    }

    /// The first bytes of the data pages.
    fn data(&self, length: usize) -> Vec<u8> {
        let mut all = vec![0; length.min(PAGES * PAGE)];
        for (page, part) in self.pages.iter().zip(all.chunks_mut(PAGE)) {
            let _ = page.copy_out(0, part);
        }
        all
    }
}

/// A setup packet with index 0.
pub(crate) const fn setup(request_type: u8, request: u8, value: u16, length: u16) -> Setup {
    Setup { request_type, request, value, index: 0, length }
}

/// Segments for the first `length` bytes of these pages.
pub(crate) fn segments(pages: &[Shared], length: usize) -> Result<Segments, Failure> {
    let mut left = length;
    let mut list = Vec::new();
    for page in pages {
        if left == 0 {
            break;
        }
        let part = left.min(PAGE);
        left -= part;
        let length = u16::try_from(part).unwrap_or(0);
        list.push(Segment { gref: page.gref().0, offset: 0, length });
    }
    Ok(Segments::new(&list)?)
}

/// The endpoints in the descriptors of a configuration: address and type (USB 2.0, table 9-13).
fn endpoints(mut descriptors: &[u8]) -> impl Iterator<Item = (u8, u8)> {
    std::iter::from_fn(move || {
        while let [length, kind, ..] = *descriptors {
            let (first, rest) = descriptors.split_at_checked(usize::from(length.max(1)))?;
            descriptors = rest;
            if let (5, [_, _, address, attributes, ..]) = (kind, first) {
                return Some((*address, attributes & 3));
            }
        }
        None
    })
}
