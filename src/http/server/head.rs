//! Judges a request head before the HTTP library sees it.
//!
//! The library accepts what two parties may read differently: a bare LF as line end, `Transfer-Encoding: chunked`
//! twice, no `Host` or several. Behind a proxy such a request can smuggle another one. Here all of it is refused.
//! Heads are taken apart by `httparse`, which the library uses too; this module adds the rules that it leaves out.

use std::mem::MaybeUninit;

use axum::http::Uri;
use httparse::{Header, Request, Status};
use memchr::memchr;

use super::framing::Framing;

/// The longest request line: method, target and version.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// The longest head. The request line, 32 KiB of headers and their separators fit into it.
const MAX_HEAD_BYTES: usize = 52 * 1024;
/// The most header fields of a request.
const MAX_HEADERS: usize = 100;

/// Why a request is refused before it reaches the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The head is malformed or ambiguous; the text says how.
    Malformed(&'static str),
    /// The request line is longer than [`MAX_LINE_BYTES`].
    UriTooLong,
    /// The head is longer than [`MAX_HEAD_BYTES`], or has more than [`MAX_HEADERS`] fields.
    HeadersTooLarge,
    /// Too many connections hold a long, incomplete head.
    Busy,
}

/// Finds the end of a head in bytes that arrive piece by piece, looking at each byte once.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    scanned: usize,
    line_start: usize,
    lines: usize,
    seen_lines: Option<usize>,
}

impl Scanner {
    /// Whether the head, still incomplete, has grown by a line since the last call, or is new.
    pub(super) fn has_grown(&mut self) -> bool {
        self.seen_lines.replace(self.lines) != Some(self.lines)
    }

    /// The length of the head at the beginning of `bytes`, once it is complete. `bytes` must begin with what
    /// the call before was given.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, Rejection> {
        while let Some(found) = memchr(b'\n', bytes.get(self.scanned..).unwrap_or_default()) {
            let end = self.scanned + found;
            let line = bytes.get(self.line_start..end).unwrap_or_default();
            let Some(line) = line.strip_suffix(b"\r") else {
                return Err(Rejection::Malformed("every line of a request's head must end with CRLF"));
            };
            self.scanned = end + 1;
            self.line_start = end + 1;
            if !line.is_empty() {
                self.lines += 1;
                if self.lines == 1 && line.len() > MAX_LINE_BYTES {
                    return Err(Rejection::UriTooLong);
                }
            } else if self.lines > 0 {
                return Ok(Some(self.scanned));
            }
        }
        self.scanned = bytes.len();
        if self.lines == 0 && bytes.len() - self.line_start > MAX_LINE_BYTES {
            return Err(Rejection::UriTooLong);
        }
        if bytes.len() > MAX_HEAD_BYTES { Err(Rejection::HeadersTooLarge) } else { Ok(None) }
    }
}

/// Judges an incomplete head by its form alone, so that what is no HTTP is refused without a timeout.
pub(super) fn check_partial(bytes: &[u8]) -> Result<(), Rejection> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    Request::new(&mut []).parse_with_uninit_headers(bytes, &mut fields).map(drop).map_err(malformed)
}

/// Judges a complete head. Tells how the length of the body that follows is known.
pub(super) fn check(bytes: &[u8]) -> Result<Framing, Rejection> {
    if bytes.len() > MAX_HEAD_BYTES {
        return Err(Rejection::HeadersTooLarge);
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut fields).map_err(malformed)?;
    if parsed != Status::Complete(bytes.len()) {
        return Err(Rejection::Malformed("the request's head is malformed"));
    }
    if !is_target(request.method.unwrap_or_default(), request.path.unwrap_or_default()) {
        return Err(Rejection::Malformed("the request's target is malformed"));
    }
    check_fields(request.headers, request.version == Some(1))
}

