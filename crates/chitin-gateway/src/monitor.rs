//! The resource monitor's hands: a thread that measures, asks the core's [`Monitor`] what that means, and does it. What it
//! means is decided there; see [`chitin_core::monitor`].
//!
//! | level | done |
//! |---|---|
//! | memory tight | the writer gives out no attempt |
//! | memory high | submissions are refused: `overloaded`; the cache is emptied |
//! | memory critical | the largest attempt is ended: its eviction is committed, then its shim told |
//! | disk low | submissions are refused: `storage-full`; what ended first goes before its time |
//! | processors busy | it is told |
//!
//! Each is an event, with the figures that caused it. A look comes at every interval, and at once where the kernel tells that
//! somebody waits for memory.

mod measure;
pub(crate) mod outlook;
mod trigger;

use std::io::{self, PipeWriter};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chitin_core::monitor::{Change, MemoryLevel, Monitor, memory_lines};
use chitin_core::{EventName, Input};
use serde_json::{Value, json};

use crate::clock;
use crate::http::{Bound, Face, Oops, time};
use crate::runner::Context;
use measure::{Measured, Meter};
use trigger::{Alarm, Woken};

/// Near a line readings come so much more often.
const NEAR: u32 = 4;
/// Somebody waits for memory for so much of the time: the next reading comes soon, whatever the figures are.
const WAITING_PERCENT: f64 = 10.0;

/// What others may know of the monitor without asking it.
#[derive(Debug)]
pub(crate) struct Pressure {
    view: Mutex<Value>,
    memory_high: AtomicBool,
    disk_low: AtomicBool,
}

impl Default for Pressure {
    fn default() -> Self {
        Self {
            view: Mutex::new(json!({ "state": "starting" })),
            memory_high: AtomicBool::new(false),
            disk_low: AtomicBool::new(false),
        }
    }
}

impl Pressure {
    /// Why new work is refused, if it is.
    pub(crate) fn refusal(&self) -> Option<Oops> {
        if self.disk_low.load(Ordering::Relaxed) {
            return Some(Oops::refused(
                Bound::Disk,
                "the disk of the data directory has little room left; nothing was stored; free some space",
            ));
        }
        self.memory_high.load(Ordering::Relaxed).then(|| {
            Oops::refused(
                Bound::Memory,
                "gateway and tasks use nearly all of the memory there is for them; nothing was stored; try again",
            )
        })
    }

    /// Whether it is.
    pub(crate) fn is_shedding(&self) -> bool {
        self.disk_low.load(Ordering::Relaxed) || self.memory_high.load(Ordering::Relaxed)
    }

    /// For the status page.
    pub(crate) fn view(&self) -> Value {
        self.view.lock().map(|view| view.clone()).unwrap_or_default()
    }
}

