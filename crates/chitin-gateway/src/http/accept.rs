//! From what a client sent to what the core accepts (R2.3): every field checked, and a refusal that names the field,
//! what was wrong and what is allowed.

use axum::http::HeaderMap;
use chitin_core::{
    Invalid, Jitter, Limits, Payload, Policy, Priority, QueueName, RetryPolicy, Start, SubmissionKey,
    TaskSpec, check_command, check_cwd, check_env, check_tags,
};
use chitin_proto::http::{Code, Object, RetryRequest, TaskRequest};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::problem::Oops;
use super::time;

/// Ten years: beyond that, a number is a mistake.
const LONGEST_MS: i64 = 315_360_000_000;
/// Waits before the first retry, the second, and each further one (R6.2).
const BACKOFF_MS: [u32; 3] = [60_000, 300_000, 900_000];
/// A tenth of each wait is random, unless the task says otherwise.
const JITTER_PERMILLE: u16 = 100;
const MAX_BACKOFFS: usize = 32;

impl From<Invalid> for Oops {
    fn from(invalid: Invalid) -> Self {
        Self::invalid(invalid.field.clone(), invalid.to_string())
    }
}

/// Reads a JSON object; a refusal says where, and what was expected.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Oops> {
    let error = match serde_json::from_slice(bytes) {
        Ok(Object(value)) => return Ok(value),
        Err(error) => error,
    };
    if error.classify() != serde_json::error::Category::Data {
        return Err(Oops::new(Code::InvalidRequest, format!("the body is not valid JSON: {error}")));
    }
    // Once more, and slower, for the path to what is wrong.
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let located: Result<Object<T>, _> = serde_path_to_error::deserialize(&mut reader);
    let path = located.err().map(|error| error.path().to_string()).filter(|path| path != ".");
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    Err(match path {
        Some(path) => Oops::invalid(path.clone(), format!("`{path}`: {text}")),
        None => Oops::new(Code::InvalidRequest, text),
    })
}

