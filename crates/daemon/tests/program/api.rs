//! The interface for other programs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::machine::Machine;

/// A client with one connection. It only uses the protocol: JSON objects with a zero byte after
/// each.
struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    fn new(machine: &Machine) -> Client {
        let stream = UnixStream::connect(machine.at("socket")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    fn send(&mut self, method: &str, parameters: Value, more: bool) {
        let method = if method.contains('.') {
            method.to_owned()
        } else {
            format!("io.github.vusb.Manager.{method}")
        };
        let request = json!({ "method": method, "parameters": parameters, "more": more });
        let mut bytes = request.to_string().into_bytes();
        bytes.push(0);
        self.stream.get_mut().write_all(&bytes).unwrap();
    }

    fn receive(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.stream.read_until(0, &mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(0));
        serde_json::from_slice(&bytes).unwrap()
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.send(method, parameters, false);
        self.receive()
    }

    /// All replies of a method that lists something.
    fn list(&mut self, method: &str, key: &str) -> Vec<Value> {
        self.send(method, json!({}), true);
        let mut all = Vec::new();
        loop {
            let reply = self.receive();
            assert_eq!(reply.get("error"), None, "{reply}");
            all.push(reply["parameters"][key].clone());
            if reply.get("continues") != Some(&Value::Bool(true)) {
                return all;
            }
        }
    }

    /// The next event of this kind.
    fn event(&mut self, event: &str) -> Value {
        loop {
            let reply = self.receive();
            let found = &reply["parameters"]["event"];
            if found["event"] == event {
                return found.clone();
            }
        }
    }
}

fn machine_with_questions() -> Machine {
    let mut machine = Machine::new();
    machine.write_rules(
        "[[rule]]\nname = \"sticks\"\nhas = \"storage\"\nask = \"*\"\n\
         [[rule]]\nname = \"cameras\"\nhas = \"video\"\ndeny = \"*\"\nfinal = true\n",
    );
    machine.boot("work");
    machine.listen();
    machine.start();
    machine
}

#[test]
fn a_device_is_attached_and_detached_by_a_call() {
    let mut machine = machine_with_questions();
    machine.plug_stick("1-4");
    machine.plug("1-5", "046d:0825", ["0e", "01", "00"]);
    let mut client = Client::new(&machine);
    let domain = machine.address("work");
    let devices = client.list("ListDevices", "device");
    assert_eq!(devices[0]["port"], "1-4");
    assert_eq!(devices[0]["id"], "0781:5581");
    assert_eq!(devices[0].get("domain"), None);

    let added = client.call("AddDevice", json!({ "domain": domain, "device": "0781:5581" }));
    assert_eq!(added["parameters"]["at"], "hci0:1", "{added}");
    assert_eq!(added["parameters"]["already"], false);
    let devices = client.list("ListDevices", "device");
    assert_eq!(devices[0]["domain"], domain.as_str());
    let again = client.call("AddDevice", json!({ "domain": domain, "device": "0781:5581" }));
    assert_eq!(again["parameters"]["already"], true);

    let denied = client.call("AddDevice", json!({ "domain": domain, "device": "1-5" }));
    assert_eq!(denied["error"], "io.github.vusb.Manager.Denied", "{denied}");
    assert!(denied["parameters"]["message"].as_str().unwrap().contains("cameras"), "{denied}");

    let removed = client.call("RemoveDevice", json!({ "domain": domain, "device": "0781:5581" }));
    assert_eq!(removed["parameters"]["steps"].as_array().unwrap().len(), 1, "{removed}");
    assert_eq!(machine.attached("work"), [""; 0]);
}

#[test]
fn errors_are_those_of_the_protocol() {
    let machine = machine_with_questions();
    let mut client = Client::new(&machine);
    let cases = [
        ("Nonsense", json!({}), "org.varlink.service.MethodNotFound"),
        ("org.example.Other.Method", json!({}), "org.varlink.service.InterfaceNotFound"),
        ("AddDevice", json!({}), "org.varlink.service.InvalidParameter"),
        ("AddDevice", json!({ "domain": 7 }), "org.varlink.service.InvalidParameter"),
        ("ListDomains", json!({ "nonsense": 1 }), "org.varlink.service.InvalidParameter"),
        ("Watch", json!({}), "org.varlink.service.ExpectedMore"),
        ("Explain", json!({ "device": "1-9.9.9.9" }), ""),
        (
            "AddDevice",
            json!({ "domain": "nowhere", "device": "0781:5581" }),
            "io.github.vusb.Manager.NotFound",
        ),
        ("Answer", json!({ "question": 99, "domain": "work" }), "io.github.vusb.Manager.NotFound"),
        (
            "CheckRules",
            json!({ "text": "[[rule]]\nname = \"a\"" }),
            "io.github.vusb.Manager.InvalidRules",
        ),
    ];
    for (method, parameters, error) in cases {
        let reply = client.call(method, parameters.clone());
        let found = reply.get("error").and_then(Value::as_str).unwrap_or_default();
        assert_eq!(found, error, "{method} {parameters}: {reply}");
    }
    // The connection has survived all of them.
    let info = client.call("org.varlink.service.GetInfo", json!({}));
    assert_eq!(info["parameters"]["product"], "vusbd");
}

#[test]
fn a_question_is_answered() {
    let mut machine = machine_with_questions();
    let mut watcher = Client::new(&machine);
    watcher.send("Watch", json!({ "since": 0 }), true);
    machine.plug_stick("1-4");
    machine.request_scan();
    let question = watcher.event("question");
    assert_eq!(question["port"], "1-4", "{question}");
    assert_eq!(question["rules"], json!(["sticks"]));
    let mut client = Client::new(&machine);
    let number = &question["number"];
    let wrong = client.call("Answer", json!({ "question": number, "domain": "sim:/nowhere" }));
    assert_eq!(wrong["error"], "io.github.vusb.Manager.Denied", "{wrong}");
    let domain = machine.address("work");
    let answer = client.call("Answer", json!({ "question": number, "domain": domain }));
    assert_eq!(answer["parameters"]["at"], "hci0:1", "{answer}");
    machine.wait_until("work", &["host:pci-0000:00:14.0-usb-0:4"]);
    // The answer was not to be remembered, so the question is asked again the next time.
    machine.unplug("1-4");
    machine.request_scan();
    machine.wait_until("work", &[]);
    machine.plug_stick("1-4");
    machine.request_scan();
    let question = watcher.event("question");
    let parameters = json!({ "question": question["number"], "domain": domain, "remember": true });
    let answer = client.call("Answer", parameters);
    assert_eq!(answer.get("error"), None, "{answer}");
    machine.unplug("1-4");
    machine.request_scan();
    machine.wait_until("work", &[]);
    machine.plug_stick("1-4");
    machine.request_scan();
    machine.wait_until("work", &["host:pci-0000:00:14.0-usb-0:4"]);
}

/// A program is started for a question.
#[test]
fn a_question_starts_a_program() {
    let mut machine = Machine::new();
    machine.write_rules("[[rule]]\nname = \"sticks\"\nhas = \"storage\"\nask = \"*\"\n");
    machine.boot("work");
    let (program, asked) = (machine.at("ask"), machine.at("asked"));
    let script = format!("#!/bin/sh\necho \"$@\" >{0}.new && mv {0}.new {0}\n", asked.display());
    std::fs::write(machine.at("script"), script).unwrap();
    // Another process writes the file. If this one did, a fork of another test could hold it open
    // for writing, and executing it would fail (ETXTBSY).
    let mut install = std::process::Command::new("install");
    install.args(["-m", "755"]).args([machine.at("script"), program.clone()]);
    assert!(install.status().unwrap().success());
    let mut command = machine.command();
    command.arg("--question-command").arg(program);
    machine.start_as(command);
    machine.plug_stick("1-4");
    machine.request_scan();
    machine.wait_for_log("who gets the device at");
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !asked.exists() {
        assert!(std::time::Instant::now() < end, "the program was not started");
        std::thread::sleep(Duration::from_millis(10));
    }
    let text = std::fs::read_to_string(asked).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words[0].parse::<u64>().is_ok(), "{text}");
    assert_eq!(words[1..], ["1-4", &machine.address("work")]);
}

