//! The house's rules that no compiler knows: which way modules point, and what may stand where.

use std::{
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

/// The layers from the bottom up, as `src/lib.rs` lists them. A module may use those of earlier lines, none of
/// its own line, none of later ones.
const LAYERS: [&[&str]; 7] = [
    &["entropy", "meter"],
    &["domain"],
    &["db"],
    &["api_keys", "enrollment", "installer", "presence"],
    &["dev", "http", "tasks"],
    &["config", "lifecycle", "telemetry"],
    &["cli"],
];

/// What a layer does not say: chance is no business of the rules, and logging reads its own settings.
const FORBIDDEN: [(&str, &str); 2] = [("domain", "entropy"), ("domain", "meter")];
const ALLOWED: [(&str, &str); 1] = [("telemetry", "config")];

const MOST_LINES: usize = 400;

/// A file of Rust.
pub struct Source {
    /// Its path within the repository.
    pub name: String,
    /// All of it.
    pub text: String,
    /// Without comments.
    pub code: String,
}

/// Every file of Rust below a folder of the repository.
pub fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&root.join(folder), &mut files);
    files.sort();
    let comment = Regex::new(r"(?m)(^|\s)//.*$").unwrap();
    let source = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        Source {
            name: path.strip_prefix(root).unwrap().display().to_string(),
            code: comment.replace_all(&text, "").into_owned(),
            text,
        }
    };
    files.into_iter().map(source).collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The packages that have a folder of their own.
fn packages() -> Vec<&'static str> {
    let there = |package: &&str| Path::new(env!("CARGO_MANIFEST_DIR")).join(package).is_dir();
    ["wire", "agent"].into_iter().filter(there).collect()
}

impl Source {
    /// The module right below the crate that the file belongs to.
    fn module(&self) -> &str {
        let below = self.name.strip_prefix("src/").unwrap();
        below.split(['/', '.']).next().unwrap()
    }

    /// The modules that the file names after `crate::`, also within braces.
    fn uses(&self) -> Vec<String> {
        let path = Regex::new(r"\bcrate::(\{|\w+)").unwrap();
        let mut used = Vec::new();
        for found in path.captures_iter(&self.code) {
            if &found[1] == "{" {
                used.extend(heads(&self.code[found.get(0).unwrap().end()..]));
            } else {
                used.push(found[1].to_owned());
            }
        }
        used
    }
}

