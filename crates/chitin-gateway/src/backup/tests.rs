//! What a backup may and may not touch.

use std::os::unix::fs::PermissionsExt;

use chitin_store::Writer;

use super::*;

struct Place {
    _folder: tempfile::TempDir,
    source: Source,
    elsewhere: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let (data_dir, elsewhere) = (root.join("data"), root.join("else where?#%"));
    fs::create_dir(&data_dir).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    let options = StoreOptions::new([1; 16], &Limits::default());
    drop(Writer::open(&data_dir.join(names::DATABASE), &options).unwrap());
    Place { _folder: folder, source: Source { data_dir, options }, elsewhere }
}

impl Place {
    fn take(&self, target: &Path, replace: bool) -> Result<Backup, BackupError> {
        take(&self.source, target, replace, &mut || None)
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.elsewhere).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn it_is_whole_private_remembered_and_alone() {
    let place = place();
    let target = place.elsewhere.join("one");
    let taken = place.take(&target, false).unwrap();
    let found = fs::metadata(&target).unwrap();
    assert_eq!(found.len(), taken.bytes);
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert_eq!(place.files(), ["one"]);
    assert_eq!(newest(&place.source.data_dir).unwrap().path, target);
}

#[test]
fn what_is_there_stays_unless_it_is_to_be_replaced() {
    let place = place();
    let target = place.elsewhere.join("one");
    fs::write(&target, "somebody's").unwrap();
    assert!(matches!(place.take(&target, false), Err(BackupError::Exists { .. })));
    assert_eq!(fs::read(&target).unwrap(), b"somebody's");
    // What came in between is not replaced either.
    let draft = Draft::make(place.elsewhere.join("draft")).unwrap();
    assert!(matches!(draft.become_target(&target, false), Err(BackupError::Exists { .. })));
    assert_eq!(fs::read(&target).unwrap(), b"somebody's");
    assert!(place.take(&target, true).unwrap().bytes > 4_096);
    assert_eq!(place.files(), ["one"]);
}

#[test]
fn the_gateways_own_files_are_no_targets() {
    let place = place();
    let data = &place.source.data_dir;
    fs::create_dir_all(data.join("spool/a")).unwrap();
    symlink(data, &place.elsewhere.join("link"));
    let targets = [
        data.join("chitin.db"),
        data.join("new"),
        data.join("spool/a/b"),
        place.elsewhere.join("link/chitin.db"),
        place.elsewhere.clone(),
        PathBuf::from("relative"),
        PathBuf::from("/"),
    ];
    for target in targets {
        let refused = place.take(&target, true);
        assert!(matches!(refused, Err(BackupError::Target { .. })), "{target:?}: {refused:?}");
    }
    let nowhere = place.take(&place.elsewhere.join("gone/one"), true);
    assert!(matches!(nowhere, Err(BackupError::File { .. })), "{nowhere:?}");
    fs::create_dir(data.join("backups")).unwrap();
    place.take(&data.join("backups/one"), false).unwrap();
}

fn symlink(to: &Path, at: &Path) {
    std::os::unix::fs::symlink(to, at).unwrap();
}

#[test]
fn without_links_what_came_in_between_is_not_replaced() {
    let place = place();
    let target = place.elsewhere.join("one");
    let draft = || Draft::make(place.elsewhere.join("draft")).unwrap();
    fs::write(&target, "somebody's").unwrap();
    let refused = name_without_links(&draft().0, &target);
    assert!(matches!(refused, Err(BackupError::Exists { .. })), "{refused:?}");
    assert_eq!(fs::read(&target).unwrap(), b"somebody's");
    fs::remove_file(&target).unwrap();
    name_without_links(&draft().0, &target).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"");
}

#[test]
fn what_is_stopped_while_it_is_checked_leaves_nothing() {
    let place = place();
    let (database, target) = (place.source.data_dir.join(names::DATABASE), place.elsewhere.join("one"));
    let mut writer = Writer::open(&database, &StoreOptions::new([1; 16], &Limits::default())).unwrap();
    assert!(matches!(writer.set_meta("filler", &vec![7; 40_000_000]), chitin_store::Commit::Ok));
    drop(writer);
    let (draft, whole) = (place.elsewhere.join(".one.chitin-draft"), fs::metadata(&database).unwrap().len());
    assert!(whole > 40_000_000);
    // The first question is asked before the check; a check may be faster than the second one.
    for tries in 1..=100 {
        let mut asked = 0;
        let stopped = take(&place.source, &target, true, &mut || {
            asked += u32::from(fs::metadata(&draft).is_ok_and(|found| found.len() >= whole));
            (asked > 1).then_some(Stop::Stopping)
        });
        match stopped {
            Err(BackupError::Stopped(Stop::Stopping)) => {
                assert!(place.files().iter().all(|name| name == "one"), "{:?}", place.files());
                return;
            }
            other => println!("try {tries}: {other:?}"),
        }
    }
    panic!("a check is never interrupted");
}

#[test]
fn what_is_stopped_leaves_nothing() {
    let place = place();
    let target = place.elsewhere.join("one");
    // So small a store is copied in one step; the next look would come too late.
    let options = StoreOptions::new([1; 16], &Limits::default());
    let mut writer = Writer::open(&place.source.data_dir.join(names::DATABASE), &options).unwrap();
    assert!(matches!(writer.set_meta("filler", &[7; 3_000_000]), chitin_store::Commit::Ok));
    let stopped = take(&place.source, &target, false, &mut || Some(Stop::LogTooLong));
    assert!(matches!(stopped, Err(BackupError::Stopped(Stop::LogTooLong))), "{stopped:?}");
    assert!(place.files().is_empty());
    assert_eq!(newest(&place.source.data_dir), None);
}
