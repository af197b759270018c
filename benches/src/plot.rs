//! Plots as SVG that needs nothing else: no script, no font, no style sheet from elsewhere.
//!
//! One accent colour marks what is ours, grey what the kernel does without encryption, a muted
//! tone everybody else; lines that cross have a colour each. Both light and dark pages are served by a media query inside the picture.

mod bars;
mod lines;
mod svg;

pub use bars::{Bar, BarChart};
pub use lines::{Axis, Line, LineChart, Scale};
pub use svg::STYLE;
pub(crate) use svg::escape;

/// Whose figure it is; decides the colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Weft's.
    Ours,
    /// The kernel's own way, without encryption: a bound, not a competitor.
    Reference,
    /// Another tunnel's.
    Peer,
    /// One of several lines that have to be told apart: a colour of its own.
    Line(usize),
}

impl Role {
    /// Its class in [`STYLE`].
    fn class(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Reference => "reference",
            Self::Peer => "peer",
            Self::Line(n) => ["c0", "c1", "c2", "c3", "c4", "c5", "c6"][n % 7],
        }
    }
}
