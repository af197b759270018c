use super::*;

fn fresh() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    (directory, path)
}

fn open_default(path: &Path) -> Result<(Connection, Stored), OpenError> {
    open(path, SqliteOptions::default())
}

#[test]
fn the_library_is_recent_enough() {
    // 3.51.3 repairs a race between a checkpoint and a writer that could damage a file in WAL mode.
    assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
}

#[test]
fn a_new_file_is_empty_durable_and_for_its_owner() {
    let (_directory, path) = fresh();
    let (connection, stored) = open_default(&path).unwrap();
    assert_eq!(stored, Stored::default());
    let setting = |name| -> u32 { pragma(&connection, name).unwrap() };
    assert_eq!(setting("synchronous"), 2);
    assert_eq!(setting("user_version"), 1);
    assert_eq!(setting("page_size"), PAGE_BYTES);
    connection.execute_batch("UPDATE state SET value = 7 WHERE name = 'revision'").unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let mode = fs::metadata(beside(&path, suffix)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
    drop(connection);
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let (_connection, stored) = open_default(&path).unwrap();
    assert_eq!(stored.revision, Revision(7));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_newer_schema_is_refused_by_name_and_left_alone() {
    let (_directory, path) = fresh();
    let (connection, _) = open_default(&path).unwrap();
    connection.pragma_update(None, "user_version", 9).unwrap();
    drop(connection);
    let refused = open_default(&path).unwrap_err();
    assert!(matches!(refused, OpenError::NewerSchema { found: 9, known: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("store.db has schema 9; this version knows up to 1"));
    let connection = Connection::open(&path).unwrap();
    assert_eq!(pragma(&connection, "user_version").unwrap(), 9);
}

#[test]
fn what_is_not_a_store_is_refused_and_left_alone() {
    let (_directory, path) = fresh();
    fs::write(&path, "a text that is long enough to be looked at\n".repeat(100)).unwrap();
    let before = fs::read(&path).unwrap();
    let refused = open_default(&path).unwrap_err();
    assert!(matches!(refused, OpenError::NotAStore { .. }), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before);

    let (_directory, path) = fresh();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE theirs (a)").unwrap();
    let refused = open_default(&path).unwrap_err();
    assert!(refused.to_string().contains("another program's database"), "{refused}");

    let refused = open_default(Path::new("/nowhere/at/all/store.db")).unwrap_err();
    assert!(matches!(refused, OpenError::Io { .. }), "{refused}");
}

#[test]
fn migrations_are_made_in_order_and_all_or_none() {
    let (_directory, path) = fresh();
    let (mut connection, _) = open_default(&path).unwrap();
    let first = MIGRATIONS[0];
    let steps = [
        first,
        "CREATE TABLE more (a); INSERT INTO more VALUES (1)",
        "INSERT INTO more VALUES (2)",
    ];
    let wrong = [steps[0], steps[1], "INSERT INTO nothing VALUES (2)"];
    assert!(migrate(&path, &mut connection, &wrong).is_err());
    assert_eq!(pragma(&connection, "user_version").unwrap(), 1);
    assert!(connection.prepare("SELECT a FROM more").is_err());

    assert!(migrate(&path, &mut connection, &steps).is_ok());
    assert_eq!(pragma(&connection, "user_version").unwrap(), 3);
    let sum: u32 = connection.query_row("SELECT sum(a) FROM more", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, 3);
}

#[test]
fn ids_of_changes_are_ordered_by_revision_and_place() {
    let ids = [(1, 0), (1, 1), (1, CHANGES_MAX - 1), (2, 0), ((1 << 43) - 1, CHANGES_MAX - 1)];
    let ids =
        ids.map(|(revision, place)| (Revision(revision), change_id(Revision(revision), place)));
    assert!(ids.is_sorted_by(|a, b| a.1 < b.1));
    assert!(ids.iter().all(|(revision, id)| revision_of(*id) == *revision));
}
