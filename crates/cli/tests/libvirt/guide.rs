//! The rows of `docs/coming-from-virsh.md` about files, on both sides.
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

use crate::{cases, ours, theirs};

const PAGE: &str = "coming-from-virsh.md";
const HEADING: &str = "Guests that do not run";

/// The file that the page is about.
const FILE: &str = "web1.xml";

/// A domain as many have it. It is libvirt's before the page begins.
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

/// Where both sides work.
struct Scene {
    libvirt: Libvirt,
    folder: TempDir,
}

impl Scene {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command of the page. What it writes into a file is in the folder, and so is what it reads.
    fn virsh(&self, line: &str) -> String {
        eprintln!("{line}");
        let (line, to) =
            line.split_once(" > ").map_or((line, None), |(line, to)| (line, Some(to.trim())));
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        for file in words.iter().filter(|it| it.ends_with(".xml")) {
            self.libvirt.put(file, &fs::read_to_string(self.path(file)).unwrap()).unwrap();
        }
        let said = self.libvirt.run(&words).unwrap();
        if let Some(file) = to {
            fs::write(self.path(file), &said).unwrap();
        }
        said
    }

    /// The commands of a row, with the element that stands beside them in the file that they name; or, for `virsh edit`, in the domain.
    fn by_virsh(&self, cell: &Cell) -> String {
        let element = cell.code.iter().map(|(code, _)| code).find(|code| code.starts_with('<'));
        let mut said = String::new();
        for command in cell.commands("virsh") {
            if let Some(element) = element {
                let named = command.text.split_whitespace().find(|it| it.ends_with(".xml"));
                let edited = self.libvirt.dump(cases::DOMAIN).unwrap();
                let edited = edited.replace("</devices>", &format!("{element}</devices>"));
                match named {
                    Some(name) => fs::write(self.path(name), element).unwrap(),
                    None => self.libvirt.put(EDITED, &edited).unwrap(),
                }
            }
            said = self.virsh(&command.text);
        }
        said
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

    /// Both have the same USB.
    fn same(&self, part: &Part) {
        let theirs = theirs::made(&self.libvirt.dump(cases::DOMAIN).unwrap());
        let ours = ours::made(&fs::read_to_string(self.path(FILE)).unwrap()).unwrap();
        assert_eq!(ours, theirs, "line {} of the page", part.line);
    }
}

#[test]
#[ignore = "runs libvirtd; run by cargo xtask test"]
fn what_the_page_says_of_files_is_so_on_both_sides() {
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
                let said = scene.by_virsh(left);
                right.commands("vusb").iter().for_each(|it| scene.by_vusb(&it.text));
                scene.same(part);
                rows += 1;
                if said.contains("-device") {
                    let xml = fs::read_to_string(scene.path(FILE)).unwrap();
                    assert_eq!(ours::usb_devices(&xml).unwrap(), theirs::usb_devices(&said));
                    native += 1;
                }
            }
            _ => {}
        }
    }
    assert_eq!((rows, native), (13, 1));
    // What vusb has written is libvirt's to take.
    scene.virsh(&format!("virsh define {FILE}"));
}
