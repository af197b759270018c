//! Who may be here at once. There is a place for everybody who comes: when all are taken, whoever has the most gives up
//! its oldest. So one who comes in great numbers loses its own, and pushes out nobody who comes in small ones. Where many
//! belong to one, they count together, and of these the one that has the most loses its oldest.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// Bits of an IPv6 address by which a source is told from others: what one customer of a provider has (RFC 6177).
const IPV6_SOURCE_BITS: u32 = 64;

/// Where connections come from: an IPv4 address, or the network of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            address @ IpAddr::V4(_) => Self(address),
            IpAddr::V6(address) => {
                let network = u128::from(address) & (u128::MAX << (128 - IPV6_SOURCE_BITS));
                Self(Ipv6Addr::from(network).into())
            }
        }
    }
}

/// Bytes of a source where it is kept.
pub(crate) const SOURCE_LEN: usize = 16;

impl Source {
    /// An IPv6 address; an IPv4 address as one (RFC 4291 section 2.5.5.2).
    pub(crate) fn octets(self) -> [u8; SOURCE_LEN] {
        match self.0 {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        }
    }
}

impl From<[u8; SOURCE_LEN]> for Source {
    fn from(octets: [u8; SOURCE_LEN]) -> Self {
        IpAddr::V6(octets.into()).into()
    }
}

/// Somebody who may have places.
pub(crate) trait Comer: Eq + Hash + Clone {
    /// Whose they are, who all count together.
    type Owner: Eq + Hash;

    fn owner(&self) -> &Self::Owner;
}

impl Comer for Source {
    type Owner = Self;

    fn owner(&self) -> &Self {
        self
    }
}

/// So many at once, each of somebody.
#[derive(Debug)]
pub(crate) struct Crowd<W>(Arc<Mutex<Places<W>>>);

impl<W> Clone for Crowd<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Places<W> {
    len_max: usize,
    len: usize,
    next: u64,
    /// Of each their places, the oldest first.
    all: HashMap<W, BTreeMap<u64, oneshot::Sender<()>>>,
}

/// A place, as long as it is kept.
#[derive(Debug)]
pub(crate) struct Place<W: Eq + Hash> {
    crowd: Crowd<W>,
    whose: W,
    number: u64,
}

/// Ends when the place is another's.
pub(crate) type Ousted = oneshot::Receiver<()>;

impl<W: Comer> Crowd<W> {
    pub(crate) fn new(len_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Places { len_max, len: 0, next: 0, all: HashMap::new() })))
    }

    fn places(&self) -> MutexGuard<'_, Places<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for somebody, and how it is known that it is lost.
    pub(crate) fn enter(&self, whose: W) -> (Place<W>, Ousted) {
        self.enter_among(self.places(), whose)
    }

    /// The same for somebody who has fewer than `own_max`; otherwise there is none.
    pub(crate) fn enter_below(&self, whose: W, own_max: usize) -> Option<(Place<W>, Ousted)> {
        let places = self.places();
        let own = places.all.get(&whose).map_or(0, BTreeMap::len);
        (own < own_max).then(|| self.enter_among(places, whose))
    }

    /// The same for somebody who has `own_max` at most: whoever has as many gives up its own oldest.
    pub(crate) fn enter_own(&self, whose: W, own_max: usize) -> (Place<W>, Ousted) {
        let mut places = self.places();
        if places.all.get(&whose).is_some_and(|own| own.len() >= own_max) {
            places.oust_oldest_of(&whose);
        }
        self.enter_among(places, whose)
    }

    fn enter_among(&self, mut places: MutexGuard<'_, Places<W>>, whose: W) -> (Place<W>, Ousted) {
        let (oust, ousted) = oneshot::channel();
        if places.len >= places.len_max {
            places.oust_oldest_of_largest();
        }
        let number = places.next;
        places.next += 1;
        places.len += 1;
        places.all.entry(whose.clone()).or_default().insert(number, oust);
        drop(places);
        (Place { crowd: self.clone(), whose, number }, ousted)
    }
}

/// How many places somebody has and how long they have had the oldest, as far as it matters who gives one up: of several
/// that have as many it is the one that came first, so that no address is always the one that goes.
type Rank = (usize, Reverse<u64>);

impl<W: Comer> Places<W> {
    fn ranks(&self) -> impl Iterator<Item = (&W, Rank)> {
        self.all.iter().filter_map(|(whose, theirs)| {
            let (first, _) = theirs.first_key_value()?;
            Some((whose, (theirs.len(), Reverse(*first))))
        })
    }

    fn oust_oldest_of_largest(&mut self) {
        let mut owners: HashMap<&W::Owner, Rank> = HashMap::new();
        for (whose, (len, first)) in self.ranks() {
            let together = owners.entry(whose.owner()).or_insert((0, first));
            *together = (together.0 + len, together.1.max(first));
        }
        let largest = owners.into_iter().max_by_key(|(_, rank)| *rank).map(|(owner, _)| owner);
        let theirs = self.ranks().filter(|(whose, _)| Some(whose.owner()) == largest);
        let largest = theirs.max_by_key(|(_, rank)| *rank).map(|(whose, _)| whose.clone());
        let Some(largest) = largest else { return };
        self.oust_oldest_of(&largest);
    }

