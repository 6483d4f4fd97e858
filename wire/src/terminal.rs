//! Text of others on a terminal. It may hold escape sequences, which move the cursor, rewrite what was printed, or make
//! the terminal type, and characters that turn the direction of what follows, so that it reads as something else.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
};

/// A value within a line: control characters and those that direct text are escaped as in Rust (`\u{1b}`, `\n`).
pub fn value(text: &str) -> Cow<'_, str> {
    escape(text, |_| false, escaped_for_people)
}

/// A text of several lines, escaped as [`value`] but for its line feeds.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |character| character == '\n', escaped_for_people)
}

/// The same of a text that a library has coloured: escape sequences that set colours and weights (`ESC [ 1 ; 31 m`)
/// stay.
pub fn coloured_lines(text: &str) -> Cow<'_, str> {
    let mut parts = text.split('\u{1b}');
    let mut safe = lines(parts.next().unwrap_or_default());
    for part in parts {
        let parameters = part
            .strip_prefix('[')
            .map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
        let is_colour = parameters.is_some_and(|rest| rest.starts_with('m'));
        let safe = safe.to_mut();
        safe.push_str(if is_colour { "\u{1b}" } else { r"\u{1b}" });
        safe.push_str(&lines(part));
    }
    safe
}

/// A JSON text that means the same and has its control and directing characters as `\u001b`. In a valid one they occur
/// within strings alone, but for white space, which stays.
pub fn json(text: &str) -> Cow<'_, str> {
    escape(
        text,
        |character| matches!(character, '\n' | '\r' | '\t'),
        |character, escaped| {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        },
    )
}

fn escape(text: &str, kept: fn(char) -> bool, escaped: fn(char, &mut String)) -> Cow<'_, str> {
    let must = |character: char| must_be_escaped(character) && !kept(character);
    if !text.contains(must) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if must(character) {
            escaped(character, &mut safe);
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

fn escaped_for_people(character: char, escaped: &mut String) {
    escaped.extend(character.escape_default());
}

/// Control characters (C0, DEL, C1), separators of lines and paragraphs, and what directs text: marks, embeddings,
/// overrides, isolates, and the deprecated ones beside them. All are in the basic plane.
fn must_be_escaped(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
}

/// Writes whole texts, each escaped: for logs, whose lines come in one piece.
pub struct Escaping<W> {
    inner: W,
    escape: fn(&str) -> Cow<'_, str>,
}

impl<W> Escaping<W> {
    /// Escapes by one of this module's functions.
    pub fn new(inner: W, escape: fn(&str) -> Cow<'_, str>) -> Self {
        Self { inner, escape }
    }
}

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all((self.escape)(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}]0;x\u{7}b\r\n\t\u{7f}\u{9b}1m\u{202e}c\u{2066}\u{61c}\u{2028} é🚀\\";

    #[test]
    fn control_and_directing_characters_are_escaped_and_nothing_else() {
        let escaped = r"a\u{1b}]0;x\u{7}b\r\n\t\u{7f}\u{9b}1m\u{202e}c\u{2066}\u{61c}\u{2028} é🚀\";
        assert_eq!(value(HOSTILE), escaped);
        assert_eq!(lines(HOSTILE), escaped.replace(r"\n", "\n"));
        assert_eq!(coloured_lines("\u{1b}[1m\u{9b}\n"), "\u{1b}[1m\\u{9b}\n");
        assert_eq!(
            coloured_lines("a\u{1b}[1;31mb\u{1b}[2Jc\u{1b}]0;d"),
            "a\u{1b}[1;31mb\\u{1b}[2Jc\\u{1b}]0;d"
        );
        for plain in ["", "plain", "größe 名前 שלום مرحبا 👩‍🚀 e\u{301} \u{a0}"] {
            assert!(matches!(value(plain), Cow::Borrowed(same) if same == plain));
        }
        for character in ('\0'..='\u{ffff}').filter(|character| must_be_escaped(*character)) {
            assert!(value(&character.to_string()).is_ascii(), "{character:?}");
        }
    }

    #[test]
    fn json_stays_the_same_value() {
        let object = serde_json::json!({ HOSTILE: [HOSTILE, 1.5, null] });
        for text in [object.to_string(), serde_json::to_string_pretty(&object).unwrap()] {
            let safe = json(&text);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), object);
            let left = |character| must_be_escaped(character) && character != '\n';
            assert!(!safe.contains(left), "{safe}");
        }
    }

    #[test]
    fn writer_escapes_what_passes() {
        let mut written = Vec::new();
        let mut writer = Escaping::new(&mut written, lines);
        writer.write_all("a\u{1b}\n".as_bytes()).unwrap();
        writer.write_all(b"\xff\n").unwrap();
        writer.flush().unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), "a\\u{1b}\n\u{fffd}\n");
    }
}
