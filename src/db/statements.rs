//! Takes SQL text apart into its statements.

/// The statements of a text, without their final semicolons and with the comments before them.
pub fn split(sql: &str) -> Vec<&str> {
    let (mut statements, mut rest) = (Vec::new(), sql);
    while !rest.is_empty() {
        let (statement, after) = rest.split_at(end_of_statement(rest));
        rest = after.strip_prefix(';').unwrap_or(after);
        if has_code(statement) {
            statements.push(statement.trim());
        }
    }
    statements
}

fn has_code(statement: &str) -> bool {
    statement.lines().map(str::trim_start).any(|line| !line.is_empty() && !line.starts_with("--"))
}

/// Where the first semicolon stands that is in no comment and no quotes.
fn end_of_statement(sql: &str) -> usize {
    let mut at = 0;
    while let Some(rest) = sql.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(';') {
            return at;
        }
        at += quoted_len(rest).unwrap_or_else(|| rest.chars().next().map_or(1, char::len_utf8));
    }
    sql.len()
}

/// The length of what begins here and may hold semicolons: a comment, a string, a quoted name or a dollar-quoted
/// body. A doubled quote is two strings, one after the other.
fn quoted_len(rest: &str) -> Option<usize> {
    let close = |open: &str, close: &str| {
        let inner = rest.strip_prefix(open)?;
        Some(inner.find(close).map_or(rest.len(), |at| open.len() + at + close.len()))
    };
    close("--", "\n")
        .or_else(|| close("/*", "*/"))
        .or_else(|| close("'", "'"))
        .or_else(|| close("\"", "\""))
        .or_else(|| {
            let tag_end = rest.strip_prefix('$')?.find('$')?;
            let tag = rest.get(..tag_end + 2)?;
            let is_tag = tag.trim_matches('$').chars().all(|c| c.is_alphanumeric() || c == '_');
            if is_tag { close(tag, tag) } else { None }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_ignores_semicolons_in_quotes_and_comments() {
        let sql = "-- a; b\nSELECT ';''', \";\";\n/* ; */ DO $x$ BEGIN; $$;$$ END $x$;\n\n-- the end;\n";
        assert_eq!(split(sql), ["-- a; b\nSELECT ';''', \";\"", "/* ; */ DO $x$ BEGIN; $$;$$ END $x$"]);
        assert_eq!(split("SELECT $1; SELECT $2"), ["SELECT $1", "SELECT $2"]);
        assert!(split("-- nothing; at all").is_empty());
        assert_eq!(split("SELECT 'open; é"), ["SELECT 'open; é"]);
    }
}
