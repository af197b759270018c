//! Copies of the file.
