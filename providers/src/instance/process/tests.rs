use std::time::Instant;

use super::*;
use crate::conformance;

fn shell(script: &str) -> ProcessImage {
    let arguments = ["-c", script].map(str::to_owned).to_vec();
    ProcessImage { program: "/bin/sh".into(), arguments }
}

fn instances(images: &[(&str, &str)]) -> ProcessInstances {
    let images = images.iter().map(|(name, script)| ((*name).to_owned(), shell(script)));
    ProcessInstances::new(images.collect())
}

fn name(text: &str) -> ResourceName {
    ResourceName::new(text).unwrap()
}

fn spec(image: &str, data: &'static str) -> InstanceSpec {
    InstanceSpec { image: image.to_owned(), size: String::new(), user_data: data.into() }
}

async fn ending(instances: &ProcessInstances, name: &ResourceName) -> String {
    let mut seen = 0;
    loop {
        seen = instances.changed(seen).await.unwrap();
        if let Some(ending) = instances.describe(name).await.unwrap().ending {
            return ending;
        }
    }
}

#[tokio::test]
async fn conforms() {
    let instances = instances(&[
        ("patient", "exec sleep 1000"),
        ("stubborn", "trap '' TERM; while :; do sleep 1000; done"),
        ("brief", "exit 3"),
    ]);
    let images = conformance::Images { patient: "patient", stubborn: "stubborn", brief: "brief" };
    conformance::instance(&instances, images).await;
}

#[tokio::test]
async fn data_is_given_and_the_end_is_told() {
    let instances = instances(&[("check", "test \"$(cat)\" = data && test -z \"$HOME\"")]);
    instances.start(&name("a"), &spec("check", "data")).await.unwrap();
    assert_eq!(ending(&instances, &name("a")).await, "exit status: 0");
    instances.start(&name("b"), &spec("check", "other")).await.unwrap();
    assert_eq!(ending(&instances, &name("b")).await, "exit status: 1");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error_and_leaves_no_instance() {
    let image = ProcessImage { program: "/nonexistent".into(), arguments: Vec::new() };
    let instances = ProcessInstances::new([("none".to_owned(), image)].into());
    let error = instances.start(&name("a"), &spec("none", "")).await.unwrap_err();
    assert_eq!(error.to_string(), "the program of image none does not exist");
    assert!(matches!(instances.describe(&name("a")).await, Err(ProviderError::Absent(_))));
}

/// Whether a process with this number runs.
fn runs(number: i32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{number}/stat"));
    state.is_ok_and(|text| !text.contains(") Z "))
}

/// A process that has children, all of which have gone when `end` is done.
async fn whole_group_ends(end: impl AsyncFnOnce(ProcessInstances)) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("number");
    let script = format!("trap '' TERM; sleep 1000 & echo $! > {}; wait; wait", file.display());
    let instances = instances(&[("parent", &script)]);
    instances.start(&name("a"), &spec("parent", "")).await.unwrap();
    let begun = Instant::now();
    let child = loop {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if let Ok(child) = text.trim().parse() {
            break child;
        }
        assert!(begun.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert!(runs(child));
    end(instances).await;
    while runs(child) {
        assert!(begun.elapsed() < Duration::from_secs(120), "it goes on");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_is_cut_off_is_cut_off_with_its_children() {
    whole_group_ends(async |instances: ProcessInstances| {
        instances.stop(&name("a"), Duration::from_millis(10)).await.unwrap();
        assert_eq!(ending(&instances, &name("a")).await, "signal: 9 (SIGKILL)");
    })
    .await;
    whole_group_ends(async |instances: ProcessInstances| {
        instances.delete(&name("a")).await.unwrap();
    })
    .await;
    whole_group_ends(async |instances| drop(instances)).await;
}

#[tokio::test]
async fn whoever_is_deleted_while_it_stops_is_cut_off() {
    whole_group_ends(async |instances: ProcessInstances| {
        instances.stop(&name("a"), STOP_GRACE_MAX).await.unwrap();
        instances.delete(&name("a")).await.unwrap();
    })
    .await;
}
