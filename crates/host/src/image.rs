//! The headers of image formats, and the other files that a qcow2 image refers to. The input is
//! untrusted: no number in it decides how much memory is allocated.

/// The number of bytes at the start of an image that identify its format: as many as QEMU reads
/// (`BLOCK_PROBE_BUF_SIZE` in its `include/block/block_int-common.h`).
pub const START: usize = 512;

/// The number of bytes at the end of an image that identify its format.
pub const END: usize = 512;

/// The formats other than raw that QEMU can read, by the start of their files: the `probe`
/// functions in QEMU's `block` directory. LUKS is missing on purpose: a guest that encrypts its
/// disk writes such a header.
const MAGIC: [(&str, usize, &[u8]); 14] = [
    ("qcow2", 0, b"QFI\xfb\x00\x00\x00\x02"),
    ("qcow2", 0, b"QFI\xfb\x00\x00\x00\x03"),
    ("qcow", 0, b"QFI\xfb"),
    ("QED", 0, b"QED\x00"),
    ("VMDK", 0, b"KDMV"),
    ("VMDK", 0, b"COWD"),
    ("VMDK", 0, b"# Disk DescriptorFile"),
    ("VDI", 0x40, b"\x7f\x10\xda\xbe"),
    ("VHD", 0, b"conectix"),
    ("VHDX", 0, b"vhdxfile"),
    ("Parallels", 0, b"WithoutFreeSpace"),
    ("Parallels", 0, b"WithouFreSpacExt"),
    ("Bochs", 0, b"Bochs Virtual HD Image"),
    ("cloop", 0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop"),
];

/// The mark at the end of a file of a format other than raw. The data of the guest may end with any
/// bytes, so a word alone is not enough.
struct EndMark {
    format: &'static str,
    /// The magic word, and its distance from the end of the file in bytes.
    word: (usize, &'static [u8]),
    /// The version, and its distance from the end of the file in bytes.
    version: (usize, &'static [u8]),
}

/// The formats that are marked at the end of their files.
const END_MARKS: [EndMark; 3] = [
    // A fixed VHD ("Virtual Hard Disk Image Format Specification", "Hard Disk Footer Format"). The
    // footer of old versions has 511 bytes.
    EndMark { format: "VHD", word: (512, b"conectix"), version: (500, b"\0\x01\0\0") },
    EndMark { format: "VHD", word: (511, b"conectix"), version: (499, b"\0\x01\0\0") },
    // The trailer of Apple's UDIF (QEMU's `block/dmg.c`), whose version is 4.
    EndMark { format: "DMG", word: (512, b"koly"), version: (508, b"\0\0\0\x04") },
];

/// The format of an image that begins like this, except raw. `None` if it is raw, or unknown.
pub fn format_of(start: &[u8]) -> Option<&'static str> {
    let begins = |(_, at, magic): &&(&str, usize, &[u8])| {
        start.get(*at..).is_some_and(|rest| rest.starts_with(magic))
    };
    let by_magic = MAGIC.iter().find(begins).map(|(format, _, _)| *format);
    by_magic.or_else(|| is_vmdk_descriptor(start).then_some("VMDK"))
}

/// The format of an image that ends like this, except raw. `None` if it is raw, or unknown.
pub fn format_at_end(end: &[u8]) -> Option<&'static str> {
    let has = |(from_end, bytes): (usize, &[u8])| {
        let at = end.len().checked_sub(from_end);
        at.and_then(|at| end.get(at..)).is_some_and(|rest| rest.starts_with(bytes))
    };
    END_MARKS.iter().find(|it| has(it.word) && has(it.version)).map(|it| it.format)
}

/// Whether this is the text that describes a VMDK, by the rule of QEMU's `vmdk_probe`: comments and
/// empty lines, then the version.
fn is_vmdk_descriptor(start: &[u8]) -> bool {
    let lines = start.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut first = lines.skip_while(|line| line.is_empty() || line.starts_with(b"#"));
    first.next().is_some_and(|line| matches!(line, b"version=1" | b"version=2" | b"version=3"))
}

/// The other files that a qcow2 image refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Qcow2 {
    /// The image that is read where this image has no data.
    pub backing: Option<Backing>,
    /// The file with the image's data, if the data is not in the image itself.
    pub data_file: Option<Vec<u8>>,
}

