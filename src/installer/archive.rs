//! Archives in two parts: what is the same in each of them, and a tail with the one file that is not.
//!
//! The same files give the same bytes, whenever and wherever: times, owners, modes, order and compression are
//! fixed.

mod tar_gz;
mod zip_file;

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use crate::domain::agent::Platform;

/// The folder that holds everything in a bundle.
const FOLDER: &str = "planasonix-agent";
/// 1980-01-01T00:00:00Z, the earliest time that both formats know.
const TIME: u64 = 315_532_800;
/// What both formats' own programs take unless told otherwise.
const COMPRESSION: u32 = 6;

/// A file of an archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'e> {
    /// Its path below the bundle's folder.
    pub path: &'e str,
    /// Whether it is a program.
    pub executable: bool,
    /// What it holds.
    pub content: Content<'e>,
}

/// What a file holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'e> {
    /// These bytes.
    Bytes(&'e [u8]),
    /// What this file holds.
    File(&'e Path),
}

/// How an archive goes on behind its fixed part.
#[derive(Debug, Clone)]
pub(super) enum Format {
    /// A tar, compressed by gzip in two members.
    TarGz,
    /// A zip, with what its directory says of the fixed part.
    Zip(zip_file::Directory),
}

impl Format {
    /// What a platform's users can unpack with what they have.
    pub(super) fn media_type(platform: Platform) -> (&'static str, &'static str) {
        match platform {
            Platform::Linux | Platform::Macos => ("tar.gz", "application/gzip"),
            Platform::Windows => ("zip", "application/zip"),
        }
    }

    /// Writes the fixed part of a platform's archive, and gives what its tail needs.
    ///
    /// # Errors
    /// A file cannot be read or written, or changes meanwhile.
    pub(super) fn write(platform: Platform, entries: &[Entry], mut file: &File) -> io::Result<Self> {
        match platform {
            Platform::Linux | Platform::Macos => tar_gz::write(entries, &mut file).map(|()| Self::TarGz),
            Platform::Windows => zip_file::write(entries, file).map(Self::Zip),
        }
    }

    /// What follows a fixed part of this length: one more file, and the archive's end.
    ///
    /// # Errors
    /// The archive is too large for its format.
    pub(super) fn tail(&self, fixed: u64, last: Entry) -> io::Result<Vec<u8>> {
        match self {
            Self::TarGz => tar_gz::tail(last),
            Self::Zip(directory) => directory.tail(fixed, last),
        }
    }
}

impl Entry<'_> {
    fn full_path(&self) -> String {
        format!("{FOLDER}/{}", self.path)
    }

    fn mode(&self) -> u32 {
        if self.executable { 0o755 } else { 0o644 }
    }
}

impl Content<'_> {
    fn len(&self) -> io::Result<u64> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(path) => Ok(path.metadata()?.len()),
        }
    }

    /// Copies all of it, which must be as long as it said it was.
    fn copy(&self, length: u64, out: &mut impl Write) -> io::Result<()> {
        let copied = match self {
            Self::Bytes(bytes) => io::copy(&mut io::Cursor::new(bytes), out)?,
            Self::File(path) => io::copy(&mut File::open(path)?.take(length + 1), out)?,
        };
        if copied == length { Ok(()) } else { Err(io::Error::other("a file changed while it was packed")) }
    }
}
