//! Guests that start and end, for programs with an event loop. There is no thread: the program
//! polls an epoll descriptor, which contains the descriptors of the hypervisors.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{c_char, c_int};
use std::fmt;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::epoll;
use serde_json::json;
use vusb::{Context, ExitCode, GuestEvent, GuestWatch, WatchOptions};
use vusb_methods::{Failure, Parameters};

use crate::calls::parameters;
use crate::entry;
use crate::error::{VUSB_ALREADY, VUSB_DONE, VusbError};
use crate::handle::{Vusb, call};
use crate::memory::{is_null, optional, string};

/// A watch: `vusb_events` of the header.
pub struct VusbEvents {
    epoll: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sources: Vec<Source>,
    queue: VecDeque<serde_json::Value>,
    last: u64,
}

/// The guests of one scheme: those in one folder, or in the scheme's own folders.
struct Source {
    scheme: String,
    watch: Box<dyn GuestWatch>,
    /// The guests that were reported as started, and not yet as ended.
    running: BTreeSet<String>,
    /// Whether the last attempt failed. Consecutive failures are reported once.
    failing: bool,
}

impl fmt::Debug for VusbEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VusbEvents").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

impl Source {
    /// The events since the last call: the kind, the guest and the text.
    fn poll(&mut self) -> Vec<(&'static str, Option<String>, String)> {
        let mut events = Vec::new();
        let waited = self.watch.wait(Duration::ZERO).and_then(|found| {
            let rescan = found.contains(&GuestEvent::Rescan);
            let running = if rescan { Some(self.watch.running()?) } else { None };
            Ok((found, running))
        });
        let (found, running) = match waited {
            Ok(both) => both,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    events.push(("failing", None, error.to_string()));
                }
                return events;
            }
        };
        self.failing = false;
        let mut changes = found;
        if let Some(running) = running {
            let running: BTreeSet<String> = running.into_iter().collect();
            let ended = self.running.difference(&running).cloned().map(GuestEvent::Ended);
            let started = running.difference(&self.running).cloned().map(GuestEvent::Started);
            changes = ended.chain(started).collect();
        }
        for change in changes {
            let (kind, words, guest) = match change {
                GuestEvent::Started(guest) => {
                    self.running.insert(guest.clone());
                    ("guest-started", "has started", guest)
                }
                GuestEvent::Ended(guest) => {
                    self.running.remove(&guest);
                    ("guest-ended", "has ended", guest)
                }
                GuestEvent::Rescan => continue,
            };
            let address = format!("{}:{guest}", self.scheme);
            events.push((kind, Some(address.clone()), format!("{address} {words}")));
        }
        events
    }
}

impl State {
    /// Takes the next event. Polls all sources if none is queued.
    fn next(&mut self) -> Option<serde_json::Value> {
        if self.queue.is_empty() {
            let events: Vec<_> = self.sources.iter_mut().flat_map(Source::poll).collect();
            for (kind, domain, text) in events {
                self.last += 1;
                let mut event = json!({ "number": self.last, "event": kind, "text": text });
                if let (Some(map), Some(domain)) = (event.as_object_mut(), domain) {
                    map.insert("domain".to_owned(), domain.into());
                }
                self.queue.push_back(json!({ "event": event }));
            }
        }
        self.queue.pop_front()
    }
}

/// The folders that are watched in addition to the scheme's own: those that the caller names, and
/// those of the guests that have a record.
fn folders(context: &Context, scheme: &str, wanted: &[(String, PathBuf)]) -> BTreeSet<PathBuf> {
    let named = wanted.iter().filter(|(it, _)| it == scheme).map(|(_, folder)| folder.clone());
    let records = context.recorded().unwrap_or_default();
    let of_record = |address: &str| {
        let (of, operand) = address.split_once(':')?;
        let path = Path::new(operand);
        let folder = path.is_absolute().then(|| path.parent()).flatten()?;
        (of == scheme).then(|| folder.to_owned())
    };
    named.chain(records.iter().filter_map(|it| of_record(&it.address))).collect()
}