/// A backing file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Its name as written: a path, or another name that QEMU accepts (`nbd://...`, `json:{...}`).
    pub name: Vec<u8>,
    /// QEMU's name of its format. `None` if QEMU detects it.
    pub format: Option<Vec<u8>>,
}

/// The longest name of a backing file (QEMU's `block/qcow2.c`, `qcow2_do_open`). The same limit is
/// applied to the name of a data file.
const MAX_NAME: u32 = 1023;

/// The largest cluster: 2 MiB. The header, its extensions and the names are in the first one.
const MAX_CLUSTER_BITS: u32 = 21;
const MIN_CLUSTER_BITS: u32 = 9;

/// The maximum number of extensions that are read.
const MAX_EXTENSIONS: usize = 256;

const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;

/// The incompatible feature of an image whose data is in another file.
const FEATURE_DATA_FILE: u64 = 1 << 2;

/// The size of the first cluster in bytes, from the start of the file. `None` if it is not a qcow2
/// image, or its cluster size is invalid.
pub fn first_cluster(start: &[u8]) -> Option<u64> {
    if format_of(start) != Some("qcow2") {
        return None;
    }
    let bits = be32(start, 20)?;
    (MIN_CLUSTER_BITS..=MAX_CLUSTER_BITS).contains(&bits).then(|| 1 << bits)
}

/// Parses the first cluster of a qcow2 image (QEMU's `docs/interop/qcow2.txt`, "Header" and "Header
/// extensions").
///
/// # Errors
/// What is wrong with it.
pub fn parse(cluster: &[u8]) -> Result<Qcow2, &'static str> {
    if format_of(cluster) != Some("qcow2") {
        return Err("it does not begin like a qcow2 image");
    }
    let short = "its header is cut off";
    let version = be32(cluster, 4).ok_or(short)?;
    let offset = be64(cluster, 8).ok_or(short)?;
    let size = be32(cluster, 16).ok_or(short)?;
    let (features, header) = match version {
        2 => (0, 72),
        _ => (be64(cluster, 72).ok_or(short)?, be32(cluster, 100).ok_or(short)?),
    };
    let Extensions { backing_format: format, data_file } = extensions(cluster, header)?;
    let backing = match (offset, size) {
        (0, _) | (_, 0) => None,
        (_, size) if size > MAX_NAME => return Err("the name of its backing file is too long"),
        (offset, size) => {
            let name = usize::try_from(offset).ok().and_then(|at| part(cluster, at, size));
            let name = name.ok_or("the name of its backing file is not in its first cluster")?;
            Some(Backing { name: name.to_vec(), format })
        }
    };
    let data_file = match (features & FEATURE_DATA_FILE != 0, data_file) {
        (false, _) => None,
        (true, None) => return Err("its data is in another file, which it does not name"),
        (true, name) => name,
    };
    Ok(Qcow2 { backing, data_file })
}

/// The values that are read from the extensions.
#[derive(Default)]
struct Extensions {
    backing_format: Option<Vec<u8>>,
    data_file: Option<Vec<u8>>,
}

