//! Background work: what one process at a time does for all, see [`App::take_turn`].
//!
//! What each process does for itself is not here: it keeps what it hears of hosts, follows keys, and ends its own audit.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use weft_model::liveness::LOOK_INTERVAL;

use crate::{
    app::{App, TURN_LOOK, TURN_RENEW, TURN_TTL, Turn},
    error::AppError,
};

/// How often what is over is removed.
const TIDY_INTERVAL: Duration = Duration::from_secs(30);
/// How long an end waits for the turn to be given away; it ends by itself otherwise.
const STOP_MAX: Duration = Duration::from_secs(5);

/// A task that does background work whenever it is this process's turn.
#[derive(Debug)]
pub struct Background {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Background {
    /// Begins.
    #[must_use]
    pub fn start(app: Arc<App>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move { drop(stopped.await) };
        let task = tokio::spawn(async move { work(&app, stopped).await });
        Self { stop, task }
    }

    /// Ends. Another process may have the turn at once.
    pub async fn stop(self) {
        let Self { stop, mut task } = self;
        drop(stop);
        if timeout(STOP_MAX, &mut task).await.is_err() {
            task.abort();
        }
    }
}

async fn work(app: &App, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    loop {
        // Who does not see what is stored has nothing to do it by.
        let sees = app.view().trouble().borrow().is_none();
        let taken = if sees { app.take_turn().await } else { Ok(None) };
        match taken {
            Ok(Some(turn)) => {
                tracing::info!("background work is done here from now on");
                let is_stopped = tokio::select! {
                    () = &mut stop => true,
                    error = renew(app, &turn) => over(&error),
                    Err(error) = look(app, &turn) => over(&error),
                    Err(error) = tidy(app, &turn) => over(&error),
                    why = is_blind(app) => {
                        tracing::warn!(why, "background work is not done here any more");
                        false
                    }
                };
                if let Err(error) = app.end_turn(turn).await {
                    tracing::warn!(%error, "the turn of background work ends by itself");
                }
                if is_stopped {
                    return;
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "nobody may be doing background work"),
        }
        tokio::select! {
            () = &mut stop => return,
            () = sleep(TURN_LOOK) => {}
        }
    }
}

fn over(error: &AppError) -> bool {
    tracing::warn!(%error, "background work is not done here any more");
    false
}

/// Ends when this process does not see any more what is stored.
async fn is_blind(app: &App) -> String {
    let mut trouble = app.view().trouble();
    let why = trouble.wait_for(Option::is_some).await;
    why.ok().and_then(|why| why.clone()).unwrap_or_default()
}

/// Ends when the turn is over, or has to be taken for that.
async fn renew(app: &App, turn: &Turn) -> AppError {
    let mut renewed = Instant::now();
    loop {
        sleep(TURN_RENEW).await;
        let asked = Instant::now();
        match app.renew_turn(turn).await {
            Ok(()) => renewed = asked,
            Err(AppError::Unavailable | AppError::Full) if renewed.elapsed() < TURN_TTL => {}
            Err(error) => return error,
        }
    }
}

/// Whether the turn is over; everything else is tried again.
fn check(done: Result<(), AppError>, what: &'static str) -> Result<(), AppError> {
    match done {
        Err(AppError::Superseded) => Err(AppError::Superseded),
        Err(error) => {
            tracing::warn!(%error, what, "background work is not done yet");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

async fn look(app: &App, turn: &Turn) -> Result<Infallible, AppError> {
    loop {
        check(app.look_for_lost(turn).await, "to find lost hosts")?;
        sleep(LOOK_INTERVAL).await;
    }
}

async fn tidy(app: &App, turn: &Turn) -> Result<Infallible, AppError> {
    loop {
        check(app.keep_time(turn).await, "to agree on the time")?;
        check(app.tidy(turn).await, "to remove what is over")?;
        check(app.go_on_with_rotations(turn).await, "to rotate authorities")?;
        sleep(TIDY_INTERVAL).await;
    }
}
