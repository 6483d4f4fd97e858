//! Which failures of the database pass by themselves, and which are bugs.

use std::str::FromStr;

use sqlx::Error as SqlxError;

use crate::domain::{Error, Result, error::Cause};

/// SQLSTATEs that say "not now": no connection, no resources, a lock or the server's patience ran out,
/// the server is going down or coming up.
const PASSING_CLASSES: [&str; 2] = ["08", "53"];
const PASSING_CODES: [&str; 10] =
    ["25006", "25P03", "40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "57P05"];
const DEADLOCK: &str = "40P01";

impl From<SqlxError> for Error {
    fn from(error: SqlxError) -> Self {
        if passes(&error) { Self::Unavailable(error.into()) } else { Self::Internal(error.into()) }
    }
}

fn passes(error: &SqlxError) -> bool {
    match error {
        SqlxError::Io(_)
        | SqlxError::Tls(_)
        | SqlxError::Protocol(_)
        | SqlxError::PoolTimedOut
        | SqlxError::PoolClosed
        | SqlxError::WorkerCrashed => true,
        _ => sqlstate(error).is_some_and(|code| {
            PASSING_CODES.contains(&code.as_str())
                || PASSING_CLASSES.iter().any(|class| code.starts_with(class))
        }),
    }
}

/// The SQLSTATE, if the server gave one.
pub fn sqlstate(error: &SqlxError) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// Whether the database chose this transaction to end a deadlock: it may be run again at once.
pub(super) fn is_deadlock(error: &Error) -> bool {
    let Error::Unavailable(cause) = error else {
        return false;
    };
    let code = cause.downcast_ref::<SqlxError>().and_then(sqlstate);
    code.as_deref() == Some(DEADLOCK)
}

/// SQLSTATEs of a statement that ended without effect and left its session as it was: cancelled by a timeout of
/// the statement or of a lock, or chosen to end a deadlock.
const INTERRUPTED_CODES: [&str; 4] = ["40001", DEADLOCK, "55P03", "57014"];

/// Whether the session can be used again after this error, once its transaction is rolled back.
pub(super) fn leaves_session_usable(error: &Error) -> bool {
    let Error::Unavailable(cause) = error else {
        return true;
    };
    let code = cause.downcast_ref::<SqlxError>().and_then(sqlstate);
    code.is_some_and(|code| INTERRUPTED_CODES.contains(&code.as_str()))
}

/// Whether the connection is what failed, and not just what was asked on it.
pub(super) fn is_broken(cause: &Cause) -> bool {
    match cause.downcast_ref::<SqlxError>() {
        Some(SqlxError::Io(_) | SqlxError::Tls(_) | SqlxError::Protocol(_) | SqlxError::WorkerCrashed) => {
            true
        }
        None => false,
        Some(error) => sqlstate(error)
            .is_some_and(|code| code == "25006" || code.starts_with("57P") || code.starts_with("08")),
    }
}

/// Reads a name that a check constraint holds to the few that the program knows.
///
/// # Errors
/// The database holds another one: [`Error::Internal`], with the column.
pub(super) fn stored<T: FromStr>(column: &'static str, name: &str) -> Result<T> {
    name.parse().map_err(|_| {
        Error::Internal(format!("{column} holds {name:?}, which this program does not know").into())
    })
}
