//! A zip. The fixed part is its files; the tail is one more file, the directory of all of them, and the end.

use std::{
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom, Write},
};

use bytes::Bytes;
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use super::{COMPRESSION, Entry};

/// What stands before a zip's end: where, within the end, stand the number of its files (twice), the length of
/// its directory and the directory's place.
const END_LENGTH: usize = 22;
const END_SIGNATURE: [u8; 4] = *b"PK\x05\x06";
/// Where a record of the directory holds its file's place.
const PLACE_IN_RECORD: usize = 42;

/// What a zip's directory says of the files of the fixed part.
#[derive(Debug, Clone)]
pub(in crate::installer) struct Directory {
    records: Bytes,
    files: u16,
}

/// A zip's own account of itself, from its last bytes.
struct End {
    files: u16,
    length: u32,
    place: u32,
}

/// Writes the fixed part: a whole zip, whose directory is then cut off and kept.
pub(super) fn write(entries: &[Entry], mut file: &File) -> io::Result<Directory> {
    let mut zip = ZipWriter::new(file);
    for entry in entries {
        append(&mut zip, entry, CompressionMethod::Deflated)?;
    }
    zip.finish()?;
    let whole = file.seek(SeekFrom::End(0))?;
    let length = whole.checked_sub(END_LENGTH as u64).ok_or_else(not_understood)?;
    file.seek(SeekFrom::Start(length))?;
    let mut end = [0; END_LENGTH];
    file.read_exact(&mut end)?;
    let end = End::parse(&end)?;
    if u64::from(end.place) + u64::from(end.length) != length {
        return Err(not_understood());
    }
    file.seek(SeekFrom::Start(end.place.into()))?;
    let mut records = Vec::new();
    file.take(end.length.into()).read_to_end(&mut records)?;
    file.set_len(end.place.into())?;
    Ok(Directory { records: records.into(), files: end.files })
}

impl Directory {
    /// The last file, the directory, and the end.
    pub(super) fn tail(&self, fixed: u64, last: Entry) -> io::Result<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        append(&mut zip, &last, CompressionMethod::Stored)?;
        let mut tail = zip.finish()?.into_inner();
        let end = tail.split_off(tail.len().saturating_sub(END_LENGTH));
        let alone = End::parse(end.as_slice().try_into().map_err(|_| not_understood())?)?;
        let mut record = tail.split_off(alone.place as usize);
        let fixed = u32::try_from(fixed).map_err(too_large)?;
        let place = record.get_mut(PLACE_IN_RECORD..PLACE_IN_RECORD + 4).ok_or_else(not_understood)?;
        place.copy_from_slice(&fixed.to_le_bytes());
        let whole = End {
            files: self.files + alone.files,
            length: u32::try_from(self.records.len() + record.len()).map_err(too_large)?,
            place: fixed.checked_add(alone.place).ok_or_else(|| too_large("past 4 GiB"))?,
        };
        tail.extend_from_slice(&self.records);
        tail.extend_from_slice(&record);
        tail.extend_from_slice(&whole.bytes());
        Ok(tail)
    }
}

impl End {
    /// An end without a comment, of a zip in one piece.
    fn parse(bytes: &[u8; END_LENGTH]) -> io::Result<Self> {
        let [signature @ .., _, _, _, _, f0, f1, _, _, l0, l1, l2, l3, p0, p1, p2, p3, _, _] = *bytes;
        if signature != END_SIGNATURE {
            return Err(not_understood());
        }
        Ok(Self {
            files: u16::from_le_bytes([f0, f1]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            place: u32::from_le_bytes([p0, p1, p2, p3]),
        })
    }

    fn bytes(&self) -> Vec<u8> {
        let files = self.files.to_le_bytes();
        let (length, place) = (self.length.to_le_bytes(), self.place.to_le_bytes());
        [&END_SIGNATURE[..], &[0; 4], &files, &files, &length, &place, &[0; 2]].concat()
    }
}

fn append(
    zip: &mut ZipWriter<impl Write + Seek>,
    entry: &Entry,
    method: CompressionMethod,
) -> io::Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(method)
        .compression_level((method == CompressionMethod::Deflated).then_some(COMPRESSION.into()))
        .last_modified_time(DateTime::DEFAULT)
        .unix_permissions(entry.mode());
    zip.start_file(entry.full_path(), options)?;
    entry.content.copy(entry.content.len()?, zip)
}

fn not_understood() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the archive is not as it was to be written")
}

fn too_large(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, error.to_string())
}
