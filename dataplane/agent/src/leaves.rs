//! Certificates of environments for this host: asked for when an attachment is to be here, renewed at half of their
//! lives, kept until they end.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use weft_pki::{Credentials, HostIdentity, PkiError, TrustAnchor};
use weft_types::{EnvironmentId, HostId};
use zeroize::Zeroizing;

use crate::{documents::Documents, state::KeptLeaf};

/// Certificates are renewed so much before or after half of their lives, at random, as a share of that half: hosts that
/// came together do not ask together.
const JITTER: f64 = 0.1;
/// How soon it is asked again after a failure, at first; it doubles with each one.
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// And at most.
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// Why a certificate is no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeafError {
    /// It does not belong to its key, or the authority would not accept it.
    #[error(transparent)]
    Certificate(#[from] PkiError),
    /// It is for another host or environment.
    #[error("is {0}'s; expected this host's in this environment")]
    Other(HostIdentity),
}

/// A certificate with its key.
pub(crate) struct Leaf {
    pub(crate) credentials: Credentials,
    certificate: String,
    key: Zeroizing<String>,
    anchors: Vec<String>,
    renew: SystemTime,
}

impl Leaf {
    /// What has just been issued to `host` in `environment`; `chance` is between 0 and 1.
    ///
    /// # Errors
    /// [`LeafError`].
    pub(crate) fn new(
        (environment, host): (&EnvironmentId, &HostId),
        certificate: String,
        key: Zeroizing<String>,
        anchors: Vec<String>,
        now: SystemTime,
        chance: f64,
    ) -> Result<Self, LeafError> {
        let credentials = Credentials::from_pem(certificate.as_bytes(), key.as_bytes())?;
        let whose = credentials.identity();
        if whose.environment != *environment || whose.host != *host {
            return Err(LeafError::Other(whose.clone()));
        }
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        credentials.check(&anchor(&anchors)?, weft_pki::UnixTime::since_unix_epoch(since_1970))?;
        let left = credentials.not_after().duration_since(now).unwrap_or_default();
        let renew = now + (left / 2).mul_f64(1.0 - JITTER + 2.0 * JITTER * chance.clamp(0.0, 1.0));
        Ok(Self { credentials, certificate, key, anchors, renew })
    }

    fn restore(kept: KeptLeaf) -> Result<Self, PkiError> {
        let credentials = Credentials::from_pem(kept.certificate.as_bytes(), kept.key.as_bytes())?;
        let renew = UNIX_EPOCH + Duration::from_secs(kept.renew);
        let KeptLeaf { certificate, key, anchors, .. } = kept;
        Ok(Self { credentials, certificate, key, anchors, renew })
    }

    fn keep(&self, environment: &EnvironmentId) -> KeptLeaf {
        KeptLeaf {
            environment: environment.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            anchors: self.anchors.clone(),
            renew: self.renew.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        }
    }
}

/// The authority of an environment, of one or several certificates.
pub(crate) fn anchor(anchors: &[String]) -> Result<TrustAnchor, PkiError> {
    TrustAnchor::from_pem(anchors.concat().as_bytes())
}

/// A request that runs or has failed.
#[derive(Debug, Clone, Copy)]
struct Asked {
    runs: bool,
    /// The pause after the last failure; none before the first.
    pause: Duration,
    /// When the next one may run.
    again: Instant,
    /// When it may where the last certificate is of an authority that issues no more.
    again_of_other: Instant,
}

/// All certificates of this host.
#[derive(Default)]
pub(crate) struct Leaves {
    leaves: BTreeMap<EnvironmentId, Leaf>,
    asked: BTreeMap<EnvironmentId, Asked>,
}

impl Leaves {
    /// Those that were kept; one that is no use any more is left out.
    pub(crate) fn restore(kept: Vec<KeptLeaf>) -> Self {
        let mut leaves = BTreeMap::new();
        for kept in kept {
            let environment = kept.environment.clone();
            match Leaf::restore(kept) {
                Ok(leaf) => drop(leaves.insert(environment, leaf)),
                Err(error) => {
                    tracing::warn!(%environment, %error, "a certificate that was kept is no use");
                }
            }
        }
        Self { leaves, asked: BTreeMap::new() }
    }

    pub(crate) fn keep(&self) -> Vec<KeptLeaf> {
        self.leaves.iter().map(|(environment, leaf)| leaf.keep(environment)).collect()
    }

    pub(crate) fn get(&self, environment: &EnvironmentId) -> Option<&Leaf> {
        self.leaves.get(environment)
    }

    /// When the first certificate ends.
    pub(crate) fn first_end(&self) -> Option<SystemTime> {
        self.leaves.values().map(|leaf| leaf.credentials.not_after()).min()
    }

