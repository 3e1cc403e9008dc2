//! A gateway of a session's own: starts it, does to it what is to be done, asks it, and ends it with all it started.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::broken::{During, holds};
use crate::clock::{PATIENCE, now, sleep_ms, until, until_within};
use crate::http::{Answer, Door, NoAnswer, Request};
use crate::points::{self, Points};
use crate::processes::{self, Process};
use crate::program::Program;
use crate::view::Task;
use crate::{Broken, Held, system};

/// A gateway, and the folder of all that has to do with it.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) home: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) points: Points,
    program: Program,
    /// What its processes are told beside what the suite tells each of them.
    environment: Vec<(&'static str, OsString)>,
    /// What `chitin up` runs as: the gateway's supervisor, or the gateway itself.
    up: Option<Child>,
    /// Where it listens, while it is up.
    tcp: Option<SocketAddr>,
    /// The names its control groups go by, of each store it had.
    instances: Vec<String>,
    folder: Option<TempDir>,
}

/// How a start that was refused ended.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: i32,
    pub(crate) said: String,
}

impl Gateway {
    /// A place for a gateway that does not run yet, with these lines of `[limits]` on top of the suite's own.
    pub(crate) fn prepare(program: &Program, limits: &str) -> Held<Self> {
        let folder = tempfile::Builder::new().prefix("chitin-chaos.").tempdir().during("make a folder")?;
        let home = folder.path().canonicalize().during("find the folder")?;
        let points = Points::new(home.join("points"))?;
        // Debug builds on a busy machine: slowness is no fault under test.
        let patient = if limits.contains("submit_timeout_ms") { "" } else { "submit_timeout_ms = 20000\n" };
        let limits = format!("listen = \"127.0.0.1:0\"\n[limits]\n{patient}{limits}\n");
        fs::write(home.join("chitin.toml"), limits).during("write the configuration")?;
        Ok(Self {
            data: home.join("data"),
            home,
            points,
            program: program.clone(),
            environment: Vec::new(),
            up: None,
            tcp: None,
            instances: Vec::new(),
            folder: Some(folder),
        })
    }

    /// Whatever is started from here on has this in its environment.
    pub(crate) fn environment(&mut self, name: &'static str, value: &Path) {
        self.environment.push((name, value.as_os_str().to_owned()));
    }

