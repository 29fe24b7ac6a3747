//! A guest that does not run, by its file: listed, and edited in place.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use insta::assert_snapshot;

use crate::environment::Environment;

const WEB1: &str = "\
# The web server.
domain = \"web1\"

# At the front.
[[device]]        # the stick
host = \"0781:5581\"
";

#[test]
fn a_spec_is_edited_and_all_else_in_it_stays() {
    let env = Environment::new();
    env.write("web1.toml", WEB1);
    env.run("device add web1.toml mouse").prints("hci0:2");
    assert_snapshot!(env.read("web1.toml"), @r#"
    # The web server.
    domain = "web1"

    # At the front.
    [[device]]        # the stick
    host = "0781:5581"

    [[device]]
    kind = "mouse"
    controller = 0
    port = "2"
    name = "mouse0"

    [[controller]]
    index = 0
    name = "hci0"
    model = "qemu-xhci"
    ports = 15
    "#);
    assert_snapshot!(env.run("list web1.toml").snapshot(), @"
    web1 (web1.toml)
    PLACE  NAME  TYPE  WHAT  PORTS  STATE
    0  hci0  emulated  qemu-xhci  2/15  present
      1  host0  host  0781:5581  absent
      2  mouse0  mouse  configured
    ");
    env.run("device remove web1.toml mouse0").prints("");
    env.run("controller remove web1.toml hci0").fails(4);
    assert!(env.read("web1.toml").starts_with(WEB1));
}

#[test]
fn what_is_asked_for_again_is_already_so_and_the_file_stays() {
    let env = Environment::new();
    let path = env.write("web1.toml", WEB1);
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    env.run("device add web1.toml 0781:5581").prints("hci0:1").says("already");
    env.run("device add web1.toml tablet --dry-run").prints("plug tablet0 (tablet) into 0:2");
    assert_eq!(env.read("web1.toml"), WEB1);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
}

#[test]
fn an_edit_keeps_links_and_modes_and_fails_as_a_whole() {
    let env = Environment::new();
    let path = env.write("real.toml", WEB1);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real.toml", env.path("web1.toml")).unwrap();
    env.run("device add web1.toml mouse").prints("hci0:2");
    assert!(fs::symlink_metadata(env.path("web1.toml")).unwrap().is_symlink());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
    let before = env.read("real.toml");
    env.run("device add web1.toml mouse --port 2").fails(4).says("port 2 of hci0 is in use");
    env.run("device add web1.toml tablet --port 16").fails(3).says("has ports 1 to 15");
    assert_eq!(env.read("real.toml"), before);
}

#[test]
fn a_mistake_in_a_file_is_shown_where_it_is() {
    let env = Environment::new();
    env.write("web1.toml", "[[controller]]\nmodel = \"piix3-uhci\"\n\n[[device]]\nkind = \"mouse\"\ncontroller = 0\nport = \"3\"\n");
    assert_snapshot!(env.run("list web1.toml").snapshot(), @r#"
    ---- stderr
    error: there is no port 3 on hci0: it has ports 1 to 2
     --> web1.toml:7:8
      |
    7 | port = "3"
      |  ^^^
    ---- exit 3
    "#);
    env.run("plan web1.toml").fails(3).says("web1.toml:7:8");
}
