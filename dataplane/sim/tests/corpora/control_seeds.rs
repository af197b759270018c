//! The first inputs of targets that take what people, files and other processes say.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use prost::Message;
use weft_api::v1;
use weft_keys::Sealed;
use weft_pki::{
    EnvironmentIdentity, KeyKind, TrustAnchor,
    issue::{Authority, HostRequest, HostUsages, Validity, new_authority},
};
use weftd::kept::Thing;

use crate::{
    targets::{JUDGED_AT_SECONDS, SEQUENCE},
    told_seeds,
};

pub(crate) type Seeds = BTreeMap<String, Vec<u8>>;

pub(crate) fn seeds(target: &str) -> Seeds {
    match target {
        "api" => api(),
        "kept" => kept(),
        "told" => told_seeds::seeds(),
        "pem" => pem(),
        "certificate" => certificate(),
        "kernel" => kernel(),
        "export" => export(),
        "sealed" => sealed(),
        "audit" => texts(&AUDIT),
        "helper" => texts(&MESSAGES),
        _ => texts(&[
            ("full.toml", FULL),
            ("wrong.toml", WRONG),
            ("minimal.toml", "host = \"a\"\nlisten = \"[::1]:1\"\napi = \"x\"\n"),
        ]),
    }
}

fn texts(texts: &[(&str, &str)]) -> Seeds {
    texts.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

/// Exports without their checksum, and a store's place.
fn export() -> Seeds {
    let entries =
        [("a", ""), ("environment/e1", "acme"), ("environment/e1/attachment/web-1", "{}")];
    let entries = entries
        .map(|(key, value)| (key.parse().expect("a key"), value.to_owned().into_bytes().into()));
    let body = |count: usize| {
        let file = weft_store::export::encode(&entries[..count]);
        file[..file.len() - 32].to_vec()
    };
    [
        ("none", body(0)),
        ("three", body(3)),
        ("sqlite", b"sqlite:/var/lib/weft/store.db".to_vec()),
        ("etcd", b"etcd://10.0.0.1:2379,[2001:db8::1]:2379/prod".to_vec()),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

fn attach() -> v1::AttachRequest {
    v1::AttachRequest {
        environment: "acme".into(),
        name: "web-1".into(),
        netns: "/run/netns/web1".into(),
        interface: "eth7".into(),
        addresses: vec!["fd40::2".into(), "10.40.0.2".into()],
        share: Some(v1::Share { weight: 300, egress_mbit_max: 20 }),
    }
}

fn add_peer() -> v1::AddPeerRequest {
    v1::AddPeerRequest {
        environment: "acme".into(),
        host: "host-b".into(),
        endpoint: "[2001:db8::2%3]:5820".into(),
        alternative_endpoints: vec!["192.0.2.2:5820".into()],
        addresses: vec!["10.40.0.3".into(), "fd40::3".into()],
        keepalive_seconds: 25,
    }
}

fn api() -> Seeds {
    let (environment, host) = ("acme".to_owned(), "host-b".to_owned());
    let remove = v1::RemovePeerRequest { environment: environment.clone(), host: host.clone() };
    let addresses = vec!["10.40.0.3".into()];
    let routes = v1::SetRoutesRequest { environment: environment.clone(), host, addresses };
    let detach = v1::DetachRequest { environment: environment.clone(), name: "web-1".into() };
    let status = v1::StatusRequest { environment: environment.clone() };
    let watch = v1::WatchEventsRequest { environment };
    let calls = [
        ("attach", 0, attach().encode_to_vec()),
        ("add-peer", 1, add_peer().encode_to_vec()),
        ("detach", 2, detach.encode_to_vec()),
        ("remove-peer", 3, remove.encode_to_vec()),
        ("set-routes", 4, routes.encode_to_vec()),
        ("status", 5, status.encode_to_vec()),
        ("watch-events", 6, watch.encode_to_vec()),
        ("watch-all", 6, Vec::new()),
    ];
    numbered(calls)
}

fn kept() -> Seeds {
    let thing = |kind, bytes: &[u8]| Thing::parse(kind, bytes).expect("valid").encode().1;
    numbered([
        ("attachment", 0, thing("attachment", &attach().encode_to_vec())),
        ("peer", 1, thing("peer", &add_peer().encode_to_vec())),
        ("record", 2, RECORD.into()),
    ])
}

fn numbered<const N: usize>(inputs: [(&str, u8, Vec<u8>); N]) -> Seeds {
    let input =
        |(name, kind, bytes): (&str, u8, Vec<u8>)| (name.to_owned(), [vec![kind], bytes].concat());
    inputs.into_iter().map(input).collect()
}

/// PEM of an authority, of a host's certificate and of its key.
fn issue(key_kind: KeyKind, usages: HostUsages) -> [String; 3] {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(JUDGED_AT_SECONDS);
    let validity = Validity::days(now, Duration::from_secs(3_600), 30);
    let environment: EnvironmentIdentity = "spiffe://weft/env/acme".parse().expect("valid");
    let ca = new_authority(&environment, validity, key_kind).expect("issued");
    let authority = Authority::from_pem(ca.certificate_pem.as_bytes(), ca.key_pem.as_bytes());
    let request =
        HostRequest { host: "host-b".parse().expect("valid"), validity, key_kind, usages };
    let host = authority.expect("read").issue_host(&request).expect("issued");
    [ca.certificate_pem, host.certificate_pem, host.key_pem.to_string()]
}

const KINDS: [(&str, KeyKind, HostUsages); 4] = [
    ("p256", KeyKind::EcdsaP256, HostUsages::Both),
    ("p384", KeyKind::EcdsaP384, HostUsages::Both),
    ("ed25519", KeyKind::Ed25519, HostUsages::Both),
    ("client-only", KeyKind::EcdsaP256, HostUsages::ClientOnly),
];

fn pem() -> Seeds {
    let input = |(name, kind, usages)| {
        let files = issue(kind, usages).map(String::into_bytes);
        (String::from(name), files.join(&0xff))
    };
    KINDS.into_iter().map(input).collect()
}

fn certificate() -> Seeds {
    let input = |(name, kind, usages)| {
        let [ca, host, _] = issue(kind, usages);
        let anchor = TrustAnchor::from_pem(ca.as_bytes()).expect("read");
        let server_name = anchor.tag().server_name().to_str().into_owned();
        let [ca, host] = [ca, host].map(|text| ::pem::parse(text).expect("PEM").into_contents());
        let mut input = Vec::new();
        for part in [server_name.into_bytes(), ca.clone(), host, ca] {
            input.extend(u16::try_from(part.len()).expect("short").to_be_bytes());
            input.extend(part);
        }
        (String::from(name), input)
    };
    KINDS.into_iter().map(input).collect()
}

/// As a little-endian kernel writes.
fn kernel() -> Seeds {
    let message = |kind: u16, body: &[u8]| {
        let len = u32::try_from(16 + body.len()).expect("short");
        let head = [&len.to_le_bytes()[..], &kind.to_le_bytes(), &[2, 0]].concat();
        [&head[..], &SEQUENCE.to_le_bytes(), &[0; 4], body].concat()
    };
    let error = |code: i32| message(2, &[&code.to_le_bytes()[..], &[0; 16]].concat());
    // `ifinfomsg` of interface 2, its name and its MTU.
    let mut link = vec![0, 0, 0xfe, 0xff, 2, 0, 0, 0, 0x43, 0, 1, 0, 0, 0, 0, 0];
    link.extend(b"\x0a\0\x03\0weft0\0\0\0\x08\0\x04\0\x80\x05\0\0");
    // `ifaddrmsg` 10.40.0.2/16 there.
    let address = b"\x02\x10\0\0\x02\0\0\0\x08\0\x01\0\x0a\x28\0\x02";
    let dump = [message(16, &link), message(20, address), message(3, &[0; 4])].concat();
    // A datagram of 20 bytes from 192.0.2.1:5820, joined of pieces of 10, ECN bits 1.
    let mut received = [16_u32, 48, 20, 0].map(u32::to_le_bytes).concat();
    received.extend(b"\x02\0\x16\xbc\xc0\0\x02\x01");
    received.resize(48, 0);
    received.extend(b"\x14\0\0\0\0\0\0\0\x11\0\0\0\x68\0\0\0\x0a\0\0\0\0\0\0\0");
    received.extend(b"\x11\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0");
    received.resize(120, 0);
    received.extend([7; 20]);
    let inputs = [
        ("dump", dump),
        ("done", error(0)),
        ("refused", error(-17)),
        ("no-number", error(i32::MIN)),
        ("received", received),
    ];
    inputs.map(|(name, bytes)| (name.to_owned(), bytes)).into()
}

fn sealed() -> Seeds {
    let sealed = |ciphertext| Sealed { nonce: [7; 12], ciphertext, tag: [9; 16] }.encode();
    numbered([
        ("empty", 0, sealed(b"")),
        ("sealed", 0, sealed(b"some bytes")),
        ("live", 1, KEY_LIVE.into()),
        ("destroyed", 1, KEY_DESTROYED.into()),
    ])
}

const KEY_LIVE: &str =
    r#"{"record":"live/1","created":1796020090,"master":"4f0c6a1e9d2b7788","wrapped":"01ff"}"#;
const KEY_DESTROYED: &str =
    r#"{"record":"destroyed/1","created":1796020090,"destroyed":1827556090}"#;

const AUDIT: [(&str, &str); 5] = [
    (
        "segment",
        concat!(
            r#"{"seq":1,"prev":"0000000000000000000000000000000000000000000000000000000000000000","#,
            r#""at":"2026-11-30T06:48:10.000000Z","open":{"format":1,"process":"control-a","segment":1}}"#,
            "\n",
            r#"{"seq":2,"prev":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","#,
            r#""at":"2026-11-30T06:48:10.123456Z","event":{"who":"user/alice","from":"192.0.2.7","#,
            r#""action":"secret.read","object":"environment/acme/secret/DB_PASSWORD","#,
            r#""outcome":"denied/role","request":"000102030405060708090a0b0c0d0e0f","#,
            r#""facts":{"audited":true,"version":3,"via":"token-1"}}}"#,
            "\n",
            r#"{"seq":3,"prev":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","#,
            r#""at":"2026-11-30T06:48:11.000000Z","cut":{"bytes":7,"sha256":"#,
            r#""9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}}"#,
            "\n",
            r#"{"seq":4,"prev":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","#,
            r#""at":"2026-11-30T06:48:12.000000Z","close":{"earliest":"2026-11-30T06:48:10.000000Z","#,
            r#""latest":"2026-11-30T06:48:11.000000Z"}}"#,
            "\n",
        ),
    ),
    (
        "head",
        concat!(
            r#"{"statement":{"process":"control-a","segment":1,"seq":4,"hash":"#,
            r#""9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","#,
            r#""at":"2026-11-30T06:48:12.000000Z"},"key":"#,
            r#""9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","signature":"#,
            r#""9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"#,
            r#"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}"#,
        ),
    ),
    (
        "stub",
        concat!(
            r#"{"statement":{"process":"control-a","segment":1,"seq":4,"hash":"#,
            r#""9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","#,
            r#""latest":"2026-11-30T06:48:12.000000Z","at":"2032-12-30T06:48:12.000000Z"},"key":"#,
            r#""9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08","signature":"#,
            r#""9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"#,
            r#"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}"#,
        ),
    ),
    ("cursor", "control-a=3.1024,control-b=1.0"),
    ("object", "environment/acme/secret/DB_PASSWORD"),
];

const RECORD: &str = r#"{"interface":{"name":["acme","web-1"],"netns":"/run/netns/web1",
"interface":"weft0","addresses":[["10.40.0.2",16],["fd40::2",64]],"queues":2,"mtu":1408,
"gso_max_size":60500,"gso_max_segs":64,"queue_len":1000},"netns_cookie":4711,"ifindex":2,
"boot":"6ba7b810-9dad-11d1-80b4-00c04fd430c8"}"#;

const MESSAGES: [(&str, &str); 9] = [
    ("hello", r#"{"hello":{"version":1}}"#),
    (
        "open",
        r#"{"open":{"name":["acme","web-1"],"netns":"/run/netns/web1","interface":"weft0",
        "addresses":[["10.40.0.2",16],["fd40::2",64]],"queues":2,"mtu":1408,"gso_max_size":60500,
        "gso_max_segs":64,"queue_len":1000}}"#,
    ),
    ("close", r#"{"close":["acme","web-1"]}"#),
    ("settle", r#""settle""#),
    ("ended", r#""ended""#),
    ("end", r#""end""#),
    ("retire", r#""retire""#),
    ("welcome", r#"{"welcome":{"version":1,"config":"/etc/weft.toml"}}"#),
    ("opened", r#"{"opened":{"uso":true,"origin":"adopted"}}"#),
];

const FULL: &str = r#"
host = "host-a"
listen = "192.0.2.1:5820"
api = "/run/weft/weftd.sock"
metrics = "127.0.0.1:9820"
workers = 2
engine = "uring"

[log]
level = "info"
format = "json"

[keys]
epoch_datagrams_max = 64
epoch_seconds_max = 1
rehandshake_seconds = 5

[[environment]]
id = "acme"
subnet = "10.40.0.0/16"
subnet6 = "fd40::/64"
ca = "acme/ca.pem"
cert = "acme/host-a.pem"
key = "acme/host-a.key"
other_names = "forward"
name_servers = ["192.0.2.53", "[2001:db8::53]:5353"]

  [[environment.attachment]]
  name = "web-1"
  netns = "/run/netns/web1"
  interface = "weft0"
  address = "10.40.0.2"
  address6 = "fd40::2"

  [[environment.peer]]
  host = "host-b"
  endpoint = "192.0.2.2:5820"
  addresses = ["10.40.0.3", "10.40.0.4", "fd40::3"]

  [[environment.service]]
  name = "web"

    [[environment.service.slot]]
    index = 0
    name = "web-blue"
    addresses = ["10.40.0.2", "fd40::2"]
    roles = ["primary", "canary"]

    [[environment.service.slot]]
    index = 1
    addresses = ["10.40.0.3"]

    [[environment.service.port]]
    name = "http"
    protocol = "tcp"
    port = 80
"#;

const WRONG: &str = r#"
host = 7
listen = "nowhere"
colour = "green"
workers = 65
engine = "io_uring"
[[environment]]
id = "acme"
subnet = "10.40.0.0/33"
[[environment]]
id = "acme"
  [[environment.attachment]]
  name = "web_1"
  address = ["10.40.0.2"]
  [[environment.peer]]
  host = "host-a"
  addresses = ["10.40.0.0", "10.40.0.0", "224.0.0.1"]
"#;
