//! The first inputs of the target that takes what a control plane tells a host.

use prost::Message;
use weft_control_api::v1::{
    AttachmentShare, DesiredAttachment, EnvironmentSettings, HostUpdate, InstanceState, PeerHost,
    Policy, PortRange, Protocol, Removed, Rule, ServiceInstance, ServicePort, ServiceRole,
    ServiceState, Transport, Verdict, WatchResponse, host_update::Update, removed::What,
};

use crate::control_seeds::Seeds;

const ACME: &str = "acme";

fn answer(revision: u64, updates: Vec<Update>) -> WatchResponse {
    let updates = updates.into_iter().map(|update| HostUpdate { update: Some(update) }).collect();
    WatchResponse { revision, is_snapshot: revision == 1, updates, more: false }
}

fn stream(answers: &[WatchResponse]) -> Vec<u8> {
    let mut all = Vec::new();
    for answer in answers {
        let bytes = answer.encode_to_vec();
        all.extend(u16::try_from(bytes.len()).expect("short").to_be_bytes());
        all.extend(bytes);
    }
    all
}

fn everything() -> Vec<Update> {
    let environment = EnvironmentSettings {
        id: ACME.into(),
        subnets: vec!["10.40.0.0/24".into(), "fd40::/64".into()],
        suspended: false,
        egress_mbit_max: 100,
        anchors: vec!["-----BEGIN CERTIFICATE-----".into()],
        leaf_seconds: 86_400,
        other_names: None,
    };
    let attachment = DesiredAttachment {
        environment: ACME.into(),
        name: "web".into(),
        slot: None,
        addresses: vec!["10.40.0.2".into(), "fd40::2".into()],
        generation: 7,
        share: Some(AttachmentShare { weight: 100, egress_mbit_max: 10 }),
    };
    let peer = PeerHost {
        environment: ACME.into(),
        host: "host-b".into(),
        endpoints: vec!["192.0.2.2:5820".into(), "[2001:db8::2]:5820".into()],
        addresses: vec!["10.40.0.3".into()],
    };
    let instance = |slot: &str, address: &str, state: InstanceState| ServiceInstance {
        slot: slot.into(),
        addresses: vec![address.into()],
        healthy: state == InstanceState::Healthy,
        state: state.into(),
    };
    let service = ServiceState {
        environment: ACME.into(),
        name: "db".into(),
        ports: vec![ServicePort { name: "sql".into(), protocol: Protocol::Tcp.into(), port: 5432 }],
        instances: vec![
            instance("0", "10.40.0.3", InstanceState::Healthy),
            instance("surge-1", "10.40.0.4", InstanceState::Drained),
        ],
        roles: vec![ServiceRole { role: "primary".into(), slot: "0".into(), epoch: 41 }],
    };
    vec![
        Update::Environment(environment),
        Update::Attachment(attachment),
        Update::Peer(peer),
        Update::Service(service),
        Update::Policy(policy()),
    ]
}

fn policy() -> Policy {
    let rule = Rule {
        name: "web-to-db".into(),
        from: "web".into(),
        to: "db".into(),
        protocol: Transport::Tcp.into(),
        ports: vec![PortRange { first: 5432, last: 5433 }],
        verdict: Verdict::Allow.into(),
    };
    Policy {
        environment: ACME.into(),
        version: 3,
        default: Verdict::Deny.into(),
        rules: vec![rule],
    }
}

pub(crate) fn seeds() -> Seeds {
    let removed = |what| Update::Removed(Removed { environment: ACME.into(), what: Some(what) });
    let changes = vec![
        removed(What::Attachment("web".into())),
        removed(What::Peer("host-b".into())),
        removed(What::Service("db".into())),
    ];
    let part = WatchResponse { more: true, ..answer(1, everything()) };
    let malformed = PeerHost { endpoints: vec!["nowhere".into()], ..Default::default() };
    [
        ("snapshot", stream(&[answer(1, everything())])),
        ("changes", stream(&[answer(1, everything()), answer(2, changes)])),
        ("all-gone", stream(&[answer(1, everything()), answer(3, vec![removed(What::All(true))])])),
        ("parts", stream(&[part, answer(2, vec![Update::Policy(policy())])])),
        ("malformed", stream(&[answer(1, vec![Update::Peer(malformed)])])),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}
