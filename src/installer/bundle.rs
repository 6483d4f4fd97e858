//! A platform's bundle, and one agent's copy of it.

use std::{fs::File, future::ready, io, ops::Range};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{Stream, stream};
use memmap2::Mmap;
use planasonix_wire::AgentId;
use sha2::{Digest, Sha256};

use super::{
    Binary, PublicUrl,
    archive::{Content, Entry, Format},
    binaries::file_name,
    conf::agent_conf,
    templates,
};
use crate::domain::agent::Platform;

/// So much is handed to a connection at once.
const CHUNK: u64 = 64 * 1_024;

/// All of a platform's bundle that is the same for every agent. It lies in a file without a name, which goes
/// with the process, and is seen as memory that all downloads share and the system may take back: reading it
/// for each download apart was two thirds as fast. Cheap to clone.
#[derive(Clone)]
pub(super) struct Bundle {
    platform: Platform,
    format: Format,
    fixed: Bytes,
    digest: Sha256,
}

impl Bundle {
    /// Packs the bundle of a platform with these programs.
    ///
    /// # Errors
    /// A program cannot be read, or there is no room for temporary files.
    pub(super) fn pack(platform: Platform, binaries: &[&Binary]) -> io::Result<Self> {
        let paths: Vec<_> = binaries
            .iter()
            .map(|binary| format!("bin/{}/{}", binary.architecture, file_name(platform)))
            .collect();
        let programs = binaries.iter().zip(&paths).map(|(binary, path)| Entry {
            path,
            executable: true,
            content: Content::File(&binary.path),
        });
        let mut entries: Vec<_> = templates::of(platform).iter().copied().chain(programs).collect();
        entries.sort_by_key(|entry| entry.path);
        let file = tempfile::tempfile().map_err(no_room)?;
        let format = Format::write(platform, &entries, &file).map_err(|error| match error.kind() {
            // Programs are only read.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => no_room(error),
            _ => error,
        })?;
        let fixed = as_memory(&file)?;
        let digest = Sha256::new_with_prefix(&fixed);
        Ok(Self { platform, format, fixed, digest })
    }

    /// The length of what every agent's copy has.
    pub(super) fn len(&self) -> u64 {
        self.fixed.len() as u64
    }

    /// One agent's copy.
    ///
    /// # Errors
    /// None that packing would not have met.
    pub(super) fn package(&self, url: &PublicUrl, agent: AgentId) -> io::Result<Package> {
        let conf = agent_conf(url, agent);
        let last = Entry { path: "agent.conf", executable: false, content: Content::Bytes(conf.as_bytes()) };
        let tail = Bytes::from(self.format.tail(self.len(), last)?);
        let digest = self.digest.clone().chain_update(&tail).finalize().into();
        Ok(Package { platform: self.platform, fixed: self.fixed.clone(), tail, digest })
    }
}

/// Names the folder, which is the operating system's choice.
fn no_room(error: io::Error) -> io::Error {
    let folder = std::env::temp_dir();
    io::Error::new(
        error.kind(),
        format!("no room for temporary files in {} (TMPDIR): {error}", folder.display()),
    )
}

/// What a file holds, without reading it.
fn as_memory(file: &File) -> io::Result<Bytes> {
    // SAFETY: the memory changes only with the file. That has no name, so that nobody else opens it, and we
    // write it no more.
    #[expect(unsafe_code, reason = "a file as memory is only as constant as the file")]
    let memory = unsafe { Mmap::map(file) }?;
    Ok(Bytes::from_owner(memory))
}

/// One agent's bundle for a platform.
pub struct Package {
    platform: Platform,
    fixed: Bytes,
    tail: Bytes,
    digest: [u8; 32],
}

impl Package {
    /// The platform that it is for.
    pub fn platform(&self) -> Platform {
        self.platform
    }

    /// What it is called where it is kept.
    pub fn file_name(&self) -> String {
        let (extension, _) = Format::media_type(self.platform);
        format!("planasonix-agent-{}-{}.{extension}", env!("CARGO_PKG_VERSION"), self.platform)
    }

    /// What it is.
    pub fn media_type(&self) -> &'static str {
        Format::media_type(self.platform).1
    }

    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        (self.fixed.len() + self.tail.len()) as u64
    }

    /// The SHA-256 of all of it, in hexadecimal.
    pub fn sha256(&self) -> String {
        self.digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    /// The same in base64, as HTTP's digest headers have it.
    pub fn sha256_base64(&self) -> String {
        STANDARD.encode(self.digest)
    }

    /// These of its bytes, in pieces.
    pub fn stream(self, range: Range<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let piece = move |rest: Range<u64>| {
            if rest.is_empty() {
                return Ok(None);
            }
            let piece = self.piece(&rest)?;
            let next = rest.start + piece.len() as u64;
            Ok(Some((piece, next..rest.end)))
        };
        stream::try_unfold(range, move |rest| ready(piece(rest)))
    }

    /// The first of these bytes, at least one.
    fn piece(&self, range: &Range<u64>) -> io::Result<Bytes> {
        let seam = self.fixed.len() as u64;
        let (part, from, end) = if range.start < seam {
            (&self.fixed, 0, range.end.min(seam))
        } else {
            (&self.tail, seam, range.end)
        };
        let place = |place: u64| usize::try_from(place - from).map_err(io::Error::other);
        Ok(part.slice(place(range.start)?..place(end.min(range.start + CHUNK))?))
    }
}
