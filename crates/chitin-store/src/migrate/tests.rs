//! Migrations are whole or not at all.

use std::path::Path;

use super::*;

fn objects(conn: &Connection) -> Vec<String> {
    let mut statement = conn.prepare("SELECT name FROM sqlite_schema ORDER BY name").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn run(conn: &mut Connection, migrations: &[&str]) -> Result<(), StoreError> {
    migrate(conn, Path::new("test.db"), migrations, [7; 16])
}

#[test]
fn an_empty_file_comes_to_the_newest_schema_and_stays_there() {
    let mut conn = Connection::open_in_memory().unwrap();
    run(&mut conn, MIGRATIONS).unwrap();
    let made = objects(&conn);
    assert!(made.contains(&"task".to_owned()) && made.contains(&"submission".to_owned()), "{made:?}");
    run(&mut conn, MIGRATIONS).unwrap();
    assert_eq!(objects(&conn), made);
    assert_eq!(schema(&conn, Path::new("test.db"), MIGRATIONS.len()).unwrap(), MIGRATIONS.len());
}

#[test]
fn a_migration_that_fails_in_its_middle_leaves_the_schema_before_it() {
    let mut conn = Connection::open_in_memory().unwrap();
    run(&mut conn, &MIGRATIONS[..1]).unwrap();
    let before = objects(&conn);
    let broken =
        [MIGRATIONS[0], "CREATE TABLE half (a INTEGER); DROP TABLE task; INSERT INTO nowhere VALUES (1);"];
    assert!(matches!(run(&mut conn, &broken), Err(StoreError::Migrate { to: 2, .. })));
    assert_eq!(objects(&conn), before);
    assert_eq!(schema(&conn, Path::new("test.db"), 2).unwrap(), 1);

    let mended = [MIGRATIONS[0], "CREATE TABLE whole (a INTEGER);"];
    run(&mut conn, &mended).unwrap();
    assert!(objects(&conn).contains(&"whole".to_owned()));
    assert_eq!(schema(&conn, Path::new("test.db"), 2).unwrap(), 2);
}

#[test]
fn a_newer_schema_is_refused() {
    let mut conn = Connection::open_in_memory().unwrap();
    run(&mut conn, MIGRATIONS).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    let newest = i64::try_from(MIGRATIONS.len()).unwrap();
    let refused = run(&mut conn, MIGRATIONS);
    assert!(matches!(refused, Err(StoreError::NewerSchema { found: 99, known, .. }) if known == newest));
}

#[test]
fn another_programs_database_is_left_alone() {
    let mut conn = Connection::open_in_memory().unwrap();
    conn.execute_batch("CREATE TABLE theirs (a INTEGER)").unwrap();
    assert!(matches!(run(&mut conn, MIGRATIONS), Err(StoreError::ForeignFile { found: 0, .. })));
    assert_eq!(objects(&conn), ["theirs"]);

    let mut conn = Connection::open_in_memory().unwrap();
    conn.pragma_update(None, "application_id", 42).unwrap();
    assert!(matches!(run(&mut conn, MIGRATIONS), Err(StoreError::ForeignFile { found: 42, .. })));
}
