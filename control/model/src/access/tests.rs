//! The whole table: every actor, every action, on what is its own and on what is not.

use std::collections::BTreeSet;

use super::*;
use crate::id::environment_id;

fn organisation(n: u8) -> OrganisationId {
    OrganisationId::from_random(&[n; 10])
}

fn user(
    operator: bool,
    organisation_role: Option<OrganisationRole>,
    environment_role: Option<EnvironmentRole>,
) -> Actor {
    Actor::User {
        id: UserId::from_random(&[0; 10]),
        operator,
        organisations: organisation_role.map(|role| (organisation(1), role)).into_iter().collect(),
        environments: environment_role
            .map(|role| (environment_id(&[1; 10]), role))
            .into_iter()
            .collect(),
    }
}

fn token(role: EnvironmentRole) -> Actor {
    Actor::Token { id: TokenId::from_random(&[0; 10]), environment: environment_id(&[1; 10]), role }
}

fn allowed(actor: &Actor, object: Object<'_>) -> BTreeSet<Action> {
    let all = Action::ALL.iter().copied();
    all.filter(|action| actor.access(*action, object) == Access::Allowed).collect()
}

/// Everybody, with what each may do in the environment and the organisation that are theirs.
fn table() -> Vec<(&'static str, Actor, Vec<Action>, Vec<Action>)> {
    use Action::*;
    use EnvironmentRole as E;
    use OrganisationRole as O;
    let sees = vec![SeeEnvironment];
    let deploys = [&sees[..], &[Deploy, SeeSecrets, WriteSecrets]].concat();
    let admin_only = [ReadSecrets, ManageEnvironment, SuspendEnvironment, ReadEnvironmentAudit];
    let manages = [&deploys[..], &admin_only].concat();
    // What a token never may.
    let person = |may: &[Action]| [may, &[MakeTokens]].concat();
    let (viewer, deployer) = (person(&sees), person(&deploys));
    let admin = [&person(&manages)[..], &[ManagePeople]].concat();
    let of_admin = vec![SeeOrganisation, ManageOrganisation, ReadOrganisationAudit];
    let of_owner = [&of_admin[..], &[OwnOrganisation]].concat();
    let operator = vec![SeeEnvironment, BindHosts, ManageInstallation, SuspendEnvironment];
    vec![
        ("nobody", Actor::Nobody, vec![], vec![]),
        ("a stranger", user(false, None, None), vec![], vec![]),
        ("a member", user(false, Some(O::Member), None), vec![], vec![SeeOrganisation]),
        ("an admin", user(false, Some(O::Admin), None), admin.clone(), of_admin),
        ("an owner", user(false, Some(O::Owner), None), admin.clone(), of_owner),
        ("a viewer", user(false, None, Some(E::Viewer)), viewer, vec![]),
        ("a deployer", user(false, None, Some(E::Deployer)), deployer, vec![]),
        ("an environment's admin", user(false, None, Some(E::Admin)), admin, vec![]),
        (
            "an operator",
            user(true, None, None),
            operator,
            vec![SeeOrganisation, ManageInstallation],
        ),
        ("a viewer's token", token(E::Viewer), sees.clone(), vec![]),
        ("a deploy token", token(E::Deployer), deploys, vec![]),
        ("an admin's token", token(E::Admin), manages, vec![]),
        ("a host", Actor::Host("host-a".parse().unwrap()), vec![], vec![]),
        (
            "the scheduler",
            Actor::Component(Component::Scheduler),
            vec![SeeEnvironment, Deploy, Grant],
            vec![],
        ),
        ("the edge", Actor::Component(Component::Edge), sees, vec![]),
        ("git", Actor::Component(Component::Git), vec![], vec![]),
        ("the registry", Actor::Component(Component::Registry), vec![], vec![]),
    ]
}

#[test]
fn everybody_may_what_the_table_says_and_nothing_else() {
    let (own, its) = (environment_id(&[1; 10]), organisation(1));
    for (who, actor, environment, organisation) in table() {
        let may = allowed(&actor, Object::Environment(&own, &its));
        assert_eq!(may, environment.into_iter().collect(), "{who} in an environment");
        let may = allowed(&actor, Object::Organisation(&its));
        assert_eq!(may, organisation.into_iter().collect(), "{who} in an organisation");
    }
}

