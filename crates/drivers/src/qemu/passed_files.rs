//! Files that QEMU may not open, or does not see: vusb opens them and passes them to QEMU.
//!
//! ```text
//! open ──▶ add-fd ──▶ descriptor set N ──▶ the device, or its block node, opens /dev/fdset/N
//!                          └ its text: `vusb-stick /srv/stick.img`
//! unplug ──▶ remove-fd
//! ```
//!
//! A QEMU that runs as another user, or in a root directory or mount namespace of its own, may not
//! be able to open what this user can. So a file is passed when QEMU has failed to open it. In
//! another root directory, the same path may be another file: there the file is passed at once. An
//! image that cannot be passed there is refused.
//!
//! An image is only passed if no other user could replace it (`safe_open.rs`), and if it refers to
//! no other files: QEMU would resolve a relative name of a backing file against [`FOLDER`].
//!
//! Each descriptor in QEMU has a text (`opaque` in QEMU's `qapi/misc.json`). It names the device
//! that the file is for and the path, so that an observation shows the path. QEMU duplicates the
//! descriptor for the device, so the set can be removed at any time; it is kept for its text.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vusb_host::image;
use vusb_model::device::{ImageFormat, Kind};
use vusb_model::hardware::Device;
use vusb_qmp::CommandError;

use super::arguments::{DeviceBackend, Properties};
use super::names::device_id;
use super::refusal;
use super::safe_open;
use super::session::Session;
use crate::driver::Error;

/// The folder of QEMU's descriptor sets (`qemu_open_internal` in its `util/osdep.c`).
const FOLDER: &str = "/dev/fdset/";

/// A file that vusb has passed to QEMU, in a descriptor set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PassedFile {
    set: u64,
    /// The id of the device that it is for.
    device: String,
    /// Its path on this machine.
    path: String,
}

impl PassedFile {
    /// The path that QEMU opens.
    fn path_in_qemu(&self) -> String {
        format!("{FOLDER}{}", self.set)
    }

    /// Replaces the path of the back end by the one that QEMU can open.
    pub(super) fn use_in_backend(&self, backend: &mut DeviceBackend) {
        let DeviceBackend::Block(node) = backend else { return };
        if let Some(file) = node.get_mut("file").and_then(Value::as_object_mut) {
            file.insert("filename".to_owned(), self.path_in_qemu().into());
        }
    }

    /// Replaces the address of a host device by its open node.
    pub(super) fn use_in_device(&self, properties: &mut Properties) {
        if properties.remove("hostbus").is_some() {
            properties.remove("hostaddr");
            properties.insert("hostdevice".to_owned(), self.path_in_qemu().into());
        }
    }
}

/// Whether a path in QEMU names a descriptor set.
pub(super) fn is_set(path: &str) -> bool {
    path.starts_with(FOLDER)
}

/// The paths on this machine of the files that vusb has passed, by the paths that QEMU has for
/// them.
pub(super) fn paths(files: &[PassedFile]) -> HashMap<String, String> {
    files.iter().map(|file| (file.path_in_qemu(), file.path.clone())).collect()
}

/// The files that vusb has passed. An older QEMU without descriptor sets has none.
pub(super) fn query(session: &mut Session) -> Result<Vec<PassedFile>, Error> {
    let answer = session.execute("query-fdsets", json!({}))?.unwrap_or_default();
    Ok(parse(&answer))
}

fn parse(answer: &Value) -> Vec<PassedFile> {
    let sets = answer.as_array().into_iter().flatten();
    let file = |set: &Value| {
        let text = set.get("fds")?.as_array()?.iter().find_map(|fd| fd.get("opaque")?.as_str())?;
        let (device, path) = text.split_once(' ')?;
        super::names::parse_device_id(device)?;
        let set = set.get("fdset-id")?.as_u64()?;
        Some(PassedFile { set, device: device.to_owned(), path: path.to_owned() })
    };
    sets.filter_map(file).collect()
}

/// Whether a process has another root directory than this process, so that the same path may be
/// another file there. False if that is unknown. Mount namespaces are not compared: vusbd's unit
/// has one of its own.
fn has_other_root(pid: i32) -> bool {
    let root = Path::new("/proc").join(pid.to_string()).join("root");
    match (fs::metadata(root), fs::metadata("/")) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) != (other.dev(), other.ino()),
        _ => false,
    }
}

