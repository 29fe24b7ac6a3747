//! A libvirt daemon with one domain, `web1`, whose configurations are texts.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use roxmltree::{Document, Node};
use tempfile::TempDir;
use vusb_libvirt::codec::{Decoder, Message, MessageType, Status};
use vusb_libvirt::protocol::{REMOTE, procedure};
use vusb_libvirt::xdr::{Reader, Writer};
use vusb_libvirt::{Domain, Uuid, code};

pub(crate) const UUID: &str = "2f529084-7866-48ed-afc4-ec721375d888";

/// What the daemon does wrong, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Refuses the next call of this procedure, with this code and text.
    Refuse(i32, i32, &'static str),
    /// Executes the next call of this procedure and closes the connection without a reply.
    Die(i32),
    /// The guest keeps the device that is to be detached.
    Keep,
    /// The guest neither releases the device nor refuses to.
    Hang,
}

/// The domain.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The XML of the running guest.
    pub(crate) live: Option<String>,
    /// The stored XML.
    pub(crate) stored: Option<String>,
    /// The version of libvirt.
    pub(crate) version: u32,
    pub(crate) faults: VecDeque<Fault>,
    /// The procedures that were called, except for queries.
    pub(crate) changes: Vec<i32>,
    /// The connections that have registered for events.
    listeners: Vec<UnixStream>,
}

/// The daemon. Its threads end with their connections.
pub(crate) struct Daemon {
    dir: TempDir,
    state: Arc<Mutex<State>>,
}

impl Daemon {
    pub(crate) fn new(live: Option<&str>, stored: Option<&str>) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let text = |devices: &str, id: &str| {
            format!(
                "<domain type='qemu'{id}>\n  <name>web1</name>\n  <uuid>{UUID}</uuid>\n  \
                 <memory unit='KiB'>65536</memory>\n  <os>\n    \
                 <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>\n  </os>\n  <devices>\n\
                 {devices}\n  </devices>\n</domain>\n"
            )
        };
        let state = Arc::new(Mutex::new(State {
            live: live.map(|devices| text(devices, " id='1'")),
            stored: stored.map(|devices| text(devices, "")),
            version: 11_003_000,
            ..State::default()
        }));
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                thread::spawn(move || Line { stream, state }.serve());
            }
        });
        Daemon { dir, state }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.state().faults.push_back(fault);
    }

    /// Starts the domain or ends it, and sends the event to the registered clients.
    pub(crate) fn run(&self, text: Option<String>) {
        let mut state = self.state();
        let (event, id) = if text.is_some() { (2, 1) } else { (5, -1) };
        state.live = text;
        let web1 = Domain { name: "web1".to_owned(), uuid: Uuid::parse(UUID).unwrap(), id };
        let payload = web1.write(Writer::new().i32(1)).i32(event).i32(0).into_bytes();
        let number = procedure::DOMAIN_EVENT_CALLBACK_LIFECYCLE;
        let message = Message::event(REMOTE, number, payload).encode().unwrap();
        state.listeners.retain_mut(|it| it.write_all(&message).is_ok());
    }

    /// Closes the connections of the registered clients.
    pub(crate) fn hang_up(&self) {
        let listeners = std::mem::take(&mut self.state().listeners);
        listeners.iter().for_each(|it| it.shutdown(std::net::Shutdown::Both).unwrap());
    }

    pub(crate) fn live(&self) -> String {
        self.state().live.clone().unwrap()
    }

    pub(crate) fn stored(&self) -> String {
        self.state().stored.clone().unwrap()
    }
}

struct Line {
    stream: UnixStream,
    state: Arc<Mutex<State>>,
}

