//! Whom the daemon becomes once everything that needs root is done.

use std::{fmt, io, panic, str::FromStr, thread};

use rustix::{
    process::{Gid, Uid, geteuid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use crate::limits::USER_LEN_MAX;

/// A user as the file names it, whether there is one or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// By a name of `passwd(5)`.
    Name(String),
    /// By a number, which no account need have.
    Id(u32),
}

impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !(1..=USER_LEN_MAX).contains(&text.len()) {
            let len = text.len();
            return Err(format!("has {len} bytes; expected 1 to {USER_LEN_MAX}"));
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            // The last number stands for "no change" in system calls.
            return match text.parse() {
                Ok(id) if id < u32::MAX => Ok(Self::Id(id)),
                _ => Err(format!("is out of range; expected below {}", u32::MAX)),
            };
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.$".contains(c);
        match text.chars().find(|c| !is_name(*c)) {
            None => Ok(Self::Name(text.to_owned())),
            Some(c) => {
                Err(format!("{c:?} is not allowed; expected the name or the number of a user"))
            }
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => write!(f, "{id}"),
        }
    }
}

impl User {
    /// The account on this host. A number that no account has gets the group of the same number.
    ///
    /// # Errors
    /// In a sentence: there is none, or it is root's.
    pub fn account(&self) -> Result<Account, String> {
        let found = match self {
            Self::Name(name) => nix::unistd::User::from_name(name),
            Self::Id(id) => nix::unistd::User::from_uid((*id).into()),
        };
        let found = found.map_err(|error| format!("cannot be looked up: {error}"))?;
        let (uid, gid) = match (self, found) {
            (_, Some(found)) => (found.uid.as_raw(), found.gid.as_raw()),
            (Self::Id(id), None) => (*id, *id),
            (Self::Name(_), None) => {
                return Err(
                    "is no user of this host; expected one that is there, or a number".to_owned()
                );
            }
        };
        if uid == 0 {
            return Err("is root; expected another user, or none".to_owned());
        }
        Ok(Account { user: self.clone(), uid, gid })
    }
}

/// A user of this host, not root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    user: User,
    uid: u32,
    gid: u32,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            User::Name(name) => write!(f, "{name} ({})", self.uid),
            User::Id(id) => write!(f, "{id}"),
        }
    }
}

impl Account {
    /// Its number.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The number of its group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Makes the calling thread this user's for good, without further groups. Other threads stay as they
    /// are. Capabilities go, unless they are kept (`PR_SET_KEEPCAPS`).
    ///
    /// # Errors
    /// `EPERM` without `CAP_SETUID` and `CAP_SETGID`.
    pub fn assume(&self) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        set_thread_groups(&[])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    }

    /// Runs `work` with this user's rights, on a thread of its own, and waits for it. A panic in `work`
    /// goes on in the caller.
    ///
    /// # Errors
    /// As [`Account::assume`]; then `work` did not run.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("weft-account".into());
            let working = thread.spawn_scoped(scope, || {
                self.assume()?;
                Ok(work())
            })?;
            working.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }
}

/// Why the calling thread cannot read a file.
pub(crate) fn unreadable(error: &io::Error) -> String {
    let user = geteuid();
    match error.kind() {
        io::ErrorKind::PermissionDenied if !user.is_root() => {
            format!("cannot be read by user {user}: {error}")
        }
        _ => format!("cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn account(user: &str) -> Result<Account, String> {
        user.parse::<User>()?.account()
    }

    #[test]
    fn users_are_known_by_name_or_number() {
        let nobody = account("nobody").unwrap();
        assert_eq!(account("65534").map(|a| (a.uid(), a.gid())), Ok((nobody.uid(), nobody.gid())));
        assert_eq!(nobody.to_string(), "nobody (65534)");
        // Nobody has it, and it needs nobody.
        let free = account("3000000001").unwrap();
        assert_eq!(
            (free.uid(), free.gid(), free.to_string()),
            (3_000_000_001, 3_000_000_001, "3000000001".into())
        );
    }

    #[test]
    fn what_is_no_user_is_refused() {
        for (text, why) in [
            ("weft-nobody-has-this-name", "is no user of this host"),
            ("root", "is root"),
            ("0", "is root"),
            ("4294967295", "is out of range"),
            ("99999999999", "is out of range"),
            ("", "has 0 bytes"),
            ("a/b", "'/' is not allowed"),
            ("a:b", "':' is not allowed"),
        ] {
            let error = account(text).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
        assert!("w".repeat(USER_LEN_MAX + 1).parse::<User>().is_err());
    }

    /// Needs root.
    #[test]
    fn work_is_done_with_the_rights_of_the_user_and_of_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = |name: &str, mode| {
            let path = folder.path().join(name);
            fs::write(&path, "content").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let (open, closed, group) =
            (file("open", 0o644), file("closed", 0o600), file("group", 0o640));
        let nobody = account("nobody").unwrap();
        let read = nobody.run(|| [&open, &closed, &group].map(|path| fs::read(path).is_ok()));
        assert_eq!(read.unwrap(), [true, false, false]);
        assert!(fs::read(&closed).is_ok(), "the caller stays who it is");
    }
}