#[test]
fn explanations_and_rules_are_listed() {
    let mut machine = machine_with_questions();
    machine.plug_stick("1-4");
    let mut client = Client::new(&machine);
    // A guest without a record, in a folder that only the daemon knows.
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while client.call("ListDomains", json!({})).get("error").is_some() {
        assert!(std::time::Instant::now() < end, "the guest is not found");
    }
    let domains = client.list("ListDomains", "domain");
    let work = machine.address("work");
    assert_eq!(domains, [json!({ "name": work, "address": work })]);
    let anyone = client.call("Explain", json!({ "device": "1-4" }));
    assert_eq!(anyone["parameters"]["domains"], json!([work]), "{anyone}");
    machine.request_scan();
    // The daemon may not have asked the question yet.
    let device = loop {
        let view = client.call("DescribeEffects", json!({}))["parameters"]["view"].clone();
        if view["devices"][0]["state"] == "asking" {
            break view["devices"][0].clone();
        }
        assert!(std::time::Instant::now() < end, "no question about the device: {view}");
    };
    assert_eq!((&device["busid"], &device["effect"]["do"]), (&json!("1-4"), &json!("ask")));
    assert!(device["question"].is_u64(), "{device}");
    let rules = client.list("ListRules", "rule");
    let names: Vec<&str> = rules.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"sticks") && names.contains(&"builtin:hub"), "{names:?}");
    let explained =
        client.call("Explain", json!({ "device": "1-4", "domain": machine.address("work") }));
    assert_eq!(explained["parameters"]["effect"], "ask", "{explained}");
    // The explanation has the number that `vusb answer` needs, also for a person who was not
    // watching.
    let past = explained["parameters"]["history"].as_array().unwrap();
    let asked = past.iter().rfind(|it| it["event"] == "question").unwrap();
    assert_eq!(asked["number"], device["question"], "{explained}");
    let trace = explained["parameters"]["trace"].as_array().unwrap();
    let cameras = trace.iter().find(|it| it["rule"] == "cameras").unwrap();
    assert_eq!(cameras["mismatch"], "has: wanted video, seen 08:06:50");
    let checked = client.call("CheckRules", json!({ "text": "[[rule]]\nname=\"a\"\nask=\"*\"" }));
    assert_eq!(checked["parameters"]["warnings"], json!([]), "{checked}");
    machine.add("work", "tablet");
    let domains = client.list("ListDomains", "domain");
    assert_eq!(domains[0]["address"], machine.address("work").as_str(), "{domains:?}");
}

