//! A way to the control plane that can lose its answers.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// Connections to one address.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    loses_answers: watch::Sender<bool>,
    _running: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let loses_answers = watch::Sender::new(false);
        let mut running = JoinSet::new();
        let seen = loses_answers.subscribe();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(carry(stream, target, seen.clone()));
            }
        });
        Self { address, loses_answers, _running: running }
    }

    /// Questions arrive and answers are lost from now on.
    pub(crate) fn lose_answers(&self) {
        self.loses_answers.send_replace(true);
    }

    /// Every connection ends, and new ones are as ever.
    pub(crate) fn begin_again(&self) {
        self.loses_answers.send_replace(false);
    }
}

async fn carry(stream: TcpStream, target: SocketAddr, mut loses_answers: watch::Receiver<bool>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (mut asks, mut hears) = stream.into_split();
    let (mut answers, mut is_asked) = server.into_split();
    let (mut question, mut answer) = ([0; 16_384], [0; 16_384]);
    let mut is_lossy = *loses_answers.borrow_and_update();
    loop {
        tokio::select! {
            read = asks.read(&mut question) => match read {
                Ok(len @ 1..) if is_asked.write_all(&question[..len]).await.is_ok() => {}
                _ => return,
            },
            read = answers.read(&mut answer) => match read {
                Ok(1..) if is_lossy => {}
                Ok(len @ 1..) if hears.write_all(&answer[..len]).await.is_ok() => {}
                _ => return,
            },
            changed = loses_answers.changed() => {
                is_lossy = *loses_answers.borrow_and_update();
                if changed.is_err() || !is_lossy {
                    return;
                }
            }
        }
    }
}
