//! Who is in an organisation, decided by several at once from what each happens to know.

use proptest::prelude::*;

use super::*;
use crate::{
    id::{OrganisationId, TokenId, UserId, environment_id},
    placement::tests::Plain,
    record::{Lifetimes, OtherNames, Quotas},
};

const NOW: UnixMs = UnixMs(10);

fn id() -> OrganisationId {
    OrganisationId::from_random(&[1; 10])
}

fn person(n: u8) -> User {
    User {
        id: UserId::from_random(&[n; 10]),
        email: format!("p{n}@acme.example"),
        name: "Somebody".to_owned(),
        operator: false,
        password_hash: String::new(),
        era: 0,
        suspended: false,
        created: UnixMs(1),
    }
}

fn invitation(n: u8, by: Option<u8>, role: OrganisationRole) -> Invitation {
    Invitation {
        secret_hash: format!("{n:02x}"),
        id: TokenId::from_random(&[n; 10]),
        to: InvitedTo::Organisation(id(), role),
        email: person(n).email,
        by: by.map(|by| person(by).id),
        created: UnixMs(1),
        expires: UnixMs(100),
    }
}

fn organisation(purge: Option<UnixMs>) -> Organisation {
    let (name, created) = ("acme".parse().unwrap(), UnixMs(1));
    Organisation { id: id(), name, created, purge, environments_max: None }
}

/// What somebody read.
struct Read {
    organisation: Decoded<Organisation>,
    roster: Decoded<Roster>,
}

impl Read {
    fn of(store: &Plain) -> Self {
        let get = id();
        let organisation = store.get(get.as_str()).unwrap();
        Self { organisation, roster: store.get(get.as_str()).unwrap() }
    }

    fn held(&self) -> Held<'_> {
        Held { organisation: &self.organisation, roster: &self.roster }
    }
}

fn membership(store: &Plain, n: u8) -> Option<Decoded<Membership>> {
    store.get(&format!("{}/{}", person(n).id, id()))
}

fn invite_to(store: &Plain, n: u8, by: Option<u8>, role: OrganisationRole) -> Option<Transaction> {
    invite(Read::of(store).held(), &invitation(n, by, role), &[]).ok()
}

fn join_as(store: &Plain, n: u8) -> Result<Transaction, PeopleError> {
    let invitation: Decoded<Invitation> =
        store.get(&format!("{n:02x}")).ok_or(PeopleError::NoInvitation)?;
    let by = invitation.record.by.clone();
    let inviter = by.and_then(|by| store.get::<Membership>(&format!("{by}/{}", id())));
    let own = membership(store, n);
    let joining =
        Joining { invitation: &invitation, inviter: inviter.as_ref(), membership: own.as_ref() };
    join(Read::of(store).held(), &person(n), joining, NOW)
}

/// An organisation with an owner, who is person 0.
fn founded() -> Plain {
    let mut store = Plain::default();
    store.put(&organisation(None));
    store.put(&Roster { organisation: id(), owners: 0, people: 0, invitations: 0 });
    add(&mut store, 0, None, OrganisationRole::Owner);
    store
}

fn add(store: &mut Plain, n: u8, by: Option<u8>, role: OrganisationRole) {
    let invited = invite_to(store, n, by, role).unwrap();
    assert!(store.commit(&invited));
    let joined = join_as(store, n).unwrap();
    assert!(store.commit(&joined));
}

fn roster(store: &Plain) -> (u32, u32, u32) {
    let Roster { owners, people, invitations, .. } = Read::of(store).roster.record;
    (owners, people, invitations)
}

#[test]
fn the_last_owner_is_neither_demoted_nor_removed() {
    let mut store = founded();
    let own = membership(&store, 0).unwrap();
    let read = Read::of(&store);
    for role in [OrganisationRole::Member, OrganisationRole::Admin] {
        assert!(matches!(set_role(read.held(), &own, role, &[]), Err(PeopleError::LastOwner)));
    }
    assert!(matches!(remove(read.held(), &own, &[]), Err(PeopleError::LastOwner)));
    add(&mut store, 1, Some(0), OrganisationRole::Owner);
    assert_eq!(roster(&store), (2, 2, 0));
    let (one, other) = (membership(&store, 0).unwrap(), membership(&store, 1).unwrap());
    // Two who decide at once, each that the other stays.
    let read = Read::of(&store);
    let first = remove(read.held(), &one, &[]).unwrap();
    let second = remove(read.held(), &other, &[]).unwrap();
    assert!(store.commit(&first) && !store.commit(&second));
    assert_eq!(roster(&store), (1, 1, 0));
}

