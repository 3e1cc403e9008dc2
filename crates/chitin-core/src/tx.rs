//! What the core asks of storage, inside one open transaction.
//!
//! A store decides nothing: it reads and writes rows, and its guards are assertions. The transaction itself — begin,
//! commit, roll back, and what a failed commit means — belongs to whoever runs the loop.

use crate::{
    AttemptNo, AttemptRow, BootNo, Epoch, EventRow, NewTask, OpenRow, PrincipalId, PriorSubmission, QueueRow,
    Seq, StoredOutput, StoredResult, SubmissionRow, Suspect, TaskId, TaskRow, TaskState,
};

/// One open transaction. A store belongs to the gateway that began its newest epoch, and to no other: a task is stored and
/// changed in that epoch alone, which its row then names, and never where a later one has written it. A store fails, and
/// changes nothing, if a row claims another epoch.
pub trait Tx {
    /// What can go wrong; after an error nothing of the transaction may be committed.
    type Error;

    /// Begins a gateway's life: numbers the boot and raises the epoch, which makes it the owner of everything. No task is
    /// touched: a row keeps the epoch it was last written in.
    ///
    /// # Errors
    /// The store's.
    fn begin_epoch(&mut self, boot_id: &str) -> Result<(Epoch, BootNo), Self::Error>;

    /// Open tasks in the order of admission, after `after`, at most `limit`.
    ///
    /// # Errors
    /// The store's.
    fn open_tasks(&mut self, after: Seq, limit: usize) -> Result<Vec<OpenRow>, Self::Error>;

    /// The first open task behind `after`, without a look at anything else of it.
    ///
    /// # Errors
    /// The store's.
    fn next_open(&mut self, after: Seq) -> Result<Option<Seq>, Self::Error>;

    /// The task whose recovery an earlier life was trying when it ended.
    ///
    /// # Errors
    /// The store's.
    fn suspect(&mut self) -> Result<Option<Suspect>, Self::Error>;

    /// Writes down whose recovery is tried; `None`: nobody's.
    ///
    /// # Errors
    /// The store's.
    fn set_suspect(&mut self, suspect: Option<Suspect>) -> Result<(), Self::Error>;

    /// Ends an open task in `state` without reading it: whatever in its row cannot be read is replaced. Its running attempt
    /// is lost, for `why`. A task that is not open stays as it is. Returns its id, if it was.
    ///
    /// # Errors
    /// The store's.
    fn set_aside(
        &mut self,
        seq: Seq,
        state: TaskState,
        wall_ms: i64,
        why: &str,
    ) -> Result<Option<TaskId>, Self::Error>;

    /// The highest place of the admission sequence ever used, deleted tasks included.
    ///
    /// # Errors
    /// The store's.
    fn last_seq(&mut self) -> Result<Seq, Self::Error>;

    /// All queues. The default queue is always among them.
    ///
    /// # Errors
    /// The store's.
    fn queues(&mut self) -> Result<Vec<QueueRow>, Self::Error>;

    /// All principals with their names.
    ///
    /// # Errors
    /// The store's.
    fn principals(&mut self) -> Result<Vec<(PrincipalId, String)>, Self::Error>;

    /// The bytes that ended tasks keep (`kept_bytes` and `payload_bytes` of all of them).
    ///
    /// # Errors
    /// The store's.
    fn kept_bytes(&mut self) -> Result<u64, Self::Error>;

    /// Stores a queue.
    ///
    /// # Errors
    /// The store's.
    fn insert_queue(&mut self, queue: &QueueRow) -> Result<(), Self::Error>;

    /// Changes whether a queue is paused.
    ///
    /// # Errors
    /// The store's.
    fn update_queue(&mut self, queue: &QueueRow) -> Result<(), Self::Error>;

    /// Stores a principal.
    ///
    /// # Errors
    /// The store's.
    fn insert_principal(&mut self, id: PrincipalId, name: &str) -> Result<(), Self::Error>;

