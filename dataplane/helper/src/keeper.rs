//! Makes interfaces, holds their queues, and attaches again to what an earlier helper left.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use weft_sys::{
    link::{self, LinkConfig},
    netns::Netns,
    tun::{Tun, TunQueue, VNET_HEADER_LEN},
};

use crate::{
    message::{Interface, Name, Opened, Origin, Reply},
    permit::Permits,
    record::{Record, Records},
};

/// So many interfaces are removed at a time: the kernel waits for each, and for many at once.
const CLOSERS: usize = 16;
/// Packets that have waited for a new daemon for longer than this are of no use to anybody.
const PACKET_AGE_MAX: Duration = Duration::from_secs(1);

/// One interface.
struct Entry {
    record: Record,
    /// Somebody has opened it since the last greeting.
    is_wanted: bool,
    state: State,
}

enum State {
    /// Its queues are here.
    Held {
        queues: Vec<TunQueue>,
        uso: bool,
        /// Its queues keep the namespace alive, so nobody else tells when the container ends.
        pins: bool,
    },
    /// An earlier helper made it, and its queues are closed or with the daemon.
    Left,
}

/// All interfaces of one host.
pub(crate) struct Keeper {
    /// The namespace where the helper runs: the host's.
    own_cookie: u64,
    permits: Permits,
    records: Records,
    entries: BTreeMap<Name, Entry>,
    /// Since when no daemon is there.
    alone_since: Option<Instant>,
    /// For how long none was there before the present one.
    gap: Duration,
}

impl Keeper {
    /// With what an earlier helper recorded in `folder`.
    pub(crate) fn open_folder(folder: &Path, permits: Permits) -> io::Result<Self> {
        let (records, left) = Records::open(folder)?;
        let entry = |record: Record| {
            (record.interface.name.clone(), Entry { record, is_wanted: false, state: State::Left })
        };
        let entries = left.into_iter().map(entry).collect();
        let own_cookie = Netns::current()?.cookie()?;
        Ok(Self { own_cookie, permits, records, entries, alone_since: None, gap: Duration::MAX })
    }

    /// A daemon is there: what it wants is not known yet.
    pub(crate) fn greet(&mut self, now: Instant) {
        let since = self.alone_since.take();
        self.gap = since.map_or(self.gap, |since| now.saturating_duration_since(since));
        for entry in self.entries.values_mut() {
            entry.is_wanted = false;
        }
    }

    /// The daemon is gone.
    pub(crate) fn part(&mut self, now: Instant) {
        self.alone_since = Some(now);
    }

    /// The queues of an interface as it is wanted.
    ///
    /// # Errors
    /// Why not, as it is answered; then nothing of that name is held.
    pub(crate) fn open(&mut self, wanted: Interface) -> Result<(Opened, &[TunQueue]), Reply> {
        let path = wanted.netns.display();
        let netns = Netns::open(&wanted.netns).map_err(|error| {
            let why = format!("netns {path} cannot be opened as a network namespace: {error}");
            if error.kind() == io::ErrorKind::NotFound {
                Reply::Absent(why)
            } else {
                Reply::Failed(why)
            }
        })?;
        self.open_in(&netns, wanted).map_err(Reply::Failed)
    }

    /// Lets an attachment be made in a namespace.
    ///
    /// # Errors
    /// Why not, in one sentence.
    pub(crate) fn register(&mut self, name: Name, path: &Path) -> Result<(), String> {
        let netns = Netns::open(path).map_err(|e| {
            format!("netns {} cannot be opened as a network namespace: {e}", path.display())
        })?;
        let cookie = netns.cookie().map_err(|e| e.to_string())?;
        self.permits.register(Instant::now(), name, cookie)
    }

    pub(crate) fn config(&self) -> Option<&Path> {
        self.permits.file()
    }