#[test]
fn an_invitation_is_good_once_in_time_and_while_who_made_it_may_invite() {
    use OrganisationRole::{Admin, Member, Owner};
    let mut store = founded();
    add(&mut store, 1, Some(0), Admin);
    let good = |store: &Plain, invitation: &Invitation, now| {
        let by = invitation.by.clone();
        let inviter = by.and_then(|by| store.get::<Membership>(&format!("{by}/{}", id())));
        let inviter = inviter.map(|inviter| inviter.record);
        is_good(invitation, &Read::of(store).roster.record, inviter.as_ref(), now)
    };
    assert!(good(&store, &invitation(2, Some(1), Member), UnixMs(99)));
    assert!(!good(&store, &invitation(2, Some(1), Member), UnixMs(100)), "it is over");
    assert!(good(&store, &invitation(2, Some(1), Admin), NOW));
    assert!(!good(&store, &invitation(2, Some(1), Owner), NOW), "only owners make owners");
    assert!(good(&store, &invitation(2, Some(0), Owner), NOW));
    assert!(!good(&store, &invitation(2, Some(9), Member), NOW), "of a stranger");
    assert!(!good(&store, &invitation(2, None, Owner), NOW), "operators make the first owner only");

    let invited = invite_to(&store, 2, Some(1), Member).unwrap();
    assert!(store.commit(&invited));
    let read = join_as(&store, 2).unwrap();
    let demoted = set_role(Read::of(&store).held(), &membership(&store, 1).unwrap(), Member, &[]);
    let Ok(Decision::Commit(demoted, _)) = demoted else { panic!("refused") };
    assert!(store.commit(&demoted) && !store.commit(&read));
    assert!(matches!(join_as(&store, 2), Err(PeopleError::NoInvitation)));
}

#[test]
fn who_is_in_it_already_keeps_the_higher_role_and_is_counted_once() {
    let mut store = founded();
    add(&mut store, 1, Some(0), OrganisationRole::Admin);
    add(&mut store, 1, Some(0), OrganisationRole::Member);
    assert_eq!(membership(&store, 1).unwrap().record.role, OrganisationRole::Admin);
    add(&mut store, 1, Some(0), OrganisationRole::Owner);
    assert_eq!(roster(&store), (2, 2, 0));
    // By an invitation of one's own.
    add(&mut store, 1, Some(1), OrganisationRole::Owner);
    assert_eq!(roster(&store), (2, 2, 0));
}

#[test]
fn nobody_comes_into_an_organisation_that_goes() {
    let mut store = founded();
    let invited = invite_to(&store, 1, Some(0), OrganisationRole::Owner).unwrap();
    assert!(store.commit(&invited));
    let (joined, second) =
        (join_as(&store, 1).unwrap(), invite_to(&store, 2, Some(0), OrganisationRole::Member));
    store.put(&organisation(Some(UnixMs(99))));
    // Nor by what was decided before.
    assert!(!store.commit(&joined) && !store.commit(&second.unwrap()));
    assert!(matches!(join_as(&store, 1), Err(PeopleError::NoInvitation)));
    let one = invitation(2, Some(0), OrganisationRole::Member);
    assert!(matches!(invite(Read::of(&store).held(), &one, &[]), Err(PeopleError::Going)));
}

#[test]
fn limits_name_themselves() {
    let mut store = founded();
    let invited = invite_to(&store, 2, Some(0), OrganisationRole::Member).unwrap();
    assert!(store.commit(&invited));
    let full = |people, invitations| Roster { organisation: id(), owners: 1, people, invitations };
    store.put(&full(PEOPLE_MAX, 1));
    let refused = join_as(&store, 2).unwrap_err().to_string();
    assert_eq!(refused, "the organisation's limit of 10000 people is reached");
    store.put(&full(PEOPLE_MAX - 1, 1));
    assert!(join_as(&store, 2).is_ok());
    store.put(&full(1, INVITATIONS_MAX));
    let one = invitation(3, Some(0), OrganisationRole::Member);
    let refused = invite(Read::of(&store).held(), &one, &[]).unwrap_err().to_string();
    assert!(refused.starts_with("the organisation's limit of 100 invitations is reached"));
}

fn environment(n: u16, state: EnvironmentState) -> Environment {
    let [high, low] = n.to_be_bytes();
    Environment {
        id: environment_id(&[high, low, 0, 0, 0, 0, 0, 0, 0, 0]),
        organisation: id(),
        name: "shop".parse().unwrap(),
        state,
        subnets: Vec::new(),
        quotas: Quotas::default(),
        held: false,
        lifetimes: Lifetimes::default(),
        other_names: OtherNames::default(),
        created: UnixMs(1),
    }
}

