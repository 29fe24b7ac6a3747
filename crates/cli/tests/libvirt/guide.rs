//! Runs the rows of `docs/coming-from-virsh.md` about files, with virsh and with vusb.
//!
//! ```text
//!   virsh … ──▶ libvirtd ──▶ dumpxml ──▶ controllers and addresses ─┬─ equal after each row
//!   vusb …  ──▶ web1.xml ──────────────▶ controllers and addresses ─┘
//! ```

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use vusb_rig::Libvirt;
use vusb_rig::guide::{Cell, Guide, Part};
use vusb_rig::libvirt::EDITED;

use crate::{cases, libvirt_view, vusb_view};

const PAGE: &str = "coming-from-virsh.md";
const HEADING: &str = "Guests that do not run";

/// The file on the page.
const FILE: &str = "web1.xml";

/// A common domain. It is defined in libvirt before the commands of the page are run.
const XML: &str = "\
<domain type='qemu'>
  <name>web1</name>
  <memory unit='KiB'>65536</memory>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
  </os>
  <devices>
    <controller type='usb' index='0' model='qemu-xhci' ports='15'/>
  </devices>
</domain>
";

/// A libvirtd, and the folder in which both commands run.
struct Scene {
    libvirt: Libvirt,
    folder: TempDir,
}

impl Scene {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command of the page. Files that it reads or writes are in the folder.
    fn virsh(&self, line: &str) -> String {
        eprintln!("{line}");
        let (line, to) =
            line.split_once(" > ").map_or((line, None), |(line, to)| (line, Some(to.trim())));
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        for file in words.iter().filter(|it| it.ends_with(".xml")) {
            self.libvirt.write_file(file, &fs::read_to_string(self.path(file)).unwrap()).unwrap();
        }
        let output = self.libvirt.run(&words).unwrap();
        if let Some(file) = to {
            fs::write(self.path(file), &output).unwrap();
        }
        output
    }

    /// Runs the commands of a row. The element next to them goes into the file that they name; for
    /// `virsh edit`, into the domain.
    fn by_virsh(&self, cell: &Cell) -> String {
        let element = cell.code.iter().map(|(code, _)| code).find(|code| code.starts_with('<'));
        let mut output = String::new();
        for command in cell.commands("virsh") {
            if let Some(element) = element {
                let named = command.text.split_whitespace().find(|it| it.ends_with(".xml"));
                let edited = self.libvirt.dump_xml(cases::DOMAIN).unwrap();
                let edited = edited.replace("</devices>", &format!("{element}</devices>"));
                match named {
                    Some(name) => fs::write(self.path(name), element).unwrap(),
                    None => self.libvirt.write_file(EDITED, &edited).unwrap(),
                }
            }
            output = self.virsh(&command.text);
        }
        output
    }

    fn by_vusb(&self, line: &str) {
        eprintln!("{line}");
        let line = line.split(" > ").next().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vusb"));
        command.args(line.split_whitespace().skip(1)).current_dir(&self.folder);
        let nothing = Path::new("machine");
        let ran = command.arg("--state-dir").arg("state").arg("--host-root").arg(nothing);
        let ran = ran.output().unwrap();
        assert!(ran.status.success(), "{line}: {ran:?}");
    }

    /// Asserts that libvirt's domain and vusb's file have the same USB.
    fn assert_same(&self, part: &Part) {
        let theirs = libvirt_view::hardware(&self.libvirt.dump_xml(cases::DOMAIN).unwrap());
        let ours = vusb_view::hardware(&fs::read_to_string(self.path(FILE)).unwrap()).unwrap();
        assert_eq!(ours, theirs, "line {} of the page", part.line);
    }
}

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn both_sides_of_the_page_have_the_same_result() {
    let scene = Scene { libvirt: Libvirt::start().unwrap(), folder: TempDir::new().unwrap() };
    scene.libvirt.define(XML).unwrap();
    let guide = Guide::read(PAGE).unwrap();
    let (mut rows, mut native) = (0, 0);
    for part in guide.below(HEADING) {
        match part.cells.as_slice() {
            [line] if part.is_line => {
                line.commands("virsh").iter().for_each(|it| drop(scene.virsh(&it.text)));
                line.commands("vusb").iter().for_each(|it| scene.by_vusb(&it.text));
            }
            [left, right] if !left.commands("virsh").is_empty() => {
                let output = scene.by_virsh(left);
                right.commands("vusb").iter().for_each(|it| scene.by_vusb(&it.text));
                scene.assert_same(part);
                rows += 1;
                if output.contains("-device") {
                    let xml = fs::read_to_string(scene.path(FILE)).unwrap();
                    assert_eq!(
                        vusb_view::usb_devices(&xml).unwrap(),
                        libvirt_view::usb_devices(&output)
                    );
                    native += 1;
                }
            }
            _ => {}
        }
    }
    assert_eq!((rows, native), (13, 1));
    // libvirt accepts what vusb has written.
    scene.virsh(&format!("virsh define {FILE}"));
}
