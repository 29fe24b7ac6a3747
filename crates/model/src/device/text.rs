//! The text form of a device, as on the command line: `storage:stick.img,readonly`,
//! `host:0781:5581`, `tablet`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::backend::{CHARDEVS, object_id};
use super::*;

impl fmt::Display for Kind {
    /// The text form: `storage:stick.img,readonly`, `host:0781:5581`, `tablet`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Kind::Host(host) => write!(f, ":{}", host.selector),
            Kind::Storage(storage) => write_storage(f, storage),
            Kind::Tablet(input) | Kind::Mouse(input) | Kind::Keyboard(input) => {
                match input.usbversion {
                    UsbVersion::V1 => Ok(()),
                    other => write!(f, ":usbversion={other}"),
                }
            }
            Kind::Hub(hub) if hub.ports != HUB_PORTS => write!(f, ":ports={}", hub.ports),
            Kind::Serial(serial) => write!(f, ":{}", serial.chardev),
            Kind::Audio(Audio { audiodev: Some(id) }) => write!(f, ":{id}"),
            Kind::Net(net) => write_net(f, net),
            Kind::Mtp(mtp) => {
                write!(f, ":{}{}", mtp.dir, if mtp.writable { ",writable" } else { "" })
            }
            Kind::Redir(redir) => write!(f, ":{}", redir.chardev),
            Kind::Other(other) => write!(f, ":{}", other.driver),
            Kind::Hub(_) | Kind::Audio(_) | Kind::Ccid => Ok(()),
        }
    }
}

fn write_storage(f: &mut fmt::Formatter<'_>, storage: &Storage) -> fmt::Result {
    write!(f, ":{}", storage.file)?;
    if storage.format != ImageFormat::from_file_name(&storage.file) {
        write!(f, ",format={}", storage.format)?;
    }
    if !storage.media.is_disk() {
        write!(f, ",media={}", storage.media)?;
    }
    if let Some(serial) = &storage.serial {
        write!(f, ",serial={serial}")?;
    }
    f.write_str(if storage.removable { ",removable=on" } else { "" })?;
    f.write_str(if storage.readonly && storage.media.is_disk() { ",readonly" } else { "" })
}

fn write_net(f: &mut fmt::Formatter<'_>, net: &Net) -> fmt::Result {
    match (&net.backend, net.mac) {
        (NetBackend::User, None) => Ok(()),
        (backend, None) => write!(f, ":{backend}"),
        (backend, Some(mac)) => write!(f, ":{backend},mac={mac}"),
    }
}

/// Text that is not a device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is not {what}: {why}")]
pub struct KindError {
    what: &'static str,
    text: String,
    pub(super) why: String,
}

impl KindError {
    pub(super) fn new(text: &str, why: impl Into<String>) -> KindError {
        KindError::of("a device", text, why)
    }

    /// An error in a part of a device's text. `what` is what the part should be, with its article.
    pub(super) fn of(what: &'static str, text: &str, why: impl Into<String>) -> KindError {
        KindError { what, text: text.chars().take(200).collect(), why: why.into() }
    }
}

/// The known devices, for messages.
const KNOWN: &str = "a host device (0781:5581, 1-4.2, 003.014), storage:FILE[,readonly][,format=raw|qcow2][,media=cdrom][,serial=S][,removable=on], \
                     tablet, mouse, keyboard, hub, serial:CHARDEV, audio, net, mtp:DIR[,writable], ccid or redir:ADDRESS";

impl FromStr for Kind {
    type Err = KindError;