    /// Stores a new task.
    ///
    /// # Errors
    /// The store's.
    fn insert_task(&mut self, task: NewTask<'_>) -> Result<(), Self::Error>;

    /// A task's row.
    ///
    /// # Errors
    /// The store's.
    fn load_task(&mut self, seq: Seq) -> Result<Option<TaskRow>, Self::Error>;

    /// A task's place by its id.
    ///
    /// # Errors
    /// The store's.
    fn find_task(&mut self, id: TaskId) -> Result<Option<Seq>, Self::Error>;

    /// Changes a task: state and reason, due, expires, started, ended, round, attempt, retries, poison, cancel flag,
    /// kept bytes. What was fixed at submission stays as it is.
    ///
    /// # Errors
    /// The store's; a row that is missing, or that claims another epoch than the newest, is one.
    fn update_task(&mut self, row: &TaskRow) -> Result<(), Self::Error>;

    /// Removes an ended task with its payload, attempts, results and logs.
    ///
    /// # Errors
    /// The store's.
    fn delete_task(&mut self, seq: Seq) -> Result<(), Self::Error>;

    /// Stores an attempt.
    ///
    /// # Errors
    /// The store's.
    fn insert_attempt(&mut self, row: &AttemptRow) -> Result<(), Self::Error>;

    /// An attempt's row.
    ///
    /// # Errors
    /// The store's.
    fn load_attempt(&mut self, seq: Seq, attempt: AttemptNo) -> Result<Option<AttemptRow>, Self::Error>;

    /// Changes an attempt: all but its key.
    ///
    /// # Errors
    /// The store's; a missing row is one.
    fn update_attempt(&mut self, row: &AttemptRow) -> Result<(), Self::Error>;

    /// Stores the result of a round; storing it again replaces it.
    ///
    /// # Errors
    /// The store's.
    fn put_result(
        &mut self,
        seq: Seq,
        round: u32,
        attempt: AttemptNo,
        result: &StoredResult,
    ) -> Result<(), Self::Error>;

    /// Stores an attempt's logs.
    ///
    /// # Errors
    /// The store's.
    fn put_output(&mut self, seq: Seq, attempt: AttemptNo, output: &StoredOutput) -> Result<(), Self::Error>;

    /// The earlier submission with this key, if it is remembered.
    ///
    /// # Errors
    /// The store's.
    fn find_submission(
        &mut self,
        principal: PrincipalId,
        route: &str,
        key: &str,
    ) -> Result<Option<PriorSubmission>, Self::Error>;

    /// Remembers a submission.
    ///
    /// # Errors
    /// The store's.
    fn insert_submission(&mut self, row: &SubmissionRow) -> Result<(), Self::Error>;

    /// The only task of the submission `first_seq` ended (or, with `None`, was opened again): remembers its state and
    /// until when the key is kept. No such submission, or one of several tasks: nothing changes.
    ///
    /// # Errors
    /// The store's.
    fn submission_ended(
        &mut self,
        first_seq: Seq,
        ended: Option<(TaskState, i64)>,
    ) -> Result<(), Self::Error>;

    /// Gives submissions of several tasks, all of which have ended, their time to be forgotten; then forgets those whose
    /// time has come. Each at most `limit` rows. Returns the larger of the two counts: at `limit` there may be more.
    ///
    /// # Errors
    /// The store's.
    fn sweep_submissions(&mut self, now_ms: i64, keep_ms: i64, limit: usize) -> Result<usize, Self::Error>;

    /// Stores an event, behind all there are.
    ///
    /// # Errors
    /// The store's.
    fn insert_event(&mut self, row: &EventRow) -> Result<(), Self::Error>;

    /// Forgets events, the earliest first: those from before `before_ms`, and those beyond the newest `keep`; at most
    /// `limit`, and never the newest one. Returns how many went: at `limit` there may be more.
    ///
    /// # Errors
    /// The store's.
    fn sweep_events(&mut self, before_ms: i64, keep: u64, limit: usize) -> Result<usize, Self::Error>;

    /// Ended tasks, the earliest end first, that ended before `wall_ms`; at most `limit`. With the bytes each keeps
    /// (`kept_bytes` and `payload_bytes`).
    ///
    /// # Errors
    /// The store's.
    fn ended_before(&mut self, wall_ms: i64, limit: usize) -> Result<Vec<(Seq, TaskId, u64)>, Self::Error>;
}
