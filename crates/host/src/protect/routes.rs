//! The network interfaces that have a default route, in any routing table.
//!
//! The kernel is asked with a netlink message (`RTM_GETROUTE`, rtnetlink(7)), which covers all
//! tables and both versions of IP. Where netlink is not available, and for a simulated machine in a
//! directory, `/proc/net/route` (which has only the main table of IPv4) and `/proc/net/ipv6_route`
//! are read instead. If neither is possible, the routes are unknown, which is not the same as none.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

use crate::sysfs::{self, Reader};

/// The maximum length of a list in proc in bytes: a million routes.
const MAX_FILE: usize = 128 << 20;

/// The size of the buffer for one message in bytes. The kernel sends at most 32 KiB at once
/// (`net/netlink/af_netlink.c`, `netlink_recvmsg`).
const MESSAGE: usize = 32 << 10;

/// How long the kernel may take for one message. It replies at once.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// How many times a list is requested that changes while the kernel sends it.
const ATTEMPTS: u32 = 4;

// Message types and flags: `<linux/netlink.h>`, `<linux/rtnetlink.h>`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_GETNEXTHOP: u16 = 106;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x1 | 0x300;
/// `NLM_F_DUMP_INTR`: the list changed while it was sent, so entries may be missing.
const CHANGED: u16 = 0x10;

/// The lengths in bytes of `struct nlmsghdr`, `struct rtmsg`, `struct nhmsg`, `struct rtattr` and
/// `struct rtnexthop`.
const HEADER: usize = 16;
const RTMSG: usize = 12;
const NHMSG: usize = 8;
const ATTRIBUTE: usize = 4;
const NEXT_HOP: usize = 8;

/// `RTN_UNICAST`: a route that packets are sent on, and not one that rejects them.
const UNICAST: u8 = 1;

// Attributes of a route, and of a nexthop object (`<linux/nexthop.h>`).
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
const RTA_NH_ID: u16 = 30;
const NHA_OIF: u16 = 5;

/// `RTF_UP` and `RTF_REJECT` (`<linux/route.h>`).
const RTF_UP: u32 = 0x1;
const RTF_REJECT: u32 = 0x200;

/// The names of the interfaces with a default route. If they are not all known, `files` has an
/// unreadable file.
pub(crate) fn default_interfaces(files: &Reader) -> BTreeSet<String> {
    if files.root() != Path::new("/") {
        return listed(files);
    }
    match (0..ATTEMPTS).map(|_| ask_kernel()).find(|it| *it != Err(Errno::AGAIN)) {
        Some(Ok(indexes)) => interface_names(files, &indexes),
        _ => listed(files),
    }
}

/// The names of the interfaces with a default route in the lists of proc.
fn listed(files: &Reader) -> BTreeSet<String> {
    let read = |file| {
        let path = files.root().join(file);
        let list = sysfs::read_whole(&path, MAX_FILE);
        (path, list)
    };
    let (path, v4) = read("proc/net/route");
    let v4 = v4.unwrap_or_else(|_| {
        files.report(&path);
        Vec::new()
    });
    // This list is missing if IPv6 is disabled.
    let (path, v6) = read("proc/net/ipv6_route");
    let v6 = files.accept(&path, v6).unwrap_or_default();
    lines(&v4).filter_map(ipv4).chain(lines(&v6).filter_map(ipv6)).collect()
}

/// The names of the interfaces with these numbers.
fn interface_names(files: &Reader, indexes: &BTreeSet<u32>) -> BTreeSet<String> {
    let all = files.class("sys/class/net").into_iter();
    let index = |dir: &Path| files.word(dir, "ifindex")?.parse().ok();
    let wanted = all.filter(|(_, dir)| index(dir).is_some_and(|it| indexes.contains(&it)));
    wanted.map(|(name, _)| name).collect()
}