/// Checks one task.
pub(crate) fn task(request: TaskRequest, limits: &Limits) -> Result<TaskSpec, Oops> {
    not_yet("handler", request.handler.is_some())?;
    not_yet("input", request.input.is_some())?;
    not_yet("stall_timeout_s", request.stall_timeout_s.is_some())?;
    not_yet("webhook", request.webhook.is_some())?;
    let Some(command) = request.command else {
        return Err(Oops::invalid(
            "command",
            "`command` is missing: give a program and its arguments, [\"program\", …]",
        ));
    };
    check_command(&command)?;
    check_env(request.env.0.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
    if let Some(cwd) = &request.cwd {
        check_cwd(cwd)?;
    }
    check_tags(&request.tags)?;
    let start = match (request.delay_s, &request.run_at) {
        (None, None) => Start::Now,
        (Some(delay_s), None) => Start::After(ms("delay_s", delay_s, 0)?),
        (None, Some(text)) => Start::At(time::parse(text).ok_or_else(|| {
            Oops::invalid("run_at", "`run_at`: a time in RFC 3339 is needed, like 2030-01-31T12:00:00Z")
        })?),
        (Some(_), Some(_)) => {
            return Err(Oops::invalid("run_at", "`run_at` and `delay_s` exclude each other"));
        }
    };
    let policy = Policy {
        timeout_ms: request.timeout_s.map(|value| ms("timeout_s", value, 1)).transpose()?,
        ttl_ms: match request.ttl_s {
            Some(value) => ms("ttl_s", value, 1)?,
            None => i64::try_from(limits.ttl_s).unwrap_or(i64::MAX).saturating_mul(1_000),
        },
        retry: retry(request.retry.unwrap_or_default(), limits)?,
        memory_bytes: request
            .memory_bytes
            .map(|bytes| whole("memory_bytes", bytes, 1_000_000))
            .transpose()?,
        cpu_millis: request.cpus.map(cpus).transpose()?,
        pids: request.pids.map(|pids| whole("pids", pids, 1)).transpose()?,
        merge: request.merge,
    };
    Ok(TaskSpec {
        queue: QueueName::new(request.queue.as_deref().unwrap_or(QueueName::DEFAULT))?,
        priority: request.priority.map_or(Ok(Priority::DEFAULT), Priority::new)?,
        start,
        policy,
        tags: request.tags,
        payload: Payload {
            command: json("command", &command)?,
            env: if request.env.is_empty() { String::new() } else { json("env", &request.env)? },
            cwd: request.cwd,
            stdin: request.stdin.map(|stdin| stdin.0).unwrap_or_default(),
        },
    })
}

fn not_yet(field: &'static str, is_there: bool) -> Result<(), Oops> {
    if is_there { Err(Oops::invalid(field, format!("`{field}` is not supported yet"))) } else { Ok(()) }
}

fn retry(request: RetryRequest, limits: &Limits) -> Result<RetryPolicy, Oops> {
    let max = request.max.unwrap_or_else(|| u32::try_from(limits.retry_max).unwrap_or(u32::MAX));
    if max > 1_000 {
        return Err(Oops::invalid("retry.max", format!("`retry.max` is {max}; 0 to 1000 are allowed")));
    }
    let backoff_ms = match request.backoff_s {
        None => BACKOFF_MS.to_vec(),
        Some(waits) if waits.len() > MAX_BACKOFFS => {
            let detail = format!(
                "`retry.backoff_s` has {} waits; {MAX_BACKOFFS} are allowed, the last one repeats",
                waits.len()
            );
            return Err(Oops::invalid("retry.backoff_s", detail));
        }
        Some(waits) => {
            let wait = |(at, seconds): (usize, f64)| {
                let field = format!("retry.backoff_s[{at}]");
                u32::try_from(ms(&field, seconds, 0)?).map_err(|_| {
                    Oops::invalid(field.clone(), format!("`{field}` is over 49 days; less is allowed"))
                })
            };
            waits.into_iter().enumerate().map(wait).collect::<Result<_, _>>()?
        }
    };
    let jitter = match request.jitter {
        None => Jitter::from_permille(JITTER_PERMILLE),
        Some(share) => permille(share).and_then(Jitter::from_permille),
    };
    let jitter = jitter
        .ok_or_else(|| Oops::invalid("retry.jitter", "`retry.jitter`: a number from 0 to 1 is allowed"))?;
    Ok(RetryPolicy { max, backoff_ms, jitter })
}

/// Seconds, with fractions, as whole milliseconds of at least `least`.
fn ms(field: &str, seconds: f64, least: i64) -> Result<i64, Oops> {
    let ms = round(seconds * 1_000.0).filter(|ms| (least..=LONGEST_MS).contains(ms));
    ms.ok_or_else(|| {
        let above = if least > 0 { "above 0" } else { "from 0" };
        Oops::invalid(
            field,
            format!("`{field}` is {seconds}; {above} to {} seconds are allowed", LONGEST_MS / 1_000),
        )
    })
}

fn cpus(cores: f64) -> Result<i64, Oops> {
    round(cores * 1_000.0)
        .filter(|millis| (10..=1_024_000).contains(millis))
        .ok_or_else(|| Oops::invalid("cpus", format!("`cpus` is {cores}; 0.01 to 1024 cores are allowed")))
}

fn permille(share: f64) -> Option<u16> {
    round(share * 1_000.0).and_then(|permille| u16::try_from(permille).ok())
}

/// The nearest whole number, if it is one that fits by far.
fn round(value: f64) -> Option<i64> {
    if !value.is_finite() || value.abs() > 1e15 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "within 1e15, which both types hold exactly")]
    let whole = value.round() as i64;
    Some(whole)
}

fn whole(field: &'static str, value: u64, least: u64) -> Result<i64, Oops> {
    const MOST: u64 = 1_000_000_000_000_000;
    if !(least..=MOST).contains(&value) {
        return Err(Oops::invalid(field, format!("`{field}` is {value}; {least} to {MOST} are allowed")));
    }
    Ok(i64::try_from(value).unwrap_or(i64::MAX))
}

fn json(field: &'static str, value: &impl serde::Serialize) -> Result<String, Oops> {
    serde_json::to_string(value)
        .map_err(|_| Oops::invalid(field, format!("`{field}` cannot be written as JSON")))
}

/// The header `Idempotency-Key`, if there is one: 1 to 255 visible ASCII characters. Two are none: which counts?
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Oops> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let fits = |key: &&str| (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    match value.to_str().ok().filter(fits) {
        Some(key) if values.next().is_none() => Ok(Some(key.to_owned())),
        _ => Err(Oops::invalid(
            "Idempotency-Key",
            "`Idempotency-Key`: one of 1 to 255 visible ASCII characters is allowed",
        )),
    }
}

/// The key with its scope and the body it came with.
pub(crate) fn submission_key(key: String, route: &str, body: &[u8]) -> SubmissionKey {
    SubmissionKey { route: route.to_owned(), key, body_sha256: Sha256::digest(body).into() }
}
