//! A QEMU monitor that answers each of 3,000 queries within the limit, but all of them together
//! only long after it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vusb::model::spec::DeviceSpec;
use vusb::{ExitCode, Options};

use crate::sandbox::Sandbox;

/// How many controllers the guest has. vusb sends two queries for each.
const CONTROLLERS: usize = 1500;

/// How long each answer takes. All 3,000 together take ten times [`LIMIT`].
const ANSWER_TIME: Duration = Duration::from_millis(2);

/// The limit of the call, which is set once as [`Options::wait`] and once as
/// [`Options::deadline`].
const LIMIT: Duration = Duration::from_millis(600);

/// Serves one client after another. Counts the answered queries.
fn serve(listener: &UnixListener, answered: &AtomicUsize) {
    for stream in listener.incoming().flatten() {
        // Ignore the error: the client closes the connection when it gives up.
        let _ = serve_client(&stream, answered);
    }
}

fn serve_client(mut stream: &UnixStream, answered: &AtomicUsize) -> std::io::Result<()> {
    let version = json!({"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""});
    writeln!(stream, "{}", json!({"QMP": {"version": version, "capabilities": []}}))?;
    for line in BufReader::new(stream).lines() {
        let command: Value = serde_json::from_str(&line?)?;
        let answer = match command["execute"].as_str().unwrap_or_default() {
            "human-monitor-command" => qtree().into(),
            "qom-get" => {
                std::thread::sleep(ANSWER_TIME);
                answered.fetch_add(1, Ordering::SeqCst);
                json!(4)
            }
            "qmp_capabilities" => json!({}),
            _ => json!([]),
        };
        writeln!(stream, "{}", json!({"return": answer, "id": command["id"]}))?;
    }
    Ok(())
}

/// The output of `info qtree`.
fn qtree() -> String {
    let mut tree = "bus: main-system-bus\n  type System\n  dev: q35-pcihost, id \"\"\n    \
                    bus: pcie.0\n      type PCIE\n"
        .to_owned();
    for number in 0..CONTROLLERS {
        tree += &format!(
            "      dev: qemu-xhci, id \"c{number}\"\n        addr = 04.0\n        \
             bus: c{number}.0\n          type usb-bus\n"
        );
    }
    tree
}

#[test]
fn one_limit_bounds_all_queries_together() {
    let limits: [fn(Options) -> Options; 2] = [
        |usual| Options { wait: LIMIT, ..usual },
        |usual| Options { deadline: Some(Instant::now() + LIMIT), ..usual },
    ];
    for limit in limits {
        let sandbox = Sandbox::new();
        let listener = UnixListener::bind(sandbox.path().join("slow.qmp")).unwrap();
        let answered = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&answered);
        std::thread::spawn(move || serve(&listener, &counted));
        let domain = sandbox.vusb().domain("qemu:slow.qmp").unwrap();

        let begin = Instant::now();
        let vusb = sandbox.vusb().with_options(limit(sandbox.vusb().options));
        let error =
            vusb.device_add(&domain, &DeviceSpec::new("tablet".parse().unwrap())).unwrap_err();
        let took = begin.elapsed();
        assert_eq!(error.exit_code(), ExitCode::TimedOut, "{error}");
        // The call gave up partway: some of the 3,000 queries were answered, but not all.
        let answered = answered.load(Ordering::SeqCst);
        assert!((1..2 * CONTROLLERS).contains(&answered), "{answered}: {error}");
        assert!(took < 5 * LIMIT, "{took:?}: {error}");
        assert!(sandbox.records().is_empty(), "{:?}", sandbox.records());
    }
}