    fn open_in(
        &mut self,
        netns: &Netns,
        wanted: Interface,
    ) -> Result<(Opened, &[TunQueue]), String> {
        let path = wanted.netns.display();
        let cookie =
            netns.cookie().map_err(|e| format!("netns {path} does not tell its number: {e}"))?;
        if cookie == self.own_cookie {
            return Err(format!("netns {path} is this host's own; expected a container's"));
        }
        let name = wanted.name.clone();
        let is_known =
            self.entries.get(&name).is_some_and(|entry| entry.record.netns_cookie == cookie);
        if !is_known && !self.permits.allows(Instant::now(), &name, &wanted.netns, cookie) {
            return Err(format!(
                "netns {path} is not registered for {name}: neither does the configuration name it \
                 nor has anybody registered it with weft-helper"
            ));
        }
        let mut origin = None;
        if let Some(entry) = self.entries.get_mut(&name)
            && entry.record.netns_cookie == cookie
            && entry.record.interface.is_like(&wanted)
        {
            match entry.reuse(netns, wanted.queues, self.gap > PACKET_AGE_MAX) {
                Ok(found) => origin = Some(found),
                Err(error) => eprintln!("weft-helper: {name}: made anew: {error}"),
            }
        }
        let origin = match origin {
            Some(origin) => origin,
            None => {
                self.close(&name).map_err(|e| format!("the old interface stays: {e}"))?;
                let entry = self.make(netns, cookie, wanted)?;
                self.entries.insert(name.clone(), entry);
                Origin::New
            }
        };
        match self.entries.get_mut(&name) {
            Some(Entry { is_wanted, state: State::Held { queues, uso, .. }, .. }) => {
                *is_wanted = true;
                Ok((Opened { uso: *uso, origin }, queues))
            }
            _ => Err("the interface disappeared".to_owned()),
        }
    }

