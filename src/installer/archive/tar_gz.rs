//! A tar, compressed by gzip. The fixed part is one gzip member that ends between two files; the tail is a
//! second one with the last file and the tar's end. Members one behind the other are one gzip file.

use std::io::{self, Read, Write};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use tar::{EntryType, Header};

use super::{COMPRESSION, Entry, TIME};

const BLOCK: u64 = 512;
/// Two empty blocks end a tar.
const END: [u8; 1_024] = [0; 1_024];

/// Writes the fixed part.
pub(super) fn write(entries: &[Entry], out: &mut impl Write) -> io::Result<()> {
    let mut member = member(out);
    for entry in entries {
        append(&mut member, entry)?;
    }
    member.finish().map(drop)
}

/// The last file, and the end.
pub(super) fn tail(last: Entry) -> io::Result<Vec<u8>> {
    let mut member = member(Vec::new());
    append(&mut member, &last)?;
    member.write_all(&END)?;
    member.finish()
}

fn member<W: Write>(out: W) -> GzEncoder<W> {
    GzBuilder::new().mtime(0).write(out, Compression::new(COMPRESSION))
}

/// The crate's own builder ends each tar that it writes, which the fixed part must not be.
fn append(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    let length = entry.content.len()?;
    out.write_all(header(entry, length)?.as_bytes())?;
    entry.content.copy(length, out)?;
    let padding = length.next_multiple_of(BLOCK) - length;
    io::copy(&mut io::repeat(0).take(padding), out).map(drop)
}

fn header(entry: &Entry, length: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(entry.full_path())?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(entry.mode());
    header.set_uid(0);
    header.set_gid(0);
    header.set_username("root")?;
    header.set_groupname("root")?;
    header.set_mtime(TIME);
    header.set_size(length);
    header.set_cksum();
    Ok(header)
}