/// A call that takes long does not delay other connections.
#[test]
fn calls_of_different_connections_do_not_wait_for_each_other() {
    let machine = machine_with_questions();
    let slow = r#"{"sim":1,"faults":[{"step":"add controller","nth":0,"fault":"slow"}]}"#;
    std::fs::write(machine.at("guests/slow"), slow).unwrap();
    let mut first = Client::new(&machine);
    let domain = machine.address("slow");
    first.send("AddDevice", json!({ "domain": domain, "device": "tablet" }), false);
    let mut second = Client::new(&machine);
    let info = second.call("org.varlink.service.GetInfo", json!({}));
    assert_eq!(info["parameters"]["vendor"], "vusb");
    // The first call is still under way.
    first.stream.get_ref().set_nonblocking(true).unwrap();
    let early = first.stream.fill_buf().map(<[u8]>::len);
    assert!(early.is_err(), "the slow call has been answered already: {early:?}");
    first.stream.get_ref().set_nonblocking(false).unwrap();
    assert_eq!(first.receive()["parameters"]["at"], "hci0:1");
}

/// Only the socket of a daemon that was killed is replaced.
#[test]
fn a_file_at_the_place_of_the_socket_is_kept() {
    let mut machine = Machine::new();
    std::fs::write(machine.at("socket"), "precious").unwrap();
    let refused = machine.command().arg("--listen").arg(machine.at("socket")).output().unwrap();
    let log = String::from_utf8(refused.stderr).unwrap();
    assert!(log.contains("socket: the path is a file, not a socket"), "{log}");
    assert!(!refused.status.success());
    assert_eq!(std::fs::read_to_string(machine.at("socket")).unwrap(), "precious");
    std::fs::remove_file(machine.at("socket")).unwrap();
    machine.listen();
    machine.start();
    // Two daemons do not take the socket from each other.
    let second = machine.command().arg("--listen").arg(machine.at("socket")).output().unwrap();
    let log = String::from_utf8(second.stderr).unwrap();
    assert!(log.contains("another process listens there"), "{log}");
    machine.kill();
    machine.start();
    Client::new(&machine).call("org.varlink.service.GetInfo", json!({}));
}

