//! Measures devices inside a guest, because busybox cannot. Prints one or two whole numbers, or
//! lines with `stamp`.
//!
//! ```text
//!   rig-measure read DEVICE SIZE COUNT    reads SIZE bytes COUNT times, uncached: total microseconds
//!   rig-measure write DEVICE SIZE COUNT   writes SIZE bytes COUNT times, uncached: total microseconds
//!   rig-measure read-scattered ...        the same in pages that are not adjacent in memory
//!   rig-measure write-scattered ...
//!   rig-measure echo COUNT                sends bytes one by one over a serial line that echoes them:
//!                                         median and 90th percentile of the round trip in microseconds
//!   rig-measure stamp                     copies lines, each after the monotonic time in seconds
//! ```
//!
//! The serial line is standard input. It is opened only once, because some backends fail when it is
//! closed: `{ stty raw -echo; rig-measure echo 100; } <>TTY`.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::ExitCode;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// `O_DIRECT` of `asm-generic/fcntl.h` on x86, and a buffer alignment that is sufficient for any
/// disk.
const DIRECT: i32 = 0o40_000;
const ALIGNED: usize = 4096;

/// Additional memory in bytes. With it, the buffer has enough pages to scatter the data, and is so
/// large that the allocator requests new memory from the kernel.
const SPREAD: usize = 256 << 10;
/// The step of [`touch`] that scatters the data.
const SCATTERED: usize = 3;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [word @ ("read" | "read-scattered"), device, size, count] => {
            copy(word, device, size, count, |file, data| file.read_exact(data))
        }
        [word @ ("write" | "write-scattered"), device, size, count] => {
            copy(word, device, size, count, |file, data| file.write_all(data))
        }
        ["echo", count] => echo(count),
        ["stamp"] => stamp(),
        _ => Err("usage: rig-measure read|write DEVICE SIZE COUNT, echo COUNT, or stamp".into()),
    };
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rig-measure: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Copies lines, each after the time. The clock is that of `udevadm monitor`.
fn stamp() -> Result<String, Failure> {
    let mut output = std::io::stdout();
    for line in std::io::stdin().lines() {
        let now = clock_gettime(ClockId::Monotonic);
        writeln!(output, "{}.{:06} {}", now.tv_sec, now.tv_nsec / 1000, line?)?;
    }
    Ok(String::new())
}

fn copy(
    word: &str,
    device: &str,
    size: &str,
    count: &str,
    one: impl Fn(&mut File, &mut [u8]) -> std::io::Result<()>,
) -> Result<String, Failure> {
    let (size, count): (usize, u32) = (size.parse()?, count.parse()?);
    let mut file = OpenOptions::new().read(true).write(true).custom_flags(DIRECT).open(device)?;
    let mut space = vec![0; size + SPREAD + ALIGNED];
    let start = space.as_ptr().align_offset(ALIGNED);
    let step = if word.ends_with("scattered") { SCATTERED } else { 1 };
    touch(space.get_mut(start..).ok_or("no aligned buffer")?, step);
    let data = space.get_mut(start..start + size).ok_or("no aligned buffer")?;
    let begin = Instant::now();
    (0..count).try_for_each(|_| one(&mut file, data))?;
    Ok(begin.elapsed().as_micros().to_string())
}

/// Writes to each page, every `step`th page first. The kernel allocates a page when it is first
/// written to, and often takes the next page of its memory, so the order decides whether pages that
/// are adjacent in the buffer are also adjacent in memory.
fn touch(space: &mut [u8], step: usize) {
    for first in 0..step {
        space.chunks_mut(ALIGNED).skip(first).step_by(step).for_each(|page| page.fill(0x5a));
    }
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
            return Err(format!("sent {sent}, received {back:?}").into());
        }
    }
    times.sort_unstable();
    let at = |tenths: usize| times.get(times.len() * tenths / 10).ok_or("COUNT is 0");
    Ok(format!("{} {}", at(5)?, at(9)?))
}
