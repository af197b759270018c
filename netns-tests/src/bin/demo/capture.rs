//! What the wire shows: nothing that could be read.

use std::time::Duration;

use anyhow::{Result, ensure};
use netns_tests::site::OVERLAY_INTERFACE;
use netns_tests::topology::UNDERLAY_INTERFACE;
use netns_tests::traffic::datagrams::socket;
use netns_tests::{ACME, Capture, Family, Site, World};

use crate::screen::Screen;

const CANARY: &[u8] = b"attack at dawn, bring the weaver's shuttle";
const COUNT: usize = 200;
const DUMPED: usize = 64;
const PORT: u16 = 7_777;
/// Without a message for so long, none is on its way any more.
const ARRIVAL_MAX: Duration = Duration::from_secs(1);

pub(crate) fn prove(screen: &Screen, world: &World, site: &Site) -> Result<()> {
    screen.step("The wire between the hosts, listened to");
    let (a, b) = (site.container(ACME, "a1")?, site.container(ACME, "b1")?);
    let host = &site.topology.hosts[0].ns;
    let wire = Capture::start(host, UNDERLAY_INTERFACE, "", world.dir(), "wire")?;
    let inside = Capture::start(&b.ns, OVERLAY_INTERFACE, "", world.dir(), "inside")?;
    let to = (b.address(Family::V4), PORT);
    let receiver = socket(&b.ns, to.into())?;
    receiver.set_read_timeout(Some(ARRIVAL_MAX))?;
    let sender = socket(&a.ns, (a.address(Family::V4), 0).into())?;
    let (wire, inside) = screen.during("200 secret messages", 3.0, || {
        for _ in 0..COUNT {
            sender.send_to(CANARY, to)?;
            std::thread::sleep(Duration::from_millis(2));
        }
        // On a machine that has much else to do, some are still on their way.
        let (mut message, mut received) = ([0; CANARY.len()], 0);
        while receiver.recv(&mut message).is_ok() {
            received += 1;
        }
        let drops = site.all_drops()?;
        ensure!(received == COUNT, "{received} of {COUNT} messages arrived; dropped: {drops}");
        Ok((wire.finish()?, inside.finish()?))
    })?;
    let (heard, leaked) = (inside.containing(CANARY), wire.containing(CANARY));
    let sealed = wire.datagrams().find(|d| d.payload.len() > CANARY.len());
    screen.note(&format!("sent in the container:    {:?}", String::from_utf8_lossy(CANARY)));
    if let Some(sealed) = sealed {
        screen.note(&format!("seen between the hosts:   {} → {}, UDP", sealed.from, sealed.to));
        for line in sealed.payload[..sealed.payload.len().min(DUMPED)].chunks(16) {
            let hex: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            let text = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '·' };
            let text: String = line.iter().map(text).collect();
            screen.note(&format!("    {:48} {text}", hex.join(" ")));
        }
    }
    // Captures show several datagrams that are sent or handed on together as one packet.
    let bytes: usize = wire.datagrams().map(|datagram| datagram.payload.len()).sum();
    ensure!(heard > 0, "the capture in the container does not show the message");
    ensure!(bytes >= COUNT * CANARY.len(), "only {bytes} bytes were captured on the wire");
    ensure!(leaked == 0, "{leaked} packets on the wire hold the message");
    screen.check(&format!("{COUNT} messages arrived in the other container"));
    screen.check(&format!("{} packets on the wire, {leaked} of them readable", wire.count()));
    Ok(())
}