/// In a process of another user: prints what it may call.
#[test]
#[ignore = "only run by another test"]
fn caller() {
    let Some(socket) = std::env::var_os("VUSB_TEST_SOCKET") else { return };
    let mut stream = UnixStream::connect(socket).unwrap();
    let request = b"{\"method\":\"io.github.vusb.Manager.GetAccess\"}\0\
                    {\"method\":\"io.github.vusb.Manager.ListRules\",\"more\":true}\0";
    stream.write_all(request).unwrap();
    let mut stream = BufReader::new(stream);
    for _ in 0..2 {
        let mut bytes = Vec::new();
        stream.read_until(0, &mut bytes).unwrap();
        bytes.pop();
        println!("reply {}", String::from_utf8(bytes).unwrap());
    }
}

/// Processes of the superuser, of a member of the group and of another user. Only the superuser can
/// start them.
#[test]
fn rights_depend_on_the_user_that_the_kernel_reports() {
    use std::os::unix::process::CommandExt as _;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only the superuser can start processes of other users");
        return;
    }
    let machine = machine_with_questions();
    std::fs::create_dir_all(machine.at("machine/etc")).unwrap();
    std::fs::write(machine.at("machine/etc/group"), "vusb:x:990:alice\n").unwrap();
    let users = "alice:x:1000:1000::/:/bin/sh\n";
    std::fs::write(machine.at("machine/etc/passwd"), users).unwrap();
    // Others may reach the socket, as they may below /run.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(machine.at(""), open).unwrap();
    let test = std::env::temp_dir().join(format!("vusb-caller-{}", std::process::id()));
    std::fs::copy(std::env::current_exe().unwrap(), &test).unwrap();
    let call = |uid: u32, gid: u32| {
        let mut command = std::process::Command::new(&test);
        command.args(["--ignored", "--exact", "api::caller", "--nocapture"]);
        command.env("VUSB_TEST_SOCKET", machine.at("socket")).uid(uid).gid(gid);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let replies: Vec<Value> = text
            .lines()
            .filter_map(|it| Some(it.split_once("reply ")?.1))
            .map(|it| serde_json::from_str(it).unwrap())
            .collect();
        assert_eq!(replies.len(), 2, "{uid}: {text} {:?}", String::from_utf8_lossy(&output.stderr));
        let denied = replies[1]["error"] == "org.varlink.service.PermissionDenied";
        (replies[0]["parameters"]["access"].as_str().unwrap().to_owned(), denied)
    };
    for (uid, gid, access) in
        [(0, 0, "all"), (1000, 1000, "group"), (1001, 990, "group"), (1001, 1001, "none")]
    {
        assert_eq!(call(uid, gid), (access.to_owned(), access == "none"), "{uid}:{gid}");
    }
    // polkit may let others do what the group may.
    let bin = machine.at("machine/usr/bin");
    std::fs::create_dir_all(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>{}\nexit $(cat {0}.code)\n",
        machine.at("asked").display()
    );
    std::fs::write(machine.at("pkcheck.sh"), script).unwrap();
    std::fs::write(machine.at("asked.code"), "0").unwrap();
    let installed = std::process::Command::new("install")
        .args(["-m", "755"])
        .args([machine.at("pkcheck.sh"), bin.join("pkcheck")])
        .status();
    assert!(installed.unwrap().success());
    assert_eq!(call(1001, 1001), ("none".to_owned(), false));
    std::fs::write(machine.at("asked.code"), "1").unwrap();
    assert_eq!(call(1001, 1001), ("none".to_owned(), true));
    let asked = std::fs::read_to_string(machine.at("asked")).unwrap();
    assert!(asked.starts_with("--action-id io.github.vusb.view --process "), "{asked}");
    assert!(asked.lines().all(|it| it.ends_with(",1001")), "{asked}");
    std::fs::remove_file(test).unwrap();
}

