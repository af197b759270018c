//! Rules in a form in which the first that matches is found at once.
//!
//! For each address the rules that it may ask by and be asked by, for each port the rules that are about it:
//! sets of 64 bytes, of which those that are alike are there once. What is in all three of source, destination
//! and port matches, and the first of them decides.

use std::net::IpAddr;

use rustc_hash::FxHashMap;
use weft_types::RuleName;

use super::{
    bits::Bits,
    ports::PortMap,
    rules::{ADDRESSES_MAX, PolicyError, RULES_MAX, Rule, Rules, Selector, Transport, Verdict},
    seen::{Protocol, Tuple},
};

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ground {
    /// The rule at this place, counted from 0.
    Rule(u16),
    /// No rule matched.
    Default,
    /// The first rule that may match names ports, and the packet has none: a later fragment.
    NoPorts,
}

/// What is to happen, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// What.
    pub verdict: Verdict,
    /// Why.
    pub ground: Ground,
}

impl Decision {
    /// What decided, as an error where it denied.
    pub(super) fn allowed(self) -> Result<Ground, Ground> {
        match self.verdict {
            Verdict::Allow => Ok(self.ground),
            Verdict::Deny => Err(self.ground),
        }
    }
}

/// Place of a set among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SetId(u32);

/// Sets of which no two are alike.
#[derive(Debug, Default)]
pub(super) struct Sets {
    sets: Vec<Bits>,
    places: FxHashMap<Bits, u32>,
}

impl Sets {
    pub(super) fn intern(&mut self, set: Bits) -> SetId {
        // Two for each of 2^16 addresses and 2^16 ports of two protocols are far fewer than 2^32.
        let next = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        let place = *self.places.entry(set).or_insert(next);
        if place == next {
            self.sets.push(set);
        }
        SetId(place)
    }
}

/// Rules by which an address may ask and be asked.
#[derive(Debug, Clone, Copy)]
struct Ends {
    from: SetId,
    to: SetId,
}

/// Rules that may match packets of a protocol.
#[derive(Debug)]
struct Matching {
    /// By port.
    ports: Option<PortMap>,
    /// Whatever the port.
    any: SetId,
}

/// Compiled rules; never changed.
#[derive(Debug)]
pub struct Policy {
    default: Verdict,
    names: Box<[RuleName]>,
    allowing: Bits,
    with_ports: Bits,
    addresses: FxHashMap<IpAddr, Ends>,
    /// Of an address that no rule names.
    stranger: Ends,
    tcp: Matching,
    udp: Matching,
    icmp: Matching,
    other: Matching,
    sets: Box<[Bits]>,
}

impl Rules {
    /// Compiles them: some milliseconds for 500 rules and 10,000 addresses.
    ///
    /// # Errors
    /// [`PolicyError`] names the rule and what was expected.
    pub fn compile(&self) -> Result<Policy, PolicyError> {
        self.check()?;
        let mut sets = Sets::default();
        let mut places = Places::default();
        let (mut allowing, mut with_ports) = (Bits::default(), Bits::default());
        for (number, rule) in self.rules.iter().enumerate() {
            if rule.verdict == Verdict::Allow {
                allowing.insert(number);
            }
            if !rule.ports.is_empty() {
                with_ports.insert(number);
            }
            places.add(number, rule);
        }
        let (stranger, addresses) = places.finish(&mut sets)?;
        let mut matching = |transport| Matching::new(&self.rules, transport, &mut sets);
        let (tcp, udp) = (matching(Some(Transport::Tcp)), matching(Some(Transport::Udp)));
        let (icmp, other) = (matching(Some(Transport::Icmp)), matching(None));
        Ok(Policy {
            default: self.default,
            names: self.rules.iter().map(|rule| rule.name.clone()).collect(),
            allowing,
            with_ports,
            addresses,
            stranger,
            tcp,
            udp,
            icmp,
            other,
            sets: sets.sets.into(),
        })
    }
}

