//! A TOML table that reports what it lacks, what does not belong there and where.
//!
//! Reading never stops at a problem: a value that is wrong is reported and reads as `None`, so
//! that one run names everything.

use std::fmt::Display;

use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

use crate::problem::{At, Report, Span};

/// Longest value in bytes that is repeated in a message.
const ECHO_LEN_MAX: usize = 100;

/// One table of the file. Ask for every field that it may have, then [`Table::finish`].
pub(crate) struct Table<'d> {
    entries: &'d DeTable<'d>,
    span: Span,
    /// Path of the table with a closing dot, or nothing for the root.
    prefix: String,
    known: Vec<&'static str>,
}

impl<'d> Table<'d> {
    pub(crate) fn root(entries: &'d Spanned<DeTable<'d>>) -> Self {
        Self { entries: entries.get_ref(), span: 0..0, prefix: String::new(), known: Vec::new() }
    }

    /// A place for problems of the table as a whole.
    pub(crate) fn here(&self) -> At<()> {
        At {
            value: (),
            field: self.prefix.trim_end_matches('.').to_owned(),
            span: self.span.clone(),
        }
    }

    /// The path of a field of this table.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The path of a field without the numbers of array elements, as a table header has it.
    fn header(&self, name: &str) -> String {
        let path = self.path(name);
        let parts = path.split('.').map(|part| part.split('[').next().unwrap_or(part));
        parts.collect::<Vec<_>>().join(".")
    }

    /// Reports every field that was not asked for.
    pub(crate) fn finish(self, report: &mut Report) {
        for key in self.entries.keys() {
            if !self.known.contains(&key.get_ref().as_ref()) {
                let field = self.path(key.get_ref());
                let expected = self.known.join(", ");
                report.add(
                    &field,
                    &key.span(),
                    format_args!("unknown field; expected one of {expected}"),
                );
            }
        }
    }

    fn value(&mut self, name: &'static str) -> Option<At<&'d DeValue<'d>>> {
        self.known.push(name);
        let value = self.entries.get(name)?;
        Some(At { value: value.get_ref(), field: self.path(name), span: value.span() })
    }

    fn required(
        &mut self,
        name: &'static str,
        expected: &str,
        report: &mut Report,
    ) -> Option<At<&'d DeValue<'d>>> {
        let value = self.value(name);
        if value.is_none() && !report.ignore_missing {
            let field = self.path(name);
            report.add(&field, &self.span, format_args!("is missing; expected {expected}"));
        }
        value
    }

    /// A required string that `parse` understands.
    pub(crate) fn text<T, E: Display>(
        &mut self,
        name: &'static str,
        expected: &str,
        report: &mut Report,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<At<T>> {
        let value = self.required(name, expected, report)?;
        text(&value, expected, report, parse)
    }

    /// An optional string that `parse` understands; a wrong one is reported and reads as absent.
    pub(crate) fn text_if_any<T, E: Display>(
        &mut self,
        name: &'static str,
        expected: &str,
        report: &mut Report,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<At<T>> {
        let value = self.value(name)?;
        text(&value, expected, report, parse)
    }

    /// A field that need not be there, and is not.
    pub(crate) fn optional(&mut self, name: &'static str) {
        self.known.push(name);
    }

    /// Whether the file gives the field at all, right or wrong.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// A required whole number of `min` to `max`.
    pub(crate) fn number(
        &mut self,
        name: &'static str,
        limits: (u64, u64),
        report: &mut Report,
    ) -> Option<At<u64>> {
        let expected = format!("a number of {} to {}", limits.0, limits.1);
        let at = self.required(name, &expected, report)?;
        number(&at, limits, report)
    }

    /// An optional whole number of `min` to `max`.
    pub(crate) fn number_if_any(
        &mut self,
        name: &'static str,
        limits: (u64, u64),
        report: &mut Report,
    ) -> Option<At<u64>> {
        let at = self.value(name)?;
        number(&at, limits, report)
    }

    /// A required array of strings that `parse` understands, at most `max` of them. Wrong
    /// elements are reported and left out.
    pub(crate) fn texts<T, E: Display>(
        &mut self,
        name: &'static str,
        expected: &str,
        max: usize,
        report: &mut Report,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Vec<At<T>> {
        let Some(at) = self.required(name, expected, report) else {
            return Vec::new();
        };
        elements(&at, expected, max, report)
            .iter()
            .filter_map(|element| text(element, expected, report, &parse))
            .collect()
    }

    /// An optional table.
    pub(crate) fn table_if_any(
        &mut self,
        name: &'static str,
        report: &mut Report,
    ) -> Option<Table<'d>> {
        let at = self.value(name)?;
        table(&at, report)
    }

    /// An optional array of tables, at most `max` of them.
    pub(crate) fn tables(
        &mut self,
        name: &'static str,
        max: usize,
        report: &mut Report,
    ) -> Vec<Table<'d>> {
        let Some(at) = self.value(name) else {
            return Vec::new();
        };
        let expected = format!("[[{}]] tables", self.header(name));
        elements(&at, &expected, max, report)
            .iter()
            .filter_map(|element| table(element, report))
            .collect()
    }
}

/// The elements of an array, each with its own place and path; none when it is no array or has
/// too many.
fn elements<'d>(
    at: &At<&'d DeValue<'d>>,
    expected: &str,
    max: usize,
    report: &mut Report,
) -> Vec<At<&'d DeValue<'d>>> {
    let DeValue::Array(array) = at.value else {
        wrong_kind(at, expected, report);
        return Vec::new();
    };
    let array: &DeArray<'_> = array;
    if array.len() > max {
        report.about(at, format_args!("has {} entries; expected at most {max}", array.len()));
        return Vec::new();
    }
    let element = |(i, value): (usize, &'d Spanned<DeValue<'d>>)| At {
        value: value.get_ref(),
        field: format!("{}[{i}]", at.field),
        span: value.span(),
    };
    array.iter().enumerate().map(element).collect()
}

fn text<T, E: Display>(
    at: &At<&DeValue<'_>>,
    expected: &str,
    report: &mut Report,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<At<T>> {
    let DeValue::String(text) = at.value else {
        wrong_kind(at, expected, report);
        return None;
    };
    match parse(text) {
        Ok(value) => Some(at.with(value)),
        // A long or multi-line value is no name and no address; it may be a key put into the
        // wrong place, so it is not repeated.
        Err(error) if text.len() > ECHO_LEN_MAX || text.contains(char::is_control) => {
            report.about(at, error);
            None
        }
        Err(error) => {
            report.about(at, format_args!("{text:?}: {error}"));
            None
        }
    }
}

fn number(at: &At<&DeValue<'_>>, (min, max): (u64, u64), report: &mut Report) -> Option<At<u64>> {
    let DeValue::Integer(integer) = at.value else {
        wrong_kind(at, &format!("a number of {min} to {max}"), report);
        return None;
    };
    match u64::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) if (min..=max).contains(&number) => Some(at.with(number)),
        _ => {
            report.about(at, format_args!("{integer} is out of range; expected {min} to {max}"));
            None
        }
    }
}

fn wrong_kind(at: &At<&DeValue<'_>>, expected: &str, report: &mut Report) {
    let found = match at.value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    report.about(at, format_args!("is {found}; expected {expected}"));
}

fn table<'d>(at: &At<&'d DeValue<'d>>, report: &mut Report) -> Option<Table<'d>> {
    let DeValue::Table(entries) = at.value else {
        wrong_kind(at, "a table", report);
        return None;
    };
    Some(Table {
        entries,
        span: at.span.clone(),
        prefix: format!("{}.", at.field),
        known: Vec::new(),
    })
}
