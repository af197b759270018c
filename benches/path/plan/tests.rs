use std::path::PathBuf;

use super::*;
use crate::script::Script;

/// The full plan, with all nine tunnels.
const FULL_MAX: Duration = Duration::from_secs(3_600);
/// The quick one; what is left of five minutes is for slow machines.
const QUICK_MAX: Duration = Duration::from_secs(250);

/// Everything that comes with this repository.
fn ways() -> Vec<Way> {
    let scripts = Script::find(&PathBuf::from("peers")).unwrap();
    assert_eq!(scripts.len(), 6);
    let others = scripts.into_iter().map(Way::Other);
    Way::BUILT_IN.into_iter().chain(others).collect()
}

#[test]
fn plans_are_as_short_as_promised() {
    let quick = Plan::new(true, 5, 1).estimate(&ways());
    assert!(quick <= QUICK_MAX, "{quick:?}");
    let full = Plan::new(false, 5, 1).estimate(&ways());
    assert!(full <= FULL_MAX, "{full:?}");
    assert!(Plan::new(false, 5, 2).estimate(&ways()) > full * 3 / 2);
}

#[test]
fn the_full_plan_has_everything_on_the_usual_underlay() {
    let plan = Plan::new(false, 5, 1);
    assert_eq!((plan.stages[0].cell, &plan.stages[0].measures), (USUAL, &Measure::all()));
    let of = |pick: fn(&Cell) -> bool| plan.stages.iter().any(|stage| pick(&stage.cell));
    assert!(of(|c| c.offloads == Offloads::Off) && of(|c| c.offloads == Offloads::Nic));
    assert!(of(|c| c.mtu == 9_000) && of(|c| c.family == Family::V6));
    // Where there are targets, there are as many rounds as were asked for.
    let targets = |stage: &&Stage| [USUAL, OFF, JUMBO].contains(&stage.cell);
    assert!(plan.stages.iter().filter(targets).all(|stage| stage.rounds == 5));
}

#[test]
fn daemons_that_poll_run_beside_nothing_but_their_underlay() {
    for stage in Plan::new(false, 5, 1).stages {
        let ways = stage.ways(&ways());
        let names: Vec<_> =
            ways.iter().map(Way::name).filter(|name| name.ends_with("-low")).collect();
        assert!(names.is_empty() || names.len() == ways.len(), "{stage:?}");
        assert!(names.is_empty() || names == ["weft-low", "bare-low"], "{stage:?}");
    }
}

#[test]
fn measures_are_selected_by_name_and_by_beginning() {
    let selected = |names: &[&str]| {
        let mut plan = Plan::new(true, 5, 1);
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        plan.select(&names).map(|()| plan.stages)
    };
    assert_eq!(selected(&["tcp"]).unwrap()[0].measures.len(), 9);
    assert_eq!(selected(&["tcp-1"]).unwrap()[0].measures.len(), 3);
    let stages = selected(&["udp-512", "memory"]).unwrap();
    assert_eq!(stages.len(), 1);
    assert_eq!(stages[0].measures, [Measure::Udp(512), Measure::Memory]);
    let figures = selected(&["figures"]).unwrap();
    assert_eq!(figures.len(), 4);
    assert_eq!(figures[0].measures.len(), FIGURES_MEASURES.len());
    assert!(selected(&["udp-5"]).is_err());
    assert!(selected(&["t"]).is_err());
}
