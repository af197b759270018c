//! The control API: who calls is found out, what is asked is converted, [`App`] is asked, its answer converted.
//! Nothing is decided here. All calls go through `Api::call`, which records them; a new one has a line in `object.rs`.

mod account;
mod agent;
mod attachments;
mod audit;
mod authentication;
mod call;
mod convert;
mod environments;
mod hosts;
mod identity;
mod length;
mod members;
mod object;
mod paced;
mod policies;
mod readiness;
mod reports;
mod secrets;
mod services;
mod settings;
mod status;
mod tokens;
mod unread;

use std::{net::IpAddr, sync::Arc};

use tonic::{Request, server::NamedService, service::Routes};
use weft_audit::Origin;
use weft_control_api::{
    DESCRIPTORS, MESSAGE_BYTES_MAX,
    v1::{
        account_server::AccountServer, attachments_server::AttachmentsServer,
        audit_server::AuditServer, authentication_server::AuthenticationServer,
        enrolment_server::EnrolmentServer, environments_server::EnvironmentsServer,
        host_agent_server::HostAgentServer, hosts_server::HostsServer,
        members_server::MembersServer, organisations_server::OrganisationsServer,
        policies_server::PoliciesServer, secrets_server::SecretsServer,
        services_server::ServicesServer, sessions_server::SessionsServer,
        ssh_keys_server::SshKeysServer, tokens_server::TokensServer, users_server::UsersServer,
    },
};
use weft_model::access::{Actor, Component};
use weft_pki::installation::{Member, MemberIdentity, VerifiedMember};

pub use self::object::CALLS;
use self::{
    call::Answer,
    length::{Bounded, Long},
    paced::Paced,
    readiness::Readiness,
    unread::{Answering, Unread},
};
use crate::{
    app::{App, Sight},
    crowd::Source,
    error::AppError,
    secret::hex,
};

/// Longest request of most services, bytes: a service with all the metadata that it may have has half of it.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// The same where there are secrets: one has 64 KiB.
const SECRET_REQUEST_BYTES_MAX: usize = 128 << 10;
/// The same where there are policies (500 rules) and hosts (what is on one), with room.
const LONG_REQUEST_BYTES_MAX: usize = 1 << 20;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// From where it is connected.
    pub address: IpAddr,
    /// By its certificate, if it showed one.
    pub member: Option<VerifiedMember>,
}

/// On whose account connections and requests are: by the certificate, or by where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Whose {
    Source(Source),
    Member(MemberIdentity),
}

impl Peer {
    pub(crate) fn whose(&self) -> Whose {
        match &self.member {
            Some(member) => Whose::Member(member.identity.clone()),
            None => Whose::Source(self.address.into()),
        }
    }
}

/// The calls.
#[derive(Clone)]
pub(crate) struct Api {
    app: Arc<App>,
}

impl Api {
    /// Who calls.
    async fn actor<T>(&self, request: &Request<T>, sight: &Sight) -> Result<Actor, AppError> {
        let peer = request.extensions().get::<Peer>();
        if let Some(Peer { address, member: Some(member) }) = peer {
            return self.member(member, Origin::Address(*address), sight).await;
        }
        match bearer(request)? {
            Some(secret) => self.app.actor_seen(secret, sight).await,
            None => Ok(Actor::Nobody),
        }
    }

    /// A certificate speaks for a host only while the host is known and has this key, whatever it says itself.
    async fn member(
        &self,
        member: &VerifiedMember,
        from: Origin,
        sight: &Sight,
    ) -> Result<Actor, AppError> {
        match &member.identity.member {
            Member::Host(id) => {
                self.app.admit_host(id, &hex(&member.key_hash), from, sight).await?;
                Ok(Actor::Host(id.clone()))
            }
            Member::Component(id) => match id.as_str() {
                "scheduler" => Ok(Actor::Component(Component::Scheduler)),
                "edge" => Ok(Actor::Component(Component::Edge)),
                "git" => Ok(Actor::Component(Component::Git)),
                "registry" => Ok(Actor::Component(Component::Registry)),
                _ => Err(AppError::Unauthenticated),
            },
        }
    }
}

/// The key of the certificate that is shown, as records of hosts have it.
fn shown_key<T>(request: &Request<T>) -> Option<String> {
    let member = request.extensions().get::<Peer>()?.member.as_ref()?;
    Some(hex(&member.key_hash))
}

/// What a caller shows in its header.
fn bearer<T>(request: &Request<T>) -> Result<Option<&str>, AppError> {
    let Some(value) = request.metadata().get("authorization") else { return Ok(None) };
    let secret = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
    secret.map(Some).ok_or(AppError::Unauthenticated)
}

/// All services, with what tells of them: their description, and that they are there (the gRPC health checking
/// protocol). Also returns who says there whether they are ready.
pub(crate) async fn services(
    app: &Arc<App>,
) -> Result<(Routes, Readiness), tonic_reflection::server::Error> {
    let api = || Api { app: Arc::clone(app) };
    let (health, healthy) = tonic_health::server::health_reporter();
    let mut readiness = Readiness::new(health);
    let (long, unread) = (Long::default(), Unread::default());
    macro_rules! bounded {
        ($server:ident) => {
            bounded!($server, REQUEST_BYTES_MAX)
        };
        ($server:ident, $bytes_max:expr) => {{
            readiness.add(<$server<Api> as NamedService>::NAME);
            let server = $server::new(api())
                .max_decoding_message_size($bytes_max)
                .max_encoding_message_size(MESSAGE_BYTES_MAX);
            bounded!(of server)
        }};
        (of $server:ident) => {
            Paced(Answering::new(Bounded::new($server, &long), &unread))
        };
    }
    let described = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1()?;
    let healthy = healthy.max_decoding_message_size(REQUEST_BYTES_MAX);
    let described = described.max_decoding_message_size(REQUEST_BYTES_MAX);
    let routes = Routes::new(bounded!(of healthy))
        .add_service(bounded!(of described))
        .add_service(bounded!(AccountServer))
        .add_service(bounded!(AttachmentsServer))
        .add_service(bounded!(AuditServer))
        .add_service(bounded!(AuthenticationServer))
        .add_service(bounded!(EnrolmentServer))
        .add_service(bounded!(EnvironmentsServer))
        .add_service(bounded!(HostAgentServer, LONG_REQUEST_BYTES_MAX))
        .add_service(bounded!(HostsServer))
        .add_service(bounded!(MembersServer))
        .add_service(bounded!(OrganisationsServer))
        .add_service(bounded!(PoliciesServer, LONG_REQUEST_BYTES_MAX))
        .add_service(bounded!(SecretsServer, SECRET_REQUEST_BYTES_MAX))
        .add_service(bounded!(ServicesServer))
        .add_service(bounded!(SessionsServer))
        .add_service(bounded!(SshKeysServer))
        .add_service(bounded!(TokensServer))
        .add_service(bounded!(UsersServer));
    readiness.say(true).await;
    Ok((routes, readiness))
}
