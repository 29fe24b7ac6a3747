//! Measures devices from within a guest, whose busybox cannot: prints one or two whole numbers.
//!
//! ```text
//!   rig-measure read DEVICE SIZE COUNT     reads COUNT times SIZE bytes, past the cache: microseconds in all
//!   rig-measure write DEVICE SIZE COUNT    writes likewise
//!   rig-measure echo COUNT                 bytes over a serial line whose other end sends them back, one by one: the median of their
//!                                          microseconds there and back, and the ninth of ten
//! ```
//!
//! The line is standard input, opened once for all, for not every backend bears that it is closed:
//! `{ stty raw -echo; rig-measure echo 100; } <>TTY`.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::ExitCode;
use std::time::Instant;

/// `O_DIRECT` of `asm-generic/fcntl.h`, as x86 has it, and what a buffer must be aligned to for any disk.
const DIRECT: i32 = 0o40_000;
const ALIGNED: usize = 4096;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let said = match words.as_slice() {
        ["read", device, size, count] => {
            copy(device, size, count, |file, data| file.read_exact(data))
        }
        ["write", device, size, count] => {
            copy(device, size, count, |file, data| file.write_all(data))
        }
        ["echo", count] => echo(count),
        _ => {
            Err("usage: rig-measure read|write DEVICE SIZE COUNT, or rig-measure echo COUNT".into())
        }
    };
    match said {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rig-measure: {error}");
            ExitCode::FAILURE
        }
    }
}

fn copy(
    device: &str,
    size: &str,
    count: &str,
    one: impl Fn(&mut File, &mut [u8]) -> std::io::Result<()>,
) -> Result<String, Failure> {
    let (size, count): (usize, u32) = (size.parse()?, count.parse()?);
    let mut file = OpenOptions::new().read(true).write(true).custom_flags(DIRECT).open(device)?;
    let mut space = vec![0x5a; size + ALIGNED];
    let start = space.as_ptr().align_offset(ALIGNED);
    let data = space.get_mut(start..start + size).ok_or("no aligned buffer")?;
    let begin = Instant::now();
    (0..count).try_for_each(|_| one(&mut file, data))?;
    Ok(begin.elapsed().as_micros().to_string())
}

fn echo(count: &str) -> Result<String, Failure> {
    let count: u32 = count.parse()?;
    let mut line = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut times = Vec::new();
    for number in 0..count {
        let [sent, ..] = number.to_le_bytes();
        let mut back = [0];
        let begin = Instant::now();
        line.write_all(&[sent])?;
        line.read_exact(&mut back)?;
        times.push(begin.elapsed().as_micros());
        if back != [sent] {
            return Err(format!("sent {sent}, and {back:?} came back").into());
        }
    }
    times.sort_unstable();
    let at = |tenths: usize| times.get(times.len() * tenths / 10).ok_or("nothing was sent");
    Ok(format!("{} {}", at(5)?, at(9)?))
}
