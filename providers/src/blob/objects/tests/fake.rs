//! As much of S3 as is asked of it (API reference: PutObject, GetObject, DeleteObject, ListObjectsV2,
//! CreateMultipartUpload, UploadPart, CompleteMultipartUpload, AbortMultipartUpload). Signatures are not looked at.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;

#[derive(Default)]
struct State {
    objects: BTreeMap<String, (Vec<u8>, String)>,
    uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
    next: u64,
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[derive(Default)]
struct Service {
    state: Mutex<State>,
    denies: AtomicBool,
}

/// One that runs on this host until its test ends.
pub(super) struct Fake {
    address: SocketAddr,
    service: Arc<Service>,
}

impl Fake {
    pub(super) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::new(Service::default());
        let served = service.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                let answer = service_fn(move |request| answer(served.clone(), request));
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(connection);
            }
        });
        Self { address, service }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn uploads(&self) -> usize {
        self.service.state.lock().unwrap().uploads.len()
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.service.state.lock().unwrap().objects.keys().cloned().collect()
    }

    pub(super) fn change(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.service.state.lock().unwrap().objects.get_mut(key).unwrap().0);
    }

    pub(super) fn deny(&self) {
        self.service.denies.store(true, Ordering::Relaxed);
    }
}

type Answer = Response<Full<Bytes>>;

fn status(status: StatusCode) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = status;
    answer
}

fn xml(text: String) -> Answer {
    Response::new(Full::new(text.into()))
}

async fn answer(service: Arc<Service>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    if service.denies.load(Ordering::Relaxed) {
        return Ok(status(StatusCode::FORBIDDEN));
    }
    let path = head.uri.path().trim_start_matches('/');
    let key = path.strip_prefix("bucket").unwrap_or_default().trim_start_matches('/').to_owned();
    let query: BTreeMap<String, String> = head
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), value.replace("%2F", "/")))
        .collect();
    let header =
        |name| head.headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let mut state = service.state.lock().unwrap();
    let upload = query.get("uploadId");
    Ok(match (head.method, upload) {
        (Method::GET, _) if key.is_empty() => list(&state, &query),
        (Method::POST, None) => {
            let id = state.number().to_string();
            state.uploads.insert(id.clone(), BTreeMap::new());
            xml(format!("<R><Bucket>bucket</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></R>"))
        }
        (Method::PUT, Some(id)) => {
            let part = query["partNumber"].parse().unwrap();
            // One may be under way while its upload is given up.
            let Some(parts) = state.uploads.get_mut(id) else {
                return Ok(status(StatusCode::NOT_FOUND));
            };
            parts.insert(part, body);
            tagged(status(StatusCode::OK), &format!("\"part-{part}\""))
        }
        (Method::POST, Some(id)) => {
            let parts = state.uploads.remove(id).unwrap();
            let lens: Vec<_> = parts.values().map(Bytes::len).collect();
            assert!(lens[..lens.len() - 1].iter().all(|len| *len >= 5 << 20), "{lens:?}");
            let bytes = parts.values().flatten().copied().collect();
            let etag = format!("\"{}\"", state.number());
            state.objects.insert(key.clone(), (bytes, etag.clone()));
            xml(format!("<R><Key>{key}</Key><ETag>{etag}</ETag></R>"))
        }
        (Method::DELETE, Some(id)) => {
            state.uploads.remove(id);
            status(StatusCode::NO_CONTENT)
        }
        (Method::PUT, None) => {
            let found = state.objects.get(&key).map(|(_, etag)| etag.as_str());
            let absent_wanted = header(header::IF_NONE_MATCH).is_some();
            let wanted = header(header::IF_MATCH);
            if absent_wanted && found.is_some() || wanted.is_some() && wanted != found {
                return Ok(status(StatusCode::PRECONDITION_FAILED));
            }
            let etag = format!("\"{}\"", state.number());
            state.objects.insert(key, (body.to_vec(), etag.clone()));
            tagged(status(StatusCode::OK), &etag)
        }
        (Method::GET, None) => match state.objects.get(&key) {
            None => status(StatusCode::NOT_FOUND),
            Some((_, etag)) if header(header::IF_MATCH).is_some_and(|wanted| wanted != etag) => {
                status(StatusCode::PRECONDITION_FAILED)
            }
            Some((bytes, etag)) => part(bytes, etag, header(header::RANGE).unwrap_or_default()),
        },
        (Method::DELETE, None) => {
            state.objects.remove(&key);
            status(StatusCode::NO_CONTENT)
        }
        _ => status(StatusCode::METHOD_NOT_ALLOWED),
    })
}

fn tagged(mut answer: Answer, etag: &str) -> Answer {
    answer.headers_mut().insert(header::ETAG, etag.parse().unwrap());
    answer
}

fn part(bytes: &[u8], etag: &str, range: &str) -> Answer {
    let (from, to) = range.trim_start_matches("bytes=").split_once('-').unwrap();
    let len = bytes.len();
    let range = match (from, to) {
        ("", last) => len.saturating_sub(last.parse().unwrap())..len,
        (from, to) => from.parse().unwrap()..len.min(to.parse::<usize>().unwrap_or(len - 1) + 1),
    };
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(&bytes[range.clone()])));
    *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    let last = range.end.saturating_sub(1);
    let text = format!("bytes {}-{last}/{len}", range.start);
    answer.headers_mut().insert(header::CONTENT_RANGE, text.parse().unwrap());
    let date = "Mon, 30 Nov 2026 00:00:00 GMT".parse().unwrap();
    answer.headers_mut().insert(header::LAST_MODIFIED, date);
    tagged(answer, etag)
}

/// Two on a page, so that there are several.
fn list(state: &State, query: &BTreeMap<String, String>) -> Answer {
    let get = |name: &str| query.get(name).cloned().unwrap_or_default();
    let after = get("continuation-token").max(get("start-after"));
    let mut found =
        state.objects.iter().filter(|(key, _)| key.starts_with(&get("prefix")) && **key > after);
    let mut text = String::from("<ListBucketResult>");
    let mut last = String::new();
    for (key, (bytes, etag)) in found.by_ref().take(2) {
        let etag = etag.replace('"', "&quot;");
        text += &format!(
            "<Contents><Key>{key}</Key><LastModified>2026-11-30T00:00:00.000Z</LastModified>\
             <Size>{}</Size><ETag>{etag}</ETag></Contents>",
            bytes.len()
        );
        last.clone_from(key);
    }
    if found.next().is_some() {
        text += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
    }
    xml(text + "</ListBucketResult>")
}
