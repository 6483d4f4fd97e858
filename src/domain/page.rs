//! Pages of a list: so many rows after a position.

use super::invalid::Checks;

/// How many rows a page holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(u32);

impl PageSize {
    /// Unless asked otherwise.
    pub const DEFAULT: Self = Self(50);

    /// Takes `limit` as a query gives it; what is wrong with it goes to `checks`.
    pub fn check(checks: &mut Checks, limit: Option<&str>, most: u32) -> Self {
        let Some(limit) = limit else { return Self::DEFAULT };
        match limit.parse() {
            Ok(limit) if (1..=most).contains(&limit) => Self(limit),
            _ => {
                checks.fail("limit", "out_of_range", format!("must be between 1 and {most}"));
                Self::DEFAULT
            }
        }
    }

    /// The number of rows.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// One row more than the page holds, which tells whether there is another page.
    pub fn with_lookahead(self) -> i64 {
        i64::from(self.0) + 1
    }

    /// Cuts rows that were fetched with [`Self::with_lookahead`] to the page; tells whether there are more.
    pub fn cut<T>(self, rows: &mut Vec<T>) -> bool {
        let size = self.0 as usize;
        let more = rows.len() > size;
        rows.truncate(size);
        more
    }
}