impl Policy {
    /// Whether everything is allowed and nothing needs to be counted.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.names.is_empty() && self.default == Verdict::Allow
    }

    /// The rules' names, in their order.
    #[must_use]
    pub fn names(&self) -> &[RuleName] {
        &self.names
    }

    /// What happens to what no rule is about.
    #[must_use]
    pub const fn default_verdict(&self) -> Verdict {
        self.default
    }

    /// What the rules say of a packet that opens a flow. One that has no ports though its protocol has them is
    /// judged by the rules without ports, and denied where one with ports comes first.
    #[inline]
    #[must_use]
    pub fn decide(&self, tuple: &Tuple) -> Decision {
        let matching = match tuple.protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
            Protocol::Icmp => &self.icmp,
            Protocol::Other(_) => &self.other,
        };
        let (by_port, has_port) = match (&matching.ports, tuple.ports) {
            (Some(ports), Some((_, destination))) => (ports.get(destination), true),
            (Some(_), None) => (matching.any, false),
            (None, _) => (matching.any, true),
        };
        let from = self.set(self.ends(tuple.source).from);
        let to = self.set(self.ends(tuple.destination).to);
        match from.first_common(to, self.set(by_port)) {
            None => Decision { verdict: self.default, ground: Ground::Default },
            Some(number) if !has_port && self.with_ports.contains(number) => {
                Decision { verdict: Verdict::Deny, ground: Ground::NoPorts }
            }
            Some(number) => {
                let ground = Ground::Rule(u16::try_from(number).unwrap_or(u16::MAX));
                Decision { verdict: self.verdict_of(number), ground }
            }
        }
    }

    /// What the rule at this place says.
    #[inline]
    pub(super) fn verdict_of(&self, rule: usize) -> Verdict {
        if self.allowing.contains(rule) { Verdict::Allow } else { Verdict::Deny }
    }

    #[inline]
    fn ends(&self, address: IpAddr) -> Ends {
        self.addresses.get(&address).copied().unwrap_or(self.stranger)
    }

    #[inline]
    fn set(&self, SetId(place): SetId) -> &Bits {
        &self.sets[place as usize]
    }
}

const _: () = assert!(RULES_MAX <= u16::MAX as usize);

impl Matching {
    /// The rules that are about a transport; without one, about what is none of them.
    fn new(rules: &[Rule], transport: Option<Transport>, sets: &mut Sets) -> Self {
        let numbered = || {
            let fits = |rule: &Rule| rule.protocol.is_none() || rule.protocol == transport;
            rules.iter().enumerate().filter(move |(_, rule)| fits(rule))
        };
        let mut any = Bits::default();
        numbered().for_each(|(number, _)| any.insert(number));
        let has_ports = matches!(transport, Some(Transport::Tcp | Transport::Udp));
        let ports = has_ports.then(|| PortMap::new(numbered(), sets));
        Self { ports, any: sets.intern(any) }
    }
}

/// Sets of addresses while they are collected: first by list, so that a list which many rules share is
/// walked once.
#[derive(Default)]
struct Places<'a> {
    /// By where a list is in memory.
    lists: FxHashMap<*const IpAddr, (&'a [IpAddr], [Bits; 2])>,
    any: [Bits; 2],
}

impl<'a> Places<'a> {
    fn add(&mut self, number: usize, rule: &'a Rule) {
        for (end, selector) in [&rule.from, &rule.to].into_iter().enumerate() {
            match selector {
                Selector::Any => self.any[end].insert(number),
                Selector::Addresses(list) => {
                    let entry = self.lists.entry(list.as_ptr());
                    entry.or_insert((list, [Bits::default(); 2])).1[end].insert(number);
                }
            }
        }
    }

    fn finish(self, sets: &mut Sets) -> Result<(Ends, FxHashMap<IpAddr, Ends>), PolicyError> {
        let any = self.any;
        let mut collected: FxHashMap<IpAddr, [Bits; 2]> = FxHashMap::default();
        for (list, [from, to]) in self.lists.into_values() {
            for address in list {
                let ends = collected.entry(*address).or_insert(any);
                ends[0].insert_all(&from);
                ends[1].insert_all(&to);
            }
            if collected.len() > ADDRESSES_MAX {
                return Err(PolicyError::Addresses);
            }
        }
        let mut interned = |[from, to]: [Bits; 2]| {
            let (from, to) = (sets.intern(from), sets.intern(to));
            Ends { from, to }
        };
        let stranger = interned(any);
        let addresses = collected.into_iter().map(|(a, ends)| (a, interned(ends))).collect();
        Ok((stranger, addresses))
    }
}
