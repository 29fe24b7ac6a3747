//! What a running domain has of this machine: host devices, and block devices as disks.
//!
//! Only these elements are read, so a domain counts as a holder whatever else its XML contains.

use vusb_model::selector::{BusAddress, Selector, UsbId};

use super::numbers::base_zero;
use super::xml::{self, Node, all, child};
use crate::qemu_args::{self, PassedThrough};

/// Reads the XML of a running domain. In it, libvirt gives the bus and address of each host device
/// that it has found. Nothing, if the text is not XML.
pub fn passed_through(text: &str) -> PassedThrough {
    let Ok(document) = xml::parse(text) else { return PassedThrough::default() };
    let root = document.root_element();
    let devices = || all(root, "devices");
    let hosts = devices().flat_map(|it| all(it, "hostdev"));
    let hosts = hosts.filter(|it| it.attribute("type") == Some("usb"));
    let disks = devices().flat_map(|it| all(it, "disk"));
    let disks = disks.filter_map(|it| child(it, "source")?.attribute("dev"));
    let mut passed = by_arguments(root);
    let sources = hosts.filter_map(|it| child(it, "source"));
    // libvirt has started the guest without it, and never gives it to the guest later.
    let given = sources.filter(|it| it.attribute("missing") != Some("yes"));
    passed.host_devices.extend(given.filter_map(selector));
    passed.disks.extend(disks.filter(|it| it.starts_with("/dev/")).map(str::to_owned));
    passed
}

/// What QEMU's own arguments in the XML name (`<qemu:commandline>`).
fn by_arguments(root: Node<'_>) -> PassedThrough {
    let named = |name: &'static str| move |it: &Node<'_>| it.tag_name().name() == name;
    let lists = root.children().filter(named("commandline"));
    let values = lists.flat_map(|it| it.children().filter(named("arg")));
    let words: Vec<&str> = values.filter_map(|it| it.attribute("value")).collect();
    qemu_args::passed_through(&words.join("\0"), &|_| None)
}

/// The address, because it is exact, or else vendor and product.
fn selector(source: Node<'_>) -> Option<Selector> {
    let number = |node: Node<'_>, name: &str| base_zero(node.attribute(name)?).map(|it| it.0);
    let address = child(source, "address").and_then(|it| {
        let bus = number(it, "bus")?.try_into().ok()?;
        let address = number(it, "device")?.try_into().ok()?;
        Some(Selector::Address(BusAddress { bus, address }))
    });
    address.or_else(|| {
        let id = |name: &str| number(child(source, name)?, "id")?.try_into().ok();
        let id = UsbId { vendor: id("vendor")?, product: id("product")? };
        Some(Selector::Id { id, serial: None })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_devices_and_block_devices_are_found() {
        let passed = passed_through(
            "<domain><name>a</name><devices><emulator>/x</emulator>
             <hostdev mode='subsystem' type='usb'><source><vendor id='0x0781'/><product id='0x5581'/>\
             <address bus='3' device='14'/></source></hostdev>
             <hostdev type='usb'><source><vendor id='0x10c4'/><product id='0xea60'/></source></hostdev>
             <hostdev type='pci'><source><address bus='0' slot='2'/></source></hostdev>
             <hostdev type='usb'/>
             <disk type='block'><source dev='/dev/sdb'/></disk>
             <disk type='file'><source file='/a.img'/></disk><disk/></devices>
             <q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='-device'/>\
             <q:arg value='usb-host,hostbus=1,hostport=4'/></q:commandline></domain>",
        );
        let hosts: Vec<String> = passed.host_devices.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["1-4", "003.014", "10c4:ea60"]);
        assert_eq!(passed.disks, ["/dev/sdb"]);
    }

    #[test]
    fn an_optional_device_that_was_missing_at_the_start_is_not_the_guests() {
        let hosts = |source: &str| {
            let id = "<vendor id='0x0781'/><product id='0x5581'/></source>";
            passed_through(&format!(
                "<domain><devices><hostdev mode='subsystem' type='usb'>{source}{id}</hostdev></devices></domain>"
            ))
            .host_devices
            .len()
        };
        assert_eq!(hosts("<source startupPolicy='optional' missing='yes'>"), 0);
        assert_eq!(hosts("<source startupPolicy='optional'>"), 1);
    }

    #[test]
    fn a_text_without_devices_has_nothing() {
        for text in ["", "<", "<domain/>", "<a><devices><hostdev type='usb'/></devices></a>"] {
            assert_eq!(passed_through(text), PassedThrough::default(), "{text}");
        }
    }
}
