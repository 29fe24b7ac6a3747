//! Xen guests, as far as they can be tested without Xen: with a xenstored in this process, and
//! without a backend.

use vusb_xen::store::fake::Xenstored;

use crate::environment::{Environment, Ran};

fn run(env: &Environment, xenstored: &Xenstored, line: &str) -> Ran {
    let mut command = env.command(line.split_whitespace());
    command.env("XENSTORED_PATH", xenstored.socket());
    env.ran(&command.output().unwrap())
}

fn with_guest() -> Xenstored {
    let xenstored = Xenstored::start();
    for (path, value) in [
        ("/local/domain/0/name", "Domain-0"),
        ("/local/domain/5/name", "web1"),
        ("/libxl/5/type", "pv"),
    ] {
        xenstored.write(path, value);
    }
    xenstored
}

#[test]
fn without_xen_the_error_says_so() {
    let env = Environment::new();
    let mut command = env.command(["list", "xen:web1"]);
    command.env("XENSTORED_PATH", env.path("no-socket"));
    let ran = env.ran(&command.output().unwrap());
    assert_eq!(ran.code, 7, "{ran:?}");
    assert!(ran.stderr.contains("cannot reach xenstore"), "{ran:?}");
}

#[test]
fn a_guest_is_selected_by_name_or_by_id() {
    let (env, xenstored) = (Environment::new(), with_guest());
    for name in ["xen:web1", "xen:5"] {
        let ran = run(&env, &xenstored, &format!("list {name}"));
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "xen:web1: no USB\n"), "{ran:?}");
    }
    let ran = run(&env, &xenstored, "list xen:web2");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("the running guests are web1 (id 5)"), "{ran:?}");
}

#[test]
fn each_refusal_has_its_exit_code() {
    let (env, xenstored) = (Environment::new(), with_guest());
    for (line, code, says) in [
        ("controller add xen:web1", 7, "systemctl start vusb-backend"),
        ("controller add xen:web1 --backend 9", 3, "domain 9"),
        ("controller add xen:web1 --usbversion 3", 9, "no version 3"),
        ("controller add xen:web1 --type emulated", 9, "hint: use --type pv"),
        ("device add xen:web1 tablet", 9, "PVUSB carries real devices"),
        ("device add xen:web1 1-4", 3, "plug it in"),
        ("host list --backend web1", 7, "no vusb-backend answers in domain web1 (id 5)"),
        ("list xen:Domain-0", 9, "domain 0 is this machine"),
        ("list xen:", 2, "xl list"),
    ] {
        let before = xenstored.tree();
        let ran = run(&env, &xenstored, line);
        assert_eq!(ran.code, code, "{line}: {ran:?}");
        assert!(ran.stderr.contains(says), "{line}: {ran:?}");
        assert_eq!(xenstored.tree(), before, "{line}");
    }
}
