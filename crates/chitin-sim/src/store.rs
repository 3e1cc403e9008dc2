//! The stores under the run: the core's model, SQLite, or both at once, operation by operation. Whatever one answers
//! and the other does not is a failure at the very operation where they part.
//!
//! The transaction also writes down every row on its way, and is where a store's refusals are put in.

mod tx;

use std::path::Path;

use chitin_core::model::{ModelStore, ModelTx};
use chitin_core::{Limits, Seq, Tx};
use chitin_store::{Commit, Reader, StoreOptions, WriteTx, Writer};
use tempfile::TempDir;

use crate::view::View;

pub(crate) use tx::{SimTx, Trouble};

/// Which store a run stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum StoreKind {
    /// The core's own model: fast.
    #[default]
    Model,
    /// SQLite.
    Sqlite,
    /// Both, compared at every operation.
    Both,
}

#[derive(Debug)]
pub(crate) struct Store {
    model: Option<ModelStore>,
    sqlite: Option<Sqlite>,
}

#[derive(Debug)]
struct Sqlite {
    folder: TempDir,
    options: StoreOptions,
    writer: Option<Writer>,
}

/// In memory where there is such a place: what is simulated is the disk's word, not its speed.
const MEMORY: &str = "/dev/shm";

type Done = Result<(), Trouble>;

impl Store {
    pub(crate) fn new(kind: StoreKind, limits: &Limits) -> Result<Self, Trouble> {
        let model = (kind != StoreKind::Sqlite).then(ModelStore::new);
        let sqlite = if kind == StoreKind::Model { None } else { Some(Sqlite::new(limits)?) };
        Ok(Self { model, sqlite })
    }

    pub(crate) fn begin(&mut self) -> Result<SimTx<'_>, Trouble> {
        let model = self.model.as_mut().map(ModelStore::begin);
        let sqlite = match &mut self.sqlite {
            Some(sqlite) => Some(sqlite.begin()?),
            None => None,
        };
        Ok(SimTx::new(model, sqlite))
    }

    /// A new life: what is not in the file is gone.
    pub(crate) fn reopen(&mut self) -> Done {
        self.sqlite.as_mut().map_or(Ok(()), Sqlite::open)
    }

    /// Whether the stores hold what was committed: every task, every attempt, nothing else.
    pub(crate) fn compare(&mut self, view: &View) -> Done {
        let mut tx = self.begin()?;
        let newest = view.tasks.keys().next_back().copied();
        if newest.is_some_and(|newest| tx.last_seq().is_ok_and(|last| last < newest)) {
            return Err(Trouble::lost("the admission sequence went back"));
        }
        let mut open = Vec::new();
        let mut after = Seq(0);
        loop {
            let page = tx.open_tasks(after, 7)?;
            open.extend(page.iter().map(|row| row.seq));
            let Some(last) = page.last() else { break };
            after = last.seq;
        }
        let expected: Vec<_> = view.open().map(|row| row.seq).collect();
        if open != expected {
            return Err(Trouble::lost(format!("open are {open:?}, committed were {expected:?}")));
        }
        for (seq, row) in &view.tasks {
            let stored = tx.load_task(*seq)?;
            if stored.as_ref() != Some(row) {
                return Err(Trouble::lost(format!("committed was {row:?}, stored is {stored:?}")));
            }
        }
        for ((seq, attempt), row) in &view.attempts {
            let stored = tx.load_attempt(*seq, *attempt)?;
            if stored.as_ref() != Some(row) {
                return Err(Trouble::lost(format!("committed was {row:?}, stored is {stored:?}")));
            }
        }
        for id in &view.deleted {
            if tx.find_task(*id)?.is_some() {
                return Err(Trouble::lost(format!("{id} was deleted and is there")));
            }
        }
        tx.roll_back()
    }

    /// Results and logs, too. Opens readers, so only at the end.
    pub(crate) fn compare_contents(&mut self, view: &View) -> Done {
        self.compare(view)?;
        if let Some(model) = &self.model {
            let stored = model.results().map(|(seq, round, attempt, result)| ((seq, round), attempt, result));
            let expected = view.results.iter().map(|(key, (attempt, result))| (*key, *attempt, result));
            if !stored.eq(expected) {
                return Err(Trouble::lost("the model's results are not what was committed"));
            }
            if view.outputs.iter().any(|((seq, no), output)| model.output(*seq, *no) != Some(output)) {
                return Err(Trouble::lost("the model's logs are not what was committed"));
            }
        }
        self.sqlite.as_ref().map_or(Ok(()), |sqlite| sqlite.compare_contents(view))
    }
}

impl Sqlite {
    fn new(limits: &Limits) -> Result<Self, Trouble> {
        let memory = Path::new(MEMORY);
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.map_err(|error| Trouble::Harness(format!("no temporary folder: {error}")))?;
        // Checking the file at each of thousands of starts is not what is tried here.
        let options = StoreOptions { check_up_to_bytes: 0, ..StoreOptions::new([1; 16], limits) };
        let mut sqlite = Self { folder, options, writer: None };
        sqlite.open()?;
        Ok(sqlite)
    }

    fn open(&mut self) -> Done {
        self.writer = None;
        self.writer = Some(Writer::open(&self.folder.path().join("chitin.db"), &self.options)?);
        Ok(())
    }

    fn begin(&mut self) -> Result<WriteTx<'_>, Trouble> {
        let writer =
            self.writer.as_mut().ok_or_else(|| Trouble::Harness("the store is closed".to_owned()))?;
        Ok(writer.begin()?)
    }

    fn compare_contents(&self, view: &View) -> Done {
        let reader = Reader::open(&self.folder.path().join("chitin.db"), &self.options)?;
        for row in view.tasks.values() {
            let stored = reader.result(row.id)?.and_then(|end| end.result);
            let expected = view.results.get(&(row.seq, row.round)).map(|(_, result)| result);
            if stored.as_ref() != expected {
                return Err(Trouble::lost(format!("the result of {} is not what was committed", row.id)));
            }
        }
        for ((seq, attempt), output) in &view.outputs {
            if reader.output(*seq, *attempt)?.as_ref() != Some(output) {
                return Err(Trouble::lost(format!("logs of {seq:?} {attempt:?} are not what was committed")));
            }
        }
        Ok(())
    }
}

fn commit_both(model: Option<ModelTx<'_>>, sqlite: Option<WriteTx<'_>>) -> Done {
    if let Some(tx) = sqlite {
        match tx.commit() {
            Commit::Ok => {}
            Commit::No(error) | Commit::Unknown(error) => return Err(error.into()),
        }
    }
    if let Some(tx) = model {
        tx.commit();
    }
    Ok(())
}
