//! An interactive guest: runs each line of standard input as a shell command. A line that starts
//! with `{` is a command for QEMU's monitor. Arguments are passed to QEMU; the default of
//! `-machine` is `pc`.

use serde_json::{Value, json};
use std::io::BufRead;
use std::time::{Duration, Instant};
use vusb_rig::Guest;

/// The limit of one command.
const LIMIT: Duration = Duration::from_secs(600);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let guest = Guest::builder().args(std::env::args_os().skip(1)).start()?;
    guest.wait_booted(LIMIT)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let start = Instant::now();
        if line.starts_with('{') {
            let request: Value = serde_json::from_str(&line)?;
            let command = request.get("execute").and_then(Value::as_str).unwrap_or_default();
            let arguments = request.get("arguments").cloned().unwrap_or(json!({}));
            println!("{} [{:?}]", guest.qemu().qmp(command, arguments)?, start.elapsed());
        } else {
            let out = guest.sh(&line, LIMIT)?;
            println!("{}[{} after {:?}]", out.text, out.code, start.elapsed());
        }
    }
    Ok(())
}
