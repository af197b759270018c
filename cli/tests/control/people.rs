//! People, their roles, and what they show.

use std::fs;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use ssh_key::{
    Algorithm, HashAlg, LineEnding, Signature, SshSig,
    public::{Ed25519PublicKey, KeyData},
};

use crate::desk::Desk;

/// An organisation with an owner's session.
fn acme() -> Desk {
    let desk = Desk::new();
    let made = desk.json("org create acme --owner owner@acme.example");
    desk.accept(made["invitation"].as_str().unwrap(), "owner@acme.example");
    desk.ok("env create acme/shop --subnet 10.40.0.0/16");
    desk
}

#[test]
fn a_member_from_the_invitation_to_the_end() {
    let desk = acme();
    let invited = desk.json("member invite acme dev@acme.example --role member");
    let listed = desk.ok("member invitations acme");
    assert!(listed.contains("dev@acme.example  member"), "{listed}");
    let secret = invited["secret"].as_str().unwrap();
    assert!(!listed.contains(secret));
    desk.accept(secret, "dev@acme.example");
    assert_eq!(desk.refused("member list acme"), "weft: this is not yours to do");

    desk.login("owner@acme.example");
    assert_eq!(desk.ok("member invitations acme"), "no invitations\n");
    let said = desk.ok("env set-role acme/shop dev@acme.example deployer");
    assert_eq!(said, "dev@acme.example is deployer there\n");
    let members = desk.json("env members acme/shop");
    let roles: Vec<_> = members
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["email"].as_str().unwrap(), m["by_organisation"].as_bool().unwrap()))
        .collect();
    assert!(roles.contains(&("dev@acme.example", false)), "{members}");
    assert!(roles.contains(&("owner@acme.example", true)), "{members}");
    desk.ok("env remove-role acme/shop dev@acme.example");
    let said = desk.ok("member set-role acme dev@acme.example admin");
    assert_eq!(said, "dev@acme.example is admin\n");
    let refused = desk.refused("member remove acme owner@acme.example");
    assert_eq!(refused, "weft: this is the last owner; make another one first");
    let dry = desk.ok("member remove acme dev@acme.example --dry-run");
    let would = "dev@acme.example would lose every role in acme and its environments\n";
    assert_eq!(dry, would);
    assert_eq!(desk.json("member list acme").as_array().unwrap().len(), 2);
    desk.ok("member remove acme dev@acme.example");
    let refused = desk.refused("member remove acme dev@acme.example");
    assert_eq!(refused, "weft: no such member");

    // Who has an account comes back with it.
    let invited = desk.json("member invite acme dev@acme.example");
    let file = desk.write("second", invited["secret"].as_str().unwrap());
    let again = format!(
        "accept {} --name Dev --invitation-file {file} --password-file {}",
        desk.where_to(),
        desk.path("password").display()
    );
    let refused = desk.refused(&again);
    let hint = "weft: not accepted (who has an account logs in and uses weft join): ";
    assert_eq!(refused, format!("{hint}no such invitation"));
    desk.login("dev@acme.example");
    let said = desk.ok(&format!("join --invitation-file {file}"));
    assert_eq!(said, "the invitation of dev@acme.example is accepted\n");
    desk.login("owner@acme.example");
    let invited = desk.json("member invite acme other@acme.example");
    let id = invited["id"].as_str().unwrap();
    desk.ok(&format!("member revoke-invitation acme {id}"));
    assert_eq!(desk.ok("member invitations acme"), "no invitations\n");
}

