//! How a device is written on the command line: `storage:stick.img,readonly`, `host:0781:5581`, `tablet`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::backend::{CHARDEVS, object_id};
use super::*;

impl fmt::Display for Kind {
    /// As the command line writes it: `storage:stick.img,readonly`, `host:0781:5581`, `tablet`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Kind::Host(host) => write!(f, ":{}", host.selector),
            Kind::Storage(storage) => {
                write!(f, ":{}", storage.file)?;
                if storage.format != ImageFormat::of_name(&storage.file) {
                    write!(f, ",format={}", storage.format)?;
                }
                f.write_str(if storage.readonly { ",readonly" } else { "" })
            }
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

fn write_net(f: &mut fmt::Formatter<'_>, net: &Net) -> fmt::Result {
    match (&net.backend, net.mac) {
        (NetBackend::User, None) => Ok(()),
        (backend, None) => write!(f, ":{backend}"),
        (backend, Some(mac)) => write!(f, ":{backend},mac={mac}"),
    }
}

/// A text that is no device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` is no {what}: {why}")]
pub struct KindError {
    what: &'static str,
    text: String,
    pub(super) why: String,
}

impl KindError {
    pub(super) fn new(text: &str, why: impl Into<String>) -> KindError {
        KindError::of("device", text, why)
    }

    /// For a part of a device's text: `what` is what it should be.
    pub(super) fn of(what: &'static str, text: &str, why: impl Into<String>) -> KindError {
        KindError { what, text: text.chars().take(200).collect(), why: why.into() }
    }
}

/// What an unknown word is answered with.
const KNOWN: &str = "write a host device (0781:5581, 1-4.2, 003.014), storage:FILE[,readonly][,format=raw|qcow2], tablet, mouse, \
                     keyboard, hub, serial:CHARDEV, audio, net, mtp:DIR[,writable], ccid or redir:ADDRESS";

impl FromStr for Kind {
    type Err = KindError;

    /// Reads what the command line writes. A selector without a word before it is a host device.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (word, rest) = match text.split_once(':') {
            Some((word, rest)) => (word, Some(rest)),
            None => (text, None),
        };
        let needed = |what: &str| {
            rest.filter(|rest| !rest.is_empty()).ok_or_else(|| KindError::new(text, what))
        };
        let input = || input(text, rest);
        match word {
            "host" => host(text, needed("name the device, such as host:0781:5581")?),
            "storage" => storage(text, needed("name its file, such as storage:stick.img")?),
            "tablet" => Ok(Kind::Tablet(input()?)),
            "mouse" => Ok(Kind::Mouse(input()?)),
            "keyboard" => Ok(Kind::Keyboard(input()?)),
            "hub" => hub(text, rest),
            "serial" => Ok(Kind::Serial(Serial { chardev: needed(CHARDEVS)?.parse()? })),
            "redir" => redir(needed(
                "say where it comes from, such as redir:tcp:HOST:PORT or redir:unix:PATH",
            )?),
            "audio" => {
                Ok(Kind::Audio(Audio { audiodev: rest.map(|id| object_id(text, id)).transpose()? }))
            }
            "net" => net(text, rest.unwrap_or("user")),
            "mtp" => mtp(text, needed("name the folder to show, such as mtp:/srv/photos")?),
            "ccid" if rest.is_none() => Ok(Kind::Ccid),
            _ if text.starts_with(|first: char| first.is_ascii_digit())
                || text.contains("-usb-0:")
                || rest.is_some() =>
            {
                host(text, text)
            }
            _ => Err(KindError::new(text, KNOWN)),
        }
    }
}

fn host(text: &str, selector: &str) -> Result<Kind, KindError> {
    match selector.parse() {
        Ok(selector) => Ok(Kind::Host(HostRef { selector, speeds: None, at: None })),
        Err(_) => Err(KindError::new(text, KNOWN)),
    }
}

