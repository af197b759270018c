//! What another policy would change.

use weft_control_api::v1;

use super::{with_default, with_rule};
use crate::control::show::Item;

/// A policy: what happens to what no rule is about, and its rules in their order.
type Policy<'a> = (v1::Verdict, &'a [v1::Rule]);

/// Rules that come, go, are others or have another place among those that stay, with what becomes of them; none when
/// nothing changes. Rules are the same by their name.
pub(super) fn items(before: Policy<'_>, after: Policy<'_>) -> Vec<Item> {
    let ((default_before, before), (default_after, after)) = (before, after);
    let change = |what: &'static str| Item::new().with("change", what);
    let mut items: Vec<Item> = before
        .iter()
        .filter(|rule| !has(after, rule))
        .map(|rule| with_rule(change("removed"), rule))
        .collect();
    // The first that matches decides: the order is part of what they say.
    let stays: Vec<&v1::Rule> = before.iter().filter(|rule| has(after, rule)).collect();
    let mut place = 0;
    for rule in after {
        let Some(old) = before.iter().find(|old| old.name == rule.name) else {
            items.push(with_rule(change("added"), rule));
            continue;
        };
        let is_moved = stays.get(place).is_none_or(|there| there.name != rule.name);
        place += 1;
        if whole(old) != whole(rule) {
            items.push(with_rule(change("changed from"), old));
            items.push(with_rule(change("changed to"), rule));
        } else if is_moved {
            items.push(with_rule(change("moved"), rule));
        }
    }
    if default_before != default_after {
        items.push(with_default(change("changed from"), default_before));
        items.push(with_default(change("changed to"), default_after));
    }
    items
}

fn has(rules: &[v1::Rule], rule: &v1::Rule) -> bool {
    rules.iter().any(|other| other.name == rule.name)
}

/// A range that names no end is one port.
fn whole(rule: &v1::Rule) -> v1::Rule {
    let mut rule = rule.clone();
    for ports in rule.ports.iter_mut().filter(|ports| ports.last == 0) {
        ports.last = ports.first;
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, port: u32) -> v1::Rule {
        let ports = vec![v1::PortRange { first: port, last: 0 }];
        v1::Rule { name: name.to_owned(), ports, ..Default::default() }
    }

    /// What becomes of which rules, in the order in which it is shown.
    fn changes(before: Policy<'_>, after: Policy<'_>) -> Vec<String> {
        let text = |item: &Item, key| item.get(key).and_then(|v| v.as_str()).unwrap().to_owned();
        let items = items(before, after);
        items.iter().map(|i| format!("{} {}", text(i, "change"), text(i, "name"))).collect()
    }

    #[test]
    fn rules_come_go_change_and_move() {
        let (allow, deny) = (v1::Verdict::Allow, v1::Verdict::Deny);
        let before = [rule("a", 1), rule("b", 2), rule("c", 3), rule("d", 4)];
        assert_eq!(changes((deny, &before), (deny, &before)), Vec::<String>::new());
        let mut as_kept = before.clone();
        as_kept[0].ports[0].last = 1;
        assert_eq!(changes((deny, &as_kept), (deny, &before)), Vec::<String>::new());
        let after = [rule("a", 1), rule("c", 3), rule("b", 7), rule("new", 5)];
        assert_eq!(
            changes((deny, &before), (allow, &after)),
            [
                "removed d",
                "moved c",
                "changed from b",
                "changed to b",
                "added new",
                "changed from (default)",
                "changed to (default)",
            ]
        );
    }

    #[test]
    fn what_comes_before_others_moves_none_of_them() {
        let before = [rule("a", 1), rule("b", 2)];
        let after = [rule("new", 5), rule("a", 1), rule("b", 2)];
        let deny = v1::Verdict::Deny;
        assert_eq!(changes((deny, &before), (deny, &after)), ["added new"]);
    }
}
