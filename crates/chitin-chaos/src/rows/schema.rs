//! Row 15: the gateway dies while it brings an older program's database to its own schema.
//!
//! What an older program left is made from its schema and some rows of its tasks, and what shape a database has is looked at,
//! by a small Python program (`schema.py`): only the store knows SQL, and the one under test is not asked about itself.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Need, Row};
use crate::broken::{During, holds};
use crate::check::{self, Ledger};
use crate::clock::now;
use crate::gateway::Gateway;
use crate::run::Session;
use crate::view::Task;
use crate::{Broken, Held, program, system};

pub(super) const MIGRATION: Row = Row {
    name: "15",
    fault: "kill -9 at each statement and commit of a migration",
    needs: &[Need::Python],
    few: 6,
    session: migrations,
};

const TOOL: &str = include_str!("schema.py");
/// Met after each statement of each migration, in the migration's transaction.
const STATEMENT: &str = "migrate.statement";
/// Met once in each migration; whether its end is on disk then.
const AROUND: &[(&str, bool)] =
    &[("migrate.before", false), ("migrate.commit.before", false), ("migrate.commit.after", true)];

/// The migrations there are, and what shape each leads to; the first shape is that of a new file.
struct Schemas {
    scripts: Vec<PathBuf>,
    shapes: Vec<Value>,
}

fn tool(args: &[&Path]) -> Held<Value> {
    let script: [&Path; 2] = ["-c".as_ref(), TOOL.as_ref()];
    let said = system::run("python3", &[script.as_slice(), args].concat())?;
    if said.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&said).during("what schema.py says") }
}

impl Schemas {
    fn all() -> Held<Self> {
        let folder = program::root().join("crates/chitin-store/migrations");
        let entries = fs::read_dir(folder).during("the migrations")?.filter_map(Result::ok);
        let mut scripts: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        scripts.sort();
        let mut args: Vec<&Path> = vec!["shapes".as_ref()];
        args.extend(scripts.iter().map(PathBuf::as_path));
        let shapes = tool(&args)?.as_array().during("shapes")?.clone();
        Ok(Self { scripts, shapes })
    }

    fn newest(&self) -> u64 {
        u64::try_from(self.scripts.len()).unwrap_or(0)
    }

    /// What a program of schema `from` left, in place of all that is there; 0: nothing at all.
    fn leave(&self, gateway: &Gateway, from: u64) -> Held {
        if gateway.data.exists() {
            fs::remove_dir_all(&gateway.data).during("remove the data directory")?;
        }
        let scripts = self.scripts.get(..usize::try_from(from).unwrap_or(0)).unwrap_or_default();
        if scripts.is_empty() {
            return Ok(());
        }
        let rows = program::root().join("crates/chitin-store/tests/schemas/0001.sql");
        let database = gateway.data.join("chitin.db");
        let mut args: Vec<&Path> = vec!["make".as_ref(), &database, &rows];
        args.extend(scripts.iter().map(PathBuf::as_path));
        tool(&args).map(|_| ())
    }

    /// The schema a database has, which it must have wholly.
    fn of(&self, gateway: &Gateway) -> Held<u64> {
        let seen = tool(&["look".as_ref(), &gateway.data.join("chitin.db")])?;
        let schema = seen.get("schema").and_then(Value::as_u64).during("a schema")?;
        let (whole, shape) = (seen.get("whole"), seen.get("shape"));
        holds!(whole.and_then(Value::as_str) == Some("ok"), "I3: {seen}");
        let meant = usize::try_from(schema).ok().and_then(|schema| self.shapes.get(schema));
        holds!(shape == meant, "half a migration: schema {schema} with {shape:?}");
        Ok(schema)
    }
}