/// `FILE[,readonly][,format=F]`. A comma that no option follows is part of the file's name.
fn storage(text: &str, rest: &str) -> Result<Kind, KindError> {
    let mut file = rest;
    let mut readonly = false;
    let mut format = None;
    while let Some((head, option)) = file.rsplit_once(',') {
        match option.split_once('=') {
            None if option == "readonly" => readonly = true,
            Some(("format", value)) => format = Some(value.parse()?),
            _ => break,
        }
        file = head;
    }
    if file.is_empty() {
        return Err(KindError::new(text, "name its file, such as storage:stick.img"));
    }
    let format = format.unwrap_or_else(|| ImageFormat::of_name(file));
    Ok(Kind::Storage(Storage { file: file.to_owned(), format, readonly }))
}

fn input(text: &str, rest: Option<&str>) -> Result<Input, KindError> {
    match rest {
        None | Some("usbversion=1") => Ok(Input { usbversion: UsbVersion::V1 }),
        Some("usbversion=2") => Ok(Input { usbversion: UsbVersion::V2 }),
        Some(_) => Err(KindError::new(
            text,
            "all it takes is :usbversion=1 (full speed) or :usbversion=2 (high speed too)",
        )),
    }
}

fn hub(text: &str, rest: Option<&str>) -> Result<Kind, KindError> {
    let why = "a hub has 8 ports, or fewer as hub:ports=4 says";
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
        return Err(KindError::new(text, "name the folder to show, such as mtp:/srv/photos"));
    }
    Ok(Kind::Mtp(Mtp { dir: dir.to_owned(), writable }))
}

fn redir(rest: &str) -> Result<Kind, KindError> {
    // An address alone is one to connect to.
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
    fn every_kind_reads_and_prints_the_same() {
        for text in [
            "host:0781:5581",
            "host:1-4.2",
            "storage:stick.img",
            "storage:a,b.qcow2,readonly",
            "storage:disk.img,format=qcow2,readonly",
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
    }

    #[test]
    fn what_a_hypervisor_shows_is_what_was_wanted() {
        let satisfies = |found: &str, wanted: &str| {
            found.parse::<Kind>().unwrap().satisfies(&wanted.parse::<Kind>().unwrap())
        };
        for (found, wanted) in [
            ("redir:tcp:127.0.0.1:4000,server", "redir:tcp:localhost:4000,server"),
            ("redir:tcp:[::1]:4000,server", "redir:tcp:localhost:4000,server"),
            ("serial:tcp:192.0.2.7:4000,server", "serial:tcp:terminals:4000,server"),
            ("serial:id:vusb-serial0", "serial:file:/var/log/guest"),
            ("audio:alsa", "audio"),
            ("net:user,mac=52:54:00:12:34:56", "net"),
        ] {
            assert!(satisfies(found, wanted), "{found} is not {wanted}");
            assert!(!satisfies(wanted, found), "{wanted} is {found}");
        }
        for (found, wanted) in [
            ("redir:tcp:127.0.0.1:4000", "redir:tcp:localhost:4000,server"),
            ("redir:tcp:127.0.0.1:4000", "redir:tcp:localhost:4001"),
            ("redir:tcp:192.0.2.7:4000", "redir:tcp:localhost:4000"),
            ("redir:tcp:192.0.2.7:4000", "redir:tcp:192.0.2.8:4000"),
            ("redir:tcp:127.0.0.1:4000", "serial:tcp:127.0.0.1:4000"),
            ("serial:id:mine", "serial:file:/var/log/guest"),
            ("audio", "audio:snd0"),
        ] {
            assert!(!satisfies(found, wanted), "{found} is {wanted}");
        }
    }

    #[test]
    fn what_is_no_device_is_answered_with_what_is() {
        for text in [
            "",
            "moose",
            "storage",
            "storage:",
            "storage:,readonly",
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
        assert_eq!(error, "`vmdk` is no image format: it is raw or qcow2");
        let error = "moose".parse::<Kind>().unwrap_err().to_string();
        assert!(error.contains("storage:FILE"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back(text in "(host|storage|hub|net|mtp|serial|redir|)[:a-z0-9=,._-]{0,30}") {
            if let Ok(kind) = text.parse::<Kind>() {
                prop_assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
            }
        }
    }
}