    /// Those of which a certificate is to be asked for now: there is none and an attachment is to be here, its time
    /// has come, or the environment has another authority now. At most `len_max`, which count as asked for.
    pub(crate) fn take_due(
        &mut self,
        documents: &Documents,
        wall: SystemTime,
        now: Instant,
        len_max: usize,
    ) -> Vec<EnvironmentId> {
        let needed = documents.environments().iter().filter(|(_, e)| !e.attachments.is_empty());
        let due = needed.filter(|(id, environment)| {
            let is_good = self.leaves.get(*id).is_some_and(|leaf| {
                wall < leaf.renew && leaf.anchors.first() == environment.settings.anchors.first()
            });
            let leaf = self.leaves.get(*id);
            let is_of_other = leaf
                .is_some_and(|leaf| leaf.anchors.first() != environment.settings.anchors.first());
            let may_ask = self.asked.get(*id).is_none_or(|asked| {
                let again = if is_of_other { asked.again_of_other } else { asked.again };
                !asked.runs && again <= now
            });
            !is_good && may_ask
        });
        let due: Vec<_> = due.map(|(id, _)| id.clone()).take(len_max).collect();
        for id in &due {
            let first =
                Asked { runs: true, pause: Duration::ZERO, again: now, again_of_other: now };
            self.asked.entry(id.clone()).or_insert(first).runs = true;
        }
        due
    }

    /// One has come. Whatever is wrong with it, another one is not asked for at once.
    pub(crate) fn insert(&mut self, environment: EnvironmentId, leaf: Leaf, now: Instant) {
        let (again, again_of_other) = (now + AGAIN_MAX, now + AGAIN_MIN);
        let asked = Asked { runs: false, pause: Duration::ZERO, again, again_of_other };
        self.asked.insert(environment.clone(), asked);
        self.leaves.insert(environment, leaf);
    }

    /// None has come.
    pub(crate) fn fail(&mut self, environment: &EnvironmentId, now: Instant) {
        let before = self.asked.get(environment).map_or(Duration::ZERO, |asked| asked.pause);
        let pause = (before * 2).clamp(AGAIN_MIN, AGAIN_MAX);
        let again = now + pause;
        let asked = Asked { runs: false, pause, again, again_of_other: again };
        self.asked.insert(environment.clone(), asked);
    }

    /// The connection is another one: what ran will not be answered.
    pub(crate) fn forget_requests(&mut self) {
        self.asked.clear();
    }

    /// Forgets those of environments that are gone from this host.
    pub(crate) fn retain(&mut self, documents: &Documents) {
        let is_needed = |id: &EnvironmentId| {
            documents.environments().get(id).is_some_and(|e| !e.attachments.is_empty())
        };
        self.leaves.retain(|id, _| is_needed(id));
        self.asked.retain(|id, _| is_needed(id));
    }
}

#[cfg(test)]
mod tests {
    use weft_pki::{
        KeyKind,
        issue::{self, Authority, Validity},
        request,
    };

    use super::*;
    use crate::documents::tests::{answer, attachment};

    const DAY: Duration = Duration::from_secs(86_400);
    const ACME: &str = "acme";

    /// An environment's authority, and what a host is told of it.
    struct Issuer {
        authority: Authority,
        anchor: String,
    }

    impl Issuer {
        fn new(now: SystemTime) -> Self {
            let identity = "spiffe://weft/env/acme".parse().unwrap();
            let validity = Validity { not_before: now - DAY, not_after: now + 365 * DAY };
            let issued = issue::new_authority(&identity, validity, KeyKind::EcdsaP256).unwrap();
            let (anchor, key) = (issued.certificate_pem.clone(), issued.key_pem.clone());
            let authority = Authority::from_pem(anchor.as_bytes(), key.as_bytes()).unwrap();
            Self { authority, anchor }
        }

        fn leaf(&self, now: SystemTime, chance: f64) -> Leaf {
            let new = request::new_key(KeyKind::EcdsaP256).unwrap();
            let key = weft_pki::SigningRequest::from_der(&new.request).unwrap();
            let validity = Validity { not_before: now, not_after: now + DAY };
            let host = "host-a".parse().unwrap();
            let issued = self.authority.issue_host_for(&host, &key, validity).unwrap();
            let anchors = vec![self.anchor.clone()];
            Leaf::new((&acme(), &host), issued, new.key_pem, anchors, now, chance).unwrap()
        }

        fn documents(&self) -> Documents {
            let mut documents = Documents::default();
            self.tell(&mut documents, 1);
            documents.take(answer(2, vec![attachment(ACME, "web", "10.40.0.2")]));
            documents
        }

