//! The program as its users run it: a process, its arguments and variables, what it prints.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::process::die_with_the_test;

/// Generous, for a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A command line, with no variable but those it is given.
pub struct Program(Command);

/// How a program ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    pub fn new(arguments: &[&str]) -> Self {
        Self::at(Path::new(env!("CARGO_BIN_EXE_planasonix")), arguments)
    }

    /// The same program, elsewhere.
    pub fn at(place: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(place);
        command.args(arguments).env_clear().stdin(Stdio::null());
        #[expect(clippy::disallowed_methods, reason = "a tester's own DATABASE_URL stays outside")]
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        Self(command)
    }

    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// Also when the test is killed and no destructor runs.
    #[must_use]
    pub fn bound_to_the_test(mut self) -> Self {
        die_with_the_test(&mut self.0);
        self
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Ended {
        let output = self.0.output().unwrap();
        Ended {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts it and lets it run.
    pub fn start(mut self) -> Running {
        let mut child = self.0.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Said::default());
        let readers = [
            said.listen(child.stdout.take().unwrap(), |text| &mut text.stdout),
            said.listen(child.stderr.take().unwrap(), |text| &mut text.stderr),
        ];
        Running { child, said, readers: readers.into() }
    }
}

impl Ended {
    /// What it answered; it must have done what it was asked, and log nothing about it.
    #[track_caller]
    pub fn answer(self) -> String {
        assert!(self.status.success() && self.stderr.is_empty(), "{self:?}");
        self.stdout
    }

    /// The answer as the one JSON object that it must be.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let answer = self.answer();
        assert_eq!(answer.lines().count(), 1, "{answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// The one line in which it said what stood in its way; nothing went to standard output.
    #[track_caller]
    pub fn complaint(self) -> String {
        assert!(!self.status.success() && self.stdout.is_empty(), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        self.stderr
    }
}

/// A program that runs. It is killed when dropped.
pub struct Running {
    child: Child,
    said: Arc<Said>,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Said {
    text: Mutex<Texts>,
    more: Condvar,
}

#[derive(Default)]
struct Texts {
    stdout: String,
    stderr: String,
    ended: usize,
}

impl Said {
    fn listen(
        self: &Arc<Self>,
        from: impl Read + Send + 'static,
        into: impl Fn(&mut Texts) -> &mut String + Send + 'static,
    ) -> JoinHandle<()> {
        let said = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let mut text = said.text.lock().unwrap();
                let text = into(&mut text);
                text.push_str(&line);
                text.push('\n');
                said.more.notify_all();
            }
            said.text.lock().unwrap().ended += 1;
            said.more.notify_all();
        })
    }
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says this, to standard output or standard error, and gives what it said so far.
    #[track_caller]
    pub fn until_it_says(&self, wanted: &str) -> String {
        let text = self.said.text.lock().unwrap();
        let silent = |text: &mut Texts| {
            !text.stdout.contains(wanted) && !text.stderr.contains(wanted) && text.ended < 2
        };
        let (text, _) = self.said.more.wait_timeout_while(text, PATIENCE, silent).unwrap();
        let all = format!("{}{}", text.stdout, text.stderr);
        assert!(all.contains(wanted), "never said {wanted:?}: {all}");
        all
    }

    /// Waits until it serves.
    #[track_caller]
    pub fn until_serving(self) -> Self {
        self.until_it_says("serving");
        self
    }

    /// Where it listens, as it says itself.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        let said = self.until_it_says("127.0.0.1:");
        let (_, after) = said.split_once("127.0.0.1:").unwrap();
        let port: String = after.chars().take_while(char::is_ascii_digit).collect();
        SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    /// Asks it to stop and waits for its end.
    pub fn stop(self) -> Ended {
        self.signal(Signal::SIGTERM);
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(mut self) -> Ended {
        let status = self.child.wait().unwrap();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let text = self.said.text.lock().unwrap();
        Ended { status, stdout: text.stdout.clone(), stderr: text.stderr.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