/// A refusal: code and text.
type Refusal = (i32, &'static str);

impl Line {
    fn serve(mut self) {
        let mut decoder = Decoder::default();
        let mut bytes = [0; 65536];
        while let Ok(count @ 1..) = self.stream.read(&mut bytes) {
            decoder.feed(&bytes[..count]);
            while let Some(call) = decoder.next_message().unwrap() {
                assert_eq!((call.program, call.kind), (REMOTE, MessageType::Call));
                let fault = self.take_fault(call.procedure);
                let result = match fault {
                    Some(Fault::Refuse(_, code, text)) => Err((code, text)),
                    _ => self.execute(&call, fault.as_ref()),
                };
                if matches!(fault, Some(Fault::Die(_))) {
                    return;
                }
                self.reply(&call, result);
            }
        }
    }

    fn take_fault(&self, number: i32) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        let is_due = match state.faults.front()? {
            Fault::Refuse(it, ..) | Fault::Die(it) => *it == number,
            Fault::Keep | Fault::Hang => number == procedure::DOMAIN_DETACH_DEVICE_ALIAS,
        };
        if is_due { state.faults.pop_front() } else { None }
    }

    fn reply(&mut self, call: &Message, result: Result<Writer, Refusal>) {
        let (status, writer) = match result {
            Ok(writer) => (Status::Ok, writer),
            Err((code, text)) => {
                let error = Writer::new().i32(code).i32(10);
                (Status::Error, error.option(Some(text), |it, text| it.string(text)))
            }
        };
        let payload = writer.into_bytes();
        let reply = Message { kind: MessageType::Reply, status, payload, ..call.clone() };
        let _ = self.stream.write_all(&reply.encode().unwrap());
    }

    fn execute(&mut self, call: &Message, fault: Option<&Fault>) -> Result<Writer, Refusal> {
        let state = Arc::clone(&self.state);
        let mut state = state.lock().unwrap();
        let id = if state.live.is_some() { 1 } else { -1 };
        let web1 = Domain { name: "web1".to_owned(), uuid: Uuid::parse(UUID).unwrap(), id };
        let mut reader = Reader::new(&call.payload);
        let nothing = Writer::new();
        if call.procedure > procedure::AUTH_POLKIT
            && ![procedure::DOMAIN_IS_PERSISTENT, procedure::CONNECT_GET_LIB_VERSION, 273, 316]
                .contains(&call.procedure)
        {
            state.changes.push(call.procedure);
        }
        match call.procedure {
            procedure::AUTH_LIST => Ok(nothing.u32(0)),
            procedure::CONNECT_OPEN => Ok(nothing),
            procedure::CONNECT_GET_LIB_VERSION => Ok(nothing.u32(0).u32(state.version)),
            procedure::CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY => {
                state.listeners.push(self.stream.try_clone().unwrap());
                Ok(nothing.i32(1))
            }
            procedure::CONNECT_LIST_ALL_DOMAINS => Ok(web1.write(nothing.u32(1)).u32(1)),
            procedure::DOMAIN_LOOKUP_BY_NAME if reader.string("").unwrap() != "web1" => {
                Err((code::NO_DOMAIN, "Domain not found: no domain with matching name"))
            }
            procedure::DOMAIN_LOOKUP_BY_NAME | procedure::DOMAIN_LOOKUP_BY_UUID => {
                Ok(web1.write(nothing))
            }
            procedure::DOMAIN_IS_PERSISTENT => Ok(nothing.i32(state.stored.is_some().into())),
            procedure::DOMAIN_GET_XML_DESC => {
                Domain::read(&mut reader).unwrap();
                let stored = reader.u32("").unwrap() & 2 > 0 || state.live.is_none();
                let text = if stored { &state.stored } else { &state.live };
                Ok(nothing.string(text.as_ref().unwrap()))
            }
            procedure::DOMAIN_DEFINE_XML => {
                state.changes.push(call.procedure);
                state.stored = Some(reader.string("").unwrap());
                Ok(web1.write(nothing))
            }
            procedure::DOMAIN_ATTACH_DEVICE_FLAGS | procedure::DOMAIN_DETACH_DEVICE_FLAGS => {
                Domain::read(&mut reader).unwrap();
                let element = reader.string("").unwrap();
                let flags = reader.u32("").unwrap();
                let attach = call.procedure == procedure::DOMAIN_ATTACH_DEVICE_FLAGS;
                let State { live, stored, .. } = &mut *state;
                for (flag, text) in [(1, live), (2, stored)] {
                    if flags & flag > 0 {
                        let text = text.as_mut().unwrap();
                        *text = if attach {
                            text.replace("  </devices>", &format!("    {element}\n  </devices>"))
                        } else {
                            assert!(text.contains(&element), "{element}");
                            text.replace(&element, "")
                        };
                    }
                }
                Ok(nothing)
            }
            procedure::DOMAIN_DETACH_DEVICE_ALIAS => {
                Domain::read(&mut reader).unwrap();
                let alias = reader.string("").unwrap();
                let text = state.live.as_mut().unwrap();
                let Some(span) = with_alias(text, &alias) else {
                    return Err((code::INTERNAL, "device not found"));
                };
                let event = match fault {
                    Some(Fault::Hang) => return Ok(nothing),
                    Some(Fault::Keep) => procedure::DOMAIN_EVENT_CALLBACK_DEVICE_REMOVAL_FAILED,
                    _ => {
                        text.replace_range(span, "");
                        procedure::DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED
                    }
                };
                let payload = web1.write(Writer::new().i32(1)).string(&alias).into_bytes();
                let event = Message::event(REMOTE, event, payload);
                let _ = self.stream.write_all(&event.encode().unwrap());
                Ok(nothing)
            }
            other => panic!("procedure {other}"),
        }
    }
}

/// The position of the device with this alias in the text.
fn with_alias(text: &str, alias: &str) -> Option<std::ops::Range<usize>> {
    let document = Document::parse(text).unwrap();
    let is_it =
        |node: &Node<'_, '_>| node.has_tag_name("alias") && node.attribute("name") == Some(alias);
    let found = document.descendants().find(is_it)?;
    Some(found.parent()?.range())
}