/// The format of the backing file and the name of the data file, if the extensions have them.
fn extensions(cluster: &[u8], header: u32) -> Result<Extensions, &'static str> {
    let broken = "an extension of its header is broken";
    let mut all = Extensions::default();
    let mut at = usize::try_from(header).map_err(|_| broken)?;
    for _ in 0..MAX_EXTENSIONS {
        // An image without extensions may end here. QEMU reads zeros in this case.
        let Some(kind) = be32(cluster, at) else { break };
        if kind == EXTENSION_END {
            break;
        }
        let size = be32(cluster, at + 4).ok_or(broken)?;
        let data = part(cluster, at + 8, size).ok_or(broken)?;
        match kind {
            EXTENSION_BACKING_FORMAT => all.backing_format = Some(data.to_vec()),
            EXTENSION_DATA_FILE if size > MAX_NAME => {
                return Err("the name of its data file is too long");
            }
            EXTENSION_DATA_FILE => all.data_file = Some(data.to_vec()),
            _ => {}
        }
        // Padded to a multiple of 8.
        at = at + 8 + data.len().next_multiple_of(8);
    }
    Ok(all)
}

fn part(bytes: &[u8], at: usize, size: u32) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(usize::try_from(size).ok()?)?)
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = part(bytes, at, 4)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = part(bytes, at, 8)?;
    Some(u64::from_be_bytes(eight.try_into().ok()?))
}

