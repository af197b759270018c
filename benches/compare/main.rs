//! `bench-compare`: what changed between two documents of `bench-path`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use weft_benches::compare::{compare, table};
use weft_benches::document::Document;

/// Compares two runs of bench-path; a change counts when the spreads do not overlap.
#[derive(Debug, Parser)]
struct Options {
    /// The run before
    old: PathBuf,
    /// The run after
    new: PathBuf,
    /// Also what did not change
    #[arg(long)]
    all: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let (old, new) = (Document::read(&options.old)?, Document::read(&options.new)?);
    print!("{}", table(&compare(&old, &new), options.all));
    Ok(())
}
