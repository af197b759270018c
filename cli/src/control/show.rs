//! What an answer says, for people and for programs.

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use data_encoding::BASE64;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::text::{
    Align::{Left, Right},
    Span, Style, Table, Tone,
};

/// One thing of an answer: its fields in the order in which people read them. Keys are those of the protocol.
#[derive(Debug, Clone, Default)]
pub(super) struct Item(Vec<(&'static str, Value)>);

impl Item {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds a field.
    #[must_use]
    pub(super) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((key, value.into()));
        self
    }

    /// A field.
    #[cfg(test)]
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Adds a field for programs only if it says something.
    #[must_use]
    pub(super) fn with_some(self, key: &'static str, value: impl Into<Value>) -> Self {
        let value = value.into();
        match &value {
            Value::String(text) if text.is_empty() => self.with(key, Value::Null),
            Value::Number(number) if number.as_u64() == Some(0) => self.with(key, Value::Null),
            _ => self.with(key, value),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(super) enum Shown {
    /// Something was done; the sentence is for people, the item for programs.
    Done(String, Item),
    /// One thing.
    One(Item),
    /// Several of a kind; `empty` says so when there are none.
    Many {
        /// Them.
        items: Vec<Item>,
        /// What people read instead of an empty table.
        empty: &'static str,
    },
    /// One thing with lists of what belongs to it, each under its own key.
    Whole {
        /// It.
        item: Item,
        /// What belongs to it; people read nothing of a list that is empty.
        lists: Vec<(&'static str, Vec<Item>)>,
    },
    /// A secret's value.
    Value {
        /// Which version.
        version: u64,
        /// The value, which is wiped when it was written.
        value: Zeroizing<Vec<u8>>,
    },
}

impl Shown {
    /// Writes it.
    pub(super) fn write(self, json: bool, out: &mut impl Write) -> Result<()> {
        if json {
            let value = match self {
                Self::Done(_, item) | Self::One(item) => object(item),
                Self::Many { items, .. } => items.into_iter().map(object).collect(),
                Self::Whole { item, lists } => {
                    let whole = lists.into_iter().fold(item, |whole, (key, items)| {
                        whole.with(key, items.into_iter().map(object).collect::<Vec<_>>())
                    });
                    object(whole)
                }
                Self::Value { version, value } => {
                    let encoded = BASE64.encode(&value);
                    object(Item::new().with("version", version).with("value_base64", encoded))
                }
            };
            serde_json::to_writer_pretty(&mut *out, &value).map_err(io::Error::from)?;
            writeln!(out)?;
            return Ok(());
        }
        let is_terminal = io::stdout().is_terminal();
        let style = Style::detect(is_terminal);
        match self {
            Self::Done(sentence, _) => writeln!(out, "{sentence}")?,
            Self::One(item) => write_one(item, out)?,
            Self::Whole { item, lists } => {
                write_one(item, out)?;
                for (key, items) in lists.into_iter().filter(|(_, items)| !items.is_empty()) {
                    writeln!(out, "\n{}:", title(key))?;
                    for line in table(&items).lines(2) {
                        writeln!(out, "{}", line.paint(style, usize::MAX))?;
                    }
                }
            }
            // What a terminal would obey is not sent to one; a file or a program gets every byte, and no newline.
            Self::Value { value, .. } if is_terminal => {
                writeln!(out, "{}", crate::text::printable(&String::from_utf8_lossy(&value)))?;
            }
            Self::Value { value, .. } => out.write_all(&value)?,
            Self::Many { items, empty } if items.is_empty() => writeln!(out, "{empty}")?,
            Self::Many { items, .. } => {
                for line in table(&items).lines(0) {
                    writeln!(out, "{}", line.paint(style, usize::MAX))?;
                }
            }
        }
        Ok(())
    }
}

fn write_one(item: Item, out: &mut impl Write) -> io::Result<()> {
    let width = item.0.iter().map(|(key, _)| key.len()).max().unwrap_or_default();
    for (key, value) in item.0 {
        writeln!(out, "{:width$}  {}", title(key), text(&value))?;
    }
    Ok(())
}

fn object(item: Item) -> Value {
    Value::Object(
        item.0.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>(),
    )
}

fn title(key: &str) -> String {
    key.replace('_', " ")
}

fn table(items: &[Item]) -> Table {
    let first = items.first().map(|item| item.0.as_slice()).unwrap_or_default();
    let columns: Vec<_> = first
        .iter()
        .map(|(key, value)| (*key, if value.is_number() { Right } else { Left }))
        .collect();
    let mut table = Table::new(&columns);
    for item in items {
        table.row(item.0.iter().map(|(_, value)| Span::new(Tone::Normal, text(value))).collect());
    }
    table
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => crate::text::printable(text),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(key, value)| format!("{key}={}", text(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(shown: Shown, json: bool) -> String {
        let mut out = Vec::new();
        shown.write(json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn items() -> Vec<Item> {
        let item = |name: &str, n: u32| {
            Item::new()
                .with("name", name)
                .with("n", n)
                .with_some("pod", "")
                .with("a", vec!["x", "y"])
        };
        vec![item("web", 7), item("db-0", 1000)]
    }

    #[test]
    fn people_read_tables_and_programs_json() {
        let table = written(Shown::Many { items: items(), empty: "none" }, false);
        assert_eq!(table, "name     n  pod  a\nweb      7  -    x, y\ndb-0  1000  -    x, y\n");
        let json = written(Shown::Many { items: items(), empty: "none" }, true);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&json[1]["n"], &json[0]["pod"], &json[0]["a"][1]),
            (&1000.into(), &Value::Null, &"y".into())
        );
        assert_eq!(written(Shown::Many { items: Vec::new(), empty: "none" }, false), "none\n");
        assert_eq!(written(Shown::Many { items: Vec::new(), empty: "none" }, true), "[]\n");
        let done = || Shown::Done("it is done".to_owned(), Item::new().with("created", true));
        assert_eq!(written(done(), false), "it is done\n");
        assert_eq!(written(done(), true), "{\n  \"created\": true\n}\n");
        let secret = || Shown::Value { version: 3, value: Zeroizing::new(b"a\x1b\xff\n".to_vec()) };
        let json: Value = serde_json::from_str(&written(secret(), true)).unwrap();
        assert_eq!((&json["version"], &json["value_base64"]), (&3.into(), &"YRv/Cg==".into()));
        let one =
            written(Shown::One(Item::new().with("id", "a\x1bb").with("created_ms", 1)), false);
        assert_eq!(one, "id          a\u{fffd}b\ncreated ms  1\n");
    }

    #[test]
    fn what_belongs_to_a_thing_is_a_table_below_it_and_a_list_in_it() {
        let whole = || {
            let lists = vec![("peers", items()), ("others", Vec::new())];
            Shown::Whole { item: Item::new().with("id", "host-a"), lists }
        };
        let expected = "id  host-a\n\npeers:\n  name     n  pod  a\n  web      7  -    x, y\n  db-0  1000  -    x, y\n";
        assert_eq!(written(whole(), false), expected);
        let json: Value = serde_json::from_str(&written(whole(), true)).unwrap();
        assert_eq!((&json["id"], &json["peers"][1]["n"]), (&"host-a".into(), &1000.into()));
        assert_eq!(json["others"], Value::Array(Vec::new()));
    }
}