/// In a process of another user: opens as many connections as it can, and keeps them until its
/// standard input ends.
#[test]
#[ignore = "only run by another test"]
fn opens_all_connections() {
    let Some(socket) = std::env::var_os("VUSB_TEST_SOCKET") else { return };
    let all: Vec<UnixStream> = (0..80).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    println!("connected {}", all.len());
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// A user without rights who holds as many connections as it can get keeps no other user out.
#[test]
fn a_user_cannot_take_all_connections() {
    use std::os::unix::process::CommandExt as _;
    use std::process::Stdio;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only the superuser can start processes of other users");
        return;
    }
    let machine = machine_with_questions();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(machine.at(""), open).unwrap();
    let test = std::env::temp_dir().join(format!("vusb-connections-{}", std::process::id()));
    std::fs::copy(std::env::current_exe().unwrap(), &test).unwrap();
    let run = |name: &str, uid: u32| {
        let mut command = std::process::Command::new(&test);
        command.args(["--ignored", "--exact", name, "--nocapture"]);
        command.env("VUSB_TEST_SOCKET", machine.at("socket")).uid(uid).gid(uid);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let mut client = run("api::opens_all_connections", 1001);
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    assert!(lines.any(|it| it.unwrap().contains("connected")));
    machine.wait_for_log("too many connections of the user 1001");
    // Neither another user without rights nor the superuser is kept out.
    let other = run("api::caller", 1002).wait_with_output().unwrap();
    let text = String::from_utf8(other.stdout).unwrap();
    assert_eq!(text.matches("reply ").count(), 2, "{text}");
    let info = Client::new(&machine).call("org.varlink.service.GetInfo", json!({}));
    assert_eq!(info["parameters"]["product"], "vusbd");
    drop(client.stdin.take());
    client.wait().unwrap();
    std::fs::remove_file(test).unwrap();
}

/// A socket that systemd has created.
#[test]
fn a_passed_socket_is_used() {
    use std::os::fd::AsRawFd as _;
    let mut machine = Machine::new();
    let listener = std::os::unix::net::UnixListener::bind(machine.at("socket")).unwrap();
    // The protocol of sd_listen_fds(3): descriptor 3, and the ID of the process that it is passed
    // to.
    let script = format!(
        "exec 3<&{}; export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=varlink; exec \"$@\"",
        listener.as_raw_fd()
    );
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
    let daemon = machine.command();
    let mut command = std::process::Command::new("bash");
    command.args(["-c", &script, "bash"]).arg(daemon.get_program()).args(daemon.get_args());
    machine.start_as(command);
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::CLOEXEC).unwrap();
    drop(listener);
    let info = Client::new(&machine).call("org.varlink.service.GetInfo", json!({}));
    assert_eq!(info["parameters"]["product"], "vusbd");
}