    /// Reads the text form. A selector without a kind before it is a host device.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (word, rest) = match text.split_once(':') {
            Some((word, rest)) => (word, Some(rest)),
            None => (text, None),
        };
        let needed = |why: &str| {
            rest.filter(|rest| !rest.is_empty()).ok_or_else(|| KindError::new(text, why))
        };
        let chardev = || needed(&format!("specify its back end: {CHARDEVS}"))?.parse();
        let input = || input(text, rest);
        match word {
            "host" => host(text, needed("specify the device, such as host:0781:5581")?),
            "storage" => storage(text, needed("specify its file, such as storage:stick.img")?),
            "tablet" => Ok(Kind::Tablet(input()?)),
            "mouse" => Ok(Kind::Mouse(input()?)),
            "keyboard" => Ok(Kind::Keyboard(input()?)),
            "hub" => hub(text, rest),
            "serial" => Ok(Kind::Serial(Serial { chardev: chardev()? })),
            "redir" => {
                redir(needed("specify its source, such as redir:tcp:HOST:PORT or redir:unix:PATH")?)
            }
            "audio" => {
                Ok(Kind::Audio(Audio { audiodev: rest.map(|id| object_id(text, id)).transpose()? }))
            }
            "net" => net(text, rest.unwrap_or("user")),
            "mtp" => mtp(text, needed("specify the folder, such as mtp:/srv/photos")?),
            "ccid" if rest.is_none() => Ok(Kind::Ccid),
            _ if text.starts_with(|first: char| first.is_ascii_digit() || first == '/')
                || text.contains("-usb-0:")
                || rest.is_some() =>
            {
                host(text, text)
            }
            _ => Err(unknown(text)),
        }
    }
}

fn host(text: &str, selector: &str) -> Result<Kind, KindError> {
    match selector.parse() {
        Ok(selector) => Ok(Kind::Host(HostRef::new(selector))),
        Err(error) if !error.meant().is_empty() => {
            Err(KindError::new(text, format!("write {}", error.expected())))
        }
        Err(_) => Err(unknown(text)),
    }
}

/// The words that a device's text may begin with.
const WORDS: [&str; 12] = [
    "host", "storage", "tablet", "mouse", "keyboard", "hub", "serial", "audio", "net", "mtp",
    "ccid", "redir",
];

/// Text that begins with none of the words and is not a selector either.
fn unknown(text: &str) -> KindError {
    let word = text.split(':').next().unwrap_or(text).to_ascii_lowercase();
    let distance = |known: &&str| strsim::damerau_levenshtein(known, &word);
    let similar = WORDS.into_iter().min_by_key(distance);
    // One wrong letter for every three that are right: a short word is similar to many others.
    let similar = similar.filter(|known| distance(known) <= (known.len() - 1) / 3);
    match similar {
        Some(similar) => KindError::new(text, format!("did you mean {similar}? Write {KNOWN}")),
        None => KindError::new(text, format!("write {KNOWN}")),
    }
}

/// `FILE[,readonly][,format=F][,media=M][,serial=S][,removable[=on|off]]`. A comma that is not
/// followed by an option is part of the file name.
fn storage(text: &str, rest: &str) -> Result<Kind, KindError> {
    let mut file = rest;
    let (mut readonly, mut format, mut removable) = (false, None, None);
    let (mut media, mut serial) = (Media::Disk, None);
    while let Some((head, option)) = file.rsplit_once(',') {
        match option.split_once('=') {
            None if option == "readonly" => readonly = true,
            Some(("format", value)) => format = Some(value.parse()?),
            Some(("media", value)) => media = value.parse()?,
            Some(("serial", value)) => serial = Some(value.parse()?),
            None if option == "removable" => removable = Some(true),
            Some(("removable", "on")) => removable = Some(true),
            Some(("removable", "off")) => removable = Some(false),
            Some(("removable", _)) => {
                return Err(KindError::new(text, "removable is either on or off"));
            }
            _ => break,
        }
        file = head;
    }
    if file.is_empty() {
        return Err(KindError::new(text, "specify its file, such as storage:stick.img"));
    }
    if media == Media::Cdrom && removable == Some(false) {
        return Err(KindError::new(text, "the disc of a CD drive is always removable"));
    }
    let format = format.unwrap_or_else(|| ImageFormat::from_file_name(file));
    let removable = removable.unwrap_or(false);
    let storage = Storage { readonly, serial, removable, ..Storage::new(file, format) };
    Ok(Kind::Storage(storage.with_media(media)))
}

