//! Backups of a gateway that serves, and what is restored from them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::http::Request;
use common::{Gateway, log, traces, until};
use serde_json::{Value, json};

/// A gateway with something of everything: results, a failure, small and large logs, a queue, a key, what waits.
struct Full {
    gateway: Gateway,
    done: String,
    failed: String,
    large: String,
    waiting: String,
}

fn keyed(key: &str) -> Request {
    Request::post("/v1/tasks", &json!({"command": ["echo", "keyed"]})).header("idempotency-key", key)
}

fn full() -> Full {
    let gateway = Gateway::start_with("inline_log_bytes = 1000");
    let done = gateway.submit(&["echo", "a result"]);
    let failed = gateway.submit(&["sh", "-c", "echo why >&2; exit 3"]);
    let large = gateway.submit(&["seq", "1", "2000"]);
    let first = gateway.post("/v1/tasks", &json!({"command": ["true"], "queue": "other"})).with(202);
    gateway.ended(first.json()["id"].as_str().unwrap());
    gateway.post("/v1/queues/other/pause", &json!({})).with(200);
    let waiting = gateway.post("/v1/tasks", &json!({"command": ["echo", "later"], "queue": "other"}));
    let waiting = waiting.with(202).json()["id"].as_str().unwrap().to_owned();
    gateway.tcp(&keyed("the-key")).with(202);
    until("all but one have ended", || (gateway.counts() == (1, 0)).then_some(()));
    Full { gateway, done, failed, large, waiting }
}

