//! Starts a program for each question. The program may ask a person, and call `vusb answer`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::events::Event;

/// How many of these programs may run at a time. Further questions are only reported to watchers.
const MAX_RUNNING: usize = 8;

/// How long such a program may run. A program that never ends must not keep later ones from
/// starting.
const LIMIT: Duration = Duration::from_secs(600);

/// The interval at which to check whether a program has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A program, and how many of it run.
#[derive(Debug)]
pub(crate) struct QuestionCommand {
    program: PathBuf,
    running: Arc<AtomicUsize>,
}

impl QuestionCommand {
    pub(crate) fn new(program: PathBuf) -> QuestionCommand {
        QuestionCommand { program, running: Arc::default() }
    }

    /// Starts the program with the number of the question, the port of the device, and the domains
    /// to choose from. No shell is involved.
    pub(crate) fn run(&self, number: u64, question: &Event) {
        if self.running.load(Ordering::Relaxed) >= MAX_RUNNING {
            warn!("{MAX_RUNNING} commands for questions still run: none is started for {number}");
            return;
        }
        let mut command = Command::new(&self.program);
        command.arg(number.to_string()).args(&question.port);
        command.args(question.domains.iter().flatten());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        match command.spawn() {
            Ok(child) => self.wait_for(child),
            Err(error) => warn!("cannot start {}: {error}", self.program.display()),
        }
    }

    fn wait_for(&self, mut child: Child) {
        let running = Arc::clone(&self.running);
        running.fetch_add(1, Ordering::Relaxed);
        let wait = move || {
            let end = Instant::now() + LIMIT;
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
                thread::sleep(POLL_INTERVAL);
            }
            // No effect if the program has ended.
            let _ = child.kill();
            let _ = child.wait();
            running.fetch_sub(1, Ordering::Relaxed);
        };
        if let Err(error) = thread::Builder::new().name("question".to_owned()).spawn(wait) {
            self.running.fetch_sub(1, Ordering::Relaxed);
            warn!("cannot wait for the command of a question: {error}");
        }
    }
}
