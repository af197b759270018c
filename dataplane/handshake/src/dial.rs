//! Connecting to a peer's endpoint without waiting for a lost SYN.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    time::Duration,
};

use tokio::{
    net::{TcpSocket, TcpStream},
    select,
    time::{Instant, sleep, timeout_at},
};

/// When a second connection is begun beside one that is not established yet. The kernel itself
/// repeats a lost SYN after 1 s, then 2 s, 4 s: racing halves the wait after two losses, and gets
/// around a path that drops just this flow.
pub const RACE_AFTER: Duration = Duration::from_secs(1);

/// Connects to `endpoint`, from `local` if it is given and specified. A second connection is begun
/// after [`RACE_AFTER`]; the first that is established is returned and the other is dropped.
///
/// # Errors
/// The connection's own error, or [`io::ErrorKind::TimedOut`] at `deadline`.
pub async fn dial(
    endpoint: SocketAddr,
    local: Option<IpAddr>,
    deadline: Instant,
) -> io::Result<TcpStream> {
    timeout_at(deadline, race(|| connect(endpoint, local)))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}

/// Runs one attempt, and a second beside it once the first takes longer than [`RACE_AFTER`]. An
/// early failure is returned at once; a late one leaves the other attempt its chance.
async fn race<T, F>(attempt: impl Fn() -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut first = pin!(attempt());
    select! {
        done = &mut first => return done,
        () = sleep(RACE_AFTER) => {}
    }
    let mut second = pin!(attempt());
    select! {
        done = &mut first => match done {
            Ok(stream) => Ok(stream),
            Err(_) => second.await,
        },
        done = &mut second => match done {
            Ok(stream) => Ok(stream),
            Err(_) => first.await,
        },
    }
}

async fn connect(endpoint: SocketAddr, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = match endpoint {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(local) = local.filter(|l| !l.is_unspecified() && l.is_ipv4() == endpoint.is_ipv4())
    {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(endpoint).await
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        future::{pending, ready},
    };

    use super::*;

    #[tokio::test]
    async fn connects() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let local = "127.0.0.2".parse().unwrap();
        let stream = dial(endpoint, Some(local), deadline).await.unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), local);
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_refused_connection_is_an_error_at_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap();
        drop(listener);
        let deadline = Instant::now() + Duration::from_secs(5);
        let error = dial(endpoint, None, deadline).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_attempt_is_raced_after_a_second() {
        let begun = Instant::now();
        let attempts = Cell::new(0);
        let result = race(|| {
            attempts.set(attempts.get() + 1);
            let number = attempts.get();
            async move {
                match number {
                    1 => pending().await,
                    n => Ok(n),
                }
            }
        });
        assert_eq!(result.await.unwrap(), 2);
        assert_eq!(begun.elapsed(), RACE_AFTER);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_failure_leaves_the_other_attempt() {
        for failing in [1, 2] {
            let attempts = Cell::new(0);
            let result = race(|| {
                attempts.set(attempts.get() + 1);
                let number = attempts.get();
                async move {
                    sleep(Duration::from_secs(3)).await;
                    if number == failing {
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    }
                    Ok(number)
                }
            });
            assert_eq!(result.await.unwrap(), 3 - failing);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_at_the_deadline() {
        let never =
            timeout_at(Instant::now() + Duration::from_secs(10), race(pending::<io::Result<()>>));
        assert!(never.await.is_err());
        assert!(race(|| ready(Ok(()))).await.is_ok());
    }
}