fn input(text: &str, rest: Option<&str>) -> Result<Input, KindError> {
    match rest {
        None | Some("usbversion=1") => Ok(Input { usbversion: UsbVersion::V1 }),
        Some("usbversion=2") => Ok(Input { usbversion: UsbVersion::V2 }),
        Some(_) => Err(KindError::new(
            text,
            "the only option is :usbversion=1 (full speed) or :usbversion=2 (full and high speed)",
        )),
    }
}

fn hub(text: &str, rest: Option<&str>) -> Result<Kind, KindError> {
    let why = "a hub has 1 to 8 ports, such as hub:ports=4; the default is 8";
    let Some(rest) = rest else {
        return Ok(Kind::Hub(Hub::default()));
    };
    let ports = rest.strip_prefix("ports=").and_then(crate::address::decimal::<u8>);
    match ports {
        Some(ports @ 1..=HUB_PORTS) => Ok(Kind::Hub(Hub { ports })),
        _ => Err(KindError::new(text, why)),
    }
}

fn mtp(text: &str, rest: &str) -> Result<Kind, KindError> {
    let (dir, writable) = match rest.strip_suffix(",writable") {
        Some(dir) => (dir, true),
        None => (rest, false),
    };
    if dir.is_empty() {
        return Err(KindError::new(text, "specify the folder, such as mtp:/srv/photos"));
    }
    Ok(Kind::Mtp(Mtp { dir: dir.to_owned(), writable }))
}

fn redir(rest: &str) -> Result<Kind, KindError> {
    // An address without a type is a TCP address to connect to.
    let chardev = rest.parse().or_else(|error| match rest.rsplit_once(':') {
        Some(_) => format!("tcp:{rest}").parse(),
        None => Err(error),
    })?;
    Ok(Kind::Redir(Redir { chardev }))
}

