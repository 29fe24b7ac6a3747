//! Requests to a running `vusbd`.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use vusb_interface as interface;
use vusb_interface::connection::Connection;

/// How long it may take to read the rules.
const LIMIT: Duration = Duration::from_secs(60);

/// Makes the daemon that listens at `socket` read its rules again. Returns its warnings.
///
/// # Errors
/// The rules have a mistake, and the old ones stay in force; or the daemon does not answer, or does
/// not accept the request.
pub fn reload(socket: &Path) -> io::Result<Vec<String>> {
    let mut daemon = Connection::open(socket)?;
    daemon.set_limit(Some(LIMIT))?;
    daemon.send("Reload", &json!({}), false)?;
    let reply = daemon.receive()?;
    let texts = |key: &str| -> Vec<String> {
        let all = reply.parameters.get(key).and_then(Value::as_array);
        all.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let Some(error) = &reply.error else { return Ok(texts("warnings")) };
    if *error == interface::full(interface::INVALID_RULES) {
        let mistakes = texts("mistakes").join("\n");
        return Err(io::Error::other(format!(
            "{mistakes}\nthe rules are not changed: those that were in force stay in force"
        )));
    }
    let message = reply.parameters.get("message").and_then(Value::as_str);
    Err(io::Error::other(message.unwrap_or(error).to_owned()))
}