    /// Opens all queues in the helper's own namespace, then moves the device: a queue that was opened
    /// in the container's namespace would keep that namespace alive.
    fn make(&self, netns: &Netns, cookie: u64, wanted: Interface) -> Result<Entry, String> {
        let (path, interface) = (wanted.netns.display(), &wanted.interface);
        let random = getrandom::u32().map_err(|e| format!("no random numbers: {e}"))?;
        let name = format!("weft{random:08x}");
        let tun = Tun::create(&wanted.options(&name, wanted.queues))
            .map_err(|e| format!("no TUN device can be made: {e}"))?;
        link::move_to_netns(tun.ifindex(), netns, interface).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("netns {path} has an interface {interface} already; choose another name")
            }
            _ => format!("the interface cannot be moved to netns {path}: {e}"),
        })?;
        let ifindex = configure(netns, &wanted)?;
        let uso = tun.uso();
        let queues = tun.into_queues();
        let record = self.records.new_record(wanted, cookie, ifindex);
        self.records
            .write(&record)
            .map_err(|e| format!("no record of the interface can be written: {e}"))?;
        if let Some(Err(error)) = queues.first().map(|queue| queue.set_persistent(true)) {
            self.records.remove(&record.interface.name);
            return Err(format!("the interface disappeared: {error}"));
        }
        let state = State::Held { queues, uso, pins: false };
        Ok(Entry { record, is_wanted: true, state })
    }

    /// Removes an interface with its queues; one that is not there is gone already.
    ///
    /// # Errors
    /// When the kernel keeps it.
    pub(crate) fn close(&mut self, name: &Name) -> io::Result<()> {
        let Some(entry) = self.entries.remove(name) else { return Ok(()) };
        self.records.remove(name);
        entry.end()
    }

    /// Removes whatever no daemon has opened since the last greeting.
    pub(crate) fn settle(&mut self) {
        self.close_if(|entry| !entry.is_wanted);
    }

    /// Removes everything.
    pub(crate) fn end(&mut self) {
        self.close_if(|_| true);
        self.records.clean_up();
    }

    /// Interfaces whose container is gone although their queues keep its namespace alive.
    pub(crate) fn ended(&self) -> Vec<Name> {
        let ended = self.entries.iter().filter(|(_, entry)| entry.has_lost_its_container());
        ended.map(|(name, _)| name.clone()).collect()
    }

    /// Lets go of what is gone; for the time when no daemon does it.
    pub(crate) fn tidy_up(&mut self) {
        self.close_if(Entry::is_gone);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn close_if(&mut self, is_over: impl Fn(&Entry) -> bool) {
        let over: Vec<_> =
            self.entries.iter().filter(|(_, e)| is_over(e)).map(|(name, _)| name.clone()).collect();
        let over: Vec<_> =
            over.into_iter().filter_map(|name| self.entries.remove_entry(&name)).collect();
        for (name, _) in &over {
            self.records.remove(name);
        }
        let over = Mutex::new(over);
        let close_some = || {
            while let Some((name, entry)) = take(&over) {
                if let Err(error) = entry.end() {
                    eprintln!("weft-helper: {name}: the interface stays: {error}");
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..CLOSERS {
                scope.spawn(close_some);
            }
        });
    }
}

fn take<T>(from: &Mutex<Vec<T>>) -> Option<T> {
    from.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

impl Entry {
    /// Makes the interface usable again as it is. An error leaves whatever was there.
    fn reuse(&mut self, netns: &Netns, wanted: u8, empties: bool) -> Result<Origin, String> {
        let interface = &self.record.interface;
        let more = |count: u8| {
            let options = interface.options("", count);
            let adopted = netns.run(|| Tun::adopt(self.record.ifindex, &options));
            adopted.and_then(|tun| tun).map_err(|e| format!("it cannot be attached again: {e}"))
        };
        match &mut self.state {
            State::Held { queues, pins, .. } => {
                if !queues.first().is_some_and(TunQueue::is_there) {
                    return Err("its device is gone".to_owned());
                }
                // The last ones: closing another would renumber the rest.
                queues.truncate(wanted.into());
                let missing = wanted.saturating_sub(u8::try_from(queues.len()).unwrap_or(wanted));
                if missing > 0 {
                    queues.extend(more(missing)?.into_queues());
                    *pins = true;
                }
                if empties {
                    queues.iter().for_each(empty);
                }
                configure(netns, interface)?;
                self.record.interface.queues = wanted;
                Ok(Origin::Held)
            }
            State::Left => {
                let tun = more(wanted)?;
                configure(netns, interface)?;
                let uso = tun.uso();
                self.state = State::Held { queues: tun.into_queues(), uso, pins: true };
                Ok(Origin::Adopted)
            }
        }
    }

    /// Removes the interface.
    fn end(self) -> io::Result<()> {
        match self.state {
            State::Held { queues, .. } => {
                // It fails when the device is gone, which is what is wanted.
                let _ = queues.first().map(|queue| queue.set_persistent(false));
                Ok(())
            }
            State::Left => match self.record.netns() {
                Some(netns) => link::remove(&netns, self.record.ifindex),
                None => Ok(()),
            },
        }
    }

    fn has_lost_its_container(&self) -> bool {
        matches!(self.state, State::Held { pins: true, .. }) && self.record.netns().is_none()
    }

    fn is_gone(&self) -> bool {
        match &self.state {
            State::Held { queues, .. } => {
                !queues.first().is_some_and(TunQueue::is_there) || self.has_lost_its_container()
            }
            State::Left => self.record.netns().is_none(),
        }
    }
}

impl Record {
    /// The namespace, if its path still leads to it.
    fn netns(&self) -> Option<Netns> {
        let netns = Netns::open(&self.interface.netns).ok()?;
        (netns.cookie().ok()? == self.netns_cookie).then_some(netns)
    }
}

/// Gives the interface its addresses and brings it up; returns its number there.
fn configure(netns: &Netns, wanted: &Interface) -> Result<u32, String> {
    let (name, path) = (&wanted.interface, wanted.netns.display());
    let config = LinkConfig { name, addresses: &wanted.addresses, routes: &[] };
    link::configure(netns, &config)
        .map_err(|e| format!("interface {name} in netns {path} cannot be configured: {e}"))
}

/// Throws away what waits in a queue.
fn empty(queue: &TunQueue) {
    // What is cut off is thrown away all the same.
    let mut packet = [0; VNET_HEADER_LEN + 1];
    while queue.read(&mut packet).is_ok() {}
}