/// The numbers of the interfaces with a default route, from the kernel.
fn ask_kernel() -> Result<BTreeSet<u32>, Errno> {
    let mut found = Defaults::default();
    dump(RTM_GETROUTE, RTMSG, |kind, body| {
        if kind == RTM_NEWROUTE {
            found.add_route(body);
        }
    })?;
    if found.nexthop_objects {
        // It is not checked which objects the routes use. So a card may be protected without need,
        // but none is missed.
        dump(RTM_GETNEXTHOP, NHMSG, |kind, body| {
            if kind == RTM_NEWNEXTHOP {
                found.interfaces.extend(attributes(body, NHMSG).filter_map(|(kind, value)| {
                    if kind == NHA_OIF { read_u32(value) } else { None }
                }));
            }
        })?;
    }
    Ok(found.interfaces)
}

/// Sends a request for all objects of one type, and passes each message to `each`, as its type and
/// content.
///
/// # Errors
/// The kernel cannot be asked, or did not send the complete list: `AGAIN` if the list changed
/// meanwhile.
fn dump(request: u16, body: usize, mut each: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(REPLY_TIMEOUT))?;
    let length = u32::try_from(HEADER + body).unwrap_or(u32::MAX);
    // The rest of the header is a sequence number and a port; the body asks for any family.
    let mut message =
        [&length.to_ne_bytes()[..], &request.to_ne_bytes(), &DUMP.to_ne_bytes()].concat();
    message.resize(HEADER + body, 0);
    sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut buffer = vec![0; MESSAGE];
    loop {
        let (length, _) = match recv(&socket, buffer.as_mut_slice(), RecvFlags::empty()) {
            Err(Errno::INTR) => continue,
            received => received?,
        };
        let mut rest = buffer.get(..length).unwrap_or_default();
        if rest.is_empty() {
            return Err(Errno::PROTO);
        }
        while let Some((kind, content, after)) = split_message(rest) {
            if flags(rest) & CHANGED != 0 {
                return Err(Errno::AGAIN);
            }
            match kind {
                NLMSG_DONE if is_failure(content) => return Err(Errno::PROTO),
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return Err(Errno::PROTO),
                _ => each(kind, content),
            }
            rest = after;
        }
    }
}

/// The type and content of the first message, and what follows it.
fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(read_u32(bytes)?).ok()?;
    let kind = read_u16(bytes.get(4..)?)?;
    let content = bytes.get(HEADER..length)?;
    Some((kind, content, bytes.get(aligned(length)..).unwrap_or_default()))
}

/// `nlmsg_flags` of the first message.
fn flags(bytes: &[u8]) -> u16 {
    bytes.get(6..).and_then(read_u16).unwrap_or_default()
}

/// Whether the last message of a list has an error number: the list is then incomplete.
fn is_failure(content: &[u8]) -> bool {
    read_u32(content).is_some_and(|error| error != 0)
}

/// The default routes that were found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Defaults {
    /// The numbers of the interfaces with a default route.
    interfaces: BTreeSet<u32>,
    /// Whether a default route only refers to a nexthop object.
    nexthop_objects: bool,
}

impl Defaults {
    /// Adds a route, if it is a default route.
    fn add_route(&mut self, body: &[u8]) {
        // `rtm_dst_len` and `rtm_type` of `struct rtmsg`.
        if body.get(1) != Some(&0) || body.get(7) != Some(&UNICAST) {
            return;
        }
        let before = self.interfaces.len();
        let mut has_object = false;
        for (kind, value) in attributes(body, RTMSG) {
            match kind {
                RTA_OIF => self.interfaces.extend(read_u32(value)),
                RTA_MULTIPATH => self.interfaces.extend(next_hops(value)),
                RTA_NH_ID => has_object = true,
                _ => {}
            }
        }
        self.nexthop_objects |= has_object && self.interfaces.len() == before;
    }
}

/// The interfaces of a route with several next hops.
fn next_hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut interfaces = Vec::new();
    while let (Some(length), Some(interface)) = (read_u16(bytes), bytes.get(4..).and_then(read_u32))
    {
        interfaces.push(interface);
        let length = usize::from(length).max(NEXT_HOP);
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
    }
    interfaces
}

