//! What a client submits.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// `POST /v1/tasks`. Shapes only: what the values may be is the gateway's to check, with the field's name in the answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a task: a JSON object with `command`")]
pub struct TaskRequest {
    /// Program and arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Standard input; none: an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Stdin>,
    /// Environment on top of the gateway's own PATH, HOME and the like.
    #[serde(default, skip_serializing_if = "EnvVars::is_empty")]
    pub env: EnvVars,
    /// Absolute directory to run in; none: a scratch directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Both output streams through one pipe, exact in their order, as standard output.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub merge: bool,
    /// The queue's name; "default" if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// 0 to 9, 9 first; 5 if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// Seconds to wait before the task may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_s: Option<f64>,
    /// Wall time before which the task may not start; not together with `delay_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<String>,
    /// Running time an attempt may take, in seconds; none or null: unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    /// Time until a task that never started expires, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<f64>,
    /// When and how often a failed attempt is followed by another.
    #[serde(default, deserialize_with = "super::object::optional", skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryRequest>,
    /// Memory of the whole process tree, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// CPU time a second, in cores: 0.5 is half of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Processes and threads at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Labels to find the task by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,

    /// Not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<Value>,
    /// Not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_timeout_s: Option<Value>,
    /// Not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Value>,
}

/// A retry policy; what is left out keeps its default.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a retry policy: {\"max\", \"backoff_s\", \"jitter\"}")]
pub struct RetryRequest {
    /// Retries after the first attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Waits before each retry, in seconds; the last one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_s: Option<Vec<f64>>,
    /// Part of a wait that is random, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
}

/// `POST /v1/tasks/bulk`, as a client builds it. The gateway reads each task by itself, to name the one that is wrong.
#[derive(Debug, Clone, Serialize)]
pub struct BulkRequest {
    /// The tasks; all are accepted, or none.
    pub tasks: Vec<TaskRequest>,
}

/// Standard input: a JSON string for text, `{"base64": "…"}` for any bytes; written as whichever is shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stdin(pub Vec<u8>);

impl Serialize for Stdin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Text with many control characters (the padding of a tar archive) would be six times as long as a string.
        if let Ok(text) = std::str::from_utf8(&self.0)
            && escaped_bytes(text) <= self.0.len().div_ceil(3) * 4
        {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &STANDARD.encode(&self.0))?;
        map.end()
    }
}

/// The length of a text as JSON.
fn escaped_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0x00..=0x1f => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum()
}

impl<'de> Deserialize<'de> for Stdin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StdinVisitor;
        impl<'de> Visitor<'de> for StdinVisitor {
            type Value = Stdin;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or {\"base64\": string}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Stdin, E> {
                Ok(Stdin(text.as_bytes().to_vec()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Stdin, A::Error> {
                let Some((key, value)) = map.next_entry::<String, String>()? else {
                    return Err(de::Error::missing_field("base64"));
                };
                if key != "base64" {
                    return Err(de::Error::unknown_field(&key, &["base64"]));
                }
                if map.next_key::<String>()?.is_some() {
                    return Err(de::Error::custom("only `base64` is allowed here"));
                }
                let bytes = STANDARD.decode(value).map_err(|_| de::Error::custom("not valid base64"))?;
                Ok(Stdin(bytes))
            }
        }
        deserializer.deserialize_any(StdinVisitor)
    }
}

/// Environment variables: a JSON object of strings, in which no name stands twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvVars(pub Vec<(String, String)>);

impl EnvVars {
    /// No variables.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for EnvVars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for EnvVars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnvVisitor;
        impl<'de> Visitor<'de> for EnvVisitor {
            type Value = EnvVars;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of environment variables, each a string")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EnvVars, A::Error> {
                let mut vars: Vec<(String, String)> = Vec::new();
                let mut seen = std::collections::HashSet::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(de::Error::custom(format_args!("the name `{name}` stands twice")));
                    }
                    vars.push((name, value));
                }
                Ok(EnvVars(vars))
            }
        }
        deserializer.deserialize_map(EnvVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_stdin_survives_the_wire() {
        for bytes in [b"text".to_vec(), vec![0, 255, 254], Vec::new()] {
            let json = serde_json::to_string(&Stdin(bytes.clone())).unwrap();
            assert_eq!(serde_json::from_str::<Stdin>(&json).unwrap(), Stdin(bytes));
        }
    }

    #[test]
    fn text_with_many_control_characters_is_sent_as_bytes() {
        for (text, most) in [("text\n".repeat(1_000), 6_002), ("\0".repeat(3_000), 4_013)] {
            let json = serde_json::to_string(&Stdin(text.clone().into_bytes())).unwrap();
            assert!(json.len() <= most, "{} bytes for {}", json.len(), text.len());
            assert_eq!(serde_json::from_str::<Stdin>(&json).unwrap(), Stdin(text.into_bytes()));
        }
    }

    #[test]
    fn a_duplicate_environment_name_is_refused() {
        let error =
            serde_json::from_str::<TaskRequest>(r#"{"command":["a"],"env":{"A":"1","A":"2"}}"#).unwrap_err();
        assert!(error.to_string().contains("the name `A` stands twice"), "{error}");
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let error = serde_json::from_str::<TaskRequest>(r#"{"comand":["a"]}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `comand`"), "{error}");
    }
}
