//! Rotations by several who decide at once, followed by hosts that come and go.

use std::collections::BTreeSet;

use proptest::prelude::*;
use weft_store::Revision;

use super::*;
use crate::{
    id::OrganisationId,
    placement::tests::Plain,
    record::{EnvironmentState, Lifetimes, OtherNames, Quotas},
};

const LEAF: Duration = Duration::from_secs(3_600);
const LIVES: Lifetimes = Lifetimes { leaf_seconds: 3_600, longer_until: None };
const HOSTS: usize = 3;
const START: UnixMs = UnixMs(1_000_000);

fn authority(generation: u32, state: AuthorityState, since: UnixMs) -> Authority {
    Authority {
        environment: "env-a".parse().unwrap(),
        generation,
        state,
        certificate: format!("certificate {generation}"),
        sealed_key: format!("key {generation}"),
        created: since,
        since: Some(since),
    }
}

fn environment() -> Environment {
    Environment {
        id: "env-a".parse().unwrap(),
        organisation: OrganisationId::from_random(&[0; 10]),
        name: "shop".parse().unwrap(),
        state: EnvironmentState::Active,
        subnets: Vec::new(),
        quotas: Quotas::default(),
        held: false,
        lifetimes: LIVES,
        other_names: OtherNames::default(),
        created: START,
    }
}

/// A store with an environment whose authority has one generation.
fn made() -> Plain {
    let mut store = Plain::default();
    store.put(&environment());
    store.put(&authority(1, AuthorityState::Current, START));
    store
}

fn read(store: &Plain) -> Generations {
    Generations::new(store.all::<Authority>())
}

fn states(store: &Plain) -> Vec<(u32, AuthorityState)> {
    read(store).iter().map(|authority| (authority.generation, authority.state)).collect()
}

fn begin(store: &mut Plain, known: &Generations, now: UnixMs) -> bool {
    let Ok(Wanted::New(n)) = known.wanted(known.current().unwrap().record.generation) else {
        return false;
    };
    let environment = store.get("env-a").unwrap();
    let new = authority(n, AuthorityState::Next, now);
    store.commit(&known.begin(&environment, &new).unwrap())
}

fn replace(store: &mut Plain, known: &Generations, now: UnixMs) -> bool {
    let Ok(Wanted::New(n)) = known.wanted_at_once(known.current().unwrap().record.generation)
    else {
        return false;
    };
    let environment = store.get("env-a").unwrap();
    let new = authority(n, AuthorityState::Current, now);
    store.commit(&known.replace(&environment, &new).unwrap())
}

use AuthorityState::{Current, Next, Previous};

#[test]
fn a_rotation_goes_from_step_to_step_in_its_time() {
    let mut store = made();
    assert_eq!(read(&store).due(LIVES, true, UnixMs(u64::MAX)), None);
    let known = read(&store);
    assert!(begin(&mut store, &known, START));
    assert!(!begin(&mut store, &known, START), "who decides from an older state changes nothing");
    assert_eq!(states(&store), [(1, Current), (2, Next)]);
    assert_eq!(read(&store).wanted(1).unwrap(), Wanted::Already);

    let all = LEAF + LEAF_MARGIN;
    let just_before = |after: Duration| UnixMs(START.after(after).0 - 1);
    for (everybody, now, expected) in [
        (true, just_before(PREPARE_MIN), None),
        (true, START.after(PREPARE_MIN), Some(Step::Switch)),
        (false, just_before(all), None),
        (false, START.after(all), Some(Step::Switch)),
    ] {
        assert_eq!(read(&store).due(LIVES, everybody, now), expected);
    }
    let known = read(&store);
    let switch = known.step(Step::Switch, LIVES, START).unwrap();
    assert!(store.commit(&switch) && !store.commit(&switch));
    assert_eq!(states(&store), [(2, Current), (1, Previous)]);
    let keys: Vec<_> = read(&store).iter().map(|a| a.sealed_key.clone()).collect();
    assert_eq!(keys, ["key 2", ""], "the key of what issues no more is gone");
    assert_eq!(read(&store).wanted(1).unwrap(), Wanted::Already);
    assert!(matches!(read(&store).wanted(2), Err(RotationError::UnderWay(1))));
    let beyond = RotationError::Generation { asked: 3, current: 2 };
    assert_eq!(read(&store).wanted(3).unwrap_err().to_string(), beyond.to_string());

    assert_eq!(read(&store).due(LIVES, true, just_before(all)), None);
    assert_eq!(read(&store).due(LIVES, true, START.after(all)), Some(Step::Retire));
    let retire = read(&store).step(Step::Retire, LIVES, START.after(all)).unwrap();
    assert!(store.commit(&retire) && !store.commit(&retire));
    assert_eq!(states(&store), [(2, Current)]);
    assert_eq!(read(&store).wanted(2).unwrap(), Wanted::New(3));
}

