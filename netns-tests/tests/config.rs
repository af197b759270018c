//! Configurations: what is refused, with which words, and how much is taken.

use std::path::Path;
use std::time::Duration;

use netns_tests::certificates::Leaf;
use netns_tests::config::{Attachment, Config, Peer};
use netns_tests::daemon::Daemon;
use netns_tests::process::wait_for;
use netns_tests::status::list;
use netns_tests::{ACME, BETA, Load, Plan, Result, Site, ensure, scenario};

const LIMIT: Duration = Duration::from_secs(10);

/// A change that breaks a configuration, and words that the complaint has to hold besides the
/// file and a line.
type Case = (&'static str, &'static [&'static str], Box<dyn Fn(&mut Config)>);

fn case(
    what: &'static str,
    words: &'static [&'static str],
    change: impl Fn(&mut Config) + 'static,
) -> Case {
    (what, words, Box::new(change))
}

/// `FILE:LINE:` at the beginning of a complaint.
fn names_a_line(text: &str, file: &Path) -> bool {
    let file = format!("{}:", file.display());
    text.lines().filter_map(|line| line.split_once(&file)).any(|(_, rest)| {
        rest.split(':').next().is_some_and(|number| number.trim().parse::<u32>().is_ok())
    })
}

/// Fails unless `--check` and a start are both refused with all of `words`.
fn refused(site: &Site, what: &str, words: &[&str], text: &str) -> Result<()> {
    let file = site.config_file("host-a");
    std::fs::write(&file, text)?;
    let ns = &site.topology.host("host-a")?.ns;
    let checked = Daemon::check(ns, &file)?;
    let said = format!("{}{}", checked.stdout, checked.stderr);
    ensure!(!checked.status.success(), "{what}: accepted\n{text}");
    ensure!(checked.status.code() != Some(101), "{what}: panicked: {said}");
    ensure!(names_a_line(&said, &file), "{what}: no file and line in: {said}");
    for word in words {
        ensure!(said.contains(word), "{what}: not a word of {word:?} in: {said}");
    }
    // Without --check it is no different, and nothing of it is left.
    let log = file.with_extension("start.log");
    let mut daemon = Daemon::spawn(ns, &file, &site.socket("host-a"), &log)?;
    let status = wait_for(&format!("{what}: weftd ends"), LIMIT, || daemon.ended())?;
    ensure!(!status.success(), "{what}: started");
    ensure!(daemon.log().contains(words[0]), "{what}: {}", daemon.log());
    ensure!(!site.socket("host-a").exists(), "{what}: left its socket");
    Ok(())
}

fn attachments() -> Vec<Case> {
    let first = |c: &mut Config| -> Attachment { c.environment(ACME).attachments[0].clone() };
    vec![
        case("two attachments with one address", &["address", "10.40.0.2"], move |c| {
            let twin = Attachment { name: "twin".into(), ..first(c) };
            c.environment(ACME).attachments.push(twin);
        }),
        case("two attachments with one name", &["name", "a1"], move |c| {
            let twin =
                Attachment { address: Some("10.40.0.77".into()), address6: None, ..first(c) };
            c.environment(ACME).attachments.push(twin);
        }),
        case("an address outside its subnet", &["address", "10.41.0.2", "10.40.0.0/16"], |c| {
            c.environment(ACME).attachments[0].address = Some("10.41.0.2".into());
        }),
        case("the network's own address", &["address", "10.40.0.0"], |c| {
            c.environment(ACME).attachments[0].address = Some("10.40.0.0".into());
        }),
        case("the broadcast address", &["address", "10.40.255.255"], |c| {
            c.environment(ACME).attachments[0].address = Some("10.40.255.255".into());
        }),
        case("no address", &["address"], |c| {
            c.environment(ACME).attachments[0].address = Some("ten".into());
        }),
        case("an interface name that is too long", &["interface"], |c| {
            c.environment(ACME).attachments[0].interface = Some("sixteen-letters-".into());
        }),
        case("a name that is no label", &["name"], |c| {
            c.environment(ACME).attachments[0].name = "Web 1".into();
        }),
    ]
}

fn peers() -> Vec<Case> {
    let first = |c: &mut Config| -> Peer { c.environment(ACME).peers[0].clone() };
    vec![
        case("an address both here and at a peer", &["addresses", "10.40.0.2"], |c| {
            c.environment(ACME).peers[0].addresses.push("10.40.0.2".into());
        }),
        case("an address at two peers", &["addresses", "10.40.0.3"], move |c| {
            let twin = Peer { host: "host-c".into(), ..first(c) };
            c.environment(ACME).peers.push(twin);
        }),
        case("a peer twice", &["host", "host-b"], move |c| {
            let twin = Peer { addresses: Vec::new(), ..first(c) };
            c.environment(ACME).peers.push(twin);
        }),
        case("itself as a peer", &["host", "host-a"], |c| {
            c.environment(ACME).peers[0].host = "host-a".into();
        }),
        case("an endpoint without a port", &["endpoint"], |c| {
            c.environment(ACME).peers[0].endpoint = "192.0.2.2".into();
        }),
        case("a peer's address outside the subnet", &["addresses", "10.99.0.1"], |c| {
            c.environment(ACME).peers[0].addresses.push("10.99.0.1".into());
        }),
    ]
}

fn others() -> Vec<Case> {
    vec![
        case("an environment twice", &["id", ACME], |c| {
            let twin = c.environment(ACME).clone();
            c.environments.push(twin);
        }),
        case("no subnet at all", &["subnet"], |c| {
            let environment = c.environment(ACME);
            (environment.subnet, environment.subnet6) = (None, None);
        }),
        case("a subnet with host bits", &["subnet", "10.40.0.1/16"], |c| {
            c.environment(ACME).subnet = Some("10.40.0.1/16".into());
        }),
        case("a listen address that is none", &["listen"], |c| c.listen = "everywhere".into()),
        case("no workers", &["workers"], |c| c.workers = Some(0)),
        case("too many workers", &["workers"], |c| c.workers = Some(65)),
        case("metrics on the listening port", &["metrics"], |c| c.metrics = Some(c.listen.clone())),
        case("epochs that are too short", &["epoch_datagrams_max"], |c| {
            c.keys = Some(netns_tests::config::KeyLimits {
                epoch_datagrams_max: Some(63),
                ..Default::default()
            });
        }),
        case("a host name that is no label", &["host"], |c| c.host = "Host A".into()),
    ]
}

#[test]
fn a_right_configuration_passes_the_check() {
    scenario(Load::Light, |world| {
        let site = Site::prepare(world, &Plan::pair().two_each().with_beta())?;
        for host in ["host-a", "host-b"] {
            let checked = Daemon::check(&site.topology.host(host)?.ns, &site.write(host)?)?;
            checked.ok()?;
        }
        // Relative paths are relative to the file, wherever the daemon was started.
        let text = std::fs::read_to_string(site.config_file("host-a"))?;
        let dir = format!("{}/", world.dir().display());
        let relative = text.replace(&dir, "");
        ensure!(relative.len() < text.len() - 5 * dir.len(), "nothing was made relative");
        std::fs::write(site.config_file("host-a"), relative)?;
        let checked =
            Daemon::check(&site.topology.host("host-a")?.ns, &site.config_file("host-a"))?;
        checked.ok().map(drop)
    });
}

#[test]
fn wrong_configurations_are_refused() {
    scenario(Load::Light, |world| {
        let site = Site::prepare(world, &Plan::pair())?;
        for (what, words, change) in [attachments(), peers(), others()].into_iter().flatten() {
            let mut config = site.configs["host-a"].clone();
            change(&mut config);
            refused(&site, what, words, &config.to_toml()?)?;
        }
        Ok(())
    });
}

#[test]
fn wrong_texts_are_refused() {
    scenario(Load::Light, |world| {
        let site = Site::prepare(world, &Plan::pair())?;
        let good = site.configs["host-a"].to_toml()?;
        for (what, words, text) in [
            ("an unknown field", &["colour"][..], format!("colour = \"red\"\n{good}")),
            ("an unknown field deep down", &["colour"], format!("{good}\ncolour = \"red\"\n")),
            (
                "a field of another type",
                &["workers"],
                good.replace("workers = 2", "workers = \"2\""),
            ),
            ("a field that is missing", &["listen"], good.replace("listen = ", "# ")),
            ("no TOML", &["expected"], format!("{good}\n[[environment\n")),
        ] {
            refused(&site, what, words, &text)?;
        }
        let missing = Daemon::check(&site.topology.host("host-a")?.ns, Path::new("/nowhere.toml"))?;
        ensure!(!missing.status.success() && missing.stderr.contains("/nowhere.toml"));
        Ok(())
    });
}

#[test]
fn all_mistakes_are_named_at_once() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        let config = site.config("host-a");
        config.workers = Some(0);
        config.environment(ACME).attachments[0].address = Some("10.41.0.2".into());
        config.environment(ACME).peers[0].endpoint = "nowhere".into();
        let text = config.to_toml()?;
        refused(&site, "three mistakes", &["workers", "10.41.0.2", "endpoint"], &text)
    });
}