/// The thread, until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    bell: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn spawn(context: Arc<Context>, face: Arc<Face>, data_dir: PathBuf) -> io::Result<Self> {
        let (bell, ringer) = io::pipe()?;
        let alarm = Alarm::new(bell, context.tier.memory_pressure());
        let meter = Meter::new(context, data_dir)?;
        let mut hands = Hands {
            monitor: Monitor::new(&face.limits),
            meter,
            alarm,
            face,
            since_ms: clock::wall_ms(),
            state: "ok",
            refusing: None,
            pressures: 0,
            pressed_ms: None,
            last: None,
        };
        let work = move || while hands.turn() {};
        let thread = thread::Builder::new().name("chitin-monitor".to_owned()).spawn(work)?;
        Ok(Self { bell: Some(ringer), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.bell.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

struct Hands {
    monitor: Monitor,
    meter: Meter,
    alarm: Alarm,
    face: Arc<Face>,
    state: &'static str,
    since_ms: i64,
    /// Why the store refused everything when it was looked at last.
    refusing: Option<String>,
    /// How often the kernel told that memory is waited for, and when it did last.
    pressures: u64,
    pressed_ms: Option<i64>,
    /// What was done, or told, last, and when.
    last: Option<(EventName, i64)>,
}

impl Hands {
    /// One look, and the wait for the next. False: stop.
    fn turn(&mut self) -> bool {
        let pause = self.look();
        let woken = self.alarm.wait(pause);
        if woken == Woken::Pressure {
            self.pressures = self.pressures.saturating_add(1);
            self.pressed_ms = Some(clock::boottime_ms());
        }
        woken != Woken::Stop
    }

    /// Somebody waits for memory, or did a moment ago, and the kernel would not tell it again so soon.
    fn is_pressed(&self, measured: &Measured) -> bool {
        let waits = measured.pressure.first().copied().flatten().is_some_and(|some| some >= WAITING_PERCENT);
        let window_ms = i64::try_from(trigger::WINDOW.as_millis()).unwrap_or(i64::MAX);
        waits || self.pressed_ms.is_some_and(|at| clock::boottime_ms().saturating_sub(at) < window_ms)
    }

    /// Measures, and does what follows; how long it can wait with the next look.
    fn look(&mut self) -> Duration {
        let measured = self.meter.take();
        for change in self.monitor.observe(clock::boottime_ms(), &measured.reading) {
            self.act(change, &measured);
        }
        self.look_at_the_store();
        self.show(&measured);
        let interval = Duration::from_millis(self.face.limits.monitor_interval_ms);
        let is_near = self.monitor.is_near(&measured.reading) || self.is_pressed(&measured);
        if is_near { interval / NEAR } else { interval }
    }

    fn tell(&mut self, name: EventName, figures: Value) {
        self.last = Some((name, clock::wall_ms()));
        self.face.events.tell(name, figures);
    }

    fn act(&mut self, change: Change, measured: &Measured) {
        match change {
            Change::Memory { from, to } => {
                let figures = self.memory_figures(measured);
                let crossed = |line: MemoryLevel| (from < line && to >= line, from >= line && to < line);
                let (up, down) = crossed(MemoryLevel::Tight);
                if up || down {
                    self.face.engine.status().set_pressed(up);
                    // So that the writer notices without waiting for work.
                    drop(self.face.engine.send(0, None, |_| Input::Tick));
                    let name = if up { EventName::DispatchPaused } else { EventName::DispatchResumed };
                    self.tell(name, figures.clone());
                }
                let (up, down) = crossed(MemoryLevel::High);
                if up || down {
                    self.face.pressure.memory_high.store(up, Ordering::Relaxed);
                    self.tell(if up { EventName::ShedBegan } else { EventName::ShedEnded }, figures);
                }
            }
            Change::DiskLow | Change::DiskRecovered => {
                let low = change == Change::DiskLow;
                self.face.pressure.disk_low.store(low, Ordering::Relaxed);
                let disk = measured.reading.disk.unwrap_or_default();
                let figures = json!({
                    "reason": "disk",
                    "free_bytes": disk.free_bytes,
                    "total_bytes": disk.total_bytes,
                    "free_inodes": disk.free_inodes,
                    "total_inodes": disk.total_inodes,
                });
                self.tell(if low { EventName::DiskLow } else { EventName::DiskRecovered }, figures.clone());
                self.tell(if low { EventName::ShedBegan } else { EventName::ShedEnded }, figures);
            }
            Change::CpuHigh | Change::CpuRecovered => {
                let high = change == Change::CpuHigh;
                let figures = json!({
                    "cpu_percent": measured.reading.cpu_percent,
                    "limit_percent": self.face.limits.cpu_percent,
                });
                self.tell(if high { EventName::CpuHigh } else { EventName::CpuRecovered }, figures);
            }
            Change::Clean if self.monitor.is_disk_low() => {
                drop(self.face.engine.send(0, None, |_| Input::Clean));
            }
            // Of memory: what is only kept so that it need not be read again.
            Change::Clean => self.face.cache.shed(),
            Change::Evict => self.evict(measured),
        }
    }

    /// The intent is committed before anybody is told: the shim is, by the effect of that commit.
    fn evict(&mut self, measured: &Measured) {
        let Some((attempt, bytes)) = measured.largest else { return };
        let all = measured.reading.memory_bytes;
        let limit = self.face.limits.memory_bytes;
        let why = format!(
            "evicted: gateway and tasks used {all} of {limit} bytes of memory, and this attempt the most of it, {bytes}; it runs again"
        );
        let mut figures = self.memory_figures(measured);
        if let Value::Object(figures) = &mut figures {
            figures.insert("attempt_bytes".to_owned(), json!(bytes));
        }
        tracing::warn!(task.id = %attempt.id, attempt = attempt.attempt.0, bytes, all, "an attempt is evicted");
        self.last = Some((EventName::TaskEvicted, clock::wall_ms()));
        drop(self.face.engine.send(0, None, |_| Input::Evict { attempt, why, detail: figures.to_string() }));
    }

    fn memory_figures(&self, measured: &Measured) -> Value {
        json!({
            "reason": "memory",
            "memory_bytes": measured.reading.memory_bytes,
            "limit_bytes": self.face.limits.memory_bytes,
            "gateway_bytes": measured.gateway_bytes,
            "tasks_bytes": measured.attempts_bytes,
        })
    }

    /// The writer cannot tell that it is refused; whoever looks at it can.
    fn look_at_the_store(&mut self) {
        let refusing = self.face.engine.status().refusing();
        match (&self.refusing, &refusing) {
            (None, Some(why)) => self.tell(EventName::StoreRefused, json!({ "reason": why })),
            (Some(_), None) => self.tell(EventName::StoreRecovered, json!({})),
            _ => {}
        }
        self.refusing = refusing;
    }

    fn show(&mut self, measured: &Measured) {
        let memory = self.monitor.memory();
        let mut reasons = Vec::new();
        if memory > MemoryLevel::Calm {
            reasons.push(format!("memory is {}", memory.as_str()));
        }
        if self.monitor.is_disk_low() {
            reasons.push("the disk has little room".to_owned());
        }
        if self.monitor.is_cpu_high() {
            reasons.push("the processors are busy".to_owned());
        }
        let state = match memory {
            MemoryLevel::Critical => "evicting",
            MemoryLevel::High => "shedding",
            _ if self.monitor.is_disk_low() => "shedding",
            MemoryLevel::Tight => "tight",
            MemoryLevel::Calm if self.monitor.is_cpu_high() => "busy",
            MemoryLevel::Calm => "ok",
        };
        if state != self.state {
            (self.state, self.since_ms) = (state, clock::wall_ms());
        }
        let disk = measured.reading.disk;
        let [memory_pressure, cpu_pressure, io_pressure] = measured.pressure;
        let limits = &self.face.limits;
        let [pause_at, shed_at, evict_at] = memory_lines(limits);
        let view = json!({
            "state": state,
            "since": time::show(self.since_ms),
            "reasons": reasons,
            "dispatch": if memory > MemoryLevel::Calm { "paused" } else { "on" },
            "memory_bytes": measured.reading.memory_bytes,
            "memory_bytes_limit": limits.memory_bytes,
            "pause_at_bytes": pause_at,
            "shed_at_bytes": shed_at,
            "evict_at_bytes": evict_at,
            "gateway_memory_bytes": measured.gateway_bytes,
            "tasks_memory_bytes": measured.attempts_bytes,
            "cpu_percent": measured.reading.cpu_percent,
            "cpu_percent_limit": limits.cpu_percent,
            "disk_free_bytes": disk.map(|disk| disk.free_bytes),
            "disk_total_bytes": disk.map(|disk| disk.total_bytes),
            "disk_free_bytes_limit": limits.disk_free_bytes,
            "disk_used_percent_limit": limits.disk_used_percent,
            "inodes_free": disk.map(|disk| disk.free_inodes),
            "descriptors": measured.descriptors,
            "descriptors_limit": chitin_shim::descriptors::most(),
            "pressure_memory_percent": memory_pressure,
            "pressure_cpu_percent": cpu_pressure,
            "pressure_io_percent": io_pressure,
            "pressure_told": self.alarm.of_whom(),
            "pressures": self.pressures,
            "last": self.last.map(|(name, _)| name.as_str()),
            "last_at": self.last.map(|(_, at_ms)| time::show(at_ms)),
        });
        if let Ok(mut place) = self.face.pressure.view.lock() {
            *place = view;
        }
    }
}
