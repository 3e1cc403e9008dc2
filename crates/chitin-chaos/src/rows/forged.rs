//! Row 23: what a dead shim left speaks of a process number that somebody else has by now, or of another boot.

use std::fs;
use std::process::Child;

use serde_json::{Value, json};

use super::Row;
use crate::broken::{During, holds};
use crate::check::{self, Ledger};
use crate::gateway::Gateway;
use crate::run::Session;
use crate::{Broken, Held, system};

pub(super) const FORGED: Row = Row {
    name: "23",
    fault: "forged claim: process number reused, boot id changed",
    needs: &[],
    few: 3,
    session: forged,
};

/// Its first attempt waits for ever, the second does what is to be done.
const FIRST_HANGS: &str = "if [ $CHITIN_ATTEMPT = 1 ]; then sleep 1000; fi; echo \"result of $0\"";

fn forged(session: &mut Session<'_>) -> Held<u32> {
    let mut gateway = session.gateway("")?;
    let mut ledger = Ledger::default();
    let trials = session.at_most.min(20);
    for trial in 1..=trials {
        let key = format!("task-{trial}");
        let id = gateway.submit(&key, &gateway.work(&key, FIRST_HANGS))?;
        ledger.accepted(key.clone(), id.clone())?;
        gateway.until_begun(&key, 1)?;
        gateway.kill_all_but(|_| false)?;
        let mut bystander = Bystander::start()?;
        let other_boot = session.chance.one_in(2);
        forge(&gateway, &id, &bystander)?;
        if other_boot {
            let boot = format!("{:032x}", session.chance.next());
            gateway.points.say("boot_id", &boot)?;
        }
        gateway.up()?;
        let task = gateway.ended(&id)?;
        let first = if other_boot { "host_lost" } else { "worker_lost" };
        holds!(task.outcomes() == [first, "succeeded"], "another boot: {other_boot}: {task:?}");
        holds!(bystander.lives()?, "a process was signalled because of its number");
    }
    check::everything(&mut gateway, &ledger)?;
    Ok(trials)
}

/// The claim of the task's first attempt names the bystander as its shim.
fn forge(gateway: &Gateway, id: &str, bystander: &Bystander) -> Held {
    let folder = gateway.data.join("spool").join(id).join("1");
    let entries = fs::read_dir(&folder).during("read a spool folder")?.filter_map(Result::ok);
    let mut claims = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("claim-"));
    let claim = claims.next().during("a claim")?.path();
    let mut text: Value =
        serde_json::from_slice(&fs::read(&claim).during("read a claim")?).during("a claim")?;
    let shim = text.get_mut("shim").and_then(Value::as_object_mut).during("a claim by a shim")?;
    shim.insert("pid".to_owned(), json!(bystander.0.id()));
    shim.insert("start_ticks".to_owned(), json!(bystander.start_ticks()?));
    fs::write(&claim, text.to_string()).during("write a claim")
}

/// A process that has nothing to do with any of this.
struct Bystander(Child);

impl Bystander {
    fn start() -> Held<Self> {
        system::command("sleep").arg("1000").spawn().during("start a bystander").map(Self)
    }

    fn lives(&mut self) -> Held<bool> {
        Ok(self.0.try_wait().during("look at a bystander")?.is_none())
    }

    /// When it started, as the kernel tells it.
    fn start_ticks(&self) -> Held<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).during("look at a bystander")?;
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        let ticks = after_name.split(' ').nth(19).and_then(|ticks| ticks.parse().ok());
        ticks.ok_or_else(|| Broken::new(format!("no start time in {stat}")))
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
