//! Where a control plane is.

use weft_config::plan;

use crate::fixture::Fixture;

/// Everything that is wrong with a file that begins with these lines and has this section.
fn control_faults(listen: &str, section: &str) -> Vec<String> {
    let text = format!("host = \"host-a\"\nlisten = \"{listen}\"\n[control]\n{section}\n");
    let problems = weft_config::check_text(&text);
    problems.iter().map(|problem| problem.to_string().replace("weftd.toml:", "")).collect()
}

#[test]
fn a_control_plane_is_named_with_all_that_it_takes() {
    const URL: &str = "url = \"https://control.example:7443\"";
    let good = format!("{URL}\nseal = \"disk\"");
    assert_eq!(control_faults("192.0.2.1:5820", &good), [] as [&str; 0]);
    let everywhere = format!("{good}\nendpoints = [\"192.0.2.1:5820\", \"[2001:db8::1]:5820\"]");
    assert_eq!(control_faults("0.0.0.0:5820", &everywhere), [] as [&str; 0]);
    for (listen, section, fault) in [
        (
            "192.0.2.1:1",
            URL,
            "3: control.seal: is missing; expected the path of a key, or \"disk\"",
        ),
        (
            "192.0.2.1:1",
            "url = \"http://control.example:7443\"\nseal = \"disk\"",
            "4: control.url: \"http://control.example:7443\": expected https://HOST:PORT",
        ),
        (
            "0.0.0.0:1",
            &good,
            "3: control.endpoints: is missing; expected an array of ADDRESS:PORT or [IPv6]:PORT",
        ),
        (
            "192.0.2.1:1",
            &format!("{good}\nendpoints = [\"0.0.0.0:5820\"]"),
            "6: control.endpoints[0]: 0.0.0.0 names no host; expected an address of it",
        ),
        (
            "192.0.2.1:1",
            &format!("{good}\ntoken = \"x\""),
            "6: control.token: unknown field; expected one of url, join_token, state, seal, endpoints",
        ),
    ] {
        assert_eq!(control_faults(listen, section), [fault], "{section}");
    }
    let both = format!("{good}\n[[environment]]\nid = \"acme\"");
    let faults = control_faults("192.0.2.1:5820", &both);
    let one_of_both = "6: environment[0]: stands beside [control]; expected one or the other";
    assert!(faults.iter().any(|fault| fault.starts_with(one_of_both)), "{faults:?}");
}

/// A host that waits for a token is given one while it runs; to follow another control plane is another life.
#[test]
fn another_join_token_takes_no_restart_and_another_control_plane_does() {
    let load = |url: &str, token: &str| {
        let text = format!(
            "host = \"host-a\"\nlisten = \"192.0.2.1:5820\"\n[control]\nurl = \"https://{url}:7443\"\n\
             join_token = \"/etc/weft/{token}\"\nseal = \"disk\"\n"
        );
        Fixture::new().load(&text).unwrap()
    };
    let running = load("control.example", "one");
    let changes = plan(&running, &load("control.example", "two")).unwrap();
    assert!(changes.is_empty(), "{changes:?}");
    let error = plan(&running, &load("other.example", "one")).unwrap_err().to_string();
    assert!(error.starts_with("control changed from https://control.example:7443 "), "{error}");
    assert!(error.contains(" to https://other.example:7443 "), "{error}");
    assert!(error.ends_with("; only a restart of weftd can change that"), "{error}");
}
