//! Follows a request's body to its end, so that no byte behind it reaches the HTTP library unjudged.

/// The longest line within a chunked body: a chunk's size with its extensions, or a trailer field.
const MAX_LINE_BYTES: usize = 4 * 1024;
/// The most bytes of all trailer fields together.
const MAX_TRAILER_BYTES: usize = 8 * 1024;
/// A chunk's size has at most this many hexadecimal digits.
const MAX_SIZE_DIGITS: usize = 15;

/// How much of a body is still to come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Box<Chunks>),
}

/// Where in a chunked body the next byte belongs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunks {
    place: Place,
    line: Vec<u8>,
    trailer_bytes: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    Data(u64),
    /// The line end behind a chunk's data.
    DataEnd,
    Trailer,
    End,
}

/// The chunks are malformed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Framing {
    pub(super) fn length(bytes: u64) -> Self {
        Self::Length(bytes)
    }

    pub(super) fn chunked() -> Self {
        Self::Chunked(Box::default())
    }

    /// Whether the body has ended.
    pub(super) fn is_complete(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.place == Place::End,
        }
    }

    /// How many of these bytes are part of the body. All of them, unless it ends before.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                Ok(taken)
            }
            Self::Chunked(chunks) => chunks.advance(bytes),
        }
    }
}

impl Chunks {
    fn advance(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut rest = bytes;
        while !rest.is_empty() && self.place != Place::End {
            let taken = match self.place {
                Place::Data(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let left = left - taken as u64;
                    self.place = if left == 0 { Place::DataEnd } else { Place::Data(left) };
                    taken
                }
                Place::Size | Place::DataEnd | Place::Trailer | Place::End => self.take_line(rest)?,
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(bytes.len() - rest.len())
    }

    /// Takes bytes up to the next line end, and judges the line if it is whole.
    fn take_line(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let end = memchr::memchr(b'\n', bytes).map(|at| at + 1);
        let taken = end.unwrap_or(bytes.len());
        if self.line.len() + taken > MAX_LINE_BYTES {
            return Err(Malformed);
        }
        self.line.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r\n").ok_or(Malformed)?;
            if line.iter().any(|byte| *byte != b'\t' && byte.is_ascii_control()) {
                return Err(Malformed);
            }
            self.place = self.after_line(line)?;
        }
        Ok(taken)
    }

    fn after_line(&mut self, line: &[u8]) -> Result<Place, Malformed> {
        match self.place {
            Place::Size => Ok(match chunk_size(line).ok_or(Malformed)? {
                0 => Place::Trailer,
                size => Place::Data(size),
            }),
            Place::DataEnd if line.is_empty() => Ok(Place::Size),
            Place::Trailer if line.is_empty() => Ok(Place::End),
            Place::Trailer => {
                self.trailer_bytes += line.len();
                let named = line.iter().position(|byte| *byte == b':').is_some_and(|at| at > 0);
                let folded = line.starts_with(b" ") || line.starts_with(b"\t");
                if named && !folded && self.trailer_bytes <= MAX_TRAILER_BYTES {
                    Ok(Place::Trailer)
                } else {
                    Err(Malformed)
                }
            }
            Place::DataEnd | Place::Data(_) | Place::End => Err(Malformed),
        }
    }
}

/// Hexadecimal digits, and perhaps extensions behind a semicolon, which mean nothing here.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?;
    if !(1..=MAX_SIZE_DIGITS).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(text: &[u8], step: usize) -> Result<Option<usize>, Malformed> {
        let (mut framing, mut total) = (Framing::chunked(), 0);
        for piece in text.chunks(step) {
            let taken = framing.advance(piece)?;
            total += taken;
            if framing.is_complete() {
                return Ok(Some(total));
            }
            assert_eq!(taken, piece.len());
        }
        Ok(None)
    }

    #[test]
    fn chunked_body_ends_at_the_same_byte_however_it_is_split() {
        for body in ["0\r\n\r\n", "5;a=\"b\"\r\nhe\nlo\r\n000A\r\n0123456789\r\n00\r\nX: y\r\n\r\n"] {
            let text = format!("{body}GET / HTTP/1.1\r\n");
            for step in 1..text.len() {
                assert_eq!(end_of(text.as_bytes(), step), Ok(Some(body.len())), "{step}");
            }
        }
    }

    #[test]
    fn chunked_body_that_is_ambiguous_is_malformed() {
        for body in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "0\r\n\n",
            "+5\r\nhello\r\n",
            "0x5\r\nhello\r\n",
            " 5\r\nhello\r\n",
            "5 \r\nhello\r\n",
            "\r\n5\r\nhello\r\n",
            "1000000000000000\r\n",
            "5;\rx\r\nhello\r\n",
            "0\r\n folded: x\r\n\r\n",
            "0\r\nno colon\r\n\r\n",
        ] {
            for step in 1..=body.len() {
                assert_eq!(end_of(body.as_bytes(), step), Err(Malformed), "{body:?} by {step}");
            }
        }
        let endless = "5;".to_owned() + &"x".repeat(MAX_LINE_BYTES);
        assert_eq!(end_of(endless.as_bytes(), 100), Err(Malformed));
    }
}
