//! `bench-report`: the page and the main plot of a document of `bench-path`, made again.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use weft_benches::document::Document;
use weft_benches::growth::GrowthDocument;
use weft_benches::summary;

/// Writes the page (.html) and throughput.svg of a run beside its document.
#[derive(Debug, Parser)]
struct Options {
    /// What bench-path wrote
    document: PathBuf,
    /// A document of bench-growth that takes the place of the one in the run's
    #[arg(long, value_name = "FILE")]
    growth: Option<PathBuf>,
    /// Write here instead, the document too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut document = Document::read(&options.document)?;
    if let Some(path) = &options.growth {
        document.set_growth(GrowthDocument::read(path)?);
    }
    let json = options.json.as_ref().unwrap_or(&options.document);
    if options.json.is_some() || options.growth.is_some() {
        document.write(json)?;
    }
    println!("{}", summary::write_beside(&document, json)?.display());
    Ok(())
}
