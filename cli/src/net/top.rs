//! `weft net top`: rates of environments and peers, measured each second.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, Write},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::MissedTickBehavior,
};
use weft_api::v1::{EnvironmentStatus, SessionState, StatusResponse};

use super::{
    arguments::{TopArguments, or_all},
    call::{self, Client, connect},
    rate::{Between, Rates},
    screen::{Input, Screen, inputs},
    status,
};
use crate::{
    format::{bit_rate, packet_rate},
    text::{
        Align::{Left, Right},
        Line, Span, Style, Table, Tone,
    },
};

/// Time between two measurements.
const INTERVAL: Duration = Duration::from_secs(1);
/// Measurements that the small graph of an environment shows.
const HISTORY_LEN_MAX: usize = 30;

/// Measures once and prints.
pub(crate) async fn once(
    arguments: &TopArguments,
    style: Style,
    out: &mut impl Write,
) -> Result<()> {
    let environment = or_all(arguments.env.as_ref());
    let mut client = connect(&arguments.socket.socket).await?;
    let old = call::status(&mut client, &environment).await?;
    tokio::time::sleep(INTERVAL).await;
    let now = call::status(&mut client, &environment).await?;
    let mut view = View::default();
    view.take(old);
    view.take(now);
    for line in view.lines() {
        writeln!(out, "{}", line.paint(style, usize::MAX))?;
    }
    Ok(())
}

/// Measures and shows until the person has seen enough.
pub(crate) async fn live(arguments: &TopArguments, style: Style) -> Result<()> {
    let environment = or_all(arguments.env.as_ref());
    // What is wrong from the start is said on the ordinary screen.
    let mut client = connect(&arguments.socket.socket).await?;
    let mut view = View::default();
    view.take(call::status(&mut client, &environment).await?);

    let stopped = stopped().context("cannot wait for signals")?;
    tokio::pin!(stopped);
    let mut screen = Screen::enter().context("cannot use the terminal")?;
    let mut inputs = inputs().context("cannot read keys")?;
    let mut samples = sample(client, environment);
    loop {
        screen.draw(&view.screen(), style)?;
        tokio::select! {
            Some(answer) = samples.recv() => match answer {
                Ok(status) => view.take(status),
                Err(error) => view.lost(&error),
            },
            input = inputs.recv() => match input {
                Some(Input::Redraw) => {}
                Some(Input::Quit) | None => return Ok(()),
            },
            () = &mut stopped => return Ok(()),
        }
    }
}

/// Ends when a signal asks the process to end. They are awaited from the call on.
fn stopped() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut quit = signal(SignalKind::quit())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
    })
}

/// Asks the daemon each interval, apart from the drawing, so that one that hangs does not hold up
/// the keys.
fn sample(mut client: Client, environment: String) -> mpsc::Receiver<Result<StatusResponse>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is now, and the first answer is there already.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if sender.send(call::status(&mut client, &environment).await).await.is_err() {
                return;
            }
        }
    });
    receiver
}

/// What was measured so far.
#[derive(Debug, Default)]
struct View {
    old: Option<StatusResponse>,
    now: Option<StatusResponse>,
    /// Bits per second, both directions, of each environment, the oldest first.
    history: HashMap<String, VecDeque<f64>>,
    /// Why there is no newer answer.
    error: Option<String>,
}

impl View {
    fn take(&mut self, status: StatusResponse) {
        self.error = None;
        self.old = self.now.replace(status);
        let (Some(old), Some(now)) = (&self.old, &self.now) else {
            return;
        };
        let between = Between::new(old, now);
        self.history.retain(|id, _| now.environments.iter().any(|e| e.id == *id));
        for environment in &now.environments {
            let rates = between.map(|b| environment_rates(environment, b)).unwrap_or_default();
            let history = self.history.entry(environment.id.clone()).or_default();
            if history.len() == HISTORY_LEN_MAX {
                history.pop_front();
            }
            history.push_back(rates.rx_bits + rates.tx_bits);
        }
    }

    fn lost(&mut self, error: &anyhow::Error) {
        self.error = Some(format!("{error:#}"));
        self.old = None;
    }

    /// The lines for the full screen.
    fn screen(&self) -> Vec<Line> {
        let mut lines = self.lines();
        lines.push(Line::default());
        if let Some(error) = &self.error {
            lines.push(Line::default().and(Tone::Bad, error).and(Tone::Faint, "; trying again"));
        }
        lines.push(Line::default().and(Tone::Faint, "q quits"));
        lines
    }