/// Opens what QEMU would open.
///
/// # Errors
/// Why it is not passed. The text follows "vusb has not passed the file:".
fn open(kind: &Kind, path: &Path, write: bool) -> Result<OwnedFd, String> {
    let Kind::Storage(storage) = kind else {
        return safe_open::usb_node(path).map_err(|why| why.to_string());
    };
    let file = safe_open::image(path, write).map_err(|why| why.to_string())?;
    if storage.format == ImageFormat::Qcow2 && refers_to_files(&file) {
        let path = path.display();
        return Err(format!("{path} refers to another file, which QEMU has to open itself"));
    }
    Ok(file)
}

/// Whether a qcow2 image has a backing file or an external data file. True if its header cannot be
/// read.
fn refers_to_files(image: &OwnedFd) -> bool {
    let read = |length: usize| {
        let mut bytes = vec![0; length];
        let length = rustix::io::pread(image, &mut bytes, 0).ok()?;
        bytes.truncate(length);
        Some(bytes)
    };
    let Some(start) = read(image::START) else { return true };
    // QEMU refuses what is not a qcow2 image.
    let Some(cluster) = image::first_cluster(&start) else {
        return image::format_of(&start).is_some();
    };
    let header = usize::try_from(cluster).ok().and_then(read);
    let refers = |it: image::Qcow2| it.backing.is_some() || it.data_file.is_some();
    header.and_then(|bytes| image::parse(&bytes).ok()).is_none_or(refers)
}

/// Whether the root directory of the QEMU behind `session` is another one, so that a path may be
/// another file there.
pub(super) fn is_in_other_root(session: &Session) -> bool {
    session.peer().is_some_and(has_other_root)
}

/// Passes the file of a device to QEMU, and adds it to `passed`, the files that QEMU has. The inner
/// error says why it was not passed, in the form of [`open`]'s. It is `None` if QEMU opens no file
/// for the device, or if the path is not UTF-8.
pub(super) fn pass(
    session: &mut Session,
    passed: &mut Vec<PassedFile>,
    device: &Device,
) -> Result<Result<PassedFile, Option<String>>, Error> {
    let Some((path, write)) = refusal::opened(&device.kind) else { return Ok(Err(None)) };
    let id = device_id(device.name.as_str());
    // Removes what an interrupted command left.
    *passed = query(session)?;
    take_back(session, passed, &id)?;
    let file = match open(&device.kind, &path, write) {
        Ok(file) => file,
        Err(why) => return Ok(Err(Some(why))),
    };
    let Some(path) = path.to_str().map(str::to_owned) else { return Ok(Err(None)) };
    let text = json!({"opaque": format!("{id} {path}")});
    let set = match session.execute_with_file("add-fd", text, file)? {
        Ok(answer) => answer.get("fdset-id").and_then(Value::as_u64),
        Err(error) => {
            return Ok(Err(Some(format!("QEMU does not take an open file: {}", error.desc))));
        }
    };
    let Some(set) = set else {
        return Ok(Err(Some("QEMU's answer to add-fd has no number".to_owned())));
    };
    let file = PassedFile { set, device: id, path };
    passed.push(file.clone());
    Ok(Ok(file))
}

/// Removes the descriptor sets that were added for the device with this id.
pub(super) fn take_back(
    session: &mut Session,
    passed: &mut Vec<PassedFile>,
    id: &str,
) -> Result<(), Error> {
    let (of_device, others): (Vec<_>, Vec<_>) =
        passed.drain(..).partition(|file| file.device == id);
    *passed = others;
    for file in of_device {
        // QEMU may have removed the set when its last user closed it.
        let _: Result<Value, CommandError> =
            session.execute("remove-fd", json!({"fdset-id": file.set}))?;
    }
    Ok(())
}

/// Whether a refusal of QEMU says that it could not open the file of a device, so that vusb can try
/// to open and pass it.
pub(super) fn may_be_passed(desc: &str) -> bool {
    // `usb_host_realize` in QEMU's `host-libusb.c`: without `/sys` and `/dev/bus/usb`, libusb finds
    // no device, or does not start.
    let not_found = ["ailed to find host usb device", "ailed to init libusb"];
    refusal::is_not_opened(desc) || not_found.iter().any(|part| desc.contains(part))
}

/// Whether QEMU refused a host device because it has no property for an open node: `Property
/// 'usb-host.hostdevice' not found`. It was compiled with a libusb that cannot use one, or is older
/// than 5.1.
pub(super) fn is_node_unsupported(desc: &str) -> bool {
    desc.contains("hostdevice") && desc.contains("not found")
}