/// Somebody may be away with a leaf of before.
#[test]
fn leaves_that_were_longer_hold_a_rotation_up_as_they_would_have() {
    let day = Lifetimes::of(24 * 3_600);
    let shorter = day.changed(3_600, START);
    let mut store = made();
    let known = read(&store);
    let begins = START.after(LEAF);
    assert!(begin(&mut store, &known, begins));
    let all = START.after(24 * LEAF + LEAF_MARGIN);
    let next = read(&store);
    assert_eq!(next.due(shorter, false, UnixMs(all.0 - 1)), None);
    assert_eq!(next.due(shorter, false, all), Some(Step::Switch));
    assert!(store.commit(&next.step(Step::Switch, shorter, begins).unwrap()));
    let previous = read(&store);
    assert_eq!(previous.due(shorter, true, UnixMs(all.0 - 1)), None);
    assert_eq!(previous.due(shorter, true, all), Some(Step::Retire));
    // Those that are longer from now on are not of what issues no more.
    let longer = LIVES.changed(24 * 3_600, begins);
    assert_eq!(longer.longer_until, None);
}

#[test]
fn what_is_stolen_is_trusted_no_more_in_whichever_state_it_is() {
    let mut store = made();
    let known = read(&store);
    assert!(begin(&mut store, &known, START));
    // Whoever got the key of the one may have got that of the next, too.
    let known = read(&store);
    assert!(replace(&mut store, &known, START));
    assert_eq!(states(&store), [(3, Current)]);
    assert_eq!(read(&store).wanted_at_once(1).unwrap(), Wanted::Already);
    assert_eq!(read(&store).wanted_at_once(2).unwrap(), Wanted::Already);
    assert!(read(&store).wanted_at_once(4).is_err());

    // One that has ended to issue.
    let known = read(&store);
    assert!(begin(&mut store, &known, START));
    assert!(store.commit(&read(&store).step(Step::Switch, LIVES, START).unwrap()));
    assert_eq!(states(&store), [(4, Current), (3, Previous)]);
    assert_eq!(read(&store).wanted_at_once(3).unwrap(), Wanted::Distrust);
    assert!(store.commit(&read(&store).distrust(3).unwrap()));
    assert_eq!(states(&store), [(4, Current)]);
}

#[test]
fn an_authority_is_replaced_long_before_its_end() {
    let store = made();
    let day = Duration::from_secs(24 * 3_600);
    let begins = START.after(day * (AUTHORITY_DAYS - ROTATE_BEFORE_DAYS));
    assert!(!read(&store).ends_soon(UnixMs(begins.0 - 1)));
    assert!(read(&store).ends_soon(begins));
    let mut store = store;
    let known = read(&store);
    assert!(begin(&mut store, &known, begins));
    assert!(!read(&store).ends_soon(begins.after(day)), "once");
}

#[test]
fn generations_of_before_have_their_time_from_when_they_were_made() {
    let text = r#"{"environment":"env-a","generation":1,"state":"current","certificate":"c",
                   "sealed_key":"k","created":7}"#;
    let read: Authority = serde_json::from_str(text).unwrap();
    assert_eq!((read.since, read.since()), (None, UnixMs(7)));
}

/// Somebody with a leaf, who trusts what it was told of last.
#[derive(Debug, Clone, Default)]
struct Host {
    is_away: bool,
    trusts: BTreeSet<u32>,
    leaf: Option<Leaf>,
    heard: u64,
    /// Since the last time that generations were distrusted at once.
    is_told: bool,
}

#[derive(Debug, Clone, Copy)]
struct Leaf {
    of: u32,
    ends: UnixMs,
    renew: UnixMs,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    /// Leaves are valid for so many hours from now on.
    Live(u32),
    Pass(u32),
    Toggle(usize),
    Begin(usize),
    Replace(usize),
    Step(usize),
    /// Somebody who decides reads what there is.
    Read(usize),
}

/// What somebody decides from.
type Known = (Generations, Lifetimes);

fn read_all(store: &Plain) -> Known {
    let environment: Decoded<Environment> = store.get("env-a").unwrap();
    (read(store), environment.record.lifetimes)
}

