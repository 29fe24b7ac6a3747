//! Requests and responses of HTTP/1.1, one per connection.
//!
//! `httparse` parses the head. A request has at most 16 KiB of head and 64 KiB of body, and 10
//! seconds; a body needs a length, and a chunked body is refused.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// The longest body, in bytes.
const MAX_BODY: usize = 64 << 10;

/// How many header fields a request may have.
const MAX_FIELDS: usize = 64;

/// How long a client may take for a request.
pub(crate) const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// A request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) host: Option<String>,
    pub(crate) origin: Option<String>,
    /// `Sec-Fetch-Site`: where the request comes from, as the browser says.
    pub(crate) site: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestError {
    Malformed,
    TooLong,
    TooSlow,
    /// The client has closed the connection.
    Disconnected,
}

impl RequestError {
    /// The status of the response; `None` if there is no client to respond to.
    pub(crate) const fn status(self) -> Option<&'static str> {
        match self {
            RequestError::Malformed => Some("400 Bad Request"),
            RequestError::TooLong => Some("413 Content Too Large"),
            RequestError::TooSlow => Some("408 Request Timeout"),
            RequestError::Disconnected => None,
        }
    }
}

/// Reads a request, until `end` at the latest. The stream needs a read timeout: `end` is only
/// checked between reads.
pub(crate) fn read(stream: &mut impl Read, end: Instant) -> Result<Request, RequestError> {
    let mut bytes = Vec::new();
    let (mut request, head, length) = loop {
        let parsed = parse(bytes.get(..MAX_HEAD).unwrap_or(&bytes))?;
        if let Some(parsed) = parsed {
            break parsed;
        }
        if bytes.len() >= MAX_HEAD {
            return Err(RequestError::TooLong);
        }
        read_more(stream, &mut bytes, end)?;
    };
    if length > MAX_BODY {
        return Err(RequestError::TooLong);
    }
    while bytes.len() < head + length {
        read_more(stream, &mut bytes, end)?;
    }
    request.body = bytes.get(head..head + length).unwrap_or_default().to_vec();
    Ok(request)
}

fn read_more(
    stream: &mut impl Read,
    bytes: &mut Vec<u8>,
    end: Instant,
) -> Result<(), RequestError> {
    let mut buffer = [0; 4096];
    loop {
        if Instant::now() >= end {
            return Err(RequestError::TooSlow);
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Err(RequestError::Disconnected),
            Ok(count) => {
                bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
                return Ok(());
            }
            Err(error) => match error.kind() {
                // Check `end` again.
                io::ErrorKind::Interrupted
                | io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut => {}
                _ => return Err(RequestError::Disconnected),
            },
        }
    }
}

/// The request, the length of its head and that of its body; `None` if the head is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<(Request, usize, usize)>, RequestError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let head = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(RequestError::TooLong),
        Err(_) => return Err(RequestError::Malformed),
    };
    let mut request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: parsed.path.unwrap_or_default().to_owned(),
        ..Request::default()
    };
    let mut length = None;
    for field in parsed.headers.iter() {
        let value = std::str::from_utf8(field.value).map_err(|_| RequestError::Malformed)?;
        let place = match field.name.to_ascii_lowercase().as_str() {
            "host" => &mut request.host,
            "origin" => &mut request.origin,
            "sec-fetch-site" => &mut request.site,
            "authorization" => &mut request.authorization,
            "content-length" => &mut length,
            // A proxy could mistake a part of a chunked body for another request.
            "transfer-encoding" => return Err(RequestError::Malformed),
            _ => continue,
        };
        if place.replace(value.trim().to_owned()).is_some() {
            return Err(RequestError::Malformed);
        }
    }
    let length = match length {
        None => 0,
        Some(text) if text.bytes().all(|it| it.is_ascii_digit()) => {
            text.parse().map_err(|_| RequestError::Malformed)?
        }
        Some(_) => return Err(RequestError::Malformed),
    };
    Ok(Some((request, head, length)))
}

/// The header fields of every response: no other site may embed the page, read its responses, or
/// get its address, and the page may only use what comes from here.
const FIELDS: &str = "\
Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; \
connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
frame-ancestors 'none'\r\n\
X-Content-Type-Options: nosniff\r\n\
X-Frame-Options: DENY\r\n\
Referrer-Policy: no-referrer\r\n\
Cross-Origin-Opener-Policy: same-origin\r\n\
Cross-Origin-Resource-Policy: same-origin\r\n\
Cache-Control: no-store\r\n\
Connection: close\r\n";

/// Writes a response.
pub(crate) fn respond(
    stream: &mut impl Write,
    status: &str,
    kind: &str,
    body: &[u8],
) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{FIELDS}\r\n"
    )?;
    stream.write_all(body)?;
    stream.flush()
}

/// Begins a response of server-sent events.
pub(crate) fn begin_events(stream: &mut impl Write) -> io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{FIELDS}\r\n")?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<Request, RequestError> {
        read(&mut text.as_bytes(), Instant::now() + REQUEST_LIMIT)
    }

    #[test]
    fn a_request_is_read() {
        let text = "POST /call HTTP/1.1\r\nHost: 127.0.0.1:1\r\nContent-Length: 2\r\n\
                    Authorization: Bearer t\r\n\r\n{}rest";
        let expected = Request {
            method: "POST".to_owned(),
            path: "/call".to_owned(),
            host: Some("127.0.0.1:1".to_owned()),
            authorization: Some("Bearer t".to_owned()),
            body: b"{}".to_vec(),
            ..Request::default()
        };
        assert_eq!(request(text), Ok(expected));
    }

    #[test]
    fn what_is_too_long_or_ambiguous_is_refused() {
        let with = |fields: &str| request(&format!("GET / HTTP/1.1\r\n{fields}\r\n"));
        assert_eq!(with("Host: a\r\nHost: b\r\n"), Err(RequestError::Malformed));
        assert_eq!(with("Transfer-Encoding: chunked\r\n"), Err(RequestError::Malformed));
        assert_eq!(with("Content-Length: +1\r\n"), Err(RequestError::Malformed));
        assert_eq!(with("Content-Length: 65537\r\n"), Err(RequestError::TooLong));
        assert_eq!(with(&"a: b\r\n".repeat(65)), Err(RequestError::TooLong));
        assert_eq!(with(&format!("a: {}\r\n", "b".repeat(20000))), Err(RequestError::TooLong));
        assert_eq!(request("GET / HTTP/1.1\r\nHost"), Err(RequestError::Disconnected));
        assert_eq!(request("\u{1}\r\n\r\n"), Err(RequestError::Malformed));
        let slow = read(&mut "GET ".as_bytes(), Instant::now());
        assert_eq!(slow, Err(RequestError::TooSlow));
    }
}
