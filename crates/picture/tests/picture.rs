//! Pictures of machines: golden files, and properties of every picture.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod sample;

use std::path::Path;

use proptest::prelude::*;
use roxmltree::{Document, Node};
use serde_json::json;
use vusb_picture::{Embedding, Topology, draw};

use crate::sample::{Sample, controller, desk, domain, machine};

/// A box of a picture, in its coordinates.
#[derive(Clone, Copy, Debug)]
struct Area {
    x: i32,
    y: i32,
    width: i32,
    height: i32,
}

impl Area {
    fn of(node: Node<'_, '_>) -> Area {
        let get = |key| node.attribute(key).unwrap().parse().unwrap();
        Area { x: get("x"), y: get("y"), width: get("width"), height: get("height") }
    }

    fn overlaps(&self, other: &Area) -> bool {
        self.x < other.x + other.width
            && other.x < self.x + self.width
            && self.y < other.y + other.height
            && other.y < self.y + self.height
    }

    fn is_in(&self, other: &Area) -> bool {
        self.x >= other.x
            && self.y >= other.y
            && self.x + self.width <= other.x + other.width
            && self.y + self.height <= other.y + other.height
    }
}

fn with_class(document: &Document<'_>, class: &str) -> Vec<Area> {
    let has = |node: &Node<'_, '_>| {
        node.attribute("class").is_some_and(|it| it.split(' ').any(|it| it == class))
    };
    document.descendants().filter(has).map(Area::of).collect()
}

/// Checks that no two areas overlap. An area is only compared with those that begin above its
/// bottom.
fn assert_apart(mut areas: Vec<Area>, what: &str) {
    areas.sort_by_key(|it| it.y);
    for (number, one) in areas.iter().enumerate() {
        let below = areas[number + 1..].iter().take_while(|it| it.y < one.y + one.height);
        for other in below {
            assert!(!one.overlaps(other), "two {what} overlap: {one:?} and {other:?}");
        }
    }
}

/// Checks the properties of every picture.
fn check(sample: &Sample, items: usize) {
    for embedding in [Embedding::Document, Embedding::Page] {
        let svg = sample.draw(embedding);
        let most = (8 << 10) + items * (3 << 10);
        assert!(svg.len() <= most, "{} bytes for {items} items", svg.len());
        let document = Document::parse(&svg).unwrap();
        let root = document.root_element();
        let page = Area {
            x: 0,
            y: 0,
            width: root.attribute("width").unwrap().parse().unwrap(),
            height: root.attribute("height").unwrap().parse().unwrap(),
        };
        let (cards, labels) = (with_class(&document, "card"), with_class(&document, "label"));
        for it in cards.iter().chain(&labels) {
            assert!(it.is_in(&page), "{it:?} is outside of {page:?}");
        }
        assert_apart(cards, "boxes");
        assert_apart(labels, "labels");
        // Every text is in a box that clips it.
        for text in document.descendants().filter(|it| it.has_tag_name("text")) {
            assert_eq!(text.parent().unwrap().attribute("class"), Some("label"));
        }
        let known = ["svg", "title", "desc", "style", "g", "rect", "text", "path", "circle"];
        for node in document.descendants().filter(Node::is_element) {
            assert!(known.contains(&node.tag_name().name()), "{node:?}");
            for attribute in node.attributes() {
                assert!(!attribute.name().starts_with("on") && attribute.name() != "href");
            }
        }
    }
}

/// Compares a picture with its file. `VUSB_WRITE_PICTURES=1` writes the file instead.
fn golden(path: &str, sample: &Sample, embedding: Embedding) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let drawn = sample.draw(embedding);
    if std::env::var_os("VUSB_WRITE_PICTURES").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &drawn).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == drawn,
        "{} is outdated; run VUSB_WRITE_PICTURES=1 cargo test -p vusb-picture and look at it",
        path.display()
    );
}

/// The picture that the README shows.
#[test]
fn the_picture_of_the_readme_is_up_to_date() {
    golden("../../docs/pictures/topology.svg", &desk(), Embedding::Document);
}

