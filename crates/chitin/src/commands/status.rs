//! `chitin status`: the gateway and its layers.

use chitin_proto::http::{Layers, StatusView};
use serde_json::Value;

use crate::cli::Globals;
use crate::client::{Client, LOOK, Request, api};
use crate::failure::Failure;
use crate::out;
use crate::runtime;
use crate::style::{self, Style};
use crate::table::{self, Cell};
use crate::units;

/// Show how the gateway is
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  chitin status
  chitin status monitor
  chitin status --json")]
pub(crate) struct Status {
    /// One layer alone, a figure a line
    layer: Option<Layer>,
    /// Print the gateway's JSON
    #[arg(long)]
    json: bool,
}

/// A part of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Layer {
    Gateway,
    Queue,
    Workers,
    Store,
    Cache,
    Monitor,
}

impl Layer {
    const ALL: [(&'static str, Self); 6] = [
        ("gateway", Self::Gateway),
        ("queue", Self::Queue),
        ("workers", Self::Workers),
        ("store", Self::Store),
        ("cache", Self::Cache),
        ("monitor", Self::Monitor),
    ];

    fn of(self, layers: &Layers) -> &Value {
        match self {
            Self::Gateway => &layers.gateway,
            Self::Queue => &layers.queue,
            Self::Workers => &layers.workers,
            Self::Store => &layers.store,
            Self::Cache => &layers.cache,
            Self::Monitor => &layers.monitor,
        }
    }
}

/// Shows the gateway's status.
pub(crate) fn status(status: &Status, globals: &Globals) -> Result<u8, Failure> {
    let client = Client::new(&globals.data_dir()?);
    runtime::block_on(async {
        let answer = client.read(&Request::get("/v1/status"), &LOOK).await?;
        if status.json && status.layer.is_none() {
            out::json(&answer)?;
            return Ok(0);
        }
        let view: StatusView = api::shape(answer)?;
        match status.layer {
            Some(layer) if status.json => out::json(layer.of(&view.layers))?,
            Some(layer) => out::bytes(page(layer.of(&view.layers), Style::of_stdout()).as_bytes())?,
            None => out::bytes(layout(&view, Style::of_stdout()).as_bytes())?,
        }
        Ok(0)
    })
}

fn layout(status: &StatusView, style: Style) -> String {
    let supervisor = match status.supervisor_pid {
        Some(pid) if pid != status.pid => format!(", supervisor {pid}"),
        _ => String::new(),
    };
    let mut text = format!(
        "chitin {}, pid {}{supervisor}, up {}, isolation {}{}\n\n",
        status.version,
        status.pid,
        units::show_duration(status.uptime_s),
        status.isolation,
        if status.shedding { ", refusing new work" } else { "" },
    );
    let rows: Vec<Vec<Cell>> = Layer::ALL
        .iter()
        .map(|(name, layer)| {
            let layer = layer.of(&status.layers);
            vec![Cell::new(name), state(layer), Cell::new(&figures(layer))]
        })
        .collect();
    text.push_str(&table::render(&["LAYER", "STATE", "FIGURES"], &rows, style::width(), style));
    text
}

fn state(layer: &Value) -> Cell {
    let state = layer.get("state").and_then(Value::as_str).unwrap_or("?");
    Cell::coloured(state, style::of_state(state))
}

/// One layer, its state first, a figure a line.
fn page(layer: &Value, style: Style) -> String {
    let mut rows = vec![vec![Cell::new("state"), state(layer)]];
    let figures = layer.as_object().into_iter().flatten().filter(|(name, _)| *name != "state");
    rows.extend(figures.filter_map(|(name, value)| {
        Some(vec![Cell::new(&name.replace('_', " ")), Cell::new(&figure(name, value)?)])
    }));
    table::render(&["FIGURE", "VALUE"], &rows, style::width(), style)
}

/// All of a layer but its state: `queued 3, running 2, limit 10000`.
fn figures(layer: &Value) -> String {
    let Some(object) = layer.as_object() else { return String::new() };
    let figures: Vec<String> = object
        .iter()
        .filter(|(name, _)| *name != "state")
        .filter_map(|(name, value)| Some(format!("{} {}", name.replace('_', " "), figure(name, value)?)))
        .collect();
    figures.join(", ")
}

/// One figure; none if it says nothing.
fn figure(name: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => {
            let words: Vec<String> = list.iter().filter_map(|value| figure(name, value)).collect();
            (!words.is_empty()).then(|| words.join(" and "))
        }
        Value::Number(number) if name.contains("bytes") && !name.ends_with("refused") => {
            number.as_u64().map(units::show_size)
        }
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn layers_are_shown_with_their_figures() {
        let layer = json!({"state": "ok"});
        let status = json!({
            "pid": 7, "supervisor_pid": null, "version": "0.1.0", "uptime_s": 192.4, "isolation": "cgroup1",
            "layers": {"gateway": layer, "queue": {"state": "ok", "limit": 10_000, "queued": 3, "running": 2},
                "workers": {"state": "ok", "not_enforced": ["cpus", "pids"], "kept_bytes": 1_500_000, "bytes_refused": 2},
                "store": {"state": "degraded", "why": "full"}, "cache": layer, "monitor": layer},
            "shedding": true,
        });
        let text = layout(&serde_json::from_value(status).unwrap(), Style::Plain);
        assert!(
            text.starts_with("chitin 0.1.0, pid 7, up 3m12s, isolation cgroup1, refusing new work\n\n"),
            "{text}"
        );
        assert!(text.contains("queue    ok        limit 10000, queued 3, running 2\n"), "{text}");
        assert!(
            text.contains(
                "workers  ok        bytes refused 2, kept bytes 1.5MB, not enforced cpus and pids\n"
            ),
            "{text}"
        );
        assert!(text.contains("store    degraded  why full\n"), "{text}");
    }

    #[test]
    fn one_layer_is_a_page() {
        let layer = json!({"dispatch": "on", "state": "ok", "shed_at_bytes": 1_800_000_000, "last": null});
        let page = page(&layer, Style::Plain);
        assert_eq!(
            page,
            "FIGURE         VALUE\nstate          ok\ndispatch       on\nshed at bytes  1.8GB\n"
        );
    }
}
