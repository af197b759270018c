//! What the store holds of an owner's key: JSON, which a person can read.
//!
//! ```text
//!  {"record":"live/1","created":1796020090,"master":"4f0c6a1e9d2b7788","wrapped":"…hexadecimal…"}
//!  {"record":"destroyed/1","created":1796020090,"destroyed":1827556090}
//! ```

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::kms::{WRAPPED_LEN_MAX, Wrapped};

/// What the store holds of an owner's key; see the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// It is there.
    Live {
        /// When it was made, seconds after 1970.
        created: u64,
        /// The key.
        wrapped: Wrapped,
    },
    /// It is gone for good.
    Destroyed {
        /// When it was made, seconds after 1970.
        created: u64,
        /// When it was destroyed, seconds after 1970.
        destroyed: u64,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "record", deny_unknown_fields)]
enum Document {
    #[serde(rename = "live/1")]
    Live { created: u64, master: String, wrapped: String },
    #[serde(rename = "destroyed/1")]
    Destroyed { created: u64, destroyed: u64 },
}

impl Record {
    /// Reads what [`Record::encode`] wrote.
    ///
    /// # Errors
    /// What is wrong, in one sentence, without anything of a key.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document = serde_json::from_slice(bytes)
            .map_err(|error| format!("no record of a key ({:?})", error.classify()))?;
        Ok(match document {
            Document::Destroyed { created, destroyed } => Self::Destroyed { created, destroyed },
            Document::Live { created, master, wrapped } => {
                let master = master.parse().map_err(|_| "master is no id of a master key")?;
                let bytes = HEXLOWER.decode(wrapped.as_bytes());
                let bytes = bytes.map_err(|_| "wrapped is not hexadecimal in lower case")?;
                if bytes.len() > WRAPPED_LEN_MAX {
                    return Err(format!("wrapped is longer than {WRAPPED_LEN_MAX} bytes"));
                }
                Self::Live { created, wrapped: Wrapped { master, bytes } }
            }
        })
    }

    /// The bytes that [`Record::parse`] reads.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let document = match self {
            Self::Live { created, wrapped } => Document::Live {
                created: *created,
                master: wrapped.master.to_string(),
                wrapped: HEXLOWER.encode(&wrapped.bytes),
            },
            Self::Destroyed { created, destroyed } => {
                Document::Destroyed { created: *created, destroyed: *destroyed }
            }
        };
        serde_json::to_vec(&document).expect("numbers and texts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip() {
        let wrapped = Wrapped { master: "a1".parse().unwrap(), bytes: vec![1, 0xff] };
        let live = Record::Live { created: 7, wrapped };
        let text = r#"{"record":"live/1","created":7,"master":"a1","wrapped":"01ff"}"#;
        assert_eq!(String::from_utf8(live.encode()).unwrap(), text);
        assert_eq!(Record::parse(text.as_bytes()), Ok(live));
        let gone = Record::Destroyed { created: 7, destroyed: 8 };
        let text = r#"{"record":"destroyed/1","created":7,"destroyed":8}"#;
        assert_eq!(String::from_utf8(gone.encode()).unwrap(), text);
        assert_eq!(Record::parse(text.as_bytes()), Ok(gone));
    }

    #[test]
    fn nothing_else_is_a_record() {
        let long = "00".repeat(WRAPPED_LEN_MAX + 1);
        for (text, problem) in [
            ("", "no record of a key (Eof)".to_owned()),
            (r#"{"record":"live/2"}"#, "no record of a key (Data)".to_owned()),
            (
                r#"{"record":"destroyed/1","created":7,"destroyed":8,"x":1}"#,
                "no record of a key (Data)".to_owned(),
            ),
            (
                r#"{"record":"live/1","created":7,"master":"a b","wrapped":""}"#,
                "master is no id of a master key".to_owned(),
            ),
            (
                r#"{"record":"live/1","created":7,"master":"a","wrapped":"FF"}"#,
                "wrapped is not hexadecimal in lower case".to_owned(),
            ),
            (
                &format!(r#"{{"record":"live/1","created":7,"master":"a","wrapped":"{long}"}}"#),
                "wrapped is longer than 1024 bytes".to_owned(),
            ),
        ] {
            assert_eq!(Record::parse(text.as_bytes()), Err(problem), "{text}");
        }
    }
}
