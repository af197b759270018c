//! Keys of people, and who it is that shows one or a token.

use std::time::Duration;

use tonic::{Code, Status, transport::Channel};
use weft_audit::{PAGE_LEN_MAX, Query, query};
use weft_control::{
    AppError, Clock,
    app::{Possession, SshKeyWish},
    ssh,
};
use weft_control_api::v1::{
    self, EnvironmentRole, OrganisationRole, TokenUse, audit_client::AuditClient,
    authentication_client::AuthenticationClient, members_client::MembersClient,
    resolve_ssh_key_request::Key, ssh_keys_client::SshKeysClient, tokens_client::TokensClient,
    users_client::UsersClient,
};
use weft_model::access::{Actor, Component};

use crate::{
    signer::Signer,
    site::{PASSWORD, Site, code, name, proof, said, with},
};

fn line(n: u8) -> String {
    Signer::new(n).line()
}

fn fingerprint(n: u8) -> String {
    Signer::new(n).fingerprint()
}

fn wish(request: &v1::AddSshKeyRequest) -> SshKeyWish<'_> {
    let possession = Possession { message: &request.message, signature: &request.signature };
    SshKeyWish { line: &request.key, name: &request.name, possession }
}

struct Keys {
    site: Site,
    keys: SshKeysClient<Channel>,
    owner: String,
    other: String,
}

impl Keys {
    async fn new() -> Self {
        Self::at(Clock::default()).await
    }

    async fn at(clock: Clock) -> Self {
        let site = Site::start_at(clock).await;
        let owner = site.organisation("acme").await;
        let other = site.organisation("globex").await;
        let keys = SshKeysClient::new(site.connect(None).await);
        Self { site, keys, owner, other }
    }

    async fn add(&self, by: &str, n: u8) -> Result<v1::SshKey, Status> {
        Signer::new(n).add(&self.site.connect(None).await, by).await
    }

    /// What is to be signed with a key.
    async fn challenge(&self, by: &str, n: u8) -> String {
        Signer::new(n).challenge(&self.site.connect(None).await, by).await.unwrap()
    }

    /// What is said to whoever shows this.
    async fn shown(&self, by: &str, request: v1::AddSshKeyRequest) -> (Code, String) {
        said(self.keys.clone().add_ssh_key(with(request, by)).await)
    }

    async fn list(&self, by: &str) -> Result<Vec<v1::SshKey>, Status> {
        let list = v1::ListSshKeysRequest { page: None };
        Ok(self.keys.clone().list_ssh_keys(with(list, by)).await?.into_inner().keys)
    }

    async fn remove(&self, by: &str, id: &str) -> Result<(), Status> {
        let remove = v1::RemoveSshKeyRequest { id: id.to_owned() };
        self.keys.clone().remove_ssh_key(with(remove, by)).await.map(drop)
    }

    async fn resolve(&self, n: u8) -> Result<Actor, String> {
        let git = self.site.component(Component::Git);
        let resolved = self.site.app.resolve_ssh_key(&git, &fingerprint(n)).await;
        resolved.map_err(|error| error.to_string())
    }

