//! Instruction counts against those that were committed.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A case may change by this much, in percent of the baseline, before it is a finding. Counts do
/// not vary from run to run; the room is for changes of the compiler and of dependencies.
pub const CHANGE_MAX_PERCENT: f64 = 10.0;

/// Instructions of one operation, by case.
pub type Counts = BTreeMap<String, f64>;

/// Counts, and what they were counted with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Kind of processor: libraries choose their code by it, so counts of two kinds say nothing
    /// about each other.
    pub processor: String,
    /// Version of valgrind.
    pub valgrind: String,
    /// Instructions of one operation.
    pub instructions: Counts,
}

/// Why there is no baseline.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// The file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// It is not JSON of the expected form.
    #[error("{}", path.display())]
    Form {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// A count that cannot be one.
    #[error("{}: instructions.{case} is {found}; expected a number above 0", path.display())]
    Count {
        /// Which file.
        path: PathBuf,
        /// Which case.
        case: String,
        /// What it says.
        found: f64,
    },
}

impl Baseline {
    /// Reads the committed file.
    ///
    /// # Errors
    /// [`BaselineError`]
    pub fn read(path: &Path) -> Result<Self, BaselineError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| BaselineError::File { path: path.to_owned(), source })?;
        let baseline: Self = serde_json::from_str(&text)
            .map_err(|source| BaselineError::Form { path: path.to_owned(), source })?;
        match baseline.instructions.iter().find(|(_, count)| **count <= 0.0) {
            Some((case, found)) => Err(BaselineError::Count {
                path: path.to_owned(),
                case: case.clone(),
                found: *found,
            }),
            None => Ok(baseline),
        }
    }

    /// Writes the file to commit.
    ///
    /// # Errors
    /// [`BaselineError`]
    pub fn write(&self, path: &Path) -> Result<(), BaselineError> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|source| BaselineError::Form { path: path.to_owned(), source })?;
        text.push('\n');
        std::fs::write(path, text)
            .map_err(|source| BaselineError::File { path: path.to_owned(), source })
    }
}

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Within [`CHANGE_MAX_PERCENT`].
    Same,
    /// More instructions than allowed.
    Grew,
    /// So many fewer that the baseline no longer guards it.
    Shrank,
    /// Counted, but not in the baseline: nothing guards it yet.
    New,
    /// In the baseline, but no longer counted.
    Missing,
}

/// One case, before and now.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Name of the case.
    pub case: String,
    /// Instructions in the baseline.
    pub before: Option<f64>,
    /// Instructions now.
    pub now: Option<f64>,
    /// What that means.
    pub change: Change,
}

impl Line {
    fn new(case: &str, before: Option<f64>, now: Option<f64>) -> Self {
        let change = match (before, now) {
            (None, _) => Change::New,
            (Some(_), None) => Change::Missing,
            (Some(before), Some(now)) => match percent(before, now) {
                grown if grown > CHANGE_MAX_PERCENT => Change::Grew,
                grown if grown < -CHANGE_MAX_PERCENT => Change::Shrank,
                _ => Change::Same,
            },
        };
        Self { case: case.to_owned(), before, now, change }
    }

    /// Whether the guard lets it pass. A case without baseline does not pass, nor does a baseline
    /// without its case: neither is guarded.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self.change, Change::Same | Change::Shrank)
    }
}

/// Growth in percent of `before`.
fn percent(before: f64, now: f64) -> f64 {
    (now - before) / before * 100.0
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |count: Option<f64>| count.map_or("-".to_owned(), |count| format!("{count:.1}"));
        write!(f, "{:10}{:>12}{:>12}  ", self.case, show(self.before), show(self.now))?;
        if let (Some(before), Some(now)) = (self.before, self.now) {
            write!(f, "{:+6.1} %", percent(before, now))?;
        } else {
            write!(f, "{:8}", "")?;
        }
        match self.change {
            Change::Same => Ok(()),
            Change::Grew => write!(f, "  GREW by more than {CHANGE_MAX_PERCENT} %"),
            Change::Shrank => write!(f, "  shrank: the baseline should be renewed"),
            Change::New => write!(f, "  NOT IN THE BASELINE"),
            Change::Missing => write!(f, "  NO SUCH CASE any more"),
        }
    }
}

/// Every case of either, by name.
#[must_use]
pub fn compare(before: &Counts, now: &Counts) -> Vec<Line> {
    let names: std::collections::BTreeSet<_> = before.keys().chain(now.keys()).collect();
    let line = |name: &String| Line::new(name, before.get(name).copied(), now.get(name).copied());
    names.into_iter().map(line).collect()
}

/// What the guard has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The table, and what there is to do.
    pub text: String,
    /// Whether it may go on.
    pub passes: bool,
}

/// Holds `now` against the baseline; `renew` is the command that renews it. Counts of another kind
/// of processor are shown and pass: they say nothing.
#[must_use]
pub fn judge(before: &Baseline, now: &Baseline, renew: &str) -> Verdict {
    let mut text =
        format!("{:10}{:>12}{:>12}  instructions per operation\n", "case", "baseline", "now");
    if before.processor != now.processor {
        for (case, count) in &now.instructions {
            text += &format!("{case:10}{:>12}{count:>12.1}\n", "-");
        }
        text += &format!(
            "Not compared: the baseline is of another kind of processor ({}; this is {}).\n",
            before.processor, now.processor
        );
        return Verdict { text, passes: true };
    }
    let lines = compare(&before.instructions, &now.instructions);
    for line in &lines {
        text += &format!("{line}\n");
    }
    let names = |pick: &dyn Fn(&Line) -> bool| {
        let picked: Vec<_> = lines.iter().filter(|l| pick(l)).map(|l| l.case.as_str()).collect();
        picked.join(", ")
    };
    let (failed, shrank) = (names(&|l| !l.passes()), names(&|l| l.change == Change::Shrank));
    if !failed.is_empty() && before.valgrind != now.valgrind {
        text += &format!("The baseline is from {}, this is {}.\n", before.valgrind, now.valgrind);
    }
    if !failed.is_empty() {
        text += &format!("Not passed: {failed}. If that is on purpose: {renew}\n");
    }
    if !shrank.is_empty() {
        text += &format!("Renew the baseline, so that it guards the gain in {shrank}: {renew}\n");
    }
    Verdict { text, passes: failed.is_empty() }
}

#[cfg(test)]
mod tests;