struct World {
    now: UnixMs,
    store: Plain,
    hosts: [Host; HOSTS],
    knows: [Known; 2],
    /// Nothing before this one is trusted.
    first: u32,
}

impl World {
    fn tell(&mut self, n: usize) {
        let (generations, lives) = read_all(&self.store);
        let current = generations.current().unwrap().record.generation;
        let (now, host) = (self.now, &mut self.hosts[n]);
        if host.is_away {
            return;
        }
        host.trusts = generations.iter().map(|authority| authority.generation).collect();
        (host.heard, host.is_told) = (self.store.revision, true);
        let is_good = host.leaf.is_some_and(|leaf| leaf.of == current && leaf.renew > now);
        if !is_good {
            let life = Duration::from_secs(lives.leaf_seconds.into());
            let (ends, renew) = (now.after(life), now.after(life / 2));
            host.leaf = Some(Leaf { of: current, ends, renew });
        }
    }

    fn everybody_has_it(&self, known: &Generations) -> bool {
        let Some(next) = known.next() else { return true };
        self.hosts.iter().all(|host| Revision(host.heard) >= next.modified)
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Pass(minutes) => {
                for _ in 0..minutes {
                    self.now = self.now.after(Duration::from_secs(60));
                    for n in 0..HOSTS {
                        self.tell(n);
                        self.check();
                    }
                }
            }
            Action::Live(hours) => {
                let before = self.store.get::<Environment>("env-a").unwrap().record;
                let lifetimes = before.lifetimes.changed(hours * 3_600, self.now);
                self.store.put(&Environment { lifetimes, ..before });
            }
            Action::Toggle(n) => self.hosts[n].is_away ^= true,
            Action::Read(n) => self.knows[n] = read_all(&self.store),
            Action::Begin(n) => {
                begin(&mut self.store, &self.knows[n].0, self.now);
            }
            Action::Replace(n) => {
                if replace(&mut self.store, &self.knows[n].0, self.now) {
                    self.first = read(&self.store).newest();
                    self.hosts.iter_mut().for_each(|host| host.is_told = false);
                }
            }
            Action::Step(n) => {
                let (known, lives) = &self.knows[n];
                if let Some(step) = known.due(*lives, self.everybody_has_it(known), self.now) {
                    self.store.commit(&known.step(step, *lives, self.now).unwrap());
                }
            }
        }
        self.check();
    }

    fn check(&self) {
        let all = read(&self.store);
        for (state, most) in [(Current, 1), (Next, 1), (Previous, 1)] {
            assert!(all.in_state(state).count() <= most, "{all:?}");
        }
        let current = &all.current().unwrap().record;
        for authority in all.iter() {
            let expected = match authority.state {
                Next => authority.generation > current.generation,
                Current => true,
                Previous => {
                    authority.generation < current.generation && authority.sealed_key.is_empty()
                }
            };
            assert!(expected && authority.generation >= self.first, "{all:?}");
        }
        let told = || self.hosts.iter().filter(|host| host.is_told);
        for (one, other) in told().flat_map(|one| told().map(move |other| (one, other))) {
            let (Some(leaf), Some(others)) = (one.leaf, other.leaf) else { continue };
            if leaf.ends > self.now && others.ends > self.now {
                assert!(
                    other.trusts.contains(&leaf.of),
                    "{other:?} does not trust {one:?}: {all:?}"
                );
            }
            assert!(one.trusts.first() >= Some(&self.first), "{one:?}");
        }
    }
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        6 => (1..50u32).prop_map(Action::Pass),
        2 => (1..6u32).prop_map(Action::Live),
        3 => (0..HOSTS).prop_map(Action::Toggle),
        3 => (0..2usize).prop_map(Action::Begin),
        1 => (0..2usize).prop_map(Action::Replace),
        8 => (0..2usize).prop_map(Action::Step),
        8 => (0..2usize).prop_map(Action::Read),
    ];
    proptest::collection::vec(action, 1..80)
}

proptest! {
    /// Whoever decides from whatever state, and whichever host is away for how long: each host trusts whoever issued the
    /// leaf of each other, as long as leaves count, whatever their life becomes meanwhile, and who has heard of a theft
    /// trusts nothing of before.
    #[test]
    fn hosts_trust_each_other_at_every_moment_of_a_rotation(actions in actions()) {
        let store = made();
        let known = read_all(&store);
        let mut world = World {
            now: START,
            store,
            hosts: std::array::from_fn(|_| Host::default()),
            knows: [known.clone(), known],
            first: 1,
        };
        for action in actions {
            world.act(action);
        }
    }
}