    async fn resolve_token(&self, by: Component, secret: &str) -> Result<Actor, String> {
        let component = self.site.component(by);
        let resolved = self.site.app.resolve_token(&component, secret).await;
        resolved.map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn a_key_is_of_one_person_of_the_installation() {
    let keys = Keys::new().await;
    let added = keys.add(&keys.owner, 1).await.unwrap();
    assert_eq!(
        (added.name.as_str(), added.key.as_str()),
        ("laptop", &line(1)[..line(1).len() - 7])
    );
    assert_eq!(added.fingerprint, ssh::print_fingerprint(&fingerprint(1)));
    let taken = |whose: &str| (Code::AlreadyExists, format!("this key is {whose} already"));
    assert_eq!(said(keys.add(&keys.owner, 1).await), taken("yours"));
    assert_eq!(said(keys.add(&keys.other, 1).await), taken("somebody's"));
    keys.add(&keys.other, 2).await.unwrap();
    assert_eq!(keys.list(&keys.owner).await.unwrap(), std::slice::from_ref(&added));
    // Those of others are not there.
    let absent = (Code::NotFound, "no such SSH key".to_owned());
    assert_eq!(said(keys.remove(&keys.other, &added.id).await), absent);
    assert_eq!(said(keys.remove(&keys.other, "key-aaaaaaaaaaaaaaaa").await), absent);
    keys.remove(&keys.owner, &added.id).await.unwrap();
    keys.add(&keys.other, 1).await.unwrap();
    // Whoever is faster has it, in whichever process.
    let another = keys.site.another_process().await;
    let (one, two) = (
        keys.site.caller(another.actor_of(&keys.owner).await.unwrap()),
        keys.site.caller(another.actor_of(&keys.other).await.unwrap()),
    );
    let third = Signer::new(3);
    let told = [keys.challenge(&keys.owner, 3).await, keys.challenge(&keys.other, 3).await];
    let shown = told.map(|message| third.request(message));
    let (first, second) = tokio::join!(
        keys.site.app.add_ssh_key(&one, wish(&shown[0]), proof(PASSWORD)),
        another.add_ssh_key(&two, wish(&shown[1]), proof(PASSWORD)),
    );
    assert_eq!(u8::from(first.is_ok()) + u8::from(second.is_ok()), 1);
}

#[tokio::test]
async fn a_key_that_is_not_taken_is_refused_with_the_reason_and_so_are_too_many() {
    let keys = Keys::new().await;
    for (line, why) in [
        ("ssh-ed25519", "key: is no public key of OpenSSH; expected a line as ssh-ed25519 AAAA…"),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "key: is a private key, which is to stay where it is; expected the public one (.pub)",
        ),
    ] {
        let why = (Code::InvalidArgument, why.to_owned());
        let challenge = v1::ChallengeSshKeyRequest { key: line.to_owned() };
        let refused = keys.keys.clone().challenge_ssh_key(with(challenge, &keys.owner)).await;
        assert_eq!(said(refused), why);
        let add =
            v1::AddSshKeyRequest { key: line.to_owned(), ..Signer::new(1).request(String::new()) };
        assert_eq!(keys.shown(&keys.owner, add).await, why);
    }
    let add = Signer::new(1).request(keys.challenge(&keys.owner, 1).await);
    let add = v1::AddSshKeyRequest { name: "x".repeat(101), ..add };
    assert_eq!(keys.shown(&keys.owner, add).await.0, Code::InvalidArgument);
    for n in 0..32 {
        keys.add(&keys.owner, n).await.unwrap();
    }
    let refused = said(keys.add(&keys.owner, 32).await);
    assert_eq!(refused, (Code::ResourceExhausted, "a person has at most 32 keys".to_owned()));
    // Machines and hosts have none.
    let machine =
        keys.site.machine("env-aaaaaaaaaaaaaaaa", weft_model::access::EnvironmentRole::Admin);
    let request = Signer::new(40).request(keys.challenge(&keys.owner, 40).await);
    let refused = keys.site.app.add_ssh_key(&machine, wish(&request), proof(PASSWORD)).await;
    assert!(matches!(refused, Err(AppError::Refused)));
    let refused = keys.site.app.challenge_ssh_key(&machine, &request.key).await;
    assert!(matches!(refused, Err(AppError::Refused)));
}

#[tokio::test]
async fn a_key_is_added_by_whoever_has_it_for_themselves_and_in_time() {
    let clock = Clock::manual(Clock::default().now());
    let keys = Keys::at(clock.clone()).await;
    let (signer, stranger) = (Signer::new(1), Signer::new(2));
    let told = keys.challenge(&keys.owner, 1).await;
    let good = || signer.request(told.clone());
    let invalid = |why: &str| (Code::InvalidArgument, why.to_owned());
    let other_message =
        invalid("message: is not what was told you for this key; expected that of ChallengeSshKey");

    // Somebody's public key is known; what is signed with it is not.
    let by_stranger = v1::AddSshKeyRequest { signature: stranger.sign(&told), ..good() };
    let other_key = invalid("signature: is of another key than the one that is to be added");
    assert_eq!(keys.shown(&keys.owner, by_stranger).await, other_key);
    let none = v1::AddSshKeyRequest { signature: String::new(), ..good() };
    let no_signature = "signature: is none of ssh-keygen -Y sign; expected -----BEGIN SSH SIGNATURE----- and what follows";
    assert_eq!(keys.shown(&keys.owner, none).await, invalid(no_signature));
    let of_file = v1::AddSshKeyRequest { signature: signer.sign_for("file", &told), ..good() };
    let purpose = "signature: is for another purpose; expected the namespace ssh-key@weft (ssh-keygen -Y sign -n ssh-key@weft)";
    assert_eq!(keys.shown(&keys.owner, of_file).await, invalid(purpose));
    let of_other = v1::AddSshKeyRequest { signature: signer.sign("hello"), ..good() };
    assert_eq!(
        keys.shown(&keys.owner, of_other).await,
        invalid("signature: is not of this message")
    );

    // What was told for one person, key and installation is for no other, whoever signs it.
    assert_eq!(keys.shown(&keys.other, good()).await, other_message);
    let for_other_key = signer.request(keys.challenge(&keys.owner, 2).await);
    assert_eq!(keys.shown(&keys.owner, for_other_key).await, other_message);
    let (lines, challenge) = told.trim_end().rsplit_once('\n').unwrap();
    let others = keys.challenge(&keys.other, 1).await;
    let (_, others_challenge) = others.trim_end().rsplit_once('\n').unwrap();
    for changed in [
        String::new(),
        told.trim_end().to_owned(),
        told.replace("weft ssh-key 1", "weft ssh-key 2"),
        told.replace("installation: ", "installation: not-"),
        format!("{lines}\nand this\n{challenge}\n"),
        format!("{lines}\n{others_challenge}\n"),
        format!("{lines}\nchallenge: AAAA\n"),
        format!("{lines}\nchallenge: {}\n", "A".repeat(2_000)),
    ] {
        let refused = keys.shown(&keys.owner, signer.request(changed.clone())).await;
        assert_eq!(refused, other_message, "{changed}");
    }
    let elsewhere = Keys::new().await;
    assert_eq!(elsewhere.shown(&elsewhere.owner, good()).await, other_message);

    // All of it is no password.
    let guessed = v1::AddSshKeyRequest { password: "not the password".to_owned(), ..good() };
    assert!(keys.shown(&keys.owner, guessed).await.1.starts_with("password: is wrong"));
    assert!(keys.list(&keys.owner).await.unwrap().is_empty());

    // It is good in any process until its time is over, again for the same only.
    clock.advance(Duration::from_secs(599));
    let another = keys.site.another_process().await;
    let caller = keys.site.caller(another.actor_of(&keys.owner).await.unwrap());
    another.add_ssh_key(&caller, wish(&good()), proof(PASSWORD)).await.unwrap();
    let yours = (Code::AlreadyExists, "this key is yours already".to_owned());
    assert_eq!(keys.shown(&keys.owner, good()).await, yours);
    clock.advance(Duration::from_secs(1));
    let over = invalid("message: was told more than ten minutes ago; ask for another one");
    assert_eq!(keys.shown(&keys.owner, good()).await, over);
}

#[tokio::test]
async fn what_is_to_be_signed_says_what_for() {
    let keys = Keys::new().await;
    let told = keys.challenge(&keys.owner, 1).await;
    let Some(v1::who_am_i_response::Actor::User(user)) =
        keys.site.who(&keys.owner).await.unwrap().actor
    else {
        panic!("nobody")
    };
    let anchor = weft_pki::installation::anchor(keys.site.app.anchor().as_bytes()).unwrap();
    let authority = weft_pki::installation::fingerprint(&anchor);
    let expected = [
        "weft ssh-key 1".to_owned(),
        format!("installation: {}", keys.site.app.installation()),
        format!("authority: {}", data_encoding::HEXLOWER.encode(&authority)),
        format!("user: {}", user.id),
        format!("key: {}", ssh::print_fingerprint(&fingerprint(1))),
    ];
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[..5], expected);
    assert!(lines[5].starts_with("challenge: ") && lines.len() == 6 && told.ends_with('\n'));
}