        fn tell(&self, documents: &mut Documents, revision: u64) {
            use weft_control_api::v1::{EnvironmentSettings, host_update::Update};
            let settings = EnvironmentSettings {
                id: ACME.to_owned(),
                subnets: vec!["10.40.0.0/24".to_owned()],
                anchors: vec![self.anchor.clone()],
                ..Default::default()
            };
            documents.take(answer(revision, vec![Update::Environment(settings)]));
        }
    }

    fn acme() -> EnvironmentId {
        ACME.parse().unwrap()
    }

    #[test]
    fn a_certificate_is_asked_for_once_and_renewed_at_half_of_its_life() {
        let (start, now) = (SystemTime::now(), Instant::now());
        let issuer = Issuer::new(start);
        let documents = issuer.documents();
        for (chance, share) in [(0.0, 0.45), (0.5, 0.5), (1.0, 0.55)] {
            let mut leaves = Leaves::default();
            assert_eq!(leaves.take_due(&documents, start, now, 16), [acme()]);
            assert_eq!(leaves.take_due(&documents, start, now, 16), [], "it runs");
            leaves.insert(acme(), issuer.leaf(start, chance), now);
            let now = now + AGAIN_MAX;
            let at = |share: f64| start + DAY.mul_f64(share);
            assert_eq!(leaves.take_due(&documents, at(share - 0.01), now, 16), []);
            assert_eq!(leaves.take_due(&documents, at(share + 0.01), now, 16), [acme()]);
        }
    }

    #[test]
    fn without_an_attachment_none_is_asked_for_and_none_is_kept() {
        let (start, now) = (SystemTime::now(), Instant::now());
        let issuer = Issuer::new(start);
        let mut documents = Documents::default();
        issuer.tell(&mut documents, 1);
        let mut leaves = Leaves::default();
        assert_eq!(leaves.take_due(&documents, start, now, 16), []);
        leaves.insert(acme(), issuer.leaf(start, 0.5), now);
        leaves.retain(&documents);
        assert!(leaves.get(&acme()).is_none());
    }

    #[test]
    fn failures_are_followed_by_longer_and_longer_pauses() {
        let (wall, start) = (SystemTime::now(), Instant::now());
        let documents = Issuer::new(wall).documents();
        let mut leaves = Leaves::default();
        let mut now = start;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(leaves.take_due(&documents, wall, now, 16), [acme()]);
            leaves.fail(&acme(), now);
            let pause = Duration::from_secs(seconds);
            assert_eq!(leaves.take_due(&documents, wall, now + pause.mul_f64(0.9), 16), []);
            now += pause;
        }
        leaves.forget_requests();
        assert_eq!(leaves.take_due(&documents, wall, now, 16), [acme()], "another connection");
    }

    #[test]
    fn another_authority_is_reason_enough() {
        let (start, now) = (SystemTime::now(), Instant::now());
        let (old, new) = (Issuer::new(start), Issuer::new(start));
        let mut documents = old.documents();
        let mut leaves = Leaves::default();
        leaves.insert(acme(), old.leaf(start, 0.5), now);
        assert_eq!(leaves.take_due(&documents, start, now, 16), []);
        new.tell(&mut documents, 3);
        assert_eq!(leaves.take_due(&documents, start, now, 16), [], "not at once");
        assert_eq!(leaves.take_due(&documents, start, now + AGAIN_MAX, 16), [acme()]);
    }

    #[test]
    fn what_is_kept_is_the_same_again_and_foreign_keys_are_refused() {
        let (start, now) = (SystemTime::now(), Instant::now());
        let issuer = Issuer::new(start);
        let mut leaves = Leaves::default();
        leaves.insert(acme(), issuer.leaf(start, 0.5), now);
        let again = Leaves::restore(leaves.keep());
        assert_eq!(again.first_end(), leaves.first_end());
        let seconds = |leaf: &Leaf| leaf.renew.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let [a, b] = [&again, &leaves].map(|leaves| seconds(leaves.get(&acme()).unwrap()));
        assert_eq!(a, b);
        let mut kept = leaves.keep();
        kept[0].key = request::new_key(KeyKind::EcdsaP256).unwrap().key_pem;
        assert!(Leaves::restore(kept).get(&acme()).is_none());
        let foreign = Issuer::new(start);
        let judge = |environment: &str, host: &str, anchor: &str| {
            let leaf = issuer.leaf(start, 0.5);
            let whose = (&environment.parse().unwrap(), &host.parse().unwrap());
            Leaf::new(whose, leaf.certificate, leaf.key, vec![anchor.to_owned()], start, 0.5)
        };
        assert!(judge(ACME, "host-a", &issuer.anchor).is_ok());
        assert!(judge(ACME, "host-a", &foreign.anchor).is_err());
        assert!(matches!(judge(ACME, "host-b", &issuer.anchor), Err(LeafError::Other(_))));
        assert!(matches!(judge("beta", "host-a", &issuer.anchor), Err(LeafError::Other(_))));
    }
}
