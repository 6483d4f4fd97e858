//! Text files that people and other programs write, in the encoding that their editor or shell has chosen.

/// Decodes a file's bytes: UTF-8, or UTF-16 of either byte order, with a byte order mark or without; anything else is
/// taken for Latin-1. It never fails: what the file means is for its reader to decide, who reads ASCII syntax.
pub fn decode(bytes: &[u8]) -> String {
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8_or_latin1(rest),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        // These files begin with an ASCII character: a zero byte beside it is the other half of a UTF-16 unit.
        [first, 0, ..] if *first != 0 => utf16(bytes, u16::from_le_bytes),
        [0, second, ..] if *second != 0 => utf16(bytes, u16::from_be_bytes),
        _ => utf8_or_latin1(bytes),
    }
}

fn utf8_or_latin1(bytes: &[u8]) -> String {
    let latin1 = |_| bytes.iter().copied().map(char::from).collect();
    std::str::from_utf8(bytes).map_or_else(latin1, str::to_owned)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let (units, _) = bytes.as_chunks::<2>();
    String::from_utf16_lossy(&units.iter().copied().map(unit).collect::<Vec<_>>())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A text as the editors and shells of this world write it, each with its name.
    pub(crate) fn encodings(text: &str) -> Vec<(&'static str, Vec<u8>)> {
        let le: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let marked = |mark: &[u8], bytes: &[u8]| [mark, bytes].concat();
        vec![
            ("UTF-8", text.into()),
            ("UTF-8 with a mark", marked(b"\xef\xbb\xbf", text.as_bytes())),
            ("UTF-16LE with a mark", marked(b"\xff\xfe", &le)),
            ("UTF-16BE with a mark", marked(b"\xfe\xff", &be)),
            ("UTF-16LE", le),
            ("UTF-16BE", be),
            ("Latin-1", text.chars().map(|character| u8::try_from(character).unwrap()).collect()),
        ]
    }

    #[test]
    fn the_same_text_is_read_in_every_encoding() {
        for (name, bytes) in encodings("{\"last_error\": \"café\"}\r\n") {
            assert_eq!(decode(&bytes), "{\"last_error\": \"café\"}\r\n", "{name}");
        }
    }

    #[test]
    fn what_is_cut_short_or_no_text_does_no_harm() {
        for bytes in [&b""[..], b"\xff\xfe", b"\xff\xfe{", b"\0", b"\0\0\0", b"\xef\xbb", b"{\0\"\0\xd8"] {
            decode(bytes);
        }
        assert_eq!(decode(b"\xef\xbb\xbf"), "");
    }
}