#[tokio::test]
async fn who_has_a_key_is_told_to_parts_of_the_platform_with_what_they_may_do_now() {
    let keys = Keys::new().await;
    let site = &keys.site;
    let shop = site.environment(&keys.owner, "acme", "shop").await.id;
    let member = site.member(&keys.owner, "acme", "m@acme.example", OrganisationRole::Member).await;
    site.give(&keys.owner, &shop, "m@acme.example", EnvironmentRole::Deployer).await.unwrap();
    let added = keys.add(&member, 1).await.unwrap();
    let Ok(Actor::User { environments, operator, .. }) = keys.resolve(1).await else {
        panic!("nobody")
    };
    let role = environments[&shop.parse::<weft_types::EnvironmentId>().unwrap()];
    assert_eq!((role, operator), (weft_model::access::EnvironmentRole::Deployer, false));
    let mut members = MembersClient::new(site.connect(None).await);
    let (organisation, user) = ("acme".to_owned(), "m@acme.example".to_owned());
    let remove = v1::RemoveMemberRequest { organisation, user };
    members.remove_member(with(remove, &keys.owner)).await.unwrap();
    let Ok(Actor::User { organisations, environments, .. }) = keys.resolve(1).await else {
        panic!("nobody")
    };
    assert!(organisations.is_empty() && environments.is_empty());
    keys.remove(&member, &added.id).await.unwrap();
    assert_eq!(keys.resolve(1).await, Err("no such key or token".to_owned()));
}

