use super::*;

pub(crate) fn environment(id: &str) -> host_update::Update {
    host_update::Update::Environment(v1::EnvironmentSettings {
        id: id.to_owned(),
        subnets: vec!["10.40.0.0/24".to_owned()],
        anchors: vec!["an anchor".to_owned()],
        leaf_seconds: 86_400,
        ..Default::default()
    })
}

pub(crate) fn attachment(environment: &str, name: &str, address: &str) -> host_update::Update {
    host_update::Update::Attachment(v1::DesiredAttachment {
        environment: environment.to_owned(),
        name: name.to_owned(),
        slot: None,
        addresses: vec![address.to_owned()],
        generation: 1,
        share: None,
    })
}

pub(crate) fn peer(environment: &str, host: &str, address: &str) -> host_update::Update {
    host_update::Update::Peer(v1::PeerHost {
        environment: environment.to_owned(),
        host: host.to_owned(),
        endpoints: vec!["192.0.2.2:5820".to_owned()],
        addresses: vec![address.to_owned()],
    })
}

pub(crate) fn forwarding(id: &str, servers: &[&str]) -> host_update::Update {
    let name_servers = servers.iter().map(ToString::to_string).collect();
    told(id, OtherNamesRule::Forward.into(), name_servers)
}

fn told(id: &str, rule: i32, name_servers: Vec<String>) -> host_update::Update {
    let host_update::Update::Environment(settings) = environment(id) else { unreachable!() };
    let other_names = Some(v1::OtherNames { rule, name_servers });
    host_update::Update::Environment(v1::EnvironmentSettings { other_names, ..settings })
}

fn policy(environment: &str) -> host_update::Update {
    host_update::Update::Policy(v1::Policy {
        environment: environment.to_owned(),
        version: 3,
        ..Default::default()
    })
}

fn removed(environment: &str, what: removed::What) -> host_update::Update {
    let environment = environment.to_owned();
    host_update::Update::Removed(v1::Removed { environment, what: Some(what) })
}

pub(crate) fn answer(revision: u64, updates: Vec<host_update::Update>) -> v1::WatchResponse {
    let updates = updates.into_iter().map(|update| v1::HostUpdate { update: Some(update) });
    v1::WatchResponse { revision, is_snapshot: false, updates: updates.collect(), more: false }
}

fn snapshot(revision: u64, updates: Vec<host_update::Update>) -> v1::WatchResponse {
    v1::WatchResponse { is_snapshot: true, ..answer(revision, updates) }
}

fn acme(documents: &Documents) -> &Environment {
    let id: EnvironmentId = "acme".parse().unwrap();
    &documents.environments()[&id]
}

fn names(documents: &Documents) -> Vec<&str> {
    documents.environments().keys().map(EnvironmentId::as_str).collect()
}

#[test]
fn a_snapshot_voids_what_was_before_and_changes_add_to_it() {
    let mut documents = Documents::default();
    let told =
        vec![environment("acme"), environment("beta"), attachment("acme", "web", "10.40.0.2")];
    assert_eq!(documents.take(snapshot(5, told)), Some(vec![]));
    assert_eq!((names(&documents), documents.revision()), (vec!["acme", "beta"], 5));
    let changes = vec![
        peer("acme", "host-b", "10.40.0.3"),
        removed("beta", removed::What::All(true)),
        removed("acme", removed::What::Attachment("web".to_owned())),
    ];
    assert_eq!(documents.take(answer(6, changes)), Some(vec![]));
    let acme = acme(&documents);
    assert_eq!((acme.attachments.len(), acme.peers.len()), (0, 1));
    assert_eq!(documents.take(snapshot(9, vec![environment("beta")])), Some(vec![]));
    assert_eq!((names(&documents), documents.revision()), (vec!["beta"], 9));
}

#[test]
fn nothing_counts_before_the_last_part() {
    let mut documents = Documents::default();
    documents.take(snapshot(5, vec![environment("acme")]));
    let first = v1::WatchResponse { more: true, ..snapshot(8, vec![environment("beta")]) };
    assert_eq!(documents.take(first.clone()), None);
    assert_eq!((names(&documents), documents.revision()), (vec!["acme"], 5));
    // The connection breaks: the answer begins anew.
    documents.forget_parts();
    assert_eq!(documents.take(first), None);
    assert_eq!(documents.take(answer(8, vec![environment("gamma")])), Some(vec![]));
    assert_eq!((names(&documents), documents.revision()), (vec!["beta", "gamma"], 8));
}