#[test]
fn a_token_is_used_as_a_session_until_it_is_revoked() {
    let desk = acme();
    let password = desk.path("password").display().to_string();
    let wrong = desk.write("wrong", "not the password");
    let create = "token create acme/shop --name pushes --role viewer";
    let refused = desk.refused(&format!("{create} --password-file {wrong}"));
    assert!(refused.starts_with("weft: password: is wrong"), "{refused}");
    let made = desk.json(&format!(
        "token create acme/shop --name pushes --role viewer --use api --password-file {password}"
    ));
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let listed = desk.ok("token list acme/shop");
    assert!(listed.contains("pushes  viewer  api") && !listed.contains(secret), "{listed}");
    let file = desk.write("token", &format!("{secret}\n"));
    let login = format!("login {} --token-file {file}", desk.where_to());
    assert_eq!(desk.ok(&login), format!("logged in as {id}\n"));
    assert_eq!(desk.json("whoami")["token"], id);
    assert!(desk.ok("env show acme/shop").contains("shop"));
    let refused = desk.refused(&format!("{create} --password-file {password}"));
    assert_eq!(refused, "weft: this is not yours to do");
    desk.login("owner@acme.example");
    let dry = desk.ok(&format!("token revoke acme/shop {id} --dry-run"));
    let would = "(pushes), which is viewer there, would be good for nothing";
    assert_eq!(dry, format!("token {id} {would}\n"));
    let refused = desk.refused("token revoke acme/shop tok-aaaaaaaaaaaaaaaa --dry-run");
    assert_eq!(refused, "weft: no such token");
    assert_eq!(desk.json("token list acme/shop").as_array().unwrap().len(), 1);
    desk.ok(&format!("token revoke acme/shop {id}"));
    assert_eq!(desk.refused(&format!("token revoke acme/shop {id}")), "weft: no such token");
    assert!(desk.refused(&login).starts_with("weft: the token: not logged in"));
    assert_eq!(desk.ok("token list acme/shop"), "no tokens\n");
}

#[test]
fn a_persons_keys_are_added_listed_and_removed() {
    let desk = acme();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = KeyData::Ed25519(Ed25519PublicKey(pair.public_key().as_ref().try_into().unwrap()));
    let line = ssh_key::PublicKey::from(public.clone()).to_openssh().unwrap();
    let file = desk.write("id.pub", &format!("{line} laptop\n"));
    let (message, signature) = (desk.path("message"), desk.path("message.sig"));
    let said = desk.ok(&format!("ssh-key challenge {file} --message {}", message.display()));
    let command = format!("ssh-keygen -Y sign -f {file} -n ssh-key@weft {}", message.display());
    let told = format!("{} is to be signed within 10 minutes: {command}\n", message.display());
    assert_eq!(said, told);
    // As the command does it.
    let data = fs::read(&message).unwrap();
    let data = SshSig::signed_data("ssh-key@weft", HashAlg::Sha512, &data).unwrap();
    let bytes = Signature::new(Algorithm::Ed25519, pair.sign(&data).as_ref()).unwrap();
    let signed = SshSig::new(public, "ssh-key@weft", HashAlg::Sha512, bytes).unwrap();
    fs::write(&signature, signed.to_pem(LineEnding::LF).unwrap()).unwrap();

    let password = desk.path("password").display().to_string();
    let wrong = desk.write("wrong", "not the password");
    let shown = format!("--message {} --signature {}", message.display(), signature.display());
    let refused = desk.refused(&format!("ssh-key add {file} {shown} --password-file {wrong}"));
    assert!(refused.starts_with("weft: password: is wrong"), "{refused}");
    let add = format!("ssh-key add {file} {shown} --password-file {password}");
    let other = format!(
        "ssh-key add {file} --message {file} --signature {} --password-file {password}",
        signature.display()
    );
    assert!(desk.refused(&other).starts_with("weft: message: is not what was told you"));
    let added = desk.json(&add);
    assert!(added["fingerprint"].as_str().unwrap().starts_with("SHA256:"), "{added}");
    assert!(desk.ok("ssh-key list").contains("laptop"));
    let refused = desk.refused(&add);
    assert_eq!(refused, "weft: this key is yours already");
    let remove = format!("ssh-key remove {}", added["id"].as_str().unwrap());
    let dry = desk.ok(&format!("{remove} --dry-run"));
    let fingerprint = added["fingerprint"].as_str().unwrap();
    assert!(dry.ends_with(&format!("would be yours no more: {fingerprint}\n")), "{dry}");
    let refused = desk.refused("ssh-key remove key-aaaaaaaaaaaaaaaa --dry-run");
    assert_eq!(refused, "weft: no such key");
    assert!(desk.ok("ssh-key list").contains("laptop"));
    desk.ok(&remove);
    assert_eq!(desk.ok("ssh-key list"), "no keys\n");
    // The private key is nowhere here.
    let refused = desk.refused(&format!("ssh-key add {file} --password-file {password}"));
    let elsewhere = format!(
        "where the private key is elsewhere: weft ssh-key challenge {file} --message message, sign that with \"ssh-keygen \
         -Y sign -f {file} -n ssh-key@weft message\", then weft ssh-key add {file} --message message --signature message.sig"
    );
    assert!(refused.contains("ssh-keygen") && refused.ends_with(&elsewhere), "{refused}");
}