#[tokio::test]
async fn what_is_unknown_over_or_for_another_part_of_the_platform_looks_the_same() {
    let clock = Clock::manual(Clock::default().now());
    let keys = Keys::at(clock.clone()).await;
    let site = &keys.site;
    let shop = site.environment(&keys.owner, "acme", "shop").await.id;
    let mut tokens = TokensClient::new(site.connect(None).await);
    let mut create = async |uses: &[TokenUse]| {
        let create = v1::CreateTokenRequest {
            environment: name(&shop),
            name: "pushes".to_owned(),
            role: EnvironmentRole::Deployer.into(),
            seconds: 3_600,
            uses: uses.iter().map(|used| i32::from(*used)).collect(),
            password: PASSWORD.to_owned(),
            code: String::new(),
        };
        tokens.create_token(with(create, &keys.owner)).await.unwrap().into_inner().secret
    };
    let (all, git) = (create(&[]).await, create(&[TokenUse::Git]).await);
    for component in [Component::Edge, Component::Git, Component::Registry] {
        assert!(keys.resolve_token(component, &all).await.is_ok());
        assert!(keys.resolve_token(component, &keys.owner).await.is_ok(), "a session");
        let is_for = keys.resolve_token(component, &git).await;
        assert_eq!(is_for.is_ok(), component == Component::Git);
    }
    clock.advance(Duration::from_secs(12 * 3_600));
    let unknown = Err("no such key or token".to_owned());
    for secret in [all.as_str(), &git, &keys.owner, "weft_token_0", ""] {
        assert_eq!(keys.resolve_token(Component::Edge, secret).await, unknown);
    }
    assert_eq!(keys.resolve(9).await, unknown);
    let refused = keys.resolve_token(Component::Scheduler, &all).await;
    assert_eq!(refused, Err("this is not yours to do".to_owned()));
}

#[tokio::test]
async fn nobody_else_asks_who_somebody_is() {
    let keys = Keys::new().await;
    keys.add(&keys.owner, 1).await.unwrap();
    let host = keys.site.enrol("host-a").await;
    let as_host = AuthenticationClient::new(keys.site.connect(Some(&host)).await);
    let as_person = AuthenticationClient::new(keys.site.connect(None).await);
    let refused = (Code::PermissionDenied, "this is not yours to do".to_owned());
    for n in [1, 2] {
        for key in [
            Key::Fingerprint(ssh::print_fingerprint(&fingerprint(n))),
            Key::Blob(Signer::new(n).blob()),
        ] {
            let ask = || v1::ResolveSshKeyRequest { key: Some(key.clone()) };
            assert_eq!(said(as_host.clone().resolve_ssh_key(ask()).await), refused);
            let asked = as_person.clone().resolve_ssh_key(with(ask(), &keys.site.operator)).await;
            assert_eq!(said(asked), refused);
            let nobody = code(as_person.clone().resolve_ssh_key(ask()).await);
            assert_eq!(nobody, Code::Unauthenticated);
        }
    }
    for secret in [keys.owner.as_str(), "weft_token_0"] {
        let ask = || v1::ResolveTokenRequest { secret: secret.to_owned() };
        assert_eq!(said(as_host.clone().resolve_token(ask()).await), refused);
        let asked = as_person.clone().resolve_token(with(ask(), &keys.site.operator)).await;
        assert_eq!(said(asked), refused);
    }
}