#[test]
fn what_is_malformed_is_left_out_and_said() {
    let mut documents = Documents::default();
    let told = vec![
        environment("acme"),
        attachment("acme", "web", "10.40.0.256"),
        attachment("beta", "web", "10.40.0.2"),
        attachment("acme", "db", "10.40.0.3"),
        removed("gone", removed::What::Peer("host-b".to_owned())),
    ];
    let errors = documents.take(snapshot(5, told)).unwrap();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].to_string().starts_with("attachment.addresses: \"10.40.0.256\""));
    assert_eq!(errors[1], DocumentError::Environment("beta".parse().unwrap()));
    let unknown =
        v1::WatchResponse { updates: vec![v1::HostUpdate { update: None }], ..answer(6, vec![]) };
    assert_eq!(documents.take(unknown), Some(vec![DocumentError::Kind]));
    assert_eq!((documents.revision(), documents.snapshot().revision), (6, 0), "it is asked again");
    assert_eq!(acme(&documents).attachments.len(), 1);
}

fn forward(servers: &[&str]) -> Outside {
    Outside::Forward(servers.iter().map(|server| server.parse().unwrap()).collect())
}

#[test]
fn other_names_go_where_it_is_said_and_nowhere_else() {
    let mut documents = Documents::default();
    documents.take(snapshot(5, vec![environment("acme")]));
    assert_eq!(acme(&documents).settings.outside, Outside::Refuse, "nothing is said");
    let mut say = |said| {
        assert_eq!(documents.take(answer(6, vec![said])), Some(vec![]));
        acme(&documents).settings.outside.clone()
    };
    let servers = ["192.0.2.53:53", "[2001:db8::53]:5353", "127.0.0.1:53", "192.0.2.54:53"];
    assert_eq!(say(forwarding("acme", &servers)), forward(&servers));
    assert_eq!(say(told("acme", OtherNamesRule::Absent.into(), vec![])), Outside::Absent);
    // What another version says: more of them, its own gateway, what is no server, a rule that is not known.
    let more = [&servers[..], &["192.0.2.55:53"]].concat();
    assert_eq!(say(forwarding("acme", &more)), forward(&servers));
    let some = ["10.40.0.1:53", "dns.example", "0.0.0.0:53", "224.0.0.1:53", "192.0.2.53:0"];
    let one = [&some[..], &["192.0.2.53:53"]].concat();
    assert_eq!(say(forwarding("acme", &one)), forward(&["192.0.2.53:53"]));
    assert_eq!(say(forwarding("acme", &some)), Outside::Refuse);
    assert_eq!(say(told("acme", 77, vec!["192.0.2.53:53".to_owned()])), Outside::Refuse);
    assert_eq!(say(environment("acme")), Outside::Refuse);
}

#[test]
fn gateways_ask_as_many_servers_as_the_control_plane_takes() {
    assert_eq!(weft_model::settings::NAME_SERVERS_MAX, UPSTREAMS_MAX);
}

#[test]
fn what_was_said_can_be_said_again() {
    let mut documents = Documents::default();
    let told = vec![
        environment("acme"),
        attachment("acme", "web", "10.40.0.2"),
        attachment("acme", "db", "10.40.0.3"),
        peer("acme", "host-b", "10.40.0.4"),
        policy("acme"),
        environment("beta"),
        forwarding("acme", &["192.0.2.53:53"]),
    ];
    documents.take(snapshot(5, told));
    documents.take(answer(
        7,
        vec![
            removed("acme", removed::What::Attachment("db".to_owned())),
            removed("beta", removed::What::All(true)),
        ],
    ));
    let mut again = Documents::default();
    assert_eq!(again.take(documents.snapshot()), Some(vec![]));
    assert_eq!(again.snapshot(), documents.snapshot());
    assert_eq!(again.revision(), 7);
    assert_eq!(again.snapshot().updates.len(), 4);
    assert_eq!(acme(&again).settings.outside, forward(&["192.0.2.53:53"]));
}
