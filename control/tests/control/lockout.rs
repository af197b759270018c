//! Who guesses passwords keeps nobody out from where they sign in, and has so many guesses wherever they are.

use std::{net::IpAddr, time::Duration};

use tonic::{Code, Status};
use weft_control::app::App;
use weft_control_api::v1::{
    self, account_client::AccountClient, sessions_client::SessionsClient, users_client::UsersClient,
};
use weft_model::{Record, access::Actor, record::SignIn};
use weft_store::Store;

use crate::{
    account::{Desk, OWNER, refused, wrong},
    site::{PASSWORD, proof, said, with},
};

const WRONG: &str = "not the password";

impl Desk {
    /// Logs in from an address of this machine.
    async fn login_from(&self, n: u8, password: &str) -> Result<String, Status> {
        let from = IpAddr::from([127, 0, 0, n]);
        let mut sessions = SessionsClient::new(self.site.connect_from(from).await);
        let (email, password) = (OWNER.to_owned(), password.to_owned());
        let login = v1::LoginRequest { email, password, code: String::new() };
        Ok(sessions.login(login).await?.into_inner().token)
    }

    /// Gives so many wrong passwords there as are looked at.
    async fn guess_from(&self, n: u8) {
        for _ in 0..10 {
            assert_eq!(said(self.login_from(n, WRONG).await), refused());
        }
    }

    async fn unlock(&self, by: &str, user: &str) -> Result<v1::UserAccount, Status> {
        let mut users = UsersClient::new(self.site.connect(None).await);
        let unlock = v1::UnlockUserRequest { user: user.to_owned() };
        Ok(users.unlock_user(with(unlock, by)).await?.into_inner())
    }

    /// What is kept of how the owner signs in.
    async fn sign_in(&self) -> Option<SignIn> {
        let Some(v1::who_am_i_response::Actor::User(user)) =
            self.site.who(&self.owner).await.unwrap().actor
        else {
            panic!("nobody")
        };
        let entry = self.site.store.get(&SignIn::key_at(&user.id).unwrap()).await.unwrap();
        entry.map(|entry| SignIn::decode(&entry).unwrap().record)
    }
}

#[tokio::test]
async fn who_guesses_elsewhere_keeps_nobody_out_where_they_sign_in() {
    let desk = Desk::new().await;
    desk.guess_from(2).await;
    // From wherever nobody is known it is over, whichever address it is.
    for strange in [2, 3] {
        assert_eq!(said(desk.login_from(strange, PASSWORD).await), refused(), "{strange}");
    }
    desk.login_from(1, PASSWORD).await.unwrap();
    // In a session it is the same: from where it comes counts.
    let change = |from: IpAddr| {
        let account = desk.site.connect_from(from);
        let change = v1::ChangePasswordRequest {
            password: PASSWORD.to_owned(),
            code: String::new(),
            new_password: "another battery horse staple".to_owned(),
        };
        async { AccountClient::new(account.await).change_password(with(change, &desk.owner)).await }
    };
    assert_eq!(said(change([127, 0, 0, 3].into()).await), wrong());
    change([127, 0, 0, 1].into()).await.unwrap();
}

