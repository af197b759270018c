//! Certificates of every kind that nobody may accept, as many as wanted, from a seed.

use anyhow::Result;
use rcgen::ExtendedKeyUsagePurpose::{
    ClientAuth, CodeSigning, EmailProtection, ServerAuth, TimeStamping,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::{Identity, Leaf, identity, uri};
use crate::pki::Pki;
use crate::seeded::Seeded;

const HOST: &str = "host-b";
/// Seconds of ten years.
const YEARS: usize = 10 * 365 * 86_400;
/// Certificates of the longest chain.
const CHAIN_MAX: usize = 40;
/// Names of the hugest certificate; 20 bytes each.
const NAMES_MAX: usize = 4_000;

/// What is wrong, and the certificate that has it.
type Bad = (String, Identity);
type Kind = fn(&Pki, &Pki, &mut Seeded) -> Result<Bad>;

/// Makes `count` bad certificates of host-b in an environment, each kind as often as the others. `other` is
/// another environment's.
///
/// # Errors
/// When an authority's files cannot be read.
pub fn generate(pki: &Pki, other: &Pki, random: &mut Seeded, count: usize) -> Result<Vec<Bad>> {
    let kinds: [Kind; 8] = [expired, early, untrusted, useless, misnamed, long, huge, malformed];
    (0..count).map(|number| kinds[number % kinds.len()](pki, other, random)).collect()
}

fn seconds(random: &mut Seeded, max: usize) -> i64 {
    i64::try_from(random.below(max)).unwrap_or(0)
}

fn expired(pki: &Pki, _: &Pki, random: &mut Seeded) -> Result<Bad> {
    let ago = 60 + seconds(random, YEARS);
    let mut leaf = Leaf::proper(pki.environment(), HOST);
    (leaf.valid_from, leaf.valid_until) = (-ago - 1 - seconds(random, YEARS), -ago);
    Ok((format!("expired for {ago} s"), leaf.signed_by(pki)?))
}

fn early(pki: &Pki, _: &Pki, random: &mut Seeded) -> Result<Bad> {
    let ahead = 60 + seconds(random, YEARS);
    let mut leaf = Leaf::proper(pki.environment(), HOST);
    (leaf.valid_from, leaf.valid_until) = (ahead, ahead + 1 + seconds(random, YEARS));
    Ok((format!("valid in {ahead} s"), leaf.signed_by(pki)?))
}

fn untrusted(pki: &Pki, other: &Pki, random: &mut Seeded) -> Result<Bad> {
    let leaf = Leaf::proper(pki.environment(), HOST);
    Ok(match random.below(3) {
        0 => ("signed by itself".into(), leaf.self_signed()?),
        1 => ("signed by another environment".into(), leaf.signed_by(other)?),
        _ => {
            let foreign = Leaf::proper(other.environment(), HOST).signed_by(other)?;
            ("another environment's".into(), foreign)
        }
    })
}

fn useless(pki: &Pki, _: &Pki, random: &mut Seeded) -> Result<Bad> {
    let mut leaf = Leaf::proper(pki.environment(), HOST);
    leaf.usages = match random.below(5) {
        0 => vec![ClientAuth],
        1 => vec![ServerAuth],
        2 => vec![CodeSigning, TimeStamping],
        3 => vec![EmailProtection],
        _ => Vec::new(),
    };
    leaf.authority = random.chance(0.2);
    let what = format!("usages {:?}, authority: {}", leaf.usages, leaf.authority);
    Ok((what, leaf.signed_by(pki)?))
}

fn misnamed(pki: &Pki, _: &Pki, random: &mut Seeded) -> Result<Bad> {
    let environment = pki.environment();
    let mut leaf = Leaf::proper(environment, HOST);
    let proper = uri(environment, HOST);
    match random.below(7) {
        0 => leaf.uris = vec![uri(environment, &format!("host-{}", random.next_u64()))],
        1 => leaf.uris = vec![uri(&format!("e{}", random.next_u64()), HOST)],
        2 => leaf.uris = vec![proper.replace("//weft/", "//other/")],
        3 => leaf.uris.push(uri(environment, "host-d")),
        4 => leaf.dns_names = vec!["host-b.example".into()],
        5 => leaf.uris = vec![format!("{proper}/{}", "a".repeat(1 + random.below(3_000)))],
        _ => {
            // One character of the right name is another one.
            let at = random.below(proper.len());
            let mut name = proper.into_bytes();
            name[at] = if name[at] == b'x' { b'y' } else { b'x' };
            leaf.uris = vec![String::from_utf8(name)?];
        }
    }
    let name = leaf.uris.first().map_or("", String::as_str);
    Ok((format!("named {}", &name[..name.len().min(80)]), leaf.signed_by(pki)?))
}

/// Authority below authority below authority.
fn long(pki: &Pki, _: &Pki, random: &mut Seeded) -> Result<Bad> {
    let key = KeyPair::from_pem(&std::fs::read_to_string(pki.ca_key())?)?;
    let mut issuer = Issuer::from_ca_cert_pem(&std::fs::read_to_string(pki.ca_cert())?, key)?;
    let mut chain = Vec::new();
    let between = 4 + random.below(CHAIN_MAX - 4);
    for number in 0..between {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, format!("between {number}"));
        let key = KeyPair::generate()?;
        chain.insert(0, params.signed_by(&key, &issuer)?.der().clone());
        issuer = Issuer::new(params, key);
    }
    let key = KeyPair::generate()?;
    let leaf = Leaf::proper(pki.environment(), HOST).params()?.signed_by(&key, &issuer)?;
    let mut made = identity(leaf.der().clone(), &key);
    made.chain.extend(chain);
    Ok((format!("{between} authorities between"), made))
}

fn huge(pki: &Pki, _: &Pki, random: &mut Seeded) -> Result<Bad> {
    let mut leaf = Leaf::proper(pki.environment(), HOST);
    let names = NAMES_MAX / 8 + random.below(NAMES_MAX);
    leaf.dns_names = (0..names).map(|n| format!("host{n:08}.example")).collect();
    let made = leaf.signed_by(pki)?;
    Ok((format!("{} bytes", made.chain[0].len()), made))
}

/// The right one with a few bytes changed, cut or added somewhere.
fn malformed(pki: &Pki, _: &Pki, random: &mut Seeded) -> Result<Bad> {
    let mut made = Leaf::proper(pki.environment(), HOST).signed_by(pki)?;
    let mut der = made.chain[0].to_vec();
    let at = random.below(der.len());
    let what = match random.below(4) {
        0 => {
            der[at] ^= 1 << random.below(8);
            "a bit changed"
        }
        1 => {
            der.truncate(at);
            "cut"
        }
        2 => {
            let mut noise = vec![0; 1 + random.below(64)];
            random.fill(&mut noise);
            der.splice(at..at, noise);
            "bytes added"
        }
        _ => {
            let end = der.len().min(at + 1 + random.below(64));
            random.fill(&mut der[at..end]);
            "bytes replaced"
        }
    };
    if made.chain[0].as_ref() == der.as_slice() {
        // Random bytes may be what was there.
        der.pop();
    }
    made.chain = vec![der.into()];
    Ok((format!("{what} at {at}"), made))
}