#[test]
fn golden_pictures() {
    golden("tests/golden/page.svg", &desk(), Embedding::Page);
    golden("tests/golden/empty.svg", &Sample::of(vec![], vec![], vec![]), Embedding::Document);
    golden("tests/golden/forty.svg", &machine(40, "USB Flash Drive"), Embedding::Document);
}

#[test]
fn a_machine_with_400_devices() {
    let sample = machine(400, "USB Flash Drive");
    if let Some(path) = std::env::var_os("VUSB_WRITE_400") {
        std::fs::write(path, sample.draw(Embedding::Document)).unwrap();
    }
    check(&sample, 900);
}

#[test]
fn every_port_of_a_controller_is_drawn() {
    for count in [1, 4, 15, 16, 17, 31, 32, 255] {
        let controller = controller(0, "hci0", "qemu-xhci", count, vec![]);
        let sample = Sample::of(vec![], vec![domain("desk", "sim:desk", vec![controller])], vec![]);
        check(&sample, 2);
        let svg = sample.draw(Embedding::Document);
        let ports = with_class(&Document::parse(&svg).unwrap(), "free-port");
        assert_eq!(ports.len(), usize::from(count.min(32)));
        assert_eq!(svg.contains("32 of 255 ports shown"), count > 32, "{svg}");
        assert_apart(ports, "ports");
    }
}

/// Names that devices, guests and rules can have.
const HOSTILE: [&str; 8] = [
    "</text><script>alert(1)</script>",
    "\"><g onload='alert(1)'/>",
    "&lt;b&gt; &amp; &#x1b;",
    "]]><!-- <?xml ?> <![CDATA[",
    "\u{1b}[31m\0\u{8}\u{202e}gpj.exe\u{ffff}\u{fffe}",
    "\u{301}\u{302}\u{303}\u{304}\u{305}",
    "無線マウス無線マウス無線マウス無線マウス無線マウス無線マウス無線マウス",
    "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
];

/// A machine in which every string is `text`.
fn hostile(text: &str) -> Sample {
    let mut sample = machine(12, text);
    for device in &mut sample.host.devices {
        device.vendor = Some(text.to_owned());
        device.serial = Some(text.repeat(3));
        if !device.protection.is_empty() {
            device.protection = vec![text.to_owned()];
        }
        if let Some(holder) = &mut device.holder {
            holder.domain = text.to_owned();
        }
    }
    for domain in &mut sample.domains.domains {
        domain.domain = text.to_owned();
        domain.address = format!("qemu:{text}");
    }
    let unreachable = json!({ "domain": text, "why": text, "holds": [text], "controllers": [] });
    sample.domains.unreachable = vec![serde_json::from_value(unreachable).unwrap()];
    let running =
        json!({ "address": text, "name": text, "hypervisor": text, "id": 1, "manager": text });
    sample.domains.unrecorded = vec![serde_json::from_value(running).unwrap()];
    sample
}

#[test]
fn hostile_strings_stay_text() {
    for text in HOSTILE {
        let sample = hostile(text);
        check(&sample, 60);
        let svg = sample.draw(Embedding::Page);
        let document = Document::parse(&svg).unwrap();
        let all: String = document
            .descendants()
            .filter(|it| it.has_tag_name("text"))
            .filter_map(|it| it.text())
            .collect();
        let begin: String = text.chars().filter(|it| !it.is_control()).take(3).collect();
        if text.is_ascii() && !text.contains('\u{1b}') {
            assert!(all.contains(&begin), "{begin} is not in {all}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn nothing_overlaps(count in 1_usize..=400) {
        check(&machine(count, "Multifunction Adapter With a Long Name"), count * 2 + 80);
    }

    #[test]
    fn any_text_is_escaped(text in "\\PC*|(?s).{0,200}") {
        check(&hostile(&text), 60);
    }
}

/// Without rules, the same devices and guests are drawn.
#[test]
fn rules_may_be_unknown() {
    let Sample { host, domains, .. } = desk();
    let svg = draw(Topology { host: &host, domains: &domains, effects: None }, Embedding::Page);
    assert!(Document::parse(&svg).is_ok() && !svg.contains("licence dongle →"), "{svg}");
}