/// The path on this machine of the file that QEMU has at `path`: if that is a descriptor set in
/// `paths`, the file that was passed; else `path` itself.
pub(super) fn on_this_machine(path: &str, paths: &HashMap<String, String>) -> PathBuf {
    PathBuf::from(paths.get(path).map_or(path, String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer of a QEMU 7.2, with sets that other programs have added.
    #[test]
    fn files_of_vusb_are_told_from_others() {
        let set = |id: u64, fds: Value| json!({"fdset-id": id, "fds": fds});
        let answer = json!([
            set(3, json!([{"fd": 11, "opaque": "vusb-stick /srv/a b.img"}])),
            set(4, json!([{"fd": 12}])),
            set(5, json!([])),
            set(6, json!([{"fd": 13, "opaque": "rdwr:/srv/b.img"}])),
            set(7, json!([{"fd": 14, "opaque": "vusb-x"}])),
        ]);
        let files = parse(&answer);
        let expected =
            PassedFile { set: 3, device: "vusb-stick".to_owned(), path: "/srv/a b.img".to_owned() };
        assert_eq!(files, [expected]);
        let paths = paths(&files);
        assert_eq!(on_this_machine("/dev/fdset/3", &paths), Path::new("/srv/a b.img"));
        assert_eq!(on_this_machine("/dev/fdset/6", &paths), Path::new("/dev/fdset/6"));
        for odd in [Value::Null, json!({}), json!([1]), json!([{"fds": {}}])] {
            assert_eq!(parse(&odd), []);
        }
    }

    #[test]
    fn a_passed_file_replaces_the_path() {
        let file = PassedFile { set: 3, device: "vusb-a".to_owned(), path: "/a".to_owned() };
        let properties = |value: Value| value.as_object().cloned().unwrap();
        let node = json!({"driver": "raw", "file": {"driver": "file", "filename": "/a"}});
        let mut backend = DeviceBackend::Block(properties(node));
        file.use_in_backend(&mut backend);
        let expected =
            json!({"driver": "raw", "file": {"driver": "file", "filename": "/dev/fdset/3"}});
        assert_eq!(backend, DeviceBackend::Block(properties(expected)));
        let mut device = properties(json!({"driver": "usb-host", "hostbus": 1, "hostaddr": 4}));
        file.use_in_device(&mut device);
        let expected = json!({"driver": "usb-host", "hostdevice": "/dev/fdset/3"});
        assert_eq!(Value::Object(device), expected);
        let disk = json!({"driver": "usb-storage", "drive": "vusb-a"});
        let mut device = properties(disk.clone());
        file.use_in_device(&mut device);
        assert_eq!(Value::Object(device), disk);
    }

    #[test]
    fn images_that_refer_to_files_are_told_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.qcow2");
        let refers = |content: &[u8]| {
            fs::write(&path, content).unwrap();
            refers_to_files(&fs::File::open(&path).unwrap().into())
        };
        let mut alone = image::example(None, None, None);
        assert!(!refers(&alone));
        alone[79] = 1;
        assert!(!refers(&alone), "dirty");
        let backing = image::example(Some("b"), None, None);
        assert!(refers(&backing));
        assert!(refers(&image::example(None, None, Some("b"))));
        for content in [&b""[..], b"raw", b"QFI\xc3\xbb"] {
            assert!(!refers(content), "{content:?}");
        }
        for content in [&backing[..200], b"QFI\xfb"] {
            assert!(refers(content), "it is incomplete");
        }
    }

    #[test]
    fn an_image_with_a_backing_file_is_not_passed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("a.qcow2");
        fs::write(&path, image::example(Some("b"), None, None)).unwrap();
        let kind = |format: &str| -> Kind {
            format!("storage:{},format={format}", path.display()).parse().unwrap()
        };
        let why = open(&kind("qcow2"), &path, true).unwrap_err();
        assert!(why.ends_with("refers to another file, which QEMU has to open itself"), "{why}");
        // A raw image refers to nothing, whatever a guest has written into it.
        assert!(open(&kind("raw"), &path, true).is_ok());
    }

    #[test]
    fn this_process_does_not_have_another_root() {
        assert!(!has_other_root(i32::try_from(std::process::id()).unwrap()));
        assert!(!has_other_root(0), "unknown");
    }

    /// The texts of QEMU 5.0 and 10.0.
    #[test]
    fn a_qemu_without_the_property_is_recognized() {
        for desc in ["Property '.hostdevice' not found", "Property 'usb-host.hostdevice' not found"]
        {
            assert!(is_node_unsupported(desc), "{desc}");
        }
        for desc in ["failed to find host usb device 1:4", "Bus 'x.0' not found"] {
            assert!(!is_node_unsupported(desc), "{desc}");
        }
    }
}
