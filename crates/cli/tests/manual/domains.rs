//! `vusb domain`: the recorded domains, their names, and moving a record to another machine.

use insta::assert_snapshot;
use serde_json::Value;

use crate::environment::Environment;

/// `web1` with a tablet, and `mail` with a stick of this machine.
fn with_two_domains() -> Environment {
    let env = Environment::new();
    env.plug_stick("1-4");
    env.write(
        "web1.toml",
        "domain = \"web1\"\ndriver = \"sim:W\"\n[[device]]\nkind = \"tablet\"\n",
    );
    env.write("mail.toml", "domain = \"mail\"\ndriver = \"sim:M\"\n[[device]]\nhost = \"1-4\"\n");
    env.run("apply web1.toml").prints("");
    env.run("apply mail.toml").prints("");
    env
}

impl Environment {
    /// Ends the guest in this file.
    fn end_guest(&self, name: &str) {
        self.write(name, r#"{"sim": 1, "unreachable": "its process has ended"}"#);
    }
}

#[test]
fn the_recorded_domains_are_listed_with_their_state_and_claims() {
    let env = with_two_domains();
    env.run("device add sim:X mouse").prints("hci0:1");
    env.end_guest("W");
    assert_snapshot!(env.run("domain list").snapshot(), @"
    NAME  ADDRESS  STATE  PROFILE  CONTROLLERS  DEVICES  CLAIMS
    mail  sim:M  running  vusb-1  1  1  host:1-4
    -  sim:X  running  vusb-1  1  1
    web1  sim:W  gone  vusb-1  1  1
    ");
    let view = env.json("domain list");
    let states: Vec<&Value> =
        view["domains"].as_array().unwrap().iter().map(|it| &it["state"]).collect();
    assert_eq!(states, ["running", "running", "gone"]);
}

#[test]
fn a_name_belongs_to_one_domain() {
    let env = with_two_domains();
    env.write(
        "other.toml",
        "domain = \"web1\"\ndriver = \"sim:X\"\n[[device]]\nkind = \"mouse\"\n",
    );
    let before = env.everything();
    for line in ["apply other.toml", "plan other.toml", "apply other.toml --force"] {
        env.run(line)
            .fails(4)
            .says("error: sim:W is already named web1\n")
            .says("hint: choose another name")
            .says("`vusb domain rename sim:W NAME`");
    }
    assert_eq!(env.everything(), before);
    env.run("domain rename sim:X web1").fails(4).says("is already named web1");
    env.end_guest("W");
    env.run("apply other.toml")
        .fails(4)
        .says("is already named web1, and its guest has ended")
        .says("`vusb domain forget sim:W`");
    env.run("domain forget web1").prints("").says("forgot web1 (sim:W)");
    env.run("apply other.toml").prints("");
}

#[test]
fn a_domain_gets_another_name_whether_its_guest_runs_or_not() {
    let env = with_two_domains();
    env.run("domain rename web1 shop --dry-run").says("would rename").prints("");
    env.run("domain rename web1 shop").prints("").says("renamed sim:W from web1 to shop");
    env.run("domain rename shop shop").prints("").says("is already named shop");
    env.run("list web1").fails(3);
    env.end_guest("W");
    env.run("domain rename shop store").prints("");
    // A guest without a record gets one.
    env.run("domain rename sim:X shop").prints("").says("sim:X is now named shop");
    env.run("domain rename sim:X mail").fails(4).says("sim:M is already named mail");
    env.run("domain rename sim:X mail.toml").fails(2).says("has the form of an address");
    env.run("domain rename mail.toml post").fails(2).says("is a file");
    assert_eq!(env.json("list shop")["domain"], "shop");
}

#[test]
fn a_guest_that_will_not_return_is_forgotten() {
    let env = with_two_domains();
    let before = env.everything();
    env.run("domain forget mail").fails(4).says("mail is running").says("--force");
    env.run("domain forget mail --force --dry-run").prints("").says("would forget mail (sim:M)");
    assert_eq!(env.everything(), before);
    env.run("device add sim:X 0781:5581").fails(4).says("held by mail");
    env.end_guest("M");
    env.run("domain forget mail").prints("").says("forgot mail (sim:M)");
    env.run("domain forget sim:M").fails(3).says("there is no record of sim:");
    env.run("domain remove mail").fails(2).says("write `vusb domain forget DOMAIN`");
    assert_eq!(env.json("domain list")["domains"].as_array().unwrap().len(), 1);
    env.run("device add sim:X 0781:5581").prints("hci0:1");
}

#[test]
fn a_running_guest_that_is_forgotten_keeps_what_it_has() {
    let env = with_two_domains();
    env.run("domain forget mail --force").says("the guest keeps what vusb added: hci0, host0");
    let claims = env.machine().join("run/vusb/claims");
    assert_eq!(std::fs::read_dir(claims).unwrap().count(), 0);
    assert!(env.run("list sim:M").stdout.contains("host0"));
}

#[test]
fn a_guest_that_has_ended_is_listed_from_its_record() {
    let env = with_two_domains();
    env.end_guest("W");
    assert_snapshot!(env.run("list web1").snapshot(), @"
    web1 (sim:W), gone
    LOCATION  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  qemu-xhci  1/15  missing
      1  tablet0  tablet  missing
    ---- stderr
    the guest has ended (cannot reach sim:W: its process has ended): showing the record; if it will not return, delete its record with `vusb domain forget web1`
    ");
    let view = env.json("list sim:W");
    assert_eq!(view["state"], "gone");
    env.run("domain forget web1").prints("");
    env.run("list sim:W").fails(7);
}

#[test]
fn a_record_moves_to_another_machine() {
    let env = with_two_domains();
    env.run("suspend mail").prints("");
    let exported = env.command(["domain", "export", "mail"]).output().unwrap();
    let file = env.write("mail.record", std::str::from_utf8(&exported.stdout).unwrap());
    // The other machine has the stick at another port.
    let other = Environment::new();
    other.plug_stick("1-2");
    std::fs::copy(file, other.path("mail.record")).unwrap();
    std::fs::copy(env.path("M"), other.path("M")).unwrap();
    other
        .run("domain import mail.record --as sim:M")
        .prints("")
        .says("host0 is selected as 0781:5581:4C53 on this machine")
        .says("imported the record of mail");
    other.run("domain import mail.record --as sim:M").fails(4).says("already has a record");
    other.run("domain import mail.record --as sim:M --force").prints("");
    other.run("domain import mail.record --as sim:X").fails(4).says("is already named mail");
    let view = other.json("list mail");
    assert_eq!(view["suspended"], true);
    other.run("resume mail").prints("").says("mail: resumed");
    let view = other.json("device list mail");
    assert_eq!(view["devices"][0]["selector"], "0781:5581:4C53");
    assert_eq!(
        (&view["devices"][0]["state"], &view["devices"][0]["at"]),
        (&"attached".into(), &"hci0:1".into())
    );
}

#[test]
fn a_file_that_was_not_exported_is_refused() {
    let env = with_two_domains();
    env.run("domain import web1.toml").fails(2).says("is not an exported record");
    env.write("new.record", r#"{"api": 1, "record": {"vusb": 2, "domain": "sim:/a"}}"#);
    env.run("domain import new.record").fails(2).says("its layout is version 2");
    env.run("domain import nothing").fails(3);
    env.run("domain export sim:X").fails(3).says("there is no record");
}
