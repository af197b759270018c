//! What a person sees: steps, progress, checks. Plain lines when it is no terminal.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

/// How many steps the demo has.
const STEPS: u32 = 10;
const BAR: usize = 24;
const FRAME: Duration = Duration::from_millis(80);

/// The terminal.
pub(crate) struct Screen {
    terminal: bool,
    colour: bool,
    step: AtomicU32,
    start: Instant,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none();
        Self { terminal, colour, step: AtomicU32::new(0), start: Instant::now() }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The beginning and the end.
    pub(crate) fn title(&self, text: &str) {
        let seconds = self.start.elapsed().as_secs();
        let time = if seconds > 0 { format!("  ({seconds} s)") } else { String::new() };
        println!("\n{}{}", self.paint("1;36", text), self.paint("2", &time));
    }

    /// A new step.
    pub(crate) fn step(&self, text: &str) {
        let number = self.step.fetch_add(1, Ordering::Relaxed) + 1;
        let counter = self.paint("2", &format!("[{number}/{STEPS}]"));
        println!("\n{counter} {}", self.paint("1", text));
    }

    /// Something that was proven.
    pub(crate) fn check(&self, text: &str) {
        println!("  {} {text}", self.paint("1;32", "✔"));
    }

    /// Something to know.
    pub(crate) fn note(&self, text: &str) {
        println!("    {}", self.paint("2", text));
    }

    /// What a command printed.
    pub(crate) fn quote(&self, command: &str, text: &str) {
        println!("    {}", self.paint("33", &format!("$ {command}")));
        for line in text.trim_end().lines() {
            println!("    {line}");
        }
    }

    /// The end of a run that went wrong.
    pub(crate) fn failure(&self, text: &str) {
        eprintln!("\n{} {text}", self.paint("1;31", "✘"));
    }

    /// A line of a table: a name, a bar as long as the share of the best, a value.
    pub(crate) fn bar(&self, name: &str, share: f64, value: &str) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0 and BAR"
        )]
        let filled = (share * 24.0).round().clamp(0.0, 24.0) as usize;
        let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR - filled));
        println!("    {name:34} {} {value}", self.paint("36", &bar));
    }

    /// Shows progress while `work` runs, which takes about `seconds`.
    pub(crate) fn during<T>(
        &self,
        what: &str,
        seconds: f64,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if !self.terminal {
            println!("    {what} ...");
            return work();
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // `work` stays on this thread: its children end with the thread that started them.
            let progress = scope.spawn(|| self.animate(what, seconds, &done));
            let result = work();
            done.store(true, Ordering::Relaxed);
            // The animation cannot fail.
            let _ = progress.join();
            result
        })
    }

    fn animate(&self, what: &str, seconds: f64, done: &AtomicBool) {
        let start = Instant::now();
        while !done.load(Ordering::Relaxed) {
            let elapsed = start.elapsed().as_secs_f64();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and BAR"
            )]
            let filled = ((elapsed / seconds).min(1.0) * 24.0) as usize;
            let bar = format!("{}{}", "━".repeat(filled), " ".repeat(BAR - filled));
            print!("\r    {} {what}", self.paint("35", &bar));
            let _ = std::io::stdout().flush();
            std::thread::sleep(FRAME);
        }
        print!("\r\x1b[K");
        let _ = std::io::stdout().flush();
    }
}
