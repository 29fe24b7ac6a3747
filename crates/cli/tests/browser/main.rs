//! `vusb web` in a real Chromium.
//!
//! With `VUSB_SCREENSHOTS=DIR`, pictures of the pages are written to that folder.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod chromium;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vusb::{Context, Host, StateDir};
use vusb_daemon::daemon::{Listen, Settings, run};
use vusb_rig::Guest;

use crate::chromium::{Chromium, LIMIT};

/// The product name of a hostile device.
const HOSTILE: &str =
    "</text><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">";

/// A machine that consists of files, on which the command runs.
struct Machine {
    folder: tempfile::TempDir,
}

/// A running `vusb web`.
struct Web {
    child: Child,
    url: String,
}

impl Machine {
    fn new() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        for name in ["root/sys/bus/usb/devices", "root/sys/devices", "root/proc/self"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("root/proc/self/mountinfo"), "").unwrap();
        fs::write(folder.path().join("root/proc/swaps"), "").unwrap();
        Machine { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Plugs a device into a port: `1-4`.
    fn plug(&self, port: &str, number: usize, product: &str) {
        let (bus, _) = port.split_once('-').unwrap();
        let dir = self
            .path("root/sys/devices/pci0000:00/0000:00:14.0")
            .join(format!("usb{bus}"))
            .join(port);
        fs::create_dir_all(&dir).unwrap();
        let product_id = format!("{:04x}", 0x5000 + number);
        let address = (number % 120 + 2).to_string();
        let attributes = [
            ("busnum", bus),
            ("devnum", &address),
            ("idVendor", "0781"),
            ("idProduct", &product_id),
            ("bDeviceClass", "00"),
            ("speed", "480"),
            ("manufacturer", "SanDisk"),
            ("product", product),
            ("authorized", "1"),
            ("bConfigurationValue", "1"),
        ];
        for (name, value) in attributes {
            fs::write(dir.join(name), format!("{value}\n")).unwrap();
        }
        symlink(&dir, self.path("root/sys/bus/usb/devices").join(port)).unwrap();
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vusb"));
        command.args(words.split(' ')).current_dir(self.folder.path()).env_clear();
        command.env("VUSB_STATE_DIR", self.path("state")).stdin(Stdio::null());
        command.arg("--host-root").arg(self.path("root"));
        command
    }

    #[track_caller]
    fn vusb(&self, words: &str) -> String {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn web(&self) -> Web {
        self.web_with("-q web")
    }

    fn web_with(&self, words: &str) -> Web {
        let mut child = self.command(words).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Web { child, url: url.trim().to_owned() }
    }
}

/// Starts the daemon in this process, with the files of the machine.
fn daemon(machine: &Machine) {
    let host = Host::new(machine.path("root"));
    let context = Context::with_builtin_drivers(StateDir::new(machine.path("state")), host);
    let socket = machine.path("socket");
    let settings = Settings {
        context,
        simulated: true,
        guests: vec![("sim".to_owned(), machine.path("guests"))],
        listen: Some(Listen::At(socket.clone())),
        metrics: None,
        question_command: None,
        log: vusb_log::Output::StandardError,
    };
    std::thread::spawn(move || run(settings).unwrap());
    let end = Instant::now() + LIMIT;
    while UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < end, "the daemon does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Web {
    fn port(&self) -> &str {
        self.url.trim_start_matches("http://127.0.0.1:").split('/').next().unwrap()
    }

    fn token(&self) -> &str {
        self.url.split('#').nth(1).unwrap()
    }

    /// The status of the response to a request with these header fields.
    fn status(&self, line: &str, fields: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{}", self.port())).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let length = body.len();
        write!(stream, "{line} HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut reply = [0; 12];
        stream.read_exact(&mut reply).unwrap();
        String::from_utf8_lossy(&reply[9..]).into_owned()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn screenshot(browser: &mut Chromium, name: &str) {
    let Some(folder) = std::env::var_os("VUSB_SCREENSHOTS") else { return };
    for (dark, colour) in [(false, "light"), (true, "dark")] {
        browser.set_dark(dark);
        browser.screenshot(&Path::new(&folder).join(format!("{name}-{colour}.png")));
    }
    browser.set_dark(false);
}

/// The element of the picture with this attribute.
fn drawn(attribute: &str) -> String {
    format!("document.querySelector('[{attribute}] .hit')")
}

/// The button in the panel with this text.
fn button(text: &str) -> String {
    format!(
        "[...document.querySelectorAll('#actions button')].find((it) => it.textContent === '{text}')"
    )
}

#[test]
#[ignore = "needs Chromium and QEMU; run by cargo xtask test"]
fn a_device_is_attached_by_a_click_and_the_guest_sees_it() {
    let machine = Machine::new();
    let guest = Guest::builder().start().unwrap();
    symlink(guest.qmp_socket(), machine.path("g.qmp")).unwrap();
    machine.vusb("controller add qemu:g.qmp");
    let web = machine.web();
    let mut browser = Chromium::start();
    browser.open(&web.url);
    browser.wait_until("document.querySelector('.guest')");
    guest.wait_booted(2 * LIMIT).unwrap();

    browser.click(&drawn("class=guest"));
    browser.click(&button("Add a tablet"));
    let tablets = "grep -q Tablet /sys/bus/usb/devices/*/product";
    guest.wait_until(&format!("({tablets})"), LIMIT).unwrap();
    browser.wait_until("document.querySelector('[data-name=tablet0]')");
    screenshot(&mut browser, "guest");

    browser.click(&drawn("data-name=tablet0"));
    browser.click(&button("Detach"));
    guest.wait_until(&format!("(! {tablets})"), LIMIT).unwrap();
    browser.wait_until("!document.querySelector('[data-name=tablet0]')");
}

#[test]
#[ignore = "needs Chromium; run by cargo xtask test"]
fn devices_of_this_machine_are_explained_attached_and_detached() {
    let machine = Machine::new();
    machine.plug("1-4", 0, "Ultra");
    machine.plug("1-5", 1, HOSTILE);
    machine.vusb("controller add sim:web1");
    let web = machine.web();
    let mut browser = Chromium::start();
    browser.open(&web.url);
    browser.click(&drawn("data-busid=\"1-4\""));
    browser.wait_until("document.getElementById('details').textContent.includes('0781:5000')");
    screenshot(&mut browser, "explained");
    let attach = "document.querySelector('#actions button')";
    browser.click(attach);
    browser.wait_until("document.querySelector('.connection')");
    assert!(machine.vusb("list sim:web1").contains("attached"));

    // A change by a command is shown.
    machine.vusb("device add sim:web1 mouse --name pointer");
    browser.wait_until("document.querySelector('[data-name=pointer]')");
    browser.click(&drawn("data-busid=\"1-4\""));
    browser.click("[...document.querySelectorAll('#actions button')].find((it) => it.textContent.startsWith('Detach'))");
    browser.wait_until("!document.querySelector('.connection')");

    // Markup of a device is text.
    browser.click(&drawn("data-busid=\"1-5\""));
    browser.wait_until("document.getElementById('details').textContent.includes('0781:5001')");
    browser.wait_until("document.getElementById('subject').textContent.includes('<script>')");
    assert_eq!(browser.value("document.querySelectorAll('#picture script, img').length"), 0);
    assert_eq!(browser.value("document.title"), "vusb");
    // The secret is not in the address any more.
    assert_eq!(browser.value("location.href").as_str().unwrap().split('#').count(), 1);
    screenshot(&mut browser, "hostile");
}

#[test]
#[ignore = "needs Chromium; run by cargo xtask test"]
fn questions_of_the_daemon_are_answered() {
    let machine = Machine::new();
    machine.plug("1-4", 0, "Ultra");
    let rules = machine.path("root/etc/vusb/rules.d");
    fs::create_dir_all(&rules).unwrap();
    fs::create_dir(machine.path("guests")).unwrap();
    let rule = "[[rule]]\nname = \"sticks\"\nid = \"0781:*\"\nask = \"*\"\n";
    fs::write(rules.join("10.toml"), rule).unwrap();
    machine.vusb("controller add sim:guests/web1");
    daemon(&machine);
    let web = machine.web_with("-q --daemon socket web");
    let mut browser = Chromium::start();
    browser.open(&web.url);
    browser.wait_until("document.querySelector('.question')");
    screenshot(&mut browser, "question");
    browser.click("document.querySelector('.question button')");
    browser.wait_until("document.querySelector('.connection')");
    browser.wait_until("!document.querySelector('.question')");
    assert!(machine.vusb("list sim:guests/web1").contains("attached"));
}

#[test]
#[ignore = "needs Chromium; run by cargo xtask test"]
fn other_pages_and_clients_without_the_secret_are_refused() {
    let machine = Machine::new();
    machine.vusb("controller add sim:web1");
    let web = machine.web();
    let (port, token) = (web.port(), web.token());
    let host = format!("Host: 127.0.0.1:{port}\r\n");
    let own = format!("{host}Authorization: Bearer {token}\r\n");
    let body = "{\"do\":\"attach\",\"device\":\"mouse\",\"domain\":\"sim:web1\"}";
    assert_eq!(web.status("GET /", &host, ""), "200");
    assert_eq!(web.status("GET /", "Host: evil.example\r\n", ""), "421");
    assert_eq!(web.status("GET /", &format!("Host: evil.example:{port}\r\n"), ""), "421");
    assert_eq!(web.status("GET /", "", ""), "421");
    assert_eq!(web.status("GET /nowhere", &host, ""), "404");
    assert_eq!(web.status("POST /call", &host, body), "401");
    assert_eq!(web.status("GET /events", &host, ""), "401");
    let wrong = format!("{host}Authorization: Bearer {}\r\n", "0".repeat(32));
    assert_eq!(web.status("POST /call", &wrong, body), "401");
    let other = format!("{own}Origin: http://evil.example\r\n");
    assert_eq!(web.status("POST /call", &other, body), "403");
    let other = format!("{own}Sec-Fetch-Site: cross-site\r\n");
    assert_eq!(web.status("POST /call", &other, body), "403");
    assert_eq!(web.status("POST /call", &own, "nonsense"), "400");
    assert!(!machine.vusb("list sim:web1").contains("mouse"));

    // A page of another origin, in the browser, even with the secret.
    let other = machine.web();
    let mut browser = Chromium::start();
    browser.open(&other.url);
    browser.wait_until("document.querySelector('.guest')");
    let call = format!(
        "fetch('http://127.0.0.1:{port}/call', {{ method: 'POST', body: '{body}', \
         headers: {{ Authorization: 'Bearer {token}' }} }}).then(() => 'done', () => 'refused')"
    );
    assert_eq!(browser.value(&call), "refused");
    // A simple request is sent without a preflight request, so the server itself has to refuse it.
    browser.open("about:blank");
    let simple = format!(
        "fetch('http://127.0.0.1:{port}/call', {{ method: 'POST', mode: 'no-cors', body: '{body}' }}).then(() => 'sent', () => 'refused')"
    );
    browser.value(&simple);
    assert!(!machine.vusb("list sim:web1").contains("mouse"));
    assert_eq!(web.status("POST /call", &own, body), "200");
    assert!(machine.vusb("list sim:web1").contains("mouse"));
}

/// Many devices: the page is drawn, and no label covers another.
#[test]
#[ignore = "needs Chromium; run by cargo xtask test"]
fn a_page_with_many_devices() {
    for (count, name) in [(40, "forty"), (400, "four-hundred")] {
        let machine = Machine::new();
        for number in 0..count {
            let (bus, port) = (number / 14 + 1, number % 14 + 1);
            machine.plug(&format!("{bus}-{port}"), number, "Ultra");
        }
        for guest in 0..count / 10 {
            let devices: Vec<String> = (0..6)
                .map(|it| guest * 10 + it)
                .map(|number| format!("{}-{}", number / 14 + 1, number % 14 + 1))
                .collect();
            machine.vusb(&format!("device add sim:guest{guest:02} {}", devices.join(" ")));
        }
        let web = machine.web();
        let mut browser = Chromium::start();
        browser.open(&web.url);
        browser.wait_until("document.querySelector('.connection')");
        let shown = browser.value("document.querySelectorAll('.device').length");
        assert_eq!(shown, count);
        let overlaps = "(() => { const all = [...document.querySelectorAll('#picture .label text')] \
            .map((it) => it.getBoundingClientRect()).sort((a, b) => a.top - b.top); let found = 0; \
            for (let i = 0; i < all.length; i++) for (let j = i + 1; j < all.length && \
            all[j].top + 3 < all[i].bottom; j++) if (all[i].left < all[j].right && \
            all[j].left < all[i].right && all[j].top + 3 < all[i].bottom) found++; return found })()";
        assert_eq!(browser.value(overlaps), 0, "labels cover each other");
        screenshot(&mut browser, name);
    }
}
