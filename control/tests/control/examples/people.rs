//! People, what they show, and what programs show instead.

use std::error::Error;

use tonic::{Code, Request};
use weft_control_api::{
    SSH_KEY_NAMESPACE,
    v1::{
        self, account_client::AccountClient, authentication_client::AuthenticationClient,
        members_client::MembersClient, organisations_client::OrganisationsClient,
        sessions_client::SessionsClient, ssh_keys_client::SshKeysClient,
        tokens_client::TokensClient, users_client::UsersClient,
    },
};

use crate::{
    signer::Signer,
    site::{PASSWORD, Site, name, with},
};

#[tokio::test]
async fn a_customer_comes() -> Result<(), Box<dyn Error>> {
    let site = Site::start().await;
    let (channel, operator) = (site.connect(None).await, site.operator.clone());
    // example: An organisation, and its first owner
    let mut organisations = OrganisationsClient::new(channel.clone());
    let create = v1::CreateOrganisationRequest {
        name: "acme".into(),
        owner_email: "owner@acme.example".into(),
    };
    let made = organisations.create_organisation(with(create, &operator)).await?.into_inner();

    // Whoever has the invitation makes an account of it; nothing is sent by the platform.
    let mut sessions = SessionsClient::new(channel.clone());
    let accept = v1::AcceptInvitationRequest {
        secret: made.invitation,
        name: "Olivia Owner".into(),
        password: PASSWORD.into(), // 15 to 1,024 bytes
    };
    let owner = sessions.accept_invitation(accept).await?.into_inner();
    // end
    assert_eq!(owner.email, "owner@acme.example");
    let token = site.login("owner@acme.example", PASSWORD).await?;
    // example: Who somebody is, and what they may do
    let me = sessions.who_am_i(with(v1::WhoAmIRequest {}, &token)).await?.into_inner();
    assert_eq!(me.organisations[0].role(), v1::OrganisationRole::Owner);
    // end
    site.environment(&token, "acme", "shop").await;
    let owner = token;
    // example: Somebody is invited, and gets a role in one environment
    let mut members = MembersClient::new(channel.clone());
    let invite = v1::InviteMemberRequest {
        organisation: "acme".into(),
        email: "dev@acme.example".into(),
        role: v1::OrganisationRole::Member.into(),
    };
    let invited = members.invite_member(with(invite, &owner)).await?.into_inner();
    let accept = v1::AcceptInvitationRequest {
        secret: invited.secret,
        name: "Dev Eloper".into(),
        password: PASSWORD.into(),
    };
    sessions.accept_invitation(accept).await?;
    let give = v1::SetEnvironmentRoleRequest {
        environment: name("acme/shop"),
        user: "dev@acme.example".into(), // or its id
        role: v1::EnvironmentRole::Deployer.into(),
    };
    let given = members.set_environment_role(with(give, &owner)).await?.into_inner();
    assert!(!given.by_organisation);
    // end
    Ok(())
}

#[tokio::test]
async fn a_program_shows_a_token() -> Result<(), Box<dyn Error>> {
    let site = Site::start().await;
    let owner = site.organisation("acme").await;
    site.environment(&owner, "acme", "shop").await;
    let channel = site.connect(None).await;
    // example: A token of a pipeline
    let mut tokens = TokensClient::new(channel.clone());
    let create = v1::CreateTokenRequest {
        environment: name("acme/shop"),
        name: "pipeline".into(),
        role: v1::EnvironmentRole::Deployer.into(),
        seconds: 30 * 86_400,
        uses: vec![v1::TokenUse::Api.into()],
        password: PASSWORD.into(), // a token outlasts the session that asks for it
        ..Default::default()
    };
    let made = tokens.create_token(with(create, &owner)).await?.into_inner();
    let secret = made.secret; // in this answer only: for `authorization: Bearer …`
    // end
    assert!(site.app.actor_of(&secret).await.is_ok());
    let shown = secret;
    // example: A part of the platform asks who shows a token
    // Over a connection that shows the part's certificate.
    let mut authentication = AuthenticationClient::new(channel.clone());
    let resolve = v1::ResolveTokenRequest { secret: shown };
    let resolved = authentication.resolve_token(Request::new(resolve)).await;
    // end
    // This connection shows none.
    assert_eq!(resolved.unwrap_err().code(), Code::Unauthenticated);
    let id = made.token.unwrap().id;
    // example: The token is good for nothing any more
    let revoke = v1::RevokeTokenRequest { environment: name("acme/shop"), id };
    tokens.revoke_token(with(revoke, &owner)).await?;
    // end
    Ok(())
}

#[tokio::test]
async fn somebody_sees_to_their_account() -> Result<(), Box<dyn Error>> {
    let site = Site::start().await;
    let token = site.organisation("acme").await;
    let channel = site.connect(None).await;
    let signer = Signer::new(1);
    let (line, sign) = (signer.line(), |message: &str, _namespace: &str| signer.sign(message));
    // example: An SSH key is added by whoever has it
    let mut keys = SshKeysClient::new(channel.clone());
    let challenge = v1::ChallengeSshKeyRequest { key: line.clone() };
    let challenge = keys.challenge_ssh_key(with(challenge, &token)).await?.into_inner();
    let signature = sign(&challenge.message, SSH_KEY_NAMESPACE); // ssh-keygen -Y sign -n ssh-key@weft
    let add = v1::AddSshKeyRequest {
        key: line, // as in a .pub file
        name: "laptop".into(),
        password: PASSWORD.into(),
        message: challenge.message,
        signature,
        ..Default::default()
    };
    let added = keys.add_ssh_key(with(add, &token)).await?.into_inner();
    assert!(added.fingerprint.starts_with("SHA256:"));
    // end
    // example: Another password ends all other sessions
    let mut account = AccountClient::new(channel.clone());
    let change = v1::ChangePasswordRequest {
        password: PASSWORD.into(),
        new_password: "another battery staple".into(),
        ..Default::default() // with a code, where there is a second factor
    };
    account.change_password(with(change, &token)).await?;
    let list = with(v1::ListSessionsRequest {}, &token);
    let sessions = account.list_sessions(list).await?.into_inner().sessions;
    assert!(sessions.iter().all(|session| session.is_current));
    // end
    let operator = site.operator.clone();
    // example: An account is suspended
    let mut users = UsersClient::new(channel);
    let suspend = v1::SuspendUserRequest { user: "owner@acme.example".into() };
    let account = users.suspend_user(with(suspend, &operator)).await?.into_inner();
    assert!(account.suspended); // whatever its person shows is good for nothing from now on
    // end
    assert_eq!(site.who(&token).await.unwrap_err().code(), Code::Unauthenticated);
    Ok(())
}