    fn oust_oldest_of(&mut self, whose: &W) {
        if let Some((_, oust)) = self.all.get_mut(whose).and_then(BTreeMap::pop_first) {
            // It may be gone already.
            let _ = oust.send(());
            self.left(whose);
        }
    }
}

impl<W: Eq + Hash> Places<W> {
    /// One place of theirs was taken away.
    fn left(&mut self, whose: &W) {
        self.len -= 1;
        if self.all.get(whose).is_some_and(BTreeMap::is_empty) {
            self.all.remove(whose);
        }
    }
}

impl<W: Eq + Hash> Drop for Place<W> {
    fn drop(&mut self) {
        let mut places = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_theirs = places.all.get_mut(&self.whose).and_then(|all| all.remove(&self.number));
        if is_theirs.is_some() {
            places.left(&self.whose);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Comer for &'static str {
        type Owner = Self;

        fn owner(&self) -> &Self {
            self
        }
    }

    impl Comer for u8 {
        type Owner = Self;

        fn owner(&self) -> &Self {
            self
        }
    }

    /// One of many of somebody's.
    impl Comer for (&'static str, u8) {
        type Owner = &'static str;

        fn owner(&self) -> &&'static str {
            &self.0
        }
    }

    fn is_ousted(ousted: &mut Ousted) -> bool {
        ousted.try_recv().is_ok()
    }

    #[test]
    fn many_that_belong_to_one_count_together() {
        let crowd = Crowd::new(6);
        let mut good: Vec<_> = (0..2).map(|_| crowd.enter(("good", 0))).collect();
        let mut many: Vec<_> = [1, 2, 3, 3].map(|n| crowd.enter(("many", n))).into();
        let newer = crowd.enter(("new", 0));
        assert!(!good.iter_mut().any(|(_, ousted)| is_ousted(ousted)), "none has more than they");
        let mut lost = || -> Vec<_> { many.iter_mut().map(|(_, o)| is_ousted(o)).collect() };
        assert_eq!(lost(), [false, false, true, false], "the oldest of theirs that has the most");
        let newest = crowd.enter(("new", 0));
        assert_eq!(lost()[..2], [true, false], "then the one that came first");
        drop((newer, newest));
    }

    #[test]
    fn who_comes_in_great_numbers_loses_its_own() {
        let crowd = Crowd::new(4);
        let mut good = crowd.enter("good");
        let mut flood: Vec<_> = (0..10).map(|_| crowd.enter("flood")).collect();
        let late = crowd.enter("late");
        assert!(!is_ousted(&mut good.1));
        let lost: Vec<_> = flood.iter_mut().map(|(_, ousted)| is_ousted(ousted)).collect();
        assert_eq!(lost, [[true; 8].as_slice(), &[false; 2]].concat(), "the oldest go");
        assert_eq!(crowd.places().len, 4);
        drop((good, flood, late));
        let places = crowd.places();
        assert_eq!((places.len, places.all.len()), (0, 0));
    }

    #[test]
    fn who_has_as_many_as_anybody_may_have_gets_no_more() {
        let crowd = Crowd::new(3);
        let own: Vec<_> = (0..2).map(|_| crowd.enter_below("own", 2).unwrap()).collect();
        assert!(crowd.enter_below("own", 2).is_none());
        let (mut first, other) = (own.into_iter().next().unwrap(), crowd.enter_below("other", 2));
        assert!(!is_ousted(&mut first.1), "whoever is refused pushes nobody out");
        // The second went with its place.
        assert!(crowd.enter_below("own", 2).is_some() && other.is_some());
    }

    #[test]
    fn who_has_as_many_as_anybody_may_have_gives_up_its_own_oldest() {
        let crowd = Crowd::new(9);
        let mut other = crowd.enter_own("other", 2);
        let mut own: Vec<_> = (0..5).map(|_| crowd.enter_own("own", 2)).collect();
        let lost: Vec<_> = own.iter_mut().map(|(_, ousted)| is_ousted(ousted)).collect();
        assert_eq!(lost, [true, true, true, false, false]);
        assert!(!is_ousted(&mut other.1));
        assert_eq!(crowd.places().len, 3);
    }

    #[test]
    fn who_is_alone_makes_room_for_itself() {
        let crowd = Crowd::new(2);
        let mut all: Vec<_> = (0..3).map(|_| crowd.enter(1_u8)).collect();
        assert_eq!(
            all.iter_mut().map(|(_, ousted)| is_ousted(ousted)).collect::<Vec<_>>(),
            [true, false, false]
        );
    }

    #[test]
    fn of_several_that_have_as_many_the_first_goes() {
        let crowd = Crowd::new(3);
        let mut all: Vec<_> = [9_u8, 1, 5].map(|whose| crowd.enter(whose)).into();
        let newer = [crowd.enter(7), crowd.enter(2)];
        let lost: Vec<_> = all.iter_mut().map(|(_, ousted)| is_ousted(ousted)).collect();
        assert_eq!(lost, [true, true, false], "whatever their addresses are");
        drop(newer);
    }

    #[test]
    fn a_source_is_an_address_or_a_network() {
        let source = |address: &str| Source::from(address.parse::<IpAddr>().unwrap());
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
    }
}
