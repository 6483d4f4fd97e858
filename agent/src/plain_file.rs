//! Opening files in folders that others may write to: what lies there may be a link, a pipe or a device.
//!
//! Only a plain file is ever opened, by its own name, and what is checked is what was opened. So nobody
//! leads this process, which may be root's, to a file of another place, and nobody keeps it waiting.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    path::Path,
    time::SystemTime,
};

/// Whatever the agent reads from such a folder is far smaller.
const MOST_BYTES: u64 = 64 * 1_024;

/// What a file held.
#[derive(Debug)]
pub struct Content {
    /// All of it, at most 64 KiB.
    pub bytes: Vec<u8>,
    /// When it was last written to.
    pub modified: SystemTime,
}

/// Reads the plain file at `path`. What is there and is none, or is larger than 64 KiB, is an error of the kind
/// `InvalidInput`.
pub fn read(path: &Path) -> io::Result<Content> {
    let (file, about) = open(path, OpenOptions::new().read(true))?;
    let mut bytes = Vec::new();
    // It may grow while it is read: the length at opening decides nothing.
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "larger than 64 KiB"));
    }
    Ok(Content { bytes, modified: about.modified()? })
}

/// Opens the plain file at `path` as `options` say, and answers what it is. These must not cut the file
/// off: that would be done before the look at it.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<(File, Metadata)> {
    let file = as_it_is(options).open(path).map_err(name_link)?;
    let about = file.metadata()?;
    if about.is_file() { Ok((file, about)) } else { Err(not_plain()) }
}

fn not_plain() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a plain file")
}

/// A link is not followed, and a pipe that nobody writes to is not waited for.
#[cfg(unix)]
fn as_it_is(options: &mut OpenOptions) -> &mut OpenOptions {
    use nix::fcntl::OFlag;

    std::os::unix::fs::OpenOptionsExt::custom_flags(options, (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
}

/// `FILE_FLAG_OPEN_REPARSE_POINT`: a link is opened itself, and then seen to be no plain file.
#[cfg(windows)]
fn as_it_is(options: &mut OpenOptions) -> &mut OpenOptions {
    std::os::windows::fs::OpenOptionsExt::custom_flags(options, 0x0020_0000)
}

#[cfg(unix)]
fn name_link(error: io::Error) -> io::Error {
    let is_link = error.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32);
    if is_link { not_plain() } else { error }
}

#[cfg(windows)]
const fn name_link(error: io::Error) -> io::Error {
    error
}

#[cfg(all(test, unix))]
mod tests {
    use std::{fs, os::unix::fs::symlink, sync::mpsc, thread, time::Duration};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn only_a_plain_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "text").unwrap();
        assert_eq!(read(&path("file")).unwrap().bytes, b"text");
        symlink(path("file"), path("link")).unwrap();
        mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("large"), vec![b' '; 65_537]).unwrap();
        assert_eq!(read(&path("large")).unwrap_err().to_string(), "larger than 64 KiB");
        for name in ["link", "pipe", "folder"] {
            let (told, hears) = mpsc::channel();
            let path = path(name);
            // A pipe that is opened without care waits for its writer for ever.
            thread::spawn(move || told.send(read(&path).unwrap_err().to_string()));
            let error =
                hears.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("{name} hangs"));
            assert_eq!(error, "not a plain file", "{name}");
        }
    }
}