fn migrations(session: &mut Session<'_>) -> Held<u32> {
    let schemas = Schemas::all()?;
    let mut gateway = session.prepare("")?;
    let from = session.seed % schemas.newest();
    // Once undisturbed, to count.
    schemas.leave(&gateway, from)?;
    gateway.points.arm(STATEMENT, "sleep:0@*")?;
    gateway.up()?;
    let statements = gateway.points.hits(STATEMENT);
    gateway.points.disarm(STATEMENT);
    gateway.down()?;
    holds!(statements >= schemas.newest() - from, "{statements} statements from schema {from} on");
    let trials = session.at_most.min(6);
    for _ in 0..trials {
        schemas.leave(&gateway, from)?;
        let around = session.chance.pick(AROUND).copied().filter(|_| session.chance.one_in(3));
        let (point, nth, wanted) = match around {
            Some((point, is_after)) => {
                let nth = session.chance.between(1, schemas.newest() - from);
                (point, nth, Some(from + nth - u64::from(!is_after)))
            }
            None => (STATEMENT, session.chance.between(1, statements), None),
        };
        let again = session.chance.one_in(2);
        one(session, &mut gateway, &schemas, &Death { from, point, nth, wanted, again })
            .map_err(|error| Broken::new(format!("from schema {from}, at {point}, hit {nth}: {error}")))?;
    }
    Ok(trials)
}

/// Where a gateway dies.
struct Death {
    from: u64,
    point: &'static str,
    nth: u64,
    /// The schema that it leaves, where there is no doubt.
    wanted: Option<u64>,
    /// And the one after it, at the first statement.
    again: bool,
}

fn one(session: &Session<'_>, gateway: &mut Gateway, schemas: &Schemas, death: &Death) -> Held {
    let found = die(gateway, schemas, death.point, death.nth)?;
    let is_between = (death.from..=schemas.newest()).contains(&found);
    holds!(is_between && death.wanted.is_none_or(|wanted| wanted == found), "it left schema {found}");
    if death.again && found < schemas.newest() {
        let again = die(gateway, schemas, STATEMENT, 1)?;
        holds!(again == found, "schema {again} after {found}");
    }
    let fault = now();
    gateway.up()?;
    let mut ledger = Ledger::default();
    check::accepts_again(gateway, &mut ledger, "after", fault, session.outage_bound)?;
    if death.from > 0 {
        old_tasks(gateway)?;
    }
    gateway.down()?;
    check::nothing_left(gateway)?;
    check::whole_database(gateway)?;
    let found = schemas.of(gateway)?;
    holds!(found == schemas.newest(), "it serves with schema {found}");
    Ok(())
}

/// A gateway, without a supervisor that would start another one, dies at the n-th hit of a point; the schema it leaves.
fn die(gateway: &Gateway, schemas: &Schemas, point: &str, nth: u64) -> Held<u64> {
    gateway.points.arm(point, &format!("kill@{nth}"))?;
    let (code, _, err) = gateway.cli(&["gateway"])?;
    gateway.points.disarm(point);
    holds!(code == -1, "it was to be killed, and ended with {code}: {err}");
    schemas.of(gateway)
}

/// I1 and I2 of the tasks in `chitin-store/tests/schemas/0001.sql`.
fn old_tasks(gateway: &Gateway) -> Held {
    let tasks = gateway.list("")?;
    let find = |key: &str| -> Held<Task> {
        let mut named = tasks.iter().filter(|task| task.key == key);
        let task = named.next().during(format!("I1: {key}"))?;
        holds!(named.next().is_none(), "I1: {key} is there twice");
        gateway.task(&task.id)
    };
    for key in ["done-1", "done-2", "done-3"] {
        let task = find(key)?;
        holds!(task.state == "succeeded" && task.outcomes() == ["succeeded"], "I2: {task:?}");
        check::one_end(gateway, &task)?;
    }
    let failed = find("failed-1")?;
    holds!(failed.state == "dead" && failed.outcomes() == ["failed", "failed"], "I2: {failed:?}");
    for (key, state) in
        [("gone-1", "cancelled"), ("later-1", "scheduled"), ("waits-1", "queued"), ("waits-2", "queued")]
    {
        let task = find(key)?;
        holds!(task.state == state && task.attempt == 0, "{task:?}");
    }
    let ran = gateway.ended(&find("ran-1")?.id)?;
    holds!(ran.outcomes() == ["host_lost", "succeeded"], "what ran when its machine went: {ran:?}");
    check::one_end(gateway, &ran)
}
