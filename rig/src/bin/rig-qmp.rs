//! Sends a command to a QMP monitor and prints the response: `rig-qmp SOCKET COMMAND [ARGUMENTS]`.
//! For use in L1, where no other program can connect to a Unix socket.

use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use vusb_rig::monitor::Monitor;

/// A nested emulator can be slow.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.as_slice() {
        [socket, command] => execute(socket, command, "{}"),
        [socket, command, arguments] => execute(socket, command, arguments),
        _ => Err("usage: rig-qmp SOCKET COMMAND [ARGUMENTS]".to_owned()),
    };
    match result {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rig-qmp: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one command. After `device_del`, waits until the device is gone.
fn execute(socket: &str, command: &str, arguments: &str) -> Result<Value, String> {
    let arguments: Value = serde_json::from_str(arguments).map_err(|e| e.to_string())?;
    let mut monitor = Monitor::connect(Path::new(socket), LIMIT).map_err(|e| e.to_string())?;
    let id = arguments.get("id").cloned();
    let answer = monitor.execute(command, arguments, LIMIT).map_err(|e| e.to_string())?;
    if command != "device_del" {
        return Ok(answer);
    }
    let gone = |data: &Value| data.get("device") == id.as_ref();
    let event = monitor.wait_event("DEVICE_DELETED", gone, LIMIT).map_err(|e| e.to_string())?;
    Ok(json!({ "event": event }))
}
