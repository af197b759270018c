//! The terminal as a full screen, and what was there before when it ends, however it ends.
//!
//! Leaving is done by a guard's drop, so by every return and by unwinding; a panic leaves first
//! and prints its message on the ordinary screen. Signals are the caller's to wait for.

use std::{
    io::{self, Write, stdout},
    panic,
    sync::Once,
    thread,
    time::Duration,
};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    execute, queue,
    terminal::{
        self, Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen,
        LeaveAlternateScreen,
    },
};
use tokio::sync::mpsc;

use crate::text::{Line, Style, Tone};

/// How often the reader of keys looks whether somebody still listens.
const POLL: Duration = Duration::from_millis(100);
/// Size to assume when the terminal does not tell.
const SIZE_DEFAULT: (u16, u16) = (80, 24);

/// The full screen; dropping it gives the terminal back.
#[derive(Debug)]
pub(crate) struct Screen(());

impl Screen {
    /// Takes the terminal.
    pub(crate) fn enter() -> io::Result<Self> {
        leave_before_panic_message();
        terminal::enable_raw_mode()?;
        // From here on the guard undoes whatever of this succeeds.
        let screen = Self(());
        execute!(stdout(), EnterAlternateScreen, Hide, DisableLineWrap)?;
        Ok(screen)
    }

    /// Shows `lines` from the top, as much as fits.
    pub(crate) fn draw(&mut self, lines: &[Line], style: Style) -> io::Result<()> {
        let (columns, rows) = terminal::size().unwrap_or(SIZE_DEFAULT);
        let mut out = io::BufWriter::new(stdout().lock());
        for (row, line) in (0..rows).zip(visible(lines, usize::from(rows))) {
            let text = line.paint(style, usize::from(columns));
            queue!(out, MoveTo(0, row), Clear(ClearType::UntilNewLine))?;
            out.write_all(text.as_bytes())?;
        }
        queue!(out, Clear(ClearType::FromCursorDown))?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// The lines that fit, the last of them a count of those that do not.
fn visible(lines: &[Line], rows: usize) -> Vec<Line> {
    if lines.len() <= rows {
        return lines.to_vec();
    }
    let kept = rows.saturating_sub(1);
    let hidden = lines.len() - kept;
    let mut visible = lines[..kept].to_vec();
    visible.push(Line::default().and(Tone::Faint, format!("{hidden} more lines")));
    visible
}

fn leave() {
    // There is nobody to tell and nothing else to try.
    let _ = execute!(stdout(), EnableLineWrap, Show, LeaveAlternateScreen);
    let _ = terminal::disable_raw_mode();
}

fn leave_before_panic_message() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            leave();
            previous(info);
        }));
    });
}

/// What the person at the terminal wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Quit,
    /// The size changed.
    Redraw,
}

/// Reads keys on a thread of its own until the receiver is dropped. The channel closes when the
/// terminal is gone.
pub(crate) fn inputs() -> io::Result<mpsc::UnboundedReceiver<Input>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while !sender.is_closed() {
            match event::poll(POLL) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(_) => return,
            }
            let Ok(event) = event::read() else { return };
            if let Some(input) = meaning(&event) {
                // A receiver that is gone ends the loop.
                let _ = sender.send(input);
            }
        }
    })?;
    Ok(receiver)
}

fn meaning(event: &Event) -> Option<Input> {
    match event {
        Event::Resize(..) => Some(Input::Redraw),
        Event::Key(key) if key.kind != KeyEventKind::Release => quits(key).then_some(Input::Quit),
        _ => None,
    }
}

/// In raw mode control-C is a key like any other.
fn quits(key: &KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => true,
        KeyCode::Char('c' | 'd') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let lines: Vec<_> =
            (0..5).map(|i| Line::default().and(Tone::Normal, i.to_string())).collect();
        let texts = |rows| -> Vec<_> {
            visible(&lines, rows).iter().map(|l| l.paint(Style::Plain, 80)).collect()
        };
        assert_eq!(texts(5), ["0", "1", "2", "3", "4"]);
        assert_eq!(texts(3), ["0", "1", "3 more lines"]);
    }

    #[test]
    fn keys_that_quit() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        let none = KeyModifiers::NONE;
        assert_eq!(meaning(&key(KeyCode::Char('q'), none)), Some(Input::Quit));
        assert_eq!(meaning(&key(KeyCode::Char('c'), KeyModifiers::CONTROL)), Some(Input::Quit));
        assert_eq!(meaning(&key(KeyCode::Char('c'), none)), None);
        assert_eq!(meaning(&Event::Resize(1, 1)), Some(Input::Redraw));
    }
}
