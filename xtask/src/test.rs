//! `cargo xtask test`: all tests but a few that take very long, the slow ones last; and `soak` and
//! `endure`, which run those.

use crate::cargo::{Result, cargo};

/// The test that takes too long for every run.
const SOAK: &str = "a_thousand_plugs_leave_nothing_behind";

/// The test that attaches and detaches a device of a libvirt domain again and again.
const LIBVIRT_SOAK: &str = "five_hundred_times_attached_and_detached";

/// The tests of `vusbd` that take longer than the others together.
const ENDURANCE: [&str; 3] = [
    "real_replugs_leak_nothing",
    "real_devices_come_back_after_a_kill_at_any_moment",
    "a_storm_of_real_notifications_ends_well",
];

/// The same with a simulated machine. `cargo xtask test` runs them, too.
const SIMULATED_ENDURANCE: [&str; 5] = [
    "two_hundred_replugs_leak_nothing",
    "a_daemon_that_is_killed_at_any_moment_continues",
    "a_long_storm_of_events_ends_well",
    "a_hundred_guests_and_a_thousand_devices",
    "a_million_steps_end_as_records_and_rules_say",
];

/// The tests with hardware-assisted guests. QEMU's emulated processor needs minutes to boot
/// these, and loses some.
const HARDWARE_GUESTS: [&str; 2] = ["a_pvh_guest", "an_hvm_guest"];

/// Runs only [`SOAK`].
pub(crate) fn soak() -> Result<()> {
    vusb_rig::packages::ensure()?;
    cargo(&["build", "--workspace", "--all-targets"])?;
    let test = ["test", "--package", "vusb-backend", "--test", "xen"];
    cargo(&[&test[..], &["--", "--ignored", "--nocapture", SOAK]].concat())
}

/// Runs the endurance tests of `vusbd`, or those whose names have one of these words, in release
/// builds, and shows their figures.
pub(crate) fn endure(words: &[&str]) -> Result<()> {
    vusb_rig::packages::ensure()?;
    let packages = ["vusb-daemon", "vusb-cli", "vusb-rig"];
    let packages = packages.into_iter().flat_map(|it| ["--package", it]);
    cargo(&[&["build", "--release", "--bins"], &packages.collect::<Vec<_>>()[..]].concat())?;
    let all = SIMULATED_ENDURANCE.into_iter().chain(ENDURANCE);
    let is_wanted = |it: &&str| words.is_empty() || words.iter().any(|word| it.contains(word));
    let names: Vec<&str> = all.filter(is_wanted).collect();
    if names.is_empty() {
        return Err(format!("no endurance test has a name with {}", words.join(" or ")).into());
    }
    let test = ["test", "--release", "--no-fail-fast", "--package", "vusb-daemon", "--"];
    let how = ["--ignored", "--nocapture", "--test-threads=1"];
    cargo(&[&test[..], &how, &names].concat())
}

/// Xen's headers, because tests compare numbers and layouts with them; a browser for `vusb web`.
const PACKAGES: [&str; 3] = ["libxen-dev", "chromium", "fonts-dejavu-core"];

/// Runs all tests except [`SOAK`], [`LIBVIRT_SOAK`] and [`ENDURANCE`]; those with
/// hardware-assisted guests only if wanted.
pub(crate) fn run(hardware_guests: bool) -> Result<()> {
    let mut skipped = vec![SOAK, LIBVIRT_SOAK];
    skipped.extend(ENDURANCE);
    if !hardware_guests {
        skipped.extend(HARDWARE_GUESTS);
    }
    let skipped: Vec<&str> = skipped.into_iter().flat_map(|it| ["--skip", it]).collect();
    vusb_rig::packages::ensure()?;
    vusb_rig::packages::ensure_all(&PACKAGES)?;
    cargo(&["build", "--workspace", "--all-targets"])?;
    // Without QEMU: seconds.
    cargo(&["test", "--workspace", "--exclude", "vusb-rig"])?;
    // On real QEMUs and real guests. One at a time, because they share two cores. All of them, so
    // that one failure does not hide another one.
    let real =
        ["test", "--no-fail-fast", "--workspace", "--exclude", "vusb-rig", "--", "--ignored"];
    cargo(&[&real[..], &["--test-threads=1"], &skipped].concat())?;
    let rig = ["test", "--package", "vusb-rig", "--", "--test-threads=1"];
    cargo(&[&rig[..], &skipped].concat())
}
