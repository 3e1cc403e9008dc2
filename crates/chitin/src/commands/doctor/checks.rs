//! The checks, one function each. Where a check decides by figures, the decision is a function of them, and tested.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use chitin_gateway::Config;
use chitin_shim::groups::{self, Tier, TierKind};
use serde_json::Value;

use super::Finding;
use crate::client::{Client, LOOK, Request};
use crate::failure::{Failure, chain};
use crate::paths::{self, DataDir, Lock};

/// File systems by their magic number (`statfs(2)`), with what is wrong with them here.
const UNFIT: [(i64, &str, &str); 6] = [
    (0x0102_1994, "tmpfs", "it is memory: a reboot loses every task"),
    (0x6969, "NFS", "locks and fsync over a network are not reliable"),
    (0xff53_4d42, "CIFS", "locks and fsync over a network are not reliable"),
    (0xfe53_4d42, "SMB", "locks and fsync over a network are not reliable"),
    (0x0102_1997, "9p", "locks and fsync over a network are not reliable"),
    (0x6573_5546, "FUSE", "whether its locks and fsync are reliable depends on what is behind it"),
];

/// The directory is ours alone.
pub(super) fn data_dir(data_dir: &DataDir) -> Finding {
    let path = data_dir.path();
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::ok(format!("{} is made at the first start", path.display()))
        }
        Err(error) => Finding::wrong(format!("cannot look at {}: {error}", path.display())),
        Ok(metadata) if !metadata.is_dir() => Finding::wrong(format!("{} is no directory", path.display())),
        Ok(metadata) => {
            let ours = metadata.uid() == rustix::process::geteuid().as_raw();
            private(path, ours, metadata.permissions().mode(), 0o700)
        }
    }
}

/// The token is ours alone.
pub(super) fn token(data_dir: &DataDir) -> Finding {
    let path = data_dir.admin_token();
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Finding::ok("made at the first start"),
        Err(error) => Finding::wrong(format!("cannot look at {}: {error}", path.display())),
        Ok(metadata) => {
            let ours = metadata.uid() == rustix::process::geteuid().as_raw();
            private(&path, ours, metadata.permissions().mode(), 0o600)
        }
    }
}

fn private(path: &Path, ours: bool, mode: u32, right: u32) -> Finding {
    let path = path.display();
    if !ours {
        return Finding::wrong(format!("{path} belongs to another user"));
    }
    if mode & 0o077 != 0 {
        return Finding::wrong(format!("others can read {path}: chmod {right:o} {path}"));
    }
    Finding::ok(path.to_string())
}

/// The file system keeps what it was told to keep.
pub(super) fn file_system(data_dir: &DataDir) -> Finding {
    match rustix::fs::statfs(existing(data_dir.path())) {
        Ok(found) => fitness(found.f_type),
        Err(error) => Finding::wrong(format!("cannot ask for it: {error}")),
    }
}

fn fitness(magic: i64) -> Finding {
    match UNFIT.iter().find(|(unfit, ..)| *unfit == magic) {
        Some((_, name, why)) => Finding::warning(format!("{name}: {why}; choose another with --data-dir")),
        None => Finding::ok("local"),
    }
}

/// The program that runs commands lies beside this one.
pub(super) fn shim() -> Finding {
    let Some(shim) = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("chitin-shim")))
    else {
        return Finding::wrong("cannot find where this program lies");
    };
    match shim.metadata() {
        Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => {
            Finding::ok(shim.display().to_string())
        }
        Ok(_) => Finding::wrong(format!("{} cannot be executed", shim.display())),
        Err(error) => Finding::wrong(format!("{}: {error}; install it beside chitin", shim.display())),
    }
}

/// What a gateway would be started with; what is wrong with it is said by a check of its own.
pub(super) fn config(data_dir: &DataDir) -> Result<Config, Failure> {
    let path = paths::config(None)?;
    chitin_gateway::config::load(path.as_deref(), data_dir.path())
        .map_err(|error| Failure::usage(chain(&error)))
}

/// A gateway could start with it.
pub(super) fn configuration(config: &Result<Config, Failure>) -> Finding {
    match config {
        Ok(_) => Finding::ok("valid"),
        Err(failure) => Finding::wrong(failure.message.clone().unwrap_or_default()),
    }
}

/// What holds commands to their limits, by trying.
pub(super) fn isolation(config: Option<&Config>) -> Finding {
    held_by(config.and_then(|config| config.isolation), &groups::all())
}

fn held_by(wanted: Option<TierKind>, here: &[Tier]) -> Finding {
    let names = here.iter().map(Tier::name).collect::<Vec<_>>().join(", ");
    let Some(tier) = here.iter().find(|tier| wanted.is_none_or(|kind| kind == tier.kind())) else {
        let wanted = wanted.map_or("", TierKind::name);
        return Finding::wrong(format!("the configuration wants {wanted}; this machine has: {names}"));
    };
    let detail = format!("{} (this machine has: {names})", tier.name());
    match tier.not_enforced().as_slice() {
        [] => Finding::ok(detail),
        weak => Finding::warning(format!("{detail}; best effort only: {}", weak.join(", "))),
    }
}