/// The change of a caller that disconnects is undone.
#[test]
fn a_call_is_cancelled_when_its_caller_disconnects() {
    let machine = machine_with_questions();
    let slow = r#"{"sim":1,"faults":[{"step":"plug","nth":0,"fault":"slow"}]}"#;
    std::fs::write(machine.at("guests/slow"), slow).unwrap();
    let mut client = Client::new(&machine);
    let domain = machine.address("slow");
    client.send("AddDevices", json!({ "domain": domain, "devices": ["tablet", "mouse"] }), false);
    let end = std::time::Instant::now() + Duration::from_secs(20);
    // The simulation counts the steps that it delays.
    while !std::fs::read_to_string(machine.at("guests/slow")).unwrap().contains("\"seen\"") {
        assert!(std::time::Instant::now() < end, "the first step never began");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(client);
    let mut other = Client::new(&machine);
    let described = other.call("Describe", json!({ "domain": domain }));
    let end = std::time::Instant::now() + Duration::from_secs(20);
    let mut described = described;
    while described["parameters"]["domains"][0]["devices"] != json!([]) {
        assert!(std::time::Instant::now() < end, "{described}");
        std::thread::sleep(Duration::from_millis(50));
        described = other.call("Describe", json!({ "domain": domain }));
    }
}

/// A device that a person has detached stays detached when the daemon is restarted. The metrics and
/// the explanation of the device show its state.
#[test]
fn what_is_detached_by_hand_stays_detached_over_a_restart() {
    let mut machine = Machine::new();
    machine.sticks_belong_to("work");
    machine.boot("work");
    machine.plug_stick("1-4");
    machine.listen();
    machine.start();
    let path = "host:pci-0000:00:14.0-usb-0:4";
    machine.wait_until("work", &[path]);
    let metrics = |machine: &Machine| {
        let reply = Client::new(machine).call("Metrics", json!({}));
        reply["parameters"]["text"].as_str().unwrap().to_owned()
    };
    let wait_for = |machine: &Machine, line: &str| {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while !metrics(machine).lines().any(|it| it == line) {
            assert!(std::time::Instant::now() < end, "{}", metrics(machine));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for(&machine, "vusb_attach_total{result=\"attached\"} 1");
    let explain = |machine: &Machine| {
        Client::new(machine).call("Explain", json!({ "device": "1-4" }))["parameters"].clone()
    };
    let explained = explain(&machine);
    assert_eq!(explained["state"], "attached", "{explained}");
    let done: Vec<&str> = explained["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["event"].as_str().unwrap())
        .collect();
    // The controller, and the device.
    assert_eq!(done, ["attached", "attached"], "{explained}");
    assert!(explained["history"][1]["time"].as_str().unwrap().ends_with('Z'), "{explained}");
    let text = metrics(&machine);
    assert!(!text.contains("5581") && !text.contains("1-4"), "{text}");
    machine.remove("work", "pci-0000:00:14.0-usb-0:4");
    machine.wait_for_log("detached by hand");
    machine.kill();
    machine.start();
    machine.request_scan();
    machine.wait_for_log("rules loaded");
    wait_for(&machine, "vusb_devices{state=\"held\"} 1");
    assert_eq!(machine.attached("work"), [""; 0]);
    assert_eq!(explain(&machine)["state"], "held");
    let lifted = Client::new(&machine).call("LiftHolds", json!({}));
    assert_eq!(lifted["parameters"], json!({ "ports": ["1-4"] }));
    machine.wait_until("work", &[path]);
    // `Resume` says what it has done for a domain that is not suspended.
    machine.remove("work", "pci-0000:00:14.0-usb-0:4");
    let resume = |dry_run: bool| {
        let domain = machine.address("work");
        let parameters = json!({ "domain": domain, "options": { "dryRun": dry_run } });
        let reply = Client::new(&machine).call("Resume", parameters)["parameters"].clone();
        (reply["already"].clone(), reply["view"]["lifted_holds"].clone())
    };
    for dry_run in [true, false] {
        assert_eq!(resume(dry_run), (json!(false), json!(["1-4"])));
    }
    machine.wait_until("work", &[path]);
    assert_eq!(resume(false), (json!(true), Value::Null));
}
