//! What outlasts a session is not made by a session alone.

use std::time::Duration;

use tonic::{Code, Status};
use weft_control_api::v1::{
    self, EnvironmentRole, ssh_keys_client::SshKeysClient, tokens_client::TokensClient,
};

use crate::{
    account::{Desk, refused, wrong},
    signer::Signer,
    site::{PASSWORD, code, name, said, with},
};

/// What is made that outlasts a session.
#[derive(Debug, Clone, Copy)]
enum Lasting {
    Key,
    Token,
}

impl Lasting {
    const ALL: [Self; 2] = [Self::Key, Self::Token];

    async fn make(self, desk: &Desk, by: &str, password: &str, code: &str) -> Result<(), Status> {
        let channel = desk.site.connect(None).await;
        let (password, code) = (password.to_owned(), code.to_owned());
        match self {
            Self::Key => {
                let signer = Signer::new(1);
                let told = signer.challenge(&channel, by).await?;
                let add = v1::AddSshKeyRequest { password, code, ..signer.request(told) };
                SshKeysClient::new(channel).add_ssh_key(with(add, by)).await.map(drop)
            }
            Self::Token => {
                let create = v1::CreateTokenRequest {
                    environment: name("acme/shop"),
                    name: "pushes".to_owned(),
                    role: EnvironmentRole::Admin.into(),
                    password,
                    code,
                    ..Default::default()
                };
                TokensClient::new(channel).create_token(with(create, by)).await.map(drop)
            }
        }
    }

    /// How many the owner has.
    async fn count(self, desk: &Desk) -> usize {
        let channel = desk.site.connect(None).await;
        match self {
            Self::Key => {
                let list = with(v1::ListSshKeysRequest { page: None }, &desk.owner);
                let listed = SshKeysClient::new(channel).list_ssh_keys(list).await;
                listed.unwrap().into_inner().keys.len()
            }
            Self::Token => {
                let list = v1::ListTokensRequest { environment: name("acme/shop"), page: None };
                let listed = TokensClient::new(channel).list_tokens(with(list, &desk.owner)).await;
                listed.unwrap().into_inner().tokens.len()
            }
        }
    }
}

async fn desk() -> Desk {
    let desk = Desk::new().await;
    desk.site.environment(&desk.owner, "acme", "shop").await;
    desk
}

#[tokio::test]
async fn a_session_alone_makes_nothing_that_outlasts_it() {
    let desk = desk().await;
    for what in Lasting::ALL {
        for password in ["", "not the password"] {
            let made = what.make(&desk, &desk.owner, password, "").await;
            assert_eq!(said(made), wrong(), "{what:?}");
        }
        assert_eq!(what.count(&desk).await, 0, "{what:?}");
        what.make(&desk, &desk.owner, PASSWORD, "").await.unwrap();
        assert_eq!(what.count(&desk).await, 1, "{what:?}");
    }
}

#[tokio::test]
async fn where_there_is_a_second_factor_a_code_is_asked_for_and_good_once() {
    let desk = desk().await;
    let (seed, recovery) = desk.confirmed().await;
    for (what, recovery) in Lasting::ALL.into_iter().zip(&recovery) {
        desk.clock.advance(Duration::from_secs(60));
        let shown = desk.code(&seed, 0);
        for shown in ["", "000000", "aaaa-aaaa-aaaa-aaaa"] {
            let made = what.make(&desk, &desk.owner, PASSWORD, shown).await;
            assert_eq!(said(made), wrong(), "{what:?}");
        }
        let made = what.make(&desk, &desk.owner, "not the password", &shown).await;
        assert_eq!(said(made), wrong(), "{what:?}");
        assert_eq!(what.count(&desk).await, 0, "{what:?}");
        what.make(&desk, &desk.owner, PASSWORD, &shown).await.unwrap();
        assert_eq!(what.count(&desk).await, 1, "{what:?}");
        // The code is taken, for a login as well.
        assert_eq!(said(what.make(&desk, &desk.owner, PASSWORD, &shown).await), wrong());
        assert_eq!(said(desk.login(PASSWORD, &shown).await), refused());
        desk.login(PASSWORD, recovery).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_wrong_in_a_session_counts_as_it_does_at_a_login() {
    for what in Lasting::ALL {
        let desk = desk().await;
        for _ in 0..10 {
            let made = what.make(&desk, &desk.owner, "not the password", "").await;
            assert_eq!(said(made), wrong(), "{what:?}");
        }
        assert_eq!(said(what.make(&desk, &desk.owner, PASSWORD, "").await), wrong(), "{what:?}");
        assert_eq!(said(desk.login(PASSWORD, "").await), refused(), "{what:?}");
        desk.clock.advance(Duration::from_secs(15 * 60));
        what.make(&desk, &desk.owner, PASSWORD, "").await.unwrap();
    }
}

#[tokio::test]
async fn a_token_makes_nothing_that_outlasts_it_also_with_the_password() {
    let desk = desk().await;
    let mut tokens = TokensClient::new(desk.site.connect(None).await);
    let create = v1::CreateTokenRequest {
        environment: name("acme/shop"),
        name: "pushes".to_owned(),
        role: EnvironmentRole::Admin.into(),
        password: PASSWORD.to_owned(),
        ..Default::default()
    };
    let made = tokens.create_token(with(create, &desk.owner)).await.unwrap().into_inner();
    for what in Lasting::ALL {
        let more = what.make(&desk, &made.secret, PASSWORD, "").await;
        assert_eq!(code(more), Code::PermissionDenied, "{what:?}");
    }
}