/// The Redis server, if one is configured, is there and lets us in.
pub(super) async fn cache(config: Option<&Config>) -> Finding {
    let Some(config) = config else {
        return Finding::ok("as configured, once the configuration is valid");
    };
    match chitin_gateway::reach_redis(config).await {
        None => Finding::ok("in the gateway's memory"),
        Some((server, Err(error))) => Finding::warning(format!(
            "{server}: {error}; results come from the database until it can be reached"
        )),
        Some((server, Ok(_))) if !server.is_local() => Finding::warning(format!(
            "{server} answers, and results and password go there unencrypted: use a tunnel"
        )),
        Some((server, Ok(reached))) => Finding::ok(format!("{server} answers after {} ms", reached.ms)),
    }
}

/// If one runs, it answers, and is of this version.
pub(super) async fn gateway(data_dir: &DataDir) -> Finding {
    let lock = match data_dir.lock() {
        Ok(lock) => lock,
        Err(failure) => return Finding::wrong(failure.message.unwrap_or_default()),
    };
    let answer = match Client::new(data_dir).read(&Request::get("/v1/status"), &LOOK).await {
        Ok(answer) => answer,
        Err(_) if lock == Lock::Free => return Finding::ok("none runs"),
        Err(failure) => {
            return Finding::wrong(format!("one runs, but {}", failure.message.unwrap_or_default()));
        }
    };
    running(&answer)
}

fn running(status: &Value) -> Finding {
    let text = |name: &str| status.get(name).and_then(Value::as_str).unwrap_or("?");
    let (version, isolation) = (text("version"), text("isolation"));
    let pid = status.get("pid").and_then(Value::as_u64).unwrap_or_default();
    let detail = format!("runs (pid {pid}, version {version}, isolation {isolation})");
    if version != env!("CARGO_PKG_VERSION") {
        return Finding::warning(format!(
            "{detail}; this program is {}: restart it",
            env!("CARGO_PKG_VERSION")
        ));
    }
    let weak = status.pointer("/layers/workers/not_enforced").and_then(Value::as_array);
    let weak: Vec<&str> = weak.into_iter().flatten().filter_map(Value::as_str).collect();
    if !weak.is_empty() {
        return Finding::warning(format!("{detail}; best effort only: {}", weak.join(", ")));
    }
    let connections = |name: &str| status.pointer(&format!("/layers/gateway/{name}")).and_then(Value::as_u64);
    if let (Some(most), Some(wanted)) = (connections("connections_limit"), connections("connections_wanted"))
    {
        return Finding::warning(format!(
            "{detail}; file descriptors allow for {most} connections, not {wanted}: raise the limit (ulimit -Hn)"
        ));
    }
    Finding::ok(detail)
}

/// The nearest directory above a path that exists.
pub(super) fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn what_others_can_read_is_wrong() {
        let path = Path::new("/d");
        assert_eq!(private(path, true, 0o40700, 0o700), Finding::ok("/d"));
        assert_eq!(private(path, true, 0o40750, 0o700), Finding::wrong("others can read /d: chmod 700 /d"));
        assert_eq!(private(path, false, 0o40700, 0o700), Finding::wrong("/d belongs to another user"));
    }

    #[test]
    fn what_holds_commands_is_told_and_what_is_wanted_in_vain() {
        let cgroup2 = Tier::Cgroup2 { base: "/b".into(), leave: false, cpu: true };
        let both = [cgroup2, Tier::Rlimit];
        assert_eq!(held_by(None, &both), Finding::ok("cgroup2 (this machine has: cgroup2, rlimit)"));
        assert_eq!(held_by(Some(TierKind::Rlimit), &both).verdict, Verdict::Warning);
        assert_eq!(held_by(Some(TierKind::Cgroup1), &both).verdict, Verdict::Wrong);
    }

    #[test]
    fn memory_is_no_disk() {
        assert_eq!(fitness(0x0102_1994).verdict, Verdict::Warning);
        assert_eq!(fitness(0xef53).verdict, Verdict::Ok);
    }

    #[test]
    fn another_version_and_weak_limits_are_told() {
        let status = |version: &str, weak: &[&str]| {
            let layers = json!({"workers": {"not_enforced": weak}});
            running(&json!({"pid": 7, "version": version, "isolation": "cgroup1", "layers": layers})).verdict
        };
        assert_eq!(status(env!("CARGO_PKG_VERSION"), &[]), Verdict::Ok);
        assert_eq!(status("0.0.1", &[]), Verdict::Warning);
        assert_eq!(status(env!("CARGO_PKG_VERSION"), &["memory"]), Verdict::Warning);
        let gateway = json!({"connections_limit": 127, "connections_wanted": 4_096});
        let few = running(&json!({"version": env!("CARGO_PKG_VERSION"), "layers": {"gateway": gateway}}));
        assert!(
            few.verdict == Verdict::Warning && few.detail.contains("127 connections, not 4096"),
            "{few:?}"
        );
    }
}