#[test]
fn values_of_secrets_are_read_by_admins_of_the_environment_alone() {
    let (own, its) = (environment_id(&[1; 10]), organisation(1));
    let may = |actor: &Actor, action| {
        actor.access(action, Object::Environment(&own, &its)) == Access::Allowed
    };
    let readers: Vec<&str> = table()
        .iter()
        .filter(|(_, actor, ..)| may(actor, Action::ReadSecrets))
        .map(|(who, ..)| *who)
        .collect();
    assert_eq!(readers, ["an admin", "an owner", "an environment's admin", "an admin's token"]);
    // Nobody is told which there are who may not write any: no viewer, no operator, no part of the platform.
    for (who, actor, ..) in table() {
        let (sees, writes) = (may(&actor, Action::SeeSecrets), may(&actor, Action::WriteSecrets));
        assert_eq!(sees, writes, "{who}");
    }
}

#[test]
fn what_is_foreign_is_not_there() {
    let (foreign, its) = (environment_id(&[2; 10]), organisation(2));
    for (who, actor, ..) in table() {
        let everywhere = matches!(actor, Actor::User { operator: true, .. })
            || matches!(actor, Actor::Component(Component::Scheduler | Component::Edge));
        if everywhere {
            continue;
        }
        for action in Action::ALL {
            for object in [Object::Environment(&foreign, &its), Object::Organisation(&its)] {
                assert_eq!(actor.access(*action, object), Access::Hidden, "{who}: {action:?}");
            }
        }
    }
}

#[test]
fn an_environment_of_the_same_organisation_is_foreign_to_who_has_no_role_there() {
    let (other, its) = (environment_id(&[2; 10]), organisation(1));
    let actor = user(false, Some(OrganisationRole::Member), Some(EnvironmentRole::Admin));
    for action in Action::ALL {
        assert_eq!(actor.access(*action, Object::Environment(&other, &its)), Access::Hidden);
    }
}

#[test]
fn hosts_are_operators_business_and_each_its_own() {
    use Action::*;
    let (own, other) = ("host-a".parse().unwrap(), "host-b".parse().unwrap());
    for (who, actor, ..) in table() {
        let (here, there, all) = (
            allowed(&actor, Object::Host(&own)),
            allowed(&actor, Object::Host(&other)),
            allowed(&actor, Object::Installation),
        );
        let operator = BTreeSet::from([SeeHosts, ManageHosts, ManageInstallation, ReadAllAudit]);
        let expected = match actor {
            Actor::User { operator: true, .. } => (operator.clone(), operator.clone(), operator),
            Actor::Host(_) => ([ActAsHost].into(), [].into(), [].into()),
            Actor::Component(Component::Scheduler) => {
                ([SeeHosts].into(), [SeeHosts].into(), [SeeHosts].into())
            }
            Actor::Component(_) => ([].into(), [].into(), [Authenticate].into()),
            _ => ([].into(), [].into(), [].into()),
        };
        assert_eq!((here, there, all), expected, "{who}");
    }
}

#[test]
fn who_sees_is_told_that_it_may_not_and_who_does_not_is_told_nothing() {
    let (own, its) = (environment_id(&[1; 10]), organisation(1));
    let viewer = user(false, None, Some(EnvironmentRole::Viewer));
    assert_eq!(viewer.access(Action::Deploy, Object::Environment(&own, &its)), Access::Refused);
    assert_eq!(viewer.access(Action::SeeOrganisation, Object::Organisation(&its)), Access::Hidden);
    let member = user(false, Some(OrganisationRole::Member), None);
    assert_eq!(member.access(Action::OwnOrganisation, Object::Organisation(&its)), Access::Refused);
    assert_eq!(
        member.access(Action::SeeEnvironment, Object::Environment(&own, &its)),
        Access::Hidden
    );
    assert_eq!(Actor::Nobody.access(Action::SeeHosts, Object::Installation), Access::Refused);
}