/// The first names within a brace that was just opened.
fn heads(text: &str) -> Vec<String> {
    let (mut depth, mut heads, mut fresh) = (1, vec![String::new()], true);
    for character in text.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => {
                heads.push(String::new());
                fresh = true;
            }
            ':' if depth == 1 => fresh = false,
            _ if depth == 1 && fresh && !character.is_whitespace() => {
                heads.last_mut().unwrap().push(character);
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

fn layer(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|layer| layer.contains(&module))
        .unwrap_or_else(|| panic!("{module} has no place among the layers"))
}

#[test]
fn no_arrow_points_up() {
    let mut arrows = 0;
    for file in sources("src").iter().filter(|file| !["lib", "main"].contains(&file.module())) {
        let from = file.module();
        for to in file.uses().into_iter().filter(|to| to != from) {
            arrows += 1;
            let arrow = (from, to.as_str());
            let down = layer(&to) < layer(from) && !FORBIDDEN.contains(&arrow);
            assert!(down || ALLOWED.contains(&arrow), "{}: {from} must not use {to}", file.name);
        }
    }
    assert!(arrows > 50, "the reader of `use` lines sees little: {arrows}");
}

#[test]
fn the_crate_lists_its_modules_from_the_bottom_up() {
    let library = &sources("src").into_iter().find(|file| file.name == "src/lib.rs").unwrap().code;
    let layers: Vec<Vec<&str>> = library
        .split("\n\n")
        .map(|block| {
            block.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect()
        })
        .filter(|layer: &Vec<&str>| !layer.is_empty())
        .collect();
    assert_eq!(layers, LAYERS);
}

#[test]
fn the_reader_of_use_lines_sees_what_stands_in_braces() {
    let text = "db::{Budget, Db}, domain::Error, http }; other";
    assert_eq!(heads(text), ["db", "domain", "http"]);
}

/// Asserts that `pattern` occurs in these files alone, and gives the number of them.
fn only_in(folder: &str, pattern: &str, allowed: impl Fn(&str) -> bool) -> usize {
    let pattern = Regex::new(pattern).unwrap();
    let files = sources(folder).into_iter().filter(|file| pattern.is_match(&file.code));
    let strangers: Vec<_> = files.map(|file| file.name).collect();
    let (good, bad): (Vec<_>, Vec<_>) = strangers.into_iter().partition(|name| allowed(name));
    assert!(bad.is_empty(), "{pattern} in {bad:?}");
    good.len()
}

#[test]
fn all_sql_is_in_db() {
    let inside =
        only_in("src", r"sqlx::(query|raw_sql|migrate)|\bquery(_\w+)?!", |name| name.starts_with("src/db/"));
    assert!(inside > 3);
}

#[test]
fn the_rules_know_neither_http_nor_sql_nor_the_runtime() {
    let pattern = r"\b(axum|http|http_body|tower|tower_http|sqlx|tokio|clap|tracing)::";
    only_in("src/domain", pattern, |_| false);
}

#[test]
fn only_the_edge_knows_http() {
    let inside = only_in("src", r"\b(axum|axum_server|tower|tower_http|utoipa_axum)::", |name| {
        name.starts_with("src/http/") || name == "src/lifecycle.rs"
    });
    assert!(inside > 5);
}

#[test]
fn only_the_configuration_reads_the_environment() {
    only_in("src", r"\benv::(var|vars|set_var|remove_var|args)", |name| name == "src/config.rs");
    only_in("src", r"\benv::current_(exe|dir)", |name| {
        name == "src/cli/dev.rs" || name.starts_with("src/cli/agent_programs")
    });
    for package in packages() {
        only_in(&format!("{package}/src"), r"\benv::(var|vars)", |name| name == "agent/src/config.rs");
    }
}

#[test]
fn answers_are_printed_in_one_place() {
    only_in("src", r"io::stdout\(|\bprint(ln)?!", |name| name == "src/cli/output.rs");
}

#[test]
fn no_file_is_long() {
    let folders = ["src", "tests", "wire/src", "agent/src"];
    for file in folders.iter().flat_map(|folder| sources(folder)) {
        let lines = file.text.lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", file.name);
    }
}

#[test]
fn no_module_is_named_after_nothing() {
    // One service is what the agent is to its host.
    let nothing = Regex::new(r"/(utils?|common|helpers?|services|models?|misc)(\.rs|/)").unwrap();
    for file in ["src", "tests", "wire/src", "agent/src"].iter().flat_map(|folder| sources(folder)) {
        assert!(!nothing.is_match(&file.name), "{}", file.name);
    }
}

#[test]
fn every_file_begins_with_what_it_is() {
    for file in ["src", "tests", "wire/src", "agent/src"].iter().flat_map(|folder| sources(folder)) {
        // A handler's description is its summary in the document.
        let handler = file.name.starts_with("src/http/agents/");
        assert!(handler || file.text.starts_with("//! "), "{}", file.name);
    }
}

#[test]
fn agents_link_neither_a_server_nor_a_database() {
    for package in packages() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(package).join("Cargo.toml");
        let manifest = fs::read_to_string(manifest).unwrap();
        for line in manifest.lines() {
            // `tower-service` is a trait alone, of the client's connectors.
            let banned = ["axum", "sqlx", "tower =", "tower-http", "planasonix ="]
                .iter()
                .any(|name| line.starts_with(name));
            assert!(!banned, "{package}: {line}");
        }
        assert!(!manifest.contains("axum_extras") && !manifest.contains("\"sqlx\""), "{package}");
    }
}