/// A first cluster of 64 KiB, for tests of this and other crates. It is cut off at its end, so the
/// names must fit into it.
#[cfg(feature = "example-images")]
#[allow(clippy::indexing_slicing, reason = "for tests: the image has at least 104 bytes")]
pub fn example(backing: Option<&str>, format: Option<&str>, data: Option<&str>) -> Vec<u8> {
    let mut image = b"QFI\xfb\0\0\0\x03".to_vec();
    image.resize(104, 0);
    image[20..24].copy_from_slice(&16_u32.to_be_bytes());
    image[100..104].copy_from_slice(&104_u32.to_be_bytes());
    let mut extension = |kind: u32, data: &str| {
        image.extend(kind.to_be_bytes());
        image.extend((data.len() as u32).to_be_bytes());
        image.extend(data.as_bytes());
        image.resize(image.len().next_multiple_of(8), 0);
    };
    extension(0x6803_f857, "unknown");
    format.into_iter().for_each(|format| extension(EXTENSION_BACKING_FORMAT, format));
    data.into_iter().for_each(|data| extension(EXTENSION_DATA_FILE, data));
    image.extend([0; 8]);
    if let Some(backing) = backing {
        let at = image.len() as u64;
        image[8..16].copy_from_slice(&at.to_be_bytes());
        image[16..20].copy_from_slice(&(backing.len() as u32).to_be_bytes());
        image.extend(backing.as_bytes());
    }
    if data.is_some() {
        image[72..80].copy_from_slice(&FEATURE_DATA_FILE.to_be_bytes());
    }
    image.resize(1 << 16, 0);
    image
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formats_are_recognized_by_their_first_bytes() {
        let mut vdi = b"<<< QEMU VM Virtual Disk Image >>>\n".to_vec();
        vdi.resize(0x40, 0);
        vdi.extend(b"\x7f\x10\xda\xbe");
        for (start, format) in [
            (&b"QFI\xfb\0\0\0\x02rest"[..], Some("qcow2")),
            (b"QFI\xfb\0\0\0\x01", Some("qcow")),
            (b"KDMV\x01", Some("VMDK")),
            (b"# Disk DescriptorFile\nversion=1", Some("VMDK")),
            (&vdi, Some("VDI")),
            (b"conectix", Some("VHD")),
            (b"vhdxfile", Some("VHDX")),
            (b"Bochs Virtual HD Image\0", Some("Bochs")),
            (b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0", Some("cloop")),
            (b"# my disk\r\n\nversion=1\nCID=1", Some("VMDK")),
            (b"version=3\n", Some("VMDK")),
            (b"version=4\n", None),
            (b"#!/bin/sh\necho\nversion=1\n", None),
            // A guest that encrypts its disk.
            (b"LUKS\xba\xbe\0\x01", None),
            (b"\xeb\x3c\x90MSDOS5.0", None),
            (b"", None),
        ] {
            assert_eq!(format_of(start), format, "{start:?}");
        }
    }

    #[test]
    fn formats_are_recognized_by_their_last_bytes() {
        let end = |from_end: usize, magic: &[u8], version: &[u8]| {
            let mut end = vec![0; END];
            end[END - from_end..][..magic.len()].copy_from_slice(magic);
            end[END - from_end + 12..][..version.len()].copy_from_slice(version);
            end
        };
        assert_eq!(format_at_end(&end(512, b"conectix", &[0, 1, 0, 0])), Some("VHD"));
        assert_eq!(format_at_end(&end(511, b"conectix", &[0, 1, 0, 0])), Some("VHD"));
        assert_eq!(format_at_end(&end(512, b"koly\0\0\0\x04", b"")), Some("DMG"));
        // The magic word alone may be in any text.
        for raw in [end(512, b"conectix", b""), end(512, b"koly", b""), vec![0; END]] {
            assert_eq!(format_at_end(&raw), None);
        }
        assert_eq!(format_at_end(b"conectix"), None);
        assert_eq!(format_at_end(b""), None);
    }

    #[test]
    fn references_are_read() {
        let parsed = |image: &[u8]| parse(image).unwrap();
        assert_eq!(parsed(&example(None, None, None)), Qcow2::default());
        let both = parsed(&example(Some("base.img"), Some("raw"), Some("data.raw")));
        let backing = Backing { name: b"base.img".to_vec(), format: Some(b"raw".to_vec()) };
        assert_eq!(both.backing, Some(backing));
        assert_eq!(both.data_file, Some(b"data.raw".to_vec()));
        assert_eq!(first_cluster(&example(None, None, None)), Some(1 << 16));
        // Version 2 has neither features nor a length.
        let mut old = b"QFI\xfb\0\0\0\x02".to_vec();
        old.resize(80, 0);
        old[8..16].copy_from_slice(&80_u64.to_be_bytes());
        old[16..20].copy_from_slice(&2_u32.to_be_bytes());
        old.extend(b"/b");
        let backing = Backing { name: b"/b".to_vec(), format: None };
        assert_eq!(parsed(&old).backing, Some(backing));
    }

    #[test]
    fn broken_headers_are_refused() {
        let whole = example(Some("base.img"), None, None);
        assert!(parse(&whole[..60]).is_err());
        let with = |at: usize, bytes: &[u8]| {
            let mut image = whole.clone();
            image[at..at + bytes.len()].copy_from_slice(bytes);
            parse(&image)
        };
        assert!(with(16, &1024_u32.to_be_bytes()).unwrap_err().contains("too long"));
        assert!(with(8, &u64::MAX.to_be_bytes()).unwrap_err().contains("first cluster"));
        assert!(with(108, &u32::MAX.to_be_bytes()).unwrap_err().contains("extension"));
        assert!(with(72, &4_u64.to_be_bytes()).unwrap_err().contains("does not name"));
        assert!(parse(b"raw").is_err());
    }

    #[test]
    fn the_longest_names_are_read_and_longer_ones_are_refused() {
        let (longest, longer) = ("x".repeat(1023), "x".repeat(1024));
        let backing = |name: &str| parse(&example(Some(name), None, None));
        let data = |name: &str| parse(&example(None, None, Some(name)));
        assert_eq!(backing(&longest).unwrap().backing.unwrap().name, longest.as_bytes());
        assert_eq!(data(&longest).unwrap().data_file.unwrap(), longest.as_bytes());
        assert_eq!(backing(&longer), Err("the name of its backing file is too long"));
        assert_eq!(data(&longer), Err("the name of its data file is too long"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            at in 0_usize..300,
        ) {
            let _ = (format_of(&bytes), first_cluster(&bytes), parse(&bytes));
            let _ = format_at_end(&bytes);
            let mut image = example(Some("base.img"), Some("raw"), Some("data.raw"));
            let end = (at + bytes.len()).min(image.len());
            image.splice(at..end, bytes.iter().copied());
            let _ = parse(&image);
        }
    }
}
