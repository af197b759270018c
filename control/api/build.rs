//! Compiles the protocol definitions with a compiler that is itself a crate, so that no `protoc` needs to be
//! installed, and keeps their description for reflection.

use std::{env, error::Error, fs, path::Path};

use prost::Message;

const SERVICES: [&str; 14] = [
    "account",
    "agent",
    "attachments",
    "audit",
    "authentication",
    "environments",
    "hosts",
    "identity",
    "members",
    "policies",
    "secrets",
    "services",
    "tokens",
    "users",
];

/// Messages with a secret in them.
const SECRET: [&str; 17] = [
    "SecretValue",
    "LoginRequest",
    "LoginResponse",
    "AcceptInvitationRequest",
    "JoinByInvitationRequest",
    "CreateOrganisationResponse",
    "InviteMemberResponse",
    "AddSshKeyRequest",
    "CreateTokenRequest",
    "CreateTokenResponse",
    "ResolveTokenRequest",
    "ChangePasswordRequest",
    "EnrolSecondFactorRequest",
    "EnrolSecondFactorResponse",
    "ConfirmSecondFactorRequest",
    "ConfirmSecondFactorResponse",
    "DisableSecondFactorRequest",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let root = Path::new("proto");
    let files = SERVICES.map(|name| format!("weft/control/v1/{name}.proto"));
    let descriptors = protox::compile(files, [root])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("weft.control.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        // What holds a secret is not shown: the crate has a `Debug` of its own for it.
        .skip_debug(SECRET.map(|name| format!("weft.control.v1.{name}")))
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
