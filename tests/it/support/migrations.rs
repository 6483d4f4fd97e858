//! Which SQL a migration may hold, so that it stops neither reads nor writes. `migrations/README.md` gives the
//! reasons.

use std::fs;

use planasonix::db::statements::split;
use regex::Regex;

/// Tables whose rows a migration may change in one statement: one row per workspace or fewer.
const SMALL: [&str; 4] = ["workspaces", "schema_support", "control_plane", "agent_count_changes"];

/// Each migration's number and text, in order.
pub fn files() -> Vec<(u32, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let ups = paths.filter(|path| path.to_string_lossy().ends_with(".up.sql"));
    let mut files: Vec<_> = ups
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name.split('_').next().unwrap().parse().unwrap(), fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// What is wrong with a migration. `earlier` is the text of all migrations before it.
pub fn problems(number: u32, sql: &str, earlier: &str) -> Vec<String> {
    let statements: Vec<String> = split(sql).into_iter().map(normalize).collect();
    let migration = Migration {
        transaction: !sql.starts_with("-- no-transaction\n"),
        created: names(r"(?i)\bCREATE TABLE (?:IF NOT EXISTS )?(\w+)", &statements),
        alters: statements.iter().filter(|sql| is(sql, "^ALTER TABLE")).count(),
        earlier: normalize(earlier),
    };
    let mut problems: Vec<String> = statements
        .iter()
        .filter_map(|sql| migration.problem(sql).map(|problem| format!("{problem}: {sql}")))
        .collect();
    if !is(&statements.join(";"), &format!(r"INSERT INTO schema_support VALUES \({number},")) {
        problems.push("does not record the oldest program that it serves".to_owned());
    }
    problems
}

struct Migration {
    transaction: bool,
    created: Vec<String>,
    alters: usize,
    earlier: String,
}

impl Migration {
    fn problem(&self, sql: &str) -> Option<&'static str> {
        if is(sql, r"\bSET\b.*\b(lock_timeout|statement_timeout)\b|\bset_config\b") {
            return Some("sets a timeout, which is the runner's");
        }
        if is(sql, r"^LOCK |^TRUNCATE |^CLUSTER|^VACUUM|^REINDEX|^DROP TABLE|^REFRESH ") {
            return Some("locks a table for as long as it runs");
        }
        if self.transaction { self.problem_in_transaction(sql) } else { problem_without_transaction(sql) }
    }

    fn problem_in_transaction(&self, sql: &str) -> Option<&'static str> {
        // A function runs later. DO runs now.
        if is(sql, r"^CREATE (OR REPLACE )?FUNCTION") {
            return None;
        }
        if is(sql, r"\bCONCURRENTLY\b") {
            return Some("needs a file without a transaction");
        }
        if is(sql, r"^CREATE (UNIQUE )?INDEX") {
            return (!self.is_created(sql, r"\bON (?:ONLY )?(\w+)"))
                .then_some("blocks writes: use CONCURRENTLY");
        }
        if is(sql, r"^DROP INDEX") {
            return Some("blocks reads and writes: use CONCURRENTLY");
        }
        let changed =
            names(r"(?i)\b(?:UPDATE|DELETE FROM|MERGE INTO) (?:ONLY )?(\w+)", &[without_locks(sql)]);
        if changed.iter().any(|table| !SMALL.contains(&table.as_str()) && !self.created.contains(table)) {
            return Some("changes many rows at once: use batches");
        }
        if is(sql, "^ALTER TABLE") && !self.is_created(sql, r"^ALTER TABLE (?:IF EXISTS )?(?:ONLY )?(\w+)") {
            return self.problem_of_alter(sql);
        }
        None
    }

    fn problem_of_alter(&self, sql: &str) -> Option<&'static str> {
        if is(sql, r"\b(SET DATA )?TYPE\b|\bSET (UNLOGGED|LOGGED|TABLESPACE|ACCESS METHOD)\b") {
            return Some("may rewrite the table");
        }
        if is(sql, r"\bGENERATED\b|\bADD (COLUMN )?[^,]*\b(small|big)?serial\b") {
            return Some("rewrites the table");
        }
        // now() is one value for all rows; any other function may differ from row to row.
        if is(&sql.replace("now()", ""), r"\bDEFAULT [^,]*\(") {
            return Some("rewrites the table if the default is volatile: use a literal");
        }
        if is(sql, r"\bADD (COLUMN )?[^,]*\b(CHECK|REFERENCES|UNIQUE|PRIMARY KEY)\b")
            && !is(sql, r"\bNOT VALID$|\bUSING INDEX\b")
        {
            return Some("checks every row under a lock: use NOT VALID, or USING INDEX");
        }
        if is(sql, r"\bADD COLUMN [^,]*\bNOT NULL\b") && !is(sql, r"\bADD COLUMN [^,]*\bDEFAULT\b") {
            return Some("fails where there are rows: give a default");
        }
        if is(sql, r"\bVALIDATE CONSTRAINT\b") && self.alters > 1 {
            return Some("checks every row while another statement's lock is held: use a file of its own");
        }
        let not_null = names(r"(?i)\bALTER (?:COLUMN )?(\w+) SET NOT NULL", &[sql.to_owned()]);
        let validated = |column: &String| {
            let rule = format!(r"ADD CONSTRAINT (\w+) CHECK \({column} IS NOT NULL\) NOT VALID");
            names(&rule, std::slice::from_ref(&self.earlier))
                .iter()
                .any(|name| is(&self.earlier, &format!(r"VALIDATE CONSTRAINT {name}\b")))
        };
        (!not_null.iter().all(validated))
            .then_some("checks every row: validate a CHECK of an earlier migration")
    }

    fn is_created(&self, sql: &str, table: &str) -> bool {
        names(&format!("(?i){table}"), &[sql.to_owned()]).iter().any(|table| self.created.contains(table))
    }
}

fn problem_without_transaction(sql: &str) -> Option<&'static str> {
    let repeatable = is(sql, r"^CREATE (UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS \w+ ON ")
        || is(sql, r"^DROP INDEX CONCURRENTLY IF EXISTS \w+$")
        || is(sql, r"^INSERT INTO schema_support .* ON CONFLICT DO NOTHING$")
        || is(sql, r"^DO .*\bLIMIT\b.*\bCOMMIT\b");
    (!repeatable).then_some("cannot be repeated after an interruption")
}

/// Without comments and doubled space.
fn normalize(sql: &str) -> String {
    let code = Regex::new(r"--[^\n]*|/\*(?s:.*?)\*/").unwrap().replace_all(sql, "").into_owned();
    code.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Without what says UPDATE and changes no row.
fn without_locks(sql: &str) -> String {
    let harmless =
        Regex::new(r"(?i)\bFOR (NO KEY )?UPDATE\b|\bON (CONFLICT DO|UPDATE|DELETE)\b|\bOR (UPDATE|DELETE)\b");
    let sql = harmless.unwrap().replace_all(sql, "").into_owned();
    Regex::new(r"(?i)^CREATE (CONSTRAINT )?TRIGGER .*").unwrap().replace_all(&sql, "").into_owned()
}

fn names(pattern: &str, statements: &[String]) -> Vec<String> {
    let pattern = Regex::new(pattern).unwrap();
    let names = statements.iter().flat_map(|sql| pattern.captures_iter(sql));
    names.map(|found| found[1].to_lowercase()).collect()
}

fn is(sql: &str, pattern: &str) -> bool {
    Regex::new(&format!("(?is){pattern}")).unwrap().is_match(sql)
}
