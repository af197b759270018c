//! People: who make environments, and who look.

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tonic::{Request, transport::Channel};
use weft_control_api::v1::{
    self, environments_client::EnvironmentsClient, hosts_client::HostsClient,
    organisations_client::OrganisationsClient, sessions_client::SessionsClient,
};

use crate::plane::{OPERATOR, Plane};

const PASSWORD: &str = "correct horse battery staple";
/// Environments of one organisation.
const OF_ONE: u32 = 50;
/// Calls at once.
pub(crate) const AT_ONCE: usize = 16;

/// Everybody, and the environments that they have made.
pub(crate) struct People {
    channel: Channel,
    operator: String,
    /// With who owns it: the token of a session.
    pub(crate) environments: Vec<Owned>,
}

/// An environment.
#[derive(Debug, Clone)]
pub(crate) struct Owned {
    pub(crate) id: String,
    owner: String,
}

impl Owned {
    pub(crate) fn name(&self) -> Option<v1::EnvironmentName> {
        Some(v1::EnvironmentName { value: self.id.clone() })
    }

    /// A request of who owns it.
    pub(crate) fn request<T>(&self, message: T) -> Result<Request<T>> {
        with(message, &self.owner)
    }
}

impl People {
    pub(crate) async fn come(plane: &Plane, environments: u32) -> Result<Self> {
        let channel = plane.connect(None).await?;
        let operator = accept(&channel, &plane.invitation, OPERATOR).await?;
        let mut people = Self { channel, operator, environments: Vec::new() };
        for number in 0..environments.div_ceil(OF_ONE) {
            let first = number * OF_ONE;
            people.organisation(number, OF_ONE.min(environments - first)).await?;
        }
        Ok(people)
    }

    async fn organisation(&mut self, number: u32, environments: u32) -> Result<()> {
        let name = format!("org-{number}");
        let owner_email = format!("owner@{name}.example");
        let make =
            v1::CreateOrganisationRequest { name: name.clone(), owner_email: owner_email.clone() };
        let mut organisations = OrganisationsClient::new(self.channel.clone());
        let made = organisations.create_organisation(with(make, &self.operator)?).await?;
        let owner = accept(&self.channel, &made.into_inner().invitation, &owner_email).await?;
        let mut making = JoinSet::new();
        for n in 0..environments {
            let make = v1::CreateEnvironmentRequest {
                organisation: name.clone(),
                name: format!("env-{n}"),
                subnets: vec!["10.40.0.0/16".to_owned(), "fd40::/64".to_owned()],
                ..Default::default()
            };
            let (channel, request) = (self.channel.clone(), with(make, &owner)?);
            making.spawn(async move {
                EnvironmentsClient::new(channel).create_environment(request).await
            });
            if making.len() >= AT_ONCE {
                self.made(&mut making, &owner).await?;
            }
        }
        while !making.is_empty() {
            self.made(&mut making, &owner).await?;
        }
        Ok(())
    }

    async fn made(
        &mut self,
        making: &mut JoinSet<Result<tonic::Response<v1::Environment>, tonic::Status>>,
        owner: &str,
    ) -> Result<()> {
        let made = making.join_next().await.context("nothing is made")??;
        let id = made.context("an environment")?.into_inner().id;
        self.environments.push(Owned { id, owner: owner.to_owned() });
        Ok(())
    }

    /// A token with which a host joins.
    pub(crate) async fn join_token(&self) -> Result<String> {
        let make = v1::CreateJoinTokenRequest { pod: "one".to_owned(), ..Default::default() };
        let mut hosts = HostsClient::new(self.channel.clone());
        let made = hosts.create_join_token(with(make, &self.operator)?).await?.into_inner();
        // What comes after the dot is by what the host knows the installation.
        let (secret, _) = made.secret.split_once('.').context("a join token without a dot")?;
        Ok(secret.to_owned())
    }

    pub(crate) async fn allow(&self, environment: &Owned, host: &str) -> Result<()> {
        let allow = v1::AllowHostRequest { environment: environment.name(), host: host.to_owned() };
        let mut environments = EnvironmentsClient::new(self.channel.clone());
        environments.allow_host(with(allow, &self.operator)?).await?;
        Ok(())
    }

    /// Where they call.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

/// Makes a person of an invitation; returns the token of a session.
async fn accept(channel: &Channel, invitation: &str, email: &str) -> Result<String> {
    let mut sessions = SessionsClient::new(channel.clone());
    let (secret, name, password) =
        (invitation.to_owned(), "Somebody".to_owned(), PASSWORD.to_owned());
    let accept = v1::AcceptInvitationRequest { secret, name, password: password.clone() };
    sessions.accept_invitation(accept).await?;
    let login = v1::LoginRequest { email: email.to_owned(), password, ..Default::default() };
    Ok(sessions.login(login).await?.into_inner().token)
}

fn with<T>(message: T, token: &str) -> Result<Request<T>> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    Ok(request)
}