    fn lines(&self) -> Vec<Line> {
        let Some(now) = &self.now else {
            return Vec::new();
        };
        let between = self.old.as_ref().and_then(|old| Between::new(old, now));
        let mut lines = vec![status::head(now), Line::default()];
        if now.environments.is_empty() {
            lines.push(Line::default().and(Tone::Faint, "no environments"));
            return lines;
        }
        let mut table = Table::new(&[
            ("ENVIRONMENT, PEER", Left),
            ("SESSION", Left),
            ("RECEIVES", Right),
            ("SENDS", Right),
            ("RECEIVES", Right),
            ("SENDS", Right),
            ("DROPS", Right),
            ("LAST 30 S", Left),
        ]);
        for environment in &now.environments {
            self.rows(environment, between, &mut table);
        }
        lines.extend(table.lines(0));
        lines
    }

    fn rows(
        &self,
        environment: &EnvironmentStatus,
        between: Option<Between<'_>>,
        table: &mut Table,
    ) {
        let established = |state| state == SessionState::Established;
        let peers = environment.peers.len();
        let up = environment.peers.iter().filter(|p| established(p.state())).count();
        let tone = if up == peers { Tone::Normal } else { Tone::Busy };
        let drops = between.and_then(|b| b.drops(environment));
        let drops = match drops {
            Some(rate) if rate > 0.0 => Span::new(Tone::Busy, packet_rate(rate)),
            Some(_) => Span::new(Tone::Faint, packet_rate(0.0)),
            None => Span::new(Tone::Normal, ""),
        };
        let mut row = vec![
            Span::new(Tone::Strong, &environment.id),
            Span::new(tone, format!("{up} of {peers}")),
        ];
        row.extend(rate_cells(between.map(|b| environment_rates(environment, b))));
        row.extend([drops, Span::new(Tone::Good, graph(self.history.get(&environment.id)))]);
        table.row(row);
        for peer in &environment.peers {
            let rates =
                between.and_then(|b| b.peer(&environment.id, &peer.host, peer.traffic.as_ref()));
            let mut row =
                vec![Span::new(Tone::Normal, format!("  {}", peer.host)), status::session(peer)];
            row.extend(rate_cells(rates));
            table.row(row);
        }
    }
}

/// What the containers of an environment on this host receive and send together.
fn environment_rates(environment: &EnvironmentStatus, between: Between<'_>) -> Rates {
    let of = |a: &weft_api::v1::AttachmentStatus| {
        between.attachment(&environment.id, &a.name, a.traffic.as_ref())
    };
    let rates = environment.attachments.iter().filter_map(of);
    rates.fold(Rates::default(), |sum, rates| sum + rates)
}

fn rate_cells(rates: Option<Rates>) -> [Span; 4] {
    let cell = |text: fn(f64) -> String, of: fn(&Rates) -> f64| match &rates {
        Some(rates) if of(rates) > 0.0 => Span::new(Tone::Normal, text(of(rates))),
        Some(_) => Span::new(Tone::Faint, text(0.0)),
        None => Span::new(Tone::Normal, ""),
    };
    [
        cell(bit_rate, |r| r.rx_bits),
        cell(bit_rate, |r| r.tx_bits),
        cell(packet_rate, |r| r.rx_packets),
        cell(packet_rate, |r| r.tx_packets),
    ]
}

/// A bar per measurement, the highest eight eighths.
fn graph(history: Option<&VecDeque<f64>>) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = || history.into_iter().flatten();
    let most = values().copied().fold(0.0, f64::max);
    values()
        .map(|value| {
            let eighths = if most > 0.0 { (value / most * 8.0).ceil() } else { 0.0 };
            let bar = (0_u8..9).find(|i| f64::from(*i) >= eighths).unwrap_or(8);
            BARS[usize::from(bar)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_shows_what_is_above_nothing() {
        let history = VecDeque::from([0.0, 1.0, 400.0, 800.0]);
        assert_eq!(graph(Some(&history)), " ▁▄█");
        assert_eq!(graph(Some(&VecDeque::from([0.0]))), " ");
        assert_eq!(graph(None), "");
    }

    #[test]
    fn history_is_bounded_and_forgets_what_is_gone() {
        let environment =
            EnvironmentStatus { id: "acme".to_owned(), ..EnvironmentStatus::default() };
        let sample = |at, environments| StatusResponse {
            sampled_at_ms: at,
            environments,
            ..StatusResponse::default()
        };
        let mut view = View::default();
        for at in 0..100 {
            view.take(sample(at, vec![environment.clone()]));
        }
        assert_eq!(view.history["acme"].len(), HISTORY_LEN_MAX);
        view.take(sample(100, Vec::new()));
        assert!(view.history.is_empty());
    }
}
