//! Isochronous transfers: a sound card plays in a guest.

use std::path::Path;

use serde_json::json;
use vusb_rig::Shell;
use vusb_rig::bundle;
use vusb_rig::cache::Cache;

use crate::support::{Scene, TIMEOUT};

/// Vendor and product of QEMU's sound card.
const CARD: &str = "46f4:0002";
/// Length of the tone in seconds.
const SECONDS: u32 = 5;
/// The maximum number of times that dom0 and the guest play in turn. The emulated machine shares
/// its processors with whatever else runs, and a pause at the wrong moment is an underrun on one
/// side only.
const ATTEMPTS: u32 = 6;
/// Samples per second, both channels together.
const SAMPLES: u32 = 2 * 48_000;

/// A square wave of 750 Hz. It is never silent, so gaps can be detected.
fn tone() -> Vec<u8> {
    let sample = |n: u32| if (n / 64) % 2 == 0 { 8_000_i16 } else { -8_000 };
    (0..SECONDS * SAMPLES).flat_map(|n| sample(n).to_le_bytes()).collect()
}

/// Plays the tone. Returns the number of underruns.
fn play(shell: &Shell) -> usize {
    let card = "[ -c /dev/snd/pcmC0D0p ]";
    shell.wait_until(card, TIMEOUT).unwrap();
    let play = "aplay -D hw:0,0 -t raw -f S16_LE -r 48000 -c 2 /tone 2>&1";
    let output = shell.sh(play, TIMEOUT).unwrap();
    assert_eq!(output.code, 0, "{}", output.text);
    output.text.matches("underrun").count()
}

/// The number of samples in a recording that are not silent.
fn audible_samples(file: &Path) -> usize {
    let wave = std::fs::read(file).unwrap();
    let samples = wave.get(44..).unwrap_or_default().chunks_exact(2);
    samples.filter(|it| i16::from_le_bytes([it[0], it[1]]).unsigned_abs() > 1_000).count()
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_sound_card_plays_in_a_guest_as_in_dom0() {
    let folder = tempfile::tempdir().unwrap();
    let (wave, tone_file) = (folder.path().join("recording.wav"), folder.path().join("tone"));
    std::fs::write(&tone_file, tone()).unwrap();
    let scene = Scene::with(1, |it| it.ready_guest().sound(&wave));
    let mut player = bundle::aplay(&Cache::open().unwrap()).unwrap();
    player.insert("/tone".to_owned(), tone_file);
    scene.host.copy_in(&player).unwrap();
    let listener = scene.host.new_guest("u2").files(player).start().unwrap();
    scene.host.plug(json!({ "driver": "usb-audio", "id": "card", "audiodev": "sound" })).unwrap();

    let mut heard = 0;
    let mut play_on = |shell: &Shell| {
        let underruns = play(shell);
        let audible = audible_samples(&wave) - heard;
        heard += audible;
        (underruns, audible)
    };
    let as_in_dom0 = (0..ATTEMPTS).any(|_| {
        let (underruns_in_dom0, from_dom0) = play_on(&scene.host);
        assert!(from_dom0 > 0, "dom0 plays nothing");
        scene.vusb_ok(&format!("device add xen:u2 {CARD}"));
        let (underruns_in_guest, from_guest) = play_on(&listener);
        scene.vusb_ok(&format!("device remove xen:u2 {CARD}"));
        eprintln!(
            "of {} samples, {from_dom0} were audible from dom0, with {underruns_in_dom0} underruns; \
             {from_guest} from the guest, with {underruns_in_guest} underruns",
            SECONDS * SAMPLES
        );
        underruns_in_guest <= underruns_in_dom0 && from_guest >= from_dom0 * 9 / 10
    });
    assert!(as_in_dom0, "the guest had more underruns, or dropped more samples than dom0");
}
