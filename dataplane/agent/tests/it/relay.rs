//! A way to the control plane that can lose its answers, or stand still.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// What becomes of what is said.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Carry,
    LoseAnswers,
    StandStill,
}

/// Connections to one address.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    does: watch::Sender<Does>,
    _running: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        Self::at("127.0.0.1:0", target).await
    }

    pub(crate) async fn at(place: &str, target: SocketAddr) -> Self {
        let listener = TcpListener::bind(place).await.unwrap();
        let address = listener.local_addr().unwrap();
        let does = watch::Sender::new(Does::Carry);
        let mut running = JoinSet::new();
        let seen = does.subscribe();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(carry(stream, target, seen.clone()));
            }
        });
        Self { address, does, _running: running }
    }

    /// Questions arrive and answers are lost from now on.
    pub(crate) fn lose_answers(&self) {
        self.does.send_replace(Does::LoseAnswers);
    }

    /// Connections are there, new ones too, and nothing goes over them: as the kernel has it for a process that is stopped.
    pub(crate) fn stand_still(&self) {
        self.does.send_replace(Does::StandStill);
    }

    /// Every connection ends, and new ones are as ever.
    pub(crate) fn begin_again(&self) {
        self.does.send_replace(Does::Carry);
    }
}

async fn carry(stream: TcpStream, target: SocketAddr, mut seen: watch::Receiver<Does>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (mut asks, mut hears) = stream.into_split();
    let (mut answers, mut is_asked) = server.into_split();
    let (mut question, mut answer) = ([0; 16_384], [0; 16_384]);
    let mut does = *seen.borrow_and_update();
    loop {
        tokio::select! {
            read = asks.read(&mut question), if does != Does::StandStill => match read {
                Ok(len @ 1..) if is_asked.write_all(&question[..len]).await.is_ok() => {}
                _ => return,
            },
            read = answers.read(&mut answer), if does != Does::StandStill => match read {
                Ok(1..) if does == Does::LoseAnswers => {}
                Ok(len @ 1..) if hears.write_all(&answer[..len]).await.is_ok() => {}
                _ => return,
            },
            changed = seen.changed() => {
                does = *seen.borrow_and_update();
                if changed.is_err() || does == Does::Carry {
                    return;
                }
            }
        }
    }
}
