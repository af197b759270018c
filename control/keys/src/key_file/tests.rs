use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
};

use rustix::process::geteuid;

use super::*;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

struct Lab {
    _folder: tempfile::TempDir,
    path: PathBuf,
    id: MasterKeyId,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let id = KeyFile::init(&path, NOW).unwrap();
        Self { _folder: folder, path, id }
    }

    fn refused(&self) -> String {
        KeyFile::open(&self.path).unwrap_err().to_string()
    }
}

#[tokio::test]
async fn a_key_is_wrapped_and_unwrapped() {
    let lab = Lab::new();
    assert_eq!(fs::metadata(&lab.path).unwrap().mode() & 0o7777, 0o600);
    let kms: Arc<dyn Kms> = Arc::new(KeyFile::open(&lab.path).unwrap());
    assert_eq!(kms.current().await.unwrap(), lab.id);
    let key = KeyBytes::random();
    let wrapped = kms.wrap(&key, b"acme").await.unwrap();
    assert_eq!((&wrapped.master, wrapped.bytes.len()), (&lab.id, WRAPPED_LEN));
    assert!(!wrapped.bytes.windows(8).any(|part| part == &key.expose()[..8]));
    assert_eq!(kms.unwrap(&wrapped, b"acme").await.unwrap().expose(), key.expose());
    let error = kms.unwrap(&wrapped, b"globex").await.unwrap_err();
    assert!(matches!(&error, KmsError::Refused(id) if *id == lab.id));
    for bit in 0..wrapped.bytes.len() * 8 {
        let mut changed = wrapped.clone();
        changed.bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(kms.unwrap(&changed, b"acme").await, Err(KmsError::Refused(_))));
    }
    for len in 0..wrapped.bytes.len() {
        let short = Wrapped { bytes: wrapped.bytes[..len].to_vec(), ..wrapped.clone() };
        assert!(matches!(kms.unwrap(&short, b"acme").await, Err(KmsError::Refused(_))));
    }
}

#[tokio::test]
async fn a_rotation_reaches_a_running_process() {
    let lab = Lab::new();
    let kms = KeyFile::open(&lab.path).unwrap();
    let key = KeyBytes::random();
    let old = kms.wrap(&key, b"x").await.unwrap();
    let newer = KeyFile::add(&lab.path, NOW).unwrap();
    assert_eq!(kms.current().await.unwrap(), newer);
    assert_eq!(Kms::held(&kms).await.unwrap(), [lab.id.clone(), newer.clone()]);
    assert_eq!(kms.wrap(&key, b"x").await.unwrap().master, newer);
    assert!(kms.unwrap(&old, b"x").await.is_ok(), "the old key still unwraps");
    let error = KeyFile::remove(&lab.path, &newer).unwrap_err().to_string();
    assert!(error.contains("is the newest"), "{error}");
    KeyFile::remove(&lab.path, &lab.id).unwrap();
    assert!(KeyFile::remove(&lab.path, &lab.id).unwrap_err().to_string().contains("has no key"));
    let error = kms.unwrap(&old, b"x").await.unwrap_err().to_string();
    let expected = format!("master key {} is needed and not there; held: {newer}", lab.id);
    assert_eq!(error, expected);
    assert_eq!(fs::metadata(&lab.path).unwrap().mode() & 0o7777, 0o600);
}

#[tokio::test]
async fn a_file_that_goes_is_missed_at_once() {
    let lab = Lab::new();
    let kms = KeyFile::open(&lab.path).unwrap();
    fs::remove_file(&lab.path).unwrap();
    let error = kms.current().await.unwrap_err().to_string();
    assert!(error.contains("is missing; restore it"), "{error}");
    assert!(lab.refused().contains("is missing"));
    assert!(matches!(KeyFile::add(&lab.path, NOW), Err(KeyFileError::Missing(_))));
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let lab = Lab::new();
    let before = fs::read(&lab.path).unwrap();
    assert!(matches!(KeyFile::init(&lab.path, NOW), Err(KeyFileError::Exists(_))));
    assert_eq!(fs::read(&lab.path).unwrap(), before);
    for _ in 1..MASTER_KEYS_MAX {
        KeyFile::add(&lab.path, NOW).unwrap();
    }
    assert!(KeyFile::add(&lab.path, NOW).unwrap_err().to_string().contains("has 16 keys"));
    assert!(KeyFile::open(&lab.path).is_ok());
    assert_eq!(fs::read_dir(lab.path.parent().unwrap()).unwrap().count(), 1, "nothing is left");
}

#[test]
fn what_others_may_read_is_refused() {
    let lab = Lab::new();
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o644] {
        fs::set_permissions(&lab.path, Permissions::from_mode(mode)).unwrap();
        let expected = format!("has mode {mode:04o}; expected 0600");
        assert!(lab.refused().contains(&expected), "{}", lab.refused());
    }
    fs::set_permissions(&lab.path, Permissions::from_mode(0o400)).unwrap();
    assert!(KeyFile::open(&lab.path).is_ok());
}

/// Only root can give a file away.
#[test]
fn what_belongs_to_another_user_is_refused() {
    let lab = Lab::new();
    if geteuid().is_root() {
        chown(&lab.path, Some(65_534), None).unwrap();
        assert!(lab.refused().contains("belongs to user 65534; expected user 0"));
    }
}

#[test]
fn what_is_no_file_of_keys_is_refused() {
    let lab = Lab::new();
    let link = lab.path.with_extension("link");
    symlink(&lab.path, &link).unwrap();
    let refused = |path: &Path| KeyFile::open(path).unwrap_err().to_string();
    assert!(refused(&link).ends_with("is a link; expected the file itself"));
    assert!(refused(lab.path.parent().unwrap()).ends_with("is no file; expected a file"));
    fs::write(&lab.path, vec![b'#'; KEY_FILE_LEN_MAX + 1]).unwrap();
    assert!(lab.refused().contains("is longer than 16384 bytes"));
    fs::write(&lab.path, "weft master keys v1\nsecret\n").unwrap();
    let refused = lab.refused();
    assert!(refused.contains("line 2: expected an id") && !refused.contains("secret"));
}