#[tokio::test]
async fn who_guesses_where_somebody_is_known_has_as_many_guesses_there() {
    let desk = Desk::new().await;
    desk.login_from(2, PASSWORD).await.unwrap();
    desk.guess_from(2).await;
    assert_eq!(said(desk.login_from(2, PASSWORD).await), refused());
    desk.login_from(1, PASSWORD).await.unwrap();
    desk.login_from(3, PASSWORD).await.unwrap();
    desk.clock.advance(Duration::from_secs(15 * 60));
    desk.login_from(2, PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_login_elsewhere_takes_nothing_back_of_what_was_wrong() {
    let desk = Desk::new().await;
    for _ in 0..9 {
        assert_eq!(said(desk.login_from(2, WRONG).await), refused());
    }
    desk.login_from(1, PASSWORD).await.unwrap();
    assert_eq!(said(desk.login_from(2, WRONG).await), refused());
    assert_eq!(said(desk.login_from(2, PASSWORD).await), refused());
}

#[tokio::test]
async fn eight_sources_are_known_and_none_of_before_another_password() {
    let desk = Desk::new().await;
    for n in 2..=9 {
        desk.login_from(n, PASSWORD).await.unwrap();
    }
    desk.guess_from(10).await;
    assert_eq!(said(desk.login_from(1, PASSWORD).await), refused(), "it was used longest ago");
    desk.login_from(2, PASSWORD).await.unwrap();
    // From there the password is changed: nothing else is known then.
    let mut account = AccountClient::new(desk.site.connect_from([127, 0, 0, 9].into()).await);
    let change = v1::ChangePasswordRequest {
        password: PASSWORD.to_owned(),
        code: String::new(),
        new_password: "another battery horse staple".to_owned(),
    };
    account.change_password(with(change, &desk.owner)).await.unwrap();
    let new = "another battery horse staple";
    assert_eq!(said(desk.login_from(2, new).await), refused());
    desk.login_from(9, new).await.unwrap();
}

#[tokio::test]
async fn where_somebody_signs_in_is_sealed_and_forgotten_with_a_suspension() {
    let desk = Desk::new().await;
    let one = desk.sign_in().await.unwrap();
    desk.login_from(2, PASSWORD).await.unwrap();
    let two = desk.sign_in().await.unwrap();
    assert_ne!(one.sealed_sources, two.sealed_sources);
    assert_eq!(one.sealed_sources.len(), two.sealed_sources.len(), "nor how many");
    desk.login_from(2, PASSWORD).await.unwrap();
    assert_eq!(desk.sign_in().await.unwrap(), two, "it is not written again");
    let sealed = data_encoding::BASE64.decode(two.sealed_sources.as_bytes()).unwrap();
    let is_there = |address: [u8; 4]| sealed.windows(4).any(|four| four == address);
    assert!(!is_there([127, 0, 0, 1]) && !is_there([127, 0, 0, 2]));

    desk.suspend(OWNER, true).await.unwrap();
    desk.suspend(OWNER, false).await.unwrap();
    desk.guess_from(3).await;
    assert_eq!(said(desk.login_from(1, PASSWORD).await), refused());
}

#[tokio::test]
async fn an_operator_unlocks_an_account_in_every_process() {
    let desk = Desk::new().await;
    let another = desk.site.another_process().await;
    let nobody = || desk.site.caller(Actor::Nobody);
    let login = async |process: &App, password| {
        process.login(&nobody(), OWNER, proof(password)).await.is_ok()
    };
    desk.guess_from(2).await;
    for _ in 0..10 {
        assert!(!login(&another, WRONG).await);
    }
    assert!(!login(&another, PASSWORD).await && !login(&desk.site.app, PASSWORD).await);
    let account = desk.unlock(&desk.site.operator, OWNER).await.unwrap();
    assert_eq!(account.user.unwrap().email, OWNER);
    assert!(login(&another, PASSWORD).await);
    // Whoever guesses has as many guesses again.
    desk.guess_from(2).await;
    assert_eq!(said(desk.login_from(2, PASSWORD).await), refused());
    desk.unlock(&desk.site.operator, OWNER).await.unwrap();
    desk.login_from(2, PASSWORD).await.unwrap();
    assert_eq!(desk.sign_in().await.unwrap().unlocks, 2);
}

#[tokio::test]
async fn an_account_is_unlocked_by_another_operator_and_nobody_else() {
    let desk = Desk::new().await;
    let operator = &desk.site.operator;
    let absent = (Code::NotFound, "no such user".to_owned());
    assert_eq!(said(desk.unlock(operator, "nobody@acme.example").await), absent);
    // With their session alone one would have guesses without end.
    let own = said(desk.unlock(operator, "operator@weft.example").await);
    assert_eq!(own, (Code::FailedPrecondition, "this is you; another operator does it".to_owned()));
    for user in [OWNER, "operator@weft.example", "nobody@acme.example"] {
        let not_yours = (Code::PermissionDenied, "this is not yours to do".to_owned());
        assert_eq!(said(desk.unlock(&desk.owner, user).await), not_yours, "{user}");
    }
}
