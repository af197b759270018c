//! The control API of Weft: generated messages, clients and servers.
//!
//! The protocol is `proto/weft/control/v1/*.proto`, which is the contract; [`v1`] is generated from it. This
//! crate knows nothing of what the calls do, and its types stop at the API: the server converts them at its edge.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// Largest message of either side, bytes: a page of 1,000 entries of 1 KiB, with room.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Whoever gives an environment less time than this until it goes, seconds, shows a password: nothing brings its key back.
pub const GRACE_SECONDS_MIN: u32 = 24 * 3_600;

/// In the metadata of an answer that is of what was seen last, because the store is away: how old that may be, seconds.
pub const SEEN_HEADER: &str = "weft-seen-seconds-ago";

/// What a signature is for that shows that an SSH key is somebody's: its namespace (OpenSSH, PROTOCOL.sshsig).
pub const SSH_KEY_NAMESPACE: &str = "ssh-key@weft";

/// The description of the protocol (`google.protobuf.FileDescriptorSet`), for reflection and documentation.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/weft.control.v1.bin"));

/// The generated messages, clients and servers of package `weft.control.v1`.
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code; it brings its own attributes"
)]
pub mod v1 {
    tonic::include_proto!("weft.control.v1");
}

impl v1::SecretValue {
    /// Takes the value out; what is left is empty.
    #[must_use]
    pub fn take(&mut self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(std::mem::take(&mut self.data))
    }
}

/// The length alone.
impl fmt::Debug for v1::SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretValue({} bytes)", self.data.len())
    }
}

/// The name alone of what holds a password, a code or a token.
macro_rules! hidden {
    ($($message:ident),+ $(,)?) => {
        $(impl fmt::Debug for v1::$message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message)).finish_non_exhaustive()
            }
        })+
    };
}

hidden! {
    LoginRequest,
    LoginResponse,
    AcceptInvitationRequest,
    JoinByInvitationRequest,
    CreateOrganisationResponse,
    InviteMemberResponse,
    AddSshKeyRequest,
    CreateTokenRequest,
    CreateTokenResponse,
    ResolveTokenRequest,
    ChangePasswordRequest,
    EnrolSecondFactorRequest,
    EnrolSecondFactorResponse,
    ConfirmSecondFactorRequest,
    ConfirmSecondFactorResponse,
    DisableSecondFactorRequest,
}

/// Nothing of a value stays in memory with the message. What the transport has copied of it is not ours to wipe.
impl Drop for v1::SecretValue {
    fn drop(&mut self) {
        self.data.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::v1;

    #[test]
    fn a_message_does_not_show_the_secret_in_it() {
        let value = Some(v1::SecretValue { data: b"hunter2".to_vec() });
        let put = v1::PutSecretRequest { value: value.clone(), ..Default::default() };
        let released = v1::ReleaseSecretResponse { version: 1, value };
        for shown in [format!("{put:?}"), format!("{put:#?}"), format!("{released:?}")] {
            // As text and as the list of its bytes.
            assert!(!shown.contains("hunter2") && !shown.contains("104"), "{shown}");
            assert!(shown.contains("SecretValue(7 bytes)"), "{shown}");
        }
    }

    #[test]
    fn a_message_with_a_password_shows_its_name_alone() {
        let (email, password) = ("you@example.com".to_owned(), "hunter2".to_owned());
        let login = v1::LoginRequest { email, password, code: "755224".to_owned() };
        assert_eq!(format!("{login:?}"), "LoginRequest { .. }");
        let made = v1::CreateTokenResponse { token: None, secret: "weft_token_0".to_owned() };
        assert_eq!(format!("{made:?}"), "CreateTokenResponse { .. }");
    }

    #[test]
    fn a_value_is_taken_once() {
        let mut value = v1::SecretValue { data: b"hunter2".to_vec() };
        assert_eq!((value.take().as_slice(), value.data.len()), (&b"hunter2"[..], 0));
    }
}