/// Everything a client can see of the tasks, but for times to come.
fn seen(gateway: &Gateway) -> Value {
    let list = gateway.get("/v1/tasks?limit=1000").with(200).json();
    let ids: Vec<&str> =
        list["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap()).collect();
    assert!(ids.len() >= 6, "{list}");
    let whole: Vec<Value> = ids
        .iter()
        .map(|id| {
            let result = gateway.get(&format!("/v1/tasks/{id}/result"));
            json!({"task": gateway.task(id), "status": result.status, "result": result.body})
        })
        .collect();
    json!({"tasks": whole, "queues": gateway.get("/v1/queues").with(200).json()})
}

fn store_name(data: &Path) -> String {
    // The instance's name derives from the store's, and is said at each start.
    let log = fs::read_to_string(data.join("chitin.log")).unwrap();
    let ready = log.lines().rev().find(|line| line.contains("\"ready\"")).unwrap().to_owned();
    let ready: Value = serde_json::from_str(&ready).unwrap();
    let field = ready.get("instance").or_else(|| ready["fields"].get("instance"));
    field.unwrap_or_else(|| panic!("{ready}")).as_str().unwrap().to_owned()
}

#[test]
fn what_was_backed_up_is_restored_elsewhere_and_served() {
    let Full { mut gateway, done, failed, large, waiting } = full();
    let file = gateway.path("the backup");
    let said = gateway.cli(&["backup", file.to_str().unwrap()]).with(0);
    assert!(said.out().starts_with("backed up 6 tasks, "), "{said:?}");
    assert!(said.err.contains("the logs of 1 attempt are too large"), "{said:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = seen(&gateway);
    let name = store_name(&gateway.data);
    // It goes on after the backup, which is of one moment.
    gateway.submit(&["echo", "too late"]);
    gateway.down(&["--wait"]).with(0);

    let mut other = Gateway::prepare();
    fs::create_dir(&other.data).unwrap();
    let said = other.cli(&["restore", file.to_str().unwrap()]).with(0);
    assert_eq!(said.out(), format!("restored 6 tasks from {}\n", file.display()));
    assert!(said.err.contains("large logs of 1 attempt"), "{said:?}");
    assert!(!said.err.contains("is kept in"), "nothing was there: {said:?}");
    other.up();
    assert_eq!(seen(&other), before);
    assert_ne!(store_name(&other.data), name, "a store of its own");

    let again = other.tcp(&keyed("the-key")).with(200);
    let first = other.get("/v1/tasks?limit=1000").json();
    assert!(first.to_string().contains(again.json()["id"].as_str().unwrap()), "the key is known");
    assert_eq!(other.get(&format!("/v1/tasks/{done}/logs")).with(200).body, b"a result\n");
    assert_eq!(other.get(&format!("/v1/tasks/{failed}/logs?stream=stderr")).with(200).body, b"why\n");
    let gone = other.get(&format!("/v1/tasks/{large}/logs")).problem();
    assert_eq!(gone.code, "not-found");
    assert!(gone.detail.contains("which a backup does not hold"), "{gone:?}");
    assert_eq!(other.get(&format!("/v1/tasks/{large}/result")).with(200).body.len(), 8_893);
    other.post("/v1/queues/other/resume", &json!({})).with(200);
    assert_eq!(other.ended(&waiting)["state"], "succeeded");
}

#[test]
fn restoring_in_place_keeps_the_old_store_aside_and_the_logs_that_are_here() {
    let Full { mut gateway, large, .. } = full();
    let file = gateway.path("backup");
    gateway.cli(&["backup", file.to_str().unwrap()]).with(0);
    let before = seen(&gateway);
    let too_late = gateway.submit(&["seq", "1", "3000"]);
    gateway.ended(&too_late);

    let refused = gateway.cli(&["restore", file.to_str().unwrap()]).with(1);
    assert!(refused.err.contains("already runs") && refused.err.contains("chitin down"), "{refused:?}");
    gateway.down(&[]).with(0);
    let said = gateway.cli(&["restore", file.to_str().unwrap()]).with(0);
    let aside = said.err.lines().find_map(|line| line.split_once("is kept in ")).unwrap().1.to_owned();
    gateway.up();
    assert_eq!(seen(&gateway), before);
    gateway.get(&format!("/v1/tasks/{too_late}")).with(404);
    let logs = gateway.get(&format!("/v1/tasks/{large}/logs")).with(200);
    assert_eq!(logs.body.len(), 8_893, "its files were here");
    assert!(Path::new(&aside).join("spool").join(&too_late).is_dir());

    // And back again, from what was kept.
    gateway.down(&[]).with(0);
    gateway.cli(&["restore", &format!("{aside}/chitin.db")]).with(0);
    gateway.up();
    assert_eq!(gateway.task(&too_late)["state"], "succeeded");
}

#[test]
fn what_ran_when_the_backup_was_taken_is_lost_and_run_again_and_nothing_of_the_old_store_is_met() {
    let mut gateway = Gateway::start();
    let marks = gateway.path("marks");
    let script = format!("echo $CHITIN_ATTEMPT $$ >> {}; exec sleep 3600", marks.display());
    let wanted = json!({"command": ["sh", "-c", script], "retry": {"max": 1, "backoff_s": [3600]}});
    let id = gateway.post("/v1/tasks", &wanted).with(202).json()["id"].as_str().unwrap().to_owned();
    let lines =
        || fs::read_to_string(&marks).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    until("it runs", || (lines().len() == 1).then_some(()));
    let file = gateway.path("backup");
    gateway.cli(&["backup", file.to_str().unwrap()]).with(0);
    gateway.crash();

    let refused = gateway.cli(&["restore", file.to_str().unwrap()]).with(1);
    assert!(
        refused.err.contains("1 commands of the store") || refused.err.contains("still run"),
        "{refused:?}"
    );
    assert!(refused.err.contains("--kill"), "{refused:?}");
    let old: u32 = lines()[0].split_once(' ').unwrap().1.parse().unwrap();
    assert!(Path::new(&format!("/proc/{old}")).exists(), "refused, nothing was ended");
    let said = gateway.cli(&["restore", "--kill", file.to_str().unwrap()]).with(0);
    assert!(said.err.contains("1 command of the old store ended"), "{said:?}");
    assert!(said.err.contains("1 task ran when the backup was taken"), "{said:?}");
    until("the old command is gone", || (!Path::new(&format!("/proc/{old}")).exists()).then_some(()));
    assert!(traces::processes(&gateway.data).is_empty());

    gateway.up();
    let task = until("the first attempt is lost", || {
        let task = gateway.task(&id);
        (task["attempts"][0]["outcome"] != Value::Null).then_some(task)
    });
    assert_eq!(task["attempts"][0]["outcome"], "host_lost", "{task}");
    assert_eq!(task["state"], "scheduled", "by its policy: {task}");
    assert_eq!(lines().len(), 1, "the same attempt never starts again");
    gateway.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).with(200);
}

#[test]
fn a_start_while_somebody_works_on_the_store_is_refused_for_now_and_says_who() {
    let mut gateway = Gateway::prepare();
    fs::create_dir(&gateway.data).unwrap();
    let lock = gateway.data.join("gateway.lock");
    for (text, said) in
        [("restore\n", "a restore is under way on "), ("backup \n", "a backup is being taken on ")]
    {
        fs::write(&lock, text).unwrap();
        let held = fs::File::open(&lock).unwrap();
        held.lock().unwrap();
        for command in [&["up"][..], &["up", "--detach"], &["gateway"], &["restore", "backup"]] {
            let refused = gateway.cli(command).with(75);
            assert!(
                refused.err.contains(said) && refused.err.contains("try again"),
                "{command:?}: {refused:?}"
            );
        }
    }
    // Killed, whoever it was is no reason any more.
    gateway.up();
    let again = gateway.cli(&["up"]).with(0);
    assert!(again.err.starts_with("chitin: already running (pid "), "{again:?}");
}

#[test]
fn a_backup_is_refused_where_it_would_do_harm() {
    let gateway = Gateway::start();
    gateway.submit(&["true"]);
    let file = gateway.path("backup");
    fs::write(&file, "somebody's").unwrap();
    let refused = gateway.cli(&["backup", file.to_str().unwrap()]).with(64);
    assert!(refused.err.contains("exists already") && refused.err.contains("--force"), "{refused:?}");
    assert_eq!(fs::read(&file).unwrap(), b"somebody's");
    gateway.cli(&["backup", "--force", file.to_str().unwrap()]).with(0);
    let own = gateway.data.join("chitin.db");
    let refused = gateway.cli(&["backup", "--force", own.to_str().unwrap()]).with(64);
    assert!(refused.err.contains("among the gateway's own files"), "{refused:?}");
    gateway.cli(&["backup", gateway.path("no/such").to_str().unwrap()]).with(64);

    let ask = |body: Value| gateway.post("/v1/backup", &body).problem();
    assert_eq!(ask(json!({"path": "relative"})).field, "path");
    assert_eq!(ask(json!({"path": "/x", "force": true})).code, "invalid-request");
    assert_eq!(ask(json!({})).code, "invalid-request");
}

#[test]
fn without_a_gateway_the_command_copies_what_it_left() {
    let mut gateway = Gateway::start();
    let id = gateway.submit(&["echo", "kept"]);
    gateway.ended(&id);
    gateway.crash();
    let file = gateway.path("backup");
    let said = gateway.cli(&["backup", file.to_str().unwrap()]).with(0);
    assert!(said.out().starts_with("backed up 1 task, "), "{said:?}");
    gateway.up();
    gateway.down(&[]).with(0);
    gateway.cli(&["restore", file.to_str().unwrap()]).with(0);
    gateway.up();
    assert_eq!(gateway.get(&format!("/v1/tasks/{id}/result")).with(200).body, b"kept\n");

    let none = Gateway::prepare();
    let refused = none.cli(&["backup", file.to_str().unwrap()]).with(1);
    assert!(refused.err.contains("there is no store in"), "{refused:?}");
    assert!(!none.data.exists());
}

#[test]
fn what_is_no_backup_is_refused_and_the_store_stays() {
    let mut gateway = Gateway::start();
    let id = gateway.submit(&["echo", "kept"]);
    gateway.ended(&id);
    gateway.down(&[]).with(0);
    let names = |data: &Path| {
        let mut names: Vec<PathBuf> =
            fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    let before = names(&gateway.data);
    let file = gateway.path("no backup");
    for (content, said) in [(&b""[..], "is not chitin's"), (&b"a diary, page by page"[..], "is damaged")] {
        fs::write(&file, content).unwrap();
        let refused = gateway.cli(&["restore", file.to_str().unwrap()]).with(1);
        assert!(refused.err.contains(said) && refused.err.contains("no backup"), "{refused:?}");
    }
    let missing = gateway.cli(&["restore", gateway.path("gone").to_str().unwrap()]).with(1);
    assert!(missing.err.contains("gone: No such file"), "{missing:?}");
    assert_eq!(names(&gateway.data), before);
    gateway.up();
    assert_eq!(gateway.task(&id)["state"], "succeeded");
}

#[test]
fn a_damaged_store_names_the_newest_backup_and_the_way_back() {
    let mut gateway = Gateway::start();
    let id = gateway.submit(&["echo", "kept"]);
    gateway.ended(&id);
    let backups = [gateway.path("first"), gateway.path("second"), gateway.path("third")];
    for file in &backups {
        gateway.cli(&["backup", file.to_str().unwrap()]).with(0);
    }
    fs::remove_file(&backups[2]).unwrap();
    gateway.down(&[]).with(0);
    let database = gateway.data.join("chitin.db");
    // What the database is once all of its log is in it.
    let whole = fs::read(&backups[0]).unwrap();
    let pages = whole.len() / 4_096;
    let mut refused = 0;
    for page in 0..pages {
        let mut bytes = whole.clone();
        bytes[page * 4_096..(page + 1) * 4_096].fill(0xa5);
        for end in ["-wal", "-shm"] {
            let _ = fs::remove_file(gateway.data.join(format!("chitin.db{end}")));
        }
        fs::write(&database, &bytes).unwrap();
        let said = gateway.cli(&["up", "--detach", "--listen", "none"]);
        if said.code == 0 {
            // A page that nothing stands on.
            let result = gateway.unix(&Request::get(&format!("/v1/tasks/{id}/result"))).with(200);
            assert_eq!(result.body, b"kept\n", "page {page}");
            gateway.down(&[]).with(0);
            continue;
        }
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("chitin.db is damaged: "), "page {page}: {said:?}");
        let newest = format!("the newest that is known is {}, taken 2", backups[1].display());
        assert!(said.err.contains(&newest) && said.err.contains("with 1 tasks"), "page {page}: {said:?}");
        assert!(said.err.contains("chitin restore --data-dir "), "page {page}: {said:?}");
        assert_eq!(fs::read(&database).unwrap(), bytes, "and left as it is");
        refused += 1;
    }
    println!("{refused} of {pages} damaged pages refused with the backup named; on the others stood nothing");
    assert!(refused > 25, "{refused}");
    assert!(log(&gateway.data).contains("the newest that is known"), "it is in the log, too");

    let said = gateway.cli(&["restore", backups[1].to_str().unwrap()]).with(0);
    let aside = said.err.lines().find_map(|line| line.split_once("is kept in ")).unwrap().1;
    assert_eq!(fs::metadata(Path::new(aside).join("chitin.db")).unwrap().len(), whole.len() as u64);
    gateway.up();
    assert_eq!(gateway.get(&format!("/v1/tasks/{id}/result")).with(200).body, b"kept\n");
}

/// A gateway with some megabytes of waiting tasks, most of which no connection has in its memory, and then no page of
/// its database but the first as it was.
fn damaged_while_it_serves() -> (Gateway, Vec<String>) {
    let mut gateway = Gateway::start();
    gateway.cli(&["backup", gateway.path("backup").to_str().unwrap()]).with(0);
    let task = json!({"command": ["true"], "stdin": "x".repeat(30_000), "delay_s": 86_400});
    let mut ids = Vec::new();
    for _ in 0..2 {
        let bulk = json!({"tasks": vec![task.clone(); 400]});
        let accepted = gateway.post("/v1/tasks/bulk", &bulk).with(202).json();
        ids.extend(accepted["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()));
    }
    // The next life works the log off first.
    gateway.down(&[]).with(0);
    gateway.up();
    // Its first sweep reads, too: with this commit it is over.
    gateway.cli(&["queues", "resume", "default"]).with(0);
    let database = gateway.data.join("chitin.db");
    let file = fs::OpenOptions::new().write(true).open(&database).unwrap();
    let bytes = file.metadata().unwrap().len();
    assert!(bytes > 20_000_000, "{bytes}");
    for page in 1..bytes / 4_096 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 4_096], page * 4_096).unwrap();
    }
    (gateway, ids)
}

