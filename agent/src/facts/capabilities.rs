//! What pipelines can be run with on the host: `python_3_11`, `java_17`, `spark`, `docker`…
//!
//! Each program of a short list is asked for its version. A word that names a version is told only when the
//! program said which; a bare word tells that the program is there and answers.

use std::{collections::BTreeSet, time::Duration};

use tokio::task::JoinSet;

use crate::subprocess;

/// The API takes no more words than this.
const MOST_WORDS: usize = 64;
/// A program that says nothing for this long is taken for broken.
const PATIENCE: Duration = Duration::from_secs(3);

/// A program, how it is asked for its version, and how many parts of the answer its word carries.
struct Program {
    command: &'static str,
    arguments: &'static [&'static str],
    word: &'static str,
    version_parts: usize,
}

const fn program(command: &'static str, word: &'static str, version_parts: usize) -> Program {
    Program { command, arguments: &["--version"], word, version_parts }
}

const PROGRAMS: &[Program] = &[
    program("python", "python", 2),
    program("python3", "python", 2),
    program("python3.8", "python", 2),
    program("python3.9", "python", 2),
    program("python3.10", "python", 2),
    program("python3.11", "python", 2),
    program("python3.12", "python", 2),
    program("python3.13", "python", 2),
    program("python3.14", "python", 2),
    program("python3.15", "python", 2),
    // Java 8 knows no other spelling.
    Program { command: "java", arguments: &["-version"], word: "java", version_parts: 1 },
    program("node", "node", 1),
    program("dotnet", "dotnet", 1),
    // On Windows a script, and of a bare name only a program is found.
    program(if cfg!(windows) { "spark-submit.cmd" } else { "spark-submit" }, "spark", 0),
    program("dbt", "dbt", 0),
    program("Rscript", "r", 0),
    program("docker", "docker", 0),
    program("podman", "podman", 0),
    Program { command: "kubectl", arguments: &["version", "--client"], word: "kubectl", version_parts: 0 },
    program("psql", "psql", 0),
    program("git", "git", 0),
];

/// The words for what is on the host: sorted, each once, at most 64 of a few characters each.
///
/// All programs are asked at once and given 3 seconds, so this takes no longer.
pub async fn capabilities() -> Vec<String> {
    let mut asked: JoinSet<_> = PROGRAMS.iter().map(|program| ask(program, PATIENCE)).collect();
    let mut words = BTreeSet::new();
    while let Some(answer) = asked.join_next().await {
        words.extend(answer.ok().flatten());
    }
    words.into_iter().take(MOST_WORDS).collect()
}

async fn ask(program: &'static Program, patience: Duration) -> Option<String> {
    let answer = subprocess::query(program.command, program.arguments, patience).await.ok()?;
    let said = [answer.stdout, answer.stderr].concat();
    answer.success.then(|| word(program, &String::from_utf8_lossy(&said))).flatten()
}

fn word(program: &Program, said: &str) -> Option<String> {
    if program.version_parts == 0 {
        return Some(program.word.to_owned());
    }
    let mut parts = version(said)?;
    // Java 8 and before called themselves 1.8.
    if program.word == "java" && parts.len() > 1 && parts.first().is_some_and(|first| first == "1") {
        parts.remove(0);
    }
    let parts = parts.get(..program.version_parts)?;
    Some(format!("{}_{}", program.word, parts.join("_")))
}

/// The parts of the first version number in a text: the digits from `3.11.2`, `v20.1.0`, `"17.0.9"`.
fn version(said: &str) -> Option<Vec<String>> {
    let starts = |word: &&str| word.starts_with(|character: char| character.is_ascii_digit());
    let mut words = said.split(|character: char| character.is_whitespace() || character == '"');
    let number = words.find_map(|word| Some(word.strip_prefix('v').unwrap_or(word)).filter(starts))?;
    let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
    Some(number.split(['.', '_', '-', '+']).map(digits).take_while(|part| !part.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(command: &str, said: &str) -> Option<String> {
        word(PROGRAMS.iter().find(|program| program.command == command).unwrap(), said)
    }

    #[test]
    fn a_word_carries_the_version_that_the_program_tells() {
        for (command, answer, expected) in [
            ("python3", "Python 3.11.2\n", "python_3_11"),
            ("python3.13", "Python 3.13.0rc1", "python_3_13"),
            ("java", "openjdk version \"17.0.9\" 2023-10-17\nOpenJDK Runtime …", "java_17"),
            ("java", "java version \"1.8.0_392\"", "java_8"),
            ("java", "openjdk version \"21\" 2023-09-19", "java_21"),
            ("java", "openjdk version \"25-ea\" 2025-09-16", "java_25"),
            ("node", "v20.11.1\n", "node_20"),
            ("dotnet", "8.0.100\n", "dotnet_8"),
            (
                if cfg!(windows) { "spark-submit.cmd" } else { "spark-submit" },
                "Welcome to\n   version 3.5.1",
                "spark",
            ),
            ("docker", "Docker version 24.0.7, build afdd53b", "docker"),
        ] {
            assert_eq!(said(command, answer).as_deref(), Some(expected), "{answer}");
        }
    }

    #[test]
    fn a_program_that_tells_no_version_gets_no_versioned_word() {
        assert_eq!(said("python3", "Segmentation fault"), None);
        assert_eq!(said("python3", ""), None);
        assert_eq!(said("python3", "Python 3"), None, "half a version is none");
        assert_eq!(said("java", "The operation couldn’t be completed."), None);
    }

    #[tokio::test]
    async fn what_is_not_there_or_fails_or_hangs_is_no_capability() {
        static ABSENT: Program = program("planasonix-no-such-program", "absent", 0);
        static FAILS: Program = program("false", "fails", 0);
        static HANGS: Program =
            Program { command: "sleep", arguments: &["600"], word: "hangs", version_parts: 0 };
        assert_eq!(ask(&ABSENT, PATIENCE).await, None);
        assert_eq!(ask(&FAILS, PATIENCE).await, None);
        assert_eq!(ask(&HANGS, Duration::from_millis(20)).await, None);
    }

    #[tokio::test]
    async fn the_words_of_this_host_are_sorted_and_short() {
        let words = capabilities().await;
        assert!(words.is_sorted() && words.len() <= MOST_WORDS, "{words:?}");
        assert!(words.iter().all(|word| word.len() <= 128), "{words:?}");
    }
}
