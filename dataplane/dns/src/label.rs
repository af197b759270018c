//! Labels that records give names by.

/// Longest label in bytes (RFC 1035 section 2.3.4).
const LABEL_LEN_MAX: usize = 63;
/// Longest name of a port in bytes (RFC 6335 section 5.1).
const PORT_NAME_LEN_MAX: usize = 15;

/// Why text is not a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Too short or too long.
    #[error("has {0} characters; expected 1 to {1}")]
    Length(usize, usize),
    /// A character that host names do not have (RFC 1123 section 2.1), or upper case.
    #[error("{0:?} is not allowed; expected a-z, 0-9 and '-' (not first or last)")]
    Character(char),
    /// Only digits, where those mean a slot's index.
    #[error("consists of digits; expected a letter, because a number is a slot's index")]
    Number,
}

/// A label of a host name: 1 to 63 characters of `a-z`, `0-9` and `-`, not first or last.
///
/// # Errors
/// [`LabelError`].
pub fn check_label(text: &str) -> Result<(), LabelError> {
    check_length(text, LABEL_LEN_MAX)?;
    if let Some(c) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(LabelError::Character(c));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(LabelError::Character('-'));
    }
    Ok(())
}

/// A label beside which indexes of slots may stand: not a number.
///
/// # Errors
/// [`LabelError`].
pub fn check_word(text: &str) -> Result<(), LabelError> {
    check_label(text)?;
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(LabelError::Number);
    }
    Ok(())
}

/// The name of a port, without the underscore: at most 15 characters, with a letter.
///
/// # Errors
/// [`LabelError`].
pub fn check_port_name(text: &str) -> Result<(), LabelError> {
    check_length(text, PORT_NAME_LEN_MAX)?;
    check_word(text)
}

fn check_length(text: &str, max: usize) -> Result<(), LabelError> {
    if text.is_empty() || text.len() > max {
        return Err(LabelError::Length(text.chars().count(), max));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_host_names() {
        for good in ["a", "web-1", "0", "1a", &"x".repeat(63)] {
            assert_eq!(check_label(good), Ok(()), "{good}");
        }
        assert_eq!(check_label(""), Err(LabelError::Length(0, 63)));
        assert_eq!(check_label(&"x".repeat(64)), Err(LabelError::Length(64, 63)));
        for (bad, c) in [("_tcp", '_'), ("Web", 'W'), ("a.b", '.'), ("-a", '-'), ("a-", '-')] {
            assert_eq!(check_label(bad), Err(LabelError::Character(c)), "{bad}");
        }
    }

    #[test]
    fn a_number_is_no_word_and_ports_are_short() {
        assert_eq!(check_word("17"), Err(LabelError::Number));
        assert_eq!(check_word("1a"), Ok(()));
        assert_eq!(check_port_name("0123456789abcdef"), Err(LabelError::Length(16, 15)));
        assert_eq!(check_port_name("80"), Err(LabelError::Number));
        assert_eq!(check_port_name("http"), Ok(()));
    }
}