/// Records of what was done with this, the latest last: who, on what, with which facts.
fn done(site: &Site, action: &str) -> Vec<(String, String, serde_json::Value)> {
    let logs = [(site.audit.process.clone(), site.audit.own())];
    let page = query(&logs, &Query::default(), None, PAGE_LEN_MAX).unwrap();
    let events = page.found.into_iter().map(|found| found.event);
    let done = events.filter(|event| event.action.as_str() == action);
    done.filter(|event| event.outcome.to_string() == "done")
        .map(|event| {
            let facts = serde_json::to_value(&event.facts).unwrap();
            (event.who.to_string(), event.object.to_string(), facts)
        })
        .collect()
}

#[tokio::test]
async fn the_audit_says_which_key_was_added_and_which_was_removed() {
    let keys = Keys::new().await;
    let added = keys.add(&keys.owner, 1).await.unwrap();
    let of = |n| serde_json::Value::from(&fingerprint(n)[..62]);
    let record = done(&keys.site, "ssh-keys.add-ssh-key").pop().unwrap();
    assert_eq!((&record.2["fingerprint"], &record.2["made"]), (&of(1), &added.id.as_str().into()));
    // As it is told to whoever removes it.
    let remove = with(v1::RemoveSshKeyRequest { id: added.id.clone() }, &keys.owner);
    let removed = keys.keys.clone().remove_ssh_key(remove).await.unwrap().into_inner();
    assert_eq!(removed.fingerprint, added.fingerprint);
    let (_, object, facts) = done(&keys.site, "ssh-keys.remove-ssh-key").pop().unwrap();
    assert_eq!(facts["fingerprint"], of(1));
    assert!(object.ends_with(&format!("/ssh-key/{}", added.id)), "{object}");
}

#[tokio::test]
async fn what_is_taken_from_somebody_is_recorded_where_it_was() {
    let keys = Keys::new().await;
    let site = &keys.site;
    let shop = site.environment(&keys.owner, "acme", "shop").await;
    let email = "m@acme.example";
    let member = site.member(&keys.owner, "acme", email, OrganisationRole::Admin).await;
    let Some(v1::who_am_i_response::Actor::User(user)) = site.who(&member).await.unwrap().actor
    else {
        panic!("nobody")
    };
    let added = keys.add(&member, 1).await.unwrap();
    let mut tokens = TokensClient::new(site.connect(None).await);
    let create = v1::CreateTokenRequest {
        environment: name(&shop.id),
        name: "pushes".to_owned(),
        role: EnvironmentRole::Viewer.into(),
        password: PASSWORD.to_owned(),
        ..Default::default()
    };
    let made = tokens.create_token(with(create, &member)).await.unwrap().into_inner();
    let id = made.token.unwrap().id;
    let mut users = UsersClient::new(site.connect(None).await);
    let remove = v1::RemoveUserRequest { user: email.to_owned() };
    users.remove_user(with(remove, &site.operator)).await.unwrap();

    let (operator, ..) = done(site, "users.remove-user").pop().unwrap();
    let acme = format!("organisation/{}", shop.organisation);
    let token = format!("{acme}/environment/{}/token/{id}", shop.id);
    let facts = serde_json::json!({"made-by": user.id});
    assert_eq!(done(site, "tokens.revoke-token"), [(operator.clone(), token.clone(), facts)]);
    let key = format!("user/{}/ssh-key/{}", user.id, added.id);
    let facts = serde_json::json!({"fingerprint": &fingerprint(1)[..62]});
    assert_eq!(done(site, "ssh-keys.remove-ssh-key"), [(operator.clone(), key, facts)]);
    let left = format!("{acme}/member/{}", user.id);
    let record = (operator, left.clone(), serde_json::json!({}));
    assert_eq!(done(site, "members.remove-member"), [record]);
    // The organisation reads its part of it.
    let mut audit = AuditClient::new(site.connect(None).await);
    let list = v1::ListAuditRecordsRequest {
        organisation: "acme".to_owned(),
        outcome: v1::AuditOutcome::Done.into(),
        ..Default::default()
    };
    let listed = audit.list_audit_records(with(list, &keys.owner)).await.unwrap().into_inner();
    let objects: Vec<_> = listed.records.iter().map(|record| record.object.as_str()).collect();
    assert!(objects.contains(&token.as_str()) && objects.contains(&left.as_str()), "{objects:?}");
    assert!(!objects.iter().any(|object| object.contains("ssh-key")), "{objects:?}");
}