fn net(text: &str, rest: &str) -> Result<Kind, KindError> {
    let (backend, mac) = match rest.split_once(",mac=") {
        Some((backend, mac)) => (backend, Some(mac.parse()?)),
        None => (rest, None),
    };
    let backend = backend.parse().map_err(|error: KindError| KindError::new(text, error.why))?;
    Ok(Kind::Net(Net { backend, mac }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_misspelled_kind_has_a_suggestion() {
        for (text, similar) in [
            ("tablett", "tablet"),
            ("Keybord", "keyboard"),
            ("stroage:stick.img", "storage"),
            ("redirr:spicevmc", "redir"),
        ] {
            let error = text.parse::<Kind>().unwrap_err().to_string();
            assert!(error.contains(&format!("did you mean {similar}? Write a host")), "{error}");
        }
        for text in ["fax", "nut", "web1", ""] {
            let error = text.parse::<Kind>().unwrap_err().to_string();
            assert!(error.contains("is not a device: write a host device"), "{error}");
        }
    }

    #[test]
    fn every_kind_reads_back() {
        for text in [
            "host:0781:5581",
            "host:1-4.2",
            "storage:stick.img",
            "storage:a,b.qcow2,readonly",
            "storage:disk.img,format=qcow2,readonly",
            "storage:/dev/sdb,serial=SN 1,removable=on",
            "storage:a.iso,media=cdrom,serial=CD.1",
            "storage:disk.img,format=qcow2,serial=1,removable=on,readonly",
            "tablet",
            "mouse:usbversion=2",
            "keyboard",
            "hub",
            "hub:ports=4",
            "serial:pty",
            "serial:unix:/run/s,server",
            "serial:id:char0",
            "audio",
            "audio:snd0",
            "net",
            "net:none",
            "net:id:tap0,mac=52:54:00:12:34:56",
            "mtp:/srv/photos,writable",
            "ccid",
            "redir:tcp:[::1]:4000",
            "redir:spicevmc",
        ] {
            assert_eq!(text.parse::<Kind>().unwrap().to_string(), text);
        }
        assert_eq!("0781:5581".parse::<Kind>().unwrap().to_string(), "host:0781:5581");
        assert_eq!(
            "redir:localhost:4000".parse::<Kind>().unwrap().to_string(),
            "redir:tcp:localhost:4000"
        );
        assert_eq!(
            "storage:a.iso,readonly,removable=on,media=cdrom".parse::<Kind>().unwrap().to_string(),
            "storage:a.iso,media=cdrom"
        );
        let switch = "storage:a,removable,readonly".parse::<Kind>().unwrap();
        assert_eq!(switch.to_string(), "storage:a,removable=on,readonly");
        let plain = "storage:a,removable=off,media=disk".parse::<Kind>().unwrap();
        assert_eq!(plain.to_string(), "storage:a");
    }

    #[test]
    fn devices_as_hypervisors_show_them_match_their_requests() {
        let matches = |found: &str, requested: &str| {
            found.parse::<Kind>().unwrap().matches_request(&requested.parse::<Kind>().unwrap())
        };
        for (found, requested) in [
            ("redir:tcp:127.0.0.1:4000,server", "redir:tcp:localhost:4000,server"),
            ("redir:tcp:[::1]:4000,server", "redir:tcp:localhost:4000,server"),
            ("serial:tcp:192.0.2.7:4000,server", "serial:tcp:terminals:4000,server"),
            ("serial:id:vusb-serial0", "serial:file:/var/log/guest"),
            ("audio:alsa", "audio"),
            ("net:user,mac=52:54:00:12:34:56", "net"),
        ] {
            assert!(matches(found, requested), "{found} does not match {requested}");
            assert!(!matches(requested, found), "{requested} matches {found}");
        }
        for (found, requested) in [
            ("redir:tcp:127.0.0.1:4000", "redir:tcp:localhost:4000,server"),
            ("redir:tcp:127.0.0.1:4000", "redir:tcp:localhost:4001"),
            ("redir:tcp:192.0.2.7:4000", "redir:tcp:localhost:4000"),
            ("redir:tcp:192.0.2.7:4000", "redir:tcp:192.0.2.8:4000"),
            ("redir:tcp:127.0.0.1:4000", "serial:tcp:127.0.0.1:4000"),
            ("serial:id:mine", "serial:file:/var/log/guest"),
            ("audio", "audio:snd0"),
        ] {
            assert!(!matches(found, requested), "{found} matches {requested}");
        }
    }

    #[test]
    fn invalid_devices_are_refused_with_the_valid_ones() {
        for text in [
            "",
            "moose",
            "storage",
            "storage:",
            "storage:,readonly",
            "storage:a,serial=",
            "storage:a,serial=\u{e9}",
            "storage:a,serial=a\"b",
            "storage:a,removable=yes",
            "storage:a,media=floppy",
            "storage:a,media=cdrom,removable=off",
            "hub:ports=9",
            "hub:9",
            "serial",
            "serial:tcp:h:0",
            "mtp:",
            "ccid:1",
            "net:user,mac=52:54:00:+1:00:00",
            "781:5581",
        ] {
            assert!(text.parse::<Kind>().is_err(), "{text}");
        }
        let error = "storage:x,format=vmdk".parse::<Kind>().unwrap_err().to_string();
        assert_eq!(error, "`vmdk` is not an image format: it must be raw or qcow2");
        let error = "moose".parse::<Kind>().unwrap_err().to_string();
        assert!(error.contains("storage:FILE"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_reads_back(text in "(host|storage|hub|net|mtp|serial|redir|)[:a-z0-9=,._-]{0,30}") {
            if let Ok(kind) = text.parse::<Kind>() {
                prop_assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
            }
        }
    }
}
