//! Both ends of the socket, in a temporary folder.
#![cfg(test)]

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_stream::Empty;
use tonic::{Request, Response, Status, async_trait, transport::Server};
use weft_api::{
    BindError, ConnectError, Listener, SOCKET_PATH_LEN_MAX, client, connect,
    v1::{
        AddPeerRequest, AddPeerResponse, AttachRequest, AttachResponse, DetachRequest,
        DetachResponse, Event, RemovePeerRequest, RemovePeerResponse, SetRoutesRequest,
        SetRoutesResponse, StatusRequest, StatusResponse, WatchEventsRequest,
        local_api_server::{LocalApi, LocalApiServer},
    },
};

/// A daemon that knows its host's name and nothing else.
struct Fake;

type Reply<T> = Result<Response<T>, Status>;

fn nothing<T>() -> Reply<T> {
    Err(Status::not_found("there is no environment here"))
}

#[async_trait]
impl LocalApi for Fake {
    type WatchEventsStream = Empty<Result<Event, Status>>;

    async fn status(&self, _: Request<StatusRequest>) -> Reply<StatusResponse> {
        Ok(Response::new(StatusResponse { host: "host-a".to_owned(), ..StatusResponse::default() }))
    }
    async fn attach(&self, _: Request<AttachRequest>) -> Reply<AttachResponse> {
        nothing()
    }
    async fn detach(&self, _: Request<DetachRequest>) -> Reply<DetachResponse> {
        nothing()
    }
    async fn add_peer(&self, _: Request<AddPeerRequest>) -> Reply<AddPeerResponse> {
        nothing()
    }
    async fn remove_peer(&self, _: Request<RemovePeerRequest>) -> Reply<RemovePeerResponse> {
        nothing()
    }
    async fn set_routes(&self, _: Request<SetRoutesRequest>) -> Reply<SetRoutesResponse> {
        nothing()
    }
    async fn watch_events(
        &self,
        _: Request<WatchEventsRequest>,
    ) -> Reply<Empty<Result<Event, Status>>> {
        nothing()
    }
}

fn bind(path: &Path) -> Result<Listener, BindError> {
    weft_api::bind(path).map(|bound| bound.listen().unwrap())
}

fn serve(listener: Listener) -> JoinHandle<()> {
    tokio::spawn(async move {
        Server::builder().serve_with_incoming(LocalApiServer::new(Fake), listener).await.unwrap();
    })
}

async fn host(path: &Path) -> String {
    let channel = connect(path).await.unwrap();
    client(channel).status(StatusRequest::default()).await.unwrap().into_inner().host
}

#[tokio::test]
async fn a_call_crosses_the_socket() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run/weft/weftd.sock");
    let server = serve(bind(&path).unwrap());
    assert_eq!(host(&path).await, "host-a");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    server.abort();
}

#[tokio::test]
async fn the_socket_goes_with_its_listener() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weftd.sock");
    drop(bind(&path).unwrap());
    assert!(!path.exists());

    let old = bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let new = bind(&path).unwrap();
    drop(old);
    assert!(path.exists(), "the path is another listener's by now");
    drop(new);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weftd.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "as after a kill");
    let server = serve(bind(&path).unwrap());
    assert_eq!(host(&path).await, "host-a");

    let error = bind(&path).unwrap_err();
    assert!(matches!(error, BindError::InUse(_)), "{error}");
    assert_eq!(error.to_string(), format!("another weftd already listens on {}", path.display()));
    assert_eq!(host(&path).await, "host-a", "the refusal left it alone");
    server.abort();
}

#[tokio::test]
async fn a_daemon_that_hangs_is_alive() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weftd.sock");
    let _never_accepts = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(matches!(bind(&path), Err(BindError::InUse(_))));
}

#[tokio::test]
async fn what_is_no_socket_is_not_removed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weftd.sock");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(bind(&path), Err(BindError::NotASocket(_))));
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
    assert!(matches!(bind(&path), Err(BindError::NotASocket(_))));
}

#[tokio::test]
async fn who_is_not_there_is_said_to_be_so() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weftd.sock");
    let error = connect(&path).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoSocket(_)), "{error}");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = connect(&path).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotRunning(_)), "{error}");
    let long = folder.path().join("x".repeat(SOCKET_PATH_LEN_MAX));
    let error = connect(&long).await.unwrap_err();
    assert!(matches!(error, ConnectError::PathTooLong(_)), "{error}");
    assert!(matches!(bind(&long), Err(BindError::PathTooLong(_))));
}

#[tokio::test]
async fn the_longest_path_works() {
    let folder = TempDir::new().unwrap();
    let fill = SOCKET_PATH_LEN_MAX - folder.path().as_os_str().len() - 1;
    let path = folder.path().join("x".repeat(fill));
    let server = serve(bind(&path).unwrap());
    assert_eq!(host(&path).await, "host-a");
    server.abort();
}

#[tokio::test]
async fn a_channel_survives_a_restart() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weftd.sock");
    let server = serve(bind(&path).unwrap());
    let mut client = client(connect(&path).await.unwrap());
    client.status(StatusRequest::default()).await.unwrap();
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    let server = serve(bind(&path).unwrap());
    let mut tries = 0;
    while client.status(StatusRequest::default()).await.is_err() {
        tries += 1;
        assert!(tries < 20, "the channel never came back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.abort();
}

#[tokio::test]
async fn other_errors_keep_their_cause() {
    let error = connect(Path::new("/dev/null/weftd.sock")).await.unwrap_err();
    let ConnectError::Io { source, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(source.kind(), io::ErrorKind::NotADirectory);
}
