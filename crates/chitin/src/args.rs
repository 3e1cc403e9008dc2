//! What `run` and `submit` share: the options that describe a task, and the request they make of them. Pure: the
//! caller's directory and environment come in as [`Caller`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use chitin_proto::http::{EnvVars, MAX_TASK_BODY_BYTES, RetryRequest, Stdin, TaskRequest};

use crate::failure::Failure;
use crate::units;

/// Options of a task.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TaskOptions {
    /// End an attempt that has run for so long: 500ms, 1s, 5m, 2h, 1d [default: never]
    #[arg(long, value_name = "DURATION", value_parser = units::positive_duration)]
    pub(crate) timeout: Option<f64>,
    /// Memory that the command and everything it starts may take together: 64MB, 1GB
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub(crate) memory: Option<u64>,
    /// Processor cores it may use: 0.5, 2
    #[arg(long, value_name = "CORES", value_parser = units::cpus)]
    pub(crate) cpus: Option<f64>,
    /// Processes and threads it may have at once
    #[arg(long, value_name = "N")]
    pub(crate) pids: Option<u64>,
    /// How often a failed attempt is followed by another
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<u32>,
    /// The queue it waits in [default: default]
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: Option<String>,
    /// 0 to 9, 9 goes first [default: 5]
    #[arg(long, value_name = "0-9", value_parser = clap::value_parser!(i64).range(0..=9))]
    pub(crate) priority: Option<i64>,
    /// Start it after so long at the earliest
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    pub(crate) delay: Option<f64>,
    /// The directory it runs in [default: this one]
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// A label to find it by; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Set an environment variable, or pass on this one of yours; may be repeated
    #[arg(short = 'e', long = "env", value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Pass on the whole environment
    #[arg(long)]
    pub(crate) env_all: bool,
    /// One pipe for both outputs: their order is exact, and all of it is standard output
    #[arg(long)]
    pub(crate) merge: bool,
    /// Send no standard input, even if it is a pipe or a file
    #[arg(short = 'n', long)]
    pub(crate) no_stdin: bool,
}

/// Who asks: what a command inherits from the shell it was typed in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    /// The working directory; none: it is gone.
    pub(crate) cwd: Option<PathBuf>,
    /// The environment.
    pub(crate) env: Vec<(OsString, OsString)>,
}

impl Caller {
    /// This process.
    pub(crate) fn this() -> Self {
        Self { cwd: std::env::current_dir().ok(), env: std::env::vars_os().collect() }
    }
}

/// Passed on without being asked, beside `LC_*`.
const INHERITED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR"];
/// Set by the gateway for each attempt; those of a task we run in are not the new task's.
const OWN: [&str; 4] = ["CHITIN_TASK_ID", "CHITIN_ATTEMPT", "CHITIN_SOCKET", "CHITIN_RESULT_FILE"];

impl TaskOptions {
    /// The task as it is sent. `retries` holds unless the options say otherwise; none: the gateway's policy.
    pub(crate) fn request(
        &self,
        command: &[OsString],
        stdin: Option<Vec<u8>>,
        retries: Option<u32>,
        caller: &Caller,
    ) -> Result<TaskRequest, Failure> {
        Ok(TaskRequest {
            command: Some(words(command)?),
            stdin: stdin.map(Stdin),
            env: self.env(caller)?,
            cwd: Some(self.cwd(caller)?),
            merge: self.merge,
            queue: self.queue.clone(),
            priority: self.priority,
            delay_s: self.delay,
            timeout_s: self.timeout,
            retry: self
                .retries
                .or(retries)
                .map(|max| RetryRequest { max: Some(max), ..RetryRequest::default() }),
            memory_bytes: self.memory,
            cpus: self.cpus,
            pids: self.pids,
            tags: self.tags.clone(),
            ..TaskRequest::default()
        })
    }

    fn cwd(&self, caller: &Caller) -> Result<String, Failure> {
        let gone = || Failure::usage("the current directory is gone").hint("give another one with --cwd DIR");
        let path = match (&self.cwd, &caller.cwd) {
            (Some(path), _) if path.is_absolute() => path.clone(),
            (Some(path), Some(cwd)) => cwd.join(path),
            (None, Some(cwd)) => cwd.clone(),
            (_, None) => return Err(gone()),
        };
        utf8_path(&path)
    }

    fn env(&self, caller: &Caller) -> Result<EnvVars, Failure> {
        let mut vars = BTreeMap::new();
        for (name, value) in &caller.env {
            // Names and values that are not UTF-8 cannot be sent; what was not asked for by name is left out.
            let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
            let inherited = INHERITED.contains(&name) || name.starts_with("LC_");
            if !OWN.contains(&name) && !name.is_empty() && (inherited || self.env_all) {
                vars.insert(name.to_owned(), value.to_owned());
            }
        }
        let mut given = std::collections::BTreeSet::new();
        for setting in &self.env {
            let (name, value) = match setting.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (setting.as_str(), callers_value(setting, caller)?),
            };
            if name.is_empty() {
                return Err(Failure::usage(format!(
                    "-e `{setting}` has no name; allowed: -e NAME or -e NAME=VALUE"
                )));
            }
            if !given.insert(name) {
                return Err(Failure::usage(format!("-e {name} is given twice; allowed: each name once")));
            }
            vars.insert(name.to_owned(), value);
        }
        Ok(EnvVars(vars.into_iter().collect()))
    }
}

/// The request as bytes, if they are not too many.
pub(crate) fn body(request: &TaskRequest) -> Result<Vec<u8>, Failure> {
    let body =
        serde_json::to_vec(request).map_err(|error| Failure::other(format!("cannot write JSON: {error}")))?;
    if u64::try_from(body.len()).is_ok_and(|length| length <= MAX_TASK_BODY_BYTES) {
        return Ok(body);
    }
    Err(too_large())
}

/// The refusal of what the gateway would refuse.
pub(crate) fn too_large() -> Failure {
    Failure::usage(
        "the task is over 10,000,000 bytes as sent, with its standard input; that is the most allowed",
    )
    .hint("put the input into a file and let the command read it")
}

fn words(command: &[OsString]) -> Result<Vec<String>, Failure> {
    let mut words = Vec::with_capacity(command.len());
    for word in command {
        let text = word.to_str().ok_or_else(|| {
            Failure::usage(format!("the argument `{}` is not UTF-8; allowed: UTF-8", word.display()))
        })?;
        words.push(text.to_owned());
    }
    Ok(words)
}

fn callers_value(name: &str, caller: &Caller) -> Result<String, Failure> {
    let Some((_, value)) = caller.env.iter().find(|(key, _)| key == name) else {
        return Err(Failure::usage(format!("-e {name}: no such variable is set here"))
            .hint(format!("set it with -e {name}=VALUE")));
    };
    let value = value.to_str();
    value.map(str::to_owned).ok_or_else(|| Failure::usage(format!("-e {name}: its value is not UTF-8")))
}

fn utf8_path(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        Failure::usage(format!("the directory `{}` is not UTF-8", path.display()))
            .hint("give another one with --cwd DIR")
    })
}

#[cfg(test)]
mod tests;