#[test]
fn a_role_in_an_environment_goes_with_the_membership_and_is_not_given_in_one_that_goes() {
    let mut store = founded();
    add(&mut store, 1, Some(0), OrganisationRole::Member);
    let shop = environment(0, EnvironmentState::Active);
    store.put(&shop);
    let found: Decoded<Environment> = store.get(shop.id.as_str()).unwrap();
    let before = membership(&store, 1).unwrap();
    let give = |found: &Decoded<Environment>, before: &Decoded<Membership>| {
        set_environment_role(found, before, Some(EnvironmentRole::Deployer))
    };
    let Ok(Decision::Commit(given, after)) = give(&found, &before) else { panic!("refused") };
    assert_eq!(after.role_in(&shop.id), Some(EnvironmentRole::Deployer));
    // Who is removed meanwhile gets none.
    let removed = remove(Read::of(&store).held(), &before, &[]).unwrap();
    let mut other = store.clone();
    assert!(other.commit(&removed) && !other.commit(&given));
    // Nor anybody in an environment that is deleted meanwhile.
    let state = EnvironmentState::Deleting { purge: UnixMs(99) };
    store.put(&Environment { state, ..shop.clone() });
    assert!(!store.commit(&given));
    let found: Decoded<Environment> = store.get(shop.id.as_str()).unwrap();
    assert!(matches!(give(&found, &before), Err(PeopleError::Deleting)));
    let owner = membership(&store, 0).unwrap().record;
    assert_eq!(owner.role_in(&shop.id), Some(EnvironmentRole::Admin));
}

#[test]
fn one_person_has_roles_in_so_many_environments() {
    let store = founded();
    let mut own = membership(&store, 0).unwrap();
    for n in 0..u16::try_from(ENVIRONMENT_ROLES_MAX).unwrap() {
        let id = environment(n, EnvironmentState::Active).id;
        own.record.environments.insert(id, EnvironmentRole::Viewer);
    }
    let more =
        Decoded { record: environment(u16::MAX, EnvironmentState::Active), modified: own.modified };
    let refused = set_environment_role(&more, &own, Some(EnvironmentRole::Viewer));
    assert!(matches!(refused, Err(PeopleError::Limit(_))));
    assert!(own.record.encode().unwrap().len() < weft_store::VALUE_LEN_MAX);
}

#[derive(Debug, Clone)]
enum Step {
    Look,
    Invite { n: u8, by: u8, role: OrganisationRole },
    Withdraw { n: u8 },
    Join { n: u8 },
    Role { n: u8, role: OrganisationRole },
    Remove { n: u8 },
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let role = || {
        prop::sample::select(vec![
            OrganisationRole::Member,
            OrganisationRole::Admin,
            OrganisationRole::Owner,
        ])
    };
    let step = prop_oneof![
        4 => Just(Step::Look),
        3 => (0..4u8, 0..4u8, role()).prop_map(|(n, by, role)| Step::Invite { n, by, role }),
        1 => (0..4u8).prop_map(|n| Step::Withdraw { n }),
        4 => (0..4u8).prop_map(|n| Step::Join { n }),
        4 => (0..4u8, role()).prop_map(|(n, role)| Step::Role { n, role }),
        3 => (0..4u8).prop_map(|n| Step::Remove { n }),
    ];
    prop::collection::vec((0..3usize, step), 0..120)
}

fn decide(store: &Plain, step: &Step) -> Option<Transaction> {
    let read = Read::of(store);
    match *step {
        Step::Look => None,
        Step::Invite { n, by, role } => invite_to(store, n, Some(by), role),
        Step::Withdraw { n } => {
            let found = store.get::<Invitation>(&format!("{n:02x}"))?;
            withdraw(read.held(), &found).ok()
        }
        Step::Join { n } => join_as(store, n).ok(),
        Step::Role { n, role } => {
            match set_role(read.held(), &membership(store, n)?, role, &[]).ok()? {
                Decision::Commit(transaction, _) => Some(transaction),
                Decision::Already(_) => None,
            }
        }
        Step::Remove { n } => remove(read.held(), &membership(store, n)?, &[]).ok(),
    }
}

proptest! {
    /// Several decide, each from what it read some time ago. Whatever is committed: there is an owner, and who is in
    /// the organisation and invited is counted exactly.
    #[test]
    fn whoever_decides_there_is_an_owner(steps in steps()) {
        let mut store = founded();
        let mut seen: Vec<Plain> = (0..3).map(|_| store.clone()).collect();
        for (by, step) in steps {
            if matches!(step, Step::Look) {
                seen[by] = store.clone();
                continue;
            }
            let Some(transaction) = decide(&seen[by], &step) else { continue };
            if !store.commit(&transaction) {
                continue;
            }
            let all = store.all::<Membership>();
            let owners = all.iter().filter(|found| found.record.role == OrganisationRole::Owner);
            let counted = (owners.count(), all.len(), store.all::<Invitation>().len());
            prop_assert!(counted.0 > 0);
            let (owners, people, invitations) = roster(&store);
            prop_assert_eq!(counted, (owners as usize, people as usize, invitations as usize));
        }
    }
}