#[test]
fn damage_that_a_read_meets_is_an_error_and_no_new_work_is_taken() {
    let (mut gateway, ids) = damaged_while_it_serves();
    assert_eq!(gateway.get(&format!("/v1/tasks/{}", ids[17])).problem().code, "storage-unavailable");
    let status = gateway.get("/v1/status").with(200).json();
    assert_eq!(status["layers"]["store"]["state"], "damaged", "{status}");
    assert_eq!(status["shedding"], true);
    let refused = gateway.post("/v1/tasks", &json!({"command": ["true"]})).problem();
    assert_eq!((refused.status, refused.code.as_str()), (503, "storage-unavailable"));
    assert!(refused.detail.contains("damaged"), "{refused:?}");
    gateway.get("/healthz").with(200);
    assert_eq!(gateway.get("/readyz").status, 503);
    gateway.down(&[]).with(0);
}

#[test]
fn damage_that_a_commit_meets_ends_the_process_and_its_successor_does_not_serve() {
    let (mut gateway, ids) = damaged_while_it_serves();
    let before = gateway.pid();
    let mut answers = 0;
    for id in &ids {
        match gateway.try_post(&format!("/v1/tasks/{id}/cancel")) {
            // Its page was still in the writer's memory.
            Some(200) => answers += 1,
            Some(503) | None => break,
            Some(status) => panic!("{status}"),
        }
    }
    assert!(answers < ids.len(), "some page was not");
    until("the log says why", || {
        log(&gateway.data).contains("the database is damaged; the gateway ends").then_some(())
    });
    until("the successor says why", || {
        log(&gateway.data).contains("the newest that is known is").then_some(())
    });
    assert!(!Path::new(&format!("/proc/{before}")).exists());
    gateway.terminate();
    gateway.cli(&["restore", gateway.path("backup").to_str().unwrap()]).with(0);
    // Of the damaged store no control group is left, though it cannot say its name any more.
    assert_eq!(traces::groups(&gateway.data), Vec::<PathBuf>::new());
    gateway.up();
    gateway.submit(&["true"]);
}

