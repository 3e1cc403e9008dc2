//! The spool as a disk keeps it: folders, claims, exit records. What is there outlives every process; what was not made
//! durable may not outlive the machine. As in the product, a claim is never synced by itself; a record is, with its
//! folder, and so with every name in it.

use std::collections::BTreeMap;

use chitin_core::{AttemptNo, KeptLogs, TaskId, Token};

use super::report::Report;
use super::rest::FIRST;
use super::shims::ShimNo;
use crate::rng::Rng;
use crate::view::View;

pub(super) type FolderName = (TaskId, AttemptNo);

/// What `claim-<token>` links to, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// A shim's, linked in this boot.
    Shim {
        shim: ShimNo,
        boot: u32,
    },
    Void,
    /// The name came through a power cut, the content did not.
    Torn,
}

#[derive(Debug, Default)]
pub(super) struct Folder {
    claims: BTreeMap<Token, (Claim, Durable)>,
    record: Option<(Report, Durable)>,
    /// Log files, if the report said that they stay files.
    pub(super) has_logs: bool,
    /// The task whose folder it was, while nothing made its new name durable.
    was: Option<TaskId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durable {
    No,
    Yes,
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    folders: BTreeMap<FolderName, Folder>,
}

impl Disk {
    pub(super) fn make(&mut self, name: FolderName) -> &mut Folder {
        self.folders.entry(name).or_default()
    }

    pub(super) fn get(&mut self, name: FolderName) -> Option<&mut Folder> {
        self.folders.get_mut(&name)
    }

    /// A task's folder gets another task's name, if the first attempt's is all there is in it and nobody has that name. True:
    /// it has. `beside_others`: planted.
    pub(super) fn give(&mut self, from: TaskId, to: TaskId, beside_others: bool) -> bool {
        let of = |id: TaskId| self.folders.keys().filter(move |(task, _)| *task == id);
        let is_alone = of(from).eq([&(from, FIRST)]) || beside_others;
        if !is_alone || of(to).next().is_some() {
            return false;
        }
        let going: Vec<_> = of(from).map(|(_, attempt)| *attempt).collect();
        for attempt in going {
            if let Some(mut folder) = self.folders.remove(&(from, attempt)) {
                folder.was = Some(folder.was.unwrap_or(from));
                self.folders.insert((to, attempt), folder);
            }
        }
        true
    }

    pub(super) fn names(&self) -> Vec<FolderName> {
        self.folders.keys().copied().collect()
    }

    pub(super) fn remove_task(&mut self, id: TaskId) {
        self.folders.retain(|(of, _), _| *of != id);
    }

    pub(super) fn remove(&mut self, name: FolderName, keep_logs: bool) {
        if keep_logs {
            // A straggling shim may still look for the claim of its token.
            if let Some(folder) = self.folders.get_mut(&name) {
                folder.record = None;
            }
        } else {
            self.folders.remove(&name);
        }
    }

    /// The machine goes down.
    pub(super) fn power_cut(&mut self, rng: &mut Rng) {
        for folder in self.folders.values_mut() {
            if folder.record.as_ref().is_some_and(|(_, durable)| *durable == Durable::No) && rng.coin() {
                folder.record = None;
            }
            let claims = std::mem::take(&mut folder.claims);
            for (token, (claim, durable)) in claims {
                // The name of a claim is durable with its folder; what the file holds never is.
                let fate = rng.below(3);
                if fate == 0 && durable == Durable::No {
                    continue;
                }
                let claim = if fate == 1 { Claim::Torn } else { claim };
                folder.claims.insert(token, (claim, Durable::Yes));
            }
        }
        let old_names: Vec<_> = self.folders.iter().filter_map(|(name, it)| Some((*name, it.was?))).collect();
        for ((id, attempt), was) in old_names {
            if rng.coin()
                && !self.folders.contains_key(&(was, attempt))
                && let Some(folder) = self.folders.remove(&(id, attempt))
            {
                self.folders.insert((was, attempt), folder);
            }
        }
        self.folders.values_mut().for_each(|folder| folder.was = None);
        self.folders.retain(|_, folder| {
            !folder.claims.is_empty() || folder.record.is_some() || folder.has_logs || rng.coin()
        });
    }

    /// Folders with more than kept logs in them.
    pub(super) fn leftovers(&self) -> Vec<FolderName> {
        let left = |folder: &Folder| !folder.has_logs || folder.record.is_some();
        self.folders.iter().filter(|(_, folder)| left(folder)).map(|(name, _)| *name).collect()
    }

    /// Only logs are left, and those of attempts that are still known.
    pub(super) fn is_swept(&self, view: &View) -> bool {
        let known = |(id, attempt): &FolderName| {
            let seq = view.ids.get(id);
            let row = seq.and_then(|seq| view.attempts.get(&(*seq, *attempt)));
            row.is_some_and(|row| row.logs == KeptLogs::Files)
        };
        self.leftovers().is_empty() && self.folders.keys().all(known)
    }
}

impl Folder {
    pub(super) fn claim(&self, token: Token) -> Option<Claim> {
        self.claims.get(&token).map(|(claim, _)| *claim)
    }

    /// Links a claim; who came first stays.
    pub(super) fn link(&mut self, token: Token, claim: Claim) -> Claim {
        self.claims.entry(token).or_insert((claim, Durable::No)).0
    }

    /// As [`Folder::link`], with the claim that was of another token.
    pub(super) fn claims(&mut self, old: Option<Token>, token: Token, claim: Claim) -> Claim {
        if let Some(old) = old {
            self.claims.remove(&old);
        }
        self.link(token, claim)
    }

    /// Takes away what another attempt must not find. False: there is more than that. `beside_others`: planted.
    pub(super) fn empty(&mut self, claim: Token, beside_others: bool) -> bool {
        let is_alone = self.claims.keys().eq([&claim]) || beside_others;
        if is_alone && self.record.is_none() && !self.has_logs {
            self.claims.retain(|of, _| *of == claim);
            return true;
        }
        false
    }

    /// Planted.
    pub(super) fn forget_claims(&mut self) {
        self.claims.clear();
    }

    /// Any name in the folder may be lost with the power until [`Folder::sync`].
    pub(super) fn put_record(&mut self, report: Report) {
        self.record = Some((report, Durable::No));
    }

    pub(super) fn sync(&mut self) {
        self.claims.values_mut().for_each(|(_, durable)| *durable = Durable::Yes);
        self.was = None;
        if let Some((_, durable)) = &mut self.record {
            *durable = Durable::Yes;
        }
    }

    pub(super) fn record(&self, token: Token) -> Option<&Report> {
        self.record.as_ref().map(|(report, _)| report).filter(|report| report.key.token == token)
    }
}
