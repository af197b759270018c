//! A node in this process is given policies. No call of the local API gives any: they come from the control plane.

use std::{collections::BTreeMap, sync::Arc, thread};

use tokio::sync::oneshot;
use weft_helper::{Client, Service, socket_beside};
use weft_proto::policy::{PortRange, Rule, Rules, Selector, Transport, Verdict};
use weftd::{
    kept::Kept,
    node::{Ending, NodeHandle, RequestError, prepare},
};

use crate::daemon::Lab;

fn rules(name: &str) -> Rules {
    let rule = Rule {
        name: name.parse().unwrap(),
        from: Selector::Any,
        to: Selector::Addresses(["10.40.0.3".parse().unwrap()].into()),
        protocol: Some(Transport::Tcp),
        ports: vec![PortRange { first: 443, last: 443 }],
        verdict: Verdict::Allow,
    };
    Rules { default: Verdict::Deny, rules: vec![rule] }
}

/// The names of everything that is counted in an environment.
async fn counted(node: &NodeHandle, environment: &str) -> Vec<String> {
    let status = node.status(Some(environment.parse().unwrap())).await.unwrap();
    status.environments[0].policy.iter().map(|hits| hits.rule.clone()).collect()
}

#[tokio::test]
async fn a_policy_is_set_changed_and_taken_away() {
    let lab = Lab::new();
    let config = weft_config::load(&lab.configure(1, 2)).unwrap();
    let socket = socket_beside(&config.api);
    let service = Service::listen(&socket, None).unwrap();
    let helper = thread::spawn(move || service.serve(None));
    let client = Client::connect(&socket, "/nonexistent".as_ref(), None, None).unwrap();
    let kept = Kept::open(&config.api, None).unwrap();
    let client = Arc::new(client);
    let policies = BTreeMap::from([("acme".parse().unwrap(), rules("web"))]);
    let prepared =
        lab.netns.run(|| prepare(config, policies, Arc::clone(&client), kept)).unwrap().unwrap();
    let node = prepared.handle.clone();
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(prepared.run(stopped));

    let judged =
        |environment: &str, rules: Rules| BTreeMap::from([(environment.parse().unwrap(), rules)]);
    assert_eq!(counted(&node, "acme").await, ["web", "(default)", "(no ports)"], "from the start");
    assert!(counted(&node, "globex").await.is_empty(), "another environment has none");
    node.set_policies(judged("acme", rules("web-2"))).await.unwrap();
    assert_eq!(counted(&node, "acme").await, ["web-2", "(default)", "(no ports)"]);

    let mut wrong = rules("wrong");
    wrong.rules[0].ports[0].first = 0;
    let refused = node.set_policies(judged("acme", wrong)).await.unwrap_err();
    assert!(
        matches!(&refused, RequestError::Invalid(why) if why.starts_with("rule wrong: ports 0"))
    );
    assert_eq!(counted(&node, "acme").await, ["(default)", "(no ports)"], "nothing is allowed");
    // One that is not here is judged when it comes.
    node.set_policies(judged("initech", rules("web"))).await.unwrap();
    assert!(counted(&node, "acme").await.is_empty());
    stop.send(Ending::Remove).unwrap();
    running.await.unwrap().unwrap();
    drop(client);
    helper.join().unwrap().unwrap();
}
