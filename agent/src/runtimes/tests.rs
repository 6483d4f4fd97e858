//! Sums of what runtimes say, and what the agent tells them.

use super::*;
use crate::clock;

fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn the_runtimes_figures_are_summed_and_the_first_error_by_name_wins() {
    let folder = folder_with(&[
        ("spark.status.json", r#"{"active_jobs": 2, "queue_depth": 1, "last_error": "later"}"#),
        ("airflow.status.json", r#"{"active_jobs": 1, "last_error": "disk full"}"#),
        ("notes.json", r#"{"active_jobs": 100}"#),
    ]);
    let totals = Folder::new(folder.path()).totals(clock::file_time());
    let last_error = Some("airflow: disk full".to_owned());
    assert_eq!(totals, Totals { active_jobs: Some(3), queue_depth: Some(1), last_error });
}

#[test]
fn a_runtime_that_fell_silent_or_speaks_from_the_future_does_not_count() {
    let folder = folder_with(&[("spark.status.json", r#"{"active_jobs": 2}"#)]);
    let mut watched = Folder::new(folder.path());
    let (now, minute) = (clock::file_time(), Duration::from_mins(1));
    for counts in [now, now + minute * 4, now - minute * 4] {
        assert_eq!(watched.totals(counts).active_jobs, Some(2));
    }
    for does_not in [now + minute * 6, now - minute * 6] {
        assert_eq!(watched.totals(does_not), Totals::default());
    }
}

#[test]
fn a_sum_stays_within_what_the_api_takes() {
    let much = format!(r#"{{"active_jobs": {}}}"#, u32::MAX);
    let folder = folder_with(&[("a.status.json", &much), ("b.status.json", &much)]);
    let totals = Folder::new(folder.path()).totals(clock::file_time());
    assert_eq!(totals.active_jobs, Some(i64::from(i32::MAX)));
}

/// The totals of a host on which `spark` runs two jobs and this file lies beside it.
fn beside(name: &str, text: &str) -> Totals {
    let folder =
        folder_with(&[("spark.status.json", r#"{"active_jobs": 2, "queue_depth": 1}"#), (name, text)]);
    Folder::new(folder.path()).totals(clock::file_time())
}

#[test]
fn a_status_that_cannot_be_read_makes_the_sums_unknown() {
    let large = format!(r#"{{"active_jobs": 1}}{}"#, " ".repeat(65_536));
    for (text, why) in [
        ("{", "its status cannot be read: not a status, see line 1 column 1"),
        (large.as_str(), "its status cannot be read: larger than 64 KiB"),
        (r#"{"active_jobs": "2", "queue_depth": -1}"#, "active_jobs is not a whole number of at least 0"),
    ] {
        let totals = beside("dbt.status.json", text);
        let last_error = Some(format!("dbt: {why}"));
        assert_eq!(totals, Totals { active_jobs: None, queue_depth: None, last_error });
    }
    let totals = beside("dbt.status.json", r#"{"active_jobs": -1, "queue_depth": 4}"#);
    assert_eq!((totals.active_jobs, totals.queue_depth), (None, Some(5)));
    let totals = beside("dbt.status.json", r#"{"active_jobs": 1, "last_error": 5}"#);
    assert_eq!(
        (totals.active_jobs, totals.last_error.unwrap().as_str()),
        (Some(3), "dbt: last_error is not a text")
    );
}

#[test]
fn a_bad_file_that_is_stale_is_a_runtime_that_is_gone() {
    let folder = folder_with(&[("dbt.status.json", "{")]);
    let later = clock::file_time() + Duration::from_mins(6);
    assert_eq!(Folder::new(folder.path()).totals(later), Totals::default());
    assert_eq!(described(folder.path(), later).unwrap(), []);
}

#[test]
fn more_files_than_are_read_make_the_sums_unknown() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..65 {
        fs::write(folder.path().join(format!("{number:02}.status.json")), r#"{"active_jobs": 1}"#).unwrap();
    }
    let totals = Folder::new(folder.path()).totals(clock::file_time());
    assert_eq!((totals.active_jobs, totals.queue_depth), (None, None));
    assert!(totals.last_error.unwrap().contains("more files than are read"));
}

#[test]
fn a_folder_is_empty_when_absent_and_unknown_when_unreadable() {
    let folder = folder_with(&[("file", "")]);
    let totals = |name| Folder::new(&folder.path().join(name)).totals(clock::file_time());
    assert_eq!(totals("absent"), Totals::default());
    let unreadable = totals("file");
    assert_eq!((unreadable.active_jobs, unreadable.queue_depth), (None, None));
    assert!(unreadable.last_error.unwrap().contains("its status cannot be read"));
}

#[test]
fn each_runtime_is_described_for_diagnose() {
    let folder = folder_with(&[
        ("airflow.status.json", r#"{"active_jobs": 2}"#),
        ("dbt.status.json", r#"{"active_jobs": -1}"#),
    ]);
    let bad = Err("active_jobs is not a whole number of at least 0".to_owned());
    assert_eq!(
        described(folder.path(), clock::file_time()).unwrap(),
        [("airflow".to_owned(), Ok("2 jobs run, 0 wait".to_owned())), ("dbt".to_owned(), bad)]
    );
}

#[test]
fn odd_files_are_logged_once_an_hour_in_all() {
    let (log, _guard) = crate::telemetry::tests::capture();
    let folder = tempfile::tempdir().unwrap();
    let mut watched = Folder::new(folder.path());
    let now = clock::file_time();
    for round in 0..120_u32 {
        let (path, at) =
            (folder.path().join(format!("{round}\n.status.json")), now + Duration::from_mins(1) * round);
        fs::write(&path, "odd").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        watched.totals(at);
    }
    let text = log.text();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("0\\\\n") || text.contains("0\\n"), "{text}");
}

#[cfg(unix)]
#[test]
fn a_planted_link_or_pipe_is_not_opened_and_a_bad_file_not_repeated() {
    /// A status, and what an agent says, in one.
    const SECRET: &str = r#"{"active_jobs": 7, "status": "active", "accepts_work": true,
        "connected": true, "updated_at": "2030-01-01T00:00:00Z"}"#;

    let folder =
        folder_with(&[("secret", SECRET), ("bad.status.json", r#"{"active_jobs": "plnx_agent_secret"}"#)]);
    let path = |name| folder.path().join(name);
    for (link, pipe) in [("x.status.json", "y.status.json"), (AGENT_FILE, "agent.pipe")] {
        std::os::unix::fs::symlink(path("secret"), path(link)).unwrap();
        nix::unistd::mkfifo(&path(pipe), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    let said = format!("{:?}", described(folder.path(), clock::file_time()).unwrap());
    assert_eq!(said.matches(r#"Err("not a plain file")"#).count(), 2, "{said}");
    assert!(!said.contains("plnx") && !said.contains('7'), "{said}");
    assert_eq!(Folder::new(folder.path()).totals(clock::file_time()).active_jobs, None);
    assert_eq!(read_agent_file(folder.path()), None);
    fs::rename(path("agent.pipe"), path(AGENT_FILE)).unwrap();
    assert_eq!(read_agent_file(folder.path()), None);
}

#[test]
fn what_was_published_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let told = AgentFile {
        agent_id: None,
        status: "starting".to_owned(),
        accepts_work: false,
        connected: false,
        connected_until: None,
        updated_at: clock::now().into(),
    };
    Folder::new(folder.path()).publish(&told);
    let read = read_agent_file(folder.path()).unwrap();
    assert_eq!((read.status, read.accepts_work), (told.status, false));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
}
