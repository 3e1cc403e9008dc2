//! Reads for routes: from an id or a unique prefix of one to what is asked of it, off the async threads.

use chitin_core::TaskId;
use chitin_proto::http::Code;
use chitin_store::{Reader, Resolved, StoreError};

use super::Shared;
use super::problem::Oops;

/// Reads through a pooled connection.
pub(crate) async fn read<T: Send + 'static>(
    face: &Shared,
    work: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Oops> {
    match face.readers.read(&face.tasks, work).await {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(Oops::store(&error)),
        None => Err(Oops::internal("a read panicked")),
    }
}

/// The task that `text` names: a whole id, or a prefix that no other task has.
pub(crate) async fn resolve(face: &Shared, text: &str) -> Result<TaskId, Oops> {
    if let Ok(id) = TaskId::parse(text) {
        return Ok(id);
    }
    let digits: String = text.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
    let fits = (1..=32).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if !fits {
        return Err(Oops::no_such_task(text));
    }
    match read(face, move |reader| reader.resolve_prefix(&digits)).await? {
        Resolved::One(id) => Ok(id),
        Resolved::None => Err(Oops::no_such_task(text)),
        Resolved::Many(ids) => {
            let some: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let detail =
                format!("`{text}` begins the ids of several tasks: {}; give more of it", some.join(", "));
            Err(Oops::new(Code::InvalidRequest, detail).field("id"))
        }
    }
}
