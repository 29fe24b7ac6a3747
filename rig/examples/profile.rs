//! Samples where an emulated Xen machine spends its time (scratch).
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use vusb_rig::xen::XenHost;

const LIMIT: Duration = Duration::from_secs(600);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let work = &words[0];
    let mut builder = XenHost::builder().drive("stick", Path::new("/tmp/stick.img"));
    for binary in &words[1..] {
        builder = builder.binary(Path::new(binary));
    }
    let host = builder.start().unwrap();
    let guest = host.new_guest("u1").config("usbctrl = ['type=qusb,version=2,ports=4']");
    let guest = guest.binary(Path::new("target/release/rig-measure")).unwrap().start().unwrap();
    host.plug(json!({"driver":"usb-storage","id":"stick","drive":"stick"})).unwrap();
    host.wait_until("[ -b /dev/sda ]", LIMIT).unwrap();
    host.sh("setsid vusb-backend </dev/null >>/var/log/backend.log 2>&1 & true", LIMIT).unwrap();
    host.wait_until("xenstore-exists /local/domain/0/data/vusb-backend/version", LIMIT).unwrap();
    for c in [
        "vusb controller add xen:u1 --name ours",
        "vusb device add xen:u1 46f4:0001 --controller ours",
    ] {
        let begin = Instant::now();
        println!("{}", host.sh(c, LIMIT).unwrap().ok().unwrap());
        println!("{c}: {:?}", begin.elapsed());
    }
    guest.wait_until("[ -b /dev/sda ]", LIMIT).unwrap();
    let dump =
        |name: &str, text: String| std::fs::write(format!("/tmp/prof/{name}"), text).unwrap();
    std::fs::create_dir_all("/tmp/prof").unwrap();
    dump("dom0.syms", host.sh("cat /proc/kallsyms", LIMIT).unwrap().text);
    dump("domu.syms", guest.sh("cat /proc/kallsyms", LIMIT).unwrap().text);
    dump("maps", host.sh("cat /proc/$(pidof vusb-backend)/maps", LIMIT).unwrap().text);
    let stat = || {
        host.sh("cat /proc/$(pidof vusb-backend)/task/*/schedstat; xenstore-read /local/domain/0/backend/vusb/$(xl domid u1)/1/stats; grep -E 'xhci|vusb|resched|callf|timer' /proc/interrupts; grep ctxt /proc/$(pidof vusb-backend)/task/*/status", LIMIT).unwrap().text
    };
    println!("{}", stat());
    let mut samples: BTreeMap<String, u32> = BTreeMap::new();
    std::thread::scope(|scope| {
        let job = scope.spawn(|| guest.sh(work, LIMIT).unwrap());
        std::thread::sleep(Duration::from_millis(300));
        let begin = Instant::now();
        while !job.is_finished() {
            let text = host
                .qemu()
                .qmp("human-monitor-command", json!({"command-line":"info registers -a"}))
                .unwrap();
            let text = text.as_str().unwrap();
            for cpu in text.split("CPU#").skip(1) {
                let get = |key: &str| {
                    cpu.split(key)
                        .nth(1)
                        .unwrap_or("")
                        .split_whitespace()
                        .next()
                        .unwrap_or("")
                        .to_owned()
                };
                let halted = get("HLT=");
                let gs = cpu
                    .lines()
                    .find(|l| l.starts_with("GS ="))
                    .unwrap_or("")
                    .split_whitespace()
                    .nth(2)
                    .unwrap_or("")
                    .to_owned();
                let line =
                    format!("{} {} {} {} {}", get("RIP="), get("CPL="), halted, get("CR3="), gs);
                *samples.entry(line).or_default() += 1;
            }
            std::thread::sleep(Duration::from_micros(700));
        }
        println!("{:?} sampled for {:?}", job.join().unwrap(), begin.elapsed());
    });
    println!("{}", stat());
    let text: String = samples.iter().map(|(k, n)| format!("{n} {k}\n")).collect();
    dump("samples", text);
}
