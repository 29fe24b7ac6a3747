//! `cargo xtask test`: all tests but a few that take very long, the slow ones last; and `soak` and
//! `endure`, which run those.

use std::collections::BTreeSet;

use crate::cargo::{Result, cargo, cargo_output};

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
    let real = ["test", "--no-fail-fast", "--workspace", "--exclude", "vusb-rig"];
    let mut unstable = twice(&real, &[&["--ignored", "--test-threads=1"], &skipped[..]].concat())?;
    let rig = ["test", "--no-fail-fast", "--package", "vusb-rig"];
    unstable.extend(twice(&rig, &[&["--test-threads=1"], &skipped[..]].concat())?);
    for name in unstable {
        println!("failed, and passed when it was run once more: {name}");
    }
    Ok(())
}

/// Runs tests with real guests, and those that fail once more. An emulated guest shares the
/// processors with everything else that runs here, and a pause of seconds fails a test with a time
/// limit. A fault of vusb that only shows now and then must not get lost in this: returns what
/// passed only the second time.
fn twice(tests: &[&str], how: &[&str]) -> Result<BTreeSet<String>> {
    let args = [tests, &["--"], how].concat();
    let Err((error, output)) = cargo_output(&args) else { return Ok(BTreeSet::new()) };
    let Some(failed) = failed_tests(&output) else { return Err(error) };
    let names: Vec<&str> = failed.iter().map(String::as_str).collect();
    println!("failed and are run once more: {}", names.join(", "));
    let again = ["--include-ignored", "--exact", "--test-threads=1"];
    cargo(&[tests, &["--"], &again, &names].concat())?;
    Ok(failed)
}

/// The names of the tests that failed, from the lists that test programs print at their ends.
/// `None` if something else failed: the build, a program that ended without a result, or an example
/// in the documentation, whose name is not a word.
fn failed_tests(output: &str) -> Option<BTreeSet<String>> {
    let (mut begun, mut ended, mut failures) = (0, 0, 0);
    let mut failed = Vec::new();
    let mut in_list = false;
    for line in output.lines() {
        begun += usize::from(line.starts_with("running ") && !line.contains(':'));
        if let Some(result) = line.strip_prefix("test result: ") {
            ended += 1;
            failures += result.split("; ").find_map(failure_count)?;
        }
        match line.strip_prefix("    ") {
            _ if line == "failures:" => in_list = true,
            Some(name) if in_list && !name.contains(' ') => failed.push(name.to_owned()),
            _ if !line.is_empty() => in_list = false,
            _ => {}
        }
    }
    let is_explained = begun == ended && failures == failed.len() && failures > 0;
    is_explained.then(|| failed.into_iter().collect())
}

/// The 2 of `2 failed`.
fn failure_count(part: &str) -> Option<usize> {
    part.strip_suffix(" failed")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::failed_tests;

    #[test]
    fn failed_tests_are_those_in_the_lists() {
        let output = "\
running 3 tests
test audio::plays ... FAILED
test guide::all ... ok
test removal::busy ... FAILED

failures:

---- audio::plays stdout ----

thread 'audio::plays' panicked at tests/xen/audio.rs:71:5:
failures:
    are printed by this test too
---- removal::busy stdout ----

failures:
    audio::plays
    removal::busy

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out
    not::in_a_list
";
        let failed: Vec<_> = failed_tests(output).unwrap().into_iter().collect();
        assert_eq!(failed, ["audio::plays", "removal::busy"]);
    }

    #[test]
    fn a_failure_that_is_not_of_a_named_test_is_not_repeated() {
        let one = "running 1 test\n\nfailures:\n    audio::plays\n\n\
                   test result: FAILED. 0 passed; 1 failed; 0 ignored\n";
        assert_eq!(failed_tests(one).unwrap().len(), 1);
        let example = "running 1 test\n\nfailures:\n    src/lib.rs - name (line 3)\n\n\
                       test result: FAILED. 0 passed; 1 failed; 0 ignored\n";
        for other in ["running 2 tests\n", example] {
            assert_eq!(failed_tests(other), None, "{other}");
            assert_eq!(failed_tests(&format!("{one}{other}")), None, "{other}");
        }
    }
}
