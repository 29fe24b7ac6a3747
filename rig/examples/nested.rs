//! An interactive L1: runs each line of standard input as a shell command in L1. Programs that are
//! given as arguments are in L1's `/bin`. L2 is running; its monitor is `/run/inner.qmp`.

use serde_json::json;
use std::io::BufRead;
use std::path::Path;
use std::time::{Duration, Instant};
use vusb_rig::NestedHost;
use vusb_rig::nested::INNER_XHCI;

/// The limit of one command.
const LIMIT: Duration = Duration::from_secs(600);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut builder = NestedHost::builder()
        .inner("pc", INNER_XHCI)
        .usb(json!({ "driver": "usb-tablet", "id": "tablet" }))
        .usb(json!({ "driver": "usb-mouse", "id": "mouse" }));
    for program in std::env::args().skip(1) {
        builder = builder.binary(Path::new(&program));
    }
    let outer = builder.start()?;
    for line in std::io::stdin().lock().lines() {
        let start = Instant::now();
        let out = outer.sh(&line?, LIMIT)?;
        println!("{}[{} after {:?}]", out.text, out.code, start.elapsed());
    }
    Ok(())
}