fn check_fields(fields: &[Header<'_>], is_http_11: bool) -> Result<Framing, Rejection> {
    let (mut hosts, mut length, mut codings) = (0_u8, None, 0_u8);
    for Header { name, value } in fields {
        // Most names differ from all three in length.
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {
                hosts += 1;
                if !value.iter().all(|byte| is_host_byte(*byte)) {
                    return Err(Rejection::Malformed("Host is malformed"));
                }
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                let digits = decimal(value).ok_or(Rejection::Malformed("Content-Length must be a number"))?;
                if length.replace(digits).is_some() {
                    return Err(Rejection::Malformed("Content-Length must be given once"));
                }
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                codings += 1;
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Rejection::Malformed("Transfer-Encoding must be chunked"));
                }
            }
            _ => {}
        }
    }
    match (hosts, length, codings) {
        (0, ..) if is_http_11 => Err(Rejection::Malformed("Host is missing")),
        (2.., ..) => Err(Rejection::Malformed("Host must be given once")),
        (_, _, 1..) if !is_http_11 => Err(Rejection::Malformed("Transfer-Encoding needs HTTP/1.1")),
        (_, Some(_), 1..) => {
            Err(Rejection::Malformed("Content-Length and Transfer-Encoding exclude each other"))
        }
        (_, _, 2..) => Err(Rejection::Malformed("Transfer-Encoding must be given once")),
        (_, _, 1) => Ok(Framing::chunked()),
        (_, length, 0) => Ok(Framing::length(length.unwrap_or(0))),
    }
}

fn malformed(error: httparse::Error) -> Rejection {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => Rejection::HeadersTooLarge,
        Error::HeaderName => Rejection::Malformed("the name of a header is malformed"),
        Error::HeaderValue => Rejection::Malformed("the value of a header is malformed"),
        Error::NewLine => Rejection::Malformed("every line of a request's head must end with CRLF"),
        Error::Version => Rejection::Malformed("HTTP/1.1 and HTTP/1.0 are spoken here"),
        Error::Status | Error::Token => Rejection::Malformed("the request line is malformed"),
    }
}

/// Whether the target has the form that the method asks for, and the HTTP library will accept it. Plain paths
/// are recognised without building a [`Uri`].
fn is_target(method: &str, target: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%?=&:@!$'()*+,;".contains(&byte);
    match target.as_bytes() {
        [b'/', path @ ..] if path.iter().copied().all(plain) => true,
        [b'/', ..] => Uri::try_from(target).is_ok(),
        b"*" => method == "OPTIONS",
        _ => Uri::try_from(target).is_ok_and(|uri| match uri.scheme_str() {
            Some(scheme) => ["http", "https"].contains(&scheme),
            None => method == "CONNECT",
        }),
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

/// A number of decimal digits and nothing else: no sign, no space, no list.
fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(text: &[u8]) -> Result<Option<Framing>, Rejection> {
        let end = Scanner::default().scan(text)?;
        end.map(|end| check(&text[..end])).transpose()
    }

    #[test]
    fn scanner_finds_the_end_wherever_bytes_are_split() {
        let text = b"\r\nGET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\nrest";
        for split in 0..text.len() {
            let mut scanner = Scanner::default();
            let first = scanner.scan(&text[..split]).unwrap();
            assert_eq!(first.or_else(|| scanner.scan(text).unwrap()), Some(text.len() - 4), "{split}");
        }
    }

    #[test]
    fn request_line_too_long_is_told_before_it_ends() {
        let line = format!("GET /{}", "x".repeat(MAX_LINE_BYTES));
        assert_eq!(Scanner::default().scan(line.as_bytes()), Err(Rejection::UriTooLong));
        let whole = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(Scanner::default().scan(whole.as_bytes()), Err(Rejection::UriTooLong));
    }

    #[test]
    fn head_too_large_is_told_before_it_ends() {
        let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(MAX_HEAD_BYTES));
        assert_eq!(Scanner::default().scan(endless.as_bytes()), Err(Rejection::HeadersTooLarge));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(MAX_HEADERS));
        assert_eq!(judge(many.as_bytes()), Err(Rejection::HeadersTooLarge));
    }

    /// Were one of them refused by the library, it would answer in its own words.
    #[test]
    fn target_that_is_accepted_parses_as_uri() {
        for byte in 0x21..=0x7e_u8 {
            for text in [format!("/{}", char::from(byte)), format!("/?{}", char::from(byte))] {
                assert_eq!(is_target("GET", &text), Uri::try_from(&text).is_ok(), "{text}");
            }
        }
    }
}