#[test]
fn wrong_credentials_are_refused() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan::pair().with_beta())?;
        let own = site.configs["host-a"].clone();
        let of = |site: &Site, host: &str, id: &str| {
            let found = site.configs[host].environments.iter().find(|e| e.id == id).cloned();
            found.unwrap_or_default()
        };
        let (beta, other) = (of(&site, "host-a", BETA), of(&site, "host-b", ACME));
        let spoilt = |what: &str, valid: (i64, i64)| -> Result<_> {
            let mut leaf = Leaf::proper(ACME, "host-a");
            (leaf.valid_from, leaf.valid_until) = valid;
            leaf.signed_by(&site.pki[ACME])?.write(&world.dir().join(what))
        };
        let expired = spoilt("expired", (-2_000, -60))?;
        let early = spoilt("early", (3_600, 7_200))?;
        let environment = |cert: &Path, key: &Path| {
            let mut config = own.clone();
            let environment = config.environment(ACME);
            (environment.cert, environment.key) = (cert.to_owned(), key.to_owned());
            config
        };
        let acme = of(&site, "host-a", ACME);
        let garbage = world.dir().join("garbage.pem");
        std::fs::write(&garbage, "no certificate")?;
        for (what, word, config) in [
            ("a certificate of another environment", "cert", environment(&beta.cert, &beta.key)),
            ("a certificate of another host", "cert", environment(&other.cert, &other.key)),
            ("an expired certificate", "expired", environment(&expired.cert, &expired.key)),
            ("a certificate of tomorrow", "cert", environment(&early.cert, &early.key)),
            ("a key of another certificate", "key", environment(&acme.cert, &other.key)),
            ("a key that is not there", "key", environment(&acme.cert, Path::new("/no.key"))),
            ("a key that is none", "key", environment(&acme.cert, &garbage)),
            ("a certificate that is none", "cert", environment(&garbage, &acme.key)),
        ] {
            refused(&site, what, &[word], &config.to_toml()?)?;
        }
        let mut config = own.clone();
        config.environment(ACME).ca = site.pki[BETA].ca_cert();
        refused(&site, "another authority", &["ca"], &config.to_toml()?)?;
        // The unspoilt one still works.
        *site.config("host-a") = own;
        let checked = Daemon::check(&site.topology.host("host-a")?.ns, &site.write("host-a")?)?;
        checked.ok().map(drop)
    });
}

