//! What the agent says of itself, and where: standard error, or files of a day each.

use std::{
    io::{IsTerminal, stderr},
    path::Path,
};

use planasonix_wire::terminal::{self, Escaping};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Files of this many days are kept.
const DAYS_KEPT: usize = 7;

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not one.
    #[error("PLANASONIX_LOG: {0}; write a level (error, warn, info, debug, trace) or module=level,…")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The file's name is no name, or its folder cannot be written.
    #[error("PLANASONIX_LOG_FILE: {path}: {reason}")]
    File {
        /// What was asked for.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Starts the log: to standard error, or to files beside `file`, one a day and seven at most.
///
/// `agent.log` gives `agent.2025-03-27.log`. Lines are coloured on a terminal only. The first caller in a
/// process wins: a later one is checked and changes nothing.
pub fn init(filter: &str, file: Option<&Path>) -> Result<(), Error> {
    let filter = EnvFilter::builder().parse(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let coloured = file.is_none() && stderr().is_terminal();
    let builder = builder.with_ansi(coloured);
    // An embedding test may have its own log.
    let _ = match file {
        None if coloured => {
            builder.with_writer(|| Escaping::new(stderr(), terminal::coloured_lines)).try_init()
        }
        None => builder.with_writer(|| Escaping::new(stderr(), terminal::lines)).try_init(),
        Some(path) => builder.with_writer(EscapedFile(daily(path)?)).try_init(),
    };
    Ok(())
}

/// What is logged of others' texts must not reach the terminal of whoever reads the file.
struct EscapedFile(RollingFileAppender);

impl<'a> MakeWriter<'a> for EscapedFile {
    type Writer = Escaping<<RollingFileAppender as MakeWriter<'a>>::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaping::new(self.0.make_writer(), terminal::lines)
    }
}

fn daily(path: &Path) -> Result<RollingFileAppender, Error> {
    let error = |reason: String| Error::File { path: path.display().to_string(), reason };
    let part = |part: Option<&std::ffi::OsStr>| part.and_then(|name| name.to_str()).map(str::to_owned);
    let name = part(path.file_stem()).ok_or_else(|| error("it does not name a file".to_owned()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The appender looks for old files first, and complains where there is no folder yet.
    std::fs::create_dir_all(folder).map_err(|refused| error(refused.to_string()))?;
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .max_log_files(DAYS_KEPT)
        .filename_prefix(name)
        .filename_suffix(part(path.extension()).unwrap_or_else(|| "log".to_owned()))
        .build(folder)
        .map_err(|refused| error(refused.to_string()))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        fs,
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use tracing::subscriber::DefaultGuard;

    use super::*;

    /// The log of one thread.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Captures what this thread logs until the guard is dropped.
    pub(crate) fn capture() -> (Captured, DefaultGuard) {
        let log = Captured::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    #[test]
    fn a_log_file_is_one_of_its_day_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        for day in 1..=20 {
            fs::write(folder.path().join(format!("agent.2025-03-{day:02}.log")), "old").unwrap();
        }
        let log = EscapedFile(daily(&folder.path().join("agent.log")).unwrap());
        log.make_writer().write_all(b"a line\x1b[2J").unwrap();
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.len() <= DAYS_KEPT, "{names:?}");
        assert!(
            names.iter().any(|name| fs::read(folder.path().join(name)).unwrap() == br"a line\u{1b}[2J"),
            "{names:?}"
        );
    }

    #[test]
    fn what_cannot_be_obeyed_is_named() {
        let error = init("planasonix=loud", None).unwrap_err().to_string();
        assert!(error.contains("PLANASONIX_LOG"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let error = init("info", Some(&folder.path().join("file/agent.log"))).unwrap_err().to_string();
        assert!(error.starts_with("PLANASONIX_LOG_FILE: "), "{error}");
    }
}