    /// The folder stays after the end.
    pub(crate) fn keep(&mut self) {
        if let Some(folder) = self.folder.take() {
            _ = folder.keep();
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = system::command(&self.program.chitin);
        command.args(args).current_dir(&self.home).env("HOME", &self.home);
        command.env("CHITIN_DATA_DIR", &self.data).env("CHITIN_CONFIG", self.home.join("chitin.toml"));
        command.env(points::FOLDER, self.points.folder());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it; it answers when this returns.
    pub(crate) fn up(&mut self) -> Held {
        match self.try_up()? {
            Ok(()) => Ok(()),
            Err(refused) => Err(Broken::new(format!("it does not start: {refused:?}\n{}", self.log_tail()))),
        }
    }

    /// Starts it, or says how it refused.
    pub(crate) fn try_up(&mut self) -> Held<Result<(), Refused>> {
        if let Some(mut before) = self.up.take() {
            // Dead, or nobody would start another one; unless it is waited for, it stays in the table of processes.
            _ = before.wait();
        }
        let errors = self.home.join("up.stderr");
        let mut command = self.command(&["up"]);
        command.stderr(fs::File::create(&errors).during("make a file")?);
        let mut child = command.spawn().during("start chitin up")?;
        let stdout = child.stdout.take().during("its standard output")?;
        let (sender, line) = sync_channel(1);
        thread::spawn(move || {
            let mut line = String::new();
            _ = BufReader::new(stdout).read_line(&mut line);
            _ = sender.send(line);
        });
        let line = line.recv_timeout(PATIENCE).unwrap_or_default();
        if line.starts_with("ready ") {
            let address = line.strip_prefix("ready http://").and_then(|rest| rest.split(' ').next());
            self.tcp = address.and_then(|address| address.parse().ok());
            self.up = Some(child);
            self.know_instance();
            return Ok(Ok(()));
        }
        _ = child.kill();
        let status = child.wait().during("wait for chitin up")?;
        let said = fs::read_to_string(&errors).unwrap_or_default();
        Ok(Err(Refused { code: status.code().unwrap_or(-1), said }))
    }

    /// Runs the program beside it, to its end: exit code, output, errors.
    pub(crate) fn cli(&self, args: &[&str]) -> Held<(i32, String, String)> {
        let output = self.command(args).output().during(format!("run chitin {}", args.join(" ")))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
    }

    /// By its log; and by what it wrote down before it made groups, for one that died before it was ready. Either can be lost
    /// with the disk.
    fn know_instance(&mut self) {
        let log = fs::read_to_string(self.data.join("chitin.log")).unwrap_or_default();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let named = lines.filter_map(|line| Some(line.pointer("/fields/instance")?.as_str()?.to_owned()));
        let written = fs::read_to_string(self.data.join("instance")).ok().map(|text| text.trim().to_owned());
        for instance in named.chain(written.filter(|instance| !instance.is_empty())) {
            if !self.instances.contains(&instance) {
                self.instances.push(instance);
            }
        }
    }

    /// The last lines of its log, for whoever reads of a failure.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.data.join("chitin.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
    }

    /// The gateway's own process, once there is one.
    pub(crate) fn process(&self) -> Held<Process> {
        until("the gateway has a process", || Ok(self.lives("gateway.pid")))
    }

    /// Kills the gateway alone, at whatever it is doing, and waits for its death.
    pub(crate) fn kill(&mut self) -> Held {
        let process = self.process()?;
        process.kill();
        holds!(process.dies(PATIENCE), "a gateway does not die");
        Ok(())
    }

    /// After a gateway's death: there is another, which answers. Its supervisor starts it, or, where there is none, this.
    pub(crate) fn back(&mut self) -> Held {
        let mut tries = 0;
        while self.is_down() {
            match self.try_up()? {
                Ok(()) => {}
                // Failpoints strike at starts, too.
                Err(refused) if refused.code == -1 && tries < 5 => tries += 1,
                Err(refused) => return Err(Broken::new(format!("it does not come back: {refused:?}"))),
            }
        }
        until("it answers again", || {
            Ok(self.ask("GET", "/readyz", None).is_ok_and(|answer| answer.status == 200).then_some(()))
        })
    }

    /// Whether nobody is left who starts the gateway again.
    fn is_down(&mut self) -> bool {
        if self.up.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None))) {
            self.up = None;
        }
        // A gateway whose supervisor was killed starts another one.
        self.up.is_none() && self.lives("supervisor.pid").is_none() && self.lives("gateway.pid").is_none()
    }

    /// The process of a pid file, while it lives.
    fn lives(&self, name: &str) -> Option<Process> {
        let text = fs::read_to_string(self.data.join(name)).unwrap_or_default();
        let process = text.trim().parse().ok().and_then(|pid| Process::open(pid, &self.data))?;
        (process.is_program() && !process.dies(Duration::ZERO)).then_some(process)
    }

    /// The supervisor's process, once there is one.
    pub(crate) fn supervisor(&self) -> Held<Process> {
        until("the gateway has a supervisor", || Ok(self.lives("supervisor.pid")))
    }

    /// Kills supervisor and gateway, or all but what `spared` names.
    pub(crate) fn kill_all_but(&mut self, spared: impl Fn(&Process) -> bool) -> Held {
        let begin = now();
        loop {
            let victims: Vec<Process> =
                processes::of(&self.home).into_iter().filter(|process| !spared(process)).collect();
            if victims.is_empty() {
                break;
            }
            victims.iter().for_each(Process::kill);
            _ = self.is_down();
            holds!(begin.elapsed() < PATIENCE, "these do not die: {victims:?}");
            sleep_ms(1);
        }
        _ = self.is_down();
        Ok(())
    }

    /// As a reset of the machine: nothing runs, no control group is left, and the next boot has another id.
    pub(crate) fn reset_machine(&mut self, boot_id: &str) -> Held {
        self.kill_all_but(|_| false)?;
        self.instances.iter().for_each(|instance| processes::remove_groups(&processes::groups(instance)));
        self.points.say("boot_id", boot_id)
    }

    pub(crate) fn door(&self) -> Door {
        Door::Unix(self.data.join("chitin.sock"))
    }

    /// Its port and its socket. A port is another one after an instance's end.
    pub(crate) fn doors(&self) -> Held<Vec<Door>> {
        let token = fs::read_to_string(self.data.join("admin.token")).during("read the token")?;
        let tcp = Door::Tcp(self.tcp.during("a port")?, token.trim().to_owned());
        Ok(vec![self.door(), tcp])
    }

    /// A second start beside a gateway that runs says that it runs, and ends.
    pub(crate) fn only_one(&self) -> Held {
        let mut child = self.command(&["up"]).spawn().during("start chitin up")?;
        let ended = until_within(Duration::from_secs(20), "a second start ends", || {
            child.try_wait().during("wait for chitin up")
        });
        _ = child.kill();
        _ = child.wait();
        let status = ended?;
        holds!(status.success(), "a second start beside a gateway that runs: {status}");
        Ok(())
    }

    /// One answer, and no second try.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, NoAnswer> {
        self.door().ask(&Request { method, path, key: None, body }, PATIENCE)
    }

    /// One answer of this status.
    pub(crate) fn asked(&self, method: &str, path: &str, body: Option<&Value>, status: u16) -> Held<Answer> {
        let answer = self.ask(method, path, body).during(format!("{method} {path}"))?;
        holds!(answer.status == status, "{method} {path}: {} {}", answer.status, answer.text());
        Ok(answer)
    }

    /// Hands in a task under a key, trying again as the command line does; its id.
    pub(crate) fn submit(&self, key: &str, body: &Value) -> Held<String> {
        until(&format!("{key} is accepted"), || {
            let request = Request { method: "POST", path: "/v1/tasks", key: Some(key), body: Some(body) };
            match self.door().ask(&request, PATIENCE) {
                Ok(answer) if matches!(answer.status, 200 | 202) => {
                    Ok(answer.json().get("id").and_then(Value::as_str).map(str::to_owned))
                }
                Ok(answer) if matches!(answer.status, 429 | 503 | 507) => Ok(None),
                Ok(answer) => Err(Broken::new(format!("{key}: {} {}", answer.status, answer.text()))),
                Err(_) => Ok(None),
            }
        })
    }

    pub(crate) fn task(&self, id: &str) -> Held<Task> {
        Ok(Task::of(&self.asked("GET", &format!("/v1/tasks/{id}"), None, 200)?.json()))
    }

    /// The task once it has ended, which it must.
    pub(crate) fn ended(&self, id: &str) -> Held<Task> {
        until(&format!("{id} ends"), || {
            let task = self.task(id)?;
            Ok(task.has_ended.then_some(task))
        })
    }

    pub(crate) fn until_state(&self, id: &str, state: &str) -> Held<Task> {
        let mut seen = String::new();
        until(&format!("{id} is {state}"), || {
            let task = self.task(id)?;
            seen = format!("{task:?}");
            Ok((task.state == state).then_some(task))
        })
        .during(seen)
    }

    /// Every task there is, of some query.
    pub(crate) fn list(&self, query: &str) -> Held<Vec<Task>> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.asked("GET", &format!("/v1/tasks?limit=1000{query}{cursor}"), None, 200)?.json();
            let tasks = page.get("tasks").and_then(Value::as_array).during("a list of tasks")?;
            all.extend(tasks.iter().map(Task::of));
            match page.get("next_cursor").and_then(Value::as_str) {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(all),
            }
        }
    }

    pub(crate) fn result(&self, id: &str) -> Held<String> {
        Ok(self.asked("GET", &format!("/v1/tasks/{id}/result"), None, 200)?.text())
    }

    pub(crate) fn stdout(&self, id: &str) -> Held<Vec<u8>> {
        Ok(self.asked("GET", &format!("/v1/tasks/{id}/logs?stream=stdout"), None, 200)?.body)
    }

    pub(crate) fn pause_queue(&self, queue: &str) -> Held {
        self.asked("POST", &format!("/v1/queues/{queue}/pause"), None, 200).map(|_| ())
    }

    /// Where tasks write down that they run: a line `key attempt` each time.
    pub(crate) fn runs(&self) -> PathBuf {
        self.home.join("runs")
    }

    /// A task that writes down its start and then runs a script, in which `$0` is its key.
    pub(crate) fn work(&self, key: &str, script: &str) -> Value {
        work(&self.runs(), key, script)
    }

    /// Waits until a task has begun an attempt.
    pub(crate) fn until_begun(&self, key: &str, attempt: u32) -> Held {
        let line = format!("{key} {attempt}");
        until(&format!("{key} begins attempt {attempt}"), || {
            let runs = fs::read_to_string(self.runs()).unwrap_or_default();
            Ok(runs.lines().any(|known| known == line).then_some(()))
        })
    }

    /// Ends it with all it started, by its own means.
    pub(crate) fn down(&mut self) -> Held {
        let (code, out, err) = self.cli(&["down", "--kill"])?;
        holds!(code == 0, "down --kill: {code} {out} {err}\n{}", self.log_tail());
        self.up.take().map_or(Ok(0), |mut child| {
            until("chitin up ends", || {
                Ok(child.try_wait().during("wait for chitin up")?.map(|status| status.code().unwrap_or(-1)))
            })
        })?;
        Ok(())
    }

    /// Its control groups that are there.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        self.instances.iter().flat_map(|instance| processes::groups(instance)).collect()
    }
}

/// See [`Gateway::work`]. Retries come at once: nobody waits a minute for the next attempt.
pub(crate) fn work(runs: &Path, key: &str, script: &str) -> Value {
    json!({
        "command": ["sh", "-c", format!("echo \"$0 $CHITIN_ATTEMPT\" >> {}; {script}", runs.display()), key],
        "tags": [key],
        "retry": {"max": 3, "backoff_s": [0.05], "jitter": 0},
    })
}

impl Drop for Gateway {
    /// However the trial ended: not a process, not a control group is left.
    fn drop(&mut self) {
        _ = processes::kill_all(&self.home);
        if let Some(mut child) = self.up.take() {
            _ = child.wait();
        }
        self.know_instance();
        processes::remove_groups(&self.groups());
    }
}