#[test]
fn an_account_from_its_password_to_its_end() {
    let desk = acme();
    let password = desk.path("password").display().to_string();
    let made = desk.json(&format!("account enrol-second-factor --password-file {password}"));
    assert!(made["uri"].as_str().unwrap().starts_with("otpauth://totp/weft:owner%40acme"));
    let refused = desk.refused("account confirm-second-factor 12345");
    assert_eq!(refused, "weft: code: is not the one of now: is the clock right?");
    let seed = data_encoding::BASE32_NOPAD.decode(made["seed"].as_str().unwrap().as_bytes());
    let seconds = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let code = weft_control::totp::code_at(&seed.unwrap(), seconds / 30);
    let confirmed = desk.json(&format!("account confirm-second-factor {code}"));
    let recovery = confirmed["recovery_codes"][0].as_str().unwrap();
    let login =
        format!("login {} --email owner@acme.example --password-file {password}", desk.where_to());
    assert!(desk.refused(&login).starts_with("weft: the control plane refused: "));
    desk.ok(&format!("{login} --code {recovery}"));
    let second = confirmed["recovery_codes"][1].as_str().unwrap();
    let new = desk.write("new", "another battery horse staple\n");
    let change = format!(
        "account password --password-file {password} --new-password-file {new} --code {second}"
    );
    desk.ok(&change);
    let sessions = desk.json("account sessions");
    assert_eq!(sessions.as_array().unwrap().len(), 1, "{sessions}");
    let third = confirmed["recovery_codes"][2].as_str().unwrap();
    desk.ok(&format!("account disable-second-factor --password-file {new} --code {third}"));
    let id = sessions[0]["id"].as_str().unwrap();
    desk.ok(&format!("account end-session {id}"));
    assert!(desk.refused("whoami").ends_with("use weft login"));

    desk.login("operator@weft.example");
    assert!(desk.ok("user list").contains("owner@acme.example"));
    let said = desk.ok("user unlock owner@acme.example");
    assert_eq!(said, "wrong passwords for owner@acme.example of before count no more\n");
    desk.ok("user suspend owner@acme.example");
    desk.ok("user resume owner@acme.example");
    desk.ok("user reset-second-factor owner@acme.example");
    let refused = desk.refused("user remove owner@acme.example");
    assert!(refused.contains("nothing was done: say --confirm owner@acme.example"), "{refused}");
    desk.ok("user remove owner@acme.example --dry-run");
    let refused = desk.refused("user remove owner@acme.example --confirm owner@acme.example");
    assert_eq!(refused, "weft: this is the last owner of acme; make another one first");
}

#[test]
fn an_operator_says_how_many_environments_an_organisation_has() {
    let desk = acme();
    let refused = desk.refused("org set-quotas acme --environments 2");
    assert_eq!(refused, "weft: this is not yours to do");
    desk.login("operator@weft.example");
    let said = desk.ok("org set-quotas acme --environments 1");
    assert_eq!(said, "organisation acme may have 1 environments\n");
    let refused = desk.refused("org set-quotas acme --environments 2000");
    assert_eq!(refused, "weft: environments_max: 2000; expected 1 to 1024");
    assert_eq!(desk.json("org list")[0]["environments_max"], 1);
    desk.login("owner@acme.example");
    let refused = desk.refused("env create acme/other --subnet 10.40.0.0/16");
    assert!(refused.contains("limit of 1 environments is reached"), "{refused}");
}

#[test]
fn an_organisation_has_another_name_and_goes() {
    let desk = acme();
    let refused = desk.refused("org delete acme --confirm acme");
    assert_eq!(refused, "weft: it has 1 environments that stay: delete them first");
    desk.ok("env delete acme/shop --confirm shop");
    assert_eq!(desk.ok("org rename acme initech"), "the organisation is initech now\n");
    let dry = desk.ok("org delete initech --dry-run");
    assert!(dry.contains("would go in 604800 s"), "{dry}");
    let refused = desk.refused("org delete initech --confirm acme");
    assert!(refused.contains("nothing was done: say --confirm initech"), "{refused}");
    let going = desk.json("org delete initech --confirm initech");
    assert!(going["purge_ms"].as_u64().is_some(), "{going}");
    assert_eq!(desk.ok("org restore initech"), "organisation initech stays\n");
    assert_eq!(desk.json("org list")[0]["purge_ms"], serde_json::Value::Null);
}