/// What netns.sh sets as its limits: many peers with many addresses each.
const PEERS: u8 = 40;
const ADDRESSES: u8 = 52;

#[test]
fn many_peers_are_taken_and_too_many_refused() {
    scenario(Load::Light, |world| {
        let mut site = Site::prepare(world, &Plan::pair())?;
        let template = site.config("host-a").environment(ACME).peers.clone();
        let peer = |number: u16, addresses: Vec<String>| Peer {
            host: format!("host-{number}"),
            endpoint: format!("192.0.2.{}:5820", 100 + number % 100),
            alternative_endpoints: Vec::new(),
            addresses,
            keepalive_seconds: None,
        };
        let many = (1..=PEERS)
            .map(|n| peer(n.into(), (1..=ADDRESSES).map(|a| format!("10.40.{n}.{a}")).collect()));
        let environment = site.config("host-a").environment(ACME);
        environment.peers = template.iter().cloned().chain(many).collect();
        site.start()?;
        site.settle()?;
        let status = site.daemon("host-a")?.status()?;
        let peers = list(&status.environment(ACME)?["peers"]);
        ensure!(peers.len() == usize::from(PEERS) + 1, "{} peers", peers.len());
        let counts: Vec<_> = peers.iter().map(|p| list(&p["addresses"]).len()).collect();
        let full = counts.iter().filter(|count| **count == usize::from(ADDRESSES)).count();
        ensure!(full == usize::from(PEERS), "addresses by peer: {counts:?}");
        site.assert_healthy()?;
        site.daemons.clear();

        let mut config = site.configs["host-a"].clone();
        config.environment(ACME).peers = (0..1_025).map(|n| peer(n, Vec::new())).collect();
        refused(&site, "1,025 peers", &["peer", "1024"], &config.to_toml()?)?;
        let mut config = site.configs["host-a"].clone();
        let first = config.environment(ACME).attachments[0].clone();
        config.environment(ACME).attachments = (0..257_u16)
            .map(|n| Attachment {
                name: format!("c{n}"),
                address: Some(format!("10.40.{}.{}", 100 + n / 200, 2 + n % 200)),
                address6: None,
                ..first.clone()
            })
            .collect();
        refused(&site, "257 attachments", &["attachment", "256"], &config.to_toml()?)
    });
}
