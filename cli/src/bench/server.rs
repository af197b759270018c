//! The side that answers.

use std::{
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{
    SECONDS_MAX, STREAMS_MAX, stream, usage,
    wire::{self, Request, What},
};

/// Connections served at once: all streams of two clients, with room for their questions.
const CONNECTIONS_MAX: usize = 2 * STREAMS_MAX as usize + 16;

/// Listens and answers until the process is ended.
///
/// # Errors
/// When the address cannot be listened on.
pub(super) fn run(listen: SocketAddr, socket: &Path) -> Result<()> {
    let listener =
        TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    println!("weft bench: listening on {}", listener.local_addr()?);
    serve(&listener, socket);
    Ok(())
}

/// Serves each connection on a thread of its own.
pub(super) fn serve(listener: &TcpListener, socket: &Path) {
    let open = Arc::new(AtomicUsize::new(0));
    for accepted in listener.incoming() {
        // A client that is gone before it is accepted is none.
        let Ok(connection) = accepted else { continue };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (open, socket) = (Arc::clone(&open), PathBuf::from(socket));
        thread::spawn(move || {
            if let Err(error) = answer(connection, &socket) {
                eprintln!("weft bench: {error:#}");
            }
            open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn answer(mut connection: TcpStream, socket: &Path) -> Result<()> {
    wire::prepare(&connection)?;
    match wire::get::<Request>(&mut connection)?.check()? {
        What::Receive => {
            let counted = stream::receive(&mut connection)?;
            wire::put(&mut connection, &counted)?;
        }
        What::Send { milliseconds } => {
            ensure!(
                (1..=SECONDS_MAX * 1_000).contains(&milliseconds),
                "milliseconds {milliseconds}: expected 1 to {}",
                SECONDS_MAX * 1_000
            );
            stream::send(&mut connection, Duration::from_millis(milliseconds), None)?;
            connection.shutdown(Shutdown::Write)?;
        }
        What::Echo => stream::echo(&mut connection)?,
        What::Usage => wire::put(&mut connection, &usage::now(socket)?)?,
    }
    Ok(())
}
