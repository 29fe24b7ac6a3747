//! Isochronous transfers: a sound card plays in a guest.

use std::path::Path;

use serde_json::json;
use vusb_rig::Shell;
use vusb_rig::cache::Cache;
use vusb_rig::parcel;

use crate::support::{PATIENCE, Scene};

/// QEMU's sound card.
const CARD: &str = "46f4:0002";
/// How long is played, in seconds.
const SECONDS: u32 = 5;
/// Samples a second, of both channels.
const SAMPLES: u32 = 2 * 48_000;

/// A square wave of 750 Hz: never silent, so that each hole can be seen.
fn tone() -> Vec<u8> {
    let sample = |n: u32| if (n / 64).is_multiple_of(2) { 8_000_i16 } else { -8_000 };
    (0..SECONDS * SAMPLES).flat_map(|n| sample(n).to_le_bytes()).collect()
}

/// Plays the tone, and says how often the program came too late to fill the card's buffer.
fn play(shell: &Shell) -> usize {
    let card = "[ -c /dev/snd/pcmC0D0p ]";
    shell.wait_until(card, PATIENCE).unwrap();
    let play = "aplay -D hw:0,0 -t raw -f S16_LE -r 48000 -c 2 /tone 2>&1";
    let said = shell.sh(play, PATIENCE).unwrap();
    assert_eq!(said.code, 0, "{}", said.text);
    said.text.matches("underrun").count()
}

/// How many samples of what was heard are not silent.
fn heard(file: &Path) -> usize {
    let wave = std::fs::read(file).unwrap();
    let samples = wave.get(44..).unwrap_or_default().chunks_exact(2);
    samples.filter(|it| i16::from_le_bytes([it[0], it[1]]).unsigned_abs() > 1_000).count()
}

#[test]
#[ignore = "boots Xen; run by cargo xtask test"]
fn a_sound_card_plays_in_a_guest_as_it_does_in_dom0() {
    let folder = tempfile::tempdir().unwrap();
    let (wave, tone_file) = (folder.path().join("heard.wav"), folder.path().join("tone"));
    std::fs::write(&tone_file, tone()).unwrap();
    let scene = Scene::with(1, |it| it.ready_guest().sound(&wave));
    let mut player = parcel::aplay(&Cache::open().unwrap()).unwrap();
    player.insert("/tone".to_owned(), tone_file);
    scene.host.put(&player).unwrap();
    let listener = scene.host.new_guest("u2").files(player).start().unwrap();
    scene.host.plug(json!({ "driver": "usb-audio", "id": "card", "audiodev": "sound" })).unwrap();

    let late_in_dom0 = play(&scene.host);
    let heard_from_dom0 = heard(&wave);
    assert!(heard_from_dom0 > 0, "dom0 plays nothing");

    scene.does(&format!("device add xen:u2 {CARD}"));
    let late_in_guest = play(&listener);
    let heard_from_guest = heard(&wave) - heard_from_dom0;
    eprintln!(
        "of {} samples, dom0 made {heard_from_dom0} heard and was late {late_in_dom0} times; \
         the guest {heard_from_guest}, and {late_in_guest} times",
        SECONDS * SAMPLES
    );
    assert!(late_in_guest <= late_in_dom0, "{late_in_guest} underruns, in dom0 {late_in_dom0}");
    assert!(heard_from_guest >= heard_from_dom0 * 9 / 10, "the guest is hardly heard");
}
