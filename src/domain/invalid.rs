//! Bad input, told whole: every field that breaks a rule, with what is wrong and what is right.

use std::{fmt, ops::RangeInclusive};

/// The fields of one request that broke a rule, at least one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(Vec<BadField>);

/// One field that broke a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadField {
    /// The field's name in the body or the query.
    pub field: String,
    /// What is wrong, for programs: `out_of_range`, `too_long`, ….
    pub issue: &'static str,
    /// What is right, for people; reads on from the field's name.
    pub advice: String,
}

impl Invalid {
    /// A single bad field.
    pub fn field(field: impl Into<String>, issue: &'static str, advice: impl Into<String>) -> Self {
        Self(vec![BadField { field: field.into(), issue, advice: advice.into() }])
    }

    /// Several bad fields, each with its issue and its advice. The caller has at least one.
    pub fn fields_of(fields: impl IntoIterator<Item = (String, &'static str, String)>) -> Self {
        Self(fields.into_iter().map(|(field, issue, advice)| BadField { field, issue, advice }).collect())
    }

    /// Two parts of one request, or all that is wrong with either.
    ///
    /// # Errors
    /// The bad fields of both.
    pub fn both<A, B>(one: Result<A, Self>, other: Result<B, Self>) -> Result<(A, B), Self> {
        match (one, other) {
            (Ok(one), Ok(other)) => Ok((one, other)),
            (Err(one), Err(other)) => Err(Self([one.0, other.0].concat())),
            (Err(one), _) => Err(one),
            (_, Err(other)) => Err(other),
        }
    }

    /// Every bad field.
    pub fn fields(&self) -> &[BadField] {
        &self.0
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, bad) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{} {}", bad.field, bad.advice)?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

/// Collects what is wrong with a request while its fields are read one after the other.
#[derive(Debug, Default)]
pub struct Checks(Vec<BadField>);

impl Checks {
    /// Notes that a field broke a rule; once, however often the field is read.
    pub fn fail(&mut self, field: &str, issue: &'static str, advice: impl Into<String>) {
        if self.0.iter().any(|bad| bad.field == field && bad.issue == issue) {
            return;
        }
        self.0.push(BadField { field: field.to_owned(), issue, advice: advice.into() });
    }

    /// A text of so many characters, any but U+0000.
    pub fn text(&mut self, field: &str, text: &str, length: RangeInclusive<usize>) {
        let characters = text.chars().count();
        if characters < *length.start() {
            self.fail(field, "too_short", format!("must have at least {} character(s)", length.start()));
        } else if characters > *length.end() {
            self.fail(field, "too_long", format!("must have at most {} characters", length.end()));
        }
        if text.contains('\0') {
            self.fail(field, "invalid_character", "must not contain U+0000");
        }
    }

    /// A list of at most `most` texts of at most `longest` characters each.
    pub fn words(&mut self, field: &str, words: &[String], most: usize, longest: usize) {
        if words.len() > most {
            self.fail(field, "too_many", format!("must have at most {most} entries"));
        }
        for (i, word) in words.iter().enumerate().take(most) {
            self.text(&format!("{field}[{i}]"), word, 0..=longest);
        }
    }

    /// A number within bounds.
    pub fn range<N: PartialOrd + fmt::Display>(&mut self, field: &str, number: N, bounds: RangeInclusive<N>) {
        if !bounds.contains(&number) {
            self.fail(
                field,
                "out_of_range",
                format!("must be between {} and {}", bounds.start(), bounds.end()),
            );
        }
    }

    /// A text of a certain form.
    pub fn parsed<T: std::str::FromStr>(
        &mut self,
        field: &str,
        text: &str,
        issue: &'static str,
        advice: &str,
    ) -> Option<T> {
        let value = text.parse().ok();
        if value.is_none() {
            self.fail(field, issue, advice);
        }
        value
    }

    /// One of a few names.
    pub fn name<T: std::str::FromStr>(&mut self, field: &str, name: &str, allowed: &str) -> Option<T> {
        self.parsed(field, name, "unsupported", &format!("must be one of {allowed}"))
    }

    /// Fails if any rule was broken.
    ///
    /// # Errors
    /// [`Invalid`], with every bad field noted so far.
    pub fn finish(self) -> Result<(), Invalid> {
        if self.0.is_empty() { Ok(()) } else { Err(Invalid(self.0)) }
    }
}