/// The attributes after the first `skip` bytes of a message: their types and values.
fn attributes(body: &[u8], skip: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(skip..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(rest)?);
        let kind = read_u16(rest.get(2..)?)?;
        let value = rest.get(ATTRIBUTE..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Messages and attributes begin at multiples of 4 bytes (`NLMSG_ALIGN`, `RTA_ALIGN`).
const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn read_u32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.first_chunk()?))
}

fn read_u16(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.first_chunk()?))
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
}

/// The interface of a default route in `/proc/net/route`.
fn ipv4(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [interface, destination, _, flags, _, _, _, mask, ..] = fields.as_slice() else {
        return None;
    };
    let is_default = *destination == "00000000" && *mask == "00000000";
    (is_default && is_usable(flags)).then(|| (*interface).to_owned())
}

/// The interface of a default route in `/proc/net/ipv6_route`.
fn ipv6(line: &str) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, prefix, _, _, _, _, _, _, flags, interface] = fields.as_slice() else {
        return None;
    };
    (*prefix == "00" && is_usable(flags)).then(|| (*interface).to_owned())
}

/// Whether packets are sent on a route with these flags.
fn is_usable(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|it| it & RTF_UP != 0 && it & RTF_REJECT == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(ATTRIBUTE + value.len()).unwrap();
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    /// A route to a prefix of `length` bits in the table 200.
    fn route(length: u8, kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        [&[2, length, 0, 0, 200, 3, 0, kind, 0, 0, 0, 0][..], &attributes.concat()].concat()
    }

    fn defaults(body: &[u8]) -> (Vec<u32>, bool) {
        let mut found = Defaults::default();
        found.add_route(body);
        (found.interfaces.into_iter().collect(), found.nexthop_objects)
    }

    #[test]
    fn a_default_route_names_its_interface() {
        let out = attribute(RTA_OIF, &7u32.to_ne_bytes());
        let priority = attribute(6, &100u32.to_ne_bytes());
        assert_eq!(defaults(&route(0, UNICAST, &[priority, out.clone()])), (vec![7], false));
        assert_eq!(defaults(&route(24, UNICAST, std::slice::from_ref(&out))), (vec![], false));
        // `RTN_UNREACHABLE`: IPv6 has one on the loopback interface.
        assert_eq!(defaults(&route(0, 7, &[out])), (vec![], false));
    }

    #[test]
    fn every_next_hop_counts() {
        let hop = |interface: u32, gateway: &[u8]| {
            let length = u16::try_from(NEXT_HOP + gateway.len()).unwrap();
            [&length.to_ne_bytes()[..], &[0, 0], &interface.to_ne_bytes(), gateway].concat()
        };
        let hops = [hop(3, &attribute(5, &[192, 0, 2, 1])), hop(4, &[])].concat();
        let multipath = attribute(RTA_MULTIPATH, &hops);
        assert_eq!(defaults(&route(0, UNICAST, &[multipath])), (vec![3, 4], false));
    }

    #[test]
    fn a_nexthop_object_without_an_interface_is_noticed() {
        let object = attribute(RTA_NH_ID, &1u32.to_ne_bytes());
        assert_eq!(defaults(&route(0, UNICAST, std::slice::from_ref(&object))), (vec![], true));
        let out = attribute(RTA_OIF, &7u32.to_ne_bytes());
        assert_eq!(defaults(&route(0, UNICAST, &[object, out])), (vec![7], false));
    }

    #[test]
    fn default_routes_are_found_in_the_files_of_proc() {
        let header =
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
        assert_eq!(ipv4(header), None);
        let route = |to: &str, flags: &str, mask: &str| {
            ipv4(&format!("eth0\t{to}\t0100A8C0\t{flags}\t0\t0\t100\t{mask}\t0\t0\t0"))
        };
        assert_eq!(route("00000000", "0003", "00000000").as_deref(), Some("eth0"));
        assert_eq!(route("0000A8C0", "0001", "00FFFFFF"), None);
        assert_eq!(route("00000000", "0003", "00000080"), None);
        assert_eq!(route("00000000", "0203", "00000000"), None);

        let zero = "0".repeat(32);
        let route = |prefix: &str, flags: &str| {
            ipv6(&format!("{zero} {prefix} {zero} 00 {zero} 00000400 1 0 {flags}     eth0"))
        };
        assert_eq!(route("00", "00000003").as_deref(), Some("eth0"));
        assert_eq!(route("40", "00000001"), None);
        assert_eq!(route("00", "00200200"), None);
    }

    #[test]
    fn the_kernel_replies() {
        ask_kernel().unwrap();
    }

    #[test]
    fn a_list_that_ends_with_an_error_or_changed_is_not_complete() {
        assert!(!is_failure(&0i32.to_ne_bytes()) && !is_failure(&[]));
        assert!(is_failure(&(-5i32).to_ne_bytes()));
        let with = |flags: u16| {
            [&16u32.to_ne_bytes()[..], &RTM_NEWROUTE.to_ne_bytes(), &flags.to_ne_bytes()].concat()
        };
        assert_eq!(flags(&with(0x12)) & CHANGED, CHANGED);
        assert_eq!(flags(&with(0x2)) & CHANGED, 0);
    }

    /// The interfaces with a default route in a network namespace of its own, after `commands`.
    fn in_namespace(commands: &str) -> String {
        let test = std::env::current_exe().unwrap();
        let this = "protect::routes::tests::another_process";
        let script = format!(
            "set -e; mount -t sysfs sysfs /sys; ip link add d0 type veth peer name d1; \
             ip link set d0 up; ip link set d1 up; ip address add 192.0.2.1/24 dev d0; {commands}; \
             VUSB_TEST_ROUTES=1 exec {} --ignored --exact --nocapture {this}",
            test.display()
        );
        let output = std::process::Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", &script])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let line = text.lines().find_map(|line| line.strip_prefix("default: "));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    }

    #[test]
    #[ignore = "run by other tests, in a process of its own"]
    fn another_process() {
        if std::env::var_os("VUSB_TEST_ROUTES").is_some() {
            let names: Vec<String> =
                default_interfaces(&Reader::new(Path::new("/"))).into_iter().collect();
            println!("\ndefault: {}", names.join(" "));
        }
    }

    #[test]
    #[ignore = "needs root; run by cargo xtask test"]
    fn default_routes_in_all_tables_are_found() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: this test needs root");
            return;
        }
        for (commands, interfaces) in [
            ("true", ""),
            ("ip route add default via 192.0.2.2", "d0"),
            ("ip route add default via 192.0.2.2 table 200", "d0"),
            ("ip -6 route add default dev d1 table 300", "d1"),
            ("ip route add 198.51.100.0/24 via 192.0.2.2", ""),
            ("ip route add unreachable default", ""),
            ("ip route add default nexthop via 192.0.2.2 nexthop via 192.0.2.3", "d0"),
            ("ip nexthop add id 5 via 192.0.2.2 dev d0; ip route add default nhid 5", "d0"),
            (
                "sysctl -qw net.ipv4.nexthop_compat_mode=0; \
                 ip nexthop add id 5 via 192.0.2.2 dev d0; ip route add default nhid 5",
                "d0",
            ),
        ] {
            assert_eq!(in_namespace(commands), interfaces, "{commands}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_messages_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            while let Some((_, content, after)) = split_message(rest) {
                defaults(content);
                prop_assert!(after.len() < rest.len());
                rest = after;
            }
            let mut default = bytes;
            if let [_, length, _, _, _, _, _, kind, ..] = default.as_mut_slice() {
                (*length, *kind) = (0, UNICAST);
            }
            defaults(&default);
        }
    }
}