/// The folders that the caller names, each with its scheme: `sim:/run/guests`.
fn wanted(mut parameters: Parameters) -> Result<Vec<(String, PathBuf)>, Failure> {
    let texts: Vec<String> = parameters.list("guests")?;
    parameters.finish()?;
    let parse = |text: &String| {
        let (scheme, folder) = text.split_once(':')?;
        let folder = PathBuf::from(folder);
        folder.is_absolute().then(|| (scheme.to_owned(), folder))
    };
    let all: Option<Vec<_>> = texts.iter().map(parse).collect();
    all.ok_or_else(|| Failure::invalid_parameter("guests"))
}

fn failed(error: impl fmt::Display) -> Failure {
    Failure::own(ExitCode::Failed, format!("cannot watch for guests: {error}"))
}

fn start(context: &Context, wanted: &[(String, PathBuf)]) -> Result<VusbEvents, Failure> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
    let known = |name: &str| context.registry().schemes().any(|it| it.name() == name);
    if let Some((scheme, _)) = wanted.iter().find(|(it, _)| !known(it)) {
        let message = format!("there are no domains {scheme}:");
        return Err(Failure::own(ExitCode::NotFound, message));
    }
    let mut sources = Vec::new();
    for scheme in context.registry().schemes() {
        let scheme = scheme.name();
        let more = folders(context, scheme, wanted);
        // The empty list stands for the scheme's own folders.
        for folders in std::iter::once(Vec::new()).chain(more.into_iter().map(|it| vec![it])) {
            let is_named =
                folders.iter().any(|it| wanted.iter().any(|(of, at)| of == scheme && at == it));
            let options = WatchOptions { folders, ..WatchOptions::default() };
            let watch = match context.watch(scheme, &options) {
                Ok(watch) => watch,
                Err(error) if is_named => return Err(error.into()),
                // A hypervisor that is not installed has no guests.
                Err(_) => continue,
            };
            let data = epoll::EventData::new_u64(0);
            epoll::add(&epoll, &watch, data, epoll::EventFlags::IN).map_err(failed)?;
            let (scheme, running) = (scheme.to_owned(), BTreeSet::new());
            sources.push(Source { scheme, watch, running, failing: false });
        }
    }
    Ok(VusbEvents { epoll, state: Mutex::new(State { sources, ..State::default() }) })
}

/// Starts to watch for guests.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_watch(
    vusb: *const Vusb,
    json_in: *const c_char,
    out: *mut *mut VusbEvents,
    fd: *mut c_int,
    error: *mut *mut VusbError,
) -> c_int {
    let body = || {
        if out.is_null() {
            return Err(is_null("the place for the events"));
        }
        // SAFETY: the header says what the pointers are; `out` is not NULL, `fd` may be.
        let (call, json_in) = unsafe {
            out.write(ptr::null_mut());
            if !fd.is_null() {
                fd.write(-1);
            }
            (call(vusb, ptr::null())?, optional(json_in, "json_in")?)
        };
        let events = start(&call.context, &wanted(parameters(json_in)?)?)?;
        // SAFETY: as above; `fd` is NULL or a place for a number.
        unsafe {
            if !fd.is_null() {
                fd.write(events.epoll.as_raw_fd());
            }
            out.write(Box::into_raw(Box::new(events)));
        }
        Ok(VUSB_DONE)
    };
    // SAFETY: the header says what `error` is.
    unsafe { entry::run(error, body) }
}

/// The next event, without waiting.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_events_next(
    events: *mut VusbEvents,
    json_out: *mut *mut c_char,
    error: *mut *mut VusbError,
) -> c_int {
    let body = || {
        if json_out.is_null() {
            return Err(is_null("the place for the event"));
        }
        // SAFETY: the header says what the pointers are; `json_out` is not NULL.
        let events = unsafe {
            json_out.write(ptr::null_mut());
            events.as_ref().ok_or_else(|| is_null("the events"))?
        };
        let next = events.state.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some(event) = next else { return Ok(VUSB_ALREADY) };
        // SAFETY: as above.
        unsafe { json_out.write(string(&event.to_string())) };
        Ok(VUSB_DONE)
    };
    // SAFETY: the header says what `error` is.
    unsafe { entry::run(error, body) }
}

/// Ends a watch and closes its descriptor. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vusb_events_close(events: *mut VusbEvents) {
    if !events.is_null() {
        // SAFETY: it was made by `vusb_watch` and is released once.
        entry::quietly(|| drop(unsafe { Box::from_raw(events) }));
    }
}
