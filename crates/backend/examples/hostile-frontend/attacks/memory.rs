//! Memory that is not granted, was revoked, is read-only, or is one page for all data.

use vusb_usbif::urb::{Direction, Kind, Segment, Segments};
use vusb_xen::gntalloc::Shared;

use crate::frontend::Failure;
use crate::raw::{Raw, encode, piece, readdress};
use crate::reference_frontend::{segments, setup};

/// Grants that this guest has never given. Some are outside Xen's grant table. The last one has to
/// be looked up there.
pub(crate) fn never_given() -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let mut words = raw.good(1);
    for (segment, gref) in [u32::MAX, 0x8000_0000, 100_000, 511].into_iter().enumerate() {
        words.0[5 + 2 * segment] = gref;
        words.0[6 + 2 * segment] = 4 << 16;
    }
    // Id 1 and four segments. `wLength` is their total length: a request for more would be refused
    // before its grants are used.
    words.0[0] = 1 | 4 << 16;
    words.0[4] = 16 << 16;
    raw.send(&words)?;
    raw.verdict()
}

/// Revokes the grants of pages while a stick writes to them.
pub(crate) fn revoked() -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let address = raw.configure()?;
    let pages = (0..16).map(|_| raw.front.page(true)).collect::<Result<Vec<_>, _>>()?;
    let data = segments(&pages, 16 * 4096)?;
    read_64k(&mut raw, address)?;
    let mut read = encode(51, &raw.transfer(Kind::Bulk, 1, Direction::In, data));
    readdress(&mut read, address);
    raw.put(&read);
    raw.publish()?;
    drop(pages);
    raw.verdict()
}

/// Tells the stick to send its first 64 KiB: a command wrapper with READ(10) (Bulk-Only Transport,
/// section 5.1) for 128 blocks of 512 bytes.
fn read_64k(raw: &mut Raw, address: u8) -> Result<(), Failure> {
    let mut wrapper = [0; 31];
    wrapper[..4].copy_from_slice(b"USBC");
    wrapper[8..12].copy_from_slice(&0x1_0000_u32.to_le_bytes());
    wrapper[12] = 0x80;
    wrapper[14] = 10;
    wrapper[15] = 0x28;
    wrapper[23] = 128;
    let _ = raw.page.copy_in(0, &wrapper);
    let data = piece(&raw.page, 0, 31);
    let mut words = encode(50, &raw.transfer(Kind::Bulk, 2, Direction::Out, data));
    readdress(&mut words, address);
    raw.request(&words)
}

/// A read into memory that is granted read-only.
pub(crate) fn read_only() -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let page = raw.front.page(false)?;
    let words = descriptor_into(&raw, piece(&page, 0, 18));
    raw.send(&words)?;
    raw.verdict()
}

/// A request that reads the device descriptor into this memory.
fn descriptor_into(raw: &Raw, data: Segments) -> vusb_usbif::urb::RequestWords {
    encode(1, &raw.transfer(Kind::Control(setup(0x80, 6, 1 << 8, 18)), 0, Direction::In, data))
}

/// A read into sixteen segments that are all the same two bytes of one page.
pub(crate) fn one_page() -> Result<String, Failure> {
    let mut raw = Raw::connect()?;
    let same = |page: &Shared| Segment { gref: page.gref().0, offset: 4094, length: 2 };
    let data = Segments::new(&[same(&raw.page); 16])?;
    let words = descriptor_into(&raw, data);
    raw.send(&words)?;
    raw.verdict()
}