#[test]
fn what_a_killed_shim_left_running_does_not_outlive_the_store_it_belonged_to() {
    let mut gateway = Gateway::start();
    let file = gateway.path("backup");
    let id = gateway.submit(&["sh", "-c", "echo $$ > began; exec sleep 600"]);
    until("it runs", || gateway.path("began").exists().then_some(()));
    gateway.cli(&["backup", file.to_str().unwrap()]).with(0);
    gateway.down(&[]).with(0);
    let sleeps = || traces::processes(&gateway.data).into_iter().any(|it| it.command.contains("sleep"));
    for shim in traces::processes(&gateway.data).iter().filter(|it| it.command.contains("chitin-shim")) {
        traces::kill(shim);
    }
    let isolated_by_group = !traces::groups(&gateway.data).is_empty();
    assert!(sleeps() || !isolated_by_group, "without a group the command ends with its shim");
    gateway.cli(&["restore", file.to_str().unwrap()]).with(0);
    until("nothing of it is left", || (!sleeps()).then_some(()));
    gateway.up();
    gateway.until_state(&id, "dead");
    assert_eq!(gateway.task(&id)["attempts"][0]["outcome"], "host_lost");
}

#[test]
fn a_database_is_looked_through_at_a_start_but_not_again_after_a_plain_kill() {
    let mut gateway = Gateway::start();
    let task = json!({"command": ["true"], "stdin": "x".repeat(30_000), "delay_s": 86_400});
    let bulk = json!({"tasks": vec![task; 100]});
    let accepted = gateway.post("/v1/tasks/bulk", &bulk).with(202).json();
    let first = accepted["ids"][0].as_str().unwrap().to_owned();
    // The next life works the log off first.
    gateway.down(&[]).with(0);
    gateway.up();
    gateway.cli(&["queues", "resume", "default"]).with(0);
    let database = gateway.data.join("chitin.db");
    let file = fs::OpenOptions::new().write(true).open(&database).unwrap();
    let bytes = file.metadata().unwrap().len();
    assert!((1_000_000..16_000_000).contains(&bytes), "{bytes}");
    // Of some payload, far from what a start reads.
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 4_096], bytes / 2 / 4_096 * 4_096).unwrap();

    let before = gateway.pid();
    gateway.kill_gateway();
    // By the command line, which gives up where nobody ever answers.
    let status = gateway.cli(&["status", "--json"]).with(0).json();
    assert_ne!(status["pid"], before);
    assert_eq!(gateway.task(&first)["state"], "scheduled", "it serves at once");
    gateway.down(&[]).with(0);
    let said = gateway.cli(&["up", "--listen", "none"]).with(1);
    assert!(said.err.contains("chitin.db is damaged: "), "{said:?}");
}
